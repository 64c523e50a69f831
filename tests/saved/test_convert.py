import keras
import numpy as np
import pytest

from conftest import build_card, build_keras
from crackclf.models.classifier import build_model
from crackclf.models.ensemble import build_ensemble
from crackclf.prediction.classifier import from_keras
from crackclf.saved.store import save_model

L = keras.layers


def convolve(stride: int = 4, kernel: int = 4, padding: str = "same") -> keras.Layer:
    """A convolution whose features differ from place to place and from image to image."""
    start = keras.initializers.RandomNormal(stddev=0.005, seed=0)
    return L.Conv2D(6, kernel, stride, padding, activation="relu", kernel_initializer=start)


def dense(units: int, activation: str, seed: int = 0) -> keras.Layer:
    start = keras.initializers.RandomNormal(stddev=0.5, seed=seed)
    return L.Dense(units, activation, kernel_initializer=start, bias_initializer=start)


def linear(size: int = 32, **settings) -> keras.Model:
    inputs = keras.Input((size, size, 3))
    pooled = L.GlobalAveragePooling2D()(convolve(**settings)(inputs))
    return keras.Model(inputs, dense(2, "softmax")(L.Dropout(0.5)(pooled)))


def in_a_row(size: int = 32) -> keras.Model:
    layers = [keras.Input((size, size, 3)), convolve(), L.GlobalAveragePooling2D()]
    return keras.Sequential([*layers, dense(2, "softmax")])


def hidden() -> keras.Model:
    inputs = keras.Input((32, 32, 3))
    x = dense(5, "relu")(L.GlobalAveragePooling2D()(convolve()(inputs)))
    return keras.Model(inputs, dense(2, "softmax")(x))


def flattened() -> keras.Model:
    inputs = keras.Input((32, 32, 3))
    return keras.Model(inputs, dense(2, "softmax")(L.Flatten()(convolve()(inputs))))


def mean_of_heads() -> keras.Model:
    inputs = keras.Input((32, 32, 3))
    pooled = L.GlobalAveragePooling2D()(convolve()(inputs))
    heads = [dense(2, "softmax", seed)(pooled) for seed in (0, 1)]
    return keras.Model(inputs, L.Average()(heads))


def squeeze_and_excite(keepdims: bool, stride: int = 2) -> keras.Model:
    """Weighs features by what is in the whole picture, inside a base."""
    image = keras.Input((32, 32, 3))
    early = convolve(stride, stride)(image)
    weights = dense(6, "sigmoid")(L.GlobalAveragePooling2D(keepdims=keepdims)(early))
    weights = weights if keepdims else L.Reshape((1, 1, 6))(weights)
    base = keras.Model(image, L.Conv2D(6, 2, stride, "same")(L.Multiply()([early, weights])))
    inputs = keras.Input((32, 32, 3))
    return keras.Model(inputs, dense(2, "softmax")(L.GlobalAveragePooling2D()(base(inputs))))


def excited_last() -> keras.Model:
    """Weighs its last feature maps by what is in the whole picture."""
    inputs = keras.Input((32, 32, 3))
    maps = convolve()(inputs)
    weights = dense(6, "sigmoid")(L.GlobalAveragePooling2D(keepdims=True)(maps))
    base = keras.Model(inputs, L.Multiply()([maps, weights]))
    images = keras.Input((32, 32, 3))
    return keras.Model(images, dense(2, "softmax")(L.GlobalAveragePooling2D()(base(images))))


def draw(height: int, width: int, count: int = 1) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("build", "cell_size"),
    [
        (linear, 4),
        (in_a_row, 4),
        (build_keras, 1),
        (lambda: linear(30), 4),
        (lambda: in_a_row(34), 4),
        (lambda: build_model(40, "vgg16-block4", None), 16),
        (lambda: build_model(40, "mobilenetv2", "concrete"), 32),
        (hidden, 0),
        (flattened, 0),
        (mean_of_heads, 0),
        (lambda: squeeze_and_excite(keepdims=True), 0),
        (lambda: squeeze_and_excite(keepdims=False), 0),
        # Pooled over the one cell that is left in the end, it gives another answer and no error.
        (lambda: squeeze_and_excite(keepdims=True, stride=8), 0),
        (excited_last, 0),
        (lambda: linear(kernel=5, padding="valid"), 0),  # Cells that do not fill the picture.
    ],
)
def test_a_patch_gets_the_probability_that_keras_gives_it(build, cell_size):
    model = build()
    classifier = from_keras(model, build_card(image_size=model.input_shape[1]))
    assert classifier.card.cell_size == cell_size
    patches = draw(*model.input_shape[1:3], count=5)
    expected = model.predict(patches, verbose=0)
    np.testing.assert_allclose(classifier.probabilities(patches), expected, atol=1e-5)


def test_a_patch_gets_the_probability_of_an_ensemble(tmp_path):
    folders = [
        save_model(model, tmp_path / str(i), build_card(temperature=1 + i))
        for i, model in enumerate([linear(), hidden()])
    ]
    ensemble = build_ensemble(folders)
    classifier = from_keras(ensemble, build_card())
    assert classifier.card.cell_size == 0
    expected = ensemble.predict(draw(32, 32, 5), verbose=0)
    np.testing.assert_allclose(classifier.probabilities(draw(32, 32, 5)), expected, atol=1e-5)


def test_each_cell_gets_what_the_head_says_of_its_features():
    model = linear()
    found = from_keras(model, build_card()).graph(picture := draw(48, 80))
    assert (found.shape, found.dtype) == ((1, 12, 20, 2), np.float32)
    (kernel, bias), (head, head_bias) = (x.get_weights() for x in model.layers if x.get_weights())
    blocks = picture[0].reshape(12, 4, 20, 4, 3).swapaxes(1, 2).reshape(12, 20, 48)
    features = np.maximum(blocks @ kernel.reshape(48, 6) + bias, 0)
    expected = features @ head + head_bias
    assert expected.std() > 0.1
    np.testing.assert_allclose(found[0], expected, atol=1e-4)


def test_the_edge_of_a_picture_is_like_its_middle():
    found = from_keras(linear(), build_card()).graph(np.full((1, 40, 60, 3), 200, np.uint8))
    np.testing.assert_allclose(found, np.broadcast_to(found[:, :1, :1], found.shape), atol=1e-5)


def test_pictures_of_several_sizes_are_answered_one_after_another():
    graph = from_keras(linear(), build_card()).graph
    picture = draw(64, 64)
    whole = graph(picture)
    np.testing.assert_allclose(graph(picture[:, :40, :48]), whole[:, :10, :12], atol=1e-4)
    np.testing.assert_array_equal(graph(picture), whole)


@pytest.mark.parametrize("size", [32, 30])
def test_cells_are_counted_right_for_patches_that_hold_no_whole_number_of_them(size):
    classifier = from_keras(linear(size), build_card(image_size=size))
    assert classifier.card.cell_size == 4
    assert classifier.graph(draw(40, 64)).shape == (1, 10, 16, 2)


def test_a_graph_that_answers_for_patches_only_takes_no_other_size():
    classifier = from_keras(hidden(), build_card())
    assert classifier.graph.input_shape == (-1, 32, 32, 3)
    assert classifier.graph(draw(32, 32, 5)).shape == (5, 1, 1, 2)
