import dataclasses
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest

from conftest import build_card
from crackclf.errors import UserError
from crackclf.models.classifier import build_model
from crackclf.models.ensemble import build_ensemble
from crackclf.prediction.classifier import load_model
from crackclf.saved.store import load_keras_model, save_model
from several import CARD as OF_THREE
from several import build_several

IMAGES = np.random.default_rng(0).uniform(0, 255, (5, 32, 32, 3)).astype(np.float32)
CARD = build_card(backbone="one")


@pytest.fixture(scope="module")
def members(tiny, tmp_path_factory):
    """Folders of two heads on one base, one of them calibrated, and of a model of another base."""
    folder = tmp_path_factory.mktemp("members")
    first = build_model(32, tiny, weights="random")
    second = build_model(32, tiny, weights="random", hidden_units=8)
    other = build_model(32, tiny, weights="random", seed=1)
    return [
        save_model(first, folder / "first", CARD),
        save_model(second, folder / "second", dataclasses.replace(CARD, temperature=1.7)),
        save_model(other, folder / "other", dataclasses.replace(CARD, backbone="other")),
    ]


@pytest.fixture(scope="module")
def ensemble(members) -> keras.Model:
    return build_ensemble(members)


def mean(folders) -> np.ndarray:
    """What the members' Keras models say on average, each by its own temperature."""
    said = [
        load_model(x).card.calibrate(np.log(load_keras_model(x).predict(IMAGES, verbose=0)))
        for x in folders
    ]
    return np.mean(said, axis=0)


def test_it_says_what_its_members_say_on_average(members, ensemble):
    np.testing.assert_allclose(ensemble.predict(IMAGES, verbose=0), mean(members), atol=1e-6)


def test_loaded_in_another_process_it_says_the_same(members, ensemble, tmp_path):
    card = dataclasses.replace(CARD, backbone=ensemble.backbone)
    save_model(ensemble, tmp_path / "ensemble", card)
    np.save(tmp_path / "images.npy", IMAGES)
    script = (
        "import numpy as np, crackclf\n"
        "classifier = crackclf.load_model('ensemble')\n"
        "np.save('said.npy', classifier.probabilities(np.load('images.npy')))\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "said.npy"), mean(members), atol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load_keras_model(tmp_path / "ensemble")
    assert loaded.backbone == "2 x one + 1 x other"
    np.testing.assert_allclose(loaded.predict(IMAGES, verbose=0), mean(members), atol=1e-6)


def test_equal_bases_go_in_once(members, ensemble):
    models = [load_keras_model(folder) for folder in members]
    parameters = [model.count_params() for model in models]
    head = models[0].get_layer("probabilities").count_params()
    hidden = parameters[1] - parameters[0]
    assert ensemble.count_params() == pytest.approx(
        parameters[0] + head + hidden + parameters[2],
        abs=50,  # States of random layers.
    )


def test_it_evaluates_and_passes_gradients_to_the_image(ensemble):
    import tensorflow as tf

    labels = np.eye(2)[[0, 1, 0, 1, 0]]
    figures = ensemble.evaluate(IMAGES, labels, verbose=0, return_dict=True)
    assert set(figures) == {"loss", "accuracy"}
    with tf.GradientTape() as tape:
        images = tf.Variable(IMAGES)
        said = ensemble(images, training=False)[:, 1]
    assert np.abs(tape.gradient(said, images)).max() > 0


def test_an_ensemble_and_a_model_of_other_layers_may_be_members(
    members, ensemble, save_keras, tmp_path
):
    nested = [
        save_model(ensemble, tmp_path / "ensemble", CARD),
        save_keras(tmp_path / "plain", CARD),
        members[0],
    ]
    found = build_ensemble(nested).predict(IMAGES, verbose=0)
    np.testing.assert_allclose(found, mean(nested), atol=1e-6)


def test_members_that_do_not_fit_are_refused(members, save_keras, tmp_path):
    with pytest.raises(UserError, match="two or more models"):
        build_ensemble(members[:1])
    swapped = dataclasses.replace(CARD, class_names=("Positive", "Negative"))
    save_keras(tmp_path / "swapped", swapped)
    with pytest.raises(UserError, match="same classes and image size"):
        build_ensemble([members[0], tmp_path / "swapped"])


def test_members_of_different_splits_are_told_of(members, save_keras, tmp_path, capsys):
    strange = build_card(data_fingerprint="another")
    save_keras(tmp_path / "strange", strange)
    build_ensemble([members[0], tmp_path / "strange"])
    assert "one may have seen the test images of another" in capsys.readouterr().err


def test_members_of_three_classes_are_averaged_each_by_its_own_temperature(tmp_path):
    folders = [
        save_model(build_several(), tmp_path / str(x), dataclasses.replace(OF_THREE, temperature=x))
        for x in (1.0, 2.0)
    ]
    found = build_ensemble(folders).predict(IMAGES, verbose=0)
    np.testing.assert_allclose(found, mean(folders), atol=1e-6)
    assert found.shape == (5, 3)
