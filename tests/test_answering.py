import subprocess
import sys

ANSWER = """
import sys

sys.modules.update(dict.fromkeys(("tensorflow", "keras", "tensorboard", "ray")))
import numpy as np
from PIL import Image

import crackclf

for name in "Card Report choose_region_threshold compute_report diagnose plots read_curves".split():
    getattr(crackclf, name)
folder = crackclf.write_sample("sample", count=4)
classifier = crackclf.load_model()
files = crackclf.find_images([folder])
assert all(0 <= p.probability <= 1 for p in crackclf.predict(files, classifier))
assert crackclf.evaluate(folder).n == 4
pixels = crackclf.read_image(files[0])
assert crackclf.explain(files[0], classifier).shape == pixels.shape[:2]
photo = Image.fromarray(np.tile(pixels, (2, 3, 1)))
assert crackclf.inspect_photo(photo, classifier).width == photo.width
"""
LEARN = """
import sys

sys.modules.update(tensorflow=None, keras=None)
import crackclf
from crackclf.cli import main

try:
    crackclf.build_model
except crackclf.UserError as error:
    print(error)
sys.argv = ["crackclf", "train", "."]
sys.stderr = sys.stdout
try:
    main()
except SystemExit as end:
    print(end.code)
"""


def run(script: str, folder) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_predict_evaluate_explain_and_inspect_work_without_a_framework(tmp_path):
    assert run(ANSWER, tmp_path) == []


def test_learning_without_a_framework_names_the_pip_command(tmp_path):
    message = "keras is needed here: pip install 'crackclf[train]'"
    assert run(LEARN, tmp_path) == [message, f"Error: {message}", "2"]
