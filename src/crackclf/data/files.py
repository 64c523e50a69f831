"""Writing files so that nobody's data is lost, and where derived files are kept."""

import hashlib
import os
from pathlib import Path

from crackclf.errors import UserError


def write_whole(path: str | os.PathLike, content: str | bytes) -> Path:
    """Writes a file beside its place, then renames it: readers see all of it or none."""
    path = Path(path)
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
        replace_whole(temporary, path)
    except OSError as error:  # A full disk does not say which file it has no room for.
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)
    return path


def replace_whole(source: Path, target: Path) -> None:
    """Renames a file over another, once all of it is on the disk and not only on its way."""
    with source.open("rb") as file:
        os.fsync(file.fileno())
    source.replace(target)


def sha256(path: str | os.PathLike) -> str:
    """The SHA-256 digest of a file's bytes, 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_result_path(path: str | os.PathLike, start: str) -> Path:
    """Refuses to write results over a file that is not an earlier result.

    Args:
        path: where results shall go.
        start: how such a result file begins; an existing file that is empty or begins like
            this may be replaced.

    Returns:
        The path.

    Raises:
        UserError: when another file is there, or no folder to hold it.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: expected the name of a file to write, received a folder.")
    if not path.parent.is_dir():
        raise UserError(f"{path}: its folder {path.parent} does not exist; create it first.")
    if path.exists():
        with path.open("rb") as file:
            head = file.read(len(start.encode()))
        if head and head != start.encode():
            raise UserError(
                f"{path}: already exists and was not written by crackclf, so it is left alone. "
                "Choose another file name."
            )
    return path


def cache_folder(directory: str | os.PathLike) -> Path:
    """Where crackclf keeps what it derives from a data folder; created when missing.

    That is `directory/.crackclf`, or, when the data folder is read-only, a folder of its own
    in the user's cache (`$XDG_CACHE_HOME/crackclf`, by default `~/.cache/crackclf`).
    """
    directory = Path(directory).resolve()
    inside = directory / ".crackclf"
    if os.access(inside if inside.exists() else directory, os.W_OK):
        inside.mkdir(exist_ok=True)
        return inside
    digest = hashlib.blake2b(str(directory).encode(), digest_size=4).hexdigest()
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    outside = root / "crackclf" / f"{directory.name}-{digest}"
    outside.mkdir(parents=True, exist_ok=True)
    return outside
