"""Where files of base weights are found."""

import os
from pathlib import Path

from crackclf.errors import UserError


class MissingWeightsError(UserError):
    """The weights of a backbone are not on this machine and cannot be downloaded."""


def find_weights(
    name: str, weights: str | os.PathLike | None, suffixes: tuple[str, ...]
) -> Path | None:
    """Finds a file of weights: the one named, or ImageNet's in the mirror folder.

    Args:
        name: how the file is called in a mirror folder.
        weights: `"imagenet"`, `"concrete"`, `"random"` or None, or the path of a file.
        suffixes: that the file may have, in order of preference.

    Returns:
        The file; None when there is none to look for or none in the mirror folder.

    Raises:
        UserError: when the file or the mirror folder named does not exist.
    """
    if weights == "concrete" and name != "mobilenetv2":
        raise UserError(f"weights='concrete' are a MobileNetV2's. Received: backbone {name!r}.")
    if weights in (None, "random", "concrete"):
        return None
    if weights != "imagenet":
        path = Path(weights)
        if not path.is_file():
            raise UserError(
                f"{path}: no such weights file. Expected 'imagenet', 'concrete', 'random' or the "
                f"path of a {' or '.join(suffixes)} file."
            )
        return path
    mirror = os.environ.get("CRACKCLF_WEIGHTS_DIR")
    if not mirror:
        return None
    if not Path(mirror).is_dir():
        raise UserError(f"CRACKCLF_WEIGHTS_DIR={mirror}: no such folder.")
    for suffix in suffixes:
        path = Path(mirror) / f"{name}{suffix}"
        if path.is_file():
            return path
    return None


def missing_weights(name: str, error: Exception, file: str, other: str) -> MissingWeightsError:
    """The error for ImageNet weights that are nowhere: not in the mirror folder, nor elsewhere."""
    return MissingWeightsError(
        f"no ImageNet weights for {name} ({first_line(error)}). Set "
        f"CRACKCLF_WEIGHTS_DIR to a folder with {file}, or {other}."
    )


def first_line(error: Exception) -> str:
    """What an exception says, in one line without its full stop."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
