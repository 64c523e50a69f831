import dataclasses

import keras
import numpy as np
import pytest

from conftest import build_card
from crackclf.ensemble import build_ensemble
from crackclf.errors import UserError
from crackclf.model import build_model
from crackclf.prediction import load_model
from crackclf.saving import load_keras_model, save_model

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
    """The mean of the members' probabilities, each calibrated by its own temperature."""
    answers = [
        load_model(x).card.calibrate(np.log(load_keras_model(x).predict(IMAGES, verbose=0)))
        for x in folders
    ]
    return np.mean(answers, axis=0)


def test_equal_bases_go_in_once(members, ensemble):
    models = [load_keras_model(folder) for folder in members]
    parameters = [model.count_params() for model in models]
    head = models[0].get_layer("probabilities").count_params()
    hidden = parameters[1] - parameters[0]
    assert ensemble.count_params() == pytest.approx(
        parameters[0] + head + hidden + parameters[2],
        abs=50,  # States of random layers.
    )


def test_it_gives_the_mean_of_its_members_and_can_be_saved_evaluated_and_a_member(
    members, ensemble, save_keras, tmp_path
):
    card = dataclasses.replace(CARD, backbone=ensemble.backbone)
    folder = save_model(ensemble, tmp_path / "ensemble", card)
    np.testing.assert_allclose(load_model(folder).probabilities(IMAGES), mean(members), atol=1e-5)
    loaded = load_keras_model(folder)
    assert loaded.backbone == "2 x one + 1 x other"
    labels = np.eye(2)[[0, 1, 0, 1, 0]]
    assert set(loaded.evaluate(IMAGES, labels, verbose=0, return_dict=True)) == {"loss", "accuracy"}
    nested = [folder, save_keras(tmp_path / "plain", CARD), members[0]]
    found = build_ensemble(nested).predict(IMAGES, verbose=0)
    np.testing.assert_allclose(found, mean(nested), atol=1e-6)


def test_members_that_do_not_fit_are_refused(members, save_keras, tmp_path):
    with pytest.raises(UserError, match="two or more models"):
        build_ensemble(members[:1])
    swapped = dataclasses.replace(CARD, class_names=("Positive", "Negative"))
    save_keras(tmp_path / "swapped", swapped)
    with pytest.raises(UserError, match="same classes and image size"):
        build_ensemble([members[0], tmp_path / "swapped"])


def test_a_notice_names_members_of_different_splits(members, save_keras, tmp_path, capsys):
    save_keras(tmp_path / "strange", build_card(data_fingerprint="another"))
    build_ensemble([members[0], tmp_path / "strange"])
    assert "one may have seen the test images of another" in capsys.readouterr().err
