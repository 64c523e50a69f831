import dataclasses
import json
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest

from conftest import build_card, sign
from crackclf.augmentation import build_augmentation
from crackclf.errors import UserError
from crackclf.export import FORMATS, export_model
from crackclf.images import resize
from crackclf.prediction import load_model
from crackclf.saving import save_model

L = keras.layers
NEEDS = {"onnx": ("onnx", "onnxruntime", "tf2onnx")}
# Each runs a file alone, as somebody does who has neither crackclf nor Keras.
SCRIPTS = {
    "onnx": """
import onnxruntime
session = onnxruntime.InferenceSession(path)
found = session.run(["probabilities"], {"image": images})[0]
""",
    "litert": """
from ai_edge_litert.interpreter import Interpreter
found = Interpreter(path).get_signature_runner()(image=images)["probabilities"]
""",
}


def build(classes=2):
    """A model with augmentation, whose answers differ from image to image."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((32, 32, 3))
    x = L.Rescaling(1 / 127.5, -1)(build_augmentation()(inputs))
    x = L.GlobalAveragePooling2D()(L.Conv2D(8, 9, 6, activation="relu")(x))
    head = L.Dense(classes, activation="softmax", kernel_initializer="normal")
    return keras.Model(inputs, head(x))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    card = build_card(threshold=0.4, temperature=1.7)
    return save_model(build(), tmp_path_factory.mktemp("models") / "small", card)


@pytest.mark.parametrize(
    "format",
    [pytest.param(x, marks=[pytest.mark.extras] if x in NEEDS else []) for x in FORMATS],
)
def test_the_file_alone_gives_the_probabilities_of_the_saved_model(format, folder, tmp_path):
    for module in NEEDS.get(format, ()):
        pytest.importorskip(module)
    path = tmp_path / f"crack{FORMATS[format][0]}"
    result = export_model(folder, path, format)
    assert (result.path, result.images) == (path, 6)
    assert result.max_difference < 1e-4
    assert result.size > 1000
    assert {file.name for file in tmp_path.iterdir()} == {path.name, "crack.json"}
    about = json.loads((tmp_path / "crack.json").read_text())
    assert about["class_names"] == ["Negative", "Positive"]
    assert (about["positive_class"], about["threshold"]) == ("Positive", 0.4)

    classifier = load_model(folder)
    images = np.random.default_rng(0).integers(0, 256, (3, 50, 70, 3), np.uint8)
    np.save(tmp_path / "images.npy", images)
    script = f"""
import json, sys
sys.modules["crackclf"] = sys.modules["keras"] = None
import numpy as np
path, images = sys.argv[1], np.load(sys.argv[2])
{SCRIPTS[format]}
print(json.dumps(found.tolist()))
"""
    command = [sys.executable, "-c", script, path, tmp_path / "images.npy"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    expected = classifier.probabilities(np.stack([resize(image, 32, 32) for image in images]))
    np.testing.assert_allclose(json.loads(printed.splitlines()[-1]), expected, atol=1e-4)


def test_three_classes_keep_their_order(tmp_path):
    names = ("cracked", "joint", "spalled")
    card = dataclasses.replace(build_card(), class_names=names, positive_class="cracked")
    folder = save_model(build(3), tmp_path / "model", card)
    assert export_model(folder, tmp_path / "m.tflite", "litert").max_difference < 1e-4
    assert json.loads((tmp_path / "m.json").read_text())["class_names"] == list(names)


def test_a_file_with_other_probabilities_is_refused_and_removed(folder, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    model = build()
    model.layers[-1].set_weights([-weight for weight in model.layers[-1].get_weights()])
    model.save(other / "model.keras")
    sign(other)
    with pytest.raises(UserError, match=r"m\.tflite: removed, .* a difference of at most 0\.001"):
        export_model(other, tmp_path / "m.tflite", "litert")
    assert [file.name for file in tmp_path.iterdir()] == ["other"]


@pytest.mark.parametrize(
    ("name", "format", "message"),
    [
        ("m.tflite", "torchscript", "expected one of the formats onnx, litert"),
        ("m.pb", "litert", r"expected a name ending in \.tflite"),
        ("there.tflite", "litert", r"there\.tflite: already exists"),
        ("described.tflite", "litert", r"described\.json: already exists"),
    ],
)
def test_nothing_is_overwritten_and_wrong_names_are_refused(name, format, message, tmp_path):
    there = [tmp_path / x for x in ("there.tflite", "described.json")]
    for file in there:
        file.write_text("mine")
    with pytest.raises(UserError, match=message):
        export_model("shipped", tmp_path / name, format)
    assert sorted(tmp_path.iterdir()) == sorted(there)
    assert {file.read_text() for file in there} == {"mine"}


def test_what_a_kill_left_does_not_stop_the_next_export(folder, tmp_path):
    exported = tmp_path / "m.tflite"
    export_model(folder, exported, "litert")
    exported.unlink()  # It is the last to take its name.
    with pytest.raises(UserError, match=r"m\.json: already exists"):
        export_model(folder, tmp_path / "m.onnx", "onnx")  # Of another file.
    export_model(folder, exported, "litert")
    assert {path.name for path in tmp_path.glob("m.*")} == {"m.tflite", "m.json"}
    (tmp_path / "n.json").write_text('{"file": "n.tflite", "of": "mine"}')
    with pytest.raises(UserError, match=r"n\.json: already exists"):
        export_model(folder, tmp_path / "n.tflite", "litert")


def test_a_folder_that_is_no_model_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such folder"):
        export_model(tmp_path / "nowhere", tmp_path / "m.tflite", "litert")
    assert not any(tmp_path.iterdir())


def test_a_missing_package_is_named_with_its_command(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"pip install 'crackclf\[export\]'"):
        export_model(folder, tmp_path / "m.onnx", "onnx")
