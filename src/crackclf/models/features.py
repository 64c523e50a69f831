"""A classifier taken apart: a frozen half, made fast, and a head to be trained."""

import hashlib
import json
import math
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from crackclf.errors import UserError
from crackclf.models.graphs import freeze_model, to_litert

_MOST_READY = 9_400_000  # Numbers in the batches that interpreters are kept ready for.


class Parts(NamedTuple):
    """What `split_model` makes of a classifier; the parts share its layers.

    Attributes:
        augmentation: from images in 0..255 to augmented ones.
        frozen: from augmented images of shape (batch, height, width, 3) to features: pooled, of
            shape (batch, n), while the whole base is frozen; of a base whose last blocks are not,
            what goes into these, of shape (batch, height, width, n).
        head: from features to probabilities, compiled like the whole: to train it is to train the
            whole, and what it saves of itself is the whole.
    """

    augmentation: keras.Layer
    frozen: keras.Model
    head: keras.Model


def split_model(model: keras.Model) -> Parts:
    """Takes a classifier apart into augmentation, frozen half and head.

    Args:
        model: compiled, from `build_model`.

    Returns:
        `Parts`.

    Raises:
        UserError: when the model is not one from `build_model`, or no part of its base is frozen.
    """
    base = base_of(model)
    _, augmentation, *layers = model.layers
    at = layers.index(base)
    if base.trainable_weights:
        lower, upper = _cut(base)
        stem, rest = [*layers[:at], lower], layers[at + 1 :]
    else:
        upper, stem, rest = None, layers[: at + 2], layers[at + 2 :]
    x = inputs = keras.Input(augmentation.output.shape[1:], name="images")
    for layer in stem:
        x = layer(x)
    frozen = keras.Model(inputs, x, name="frozen")
    x = inputs = keras.Input(frozen.output_shape[1:], name="features")
    if upper is not None:
        x = upper(x, training=False)  # As in the whole.
    for layer in rest:
        x = layer(x)
    head = _Head(inputs, x, name="head")
    head.whole = lambda: model  # Not the model itself: Keras would take it for a layer of the head.
    config = keras.saving.deserialize_keras_object(model.get_compile_config())
    head.compile(**config | {"optimizer": model.optimizer})
    return Parts(augmentation, frozen, head)


def base_of(model: keras.Model) -> Any:
    """The base of a classifier.

    Args:
        model: from `build_model`.

    Returns:
        The functional `keras.Model` between preprocessing and pooling.

    Raises:
        UserError: when the model is not one from `build_model`.
    """
    names = [layer.name for layer in model.layers]
    try:
        # Fails, too, when images go through the base more than once, as in the model in the box.
        keras.Model(model.get_layer("pooling").output, model.output)
    except ValueError:
        raise UserError(
            "expected a model from build_model, with a layer called pooling behind its base. "
            f"Received layers: {', '.join(names)}."
        ) from None
    return model.layers[names.index("pooling") - 1]


def _cut(base: Any) -> tuple[keras.Model, keras.Model]:
    """Cuts a base in front of its first trainable layer."""
    operations = base.operations
    trainable = [bool(getattr(step, "trainable_weights", ())) for step in operations]
    before = operations[trainable.index(True) - 1]
    lower = keras.Model(base.input, before.output, name="lower")
    if not lower.weights:
        raise UserError(
            "features can be cached only of a base that is frozen, at least its beginning; set "
            "base.trainable = False or train without cache_features."
        )
    return lower, keras.Model(before.output, base.output, name="upper")


class _Head(keras.Model):
    def save(self, *args, **kwargs) -> None:
        # ModelCheckpoint saves the model it is given; wanted is the one that takes images.
        self.whole().save(*args, **kwargs)


def build_extractor(
    frozen: keras.Model, threads: int = 1
) -> Callable[[tf.Tensor | np.ndarray], np.ndarray]:
    """The function of a model, made fast for many images and no training.

    Without a GPU the model is converted to LiteRT, which works BatchNormalization into the
    convolutions and runs MobileNetV2 several times as fast as TensorFlow, with the same result
    to float32 precision.

    Args:
        frozen: from `split_model`, or any model of images.
        threads: cores that a call keeps to. Of many small batches, several callers of one thread
            each make more; one large image wants all.

    Returns:
        A function from float32 images of shape (batch, height, width, 3) to features, float32, as
        the model gives them. Threads may call it at the same time.
    """
    graph = freeze_model(frozen)
    if tf.config.list_physical_devices("GPU"):
        return lambda batch: graph(tf.convert_to_tensor(batch))[0].numpy()
    from ai_edge_litert.interpreter import Interpreter

    content = to_litert(graph)
    own = threading.local()

    def prepare(shape: tuple[int, ...]) -> Interpreter:
        # The threads of one interpreter wait for one another, and badly when something else,
        # decoding say, has one of their cores.
        interpreter = Interpreter(model_content=content, num_threads=threads)
        interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], shape)
        interpreter.allocate_tensors()
        return interpreter

    def extract(batch: tf.Tensor | np.ndarray) -> np.ndarray:
        if not hasattr(own, "ready"):
            own.ready = {}
        shape: Any = tuple(batch.shape)
        # To make an interpreter ready for a shape costs a large part of a run, to keep it memory.
        interpreter = own.ready.pop(shape, None)
        while own.ready and sum(map(math.prod, own.ready)) + math.prod(shape) > _MOST_READY:
            own.ready.pop(next(iter(own.ready)))
        interpreter = own.ready[shape] = interpreter or prepare(shape)
        interpreter.tensor(interpreter.get_input_details()[0]["index"])()[...] = batch
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])

    return extract


def digest_model(model: keras.Layer) -> str:
    """A digest of what a model computes: its layers' settings, without names, and its weights."""

    def settings(layer: keras.Layer) -> list:
        # A functional model also holds operations, which are no layers: flip, say.
        inside = getattr(layer, "operations", None) or getattr(layer, "layers", None)
        if inside:
            return [settings(inner) for inner in inside]
        config = {k: v for k, v in layer.get_config().items() if k not in ("name", "seed")}
        return [type(layer).__name__, config]

    digest = hashlib.blake2b(json.dumps(settings(model), default=str).encode(), digest_size=16)
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).data)
    return digest.hexdigest()
