import dataclasses
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from crackclf.backbones import BACKBONES, MissingWeightsError, build_backbone
from crackclf.calibration import softmax
from crackclf.conversion import convert_model
from crackclf.errors import UserError
from crackclf.model import build_model, split_model, unfreeze
from crackclf.saving import load_keras_model, open_model

KERAS = {
    "mobilenetv2": keras.applications.mobilenet_v2,
    "mobilenetv3large": keras.applications.mobilenet_v3,
    "vgg16": keras.applications.vgg16,
    "resnet50": keras.applications.resnet50,
    "efficientnetv2b0": keras.applications.efficientnet_v2,
    "convnexttiny": keras.applications.convnext,
    "efficientnetlite0": SimpleNamespace(preprocess_input=lambda images: (images - 127) / 128),
}
# Cells in pixels. Squeeze-and-excitation weighs features by the whole picture, so the models that
# have it answer for whole patches.
CELLS = {"mobilenetv3large": 0}


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 3)).astype(np.float32)


@pytest.fixture(scope="module", params=[*BACKBONES])
def built(request):
    # Some random weights magnify the last digit of a number to another answer.
    keras.utils.set_random_seed(0)
    return request.param, build_model(32, request.param, weights="random")


def test_each_is_as_wide_as_the_table_says_and_applies_its_preprocessing_once(built, images):
    name, model = built
    base = model.get_layer(name)
    assert base.trainable_weights == []
    assert base.output_shape[-1] == BACKBONES[name].features
    prepared = KERAS[name].preprocess_input(images.copy())
    expected = keras.ops.mean(base(prepared, training=False), axis=(1, 2))
    frozen = split_model(model).frozen
    np.testing.assert_allclose(frozen(images, training=False), expected, rtol=1e-3, atol=1e-3)


def test_each_kind_is_converted_and_taken_apart_without_change(built, images):
    name, model = built
    if name not in CELLS:
        pytest.skip("another backbone stands for its kind")
    expected = model(images, training=False)
    _, frozen, head = split_model(model)
    np.testing.assert_allclose(head(frozen(images)), expected, atol=1e-3)
    graph, cell_size = convert_model(model)
    np.testing.assert_allclose(softmax(graph(images).mean(axis=(1, 2))), expected, atol=1e-3)
    assert cell_size == CELLS[name]


def test_each_can_be_opened_block_by_block_and_keeps_its_batch_normalization(built):
    name, model = built  # The last test of each, because it changes the model.
    unfreeze(model, blocks=2)
    base = model.get_layer(name)
    norms = [x for x in base.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert not any(layer.trainable for layer in norms)
    frozen = split_model(model).frozen
    assert frozen.output_shape[-1] <= BACKBONES[name].features
    assert 0 < len(frozen.weights) < len(base.weights)


def test_weights_come_from_the_folder_of_the_environment_or_a_path(tiny, tmp_path, monkeypatch):
    whole, origin = build_backbone(tiny, 32, "random")
    assert origin == "random initialisation"
    whole.save_weights(tmp_path / "tiny.weights.h5")
    monkeypatch.setenv("CRACKCLF_WEIGHTS_DIR", str(tmp_path))
    for weights in ("imagenet", tmp_path / "tiny.weights.h5"):
        base, origin = build_backbone(tiny, 64, weights)
        assert origin.startswith("tiny.weights.h5, sha256 ")
        np.testing.assert_array_equal(base.get_weights()[-1], whole.get_weights()[-1])
        monkeypatch.setenv("CRACKCLF_WEIGHTS_DIR", "/nowhere/at/all")  # A path needs no folder.


def test_random_weights_still_tell_images_apart():
    base, _ = build_backbone("mobilenetv2", 64, None)
    images = np.random.default_rng(1).uniform(-1, 1, (4, 64, 64, 3))
    features = np.asarray(base(images, training=False))
    assert features.std(axis=0).mean() > 0.1


@pytest.fixture
def offline(monkeypatch):
    def fail(**_):
        raise Exception("URL fetch failure on https://example.org")

    monkeypatch.delenv("CRACKCLF_WEIGHTS_DIR", raising=False)
    for name in ("mobilenetv2", "resnet50"):
        monkeypatch.setitem(BACKBONES, name, dataclasses.replace(BACKBONES[name], application=fail))


def test_weights_that_cannot_be_downloaded_are_named(offline):
    with pytest.raises(MissingWeightsError, match=r"example\.org.* as resnet50\.weights\.h5"):
        build_backbone("resnet50", 32, "imagenet")


def test_without_a_download_one_line_says_that_the_base_in_the_box_is_used(offline, capsys):
    base, origin = build_backbone("mobilenetv2", 96, "imagenet")
    (line,) = capsys.readouterr().err.splitlines()
    assert "trained on concrete that comes with crackclf" in line
    assert "CRACKCLF_WEIGHTS_DIR" in line
    instead = "concrete, shipped with crackclf in place of ImageNet's mobilenetv2"
    assert origin == f"{instead}, sha256 {open_model()[0].fingerprint}"
    assert base.trainable_weights == []
    assert (base.name, base.output_shape) == ("efficientnetlite0", (None, 3, 3, 1280))
    shipped = load_keras_model().get_layer("efficientnetlite0")
    for weights, expected in zip(base.get_weights(), shipped.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, expected)


@pytest.mark.parametrize(
    ("name", "size", "weights", "words"),
    [
        ("resnet1000", 32, None, "backbone must be one of"),
        ("mobilenetv2", 31, None, "at least 32 pixels. Received: 31"),
        ("vgg16", 32, "concrete", "fit efficientnetlite0 only. Received: 'vgg16'"),
        ("mobilenetv2", 32, "gone.h5", r"gone\.h5: cannot be loaded .* the path of a Keras"),
        ("mobilenetv2", 32, __file__, r"test_backbones\.py: cannot be loaded"),
    ],
)
def test_what_cannot_be_built_is_refused(name, size, weights, words):
    with pytest.raises(UserError, match=words):
        build_backbone(name, size, weights)


def test_a_folder_of_weights_that_is_missing_is_named(monkeypatch):
    monkeypatch.setenv("CRACKCLF_WEIGHTS_DIR", "/nowhere/at/all")
    with pytest.raises(UserError, match="CRACKCLF_WEIGHTS_DIR=/nowhere"):
        build_backbone("mobilenetv2", 32, "imagenet")
