"""Which images a caller names: files, folders, arrays and images of Pillow."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import filterfalse
from pathlib import Path

import numpy as np
from PIL import Image

from crackclf.errors import UserError, notice, show
from crackclf.files import user_path
from crackclf.images import FORMATS, begins_as_image, check_seen, naming, open_image, to_rgb

Source = str | os.PathLike | np.ndarray | Image.Image
# Pictures too; each gets an answer that says what to do with it.
_OTHERS = {".avif", ".jxl", ".jp2", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2"}
_COPIES = {".thm", ".jpg_original"}  # That cameras and exiftool leave beside a video or a photo.
# What systems and network disks leave beside files, besides names that begin with a dot.
_LITTER = {"thumbs.db", "desktop.ini", "@eadir", "#recycle", "$recycle.bin", "__macosx"}


@dataclass(frozen=True)
class Picture:
    """One image that a caller names: its path, or its number as text, and where its pixels are."""

    name: str
    source: Path | bytes | np.ndarray | Image.Image

    def open(self) -> Image.Image:
        """The image as `to_rgb` takes it, with its EXIF; a `UserError` when it cannot be read."""
        if isinstance(self.source, Image.Image):
            return self.source
        if isinstance(self.source, np.ndarray):
            return Image.fromarray(self.source)
        with naming(self.name):
            image = open_image(self.source)
        if image.format not in FORMATS[".jpg"] and getattr(image, "is_animated", False):
            notice(f"{show(self.name)}: holds several pictures. The first is used")
        return image

    def read(self) -> Image.Image:
        """The image as RGB, upright; a `UserError` when it cannot be read."""
        image = self.open()
        with naming(self.name):
            return check_seen(to_rgb(image))


def list_pictures(images: Source | Iterable[Source]) -> list[Picture]:
    """Lists the images that a caller names, in order; files are not opened yet."""
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
            kind = type(source).__name__
            raise UserError(f"expected paths, RGB arrays or images of Pillow. Received: {kind}.")
    if not pictures:
        raise UserError("no image was named. Expected at least one file or folder.")
    return pictures


def find_images(paths: Sequence[str | os.PathLike]) -> list[Path]:
    """Lists image files, and the images in folders and all their sub-folders.

    Other files in a folder are left out, and a notice says so. Links are followed.

    Args:
        paths: files and folders.

    Returns:
        The paths of the images, in the order of `paths`, sorted within each folder.

    Raises:
        UserError: when a path does not exist or a folder holds no image.

    Examples:
        >>> files = find_images(["wall.jpg", "site/photos"])
    """
    found: list[Path] = []
    for path in map(user_path, paths):
        if re.match(r"\w{2,}:/", os.fspath(path)):
            address = re.sub(":/+", "://", show(path))
            raise UserError(f"{address}: is an address; download it, and name the file.")
        if path.is_dir():
            if not (inside := _list_folder(path)):
                raise UserError(
                    f"{show(path)}: holds no image. Expected files ending in {', '.join(FORMATS)}."
                )
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise UserError(f"{show(path)}: no such file or folder.")
    return found


def _list_folder(folder: Path) -> list[Path]:
    """The images of a folder, sorted; a notice for each reason says what was passed over."""
    found: list[Path] = []
    passed_over: dict[str, list[Path]] = defaultdict(list)
    seen: set[tuple[int, int]] = set()

    def deny(error: OSError) -> None:
        passed_over[f"cannot be opened ({error.strerror})"].append(Path(error.filename))

    for here, folders, names in os.walk(folder, onerror=deny, followlinks=True):
        status = Path(here).stat()
        if (status.st_dev, status.st_ino) in seen:
            passed_over["is a link to a folder that is searched already"].append(Path(here))
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        # Links come last, so that a folder is searched under its own name where it has one.
        kept = filterfalse(is_litter, folders)
        folders[:] = sorted(kept, key=lambda name: Path(here, name).is_symlink())
        for path in (Path(here, name) for name in filterfalse(is_litter, names)):
            suffix = path.suffix.lower()
            is_other = suffix in _OTHERS or (suffix not in _COPIES and begins_as_image(path))
            if suffix in FORMATS or is_other:
                found.append(path)
            else:
                passed_over["is not an image"].append(path)
    for reason, paths in passed_over.items():
        more = f" and {len(paths) - 1:,} more" if len(paths) > 1 else ""
        notice(f"left out {show(min(paths))}{more} of {show(folder)}: {reason}")
    return sorted(found)


def is_litter(name: str) -> bool:
    """Whether a file or folder is what a system or a network disk leaves beside files."""
    return name.startswith(".") or name.lower() in _LITTER


def _check_array(array: np.ndarray) -> np.ndarray:
    """An array as a stack of RGB images, uint8 of shape (n, height, width, 3)."""
    stack = array[None] if array.ndim == 3 else array
    is_rgb = stack.ndim == 4 and stack.shape[-1] == 3 and stack.size > 0
    low, high = (float(stack.min()), float(stack.max())) if is_rgb else (0.0, 0.0)
    is_float = stack.dtype.kind == "f" and low >= 0 and (high == 0 or 1 < high <= 255)
    if not is_rgb or not (stack.dtype == np.uint8 or is_float):
        raise UserError(
            "expected RGB images of shape (n, height, width, 3) or (height, width, 3), as uint8 or "
            "as float in 0..255 (multiply those in 0..1 by 255). Received: "
            f"shape {array.shape}, {array.dtype} from {low:g} to {high:g}."
        )
    return stack if stack.dtype == np.uint8 else np.rint(stack).astype(np.uint8)
