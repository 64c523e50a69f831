"""Libraries in C++ without the notes that they print for their own makers."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

_lock = RLock()  # Two threads that do this at once would lose the stream.


@contextmanager
def silence() -> Iterator[None]:
    """Sends what is written to standard error nowhere, until the block ends."""
    with _lock:
        stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            os.close(null)
