import keras
import numpy as np
import pytest

from crackclf.augmentation import build_augmentation
from crackclf.errors import UserError
from crackclf.model import build_model, digest_model, split_model, unfreeze
from crackclf.saving import load_keras_model

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
LABELS = np.eye(2, dtype=np.float32)[[0, 1, 0, 1]]


@pytest.fixture
def model(tiny) -> keras.Model:
    return build_model(32, tiny, weights="random", learning_rate=0.01)


def read_weights(model: keras.Model) -> dict[str, np.ndarray]:
    return {weight.path: weight.numpy() for weight in model.weights}


def test_bytes_and_floats_give_the_same_probabilities(model):
    probabilities = model.predict(IMAGES, verbose=0)
    assert probabilities.shape == (4, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    floats = model.predict(IMAGES.astype("float32"), verbose=0)
    np.testing.assert_array_equal(probabilities, floats)


def test_training_changes_the_head_and_leaves_the_base_with_its_statistics(model, tiny):
    base, before = model.get_layer(tiny), read_weights(model)
    model.fit(IMAGES, LABELS, epochs=2, verbose=0)
    after = read_weights(model)
    assert (before["probabilities/kernel"] != after["probabilities/kernel"]).any()
    for weight in base.weights:
        np.testing.assert_array_equal(before[weight.path], after[weight.path])


def test_the_same_seed_builds_the_same_head(tiny):
    heads = [
        build_model(32, tiny, weights="random", seed=seed).get_layer("probabilities").get_weights()
        for seed in (7, 7, 8)
    ]
    np.testing.assert_array_equal(heads[0][0], heads[1][0])
    assert (heads[0][0] != heads[2][0]).any()


def test_remedies_against_overfitting_are_arguments(tiny):
    arguments = {"hidden_units": 16, "dropout": 0.5, "weight_decay": 0.1, "label_smoothing": 0.2}
    model = build_model(32, tiny, weights="random", **arguments)
    assert model.get_layer("hidden").units == 16
    assert model.get_layer("dropout").rate == 0.5
    assert model.optimizer.weight_decay == 0.1
    assert float(model.loss(LABELS, LABELS)) > 0.1  # Sure answers that are right still cost.


@pytest.mark.parametrize(
    "argument", [{"dropout": 1.0}, {"label_smoothing": -0.1}, {"weight_decay": -1}, {"classes": 1}]
)
def test_an_argument_out_of_range_is_refused(argument):
    with pytest.raises(UserError, match=next(iter(argument))):
        build_model(32, weights="random", **argument)


def test_a_policy_of_16_bits_is_named(tiny):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        with pytest.raises(UserError, match=r"float32.*mixed_float16"):
            build_model(32, tiny, weights="random")
    finally:
        keras.config.set_dtype_policy("float32")


class Unregistered(keras.layers.Layer):
    def call(self, inputs):
        return inputs + 1.0


def test_any_layer_that_keras_can_save_may_augment(tiny):
    model = build_model(32, tiny, "random", augmentation=keras.layers.RandomFlip())
    assert isinstance(split_model(model).augmentation, keras.layers.RandomFlip)
    for layer in (Unregistered(), keras.layers.Lambda(lambda images: images)):
        with pytest.raises(UserError, match="augmentation must be a layer that Keras can save"):
            build_model(32, tiny, "random", augmentation=layer)


def test_a_model_without_augmentation_is_taken_apart_too():
    model = load_keras_model()
    model.get_layer("efficientnetlite0").trainable = False
    images = np.random.default_rng(0).uniform(0, 255, (2, *model.input_shape[1:]))
    augmentation, frozen, head = split_model(model)
    np.testing.assert_array_equal(augmentation(images), images.astype(np.float32))
    np.testing.assert_allclose(head(frozen(images)), model(images, training=False), atol=1e-5)


def test_to_train_the_head_is_to_train_and_to_save_the_model(model, tmp_path):
    _, frozen, head = split_model(model)
    features, before = frozen(IMAGES), model.predict(IMAGES, verbose=0)
    np.testing.assert_allclose(head(features), before, rtol=1e-3)
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "best.keras")
    head.fit(features, LABELS, epochs=3, verbose=0, callbacks=[checkpoint])
    assert np.abs(model.predict(IMAGES, verbose=0) - before).max() > 1e-4
    assert int(model.optimizer.iterations) == 3
    assert {weight.path.split("/")[0] for weight in head.weights} == {"probabilities"}
    saved = keras.saving.load_model(tmp_path / "best.keras")
    assert saved.input_shape == (None, 32, 32, 3)
    np.testing.assert_allclose(saved.predict(IMAGES, verbose=0), head(features), rtol=1e-3)


def test_a_model_from_elsewhere_is_named():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="only")])
    with pytest.raises(UserError, match="Received layers: only"):
        split_model(model)


def test_the_digest_covers_weights_and_settings_but_not_names(model, tiny):
    frozen = split_model(model).frozen
    assert digest_model(frozen) == digest_model(split_model(model).frozen)
    larger = build_model(64, tiny, weights="random")
    assert digest_model(frozen) != digest_model(split_model(larger).frozen)
    other = build_model(32, tiny, weights="random")
    assert digest_model(frozen) == digest_model(split_model(other).frozen)
    kernel = other.get_layer(tiny).weights[0]
    kernel.assign(kernel + 1e-3)
    assert digest_model(frozen) != digest_model(split_model(other).frozen)
    assert digest_model(build_augmentation()) == digest_model(build_augmentation())
    assert digest_model(build_augmentation()) != digest_model(build_augmentation(0.5))


@pytest.fixture(scope="module")
def tuned(tiny):
    """A model trained for three steps with its last block open; its weights before that."""
    model = build_model(32, tiny, weights="random", label_smoothing=0.1, weight_decay=0.01)
    unfreeze(model, learning_rate=1e-2)
    before = read_weights(model)
    model.fit(IMAGES, LABELS, epochs=3, verbose=0)
    return model, before


def test_the_last_block_learns_but_for_its_batch_normalization(tuned, tiny):
    model, before = tuned
    after = read_weights(model)
    changed = {
        w.path for w in model.get_layer(tiny).weights if (before[w.path] != after[w.path]).any()
    }
    assert changed == {"block2_conv/kernel"}


def test_optimizer_loss_and_metrics_stay_but_for_the_learning_rate(tuned):
    model, _ = tuned
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-2)
    assert model.optimizer.weight_decay == 0.01
    assert model.loss.label_smoothing == 0.1
    assert set(model.evaluate(IMAGES, LABELS, verbose=0, return_dict=True)) == {"loss", "accuracy"}


def test_its_features_are_the_input_of_the_first_open_block_once_saved_too(tuned, tmp_path):
    model, _ = tuned
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    expected = model(IMAGES, training=False)
    for opened in (model, again):
        _, frozen, head = split_model(opened)
        assert frozen.output_shape == (None, 8, 8, 8)
        assert len(head.trainable_weights) == 3
        np.testing.assert_allclose(head(frozen(IMAGES)), expected, atol=1e-4)


def test_more_blocks_than_there_are_and_features_of_an_open_base_are_refused(model):
    with pytest.raises(UserError, match="from 1 to 2, the number of blocks of tiny"):
        unfreeze(model, blocks=3)
    unfreeze(model, blocks=2)
    with pytest.raises(UserError, match="at least its beginning"):
        split_model(model)
