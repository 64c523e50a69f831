"""Reading a class folder: which classes, which files, and are they whole."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path

from crackclf.cores import cores
from crackclf.data.splits import SUBSETS
from crackclf.errors import UserError, notice, show
from crackclf.files import cache_folder, user_path, write_whole
from crackclf.images.check import ImageCheck, check_image
from crackclf.images.listing import is_litter

_POSITIVE_NAMES = {"positive", "crack", "cracks", "cracked"}
_LAYOUT = "Expected a folder with one sub-folder of images per class, e.g. Negative/ and Positive/"
_SHOWN = 10
_CHUNK = 64
_MEMORY = "checked-4.json"  # Another number whenever `check_image` judges differently.


@dataclass(frozen=True)
class ImageFile:
    """One image of a class folder that can be trained on.

    Attributes:
        path: the file.
        label: index of its class in the sorted class names.
        digest: of its bytes; equal digests mean byte-identical files.
        plain: whether TensorFlow decodes it to the same picture as `read_image`.
        side: the shorter one, in pixels.
    """

    path: Path
    label: int
    digest: str
    plain: bool
    side: int


def find_positive(class_names: Sequence[str], positive: str | None = None) -> str:
    """Says which of the classes means cracked.

    Args:
        class_names: the class folders' names.
        positive: the answer, when the caller knows it; otherwise a folder named Positive,
            crack, cracks or cracked (in any case) is taken.

    Returns:
        A member of `class_names`.

    Raises:
        UserError: when `positive` is none of them, or no name tells.
    """
    if positive is not None:
        if positive not in class_names:
            raise UserError(
                f"positive={positive!r} is not one of the class folders {list(class_names)}."
            )
        return positive
    known = [name for name in class_names if name.lower() in _POSITIVE_NAMES]
    if len(known) != 1:
        raise UserError(
            f"Cannot tell which of the class folders {list(class_names)} holds the cracked "
            "images: name it (--positive FOLDER, positive= in Python)."
        )
    return known[0]


def is_split(directory: str | os.PathLike) -> bool:
    """Whether a folder already holds `train/`, `validation/` and `test/`."""
    return set(SUBSETS) <= {path.name for path in _subfolders(user_path(directory))}


def read_folder(
    directory: str | os.PathLike, skip_unreadable: bool = False
) -> tuple[list[ImageFile], list[str], dict[Path, str]]:
    """Lists a class folder's images after decoding each of them once.

    What the decoding found is remembered under the folder's cache, by each file's size,
    times and inode, so that only new and changed files are decoded the next time.

    Args:
        directory: a folder with one sub-folder per class.
        skip_unreadable: leave out files that cannot be trained on instead of raising.

    Returns:
        The images in the order of class and name; the sorted class names; and the files left
        out, each with the reason.

    Raises:
        UserError: when the folder is not of this form or holds files that cannot be read.
    """
    directory = user_path(directory)
    listed, class_names, checks = check_folder(directory)
    problems = {path: checks[path].problem for path, _ in listed if checks[path].problem}
    if problems and not skip_unreadable:
        raise UserError(_describe(directory, problems))
    images = [
        ImageFile(path, label, check.digest, check.plain, min(check.width, check.height))
        for path, label in listed
        if not (check := checks[path]).problem
    ]
    for label, name in enumerate(class_names):
        if not any(image.label == label for image in images):
            raise UserError(
                f"{directory / name}: holds no image that can be read. Put this class's JPEG or "
                "PNG files there, or remove the folder."
            )
    return images, class_names, problems


def check_folder(
    directory: str | os.PathLike,
) -> tuple[list[tuple[Path, int]], list[str], dict[Path, ImageCheck]]:
    """Decodes every file of a class folder, or remembers what that found.

    Returns the files with the index of their class, in the order of class and name; the sorted
    class names; and what was found of each file.
    """
    directory = user_path(directory)
    classes = _class_folders(directory)
    listed = [
        (path, label)
        for label, folder in enumerate(classes)
        for path in sorted(folder.iterdir())
        if not is_litter(path.name)
    ]
    checks = _check_all(directory, [path for path, _ in listed])
    return listed, [folder.name for folder in classes], checks


def _subfolders(directory: Path) -> list[Path]:
    if not directory.exists():
        raise UserError(f"{directory}: no such folder. {_LAYOUT}.")
    if not directory.is_dir():
        raise UserError(f"{directory}: is a file. {_LAYOUT}.")
    return sorted(
        path for path in directory.iterdir() if path.is_dir() and not is_litter(path.name)
    )


def _class_folders(directory: Path) -> list[Path]:
    folders = _subfolders(directory)
    names = [folder.name for folder in folders]
    if odd := [folder for folder in folders if show(folder.name) != folder.name]:
        raise UserError(
            f"{show(odd[0])}: rename it: the name of a class must be text that can be printed."
        )
    if {"train", "val"} <= set(names) or {"train", "valid"} <= set(names):
        wrong = directory / ("val" if "val" in names else "valid")
        raise UserError(f"{wrong}: rename it to {directory / 'validation'}.")
    if set(names) & set(SUBSETS):
        raise UserError(
            f"{directory}: a folder split beforehand must hold all of {', '.join(SUBSETS)}. "
            f"Received: {names}."
        )
    for folder in folders:
        inner = _subfolders(folder)
        if inner:
            remedy = (
                f"Point at {show(folder)} instead"
                if len(folders) == 1
                else f"If these are its classes, point at {show(folder)}; for all of "
                f"{show(directory)}, gather the images of each class, from all of its folders, in "
                "one folder of their own"
            )
            raise UserError(
                f"{show(folder)}: holds folders ({', '.join(show(x.name) for x in inner[:4])}) "
                f"where images were expected. {_LAYOUT}. {remedy}."
            )
    if len(folders) < 2:
        raise UserError(f"{directory}: {_LAYOUT}: two or more. Received: {names or 'none'}.")
    return folders


def _check_all(directory: Path, paths: Sequence[Path]) -> dict[Path, ImageCheck]:
    memory = cache_folder(directory) / _MEMORY
    known = _recall(memory)
    keys = {path: str(path.relative_to(directory)) for path in paths}
    stamps = {path: _stamp(path) for path in paths}
    new = [path for path in paths if known.get(keys[path], ("",))[0] != stamps[path]]
    if new:
        try:
            for path, check in _decode(new):
                known[keys[path]] = (stamps[path], check)
        finally:  # An interrupted check has not been for nothing.
            rows = {
                key: [stamp, *astuple(check)]
                for key, (stamp, check) in known.items()
                if check.digest  # Lifting a lack of permission changes no modification time.
            }
            write_whole(memory, json.dumps(rows))
    return {path: known[keys[path]][1] for path in paths}


def _recall(memory: Path) -> dict[str, tuple[str, ImageCheck]]:
    # Forgetting costs seconds, so a file that is not whole is simply not believed.
    try:
        rows = json.loads(memory.read_text())
        return {key: (stamp, ImageCheck(*check)) for key, (stamp, *check) in rows.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _decode(paths: Sequence[Path]) -> Iterator[tuple[Path, ImageCheck]]:
    from tqdm import tqdm

    def check(chunk: Sequence[Path]) -> list[ImageCheck]:
        return [check_image(path) for path in chunk]

    # Threads, for Pillow lets go of the interpreter lock while it decodes; in chunks, for
    # handing over single files costs as much as decoding them.
    chunks = [paths[i : i + _CHUNK] for i in range(0, len(paths), _CHUNK)]
    with (
        ThreadPoolExecutor(cores()) as pool,
        tqdm(total=len(paths), desc="Checking images", unit=" images") as progress,
    ):
        try:
            for chunk, checks in zip(chunks, pool.map(check, chunks), strict=True):
                yield from zip(chunk, checks, strict=True)
                progress.update(len(chunk))
        finally:
            pool.shutdown(cancel_futures=True)


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return "unreadable"  # A dangling link, say; check_image says what is wrong with it.
    # Two files of equal size and time may have been swapped, which inode and change time show.
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ino}-{status.st_ctime_ns}"


def _describe(directory: Path, problems: Mapping[Path, str]) -> str:
    lines = [f"  {show(path)}: {problem}" for path, problem in list(problems.items())[:_SHOWN]]
    if len(problems) > _SHOWN:
        lines.append(f"  and {len(problems) - _SHOWN} more")
    return "\n".join(
        [
            f"{show(directory)}: {len(problems)} of its files cannot be trained on:",
            *lines,
            "Mend or move them, or leave them out (--skip-unreadable, skip_unreadable=True).",
        ]
    )


def report_skipped(skipped: Mapping[Path, str]) -> None:
    """Tells the user which files were left out, one line each."""
    for path, problem in skipped.items():
        notice(f"left out {show(path)}: {problem}")


def is_uneven(counts: Sequence[int]) -> bool:
    """Whether one class has more than three times as many images as another."""
    return max(counts) > 3 * min(counts)
