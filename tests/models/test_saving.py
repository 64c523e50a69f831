import json
import shutil

import keras
import numpy as np
import pytest
from matplotlib.figure import Figure

from crackclf.errors import UserError
from crackclf.models.card import Card
from crackclf.models.saving import Classifier, load_model, save_model

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)


@pytest.fixture
def saved(classifier, tmp_path):
    save_model(
        classifier.model,
        tmp_path / "models" / "first",
        classifier.card,
        files={"history.csv": "epoch,loss\n0,1.0\n"},
        figures={"curves": Figure()},
    )
    return tmp_path / "models" / "first"


def test_a_saved_model_comes_back_whole(saved, classifier):
    again = load_model(saved)
    np.testing.assert_array_equal(
        again.model.predict(IMAGES, verbose=0), classifier.model.predict(IMAGES, verbose=0)
    )
    assert again.card.class_names == ("Negative", "Positive")
    assert set(again.card.versions) == {"crackclf", "keras", "tensorflow", "numpy"}
    assert {path.name for path in saved.iterdir()} == {
        "model.keras",
        "card.json",
        "history.csv",
        "curves.png",
    }
    assert list(saved.parent.iterdir()) == [saved]


def test_plain_keras_can_load_it_too(saved):
    assert keras.saving.load_model(saved / "model.keras").output_shape == (None, 2)


def test_a_model_is_never_overwritten(saved, classifier):
    before = (saved / "card.json").read_bytes()
    with pytest.raises(UserError, match="overwrites no model"):
        save_model(classifier.model, saved, classifier.card)
    assert (saved / "card.json").read_bytes() == before


def test_a_save_that_fails_leaves_nothing_behind(classifier, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(classifier.model, "save", full)
    with pytest.raises(UserError, match=r"could not be saved.*No space left"):
        save_model(classifier.model, tmp_path / "models" / "b", classifier.card)
    assert list((tmp_path / "models").iterdir()) == []


def test_a_full_disk_costs_no_model(classifier, small_disk):
    first = small_disk / "models" / "first"
    save_model(classifier.model, first, classifier.card)
    before = {path.name: path.read_bytes() for path in first.iterdir()}
    for free in range(0, 16_000, 2000):  # Full at each stage of the writing.
        hog = small_disk / "hog"
        hog.write_bytes(bytes(shutil.disk_usage(small_disk).free - free))
        with pytest.raises(UserError, match=r"second: the model could not be saved.*No space left"):
            save_model(classifier.model, small_disk / "models" / "second", classifier.card)
        hog.unlink()
        assert list((small_disk / "models").iterdir()) == [first]
    assert {path.name: path.read_bytes() for path in first.iterdir()} == before
    save_model(classifier.model, small_disk / "models" / "second", classifier.card)


def test_what_a_kill_left_half_written_is_cleared_away(classifier, tmp_path):
    (tmp_path / ".first.tmp").mkdir()
    (tmp_path / ".first.tmp" / "model.keras").write_bytes(b"half")
    save_model(classifier.model, tmp_path / "first", classifier.card)
    assert list(tmp_path.iterdir()) == [tmp_path / "first"]


def test_an_exchanged_model_file_is_noticed(saved):
    with (saved / "model.keras").open("ab") as file:
        file.write(b"x")
    with pytest.raises(UserError, match="sha256"):
        load_model(saved)


def test_code_in_a_model_is_not_run(classifier, tmp_path):
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Lambda(lambda x: x * 1.0)(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    hostile = keras.Model(inputs, keras.layers.Dense(2)(x))
    with pytest.raises(UserError, match=r"'Lambda' .* harmless"):
        save_model(hostile, tmp_path / "a", classifier.card)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("spoil", ["missing", "empty", "no card"])
def test_a_folder_that_is_no_model_is_named(saved, spoil):
    if spoil == "no card":
        (saved / "card.json").unlink()
    else:
        shutil.rmtree(saved)
    if spoil == "empty":
        saved.mkdir()
    with pytest.raises(
        UserError, match=r"models/first: .*model\.keras or model\.pt and card\.json"
    ):
        load_model(saved)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"class_names": ["a"]}, "class_names"),
        ({"class_names": 3}, "not a crackclf model card"),
        ({"positive_class": "Other"}, "positive_class"),
        ({"threshold": 2}, "threshold"),
        ({"temperature": 0}, "temperature"),
        ({"image_size": "large"}, "image_size"),
        ({"surprise": 1}, "surprise"),
        ({"image_size": 64}, "does not fit its card"),
    ],
)
def test_a_card_that_says_nonsense_is_refused(saved, change, words):
    path = saved / "card.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError, match=words):
        load_model(saved)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3"])
def test_a_card_that_is_no_object_is_refused(saved, text):
    (saved / "card.json").write_text(text)
    with pytest.raises(UserError, match=r"card\.json"):
        load_model(saved)


def test_temperature_softens_and_keeps_the_order(classifier):
    card = Card(("Negative", "Positive"), "Positive", 32, temperature=2.0)
    sharp = classifier.probabilities(IMAGES)
    soft = Classifier(classifier.model, card).probabilities(IMAGES)
    np.testing.assert_allclose(soft.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(
        np.log(soft[:, 0] / soft[:, 1]), np.log(sharp[:, 0] / sharp[:, 1]) / 2, rtol=1e-3
    )
