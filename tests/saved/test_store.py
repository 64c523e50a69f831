import functools
import json
import os
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from matplotlib.figure import Figure

from conftest import build_card, build_keras, run, save_noise, sign
from crackclf.errors import UserError
from crackclf.files import sha256
from crackclf.prediction.classifier import load_model
from crackclf.saved.convert import convert_model, freeze, to_litert
from crackclf.saved.store import load_keras_model, open_model, save_model

L = keras.layers
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
FILES = ("model.keras", "model.tflite")


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    return save_model(
        build_keras(),
        tmp_path_factory.mktemp("models") / "first",
        build_card(),
        files={"history.csv": "epoch,loss\n0,1.0\n"},
        figures={"curves": Figure()},
    )


@pytest.fixture
def saved(once, tmp_path):
    return shutil.copytree(once, tmp_path / "models" / "first")


def read_all(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def change_card(folder: Path, **changes) -> None:
    path = folder / "card.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_saved_model_comes_back_whole(saved, once):
    expected = build_keras().predict(IMAGES, verbose=0)
    np.testing.assert_array_equal(load_keras_model(saved).predict(IMAGES, verbose=0), expected)
    again = load_model(saved)
    np.testing.assert_allclose(again.probabilities(IMAGES), expected, atol=1e-5)
    assert again.card.class_names == ("Negative", "Positive")
    assert set(again.card.versions) == {"crackclf", "keras", "tensorflow", "numpy"}
    assert set(read_all(saved)) == {*FILES, "card.json", "history.csv", "curves.png"}
    assert list(once.parent.iterdir()) == [once]


def test_the_card_names_both_files_with_their_sums(saved):
    card = json.loads((saved / "card.json").read_text())
    assert card["sha256"] == {name: sha256(saved / name) for name in FILES}
    assert open_model(saved)[1] == {name: saved / name for name in FILES}
    assert open_model(saved)[0].fingerprint == card["sha256"]["model.keras"]


def test_plain_keras_can_load_it_too(saved):
    assert keras.saving.load_model(saved / "model.keras").output_shape == (None, 2)


def test_a_loaded_keras_model_knows_its_base(tmp_path):
    card = build_card(backbone="tiny", weights_origin="drawn by lot")
    model = load_keras_model(save_model(build_keras(), tmp_path / "model", card))
    assert (model.backbone, model.weights_origin) == ("tiny", "drawn by lot")


def test_a_model_is_never_overwritten(saved):
    before = read_all(saved)
    with pytest.raises(UserError, match="overwrites no model"):
        save_model(build_keras(), saved, build_card())
    assert read_all(saved) == before


def test_a_save_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    model = build_keras()
    monkeypatch.setattr(model, "save", full)
    with pytest.raises(UserError, match=r"could not be saved.*No space left"):
        save_model(model, tmp_path / "models" / "b", build_card())
    assert list((tmp_path / "models").iterdir()) == []


def test_a_full_disk_costs_no_model(small_disk):
    model, first = build_keras(), small_disk / "models" / "first"
    save_model(model, first, build_card())
    before = read_all(first)
    for free in range(0, 20_000, 2000):  # Full at each stage of the writing.
        hog = small_disk / "hog"
        hog.write_bytes(bytes(shutil.disk_usage(small_disk).free - free))
        with pytest.raises(UserError, match=r"second: the model could not be saved.*No space left"):
            save_model(model, small_disk / "models" / "second", build_card())
        hog.unlink()
        assert list((small_disk / "models").iterdir()) == [first]
    assert read_all(first) == before
    save_model(model, small_disk / "models" / "second", build_card())


def test_what_a_kill_left_half_written_is_cleared_away(tmp_path, monkeypatch):
    def stop(path):
        draft = path.parent
        left = shutil.copytree(draft, draft.with_name(f"{draft.stem}-left.tmp"))
        os.utime(left, (0, 0))  # A younger one may be another process' that still writes.
        raise OSError(5, "killed here")

    model = build_keras()
    with monkeypatch.context() as patch:
        patch.setattr(model, "save", stop)
        with pytest.raises(UserError, match="killed here"):
            save_model(model, tmp_path / "first", build_card())
    assert len(list(tmp_path.iterdir())) == 1
    save_model(model, tmp_path / "first", build_card())
    assert list(tmp_path.iterdir()) == [tmp_path / "first"]


@pytest.mark.parametrize("load", [load_model, load_keras_model])
@pytest.mark.parametrize("name", FILES)
def test_an_exchanged_file_is_noticed(name, load, saved):
    with (saved / name).open("ab") as file:
        file.write(b"x")
    with pytest.raises(UserError, match=rf"{name}: is damaged or was exchanged: its sha256"):
        load(saved)


@pytest.mark.parametrize("load", [load_model, load_keras_model])
@pytest.mark.parametrize("name", FILES)
def test_a_folder_with_one_of_the_two_files_is_refused(name, load, saved):
    (saved / name).unlink()
    with pytest.raises(UserError, match=rf"{name}: is missing, though card\.json names it"):
        load(saved)


def test_a_card_that_names_no_file_to_learn_on_is_refused(saved):
    change_card(saved, sha256={"model.tflite": sha256(saved / "model.tflite")})
    with pytest.raises(UserError, match=r"card\.json: names no model\.keras or model\.pt"):
        load_model(saved)


@functools.cache
def convert(function, *shape: int | None) -> bytes:
    return to_litert(freeze(function, tf.TensorSpec(shape, tf.float32)))


def double(x: tf.Tensor) -> tf.Tensor:
    return 2 * x


def cut(x: tf.Tensor) -> tf.Tensor:
    return x[..., :2]


def pool(x: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(x, (1, 2))[:, :2]


OTHERS = {
    "text": (lambda: b"no flatbuffer at all", "is no LiteRT graph"),
    "of vectors": (lambda: convert(double, None, 3), "is no LiteRT graph from float32"),
    "of grey images": (lambda: convert(double, None, None, None, 1), "does not fit"),
    "of larger patches": (lambda: convert(cut, None, 64, 64, 3), "does not fit"),
    "of whole images": (lambda: convert(pool, None, None, None, 3), "does not fit"),
    "of other classes": (lambda: convert(double, None, None, None, 3), "does not fit"),
}


@pytest.mark.parametrize("load", [load_model, load_keras_model])
@pytest.mark.parametrize("name", OTHERS)
def test_a_tflite_of_another_program_is_refused_in_one_message(name, load, saved):
    make, words = OTHERS[name]
    (saved / "model.tflite").write_bytes(make())
    sign(saved)
    with pytest.raises(UserError, match=rf"model\.tflite: .*{words}") as caught:
        load(saved)
    assert len(str(caught.value)) < 400


def test_a_tflite_of_another_model_is_found_when_the_keras_model_is_loaded(saved):
    other = build_keras()
    other.layers[-1].set_weights([-x for x in other.layers[-1].get_weights()])
    (saved / "model.tflite").write_bytes(convert_model(other)[0].content)
    sign(saved)
    load_model(saved)  # Its form is right; only the Keras model tells what it must say.
    with pytest.raises(UserError, match=r"tflite: expected .* the probabilities of model\.keras"):
        load_keras_model(saved)


def test_code_in_a_model_is_not_run(tmp_path):
    inputs = keras.Input((32, 32, 3))
    x = L.GlobalAveragePooling2D()(L.Lambda(lambda x: x * 1.0)(inputs))
    hostile = keras.Model(inputs, L.Dense(2)(x))
    with pytest.raises(UserError, match=r"'Lambda' .* harmless"):
        save_model(hostile, tmp_path / "a", build_card())
    assert not (tmp_path / "a").exists()


def test_a_model_that_litert_cannot_run_is_not_saved(tmp_path):
    inputs = keras.Input((32, 32, 3))
    x = L.GlobalAveragePooling2D()(L.Resizing(32, 32, interpolation="lanczos5")(inputs))
    model = keras.Model(inputs, L.Dense(2, activation="softmax")(x))
    with pytest.raises(UserError, match=r"LiteRT cannot run this model .*ScaleAndTranslate"):
        save_model(model, tmp_path / "a", build_card())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("spoil", ["missing", "empty", "no card"])
def test_a_folder_that_is_no_model_is_named(saved, spoil):
    if spoil == "no card":
        (saved / "card.json").unlink()
    else:
        shutil.rmtree(saved)
    if spoil == "empty":
        saved.mkdir()
    with pytest.raises(
        UserError,
        match=r"models/first: .*model\.keras and model\.tflite, or model\.pt, and card\.json",
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
        ({"temperature": 1e-320}, "temperature"),
        ({"temperature": 10**400}, "temperature"),
        ({"threshold": 10**400}, "threshold"),
        ({"class_names": ["a", "a"]}, "class_names"),
        ({"class_names": ["Positive", "b\x1b[2J"]}, "class_names"),
        ({"patch_size": 10**30}, "patch_size"),
        ({"image_size": 10**9}, "image_size"),
        ({"image_size": "large"}, "image_size"),
        ({"cell_size": -1}, "cell_size"),
        ({"mirrored": True}, "mirrored"),
        ({"sha256": {"model.keras": 7}}, "sha256"),
        ({"surprise": 1}, "surprise"),
        ({"cell_size": 0}, "does not fit its card"),
    ],
)
def test_a_card_that_says_nonsense_is_refused(saved, change, words):
    change_card(saved, **change)
    with pytest.raises(UserError, match=words):
        load_model(saved)


def test_the_sum_of_its_card_tells_whose_model_it_is(saved, monkeypatch, tmp_path, capsys):
    right = sha256(saved / "card.json")
    assert load_model(saved, right.upper()).card == load_model(saved).card
    change_card(saved, threshold=0.01)  # The sums in the card still agree.
    with pytest.raises(UserError, match=r"card\.json: is not the card of the model that was asked"):
        load_model(saved, right)
    save_noise(tmp_path / "a.png", 0)
    asked = ("predict", tmp_path / "a.png", "--model", saved, "--sha256", right)
    assert run(monkeypatch, *asked) == 2
    assert "not the card of the model" in capsys.readouterr().err


def test_a_card_of_another_image_size_is_refused_with_the_keras_model(saved):
    change_card(saved, image_size=64)
    with pytest.raises(UserError, match="does not fit its card"):
        load_keras_model(saved)


def test_a_card_that_says_that_a_patch_is_looked_at_once_is_read(saved):
    expected = load_model(saved).card
    change_card(saved, mirrored=False)
    assert load_model(saved).card == expected


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3"])
def test_a_card_that_is_no_object_is_refused(saved, text):
    (saved / "card.json").write_text(text)
    with pytest.raises(UserError, match=r"card\.json"):
        load_model(saved)


@pytest.fixture
def old(saved, tmp_path, monkeypatch):
    """The same model as version 0.1.0 saved it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (saved / "model.tflite").unlink()
    card = json.loads((saved / "card.json").read_text())
    card |= {"sha256": card["sha256"]["model.keras"], "versions": {"crackclf": "0.1.0"}}
    del card["cell_size"]
    (saved / "card.json").write_text(json.dumps(card))
    return saved


def test_a_folder_of_the_first_version_is_converted_once_and_left_as_it_is(old, tmp_path, capsys):
    before = read_all(old)
    expected = build_keras().predict(IMAGES, verbose=0)
    first = load_model(old)
    np.testing.assert_allclose(first.probabilities(IMAGES), expected, atol=1e-5)
    [line] = capsys.readouterr().err.splitlines()
    assert "was saved by crackclf 0.1.0" in line
    [copy] = (tmp_path / "cache" / "crackclf" / "models").iterdir()
    assert str(copy) in line
    stamps = {path: path.stat().st_mtime_ns for path in copy.iterdir()}
    np.testing.assert_array_equal(
        load_model(old).probabilities(IMAGES), first.probabilities(IMAGES)
    )
    np.testing.assert_array_equal(load_keras_model(old).predict(IMAGES, verbose=0), expected)
    assert {path: path.stat().st_mtime_ns for path in copy.iterdir()} == stamps
    assert capsys.readouterr().err == ""
    assert read_all(old) == before
    assert (copy / "model.keras").read_bytes() == before["model.keras"]
    assert first.card.fingerprint == sha256(old / "model.keras")
    assert first.card.versions == {"crackclf": "0.1.0"}


def test_a_damaged_folder_of_the_first_version_is_not_converted(old, tmp_path):
    with (old / "model.keras").open("ab") as file:
        file.write(b"x")
    with pytest.raises(UserError, match=r"model\.keras: is damaged or was exchanged"):
        load_model(old)
    assert not (tmp_path / "cache").exists()


def test_a_folder_of_the_first_version_needs_a_cache_to_write_to(old, tmp_path):
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot be made .*XDG_CACHE_HOME"):
        load_model(old)
