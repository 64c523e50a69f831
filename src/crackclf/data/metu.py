"""METU's concrete crack images: downloaded or taken from an archive, checked and unpacked."""

import contextlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from crackclf.data.archives import check_space, count_plain, find_folders, find_tools, unrar, unzip
from crackclf.data.fetch import RemoteFile, fetch
from crackclf.errors import UserError
from crackclf.files import user_path

CLASS_NAMES = ("Negative", "Positive")
PAGE = "https://doi.org/10.17632/5y9wdsg2zt.2"
METU = RemoteFile(
    "https://data.mendeley.com/public-files/datasets/5y9wdsg2zt/files/"
    "8a70d8a5-bce9-4291-bab9-b48cfb3e87c3/file_downloaded",
    size=241_363_336,
    sha256="08d7dc505a4f5a0330cee2fa2a1ae4b5b4f98bcffd0549b774caf7959bb1f02f",
)
IMAGES = 40_000
_UNPACKED = 1.5  # Times the RAR: JPEGs hardly shrink, and each takes whole blocks of the disk.
_BY_HAND = (
    f"Or download it with a browser from {PAGE} and pass the file: --archive FILE (archive= in "
    "Python)."
)


def download_metu(
    directory: str | os.PathLike[str], archive: str | os.PathLike[str] | None = None
) -> Path:
    """Makes a folder of the 40,000 patches of Concrete Crack Images for Classification.

    The download of 241 MB can be interrupted: what was received is kept beside the folder
    (`metu.rar.part` for `metu`) until the images are unpacked. Size and SHA-256 are checked before
    unpacking. The folder appears under its name once it is complete.

    Args:
        directory: folder to make; must not exist.
        archive: the same RAR downloaded before, Mendeley's ZIP around it, or any ZIP of the
            folders `Negative/` and `Positive/`; it is not changed. By default the RAR is
            downloaded.

    Returns:
        Path of the folder, which holds `Negative/` and `Positive/`.

    Raises:
        UserError: when the folder exists, the network or disk fails, the archive is not one of
            these, or no program here unpacks a RAR.

    Example:

    ```python
    folder = download_metu("data/metu")
    print(len(list(folder.glob("Positive/*.jpg"))))
    ```

    Reference:
        Özgenel, [Concrete Crack Images for Classification](https://doi.org/10.17632/5y9wdsg2zt.2),
        version 2, Mendeley Data, 2019; licence CC BY 4.0.
    """
    target = user_path(directory).absolute()
    if os.path.lexists(target):
        raise UserError(
            f"{directory}: already exists, and nothing is overwritten. Name a folder that does "
            "not exist."
        )
    if archive is not None and not Path(archive).is_file():
        raise UserError(f"{archive}: no such file. Expected a RAR or ZIP.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _scratch(target) as scratch:
            if archive is not None:
                unpacked = _unpack(Path(archive), scratch)
                part = None
            else:
                part = target.with_name(f"{target.name}.rar.part")
                unpacked = unrar(_download(part), _new(scratch, "metu"), IMAGES)
            _gather(unpacked, _new(scratch, "whole"), archive or part).rename(target)
        if part is not None:
            part.unlink()
    except OSError as error:
        raise UserError(
            f"{error.filename or directory}: {error.strerror or error}. {directory} was not made."
        ) from error
    return user_path(directory)


def _download(part: Path) -> Path:
    find_tools()  # Raises now rather than after 241 MB.
    have = part.stat().st_size if part.exists() else 0
    check_space(part.parent, int(METU.size * (1 + _UNPACKED)) - have)
    try:
        fetch(METU, part)
    except UserError as error:
        raise UserError(f"{error} {_BY_HAND}") from error
    if wrong := METU.mismatch(part):
        part.unlink()
        raise UserError(
            f"{METU.url}: {wrong}. The damaged file was removed; run the same command again. "
            f"{_BY_HAND}"
        )
    return part


def _unpack(archive: Path, scratch: Path) -> Path:
    """Unpacks a user's archive: METU's RAR, a ZIP that holds it, or a ZIP of the folders."""
    rar, name = archive, str(archive)
    if METU.mismatch(archive) and zipfile.is_zipfile(archive):
        unzip(archive, unzipped := _new(scratch, "zip"))
        files = [path for path in unzipped.rglob("*") if path.is_file()]
        if len(files) != 1 or files[0].suffix.lower() != ".rar":
            return unzipped
        rar, name = files[0], f"{archive}: {files[0].name}"
    if wrong := METU.mismatch(rar):
        raise UserError(
            f"{name}: is neither METU's RAR ({wrong}) nor a whole ZIP. Download it again from "
            f"{PAGE}."
        )
    check_space(scratch, int(METU.size * _UNPACKED))
    return unrar(rar, _new(scratch, "metu"), IMAGES)


def _gather(unpacked: Path, whole: Path, archive: str | os.PathLike[str] | None) -> Path:
    """Moves the class folders, and nothing else, into a folder of their own."""
    place = find_folders(unpacked, CLASS_NAMES)
    if place is None or not all(count_plain(place / name) for name in CLASS_NAMES):
        received = ", ".join(sorted(path.name for path in (place or unpacked).iterdir())[:10])
        raise UserError(
            f"{archive}: expected images in the folders {' and '.join(CLASS_NAMES)}, at the top or "
            f"in one folder. Received: {received or 'nothing'}"
        )
    for name in CLASS_NAMES:
        (place / name).rename(whole / name)
    return whole


def _new(scratch: Path, name: str) -> Path:
    folder = scratch / name
    folder.mkdir()
    return folder


@contextlib.contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    """A new folder beside the target to work in, locked against a second download."""
    folder = target.with_name(f".{target.name}.tmp")
    folder.mkdir(exist_ok=True)
    try:
        with FileLock(folder / "lock", blocking=False):
            try:
                # An unpacker that outlived a killed run may still write into that run's folder.
                yield Path(tempfile.mkdtemp(dir=folder))
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    except Timeout:
        raise UserError(f"{target}: another crackclf is downloading it.") from None
