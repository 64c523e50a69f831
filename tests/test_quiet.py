import subprocess
import sys

SCRIPT = """
import os, sys
from crackclf.quiet import import_tensorflow

import_tensorflow()
assert "tensorflow" in sys.modules
os.write(2, b"after\\n")
"""
# Prints as TensorFlow's libraries do, and does not come back when it is asked to crash.
TENSORFLOW = """
import os
from logging import getLogger as get_logger

os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called are written to\\n")
os.write(2, b"I0000 cudart_stub.cc:31] Could not find cuda drivers on your machine, GPU will\\n")
os.write(2, b"I0000 port.cc:153] oneDNN custom operations are on. You may see\\n")
os.write(2, b"F0000 The TensorFlow library was compiled to use AVX instructions\\n")
if "CRASH" in os.environ:
    os.abort()
"""


def start(folder, **environment):
    (folder / "tensorflow.py").write_text(TENSORFLOW)
    return subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_tensorflow_starts_without_its_notes_and_with_its_errors(tmp_path):
    done = start(tmp_path)
    assert done.stderr.splitlines() == [
        "F0000 The TensorFlow library was compiled to use AVX instructions",
        "after",
    ]


def test_what_tensorflow_says_before_it_crashes_is_shown(tmp_path):
    done = start(tmp_path, CRASH="1")
    assert done.returncode != 0
    assert "compiled to use AVX instructions" in done.stderr


def test_no_note_is_left_of_the_real_tensorflow():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={"TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "after\n"
