import subprocess
import sys

SCRIPT = """
import sys

for name in ("tensorflow", "keras", "tensorboard", "ray"):
    sys.modules[name] = None

import numpy as np
from PIL import Image

import crackclf
from crackclf.ray import Predictor

names = (
    "Card Classifier Inspection Prediction Report UserError choose_region_threshold compute_report "
    "diagnose evaluate explain find_images inspect_photo inspect_photos load_model plots predict "
    "read_curves read_image write_photos write_sample"
)
for name in names.split():
    getattr(crackclf, name)

folder = crackclf.write_sample("sample", count=12)
classifier = crackclf.load_model()
files = crackclf.find_images([folder])
predictions = crackclf.predict(files, classifier)
assert len(predictions) == 12 and all(0 <= p.probability <= 1 for p in predictions)
assert crackclf.evaluate(folder).n == 12
pixels = crackclf.read_image(files[0])
assert crackclf.explain(files[0], classifier).shape == pixels.shape[:2]
photo = Image.fromarray(np.tile(pixels, (2, 3, 1)))
assert crackclf.inspect_photo(photo, classifier).width == photo.width
rows = Predictor()({"path": ["a.jpg"], "bytes": [files[0].read_bytes()]})
assert rows["probability"][0] == predictions[0].probability

loaded = {name.partition(".")[0] for name, module in sys.modules.items() if module is not None}
assert not loaded & {"tensorflow", "keras", "tensorboard", "torch", "ray"}
print("ok")
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

PREDICT = """
import sys
import crackclf

print(crackclf.predict("a.png")[0].label)
slow = {"tensorflow", "keras", "sklearn", "scipy", "matplotlib", "h5py", "tqdm", "pandas"}
print(sorted(slow & set(sys.modules)))
"""


def run(script: str, folder) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_answering_half_works_where_there_is_no_framework(tmp_path):
    assert run(SCRIPT, tmp_path).splitlines()[-1] == "ok"


def test_a_prediction_imports_nothing_that_is_slow_to_start(tmp_path):
    from PIL import Image

    Image.new("RGB", (60, 60), "grey").save(tmp_path / "a.png")
    label, slow = run(PREDICT, tmp_path).splitlines()
    assert label in ("crack", "no_crack")
    assert slow == "[]"


def test_what_learns_says_how_to_get_its_framework(tmp_path):
    told = run(LEARN, tmp_path).splitlines()
    assert told == [
        "keras is needed here: pip install 'crackclf[train]'",
        "Error: keras is needed here: pip install 'crackclf[train]'",
        "2",
    ]
