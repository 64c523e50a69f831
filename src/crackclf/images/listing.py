"""Which images somebody asks about: files, folders, arrays and images of Pillow."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from crackclf.errors import UserError
from crackclf.images.decode import FORMATS, decode_photo, read_photo, to_rgb
from crackclf.images.exif import PhotoInfo, photo_info

Source = str | os.PathLike | np.ndarray | Image.Image


@dataclass(frozen=True)
class Picture:
    """One image that somebody asks about.

    Attributes:
        name: its path; its number as text when it is no file.
        source: a path, the content of a file, an image of Pillow, or an RGB array, uint8 of shape
            (height, width, 3).
    """

    name: str
    source: Path | bytes | np.ndarray | Image.Image

    def read(self) -> tuple[Image.Image, PhotoInfo]:
        """The image as RGB, upright, and what its EXIF says.

        Raises:
            UserError: when it cannot be read.
        """
        if isinstance(self.source, Path):
            return read_photo(self.source)
        if isinstance(self.source, bytes):
            return decode_photo(self.source)
        if isinstance(self.source, Image.Image):
            return to_rgb(self.source), photo_info(self.source)
        return Image.fromarray(self.source), PhotoInfo()

    def pixels(self) -> np.ndarray:
        """Its pixels, uint8 of shape (height, width, 3)."""
        return self.source if isinstance(self.source, np.ndarray) else np.asarray(self.read()[0])


def list_pictures(images: Source | Iterable[Source]) -> list[Picture]:
    """Lists the images that a caller names, in order.

    Args:
        images: a file, a folder (searched through all its sub-folders), an image of Pillow, an RGB
            array of shape (height, width, 3) or (n, height, width, 3) in 0..255, or several of
            these.

    Returns:
        A `Picture` for each. Files are not opened yet.

    Raises:
        UserError: when a path does not exist, a folder holds no image, or an array is not of this
            form.
    """
    if isinstance(images, Source) or not isinstance(images, Iterable):
        images = [images]
    pictures: list[Picture] = []
    for source in images:
        if isinstance(source, np.ndarray):
            stack = _check_array(source)
            pictures += [Picture(str(len(pictures) + i), x) for i, x in enumerate(stack)]
        elif isinstance(source, Image.Image):
            pictures.append(Picture(str(len(pictures)), source))
        elif isinstance(source, str | os.PathLike):
            pictures += [Picture(str(path), path) for path in find_images([source])]
        else:
            raise UserError(
                "expected images: a path, a folder, an RGB array, an image of Pillow or a list of "
                f"these. Received: {type(source).__name__}."
            )
    if not pictures:
        raise UserError("no image was named. Expected at least one file or folder.")
    return pictures


def find_images(paths: Sequence[str | os.PathLike]) -> list[Path]:
    """Lists the image files that paths name: files as they are, folders through and through.

    Args:
        paths: files and folders.

    Returns:
        The files, those of each folder sorted.

    Raises:
        UserError: when a path does not exist or a folder holds no image.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(
                file
                for file in path.rglob("*")
                if file.suffix.lower() in FORMATS
                and not file.is_dir()
                and not any(part.startswith(".") for part in file.relative_to(path).parts)
            )
            if not inside:
                raise UserError(
                    f"{path}: holds no image. Expected files ending in {', '.join(FORMATS)}."
                )
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise UserError(f"{path}: no such file or folder.")
    if not found:
        raise UserError("no image was named. Expected at least one file or folder.")
    return found


def _check_array(array: np.ndarray) -> np.ndarray:
    """An array as a stack of RGB images, uint8 of shape (n, height, width, 3)."""
    stack = array[None] if array.ndim == 3 else array
    if stack.ndim != 4 or stack.shape[-1] != 3 or not stack.size:
        raise UserError(
            "expected RGB images of shape (n, height, width, 3) or (height, width, 3) in 0..255. "
            f"Received: shape {array.shape}."
        )
    if stack.dtype == np.uint8:
        return stack
    low, high = float(stack.min()), float(stack.max())
    # Not so for NaN, either.
    if stack.dtype.kind != "f" or not (low >= 0 and high <= 255) or 0 < high <= 1:
        raise UserError(
            "expected RGB images as uint8, or as float in 0..255: multiply those in 0..1 by 255. "
            f"Received: {array.dtype} from {low:g} to {high:g}."
        )
    return np.rint(stack).astype(np.uint8)
