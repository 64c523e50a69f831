import dataclasses

import keras
import numpy as np
import pytest
from scipy import ndimage

from crackclf.data.sample import make_patch
from crackclf.errors import UserError
from crackclf.evaluation.explanation import explain
from crackclf.models.saving import Classifier, load_model

L = keras.layers
DARK = np.full((64, 96, 3), 230, np.uint8)  # The model's cells are of 8 x 12 pixels here.
DARK[16:48, 48:84] = 10
INSIDE, OUTSIDE = np.s_[22:42, 54:78], np.s_[:, :36]


@pytest.fixture
def pooling(classifier):
    """A model of two feature maps, how dark it is and how bright, in cells of 4 x 4 pixels."""
    inputs = keras.Input((32, 32, 3))
    convolution, head = L.Conv2D(2, 4, 4, activation="relu"), L.Dense(2, activation="softmax")
    outputs = head(L.GlobalAveragePooling2D()(convolution(inputs)))
    mean = np.full((4, 4, 3, 1), 1 / 48)
    convolution.set_weights([np.concatenate([-mean, mean], axis=3), np.array([128.0, -128.0])])
    head.set_weights([np.array([[-0.02, 0.02], [0.02, -0.02]]), np.zeros(2)])
    return Classifier(keras.Model(inputs, outputs), classifier.card)


def test_the_evidence_lies_where_the_feature_that_speaks_for_a_crack_is(pooling):
    evidence = explain(DARK, pooling)
    assert (evidence.shape, evidence.dtype) == ((64, 96), np.float32)
    assert (evidence.min(), evidence.max()) == (0, 1)
    assert evidence[INSIDE].min() > 0.8
    assert evidence[OUTSIDE].max() < 0.05


def test_it_is_the_evidence_for_the_class_that_means_cracked(pooling):
    card = dataclasses.replace(pooling.card, positive_class="Negative")
    evidence = explain(DARK, dataclasses.replace(pooling, card=card))
    assert evidence[INSIDE].max() < 0.1
    assert evidence[OUTSIDE].min() > 0.8


def test_a_patch_without_evidence_has_none(pooling):
    assert explain(np.full((32, 32, 3), 230, np.uint8), pooling).max() == 0


def test_a_frozen_base_can_be_explained(pooling):
    expected = explain(DARK, pooling)
    pooling.model.trainable = False
    np.testing.assert_allclose(explain(DARK, pooling), expected, atol=1e-6)


def test_of_a_mean_of_models_nobody_knows_which_maps_to_show(pooling):
    inputs = pooling.model.input
    heads = [L.Dense(2, activation="softmax")(pooling.model.layers[2].output) for _ in range(2)]
    model = keras.Model(inputs, L.Average()(heads))
    with pytest.raises(UserError, match="which feature maps"):
        explain(DARK, Classifier(model, pooling.card))


def test_a_model_that_is_all_but_certain_can_be_explained(pooling):
    expected = explain(DARK, pooling)
    kernel, bias = pooling.model.layers[-1].get_weights()
    pooling.model.layers[-1].set_weights([1000 * kernel, bias])
    np.testing.assert_allclose(explain(DARK, pooling), expected, atol=1e-5)


def test_a_model_that_pools_its_image_has_no_maps_to_show(classifier):
    with pytest.raises(UserError, match="which feature maps"):
        explain(DARK, classifier)


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


def test_a_model_that_does_not_pool_its_features_is_refused(classifier):
    inputs = keras.Input((32, 32, 3))
    model = keras.Model(inputs, L.Dense(2, activation="softmax")(L.Flatten()(inputs)))
    with pytest.raises(UserError, match="global average pooling"):
        explain(DARK, Classifier(model, classifier.card))


def test_what_is_no_keras_model_is_refused(classifier):
    with pytest.raises(UserError, match="expected a Keras model"):
        explain(DARK, Classifier(object(), classifier.card))
