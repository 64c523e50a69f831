"""A class folder: which classes and files it holds, and which of the files can be trained on."""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from crackclf.errors import UserError, notice, show
from crackclf.files import CHECKS, cache_folder, cores, user_path, write_whole
from crackclf.images import FORMATS, is_blank, open_image, read_content, to_rgb, turn_of
from crackclf.listing import is_litter
from crackclf.splits import SUBSETS

# Class names that mean cracked, such as `hairline_cracks`, and what says the opposite.
_CRACKED = re.compile(r"(?<![a-z])(positive|crack(s|ed|ing)?)(?![a-z])", re.IGNORECASE)
_SOUND = re.compile(r"(?<![a-z])(no[nt]?|none|un|without|free|negative)(?![a-z])", re.IGNORECASE)
_LAYOUT = "Expected a folder with one sub-folder of images per class, e.g. Negative/ and Positive/"
_SHOWN = 10
# Bits of 256. In 10,000 METU patches, 308 pairs that are not byte-identical differ in at most 16
# bits. At 64 x 64 pixels their correlation is at least 0.977; the median is 0.9995.
_ALIKE = 16
_BLOCK = 256  # Images compared with all others at once.
_FROM_MIDDLE = np.arange(17) - 8
_RESULTS = ("card.json", "findings.csv", "inspection.json")


@dataclass(frozen=True)
class ImageFile:
    """One file of a class folder, decoded completely.

    `label` is the index of its class. `digest` is empty where the bytes cannot be read. `plain`:
    TensorFlow decodes it to the same picture as `read_image`. `problem` says why it cannot be
    trained on. Width and height are those stored, `upright` says whether EXIF leaves them. `look`
    is a difference hash: the signs of 256 differences between neighbours in a 17 x 16 picture.
    `pose` is the same hash of the picture turned and mirrored so that its right, lower half is the
    brightest. `blank`: it has one colour only.
    """

    path: Path
    label: int
    digest: str = ""
    plain: bool = False
    problem: str = ""
    width: int = 0
    height: int = 0
    mode: str = ""
    upright: bool = True
    look: str = ""
    pose: str = ""
    blank: bool = False


def check_image(path: Path, label: int = 0) -> ImageFile:
    """Decodes a file completely. Damage is reported as its `problem`, not raised."""
    try:
        content = read_content(path)
    except UserError as error:
        return ImageFile(path, label, problem=str(error))
    except OSError as error:
        return ImageFile(path, label, problem=f"cannot be read: {error.strerror or error}")
    digest, suffix = digest_of(content), path.suffix.lower()
    try:
        if suffix not in FORMATS:
            raise UserError("is not an image (by its name); move it out of the class folder")
        image = open_image(content)
        picture = to_rgb(image)
        if image.format not in FORMATS[suffix]:
            raise UserError(f"holds {image.format} data under the suffix {suffix}; rename it")
        if image.format == "PNG":
            open_image(content).verify()  # Of checksums, which TensorFlow checks and load() not.
    except UserError as error:
        return ImageFile(path, label, digest, problem=str(error))
    except Exception:
        return ImageFile(path, label, digest, problem="is damaged (a checksum); copy it again")
    upright = turn_of(image) is None
    # Keras' loader skips other suffixes. TensorFlow does not read every BMP that Pillow reads, and
    # of a GIF perhaps another frame.
    plain = (
        upright
        and suffix in (".jpeg", ".jpg", ".png")
        and image.mode in ("L", "RGB")
        and not image.has_transparency_data
    )
    about = digest, plain, "", *image.size, image.mode, upright
    return ImageFile(path, label, *about, *_describe_looks(picture), is_blank(picture))


def _describe_looks(picture: Image.Image) -> tuple[str, str]:
    """The `look` and the `pose` of `ImageFile`."""
    grey = picture.convert("L")
    small = np.asarray(grey.resize((17, 16), Image.Resampling.BOX))
    square = np.asarray(grey.resize((17, 17), Image.Resampling.BOX), int)
    for _ in range(2):  # Mirrored to the right, then, on its side, down.
        square = (square if square.sum(0) @ _FROM_MIDDLE >= 0 else square[:, ::-1]).T
    if square.sum(0) @ _FROM_MIDDLE < square.sum(1) @ _FROM_MIDDLE:
        square = square.T
    pair = small, square[1:] + square[:-1]
    look, pose = (np.packbits(x[:, 1:] > x[:, :-1]).tobytes().hex() for x in pair)
    return look, pose


def group_alike(images: Sequence[ImageFile]) -> np.ndarray:
    """Numbers groups of images that look alike, also mirrored or turned, or through others."""
    hashes, which = np.unique([x.look + x.pose for x in images], return_inverse=True)
    return _group_hashes(tuple(hashes.tolist()))[which]


@lru_cache(maxsize=1)  # An audit and a cross-validation ask twice about the same images.
def _group_hashes(hashes: tuple[str, ...]) -> np.ndarray:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(hashes)
    group_of: Any = np.arange(n)
    both = np.frombuffer(bytes.fromhex("".join(hashes)), np.uint64).reshape(n, 8)
    for words in np.split(both, 2, axis=1):  # Looks, then poses.
        for start in range(0, n, _BLOCK):
            block, rest = words[start : start + _BLOCK], words[start:]
            # The first quarter of the bits rules out most pairs.
            i, j = np.nonzero(np.bitwise_count(block[:, None, 0] ^ rest[None, :, 0]) <= _ALIKE)
            alike = np.bitwise_count(block[i] ^ rest[j]).sum(axis=1) <= _ALIKE
            # Joined after each block: all pairs of a film's frames would fill the memory.
            firsts = np.unique(group_of, return_index=True)[1][group_of]
            edges = np.append(start + i[alike], np.arange(n)), np.append(start + j[alike], firsts)
            graph = coo_array((np.ones(len(edges[0]), bool), edges), (n, n))
            group_of = connected_components(graph, directed=False)[1]
    return group_of


def digest_of(content: bytes) -> str:
    """The BLAKE2b digest of a file's content, 32 hexadecimal digits."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def find_positive(class_names: Sequence[str], positive: str | None = None) -> str:
    """Returns the class that means cracked: `positive`, or the one with a name like Crack."""
    named = [x for x in class_names if _CRACKED.search(x) and not _SOUND.search(x)]
    likely = named if positive is None else [positive]
    if len(likely) == 1 and likely[0] in class_names:
        return likely[0]
    raise UserError(
        f"Cannot tell which of the class folders {list(class_names)} holds the cracked images: "
        f"name it, or several (--positive {','.join(named) or 'FOLDER,FOLDER'}, positive= in "
        f"Python). Received: {positive!r}."
    )


def merge_classes(folders: Sequence[str], positive: str | None) -> list[str]:
    """The class of each class folder: several that mean cracked, "a,b", are one of that name."""
    several = [name.strip() for name in (positive or "").split(",")]
    if positive in folders or len(several) == 1:
        return [*folders]
    if not {*several} < {*folders}:
        expected = f"some of the class folders, not all: {', '.join(folders)}"
        raise UserError(f"positive: expected {expected}. Received: {positive}.")
    return [str(positive) if name in several else name for name in folders]


def is_split(directory: str | os.PathLike) -> bool:
    """Whether a folder already holds `train/`, `validation/` and `test/`."""
    return set(SUBSETS) <= {path.name for path in _subfolders(user_path(directory))}


def read_folder(
    directory: str | os.PathLike, skip_unreadable: bool = False
) -> tuple[list[ImageFile], list[str], dict[Path, str]]:
    """Lists a class folder's images in the order of class and name; decodes each of them once.

    Returns them, the sorted class names, and the files left out, each with the reason. Such files
    are a `UserError` unless `skip_unreadable`, and then a notice.
    """
    directory = user_path(directory)
    files, class_names = scan_folder(directory)
    problems = {file.path: file.problem for file in files if file.problem}
    if problems and not skip_unreadable:
        lines = [f"  {show(path)}: {problem}" for path, problem in problems.items()]
        raise UserError(
            f"{show(directory)}: {len(lines)} of its files cannot be trained on, the first being\n"
            + "\n".join(lines[:_SHOWN])
            + "\nMend or move them, or leave them out (--skip-unreadable, skip_unreadable=True)."
        )
    for path, problem in problems.items():
        notice(f"left out {show(path)}: {problem}")
    images = [file for file in files if not file.problem]
    for label in {*range(len(class_names))} - {image.label for image in images}:
        problem = "holds no image that can be read. Put this class's files there or remove it"
        raise UserError(f"{directory / class_names[label]}: {problem}.")
    return images, class_names, problems


def scan_folder(directory: Path) -> tuple[list[ImageFile], list[str]]:
    """Decodes every file of a class folder that is new or changed since the last time.

    Returns the files in the order of class and name; and the sorted class names.
    """
    from tqdm import tqdm

    classes = _class_folders(directory)
    listed = {
        path: label
        for label, folder in enumerate(classes)
        for path in sorted(folder.iterdir())
        if not is_litter(path.name)
    }
    cache = cache_folder(directory) / CHECKS
    try:  # Rows of an earlier check, by the file's path below the folder.
        rows = json.loads(cache.read_text())
    except (OSError, ValueError):
        rows = {}
    stamps = {path: _stamp(path) for path in listed}
    keys = {path: str(path.relative_to(directory)) for path in listed}
    known = ((path, rows.get(keys[path], [""])) for path in listed)
    files = {x: ImageFile(x, listed[x], *row[1:]) for x, row in known if row[0] == stamps[x]}
    if new := {path: label for path, label in listed.items() if path not in files}:
        # Threads, for Pillow lets go of the interpreter lock while it decodes.
        with ThreadPoolExecutor(cores()) as pool:
            found = pool.map(check_image, new, new.values())
            try:
                for file in tqdm(found, "Checking images", len(new), unit=" images"):
                    files[file.path] = file
            finally:  # What an interrupted check has found is kept.
                pool.shutdown(cancel_futures=True)
                # A permission granted later changes no time, so what cannot be read is not kept.
                kept = [file for file in files.values() if file.digest]
                rows = {keys[x.path]: [stamps[x.path], *astuple(x)[2:]] for x in kept}
                write_whole(cache, json.dumps(rows))
    return [files[path] for path in listed], [folder.name for folder in classes]


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return "unreadable"  # A dangling link, for example; `check_image` says what is wrong.
    # Two files of equal size and time may have been swapped, which inode and change time show.
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ino}-{status.st_ctime_ns}"


def _subfolders(directory: Path) -> list[Path]:
    if not directory.is_dir():
        problem = "is a file" if directory.exists() else "no such folder"
        raise UserError(f"{show(directory)}: {problem}. {_LAYOUT}.")
    folders = (x for x in directory.iterdir() if x.is_dir() and not is_litter(x.name))
    # What crackclf has written there, such as a saved model, is no class.
    return sorted(x for x in folders if not any((x / name).is_file() for name in _RESULTS))


def _class_folders(directory: Path) -> list[Path]:
    folders = _subfolders(directory)
    names = [show(folder.name) for folder in folders]
    if set(names) & set(SUBSETS):
        expected = f"a folder split beforehand must hold all of {', '.join(SUBSETS)}"
        raise UserError(f"{directory}: {expected}. Received: {names}.")
    for folder in folders:
        if inner := _subfolders(folder):
            raise UserError(
                f"{folder}: holds folders ({', '.join(show(x.name) for x in inner[:4])}) where "
                f"images were expected. {_LAYOUT}. If these are its classes, point at {folder}; "
                "else gather the images of each class, from all of its folders, in one folder."
            )
    if len(folders) < 2:
        raise UserError(f"{directory}: {_LAYOUT}: two or more. Received: {names or 'none'}.")
    return folders


def is_uneven(counts: Sequence[int]) -> bool:
    """Whether one class has more than three times as many images as another."""
    return max(counts) > 3 * min(counts)
