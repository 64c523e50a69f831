"""The machine: files written whole or not at all, the cache folder, and the cores."""

import contextlib
import csv
import hashlib
import io
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from crackclf.errors import UserError, show

# What this version keeps in a cache folder. A format that changes gets another name.
CHECKS, SPLITS, FEATURES = "checked-7.json", "splits", "features"
_DRAFT = ".crackclf-"
_STALE = 24 * 3600  # Seconds without a change after which a draft is what a kill has left.


def user_path(path: str | os.PathLike) -> Path:
    """A path with `~` expanded, which no shell does in `--out=~/m`."""
    return Path(os.path.expanduser(path))  # noqa: PTH111  `Path.expanduser` raises for `~a.jpg`.


@contextlib.contextmanager
def writing(path: str | os.PathLike) -> Iterator[Path]:
    """Writes a file or a folder aside and renames it when the block ends well.

    The block makes it at the path that it is given, which has the same suffix. An existing file is
    replaced; an existing folder must be empty. An `OSError` names `path`.
    """
    path = Path(path)
    draft = path.with_name(f"{_DRAFT}{uuid.uuid4().hex}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        for part in (draft, *draft.rglob("*")):
            if part.is_file() and not part.is_symlink():
                # Windows syncs only what is open for writing, as a copy may not be.
                with contextlib.suppress(PermissionError), part.open("r+b") as file:
                    os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:  # A full disk does not say for which file it has no room.
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        _remove(draft)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_whole(path: str | os.PathLike, content: str | bytes) -> Path:
    """Writes a file's whole content by `writing`, text as UTF-8."""
    with writing(path) as draft:
        draft.write_bytes(content.encode() if isinstance(content, str) else content)
    return Path(path)


def is_draft(path: Path) -> bool:
    """Whether this is a file or folder half written by `writing`."""
    return path.name.startswith(_DRAFT)


def remove_drafts(folder: Path) -> None:
    """Removes the drafts in a folder in which nothing has changed for a day."""
    for draft in filter(is_draft, folder.iterdir()):
        with contextlib.suppress(OSError):  # Another process was faster.
            changed = max(part.lstat().st_mtime for part in (draft, *draft.rglob("*")))
            if time.time() - changed > _STALE:
                _remove(draft)


def format_table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Formats rows as CSV text; columns that are not named are left out, None is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    for row in ({name: name for name in columns}, *rows):
        writer.writerow({name: _format_cell(value) for name, value in row.items()})
    return text.getvalue()


def _format_cell(value: Any) -> Any:
    """Text in one line, and with an apostrophe where a spreadsheet would take it for a formula."""
    if not isinstance(value, str | os.PathLike):
        return value
    text = show(value)
    return f"'{text}" if os.fspath(value).startswith(("=", "+", "-", "@", "\t", "\r")) else text


def sha256(path: str | os.PathLike) -> str:
    """The SHA-256 digest of a file's bytes, 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_new_folder(folder: str | os.PathLike) -> Path:
    """Refuses a folder that exists, before hours of work rather than after."""
    folder = user_path(folder)
    if os.path.lexists(folder):
        advice = "crackclf overwrites nothing. Choose another name or move it away."
        raise UserError(f"{show(folder)}: already exists, and {advice}")
    return folder


def check_result_path(path: str | os.PathLike, start: str) -> Path:
    """Refuses to write results over a file that does not begin as earlier results do."""
    path = user_path(path)
    if not path.parent.is_dir():
        raise UserError(f"{show(path)}: its folder does not exist; create it first.")
    if os.path.lexists(path):
        head = b"another thing"  # A device or pipe would be replaced by a file.
        if path.is_file():
            with path.open("rb") as file:
                head = file.read(len(start.encode()))
        if head not in (b"", start.encode()):
            reason = "exists and is no file that crackclf wrote, so it is left alone"
            raise UserError(f"{show(path)}: {reason}. Choose another file name.")
    return path


def cache_folder(directory: str | os.PathLike) -> Path:
    """Where crackclf keeps what it derives from a data folder; created when missing.

    That is `directory/.crackclf`, or for a read-only folder one in the user's cache. What another
    version left there is removed.
    """
    directory = Path(directory).resolve()
    folder = directory / ".crackclf"
    try:
        folder.mkdir(exist_ok=True)
        is_writable = os.access(folder, os.W_OK)
    except OSError:  # A disk may be read-only whatever its rights say.
        is_writable = False
    if not is_writable:
        base = Path(os.environ.get("XDG_CACHE_HOME") or user_path("~/.cache"))
        digest = hashlib.blake2b(os.fsencode(directory), digest_size=4).hexdigest()
        folder = base / "crackclf" / f"{directory.name[:40]}-{digest}"
        folder.mkdir(parents=True, exist_ok=True)
    for entry in folder.iterdir():
        if entry.name not in (CHECKS, SPLITS, FEATURES) and not is_draft(entry):
            _remove(entry)
    remove_drafts(folder)
    return folder


def prune_cache(folder: Path, kept: int) -> None:
    """Removes old drafts and all but the newest `kept` other entries of a folder."""
    remove_drafts(folder)
    entries = (path for path in folder.iterdir() if not is_draft(path))
    with contextlib.suppress(OSError):  # Another process may remove the same ones.
        for path in sorted(entries, key=lambda path: path.stat().st_mtime)[:-kept]:
            _remove(path)


def cores() -> int:
    """`OMP_NUM_THREADS`, which Ray and Spark set; else what affinity and container allow."""
    granted = os.environ.get("OMP_NUM_THREADS", "")
    if granted.isdigit() and int(granted):
        return int(granted)
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()  # Of a container.
        return max(1, min(count, -(-int(quota) // int(period))))
    except (OSError, ValueError):  # No container, or the quota is "max".
        return count
