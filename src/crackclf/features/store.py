"""Rows of features on disk, each found by a key."""

import hashlib
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock


class Features:
    """Features of images, read from the disk as they are asked for; indexed like an array.

    Attributes:
        shape: (images, variants, ...).
    """

    def __init__(self, content: np.ndarray, rows: np.ndarray):
        self._content, self._rows = content, rows
        self.shape = (*rows.shape, *content.shape[1:])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> np.ndarray:
        return self._content[self._rows[index]]


class Store:
    """A file of float16 rows, and a journal of the key and the digest of each.

    A row counts only where its digest and its bytes agree: a kill or a flipped bit costs the rows
    that it hit and no more.

    Args:
        path: of the file, without suffix.
        shape: of a row.
    """

    def __init__(self, path: Path, shape: Sequence[int]):
        self._path, self._journal = path.with_suffix(".f16"), path.with_suffix(".digests")
        self._shape = tuple(shape)
        self.row_bytes = 2 * math.prod(shape)
        self.lock = FileLock(path.with_suffix(".lock"))

    def find(self, keys: Sequence[str]) -> np.ndarray:
        """The row of each key, int of shape (n,); -1 where there is none, or a damaged one."""
        try:
            lines = self._journal.read_text(errors="replace").splitlines()
            content = self._map(np.uint8, self.row_bytes)
        except FileNotFoundError:
            return np.full(len(keys), -1)
        said = {key: (row, sum_) for row, key, sum_ in (x.split(",") for x in lines if _is_row(x))}
        found = {}
        for key in dict.fromkeys(keys):
            row, digest = said.get(key, ("-1", ""))
            at = int(row)
            is_whole = 0 <= at < len(content) and _digest(content[at].tobytes()) == digest
            found[key] = at if is_whole else -1
        return np.array([found[key] for key in keys], int)

    def append(self, keys: Sequence[str], rows: np.ndarray) -> None:
        """Adds rows, then their digests."""
        content = [row.astype(np.float16).tobytes() for row in rows]
        self._path.touch()
        with self._path.open("r+b") as file:
            first = file.seek(0, os.SEEK_END) // self.row_bytes
            file.seek(first * self.row_bytes)  # Over what a kill has left of a row.
            file.write(b"".join(content))
        numbered = enumerate(zip(keys, content, strict=True), first)
        with self._journal.open("a") as journal:
            journal.write("".join(f"\n{row},{key},{_digest(x)}" for row, (key, x) in numbered))

    def size(self) -> dict[Path, int]:
        """How long the files are, to be given to `cut`."""
        files = (self._path, self._journal)
        return {path: path.stat().st_size if path.exists() else 0 for path in files}

    def cut(self, sizes: dict[Path, int]) -> None:
        """Takes back what was added since `size`."""
        for path, size in sizes.items():
            if size:
                os.truncate(path, size)
            else:
                path.unlink(missing_ok=True)

    def read(self, rows: np.ndarray) -> Features:
        """The features of the rows, int of shape (images, variants), from `find`."""
        return Features(self._map(np.float16, *self._shape), rows)

    def _map(self, dtype: type, *shape: int) -> np.ndarray:
        n = self._path.stat().st_size // self.row_bytes
        return np.memmap(self._path, dtype, "r", shape=(n, *shape)) if n else np.empty((0, *shape))


def _is_row(line: str) -> bool:
    row, *rest = line.split(",")
    return row.isdecimal() and len(rest) == 2


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
