"""TensorFlow's import, without its notes and warnings."""

import os
import sys


def import_tensorflow() -> None:
    """Imports TensorFlow, quietly where `TF_CPP_MIN_LOG_LEVEL` asks for it.

    Its libraries print notes while they load, before it reads that variable.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "0") == "0" or "tensorflow" in sys.modules:
        return
    stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        import tensorflow as tf
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null)
    tf.get_logger().setLevel("ERROR")  # Else it warns of each new model that it was traced.
