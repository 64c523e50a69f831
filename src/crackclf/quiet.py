"""Libraries in C++ without the notes that they print for their own makers."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

_lock = Lock()  # Two threads that do this at once would lose the stream.


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


def import_tensorflow() -> None:
    """Imports TensorFlow, quietly where `TF_CPP_MIN_LOG_LEVEL` asks for it.

    Its libraries print notes while they load, before it reads that variable.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "0") == "0" or "tensorflow" in sys.modules:
        return
    with silence():
        import tensorflow as tf
    tf.get_logger().setLevel("ERROR")  # Else it warns of each new model that it was traced.
