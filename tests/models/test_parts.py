import keras
import numpy as np
import pytest

from crackclf.errors import UserError
from crackclf.features.extract import build_extractor
from crackclf.models.classifier import build_model
from crackclf.models.parts import digest_model, split_model


@pytest.fixture(scope="module")
def model(tiny):
    return build_model(32, tiny, weights="random")


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(0, 255, (6, 32, 32, 3)).astype(np.float32)


def test_frozen_half_and_head_together_are_the_model(model, images):
    _, frozen, head = split_model(model)
    whole = model.predict(images, verbose=0)
    np.testing.assert_allclose(head(frozen(images)), whole, rtol=1e-3)


def test_the_folded_graph_says_what_the_model_says(model, images):
    frozen = split_model(model).frozen
    np.testing.assert_allclose(
        build_extractor(frozen)(images),
        frozen(images, training=False),
        rtol=1e-3,
        atol=2e-3,  # Random weights magnify the last digit.
    )


def test_to_train_the_head_is_to_train_the_model(tiny, images, tmp_path):
    model = build_model(32, tiny, weights="random", learning_rate=0.01)
    _, frozen, head = split_model(model)
    before = model.predict(images, verbose=0)
    head.fit(frozen(images), np.eye(2)[[0, 1] * 3], epochs=3, verbose=0)
    assert np.abs(model.predict(images, verbose=0) - before).max() > 1e-4
    assert int(model.optimizer.iterations) == 3
    assert {weight.path.split("/")[0] for weight in head.weights} == {"probabilities"}
    head.save(tmp_path / "saved.keras")
    saved = keras.saving.load_model(tmp_path / "saved.keras")
    assert saved.input_shape == (None, 32, 32, 3)
    np.testing.assert_allclose(saved.predict(images, verbose=0), head(frozen(images)), rtol=1e-3)


def test_a_model_from_elsewhere_is_named():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="only")])
    with pytest.raises(UserError, match="Received layers: only"):
        split_model(model)


def test_the_digest_knows_weights_and_settings_but_not_names(model, tiny):
    frozen = split_model(model).frozen
    assert digest_model(frozen) == digest_model(split_model(model).frozen)
    assert digest_model(frozen) != digest_model(
        split_model(build_model(64, tiny, weights="random")).frozen
    )
    other = build_model(32, tiny, weights="random")
    kernel = other.get_layer(tiny).weights[0]
    kernel.assign(kernel + 1e-3)
    assert digest_model(frozen) != digest_model(split_model(other).frozen)
    weak, strong = (keras.layers.RandomContrast(x, name=f"c{x}") for x in (0.1, 0.2))
    assert digest_model(weak) != digest_model(strong)
    assert digest_model(weak) == digest_model(keras.layers.RandomContrast(0.1))
