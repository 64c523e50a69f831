"""A stranger's picture is decoded in a process of its own first, which may be killed."""

import os
import subprocess
import sys

from crackclf.errors import UserError

_SECONDS, _BYTES = 10, 4 * 2**30  # Of address space, a part of which is only set aside.
_CODE = f"""
import sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, ({_BYTES}, {_BYTES}))
except (ImportError, OSError, ValueError):
    pass
from crackclf.errors import UserError
from crackclf.images.decode import read_photo
try:
    read_photo(sys.argv[1])
except UserError as error:
    sys.stdout.buffer.write(str(error).encode(errors="backslashreplace"))
    sys.exit(2)
"""


def check_apart(path: str | os.PathLike) -> None:
    """Decodes a file in a process of its own, within limits of time and memory.

    What has been decoded there can be decoded here: the same bytes take the same time.

    Args:
        path: of the file.

    Raises:
        UserError: when it cannot be decoded, or not within the limits.
    """
    command = [sys.executable, "-c", _CODE, os.fspath(path)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise UserError(
            f"{path}: takes more than {_SECONDS} s to decode; save it anew as PNG or JPEG"
        ) from None
    if done.returncode:
        said = done.stdout.decode(errors="replace") if done.returncode == 2 else ""
        raise UserError(said or f"{path}: cannot be decoded; save it anew as PNG or JPEG")
