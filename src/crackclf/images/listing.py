"""Which images somebody asks about: files, folders, arrays and images of Pillow."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from crackclf.errors import UserError, notice, show
from crackclf.files import user_path
from crackclf.images.decode import FORMATS, decoding, naming, read_content, to_rgb
from crackclf.images.exif import PhotoInfo, photo_info

Source = str | os.PathLike | np.ndarray | Image.Image
# Pictures, too, each of which is answered by what to do with it.
_OTHERS = {
    *(".avif", ".jxl", ".jp2", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2"),
}
# What systems and network disks leave beside files; likewise all names that begin with a dot.
_LITTER = {
    *("thumbs.db", "desktop.ini", "@eadir", "#recycle", "$recycle.bin", "__macosx"),
    *("lost+found", "system volume information"),
}


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

    @contextmanager
    def opened(self) -> Iterator[tuple[Image.Image, PhotoInfo]]:
        """The image as RGB, upright, and what its EXIF says; its memory counts until the end.

        Raises:
            UserError: when it cannot be read.
        """
        if isinstance(self.source, Path):
            with naming(self.source), decoding(read_content(self.source), self.name) as found:
                yield found
        elif isinstance(self.source, bytes):
            with decoding(self.source, self.name) as found:
                yield found
        elif isinstance(self.source, Image.Image):
            yield to_rgb(self.source), photo_info(self.source)
        else:
            yield Image.fromarray(self.source), PhotoInfo()

    def read(self) -> tuple[Image.Image, PhotoInfo]:
        """The image as RGB, upright, and what its EXIF says.

        Raises:
            UserError: when it cannot be read.
        """
        with self.opened() as found:
            return found

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
    """Lists image files, and the images in folders and all their sub-folders.

    Other files in a folder are left out, and a notice says so. Links are followed.

    Args:
        paths: files and folders.

    Returns:
        The paths of the images, in the order of `paths`, sorted within each folder.

    Raises:
        UserError: when a path does not exist or a folder holds no image.

    Example:

    ```python
    files = find_images(["wall.jpg", "site/photos"])
    ```
    """
    found: list[Path] = []
    for path in map(user_path, paths):
        if path.is_dir():
            inside, passed_over = list_folder(path)
            _tell(path, passed_over)
            if not inside:
                raise UserError(
                    f"{show(path)}: holds no image. Expected files ending in {', '.join(FORMATS)}."
                )
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise UserError(f"{show(path)}: no such file or folder.")
    if not found:
        raise UserError("no image was named. Expected at least one file or folder.")
    return found


def list_folder(folder: Path) -> tuple[list[Path], dict[Path, str]]:
    """Searches a folder through and through, links included, each folder once.

    Returns:
        The image files, sorted; and what was passed over, each with the reason.
    """
    found: list[Path] = []
    passed_over: dict[Path, str] = {}
    seen: set[tuple[int, int]] = set()
    # Links come last, so that a folder is searched under its own name where it has one.
    folders, links = [folder], []
    while folders or links:
        here = folders.pop() if folders else links.pop(0)
        try:
            status = here.stat()
            entries = list(here.iterdir())
        except OSError as error:
            passed_over[here] = f"cannot be opened ({error.strerror})"
            continue
        if (status.st_dev, status.st_ino) in seen:
            passed_over[here] = "is a link to a folder that is searched already"
            continue
        seen.add((status.st_dev, status.st_ino))
        for path in entries:
            if is_litter(path.name):
                continue
            if os.path.isdir(path):  # noqa: PTH112  `Path.is_dir` raises where access is denied.
                (links if path.is_symlink() else folders).append(path)
            elif path.suffix.lower() in FORMATS or path.suffix.lower() in _OTHERS:
                found.append(path)
            else:
                passed_over[path] = "is not an image by its name"
    return sorted(found), passed_over


def is_litter(name: str) -> bool:
    """Whether a file or folder is what a system or a network disk leaves beside files."""
    return name.startswith(".") or name.lower() in _LITTER


def _tell(folder: Path, passed_over: Mapping[Path, str]) -> None:
    by_reason: dict[str, list[Path]] = defaultdict(list)
    for path, reason in passed_over.items():
        by_reason[reason].append(path)
    for reason, paths in by_reason.items():
        more = f" and {len(paths) - 1:,} more" if len(paths) > 1 else ""
        notice(f"left out {show(min(paths))}{more} of {show(folder)}: {reason}")


def _check_array(array: np.ndarray) -> np.ndarray:
    """An array as a stack of RGB images, uint8 of shape (n, height, width, 3)."""
    stack = array[None] if array.ndim == 3 else array
    if stack.ndim != 4 or stack.shape[-1] != 3 or not stack.size:
        raise UserError(
            "expected RGB images of shape (n, height, width, 3) or (height, width, 3) in 0..255. "
            f"Received: shape {array.shape}."
        )
    low, high = float(stack.min()), float(stack.max())
    is_number = stack.dtype == np.uint8 or stack.dtype.kind == "f"
    # Not so for NaN, either.
    if not is_number or not (low >= 0 and high <= 255) or 0 < high <= 1:
        raise UserError(
            "expected RGB images as uint8, or as float in 0..255: multiply those in 0..1 by 255. "
            f"Received: {array.dtype} from {low:g} to {high:g}."
        )
    return stack if stack.dtype == np.uint8 else np.rint(stack).astype(np.uint8)
