import shutil

import keras
import numpy as np
import pytest
from matplotlib.figure import Figure

from conftest import build_card, build_keras, build_small
from crackclf.errors import UserError
from crackclf.prediction import load_model
from crackclf.saving import load_keras_model, save_model

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
FILES = ("model.keras", "model.tflite")


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    return save_model(
        build_keras(),
        tmp_path_factory.mktemp("models") / "first",
        build_card(backbone="tiny", weights_origin="random"),
        files={"history.csv": "epoch,loss\n0,1.0\n"},
        figures={"curves": Figure()},
    )


@pytest.fixture
def saved(once, tmp_path):
    return shutil.copytree(once, tmp_path / "models" / "first")


def test_a_saved_model_comes_back_whole(saved, once):
    expected = build_keras().predict(IMAGES, verbose=0)
    model = load_keras_model(saved)
    np.testing.assert_array_equal(model.predict(IMAGES, verbose=0), expected)
    assert (model.backbone, model.weights_origin) == ("tiny", "random")
    again = load_model(saved)
    np.testing.assert_allclose(again.probabilities(IMAGES), expected, atol=1e-5)
    assert again.card.class_names == ("Negative", "Positive")
    assert set(again.card.versions) == {"crackclf", "keras", "tensorflow", "numpy"}
    names = {path.name for path in saved.iterdir()}
    assert names == {*FILES, "card.json", "history.csv", "curves.png"}
    assert list(once.parent.iterdir()) == [once]
    assert keras.saving.load_model(saved / "model.keras").output_shape == (None, 2)


@pytest.mark.usefixtures("poor_disk")
def test_a_full_disk_costs_no_model_and_none_is_overwritten(small_disk):
    model, first = build_keras(), small_disk / "models" / "first"
    save_model(model, first, build_card())
    before = {path: path.read_bytes() for path in first.iterdir()}
    with pytest.raises(UserError, match="overwrites nothing"):
        save_model(model, first, build_card())
    for free in (0, 8000, 16_000):  # Full at several stages of the writing.
        (small_disk / "hog").write_bytes(bytes(shutil.disk_usage(small_disk).free - free))
        with pytest.raises(UserError, match=r"second: the model could not be saved.*No space left"):
            save_model(model, small_disk / "models" / "second", build_card())
        (small_disk / "hog").unlink()
        assert list((small_disk / "models").iterdir()) == [first]
    assert {path: path.read_bytes() for path in first.iterdir()} == before


@pytest.mark.parametrize("load", [load_model, load_keras_model])
@pytest.mark.parametrize("name", FILES)
def test_an_exchanged_or_missing_file_is_refused(name, load, saved):
    (saved / name).write_bytes(b"x")
    for spoil in (lambda: (saved / name).write_bytes(b"x"), (saved / name).unlink):
        spoil()
        with pytest.raises(UserError, match=rf"{name}: is missing, damaged or exchanged"):
            load(saved)


@pytest.mark.parametrize(("path", "reason"), [("gone", "no such folder"), ("", "is not a saved")])
def test_a_folder_that_is_not_a_model_is_refused(path, reason, tmp_path):
    with pytest.raises(UserError, match=rf"{reason}.* with model\.keras, model\.tflite and card"):
        load_model(tmp_path / path)


def test_a_model_with_any_augmentation_of_keras_can_be_saved(tmp_path):
    model = build_small(augmentation=keras.layers.RandAugment((0, 255)))
    again = load_model(save_model(model, tmp_path / "model", build_card()))
    expected = model.predict(IMAGES, verbose=0)
    np.testing.assert_allclose(again.probabilities(IMAGES), expected, atol=1e-5)


def test_a_layer_that_keras_does_not_load_in_its_safe_mode_is_refused(tmp_path):
    model = build_small(augmentation=keras.layers.Lambda(lambda x: x * 1.0))
    with pytest.raises(UserError, match=r"model\.keras: Keras cannot load it in its safe mode"):
        save_model(model, tmp_path / "model", build_card())
    assert list(tmp_path.iterdir()) == []


def test_a_card_that_does_not_fit_its_model_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not fit its card: expected input"):
        save_model(build_keras(), tmp_path / "other", build_card(image_size=64))
