"""Packages that not every installation has, imported where they are used."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from crackclf.errors import UserError

RESNET18 = "resnet18-torch"  # The backbone of models in PyTorch, which `torch_room` builds.


def need(module: str, extra: str) -> Any:
    """Imports a module of an optional package; a `UserError` has the pip command of the extra."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"{module.partition('.')[0]} is needed here ({error}): pip install 'crackclf[{extra}]'"
        ) from None


@contextmanager
def learning() -> Iterator[None]:
    """Says how to get what learning needs, where it is used and not there."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in ("keras", "tensorboard", "tensorflow"):
            raise
        raise UserError(f"{error.name} is needed here: pip install 'crackclf[train]'") from None


def torch_room() -> Any:
    """The room of ResNet18 in PyTorch: it stands above all others, so it is found by name."""
    return importlib.import_module("crackclf.torch")
