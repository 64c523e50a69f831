import dataclasses

import keras
import numpy as np
import pytest

from crackclf.models import bases
from crackclf.models.backbones import BACKBONES
from crackclf.models.bases import build_backbone
from crackclf.models.classifier import build_model
from crackclf.models.parts import split_model
from crackclf.models.weights import MissingWeightsError
from crackclf.saved.card import softmax
from crackclf.saved.convert import convert_model
from crackclf.saved.safety import _check_size

KERAS = {
    "mobilenetv2": keras.applications.mobilenet_v2,
    "mobilenetv3large": keras.applications.mobilenet_v3,
    "vgg16": keras.applications.vgg16,
    "vgg16-block4": keras.applications.vgg16,
    "resnet50": keras.applications.resnet50,
    "resnet50v2": keras.applications.resnet_v2,
    "efficientnetv2b0": keras.applications.efficientnet_v2,
    "convnexttiny": keras.applications.convnext,
}
# Keras has none of these: they take what their weights were trained on, (x - 127) / 128.
LITE = {f"efficientnetlite{variant}" for variant in range(3)}
# Those that weigh their features by what is in the whole picture answer for patches only.
SQUEEZE_AND_EXCITE = {"mobilenetv3large", "efficientnetv2b0"}


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 3)).astype(np.float32)


@pytest.fixture(scope="module", params=BACKBONES)
def built(request):
    # Some random weights magnify the last digit of a number to another answer.
    keras.utils.set_random_seed(0)
    return request.param, build_model(32, request.param, weights="random")


def test_each_is_frozen_and_as_wide_as_the_table_says(built):
    name, model = built
    assert model.get_layer(name).trainable_weights == []
    assert len(model.trainable_weights) == 2
    assert model.get_layer("pooling").output.shape[-1] == BACKBONES[name].features


def test_each_applies_the_preprocessing_of_keras_once(built, images):
    name, model = built
    base = model.get_layer(name)
    seen = (images - 127) / 128 if name in LITE else KERAS[name].preprocess_input(images.copy())
    expected = base(seen, training=False)
    pooled = keras.Model(model.input, model.get_layer("pooling").output)
    np.testing.assert_allclose(
        pooled(images, training=False), keras.ops.mean(expected, axis=(1, 2)), rtol=1e-3, atol=1e-3
    )


def test_each_is_saved_whole_and_converted(built, images, tmp_path):
    name, model = built
    said = model(images, training=False)  # Once: to compile a graph, as predict does, takes longer.
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again(images, training=False), said, atol=1e-5)
    _, frozen, head = split_model(again)
    features = frozen(images, training=False)
    np.testing.assert_allclose(head(features, training=False), said, atol=1e-3)
    graph, cell_size = convert_model(again)
    np.testing.assert_allclose(softmax(graph(images).mean(axis=(1, 2))), said, atol=1e-3)
    assert cell_size == (0 if name in SQUEEZE_AND_EXCITE else 16 if "block4" in name else 32)


def test_each_is_in_proportion_to_its_weights_as_a_saved_model_must_be(built):
    _, model = built
    hidden = keras.layers.Dense(1024)(model.get_layer("pooling").output)
    widest = keras.Model(model.input, keras.layers.Dense(2, activation="softmax")(hidden))
    _check_size(keras.saving.serialize_keras_object(widest), widest.count_params())


@pytest.mark.parametrize("name", ["vgg16", "resnet50"])
def test_weights_in_the_mirror_folder_are_loaded(name, tmp_path, monkeypatch):
    whole = BACKBONES[name].application(include_top=False, weights=None, input_shape=(32, 32, 3))
    whole.save_weights(tmp_path / f"{name}.weights.h5")
    monkeypatch.setenv("CRACKCLF_WEIGHTS_DIR", str(tmp_path))
    base, origin = build_backbone(name, 64, "imagenet")
    assert origin.startswith(f"{name}.weights.h5, sha256 ")
    for weights, expected in zip(base.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, expected)


def test_a_tap_takes_the_whole_networks_weights_and_cuts_it_off(tmp_path, monkeypatch):
    whole, _ = build_backbone("vgg16", 32, None)
    whole.save_weights(tmp_path / "vgg16.weights.h5")
    monkeypatch.setenv("CRACKCLF_WEIGHTS_DIR", str(tmp_path))
    base, _ = build_backbone("vgg16-block4", 32, "imagenet")
    assert base.layers[-1].name == "block4_pool"
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3))
    inner = keras.Model(whole.input, whole.get_layer("block4_pool").output)
    np.testing.assert_allclose(base(images), inner(images), rtol=1e-5)


def test_weights_that_cannot_be_had_are_named(monkeypatch):
    monkeypatch.delenv("CRACKCLF_WEIGHTS_DIR", raising=False)

    def offline(**_):
        raise Exception("URL fetch failure on https://example.org")

    table = {"resnet50": dataclasses.replace(BACKBONES["resnet50"], application=offline)}
    monkeypatch.setattr(bases, "BACKBONES", table)
    with pytest.raises(MissingWeightsError) as caught:
        build_backbone("resnet50", 32, "imagenet")
    assert "a folder with resnet50.weights.h5" in str(caught.value)
    assert "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5" in str(caught.value)
