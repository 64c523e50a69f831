"""The one error that a user's mistake raises, the checks of numbers, and notices."""

import importlib
import logging
import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from crackclf.quiet import silence


class UserError(ValueError):
    """Bad input: the message names it, says what was expected and what to do.

    The command line prints the message without a traceback and exits with 2.
    """


def show(name: str | os.PathLike) -> str:
    """A name as one line that any terminal can print.

    Characters that cannot be printed, line breaks and bytes that are not UTF-8 are escaped.
    """
    return "".join(
        x if x.isprintable() or unicodedata.category(x) == "Zs" else ascii(x)[1:-1]
        for x in os.fspath(name)
    )


def notice(message: str) -> None:
    """Prints one line for the user on standard error, apart from any results."""
    print(f"crackclf: {message}", file=sys.stderr, flush=True)


def counted(number: int, noun: str) -> str:
    """A number with its noun, e.g. "1 image" or "1,200 images"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def check_at_least(least: float, **values: float) -> None:
    """Refuses a number below the least one allowed; each is given by its name."""
    for name, value in values.items():
        if not value >= least:  # Also true of NaN.
            raise UserError(f"{name} must be {least} or more. Received: {value}.")


def check_share(**values: float) -> None:
    """Refuses a number that is not from 0 to below 1; each is given by its name."""
    for name, value in values.items():
        if not 0 <= value < 1:
            raise UserError(f"{name} must be from 0 to below 1. Received: {value}.")


def check_image_size(image_size: Any) -> int:
    """Returns a side in pixels, given as an int or as two equal ones; refuses anything else."""
    sides = [*image_size] if isinstance(image_size, tuple | list) else [image_size]
    if len(set(sides)) != 1 or not isinstance(sides[0], int) or sides[0] < 1:
        rule = "image_size must be one number of pixels, at least 1: images are square"
        raise UserError(f"{rule}. Received: {image_size}.")
    return sides[0]


def need(module: str, extra: str) -> Any:
    """Imports a module of an optional package; a `UserError` names the pip command of the extra."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"{module.partition('.')[0]} is needed here ({error}): pip install 'crackclf[{extra}]'"
        ) from None


@contextmanager
def learning() -> Iterator[None]:
    """Imports Keras without TensorFlow's notes; if it is missing, a `UserError` names the command.

    TensorFlow's notes about processors and graphics cards help no user. `TF_CPP_MIN_LOG_LEVEL=0`
    shows those that it prints after it was imported.
    """
    if os.environ.get("KERAS_BACKEND", "") not in ("", "tensorflow") and "keras" not in sys.modules:
        notice("Keras runs on TensorFlow in this process, whatever KERAS_BACKEND says")
        os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel("ERROR")  # Else it warns of each model it traces.
    try:
        with silence():
            yield
    except ModuleNotFoundError as error:
        if error.name not in ("keras", "tensorboard", "tensorflow"):
            raise
        raise UserError(f"{error.name} is needed here: pip install 'crackclf[train]'") from None
