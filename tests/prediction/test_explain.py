import dataclasses

import keras
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from conftest import build_card
from crackclf.errors import UserError
from crackclf.prediction.classifier import Classifier, from_keras, load_model
from crackclf.prediction.explain import explain
from crackclf.sample.make import make_patch
from crackclf.saved.store import save_model
from several import CARD, SEVERAL, answer

L = keras.layers
DARK = np.full((64, 96, 3), 230, np.uint8)  # The model's cells are of 8 x 12 pixels here.
DARK[16:48, 48:84] = 10
INSIDE, OUTSIDE = np.s_[22:42, 54:78], np.s_[:, :36]


def build(hidden: bool = False, members: int = 1, certainty: float = 1.0) -> keras.Model:
    """Of two feature maps, how dark an image is and how bright, in cells of 4 x 4 pixels."""
    inputs = keras.Input((32, 32, 3))
    convolution, head = L.Conv2D(2, 4, 4, activation="relu"), L.Dense(2, activation="softmax")
    x = L.GlobalAveragePooling2D()(convolution(inputs))
    if hidden:
        x = L.Dense(2, "relu", kernel_initializer="identity")(x)
    outputs = [head(x) for _ in range(members)]
    mean = np.full((4, 4, 3, 1), 1 / 48)
    convolution.set_weights([np.concatenate([-mean, mean], axis=3), np.array([128.0, -128.0])])
    head.set_weights([certainty * np.array([[-0.02, 0.02], [0.02, -0.02]]), np.zeros(2)])
    return keras.Model(inputs, outputs[0] if members == 1 else L.Average()(outputs))


@pytest.fixture(scope="module")
def cells():
    return from_keras(build(), build_card())


def test_the_evidence_lies_where_the_dark_place_is(cells):
    assert cells.card.cell_size == 4
    evidence = explain(DARK, cells)
    assert (evidence.shape, evidence.dtype) == ((64, 96), np.float32)
    assert (evidence.min(), evidence.max()) == (0, 1)
    assert evidence[INSIDE].min() > 0.8
    assert evidence[OUTSIDE].max() < 0.05


@pytest.mark.parametrize("model", [{"hidden": True}, {"members": 2}])
def test_a_model_without_cells_is_explained_by_covering_its_image(model):
    classifier = from_keras(build(**model), build_card())
    assert classifier.card.cell_size == 0
    evidence = explain(DARK, classifier)
    assert (evidence.shape, evidence.dtype) == ((64, 96), np.float32)
    assert (evidence.min(), evidence.max()) == (0, 1)
    assert evidence[INSIDE].mean() > 0.7
    assert evidence[OUTSIDE].max() < 0.05


def test_it_is_the_evidence_for_the_class_that_means_cracked(cells):
    card = dataclasses.replace(cells.card, positive_class="Negative")
    evidence = explain(DARK, dataclasses.replace(cells, card=card))
    assert evidence[INSIDE].max() < 0.1
    assert evidence[OUTSIDE].min() > 0.8


def test_a_patch_without_evidence_has_none(cells):
    assert explain(np.full((32, 32, 3), 230, np.uint8), cells).max() == 0


def test_a_model_that_is_all_but_certain_can_be_explained(cells):
    certain = from_keras(build(certainty=1000), build_card())
    np.testing.assert_allclose(explain(DARK, certain), explain(DARK, cells), atol=1e-5)


def test_a_file_an_image_and_its_pixels_are_explained_alike(cells, tmp_path):
    Image.fromarray(DARK).save(tmp_path / "dark.png")
    expected = explain(DARK, cells)
    for image in (tmp_path / "dark.png", str(tmp_path / "dark.png"), Image.fromarray(DARK)):
        np.testing.assert_array_equal(explain(image, cells), expected)
    folder = save_model(build(), tmp_path / "model", build_card())
    np.testing.assert_array_equal(explain(DARK, folder), expected)


def test_one_patch_is_explained_at_a_time(cells):
    with pytest.raises(UserError, match=r"expected one patch to explain\. Received: 2 images"):
        explain(np.stack([DARK, DARK]), cells)


def test_the_model_in_the_box_finds_the_evidence_on_the_crack():
    classifier, on, off = load_model(), [], []
    for seed in range(6):
        image, mask = make_patch(np.random.default_rng(seed), cracked=True)
        assert mask.mean() < 1 / 3
        evidence = explain(image, classifier)
        assert evidence.shape == mask.shape
        assert evidence.min() >= 0
        assert evidence.max() == 1
        near = ndimage.binary_dilation(mask, iterations=16)
        on.append(evidence[near].mean())
        off.append(evidence[~near].mean())
    assert sum(x > y for x, y in zip(on, off, strict=True)) >= 5
    assert np.mean(on) > 1.3 * np.mean(off)


def test_what_is_no_classifier_is_refused():
    with pytest.raises(UserError, match="expected a Classifier from load_model"):
        explain(DARK, build())  # pyright: ignore[reportArgumentType]


def test_of_three_classes_it_is_the_evidence_for_the_cracked_one_against_both_others():
    evidence = explain(DARK, SEVERAL)
    assert evidence[INSIDE].mean() > 0.9
    assert evidence[OUTSIDE].max() < 0.05
    whole = Classifier(
        dataclasses.replace(CARD, cell_size=0), lambda x: answer(x).mean((1, 2), keepdims=True)
    )
    covered = explain(DARK, whole)
    assert covered[INSIDE].mean() > 0.7
    assert covered[OUTSIDE].max() < 0.05
