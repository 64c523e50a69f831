import dataclasses
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest

from crackclf.errors import UserError
from crackclf.models.card import Card
from crackclf.models.classifier import build_model
from crackclf.models.ensemble import build_ensemble
from crackclf.models.saving import Classifier, load_model, save_model

IMAGES = np.random.default_rng(0).uniform(0, 255, (5, 32, 32, 3)).astype(np.float32)
CARD = Card(("Negative", "Positive"), "Positive", image_size=32, backbone="mobilenetv2")


@pytest.fixture(scope="module")
def members() -> list[Classifier]:
    """Two heads on one base, one of them calibrated, and a model of another base."""
    first = build_model(32, weights="concrete")
    second = build_model(32, weights="concrete", hidden_units=8)
    other = build_model(32, "vgg16-block4", weights=None)
    calibrated = dataclasses.replace(CARD, temperature=1.7)
    vgg16 = dataclasses.replace(CARD, backbone="vgg16-block4")
    return [Classifier(first, CARD), Classifier(second, calibrated), Classifier(other, vgg16)]


@pytest.fixture(scope="module")
def ensemble(members) -> keras.Model:
    return build_ensemble(members)


def mean(members) -> np.ndarray:
    return np.mean([member.probabilities(IMAGES) for member in members], axis=0)


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
    np.testing.assert_allclose(np.load(tmp_path / "said.npy"), mean(members), atol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load_model(tmp_path / "ensemble")
    assert loaded.card.backbone == "2 x mobilenetv2 + 1 x vgg16-block4"


def test_equal_bases_go_in_once(members, ensemble):
    parameters = [member.model.count_params() for member in members]
    head = members[0].model.get_layer("probabilities").count_params()
    hidden = members[1].model.count_params() - parameters[0]
    assert ensemble.count_params() == pytest.approx(
        parameters[0] + head + hidden + parameters[2],
        abs=50,  # States of random layers.
    )
    assert members[0].model.trainable_weights  # It is left as it was.


def test_it_evaluates_and_passes_gradients_to_the_image(ensemble):
    labels = np.eye(2)[[0, 1, 0, 1, 0]]
    assert set(ensemble.evaluate(IMAGES, labels, verbose=0, return_dict=True)) == {
        "loss",
        "accuracy",
    }
    import tensorflow as tf

    with tf.GradientTape() as tape:
        images = tf.Variable(IMAGES)
        said = ensemble(images, training=False)[:, 1]
    assert np.abs(tape.gradient(said, images)).max() > 0


def test_an_ensemble_may_be_a_member_and_so_may_the_model_in_the_box(members, ensemble):
    nested = [Classifier(ensemble, CARD), members[0]]
    np.testing.assert_allclose(
        build_ensemble(nested).predict(IMAGES, verbose=0), mean(nested), atol=1e-6
    )
    shipped = load_model()
    twice = [shipped, dataclasses.replace(shipped, card=dataclasses.replace(shipped.card))]
    size = shipped.card.image_size
    images = np.random.default_rng(0).uniform(0, 255, (2, size, size, 3)).astype(np.float32)
    said = build_ensemble(twice).predict(images, verbose=0)
    np.testing.assert_allclose(said, shipped.probabilities(images), atol=1e-6)


def test_members_that_do_not_fit_are_refused(members):
    with pytest.raises(UserError, match="two or more models"):
        build_ensemble(members[:1])
    swapped = dataclasses.replace(CARD, class_names=("Positive", "Negative"))
    with pytest.raises(UserError, match="same classes and image size"):
        build_ensemble([members[0], Classifier(members[0].model, swapped)])


def test_members_of_different_splits_are_told_of(members, capsys):
    strange = dataclasses.replace(CARD, data_fingerprint="another")
    build_ensemble([members[0], Classifier(members[0].model, strange)])
    assert "what one was tested on, another may have learnt" in capsys.readouterr().err
