"""Downloads of one known file over HTTP, resumed where they ended."""

import http.client
import re
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

import crackclf
from crackclf.errors import UserError
from crackclf.files import sha256

CHUNK = 1 << 16
TIMEOUT = 30.0  # Seconds without a byte.
RETRIES = 5
WAIT = 2.0  # Seconds, times the number of failures.
PROGRESS = 1 << 20  # Bytes after which failures are counted from 0 again.


@dataclass(frozen=True)
class RemoteFile:
    """A file of known size and digest, so that the server need not be trusted.

    Attributes:
        url: where it is.
        size: in bytes.
        sha256: digest of its bytes, 64 hexadecimal digits.
    """

    url: str
    size: int
    sha256: str

    def mismatch(self, path: Path) -> str:
        """How a local file differs from this one; empty when it does not."""
        size = path.stat().st_size
        if size != self.size:
            return f"expected {self.size:,} bytes, received {size:,}"
        digest = sha256(path)
        if digest != self.sha256:
            return f"expected the SHA-256 digest {self.sha256}, received {digest}"
        return ""


class _DroppedError(Exception):
    """The connection ended early; another may give more."""


class _UnreachableError(_DroppedError):
    """There was no connection."""


class _NotResumableError(_DroppedError):
    """The server does not resume where the part file ends."""


def fetch(remote: RemoteFile, part: Path) -> None:
    """Downloads what `part` still lacks. Its size is right then; its digest is not checked.

    Args:
        remote: the file.
        part: what was received so far; may be missing.

    Raises:
        UserError: when the server refuses, the network fails again and again, or the disk is full.
            `part` is kept.
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
                if have >= best + PROGRESS:
                    best, failures = have, 0
                failures += 1
                if failures > RETRIES or (isinstance(dropped, _UnreachableError) and have == first):
                    raise UserError(f"{remote.url}: {dropped}. {_kept(part)}") from dropped
                resume = resume and not isinstance(dropped, _NotResumableError)
                bar.set_postfix_str(f"{dropped}, trying again ({failures} of {RETRIES})")
                time.sleep(WAIT * failures)


def _size(part: Path, remote: RemoteFile) -> int:
    size = part.stat().st_size if part.exists() else 0
    return size if size <= remote.size else 0  # Longer than the file, it is no part of it.


def _kept(part: Path) -> str:
    if not part.exists():
        return "Nothing was downloaded."
    return f"{part.stat().st_size:,} bytes are kept in {part}; run the same command again to go on."


def _receive(remote: RemoteFile, part: Path, start: int, bar: tqdm) -> None:
    """Appends what one connection gives; raises `_DroppedError` when it ends early."""
    with _open(remote, part, start) as response:
        start = _check_start(response, remote, part, start)
        bar.n = start
        try:
            with part.open("ab" if start else "wb") as file:
                # Never reads more than is missing, whatever the server sends.
                while chunk := _read(response, min(CHUNK, remote.size - start)):
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
            urllib.request.Request(remote.url, headers=headers), timeout=TIMEOUT
        )
    except urllib.error.HTTPError as error:
        error.close()
        # Not in the server's words, which may hold anything.
        answer = f"the server answered {error.code} {http.client.responses.get(error.code, '')}"
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
    """Where in the file the response begins; raises before the part file is overwritten."""
    total = response.length  # None when the server does not say.
    if response.status == 206:
        match = re.fullmatch(
            r"bytes (\d{1,18})-\d+/(\d{1,18}|\*)", response.headers.get("Content-Range", "").strip()
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
