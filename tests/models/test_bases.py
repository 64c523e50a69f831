import dataclasses

import h5py
import keras
import numpy as np
import pytest

from crackclf.errors import UserError
from crackclf.models import bases
from crackclf.models.backbones import BACKBONES
from crackclf.models.bases import build_backbone
from crackclf.saved.store import load_keras_model, open_model


def first_kernel(model: keras.Model) -> np.ndarray:
    return model.get_layer("Conv1").get_weights()[0]


def test_weights_come_from_the_mirror_folder_first(weights_folder, monkeypatch):
    monkeypatch.setenv("CRACKCLF_WEIGHTS_DIR", str(weights_folder))
    first, origin = build_backbone("mobilenetv2", 32, "imagenet")
    second, _ = build_backbone("mobilenetv2", 32, "imagenet")
    np.testing.assert_array_equal(first_kernel(first), first_kernel(second))
    assert origin.startswith("mobilenetv2.weights.h5, sha256 ")


def test_a_path_is_taken_before_the_mirror_folder(weights_folder, tmp_path, monkeypatch):
    other, _ = build_backbone("mobilenetv2", 32, None)
    other.save_weights(tmp_path / "other.weights.h5")
    monkeypatch.setenv("CRACKCLF_WEIGHTS_DIR", str(weights_folder))
    base, origin = build_backbone("mobilenetv2", 64, tmp_path / "other.weights.h5")
    np.testing.assert_array_equal(first_kernel(base), first_kernel(other))
    assert origin.startswith("other.weights.h5")


def test_the_base_is_frozen_with_no_layer_left_out():
    base, origin = build_backbone("mobilenetv2", 32, None)
    assert base.trainable_weights == []
    assert origin == "random initialisation"


def test_random_weights_still_tell_images_apart():
    base, _ = build_backbone("mobilenetv2", 64, None)
    images = np.random.default_rng(1).uniform(-1, 1, (4, 64, 64, 3))
    features = np.asarray(base(images, training=False))
    assert features.std(axis=0).mean() > 0.1


def test_where_keras_cannot_download_one_line_says_that_the_shipped_base_is_used(
    monkeypatch, capsys
):
    monkeypatch.delenv("CRACKCLF_WEIGHTS_DIR", raising=False)

    def offline(**_):
        raise Exception("URL fetch failure on https://example.org")

    table = {"mobilenetv2": dataclasses.replace(BACKBONES["mobilenetv2"], application=offline)}
    monkeypatch.setattr(bases, "BACKBONES", table)
    base, origin = build_backbone("mobilenetv2", 64, "imagenet")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "trained on concrete that comes with crackclf" in lines[0]
    assert "CRACKCLF_WEIGHTS_DIR" in lines[0]
    assert origin == f"concrete, shipped with crackclf, sha256 {open_model()[0].fingerprint}"
    assert base.trainable_weights == []


def test_the_concrete_base_is_the_shipped_one_at_any_size():
    base, _ = build_backbone("mobilenetv2", 96, "concrete")
    assert base.output_shape == (None, 3, 3, 1280)
    shipped = load_keras_model().get_layer("mobilenetv2")
    for weights, expected in zip(base.get_weights(), shipped.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, expected)


@pytest.mark.parametrize(
    ("name", "size", "weights", "words"),
    [
        ("resnet1000", 32, None, "backbone must be one of"),
        ("mobilenetv2", 31, None, "at least 32 pixels. Received: 31"),
        ("mobilenetv2", 32, "gone.h5", r"gone\.h5: no such weights file"),
    ],
)
def test_what_cannot_be_built_is_said(name, size, weights, words):
    with pytest.raises(UserError, match=words):
        build_backbone(name, size, weights)


def test_a_file_that_holds_no_such_weights_is_named(tiny, tmp_path):
    path = tmp_path / "broken.weights.h5"
    path.write_bytes(b"not HDF5")
    with pytest.raises(UserError, match=r"broken\.weights\.h5: cannot be loaded"):
        build_backbone(tiny, 32, path)


def test_a_mirror_folder_that_is_missing_is_an_error(monkeypatch):
    monkeypatch.setenv("CRACKCLF_WEIGHTS_DIR", "/nowhere/at/all")
    with pytest.raises(UserError, match="CRACKCLF_WEIGHTS_DIR=/nowhere"):
        build_backbone("mobilenetv2", 32, "imagenet")


@pytest.mark.parametrize("name", ["x.weights.h5", "x.h5"])
def test_hostile_weights_are_refused_before_they_are_read(tiny, tmp_path, name):
    with h5py.File(tmp_path / name, "w") as weights:
        weights.create_dataset("bomb", (10**6, 10**6), "f4", chunks=(1000, 1000), fillvalue=1)
    with pytest.raises(UserError, match=rf"{name}: cannot be loaded .*more room than they have"):
        build_backbone(tiny, 32, str(tmp_path / name))
