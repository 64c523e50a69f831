"""A model frozen into one graph of constants, and that graph in the forms of other runtimes."""

import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from crackclf.errors import UserError


def freeze(call: Callable[[Any], Any], images: tf.TensorSpec) -> Any:
    """Traces a function of images and makes its variables constants.

    Args:
        call: from a tensor to a tensor.
        images: what it takes.

    Returns:
        A TensorFlow concrete function. Layers that are called with `training=False` and change
        nothing then, as those of an augmentation, have left no trace in it.
    """
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    # The converters do not find the variables of a Keras model; constants need no finding.
    return convert_variables_to_constants_v2(tf.function(call).get_concrete_function(images))


def freeze_model(model: keras.Model) -> Any:
    """`freeze` for a Keras model as it is at prediction, from float32 images."""
    images = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
    return freeze(lambda x: model(x, training=False), images)


def to_litert(graph: Any, calibration: Iterable[np.ndarray] = ()) -> bytes:
    """Converts a frozen graph to a LiteRT (TensorFlow Lite) model.

    Args:
        graph: from `freeze`.
        calibration: images of shape (1, height, width, 3) as the graph takes them; when given,
            weights and activations are quantised to 8 bits by the ranges found on them.

    Returns:
        The content of a `.tflite` file.
    """
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph], tf.Module())
    images = list(calibration)
    if images:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image] for image in images)
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("WARNING")  # What the converter says of its temporary files helps nobody.
    try:
        return converter.convert()
    finally:
        logger.setLevel(level)


def to_openvino(graph: Any) -> Any:
    """Converts a frozen graph to an `openvino.Model`.

    Args:
        graph: from `freeze`.

    Raises:
        UserError: when OpenVINO is not installed or does not know an operation of the graph.
    """
    openvino = import_openvino()
    with tempfile.TemporaryDirectory() as folder:
        # Not by convert_model, which reports its use over the network without having asked.
        file = Path(folder) / "graph.pb"
        file.write_bytes(graph.graph.as_graph_def().SerializeToString())
        try:
            return openvino.Core().read_model(file)
        except RuntimeError as error:
            raise UserError(f"OpenVINO cannot read this model ({error}).") from None


def import_openvino() -> Any:
    """OpenVINO, or a UserError that says how to install it."""
    # Nor does anything else of it report: without this module it has nothing to report with.
    sys.modules.setdefault("openvino_telemetry", None)  # pyright: ignore[reportArgumentType]
    try:
        import openvino
    except ImportError as error:
        raise UserError(
            f"OpenVINO is needed here ({error}): pip install 'crackclf[openvino]'"
        ) from None
    return openvino
