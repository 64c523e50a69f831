"""The frozen bases: built, and their weights found and loaded."""

import os
from pathlib import Path
from typing import Any

import keras
import numpy as np

from crackclf.data.files import sha256
from crackclf.errors import UserError, notice
from crackclf.models.backbones import BACKBONES, Backbone
from crackclf.models.saving import load_model


class MissingWeightsError(UserError):
    """The weights of a backbone cannot be had on this machine."""


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
            the package; a path: that weights file; None: random weights.

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
    elif weights is None:
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
                cached = f"Keras' {backbone.keras_file} into ~/.keras/models"
                raise missing_weights(name, error, wanted, cached) from None
            notice(
                f"ImageNet weights for {name} cannot be had here ({first_line(error)}), so the "
                "base is the one trained on concrete that comes with crackclf; for ImageNet's, "
                f"set CRACKCLF_WEIGHTS_DIR to a folder with {name}.weights.h5 or give weights=PATH"
            )
            base, origin = _concrete(image_size)
    end = base.get_layer(backbone.tap) if backbone.tap else base
    base = keras.Model(base.input, end.output, name=name)
    base.trainable = False
    return base, origin


def _build(backbone: Backbone, image_size: int, weights: Any) -> keras.Model:
    return backbone.application(
        include_top=False, weights=weights, input_shape=(image_size, image_size, 3)
    )


def build_narrow_base(image_size: int) -> keras.Model:
    """The architecture of the base that ships: MobileNetV2 of half width, 3 MB instead of 9.

    Args:
        image_size: height and width of its input in pixels.

    Returns:
        The base with random weights, not frozen.
    """
    return keras.applications.MobileNetV2(
        include_top=False,
        weights=None,  # pyright: ignore[reportArgumentType]
        input_shape=(image_size, image_size, 3),
        alpha=0.5,
        name="mobilenetv2",
    )


def _concrete(image_size: int) -> tuple[keras.Model, str]:
    shipped = load_model()
    base = build_narrow_base(image_size)
    model: Any = shipped.model
    base.set_weights(model.get_layer("mobilenetv2").get_weights())
    return base, f"concrete, shipped with crackclf, sha256 {shipped.card.sha256}"


def _load(base: keras.Model, name: str, file: Path) -> str:
    try:
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


def find_weights(
    name: str, weights: str | os.PathLike | None, suffixes: tuple[str, ...]
) -> Path | None:
    """Finds a file of weights: the one named, or ImageNet's in the mirror folder.

    Args:
        name: how the file is called in a mirror folder.
        weights: see `build_backbone`.
        suffixes: that it may have, the first one first.

    Returns:
        The file; None when there is none to look for or none in the mirror folder.

    Raises:
        UserError: when the file or the mirror folder named does not exist.
    """
    if weights == "concrete" and name != "mobilenetv2":
        raise UserError(f"weights='concrete' are a MobileNetV2's. Received: backbone {name!r}.")
    if weights is None or weights == "concrete":
        return None
    if weights != "imagenet":
        path = Path(weights)
        if not path.is_file():
            raise UserError(
                f"{path}: no such weights file. Expected 'imagenet', 'concrete', None or the path "
                f"of a {' or '.join(suffixes)} file."
            )
        return path
    mirror = os.environ.get("CRACKCLF_WEIGHTS_DIR")
    if not mirror:
        return None
    if not Path(mirror).is_dir():
        raise UserError(f"CRACKCLF_WEIGHTS_DIR={mirror}: no such folder.")
    for suffix in suffixes:
        path = Path(mirror) / f"{name}{suffix}"
        if path.is_file():
            return path
    return None


def missing_weights(name: str, error: Exception, file: str, cached: str) -> MissingWeightsError:
    """The error for ImageNet weights that are nowhere.

    Args:
        name: of the backbone.
        error: why they could not be downloaded.
        file: how they are called in a mirror folder.
        cached: how they are called elsewhere, and where they are looked for there.
    """
    return MissingWeightsError(
        f"ImageNet weights for {name} cannot be had here ({first_line(error)}). Set "
        f"CRACKCLF_WEIGHTS_DIR to a folder with {file}, or put {cached}."
    )


def first_line(error: Exception) -> str:
    """What an exception says, in one line without its full stop."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
