"""The frozen bases: built, and their weights found and loaded."""

import os
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np

from crackclf.errors import UserError, notice
from crackclf.files import sha256
from crackclf.models.backbones import BACKBONES, Backbone
from crackclf.models.weights import find_weights, first_line, missing_weights
from crackclf.saved.safety import check_weights_file
from crackclf.saved.store import load_keras_model, open_model


def build_backbone(
    name: str, image_size: int, weights: str | os.PathLike | None
) -> tuple[keras.Model, str]:
    """Builds a frozen base without its classification top.

    Args:
        name: a key of `BACKBONES`.
        image_size: height and width of its input in pixels.
        weights: `"imagenet"`: `<name>.weights.h5` or `<name>.h5` from the folder that the
            environment variable `CRACKCLF_WEIGHTS_DIR` names, else Keras' own cache or
            download, else, for mobilenetv2, `"concrete"`, which is said in one line;
            `"concrete"`: the narrower MobileNetV2, trained on concrete alone, that comes with
            the package; a path: that weights file; `"random"` or None: random weights.

    Returns:
        The base, its layers frozen, from preprocessed images of shape (batch, image_size,
        image_size, 3) to features of shape (batch, height, width, channels); and a sentence
        fragment that says where its weights came from.

    Raises:
        MissingWeightsError: when ImageNet's weights cannot be had.
        UserError: when the name, the size or a weights file cannot be used.
    """
    if name not in BACKBONES:
        raise UserError(f"backbone must be one of {sorted(BACKBONES)}. Received: {name!r}.")
    backbone = BACKBONES[name]
    if image_size < backbone.minimum_size:
        raise UserError(
            f"{name} needs image_size of at least {backbone.minimum_size} pixels. "
            f"Received: {image_size}."
        )
    file = find_weights(backbone.weights_name, weights, (".weights.h5", ".h5"))
    if file is not None:
        base = _build(backbone, image_size, None)
        origin = _load(base, name, file)
    elif weights == "concrete":
        base, origin = _concrete(image_size)
    elif weights in (None, "random"):
        base = _build(backbone, image_size, None)
        origin = "random initialisation"
        _settle(base, backbone, image_size)
    else:
        try:
            base = _build(backbone, image_size, weights)
            origin = "ImageNet, by Keras"
        except Exception as error:  # get_file raises a bare Exception when it cannot download.
            if name != "mobilenetv2":
                wanted = f"{backbone.weights_name}.weights.h5"
                other = f"put Keras' {backbone.keras_file} into ~/.keras/models"
                if not backbone.keras_file:
                    other = "make it by `python recipes/efficientnet_lite.py`"
                raise missing_weights(name, error, wanted, other) from None
            notice(
                f"no ImageNet weights for {name} ({first_line(error)}). The base is the one "
                "trained on concrete that comes with crackclf. For ImageNet weights, set "
                f"CRACKCLF_WEIGHTS_DIR to a folder with {name}.weights.h5, or give weights=PATH"
            )
            base, origin = _concrete(image_size)
    end = base.get_layer(backbone.tap) if backbone.tap else base
    base = keras.Model(base.input, end.output, name=name)
    base.trainable = False
    return base, origin


def _build(backbone: Backbone, image_size: int, weights: Any) -> keras.Model:
    with warnings.catch_warnings():
        # MobileNetV2's convolutions have the same weights at every size.
        warnings.filterwarnings("ignore", "`input_shape` is undefined or non-square")
        return backbone.application(
            include_top=False, weights=weights, input_shape=(image_size, image_size, 3)
        )


def build_narrow_base(image_size: int) -> keras.Model:
    """The base that ships, with random weights, not frozen: MobileNetV2 of half width."""
    return keras.applications.MobileNetV2(
        include_top=False,
        weights=None,  # pyright: ignore[reportArgumentType]
        input_shape=(image_size, image_size, 3),
        alpha=0.5,
        name="mobilenetv2",
    )


def _concrete(image_size: int) -> tuple[keras.Model, str]:
    shipped: Any = load_keras_model()
    base = build_narrow_base(image_size)
    base.set_weights(shipped.get_layer("mobilenetv2").get_weights())
    digest = open_model()[0].fingerprint
    return base, f"concrete, shipped with crackclf, sha256 {digest}"


def _load(base: keras.Model, name: str, file: Path) -> str:
    try:
        check_weights_file(file)
        base.load_weights(file)
    except Exception as error:
        raise UserError(
            f"{file}: cannot be loaded as weights of {name} without top "
            f"({first_line(error)}). Expected a Keras .weights.h5 or .h5 file."
        ) from None
    return f"{file.name}, sha256 {sha256(file)}"


def _settle(base: keras.Model, backbone: Backbone, image_size: int) -> None:
    """Sets the BatchNormalization statistics of random weights from a batch of noise.

    As built (mean 0, variance 1) they let the signal die out on its way through fifty layers
    of random weights, and a head on top can learn nothing at all.
    """
    noise = np.random.default_rng(0).uniform(0, 255, (8, image_size, image_size, 3))
    norms = [x for x in base.layers if isinstance(x, keras.layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0  # Take over this batch's statistics whole.
    base(backbone.preprocessing()(noise), training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
