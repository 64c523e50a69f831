"""Fetching one known file over HTTP: resumed where it ended, never more than it should be."""

import http.client
import re
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

import crackclf
from crackclf.data.files import sha256
from crackclf.errors import UserError

_CHUNK = 1 << 16
_TIMEOUT = 30.0  # seconds without a byte
_RETRIES = 5
_WAIT = 2.0  # seconds, times the number of failures
_PROGRESS = 1 << 20  # bytes after which a connection that breaks has still been worth it


@dataclass(frozen=True)
class RemoteFile:
    """A file that is known to the byte, so that no server has to be trusted.

    Attributes:
        url: where it is.
        size: in bytes.
        sha256: digest of its bytes, 64 hexadecimal digits.
    """

    url: str
    size: int
    sha256: str

    def mismatch(self, path: Path) -> str:
        """Says how a local file differs from this one; empty when it does not."""
        size = path.stat().st_size
        if size != self.size:
            return f"expected {self.size:,} bytes, received {size:,}"
        digest = sha256(path)
        if digest != self.sha256:
            return f"expected the SHA-256 digest {self.sha256}, received {digest}"
        return ""


class _DroppedError(Exception):
    """The connection gave less than it should; another may give more."""


class _UnreachableError(_DroppedError):
    """There was no connection at all."""


class _NotResumableError(_DroppedError):
    """The server does not go on where the part file ends."""


def fetch(remote: RemoteFile, part: Path) -> None:
    """Downloads what `part` still lacks; it then has the size of the file, not yet its digest.

    Args:
        remote: the file.
        part: what has come of it so far, if anything.

    Raises:
        UserError: when the server, the network or the disk gives no hope; `part` is kept.
    """
    first = best = _size(part, remote)
    failures, resume = 0, True
    with tqdm(
        total=remote.size, initial=first, desc="Downloading", unit="B", unit_scale=True
    ) as bar:
        while (have := _size(part, remote)) < remote.size:
            try:
                _receive(remote, part, have if resume else 0, bar)
            except _DroppedError as dropped:
                have = _size(part, remote)
                if have >= best + _PROGRESS:
                    best, failures = have, 0
                failures += 1
                if failures > _RETRIES or (
                    isinstance(dropped, _UnreachableError) and have == first
                ):
                    raise UserError(f"{remote.url}: {dropped}. {_kept(part)}") from dropped
                resume = resume and not isinstance(dropped, _NotResumableError)
                bar.set_postfix_str(f"{dropped}, trying again ({failures} of {_RETRIES})")
                time.sleep(_WAIT * failures)


def _size(part: Path, remote: RemoteFile) -> int:
    size = part.stat().st_size if part.exists() else 0
    return size if size <= remote.size else 0  # Longer than the whole, it is no part of it.


def _kept(part: Path) -> str:
    if not part.exists():
        return "Nothing was downloaded."
    return f"{part.stat().st_size:,} bytes are kept in {part}; run the same command again to go on."


def _receive(remote: RemoteFile, part: Path, start: int, bar: tqdm) -> None:
    """Adds what one connection gives to the part file; raises `_DroppedError` if it lacks some."""
    with _open(remote, part, start) as response:
        start = _check_start(response, remote, part, start)
        bar.n = start
        try:
            with part.open("ab" if start else "wb") as file:
                # Never asks for more than is missing, whatever the server would send.
                while chunk := _read(response, min(_CHUNK, remote.size - start)):
                    file.write(chunk)
                    start += len(chunk)
                    bar.update(len(chunk))
        except OSError as error:
            raise UserError(
                f"{part}: {error.strerror} after {_size(part, remote):,} of {remote.size:,} bytes. "
                "They are kept; make room and run the same command again to go on."
            ) from error
    if start < remote.size:
        raise _DroppedError(f"the connection ended after {start:,} of {remote.size:,} bytes")


def _open(remote: RemoteFile, part: Path, start: int) -> http.client.HTTPResponse:
    headers = {"User-Agent": f"crackclf/{crackclf.__version__}"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        return urllib.request.urlopen(
            urllib.request.Request(remote.url, headers=headers), timeout=_TIMEOUT
        )
    except urllib.error.HTTPError as error:
        error.close()
        answer = f"the server answered {error.code} {error.reason}"
        if error.code == 416:
            raise _NotResumableError(answer) from error
        if error.code in {408, 429} or error.code >= 500:
            raise _DroppedError(answer) from error
        raise UserError(f"{remote.url}: {answer}. {_kept(part)}") from error
    except urllib.error.URLError as error:
        raise _UnreachableError(f"cannot be reached ({error.reason})") from error
    except (OSError, http.client.HTTPException) as error:
        raise _DroppedError(f"the connection broke ({error})") from error


def _check_start(
    response: http.client.HTTPResponse, remote: RemoteFile, part: Path, start: int
) -> int:
    """Where in the file the response begins; raises before anything kept is overwritten."""
    total = response.length  # None where the server does not say
    if response.status == 206:
        match = re.fullmatch(
            r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip()
        )
        if not match or int(match[1]) != start:
            raise _NotResumableError("the server sent another range than was asked for")
        total = None if match[2] == "*" else int(match[2])
    else:
        start = 0
    if total not in {None, remote.size}:
        raise UserError(
            f"{remote.url}: the server has another file: expected {remote.size:,} bytes, it "
            f"announces {total:,}. {_kept(part)}"
        )
    return start


def _read(response: http.client.HTTPResponse, count: int) -> bytes:
    try:
        return response.read1(count) if count else b""
    except (OSError, http.client.HTTPException) as error:
        raise _DroppedError(f"the connection broke ({error})") from error
