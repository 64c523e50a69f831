"""The options that several commands have, and what several commands do with them."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import typer

from crackclf.errors import UserError, notice
from crackclf.files import check_result_path, write_whole


def option(default: Any, help: str, *names: str, **more: Any) -> Any:
    """An option of a command."""
    return typer.Option(default, *names, help=help, **more)


def result(help: str, name: str, start: str) -> Any:
    """An option for a file of results; a file that begins in another way is not replaced."""
    return option(None, help, name, callback=lambda path: path and check_result_path(path, start))


def _read_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no number. Write one such as 0.3.") from None


_folder = partial(typer.Argument, exists=True, file_okay=False)
_MODEL = "Folder of a saved model, or the word shipped: the model in the box."
_CLASSES = "Folder with one sub-folder of images per class, e.g. Negative/ and Positive/."
IMAGES = typer.Argument(help="Images, or folders of images.")
NO_OR_IMAGES = typer.Argument(None, help="Images, or folders of images.")
LABELLED = _folder(help=_CLASSES)
SPLITTABLE = _folder(help=f"{_CLASSES} Or one with train/, validation/ and test/.")
NEW_FOLDER = typer.Argument(help="Folder to make.")
MODEL_ARGUMENT = typer.Argument(help=_MODEL)
MODEL = option("shipped", _MODEL)
JSON = result("Also write all figures to this file.", "--json", '{\n  "written_by": "crackclf"')
POSITIVE = option(None, "Class of the cracked images, or several: hairline,wide.")
SKIP_UNREADABLE = option(False, "Leave out unreadable files.", "--skip-unreadable")
MM_PER_PIXEL = option(None, "Millimetres on the surface per pixel.", parser=_read_number)
DISTANCE = option(None, "Metres to the surface. EXIF gives the focal length.", parser=_read_number)


def write_json(path: Path | None, figures: Mapping[str, Any]) -> None:
    """Writes figures to the file of `--json`, when one is named."""
    if path is not None:
        write_whole(path, json.dumps({"written_by": "crackclf", **figures}, indent=2) + "\n")


def report_unreadable(errors: Sequence[str]) -> None:
    """Names the images that could not be read, and ends the command with exit status 2."""
    found = [error for error in errors if error]
    for error in found:
        notice(error)
    if found:
        raise UserError(f"{len(found)} of {len(errors)} images could not be read.")
