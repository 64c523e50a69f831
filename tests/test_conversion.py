import keras
import numpy as np
import pytest

from conftest import build_card, build_keras, from_keras
from crackclf.errors import UserError

L, RNG = keras.layers, np.random.default_rng(1)


def convolve(kernel: int = 4, padding: str = "same") -> keras.Layer:
    """A convolution whose features differ from place to place and from image to image."""
    start = keras.initializers.RandomNormal(stddev=0.005, seed=0)
    return L.Conv2D(6, kernel, 4, padding, activation="relu", kernel_initializer=start)


def dense(units: int, activation: str) -> keras.Layer:
    start = keras.initializers.RandomNormal(stddev=0.5, seed=0)
    return L.Dense(units, activation, kernel_initializer=start, bias_initializer=start)


def build(size: int = 32, change=None, pool=None, head=None, **settings) -> keras.Model:
    """By default a convolution, average pooling and a linear head."""
    x = inputs = keras.Input((size, size, 3))
    x = convolve(**settings)(x)
    x = (pool or L.GlobalAveragePooling2D())(change(x) if change else x)
    return keras.Model(inputs, (head or dense(2, "softmax"))(L.Dropout(0.5)(x)))


def in_a_row() -> keras.Model:
    layers = [L.RandomGrayscale(), convolve(), L.GlobalAveragePooling2D(), dense(2, "softmax")]
    return keras.Sequential([keras.Input((34, 34, 3)), *layers])


def with_hidden_layer(x):
    return dense(2, "softmax")(dense(5, "relu")(x))


def excite(maps):
    """Weighs features by what is in the whole picture, in a model of its own."""
    inside = keras.Input(maps.shape[1:])
    weights = dense(6, "sigmoid")(L.GlobalAveragePooling2D(keepdims=True)(inside))
    return keras.Model(inside, L.Multiply()([inside, weights]))(maps)


@pytest.mark.parametrize(
    ("make", "cell_size"),
    [
        (build, 4),
        (in_a_row, 4),
        (build_keras, 1),
        (lambda: build(30), 4),
        (lambda: build(head=with_hidden_layer), 0),
        (lambda: build(pool=L.Flatten()), 0),
        (lambda: build(change=excite), 0),
        (lambda: build(change=L.Reshape((4, 16, 6))), 0),
        (lambda: build(kernel=5, padding="valid"), 0),  # Cells that do not fill the picture.
    ],
)
def test_a_patch_gets_the_probability_that_keras_gives_it(make, cell_size):
    model = make()
    classifier = from_keras(model, build_card(image_size=model.input_shape[1]))
    assert classifier.card.cell_size == cell_size
    patches = RNG.integers(0, 256, (5, *model.input_shape[1:]))
    expected = model.predict(patches, verbose=0)
    np.testing.assert_allclose(classifier.probabilities(patches), expected, atol=1e-5)


def test_each_cell_gets_what_the_head_gives_for_its_features():
    model = build()
    found = from_keras(model, build_card()).graph(picture := RNG.integers(0, 256, (1, 48, 80, 3)))
    assert (found.shape, found.dtype) == ((1, 12, 20, 2), np.float32)
    (kernel, bias), (head, head_bias) = (x.get_weights() for x in model.layers if x.get_weights())
    blocks = picture[0].reshape(12, 4, 20, 4, 3).swapaxes(1, 2).reshape(12, 20, 48)
    expected = np.maximum(blocks @ kernel.reshape(48, 6) + bias, 0) @ head + head_bias
    assert expected.std() > 0.1
    np.testing.assert_allclose(found[0], expected, atol=1e-4)


def test_a_graph_of_whole_patches_accepts_no_other_size():
    graph = from_keras(build(head=with_hidden_layer), build_card()).graph
    assert graph(np.zeros((5, 32, 32, 3))).shape == (5, 1, 1, 2)
    with pytest.raises(UserError, match=r"LiteRT cannot answer for images of shape \(1, 48, 48"):
        graph(np.zeros((1, 48, 48, 3)))
