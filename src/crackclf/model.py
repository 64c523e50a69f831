"""Classifiers: a frozen base with a head, built, unfrozen and taken apart."""

import hashlib
import json
import os
import re
from typing import Any, NamedTuple

import keras
import numpy as np

from crackclf.augmentation import build_augmentation
from crackclf.backbones import BACKBONES, build_backbone
from crackclf.errors import UserError, check_at_least, check_image_size, check_share

# The names that keras.applications give to the layers of a block.
_BLOCK = re.compile(r"(.*block_?\d+[a-z]?|expanded_conv(_\d+)?)(?=_|$)")


def build_model(
    image_size: int = 160,
    backbone: str = "mobilenetv2",
    weights: str | os.PathLike | None = "imagenet",
    augmentation: keras.Layer | None = None,
    hidden_units: int = 0,
    dropout: float = 0.2,
    weight_decay: float = 0.0,
    label_smoothing: float = 0.0,
    learning_rate: float = 1e-3,
    classes: int = 2,
    seed: int = 0,
) -> keras.Model:
    """Builds and compiles a classifier on a frozen, pre-trained base.

    Everything between the pixels and the probabilities is inside: augmentation (in training
    only), the backbone's own preprocessing, the base called with `training=False`, global
    average pooling, an optional hidden layer, dropout and a softmax layer. Compiled with Adam,
    categorical cross-entropy and accuracy.

    Args:
        image_size: height and width of the input in pixels, at least 32.
        backbone: name of the base, a key of `BACKBONES`.
        weights: `"imagenet"`: the file `<backbone>.weights.h5` or `<backbone>.h5` in the folder
            that the environment variable `CRACKCLF_WEIGHTS_DIR` names, else from Keras' cache or
            download, else, for mobilenetv2, as `"concrete"`, with a notice. `"concrete"`: the base
            of the model that comes with the package, an EfficientNet-Lite0, which then stands in
            for mobilenetv2. `"random"`. Or the path of a weights file.
        augmentation: a layer of images that Keras can save. None for `build_augmentation()`.
        hidden_units: units of a ReLU layer between pooling and dropout. 0 for no such layer.
        dropout: share of the pooled features dropped in training, from 0 to below 1.
        weight_decay: share of each weight, times the learning rate, taken off at each step, 0 or
            more (Loshchilov & Hutter 2017, arXiv:1711.05101).
        label_smoothing: share of each label that is spread over all classes, from 0 to below 1
            (Szegedy et al. 2015, arXiv:1512.00567). The losses of `fit` are on smoothed labels.
        learning_rate: learning rate of Adam, above 0.
        classes: number of classes, `len(data.class_names)`.
        seed: seed of the head's weights, dropout and augmentation.

    Returns:
        A compiled `keras.Model` from float or uint8 RGB images of shape (batch, image_size,
        image_size, 3) in 0..255 to probabilities of shape (batch, classes). Its attributes
        `backbone` and `weights_origin` name its base and the origin of the base's weights.

    Raises:
        UserError: when an argument cannot be used.

    Examples:
        >>> model = build_model(image_size=160)
        >>> model.summary()
    """
    check_share(dropout=dropout, label_smoothing=label_smoothing)
    check_at_least(0, hidden_units=hidden_units, weight_decay=weight_decay)
    check_at_least(2, classes=classes)
    policy = keras.config.dtype_policy().name
    if policy != "float32":  # LiteRT cannot run a base of 16 bits.
        first = "Call keras.mixed_precision.set_global_policy('float32') first"
        raise UserError(f"a model is built in float32. {first}. Received: the policy {policy}.")
    keras.utils.set_random_seed(seed)
    image_size, backbone = check_image_size(image_size), backbone.lower()
    base, origin = build_backbone(backbone, image_size, weights)
    augmentation = build_augmentation() if augmentation is None else augmentation
    try:  # Before hours of training.
        config = keras.saving.serialize_keras_object(augmentation)
        keras.saving.deserialize_keras_object(config, safe_mode=True)
    except Exception as error:  # Any error of the layer's own class, too.
        reason = str(error).strip().partition(". ")[0]
        raise UserError(
            f"augmentation must be a layer that Keras can save ({reason}). Give its class "
            "get_config and the decorator keras.saving.register_keras_serializable()."
        ) from None
    inputs = keras.Input((image_size, image_size, 3), name="image")
    x = BACKBONES[base.name].preprocessing()(augmentation(inputs))
    x = base(x, training=False)
    x = keras.layers.GlobalAveragePooling2D(name="pooling")(x)
    if hidden_units:
        x = keras.layers.Dense(hidden_units, activation="relu", name="hidden")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    outputs = keras.layers.Dense(classes, activation="softmax", name="probabilities")(x)
    model = keras.Model(inputs, outputs, name="crackclf")
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate, weight_decay=weight_decay or None),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=label_smoothing),
        metrics=["accuracy"],
    )
    model.backbone, model.weights_origin = base.name, origin
    return model


def unfreeze(model: keras.Model, blocks: int = 1, learning_rate: float = 1e-5) -> None:
    """Makes the last blocks of a model's base trainable, and compiles the model again.

    This begins the second stage of transfer learning; `train` does it. BatchNormalization stays
    frozen: small batches of few images would spoil statistics that were learnt from a million.
    Loss, metrics and kind of optimizer stay.

    Args:
        model: from `build_model`, with a trained head; changed in place.
        blocks: number of blocks at the end of the base to train.
        learning_rate: of the new optimizer; a hundredth of the head's keeps what the base learnt.

    Raises:
        UserError: when the base has fewer blocks.

    Examples:
        >>> unfreeze(model, blocks=2)
        >>> train(model, data, build_callbacks("logs/first-tuned"))
    """
    base, start = base_of(model), find_block(model, blocks)
    base.trainable = True
    for index, layer in enumerate(base.layers):
        is_norm = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = index >= start and not is_norm
    config: Any = model.get_compile_config()
    config["optimizer"]["config"]["learning_rate"] = learning_rate
    model.compile_from_config(config)


def find_block(model: keras.Model, blocks: int) -> int:
    """The first layer of the last `blocks` blocks of a base; a `UserError` when it has fewer.

    A block is what the base's paper calls so: in MobileNetV2 an inverted residual, in ResNet50 a
    bottleneck, in VGG16 the convolutions between two poolings. The last includes what follows it.
    """
    base = base_of(model)
    matches = [_BLOCK.match(layer.name) for layer in base.layers]
    names = [match and match[0] for match in matches]
    starts = [i for i, name in enumerate(names) if name and name not in names[:i]]
    if not 1 <= blocks <= len(starts):
        most = f"{len(starts)}, the number of blocks of {base.name}"
        raise UserError(f"blocks must be from 1 to {most}. Received: {blocks}.")
    return starts[-blocks]


def base_of(model: keras.Model) -> Any:
    """The base of a model from `build_model`: the layer in front of its pooling."""
    names = [layer.name for layer in model.layers]
    if "pooling" not in names:
        expected = "a model from build_model, with a layer called pooling behind its base"
        raise UserError(f"expected {expected}. Received layers: {', '.join(names)}.")
    return model.layers[names.index("pooling") - 1]


class Parts(NamedTuple):
    """A classifier taken apart; the parts share its layers.

    `frozen` makes features of augmented images: pooled ones of shape (batch, n) when the whole
    base is frozen, else the input of the first trainable block. `head` makes probabilities of
    these; to train it, by the model's own optimizer, or to save it is to do so with the model.
    """

    augmentation: keras.Layer
    frozen: keras.Model
    head: keras.Model


def split_model(model: keras.Model) -> Parts:
    """Takes apart a classifier from `build_model`, whose base is frozen or begins so."""
    base = base_of(model)
    layers = model.layers[1:]
    # The model in the box is saved without augmentation.
    is_augmented = layers[0].name != "preprocessing"
    augmentation = layers.pop(0) if is_augmented else keras.layers.Identity()
    at = layers.index(base)
    stem, rest = layers[: at + 2], layers[at + 2 :]
    if base.trainable_weights:
        lower, upper = _cut(base)
        stem, rest = [*layers[:at], lower], [upper, *layers[at + 1 :]]
    frozen = _chain(stem, model.input_shape[1:], "frozen")
    head = _chain(rest, frozen.output_shape[1:], "head")
    if model.compiled:
        config = keras.saving.deserialize_keras_object(model.get_compile_config())
        head.compile(**config | {"optimizer": model.optimizer})
    head.save = model.save  # ModelCheckpoint saves the model that is trained: the head.
    return Parts(augmentation, frozen, head)


def _chain(layers: list[Any], shape: tuple[int, ...], name: str) -> keras.Model:
    x = inputs = keras.Input(shape)
    for layer in layers:
        # A part of the base is called as in the whole.
        x = layer(x, training=False) if isinstance(layer, keras.Model) else layer(x)
    return keras.Model(inputs, x, name=name)


def _cut(base: Any) -> tuple[keras.Model, keras.Model]:
    """Cuts a base in front of its first trainable layer."""
    steps = base.operations
    first = next(i for i, x in enumerate(steps) if getattr(x, "trainable_weights", ()))
    for step in reversed(steps[:first]):
        try:
            upper = keras.Model(step.output, base.output, name="upper")
        except ValueError:  # A shortcut goes around this step.
            continue
        lower = keras.Model(base.input, step.output, name="lower")
        if lower.weights:
            return lower, upper
    raise UserError(
        "features can be cached only when the base is frozen, at least its beginning. Set "
        "base.trainable = False or train without cache_features."
    )


def digest_model(model: keras.Layer) -> str:
    """A digest of what a model or layer computes: its settings, without names, and its weights."""

    def settings(layer: keras.Layer) -> list:
        # A functional model also holds operations that are no layers, such as flip.
        inside = getattr(layer, "operations", None) or getattr(layer, "layers", None)
        if inside:
            return [settings(inner) for inner in inside]
        return [type(layer).__name__, layer.get_config() | {"name": None, "seed": None}]

    digest = hashlib.blake2b(json.dumps(settings(model), default=str).encode(), digest_size=16)
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).data)
    return digest.hexdigest()
