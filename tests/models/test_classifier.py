import keras
import numpy as np
import pytest

from crackclf.errors import UserError
from crackclf.models.classifier import build_model

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return build_model(image_size=32, weights="random")


def test_bytes_and_floats_give_the_same_probabilities(model):
    probabilities = model.predict(IMAGES, verbose=0)
    assert probabilities.shape == (4, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    floats = model.predict(IMAGES.astype("float32"), verbose=0)
    np.testing.assert_array_equal(probabilities, floats)


def test_only_the_head_is_trained_and_the_base_keeps_its_statistics(model):
    assert [weight.path for weight in model.trainable_weights] == [
        "probabilities/kernel",
        "probabilities/bias",
    ]
    base = model.get_layer("mobilenetv2")
    before = [weight.copy() for weight in base.get_weights()]
    head = model.get_layer("probabilities").get_weights()[0].copy()
    model.fit(IMAGES, keras.utils.to_categorical([0, 1, 0, 1], 2), epochs=2, verbose=0)
    for old, new in zip(before, base.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert (head != model.get_layer("probabilities").get_weights()[0]).any()


def test_preprocessing_is_applied_once_and_inside(model):
    x = model.get_layer("preprocessing")(np.array([0.0, 255.0], np.float32))
    np.testing.assert_allclose(x, [-1, 1])
    by_hand = model.get_layer("mobilenetv2")(IMAGES / 127.5 - 1.0, training=False)
    for name in ("pooling", "probabilities"):
        by_hand = model.get_layer(name)(by_hand)
    np.testing.assert_allclose(by_hand, model(IMAGES, training=False), atol=1e-4)


def test_it_is_compiled_with_adam_cross_entropy_and_accuracy(model):
    assert isinstance(model.optimizer, keras.optimizers.Adam)
    assert isinstance(model.loss, keras.losses.CategoricalCrossentropy)
    assert set(model.evaluate(IMAGES, np.eye(2)[[0, 1, 0, 1]], verbose=0, return_dict=True)) == {
        "loss",
        "accuracy",
    }


def test_the_same_global_seed_builds_the_same_head(tiny):
    heads = []
    for _ in range(2):
        keras.utils.set_random_seed(7)
        model = build_model(32, tiny, weights="random")
        heads.append(model.get_layer("probabilities").get_weights()[0])
    np.testing.assert_array_equal(*heads)


def test_remedies_against_overfitting_are_arguments(tiny):
    arguments = {"hidden_units": 16, "dropout": 0.5, "weight_decay": 0.1, "label_smoothing": 0.2}
    model = build_model(32, tiny, weights="random", **arguments)
    assert model.get_layer("hidden").units == 16
    assert model.get_layer("dropout").rate == 0.5
    assert model.optimizer.weight_decay == 0.1
    labels = np.eye(2, dtype=np.float32)[[0, 1]]
    assert float(model.loss(labels, labels)) > 0.1  # Right and sure is no longer free of loss.


@pytest.mark.parametrize(
    "argument", [{"dropout": 1.0}, {"label_smoothing": -0.1}, {"weight_decay": -1}]
)
def test_a_remedy_out_of_range_is_refused(argument):
    with pytest.raises(UserError, match=next(iter(argument))):
        build_model(32, weights="random", **argument)
