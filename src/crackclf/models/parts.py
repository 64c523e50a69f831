"""A classifier taken apart: a frozen half, and a head to be trained."""

import hashlib
import json
from typing import Any, NamedTuple

import keras
import numpy as np

from crackclf.errors import UserError


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
    """The base of a model from `build_model`: the functional model in front of its pooling."""
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
