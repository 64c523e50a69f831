"""The one error a user's mistake raises, and the one way to tell a user something."""

import os
import sys
import unicodedata


class UserError(ValueError):
    """Bad input: the message names it, says what was expected and what to do.

    The command line prints the message without a traceback and exits with 2.
    """


def show(name: str | os.PathLike) -> str:
    """A name as one line that any terminal shows as it is.

    Names come from anywhere: a newline in one could forge a line of output, an escape sequence
    command the terminal, and one that is not UTF-8 could not be written. Such parts become
    backslash escapes.
    """
    return "".join(
        x if x.isprintable() or unicodedata.category(x) == "Zs" else _escape(x)
        for x in os.fspath(name)
    )


def _escape(letter: str) -> str:
    # A byte that is not UTF-8 is kept by Python as a letter from U+DC80 on.
    is_byte = "\udc80" <= letter <= "\udcff"
    return f"\\x{ord(letter) & 0xFF:02x}" if is_byte else ascii(letter)[1:-1]


def notice(message: str) -> None:
    """Prints one line for the user on standard error, apart from any results."""
    print(f"crackclf: {message}", file=sys.stderr, flush=True)


def counted(number: int, noun: str) -> str:
    """A number with its noun, e.g. "1 image" or "1,200 images"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def check_at_least(least: float, **values: float) -> None:
    """Refuses a number below the least one allowed; each is given by its name."""
    for name, value in values.items():
        if not value >= least:  # NaN, too.
            raise UserError(f"{name} must be {least} or more. Received: {value}.")


def check_share(**values: float) -> None:
    """Refuses what is not from 0 to below 1."""
    for name, value in values.items():
        if not 0 <= value < 1:
            raise UserError(f"{name} must be from 0 to below 1. Received: {value}.")
