import dataclasses

import keras
import numpy as np
import pytest

from crackclf.errors import UserError
from crackclf.models.classifier import build_model
from crackclf.models.dense import build_dense
from crackclf.models.ensemble import build_ensemble
from crackclf.models.saving import Classifier, apply_temperature

L = keras.layers


@pytest.fixture
def parts():
    """The layers of a small network, whose answers differ from place to place."""
    keras.utils.set_random_seed(0)
    convolution = L.Conv2D(6, 4, 4, "same", activation="relu")
    hidden = L.Dense(5, activation="relu")
    head = L.Dense(2, activation="softmax")
    inputs = keras.Input((32, 32, 3))
    head(hidden(L.GlobalAveragePooling2D()(convolution(inputs))))
    rng = np.random.default_rng(0)
    kernel = rng.normal(0, 0.005, (4, 4, 3, 6))
    convolution.set_weights([kernel - kernel.mean(axis=(0, 1, 2)), np.zeros(6)])
    hidden.set_weights([rng.normal(size=(6, 5)), rng.normal(size=5)])
    head.set_weights([rng.normal(0, 0.5, (5, 2)), np.zeros(2)])
    return convolution, hidden, head


def build_plain(parts) -> keras.Model:
    convolution, hidden, head = parts
    inputs = keras.Input((32, 32, 3))
    return keras.Model(inputs, head(hidden(L.GlobalAveragePooling2D()(convolution(inputs)))))


def draw(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)


def test_each_cell_is_told_what_the_head_says_of_the_mean_of_the_features_around_it(parts):
    dense = build_dense(build_plain(parts))
    assert (dense.stride, dense.window) == (4, 5)
    picture = draw(48, 80)
    found = dense.probabilities(picture)
    assert found.shape == (12, 20, 2)
    assert found.dtype == np.float32

    (kernel, bias), (kernel_2, bias_2), (kernel_3, bias_3) = (x.get_weights() for x in parts)
    blocks = picture.reshape(12, 4, 20, 4, 3).swapaxes(1, 2).reshape(12, 20, 48)
    features = np.maximum(blocks @ kernel.reshape(48, 6) + bias, 0)
    windows = np.lib.stride_tricks.sliding_window_view(features, (5, 5), axis=(0, 1))
    odds = np.maximum(windows.mean(axis=(3, 4)) @ kernel_2 + bias_2, 0) @ kernel_3 + bias_3
    expected = np.exp(odds) / np.exp(odds).sum(axis=-1, keepdims=True)
    assert expected[..., 0].std() > 0.01
    np.testing.assert_allclose(found[2:-2, 2:-2], expected, atol=1e-4)


def test_the_edge_of_a_picture_is_no_dark_frame(classifier):
    said = classifier.dense.probabilities(np.full((40, 60, 3), 200, np.uint8))
    np.testing.assert_allclose(said, np.broadcast_to(said[20, 30], said.shape), atol=1e-5)


def test_pictures_of_several_sizes_can_be_asked_one_after_another(parts):
    dense = build_dense(build_plain(parts))
    picture = draw(64, 64)
    whole = dense.probabilities(picture)
    part = dense.probabilities(picture[:40, :48])
    # As far as neither knows of its edge.
    np.testing.assert_allclose(part[:8, :10], whole[:8, :10], atol=1e-4)


def test_a_mean_over_mirrored_views_is_asked_upright_only(parts):
    convolution, hidden, head = parts
    inputs = keras.Input((32, 32, 3))
    image = L.Rescaling(1.0)(inputs)
    views = [image, keras.ops.flip(image, axis=1), keras.ops.transpose(image, (0, 2, 1, 3))]
    answers = [head(hidden(L.GlobalAveragePooling2D()(convolution(view)))) for view in views]
    mirrored, plain = keras.Model(inputs, L.Average()(answers)), build_plain(parts)
    patch = draw(32, 32)[None].astype("float32")
    assert np.abs(np.asarray(mirrored(patch)) - np.asarray(plain(patch))).max() > 1e-3
    picture = draw(40, 64)
    np.testing.assert_allclose(
        build_dense(mirrored).probabilities(picture),
        build_dense(plain).probabilities(picture),
        atol=1e-5,
    )


def test_the_mean_of_several_models_is_not_taken_for_one_of_mirrored_views(parts):
    convolution, hidden, head = parts
    other = L.Dense(2, activation="softmax")
    inputs = keras.Input((32, 32, 3))
    x = hidden(L.GlobalAveragePooling2D()(convolution(inputs)))
    both = build_dense(keras.Model(inputs, L.Average()([head(x), other(x)])))
    alone = build_dense(keras.Model(inputs, other(x)))
    picture = draw(40, 64)
    expected = build_dense(build_plain(parts)).probabilities(picture)
    expected = (expected + alone.probabilities(picture)) / 2
    np.testing.assert_allclose(both.probabilities(picture), expected, atol=1e-5)


def squeeze_and_excite(parts, keepdims: bool, stride: int = 2) -> keras.Model:
    """Weighs features by what is in the whole picture, inside a base."""
    image = keras.Input((32, 32, 3))
    early = L.Conv2D(6, stride, stride, activation="relu")(image)
    weights = L.Dense(6, activation="sigmoid")(L.GlobalAveragePooling2D(keepdims=keepdims)(early))
    weights = weights if keepdims else L.Reshape((1, 1, 6))(weights)
    base = keras.Model(image, L.Conv2D(6, 2, stride, "same")(L.Multiply()([early, weights])))
    _, hidden, head = parts
    inputs = keras.Input((32, 32, 3))
    return keras.Model(inputs, head(hidden(L.GlobalAveragePooling2D()(base(inputs)))))


def flattened(parts) -> keras.Model:
    convolution, *_ = parts
    inputs = keras.Input((32, 32, 3))
    return keras.Model(inputs, L.Dense(2, activation="softmax")(L.Flatten()(convolution(inputs))))


@pytest.mark.parametrize(
    "build",
    [
        lambda parts: squeeze_and_excite(parts, keepdims=True),
        lambda parts: squeeze_and_excite(parts, keepdims=False),
        # Pooled over the one cell that is left in the end, it gives another answer and no error.
        lambda parts: squeeze_and_excite(parts, keepdims=True, stride=8),
        flattened,
    ],
)
def test_a_model_that_does_not_pool_its_features_by_their_mean_is_refused(parts, build):
    with pytest.raises(UserError, match="cannot be made fully convolutional"):
        build_dense(build(parts))


@pytest.mark.parametrize("size", [32, 30])
def test_cells_are_counted_right_for_patches_that_hold_no_whole_number_of_them(size):
    inputs = keras.Input((size, size, 3))
    x = L.Conv2D(2, 4, 4, "same")(inputs)
    outputs = L.Dense(2, activation="softmax")(L.GlobalAveragePooling2D()(x))
    dense = build_dense(keras.Model(inputs, outputs))
    assert dense.stride == 4
    assert dense.probabilities(draw(40, 64)).shape == (10, 16, 2)


def test_cells_that_do_not_fill_the_picture_are_refused():
    inputs = keras.Input((32, 32, 3))
    x = L.Conv2D(2, 5, 4, "valid")(inputs)
    outputs = L.Dense(2, activation="softmax")(L.GlobalAveragePooling2D()(x))
    with pytest.raises(UserError, match="fully convolutional"):
        build_dense(keras.Model(inputs, outputs))


def test_a_base_that_weighs_its_last_maps_by_all_of_the_image_is_refused():
    inputs = keras.Input((32, 32, 3))
    maps = L.Conv2D(4, 4, 4, "same")(inputs)
    weights = L.Dense(4, activation="sigmoid")(L.GlobalAveragePooling2D(keepdims=True)(maps))
    base = keras.Model(inputs, L.Multiply()([maps, weights]))
    images = keras.Input((32, 32, 3))
    x = L.GlobalAveragePooling2D()(base(images))
    with pytest.raises(UserError, match="fully convolutional"):
        build_dense(keras.Model(images, L.Dense(2, activation="softmax")(x)))


def test_an_ensemble_is_asked_as_its_members_are(classifier):
    cards = [classifier.card, dataclasses.replace(classifier.card, temperature=2.0)]
    models = [build_model(32, "vgg16-block4", None) for _ in cards]
    members = [Classifier(*pair) for pair in zip(models, cards, strict=True)]
    picture = draw(48, 64)
    expected = np.mean(
        [
            apply_temperature(
                member.dense.probabilities(picture).reshape(-1, 2), member.card.temperature
            )
            for member in members
        ],
        axis=0,
    )
    found = build_dense(build_ensemble(members)).probabilities(picture)
    np.testing.assert_allclose(found.reshape(-1, 2), expected, atol=1e-4)
