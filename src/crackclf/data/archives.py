"""Unpacking archives from elsewhere."""

import errno
import shutil
import stat
import subprocess
import zipfile
from collections.abc import Sequence
from pathlib import Path

from crackclf.errors import UserError, notice

MOST_BYTES = 4 << 30
MOST_MEMBERS = 200_000
_BLOCK = 4096  # Bytes that the smallest file takes on most disks.
# What a ZIP can make the system say: a seek to nowhere, or a member that is a file and a folder.
_ZIP_ERRORS = {errno.EINVAL, errno.EEXIST, errno.ENOTDIR, errno.EISDIR}
# The format's own program comes first, then those that know all of it (7-Zip only where it was
# built with its RAR codec, which Debian's is not), then bsdtar, which reports what it does not
# know. unar comes last: it silently skips files stored as references to equal ones (RAR 5).
TOOLS = {
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
    """Raises a `UserError` when the disk has no room for `needed` bytes."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder}: expected {needed / 1e6:,.0f} MB of free disk space. Received: "
            f"{free / 1e6:,.0f} MB. Make room, or name a folder on another disk."
        )


def find_tools() -> dict[str, str]:
    """Names and paths of the programs on this machine that may unpack a RAR, in order to try.

    Raises:
        UserError: when there is none.
    """
    tools = {name: path for name in TOOLS if (path := shutil.which(name))}
    if not tools:
        raise UserError(
            "the archive is a RAR, and no program that unpacks one is on PATH. Expected one of "
            f"{', '.join(TOOLS)}. {_INSTALL}"
        )
    return tools


def unrar(archive: Path, folder: Path, files: int) -> Path:
    """Unpacks a RAR whose digest was checked, with the first program that can.

    Its members are not listed first: the digest says what is in it.

    Args:
        archive: the RAR.
        folder: each program that is tried gets a new folder in it.
        files: number of files in the archive.

    Returns:
        The folder with the members.

    Raises:
        UserError: when there is no program, or none unpacks it.
    """
    failures = []
    for name, path in find_tools().items():
        unpacked = folder / name
        unpacked.mkdir()
        notice(f"unpacking {archive.name} with {name}")
        arguments = [
            word.format(archive=archive.resolve(), folder=unpacked.resolve())
            for word in TOOLS[name].split()
        ]
        done = subprocess.run(
            [path, *arguments], stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        found = count_plain(unpacked)
        if done.returncode == 0 and found >= files:
            return unpacked
        shutil.rmtree(unpacked, ignore_errors=True)  # The next program needs the room.
        words = (done.stderr.strip() or done.stdout.strip()).decode(errors="replace").split()
        failures.append(f"{name}, after {found:,} of {files:,} files: {' '.join(words)[-200:]}")
    raise UserError(
        f"{archive}: no program on this machine could unpack it ({'; '.join(failures)}). {_INSTALL}"
    )


def unzip(archive: Path, folder: Path) -> None:
    """Unpacks a ZIP from anyone.

    `zipfile` writes nothing outside the folder, writes links and devices as plain files, and
    unpacks no more of a member than its header says.

    Args:
        archive: the ZIP.
        folder: an empty folder.

    Raises:
        UserError: when the ZIP is damaged, encrypted or too large, or the disk is too small.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = zipped.infolist()
            size = sum(member.file_size for member in members)
            if len(members) > MOST_MEMBERS or size > MOST_BYTES:
                raise UserError(
                    f"{archive}: expected at most {MOST_MEMBERS:,} files and {MOST_BYTES:,} "
                    f"bytes. Received: {len(members):,} and {size:,}. Unpack it yourself if you "
                    "trust it."
                )
            # Other methods unpack a whole block in memory, however large it becomes.
            if {x.compress_type for x in members} - {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise NotImplementedError("expected members that are stored or deflated")
            check_space(folder, size + _BLOCK * len(members))
            zipped.extractall(folder)
    except UserError:
        raise
    except Exception as error:  # Damaged bytes raise nearly anything.
        if isinstance(error, OSError) and error.errno not in _ZIP_ERRORS:
            raise
        raise UserError(
            f"{archive}: is damaged, encrypted or not a whole ZIP ({error}). Download it again."
        ) from error


def count_plain(folder: Path) -> int:
    """Number of files below a folder; raises a `UserError` for a link or a device."""
    count = 0
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode):
            count += 1
        elif not stat.S_ISDIR(mode):
            raise UserError(
                f"{path.relative_to(folder)}: expected plain files and folders in the archive. "
                "Received: a link or device."
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
