"""`model.keras` becomes `model.tflite`: logits by cell, from images of any size."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from crackclf.errors import UserError
from crackclf.saved.card import softmax
from crackclf.saved.graph import Graph

_SAME = 1e-3  # Probabilities that differ by no more are the same.
# Layers whose answer at one place depends on the whole picture.
_WHOLE = (
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.GroupNormalization,
    keras.layers.Flatten,
    keras.layers.Resizing,
)


def convert_model(model: keras.Model) -> tuple[Graph, int]:
    """Makes the graph that answers for a classifier.

    With global average pooling and a linear head behind it, the logits of a patch are the mean of
    the logits of its cells (Zhou et al. 2016, arXiv:1512.04150). So the graph gives logits by
    cell, from images of any size. Of any other model it gives the logits of whole patches.

    Args:
        model: from images of shape (batch, height, width, 3) in 0..255 to probabilities of shape
            (batch, classes).

    Returns:
        The graph, from float32 images to logits of shape (batch, rows, columns, classes); and the
        side of a cell in pixels, 0 when there is one cell, the patch.

    Raises:
        UserError: when LiteRT cannot run the model, or does not give its answers.
    """
    any_size = tf.TensorSpec((None, None, None, 3), tf.float32, name="image")
    try:
        cells: Any = _build_cells(model)
        graph = Graph(to_litert(freeze(lambda x: cells(x, training=False), any_size)))
        check_twins(model, graph)
    except (ValueError, TypeError, AttributeError, IndexError):  # UserError is a ValueError.
        patches = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name="image")
        graph = Graph(to_litert(freeze(lambda x: _log_probabilities(model, x), patches)))
        check_twins(model, graph)
        return graph, 0
    return graph, _cell_size(cells)


def check_twins(model: keras.Model, graph: Graph) -> None:
    """Refuses a graph whose probabilities differ from its Keras model's by more than 0.001."""
    rng, (_, height, width, channels) = np.random.default_rng(0), model.input_shape
    levels = rng.uniform(0, 255, (4, 1, 1, 1))
    images = np.clip(rng.normal(levels, 40, (4, height, width, channels)), 0, 255).astype("f")
    expected = np.asarray(model(images, training=False))
    found = softmax(graph(images).mean(axis=(1, 2)))
    if found.shape != expected.shape or not np.allclose(found, expected, atol=_SAME):
        raise UserError(
            f"expected model.tflite to give the probabilities of model.keras, "
            f"{expected.round(3).tolist()}. Received: {found.round(3).tolist()}."
        )


def _log_probabilities(model: Any, images: Any) -> Any:
    """Logits of whole patches, as of one cell each; by `to_logits`, in TensorFlow."""
    probabilities: Any = tf.clip_by_value(model(images, training=False), 1e-7, 1.0)
    return tf.math.log(probabilities)[:, None, None]


def _build_cells(model: Any) -> keras.Model:
    """The model from images of any size to logits by cell; ValueError when it has no such form."""
    *_, head = model.layers
    before = [x for x in model.layers[:-1] if not isinstance(x, keras.layers.Dropout)]
    pooling = before[-1]
    is_linear = (
        isinstance(head, keras.layers.Dense)
        and head.activation is keras.activations.softmax
        and isinstance(pooling, keras.layers.GlobalAveragePooling2D)
        and not pooling.keepdims
    )
    if not is_linear or any(isinstance(x, _WHOLE) for x in _inside(before[:-1])):
        raise ValueError("no global average pooling with a linear head")
    kernel, bias = head.get_weights()
    classify = keras.layers.Conv2D(len(bias), 1, name="logits")
    inputs = keras.Input((None, None, model.input_shape[-1]))
    x = inputs
    if pooling.input is not model.inputs[0]:  # Else it is the image that is pooled.
        x = _on_any_size(keras.Model(model.inputs[0], pooling.input), inputs)(inputs)
    cells = keras.Model(inputs, classify(x))
    classify.set_weights([kernel[None, None], bias])
    if not _cell_size(cells):
        raise ValueError("cells do not fill the picture")
    return cells


def _inside(layers: Iterable[Any]) -> Iterator[Any]:
    """The layers, with those of models among them."""
    for layer in layers:
        yield layer
        yield from _inside(getattr(layer, "layers", ()))


def _on_any_size(model: keras.Model, inputs: Any = None) -> keras.Model:
    """The same layers, behind an input of any size."""

    def reuse(layer: Any) -> Any:
        return _on_any_size(layer) if isinstance(layer, keras.Model) and layer.layers else layer

    inputs = keras.Input((None, None, model.input_shape[-1])) if inputs is None else inputs
    return keras.models.clone_model(model, inputs, clone_function=reuse)


def _cell_size(cells: Any) -> int:
    """Pixels to a cell, each way; 0 when cells do not fill a picture of a whole number of them."""
    size = 1024 // cells.compute_output_shape((1, 1024, 1024, 3))[1]
    filled = cells.compute_output_shape((1, 3 * size, 5 * size, 3))[1:3]
    return size if filled == (3, 5) else 0


def freeze(call: Callable[[Any], Any], images: tf.TensorSpec) -> Any:
    """Traces a function of images and makes its variables constants, as a concrete function.

    Layers that are called with `training=False` and change nothing then, as those of an
    augmentation, leave no trace in it.
    """
    # No public name for it: pyproject.toml bounds TensorFlow, and every test of a saved model
    # fails when it moves.
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    # The converters do not find the variables of a Keras model; constants need no finding.
    return convert_variables_to_constants_v2(tf.function(call).get_concrete_function(images))


def to_litert(graph: Any, calibration: Iterable[np.ndarray] = ()) -> bytes:
    """Converts a frozen graph to the content of a `.tflite` file.

    With `calibration`, images of shape (1, height, width, 3) as the graph takes them, weights and
    activations are quantised to 8 bits by the ranges found on these.
    """
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph], tf.Module())
    images = list(calibration)
    if images:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image] for image in images)
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("WARNING")  # It logs its temporary files.
    try:
        return converter.convert()
    except Exception as error:  # The converter's own error has no public name.
        raise UserError(f"LiteRT cannot run this model ({str(error).splitlines()[0]}).") from None
    finally:
        logger.setLevel(level)
