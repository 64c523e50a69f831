"""TensorFlow's import, without its notes and warnings."""

import os
import subprocess
import sys

_PASS_ON = """
import sys
notes = b"absl::InitializeLog()", b"Could not find cuda drivers", b"oneDNN custom operations are on"
for line in sys.stdin.buffer:
    if not any(note in line for note in notes):
        sys.stderr.buffer.write(line)
        sys.stderr.buffer.flush()
"""


def import_tensorflow() -> None:
    """Imports TensorFlow, quietly where `TF_CPP_MIN_LOG_LEVEL` asks for it.

    TensorFlow 2.21 prints notes while its libraries load, before it reads that variable. A
    process of its own passes on every other line, so no error is lost, not even in a crash.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "0") == "0" or "tensorflow" in sys.modules:
        return
    with subprocess.Popen([sys.executable, "-c", _PASS_ON], stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        stderr = os.dup(2)
        os.dup2(process.stdin.fileno(), 2)
        try:
            import tensorflow as tf
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
    tf.get_logger().setLevel("ERROR")  # Else it warns of each new model that it was traced.
