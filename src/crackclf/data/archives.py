"""Unpacking archives of others: plain files only, and none outside the folder."""

import errno
import re
import shutil
import stat
import subprocess
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from crackclf.errors import UserError, notice

_MOST_BYTES = 4 << 30
_MOST_MEMBERS = 200_000
_BLOCK = 4096  # bytes that the smallest file takes on most disks
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeDecodeError)
# The format's own program first, then those that know all of it (7-Zip only where it was built
# with its RAR codec, which Debian's is not), then bsdtar, which says so when it meets what it does
# not know. unar comes last because it passes over files stored as references to equal ones (RAR 5)
# without a word.
_TOOLS = {
    "unrar": "x -y {archive} {folder}/",
    "7zz": "x -y -bd -o{folder} {archive}",
    "7z": "x -y -bd -o{folder} {archive}",
    "bsdtar": "-x -f {archive} -C {folder}",
    "unar": "-quiet -no-directory -output-directory {folder} {archive}",
}
_INSTALL = (
    "Install one (Debian and Ubuntu: apt install libarchive-tools, or unar; macOS: brew install "
    "unar; Windows: 7-Zip, on PATH) and run the same command again; what was downloaded is kept."
)


def check_space(folder: Path, needed: int) -> None:
    """Refuses to begin what the disk cannot hold; `needed` is in bytes."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder}: expected {needed / 1e6:,.0f} MB of free disk space, received "
            f"{free / 1e6:,.0f} MB. Make room, or name a folder on another disk."
        )


def find_tools() -> dict[str, str]:
    """Names and paths of the programs here that may unpack a RAR, in the order to try them.

    Raises:
        UserError: when there is none.
    """
    tools = {name: path for name in _TOOLS if (path := shutil.which(name))}
    if not tools:
        raise UserError(
            "The archive is a RAR, and no program that unpacks one is on PATH: expected one of "
            f"{', '.join(_TOOLS)}. {_INSTALL}"
        )
    return tools


def unrar(archive: Path, folder: Path, files: int) -> Path:
    """Unpacks a RAR whose digest has been checked, with whichever program here can.

    The digest says what is in it, so its members are not listed beforehand; what it became is
    looked at all the same. A Python reader of RAR headers would start one of the same programs,
    once for each of 40,000 compressed files.

    Args:
        archive: the RAR.
        folder: a new folder is made in it for each program tried.
        files: number of files in the archive.

    Returns:
        The folder that holds the members.

    Raises:
        UserError: when no program is here, or none of them unpacks it.
    """
    failures = []
    for name, path in find_tools().items():
        unpacked = folder / name
        unpacked.mkdir()
        notice(f"unpacking {archive.name} with {name}")
        arguments = [
            word.format(archive=archive.resolve(), folder=unpacked.resolve())
            for word in _TOOLS[name].split()
        ]
        done = subprocess.run(
            [path, *arguments], stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        found = count_plain(unpacked)
        if done.returncode == 0 and found >= files:
            return unpacked
        shutil.rmtree(unpacked, ignore_errors=True)  # Leaves the next one room.
        words = (done.stderr.strip() or done.stdout.strip()).decode(errors="replace").split()
        failures.append(f"{name}, after {found:,} of {files:,} files: {' '.join(words)[-200:]}")
    raise UserError(
        f"{archive}: none of the programs here could unpack it ({'; '.join(failures)}). {_INSTALL}"
    )


def unzip(archive: Path, folder: Path) -> None:
    """Unpacks a ZIP of which nothing is known.

    Args:
        archive: the ZIP.
        folder: an empty folder.

    Raises:
        UserError: when it is damaged, encrypted, too large, or a member is anything but a plain
            file or folder with a name of its own below `folder`.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            _check_members(zipped.infolist(), archive)
            check_space(folder, sum(member.file_size + _BLOCK for member in zipped.infolist()))
            zipped.extractall(folder)
    except (*_DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # a seek to nowhere
            raise
        raise UserError(
            f"{archive}: is damaged or not a whole ZIP ({error}). Fetch it again."
        ) from error


def _check_members(members: Sequence[zipfile.ZipInfo], archive: Path) -> None:
    size = sum(member.file_size for member in members)
    # `zipfile` hands out no more of a member than its header says, so headers cannot hide a bomb;
    # but only for these two methods does it also keep to that in memory.
    if len(members) > _MOST_MEMBERS or size > _MOST_BYTES:
        raise UserError(
            f"{archive}: expected at most {_MOST_MEMBERS:,} files and {_MOST_BYTES:,} bytes, "
            f"received {len(members):,} and {size:,}. Unpack it yourself if you trust it."
        )
    files, folders = set(), set()
    for member in members:
        path = PurePosixPath(member.filename.casefold())  # As disks that do not tell A from a.
        fault = "is there twice" if path in files else _fault(member)
        if fault:
            raise UserError(
                f"{archive}: its member {member.orig_filename!r} {fault}. Expected plain files "
                "and folders only; unpack it yourself if you trust it."
            )
        if not member.is_dir():
            files.add(path)
        folders.update(path.parents)
    if clash := files & folders:
        raise UserError(f"{archive}: its member {str(min(clash))!r} is both a file and a folder.")


def _fault(member: zipfile.ZipInfo) -> str:
    path = PurePosixPath(member.filename)
    plain = re.fullmatch(r"[^\\:\0]+", member.orig_filename)
    if not plain or path.is_absolute() or ".." in path.parts:
        return "has a name that may lead elsewhere"
    if stat.S_IFMT(member.external_attr >> 16) not in {0, stat.S_IFREG, stat.S_IFDIR}:
        return "is a link or device"
    if member.flag_bits & 1:
        return "is encrypted"
    if member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        return "is packed by another method than deflate"
    return ""


def count_plain(folder: Path) -> int:
    """Counts the files below a folder; refuses links and whatever else is not plain."""
    count = 0
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode):
            count += 1
        elif not stat.S_ISDIR(mode):
            raise UserError(
                f"{path.relative_to(folder)}: expected plain files and folders only in the "
                "archive, received a link or device."
            )
    return count


def find_folders(folder: Path, names: Sequence[str]) -> Path | None:
    """Where the folders `names` are: in `folder`, or in the only one in it that has them all."""
    found = [
        place
        for place in (folder, *sorted(folder.iterdir()))
        if all((place / name).is_dir() for name in names)
    ]
    return found[0] if folder in found or len(found) == 1 else None
