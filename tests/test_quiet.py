import subprocess
import sys

SCRIPT = """
import os, sys
from crackclf.quiet import import_tensorflow

import_tensorflow()
assert "tensorflow" in sys.modules
os.write(2, b"after\\n")
"""


def test_no_note_is_left_of_the_real_tensorflow():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={"TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "after\n"


def test_no_note_is_left_of_litert():
    script = "import crackclf, numpy; crackclf.predict(200 * numpy.eye(192).reshape(192, 64, 3))"
    command = [sys.executable, "-c", script]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stderr == ""
