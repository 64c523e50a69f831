import os
import subprocess
import sys

import pytest

LEARN = """
import os
import crackclf

model = crackclf.build_model(64, weights="random")
import keras

model.predict(keras.ops.zeros((1, 64, 64, 3)), verbose=0)
os.write(2, b"after\\n")
"""
ANSWER = """
import os, crackclf, numpy

crackclf.predict(200 * numpy.eye(192).reshape(192, 64, 3))
os.write(2, b"after\\n")
"""


@pytest.mark.parametrize("script", [LEARN, ANSWER], ids=["learning", "answering"])
def test_no_note_is_left_of_tensorflow_or_litert(script):
    asked = {name: x for name, x in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=asked, capture_output=True, text=True, check=True)
    assert done.stderr == "after\n"
