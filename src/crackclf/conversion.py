"""`model.keras` becomes `model.tflite`: logits by cell, from images of any size."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from crackclf.calibration import softmax
from crackclf.errors import UserError
from crackclf.litert import Graph

# Layers whose output at one place depends on the whole picture.
_WHOLE = (
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.GroupNormalization,
    keras.layers.Flatten,
    keras.layers.Resizing,
)


def convert_model(model: keras.Model) -> tuple[Graph, int]:
    """Converts a classifier to a LiteRT graph.

    With global average pooling and a linear head behind it, the logits of a patch are the mean of
    the logits of its cells (Zhou et al. 2016, arXiv:1512.04150). The graph then gives logits by
    cell, from images of any size. Of any other model it gives the logits of whole patches.

    Returns the graph, to logits of shape (batch, rows, columns, classes), and the side of a cell in
    pixels, 0 when there is one cell, the patch.
    """
    cells, cell_size = _build_cells(model)
    size = model.input_shape[1:3] if cells is None else (None, None)

    def compute_logits(images: Any) -> Any:
        if cells is not None:
            return cells(images, training=False)
        probabilities: Any = tf.clip_by_value(model(images, training=False), 1e-7, 1.0)
        return tf.math.log(probabilities)[:, None, None]

    images = tf.TensorSpec((None, *size, 3), tf.float32, name="image")
    graph = Graph(to_litert(freeze(compute_logits, images)))
    rng, shape = np.random.default_rng(0), (4, *model.input_shape[1:])
    levels = rng.normal(rng.uniform(0, 255, (4, 1, 1, 1)), 40, shape)
    patches = np.clip(levels, 0, 255).astype("float32")
    expected = np.asarray(model(patches, training=False))
    found = softmax(graph(patches).mean(axis=(1, 2)))
    if not np.allclose(found, expected, atol=1e-3):
        received = f"Received from LiteRT: {found.round(3).tolist()}. Report this as a bug."
        raise UserError(f"expected {expected.round(3).tolist()}, as of the Keras model. {received}")
    return graph, cell_size


def _build_cells(model: Any) -> tuple[Any, int]:
    """The model from images to logits by cell, if it has that form, and the cells' side."""
    *layers, head = [x for x in model.layers if not isinstance(x, keras.layers.Dropout)]
    pooling = layers[-1]
    if (
        not isinstance(head, keras.layers.Dense)
        or head.activation is not keras.activations.softmax
        or not isinstance(pooling, keras.layers.GlobalAveragePooling2D)
        or pooling.keepdims
    ):
        return None, 0
    kernel, bias = head.get_weights()
    classify = keras.layers.Conv2D(len(bias), 1, name="logits")
    x = inputs = keras.Input((None, None, 3))
    try:
        if pooling.input is not model.inputs[0]:  # Else it is the image that is pooled.
            x = _on_any_size(keras.Model(model.inputs[0], pooling.input))(inputs)
        cells: Any = keras.Model(inputs, classify(x))
        cell_size = 1024 // cells.compute_output_shape((1, 1024, 1024, 3))[1]
        filled = cells.compute_output_shape((1, 3 * cell_size, 5 * cell_size, 3))[1:3]
    except ValueError:  # A layer sees the whole picture, or accepts one size only (Reshape).
        return None, 0
    if filled != (3, 5):  # Cells do not fill a picture of a whole number of them.
        return None, 0
    classify.set_weights([kernel[None, None], bias])
    return cells, cell_size


def _on_any_size(model: keras.Model) -> keras.Model:
    """The same layers, behind an input of any size."""

    def reuse(layer: Any) -> Any:
        if isinstance(layer, _WHOLE):
            raise ValueError(f"the layer {layer.name} sees the whole picture")
        return _on_any_size(layer) if isinstance(layer, keras.Model) and layer.layers else layer

    inputs = keras.Input((None, None, model.input_shape[-1]))
    return keras.models.clone_model(model, inputs, clone_function=reuse)


def freeze(call: Callable[[Any], Any], images: tf.TensorSpec) -> Any:
    """Traces a function of images and makes its variables constants, as a concrete function."""
    # The converter does not find the variables of a Keras 3 model. This has no public name:
    # pyproject.toml bounds TensorFlow, and every test of a saved model fails when it moves.
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    def trace(images: Any) -> Any:
        with keras.StatelessScope():  # Augmentation layers assign their seeds even when inactive.
            return call(images)

    return convert_variables_to_constants_v2(tf.function(trace).get_concrete_function(images))


def to_litert(graph: Any) -> bytes:
    """Converts a frozen graph to the content of a `.tflite` file."""
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph], tf.Module())
    try:
        return converter.convert()
    except Exception as error:  # The converter's own error has no public name.
        raise UserError(f"LiteRT cannot run this model ({str(error).splitlines()[0]}).") from None
