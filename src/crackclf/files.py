"""Files and folders written whole or not at all, and where derived files are kept."""

import contextlib
import csv
import hashlib
import io
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from crackclf.errors import UserError, show

_STALE = 3600.0  # Seconds after which a draft that nobody finished is what a kill has left.


def user_path(path: str | os.PathLike) -> Path:
    """A path as a user means it, `~` included: no shell puts the home in for `--out=~/m`."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # There is no home.
        return Path(path)


@contextlib.contextmanager
def writing(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Writes a file aside and renames it when the block ends well.

    A reader sees the old file or the new one, never a part. When the block raises, the old file
    stays. An `OSError` names the path.
    """
    path = Path(path)
    draft = path.with_name(f".crackclf-{uuid.uuid4().hex}.tmp")
    try:
        with draft.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:  # A full disk does not say which file it has no room for.
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        draft.unlink(missing_ok=True)


def is_draft(path: Path) -> bool:
    """Whether this is a file half written by `writing`."""
    return path.name.startswith(".crackclf-") and path.suffix == ".tmp"


def remove_drafts(folder: Path) -> None:
    """Removes what a kill has left of files half written; younger ones may be another process's."""
    for draft in filter(is_draft, folder.iterdir()):
        with contextlib.suppress(OSError):
            if time.time() - draft.stat().st_mtime > _STALE:
                draft.unlink()


def write_whole(path: str | os.PathLike, content: str | bytes) -> Path:
    """Writes a file's whole content by `writing`, text as UTF-8."""
    with writing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)
    return Path(path)


def format_table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as CSV text that a spreadsheet opens without harm.

    A cell that it would take for a formula gets an apostrophe before it, and what cannot be
    printed of a name is escaped: names of files come from anywhere.

    Args:
        columns: of the table, in order.
        rows: values by column; others are left out, and None is an empty cell.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    for row in ({name: name for name in columns}, *rows):
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return text.getvalue()


def _cell(value: Any) -> Any:
    if not isinstance(value, str | os.PathLike):
        return value
    text = show(value)
    return f"'{text}" if os.fspath(value).startswith(("=", "+", "-", "@", "\t", "\r")) else text


def replace_whole(source: Path, target: Path) -> None:
    """Renames a file over another once its content is on the disk."""
    _sync(source)
    source.replace(target)


@contextlib.contextmanager
def building(folder: str | os.PathLike) -> Iterator[Path]:
    """Makes a folder aside and renames it when the block ends well; the parent is made as well.

    The folder appears under its name with all that is in it, or not at all. An `OSError` is raised
    when it cannot be written, or is there already and not empty.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{hashlib.blake2b(os.fsencode(folder.name), digest_size=4).hexdigest()}-"
    for left in folder.parent.glob(f"{prefix}*.tmp"):
        if time.time() - left.stat().st_mtime > _STALE:
            shutil.rmtree(left, ignore_errors=True)
    draft = folder.parent / f"{prefix}{uuid.uuid4().hex}.tmp"
    draft.mkdir()
    try:
        yield draft
        for path in draft.rglob("*"):
            if path.is_file() and not path.is_symlink():
                with contextlib.suppress(PermissionError):  # A copy of what may only be read.
                    _sync(path)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _sync(path: Path) -> None:
    # Windows can only sync what is open for writing.
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def sha256(path: str | os.PathLike) -> str:
    """The SHA-256 digest of a file's bytes, 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_new_folder(folder: str | os.PathLike) -> Path:
    """Refuses a model folder that exists, before hours of training rather than after."""
    folder = user_path(folder)
    if os.path.lexists(folder):
        raise UserError(
            f"{show(folder)}: already exists, and crackclf overwrites no model. Choose another "
            "name or move it away."
        )
    return folder


def check_result_path(path: str | os.PathLike, start: str) -> Path:
    """Refuses to write results over a file that does not begin as earlier results do."""
    path = user_path(path)
    if path.is_dir():
        raise UserError(f"{show(path)}: expected the name of a file to write, received a folder.")
    if not path.parent.is_dir():
        raise UserError(
            f"{show(path)}: its folder {show(path.parent)} does not exist; create it first."
        )
    if os.path.lexists(path):
        if not path.is_file():  # A device or pipe would be replaced by a file.
            raise UserError(
                f"{show(path)}: expected the name of a file to write, received a device, pipe or "
                "broken link."
            )
        with path.open("rb") as file:
            head = file.read(len(start.encode()))
        if head and head != start.encode():
            raise UserError(
                f"{show(path)}: already exists and was not written by crackclf, so it is left "
                "alone. Choose another file name."
            )
    return path


def cache_folder(directory: str | os.PathLike) -> Path:
    """Where crackclf keeps what it derives from a data folder; created when missing.

    That is `directory/.crackclf`, or, when the data folder is read-only, a folder of its own
    in the user's cache.
    """
    directory = Path(directory).resolve()
    inside = directory / ".crackclf"
    if os.access(inside if inside.exists() else directory, os.W_OK):
        with contextlib.suppress(OSError):  # A disk may be read-only whatever its rights say.
            inside.mkdir(exist_ok=True)
            return inside
    digest = hashlib.blake2b(os.fsencode(directory), digest_size=4).hexdigest()
    outside = user_cache() / f"{directory.name[:40]}-{digest}"
    outside.mkdir(parents=True, exist_ok=True)
    return outside


def user_cache() -> Path:
    """The user's cache: `$XDG_CACHE_HOME/crackclf`, by default `~/.cache/crackclf`."""
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "crackclf"
    home = user_path("~")
    return (home / ".cache" if home != Path("~") else Path(tempfile.gettempdir())) / "crackclf"
