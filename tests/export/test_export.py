import functools
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from conftest import build_card, run, save_noise
from crackclf.data.folders import ImageFile
from crackclf.errors import UserError
from crackclf.export import export as exporting
from crackclf.export.choose import choose_images
from crackclf.export.export import build_serving_function, export_model
from crackclf.export.formats import FORMATS, Exported
from crackclf.images.check import check_image
from crackclf.images.decode import read_image
from crackclf.images.resize import resize
from crackclf.models.augmentation import build_augmentation
from crackclf.prediction.classifier import load_model
from crackclf.prediction.predict import predict
from crackclf.saved.store import load_keras_model, save_model
from several import CARD, build_several

L = keras.layers
NEEDS = {"onnx": ("onnx", "onnxruntime", "tf2onnx"), "openvino": ("openvino",)}


def build(by_cells: bool):
    """A model with augmentation, whose answers differ from image to image."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((32, 32, 3))
    x = L.Rescaling(1 / 127.5, -1)(build_augmentation()(inputs))
    x = L.Conv2D(8, 9, 6, activation="relu")(x)
    x = L.GlobalAveragePooling2D()(x) if by_cells else L.Flatten()(x)
    return keras.Model(inputs, L.Dense(2, activation="softmax", kernel_initializer="normal")(x))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    card = build_card(threshold=0.5, temperature=1.7)
    return save_model(build(True), tmp_path_factory.mktemp("models") / "small", card)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    card = build_card(threshold=0.5, temperature=0.6)
    return save_model(build(False), tmp_path_factory.mktemp("models") / "whole", card)


@pytest.fixture
def classifier(folder):
    return load_model(folder)


@pytest.fixture(scope="module")
def patches(tmp_path_factory):
    folder = tmp_path_factory.mktemp("patches")
    return [save_noise(folder / f"{i}.png", i, size=(40 + i, 30)) for i in range(6)]


@pytest.fixture(scope="module")
def exported(folder, patches, tmp_path_factory):
    """`folder` in a format, exported once for all."""

    @functools.cache
    def export(format: str) -> Path:
        path = tmp_path_factory.mktemp("exported") / f"m{FORMATS[format].suffix}"
        return export_model(folder, path, format, patches).path

    return export


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("kind", ["folder", "whole"])
def test_its_own_runtime_says_of_images_of_any_size_what_the_saved_model_says(
    kind, format, patches, tmp_path, request
):
    for module in NEEDS.get(format, ()):
        pytest.importorskip(module)
    model = request.getfixturevalue(kind)
    classifier = load_model(model)
    path = tmp_path / f"model{FORMATS[format].suffix}"
    result = export_model(model, path, format, patches, [True] * 6)
    assert result.max_difference < 1e-4
    assert (result.images, result.agreement, len(result.accuracy)) == (6, 1, 2)
    loaded = FORMATS[format].load(path)
    assert loaded.about["class_names"] == ["Negative", "Positive"]
    assert loaded.about["threshold"] == 0.5
    batch = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    np.testing.assert_allclose(loaded.run(batch), classifier.probabilities(batch), atol=1e-4)
    left = {file.name for file in tmp_path.iterdir()}
    assert left == {path.name} | ({"model.bin"} if format == "openvino" else set())


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((32, 32, 3))
    x = L.Conv2D(64, 3, activation="relu")(L.Conv2D(64, 3)(L.Rescaling(1 / 255)(inputs)))
    x = L.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, L.Dense(2, activation="softmax")(x))
    return save_model(model, tmp_path_factory.mktemp("models") / "large", build_card())


@pytest.mark.parametrize("format", ["onnx", "openvino", "litert"])
def test_eight_bits_are_smaller_and_say_nearly_the_same(format, large, patches, tmp_path):
    for module in (*NEEDS.get(format, ()), "nncf"):
        pytest.importorskip(module)
    sizes = []
    for calibration in ([], patches[:3]):
        path = tmp_path / f"{len(calibration)}{FORMATS[format].suffix}"
        found = export_model(large, path, format, patches[3:], None, calibration)
        weights = path.with_suffix(".bin") if format == "openvino" else path
        sizes.append(weights.stat().st_size)
    assert sizes[1] < 0.6 * sizes[0]
    assert 0 < found.max_difference < 0.02


def test_the_graph_holds_no_augmentation(folder, classifier):
    function = build_serving_function(load_keras_model(folder), classifier.card)
    graph = function.get_concrete_function().graph
    assert not [x.name for x in graph.get_operations() if "random" in x.type.lower()]


def test_labels_and_threshold_can_be_read_without_crackclf(exported):
    with zipfile.ZipFile(exported("litert")) as file:
        assert file.read("labels.txt").decode().split() == ["Negative", "Positive"]
        assert json.loads(file.read("crackclf.json"))["threshold"] == 0.5


@pytest.mark.parametrize("calibrated", [False, True])
def test_a_litert_file_names_what_it_takes_and_gives(
    calibrated, folder, exported, patches, tmp_path
):
    path = tmp_path / "m.tflite"
    if calibrated:
        export_model(folder, path, "litert", patches, None, patches)
    else:
        path = exported("litert")
    run = Interpreter(str(path)).get_signature_runner()
    image = read_image(patches[0])
    said = run(image=image[None])
    assert list(said) == ["probabilities"]
    expected = load_model(folder).probabilities(resize(image, 32, 32)[None])
    np.testing.assert_allclose(said["probabilities"], expected, atol=0.02 if calibrated else 1e-4)


def test_a_saved_model_names_what_it_takes_and_gives(exported):
    serve = tf.saved_model.load(str(exported("saved_model"))).signatures["serving_default"]
    assert list(serve.structured_outputs) == ["probabilities"]
    assert list(serve.structured_input_signature[1]) == ["image"]


def test_an_onnx_file_runs_where_there_is_neither_tensorflow_nor_crackclf(exported, classifier):
    for module in NEEDS["onnx"]:
        pytest.importorskip(module)
    script = """
import json, sys
for name in ("tensorflow", "keras", "crackclf"):
    sys.modules[name] = None
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
said = session.run(["probabilities"], {"image": np.full((2, 50, 60, 3), 90, np.uint8)})[0]
print(json.dumps([said.tolist(), session.get_modelmeta().custom_metadata_map["crackclf"]]))
"""
    printed = subprocess.run(
        [sys.executable, "-c", script, exported("onnx")],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    said, about = json.loads(printed)
    expected = classifier.probabilities(np.full((2, 32, 32, 3), 90, np.uint8))
    np.testing.assert_allclose(said, expected, atol=1e-4)
    assert json.loads(about)["positive_class"] == "Positive"


def test_a_file_that_says_something_else_is_removed(folder, patches, tmp_path, monkeypatch):
    litert = FORMATS["litert"]

    def load(path):
        exported = litert.load(path)
        return Exported(lambda images: exported.run(images)[:, ::-1], exported.about)

    monkeypatch.setitem(exporting.FORMATS, "litert", litert._replace(load=load))
    with pytest.raises(UserError, match=r"m\.tflite: removed.*difference of at most"):
        export_model(folder, tmp_path / "m.tflite", "litert", patches)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "format", "message"),
    [
        ("m.tflite", "torchscript", "expected one of the formats onnx, openvino"),
        ("m.pb", "litert", r"expected a name ending in \.tflite"),
        ("there.tflite", "litert", "already exists"),
        ("there.xml", "openvino", r"there\.bin: already exists"),
        ("no/m.tflite", "litert", "does not exist; create it"),
    ],
)
def test_names_that_cannot_be_written_are_refused(name, format, message, folder, patches, tmp_path):
    (tmp_path / "there.tflite").write_text("mine")
    (tmp_path / "there.bin").write_text("mine")
    with pytest.raises(UserError, match=message):
        export_model(folder, tmp_path / name, format, patches)
    assert (tmp_path / "there.tflite").read_text() == "mine"


def test_what_cannot_be_exported_is_said(folder, patches, tmp_path):
    with pytest.raises(UserError, match="saved_model has no int8"):
        export_model(folder, tmp_path / "m", "saved_model", patches, None, patches)
    with pytest.raises(UserError, match="nowhere: no such folder"):
        export_model(tmp_path / "nowhere", tmp_path / "m.tflite", "litert", patches)
    assert not any(tmp_path.iterdir())


def test_a_model_in_pytorch_is_not_exported(patches, tmp_path):
    torch = pytest.importorskip("crackclf.torch")
    card = build_card(backbone="resnet18-torch")
    twin = save_model(torch.build_resnet18(None), tmp_path / "twin", card)
    with pytest.raises(UserError, match=r"only Keras models .*torch\.onnx\.export"):
        export_model(twin, tmp_path / "m.tflite", "litert", patches)


def test_images_to_measure_on_are_neither_trained_on_nor_quantised_by():
    digests = [f"{i % 20}" for i in range(30)]  # Some of them twice.
    images = [ImageFile(Path(f"{i}.png"), 0, x, True, 32) for i, x in enumerate(digests)]
    split = {f"{i}": "train" for i in range(6)} | {f"{i}": "validation" for i in range(6, 9)}
    measured, chosen = choose_images(images, split, calibration=12)
    said = {name: {digests[i] for i in x} for name, x in (("on", measured), ("by", chosen))}
    assert len(chosen) == len(said["by"]) == 12
    assert set(split) <= said["by"]  # They cannot be measured on anyway.
    assert said["on"] == {f"{i}" for i in range(20)} - said["by"]
    assert {digests[i] for i in choose_images(images, split | {"9": "test"}, 0)[0]} == {"9"}
    with pytest.raises(UserError, match=r"expected 20 images to quantise by"):
        choose_images(images, split, calibration=20)


def test_the_command_measures_on_images_that_the_model_never_saw(
    folder, make_folder, tmp_path, monkeypatch, capsys
):
    data = make_folder({"Negative": 5, "Positive": 4})
    model = tmp_path / "model"
    shutil.copytree(folder, model)
    files = sorted(data.rglob("*.png"))
    rows = [f"train,x,{check_image(file).digest},{file}" for file in files[:6]]
    (model / "split.csv").write_text("\n".join(["subset,class,digest,file", *rows]))
    out = tmp_path / "m.tflite"
    arguments = ("export", model, "--format", "litert", "--out", out)
    assert run(monkeypatch, *arguments, "--data", data) == 0
    assert "Compared with the saved model on 3 images" in capsys.readouterr().out
    out.unlink()
    assert run(monkeypatch, *arguments, "--data", data, "--int8") == 2
    assert "expected 300 images to quantise by" in capsys.readouterr().err
    assert run(monkeypatch, *arguments, "--int8") == 2
    assert "--data" in capsys.readouterr().err
    assert not out.exists()


def test_without_images_drawn_ones_check_it(folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / "m.tflite"
    assert run(monkeypatch, "export", folder, "--format", "litert", "--out", out) == 0
    printed = capsys.readouterr()
    assert "on 32 images" in printed.out
    assert "drawn" in printed.err


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    return save_model(build_several(), tmp_path_factory.mktemp("models") / "several", CARD)


@pytest.mark.parametrize("format", ["onnx", "litert"])
def test_three_classes_travel_with_their_names(format, several, patches, tmp_path):
    for module in NEEDS.get(format, ()):
        pytest.importorskip(module)
    path = tmp_path / f"model{FORMATS[format].suffix}"
    labels = np.array([p.label for p in predict(patches, several)])
    result = export_model(
        several, path, format, patches, [CARD.class_names.index(x) for x in labels]
    )
    assert (result.agreement, result.accuracy) == (1, (1, 1))
    loaded = FORMATS[format].load(path)
    assert loaded.about["class_names"] == ["cracked", "joint", "spalled"]
    assert loaded.about["positive_class"] == "cracked"
    batch = np.random.default_rng(0).integers(0, 256, (3, 40, 32, 3), np.uint8)
    assert loaded.run(batch).shape == (3, 3)
    if format == "litert":
        with zipfile.ZipFile(path) as file:
            assert file.read("labels.txt").decode().split() == ["cracked", "joint", "spalled"]


def test_three_classes_are_checked_on_drawn_patches_without_their_labels(
    several, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "m.tflite"
    assert run(monkeypatch, "export", several, "--format", "litert", "--out", out) == 0
    printed = capsys.readouterr().out
    assert "Compared with the saved model on 32 images: the same label on 100.00%" in printed
    assert "Accuracy" not in printed
