"""The bases of classifiers: a table of them, and where their weights come from."""

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from crackclf.errors import UserError, notice
from crackclf.files import sha256, user_path
from crackclf.saving import SHIPPED_ORIGIN, load_keras_model, open_model


class MissingWeightsError(UserError):
    """The weights of a backbone are not on this machine and cannot be downloaded."""


@dataclass(frozen=True)
class Backbone:
    """One row of the table of backbones.

    Attributes:
        application: the `keras.applications` constructor, or one like it.
        preprocessing: builds the layer from RGB in 0..255 to what the weights were trained on.
        native_size: height and width in pixels of the images its weights were trained on.
        features: number of channels of its last feature map.
        licence: licence of its weights.
        source: paper and origin of its weights.
        weights_name: file name of its weights in a folder of weights, without suffix.
    """

    application: Callable[..., keras.Model]
    preprocessing: Callable[[], keras.Layer]
    native_size: int
    features: int
    licence: str
    source: str
    weights_name: str


def _caffe() -> keras.Layer:
    # The means over ImageNet of blue, green and red, as in the Caffe models of the papers:
    # keras.applications.imagenet_utils.
    rgb = keras.Input((None, None, 3))
    offset: Any = [-103.939, -116.779, -123.68]
    means = keras.layers.Rescaling(1.0, offset)
    return keras.Model(rgb, means(keras.ops.flip(rgb, axis=-1)), name="preprocessing")


def _build_lite0(include_top: bool, weights: str | None, input_shape: Any) -> keras.Model:
    """The base of the model in the box with random weights, as `keras.applications` build one."""
    if weights:
        raise ValueError("Keras has none")
    return keras.models.clone_model(_shipped_base(), keras.Input(input_shape))


def _shipped_base() -> Any:
    return load_keras_model().get_layer(_SHIPPED)


_K = keras.applications
_centred = partial(keras.layers.Rescaling, 1 / 127.5, -1, name="preprocessing")
_unit = partial(keras.layers.Rescaling, 1 / 128, -127 / 128, name="preprocessing")
_inside = partial(keras.layers.Identity, name="preprocessing")  # The application does it itself.

_SHIPPED = "efficientnetlite0"  # The base of the model in the box.
_APACHE = "Apache-2.0"
_VGG = "Simonyan & Zisserman 2014, arXiv:1409.1556, Visual Geometry Group, Oxford"
_V2 = "Sandler et al. 2018, arXiv:1801.04381, TensorFlow Models"
_V3 = "Howard et al. 2019, arXiv:1905.02244, TensorFlow Models"
_EFFICIENTNET = "Tan & Le 2021, arXiv:2104.00298, google/automl"
_LITE = "Tan & Le 2019, arXiv:1905.11946, tensorflow/tpu; trained on by recipes/concrete.py"
_CONVNEXT = "Liu et al. 2022, arXiv:2201.03545, facebookresearch/ConvNeXt"

_ROWS = [
    Backbone(_K.MobileNetV2, _centred, 224, 1280, _APACHE, _V2, "mobilenetv2"),
    Backbone(_K.MobileNetV3Large, _inside, 224, 960, _APACHE, _V3, "mobilenetv3large"),
    Backbone(_K.VGG16, _caffe, 224, 512, "CC BY 4.0", _VGG, "vgg16"),
    Backbone(_K.ResNet50, _caffe, 224, 2048, "MIT", "He et al. 2015, arXiv:1512.03385", "resnet50"),
    Backbone(_K.EfficientNetV2B0, _inside, 224, 1280, _APACHE, _EFFICIENTNET, "efficientnetv2b0"),
    Backbone(_build_lite0, _unit, 224, 1280, _APACHE, _LITE, _SHIPPED),
    Backbone(_K.ConvNeXtTiny, _inside, 224, 768, "MIT", _CONVNEXT, "convnexttiny"),
]
BACKBONES = {row.weights_name: row for row in _ROWS}


def build_backbone(
    name: str, image_size: int, weights: str | os.PathLike | None
) -> tuple[keras.Model, str]:
    """Builds a frozen base without its classification top, and names its weights' origin.

    It makes feature maps of preprocessed images of shape (batch, image_size, image_size, 3). Its
    name is that of its row: of another one where the base of the model in the box stands in.
    """
    if name not in BACKBONES:
        raise UserError(f"backbone must be one of {sorted(BACKBONES)}. Received: {name!r}.")
    if image_size < 32:  # Each base halves an image five times.
        raise UserError(f"{name} needs image_size of at least 32 pixels. Received: {image_size}.")
    if weights == "concrete" and name not in ("mobilenetv2", _SHIPPED):
        raise UserError(f"weights='concrete' fit {_SHIPPED} only. Received: {name!r}.")
    backbone = BACKBONES[name]
    if weights in (None, "random"):
        base, origin = _build_random(backbone, image_size), "random initialisation"
    elif weights == "concrete":
        base, origin = _build_shipped(image_size)
    elif weights != "imagenet":
        base, origin = _load(backbone, image_size, user_path(weights))
    elif file := _find_imagenet(backbone):
        base, origin = _load(backbone, image_size, file)
    else:
        base, origin = _download(backbone, image_size)
    if origin.startswith(SHIPPED_ORIGIN):
        name = _SHIPPED
    base = keras.Model(base.input, base.output, name=name)
    base.trainable = False
    return base, origin


def _find_imagenet(backbone: Backbone) -> Path | None:
    folder = os.environ.get("CRACKCLF_WEIGHTS_DIR")
    if not folder:
        return None
    if not Path(folder).is_dir():
        raise UserError(f"CRACKCLF_WEIGHTS_DIR={folder}: no such folder.")
    # Keras tells its two formats of weights apart by these suffixes.
    files = (Path(folder) / f"{backbone.weights_name}{x}" for x in (".weights.h5", ".h5"))
    return next(filter(Path.is_file, files), None)


def _build(application: Callable, image_size: int, weights: str | None = None) -> keras.Model:
    with warnings.catch_warnings():
        # MobileNetV2's convolutions have the same weights at every size.
        warnings.filterwarnings("ignore", "`input_shape` is undefined or non-square")
        shape = (image_size, image_size, 3)
        return application(include_top=False, weights=weights, input_shape=shape)


def _load(backbone: Backbone, image_size: int, file: Path) -> tuple[keras.Model, str]:
    base = _build(backbone.application, image_size)
    try:
        base.load_weights(file)
    except Exception as error:  # No such file, not HDF5, or of another network.
        name, reason = backbone.weights_name, str(error).partition("\n")[0]
        raise UserError(
            f"{file}: cannot be loaded as weights of {name} without top ({reason}). Expected "
            "'imagenet', 'concrete', 'random' or the path of a Keras .weights.h5 or .h5 file."
        ) from None
    return base, f"{file.name}, sha256 {sha256(file)}"


def _download(backbone: Backbone, image_size: int) -> tuple[keras.Model, str]:
    name = backbone.weights_name
    try:
        return _build(backbone.application, image_size, "imagenet"), "ImageNet, by Keras"
    except Exception as error:  # Keras raises a bare Exception when a download fails.
        place = f"a folder that holds them as {name}.weights.h5, or Keras' own file as {name}.h5"
        message = f"no ImageNet weights for {name} ({error}). Set CRACKCLF_WEIGHTS_DIR to {place}"
    if name not in ("mobilenetv2", _SHIPPED):
        raise MissingWeightsError(f"{message}.")
    notice(f"{message}. The base in use is the one trained on concrete that comes with crackclf")
    return _build_shipped(image_size, f" in place of ImageNet's {name}")


def _build_shipped(image_size: int, instead: str = "") -> tuple[keras.Model, str]:
    shipped = _shipped_base()
    base = keras.models.clone_model(shipped, keras.Input((image_size, image_size, 3)))
    base.set_weights(shipped.get_weights())
    return base, f"{SHIPPED_ORIGIN}{instead}, sha256 {open_model()[0].fingerprint}"


def _build_random(backbone: Backbone, image_size: int) -> keras.Model:
    """A base with random weights, its BatchNormalization statistics those of a batch of noise.

    As built they let the signal die out on its way through fifty layers of random weights.
    """
    base = _build(backbone.application, image_size)
    noise = np.random.default_rng(0).uniform(0, 255, (8, image_size, image_size, 3))
    norms = [x for x in base.layers if isinstance(x, keras.layers.BatchNormalization)]
    momentum_of = {norm: norm.momentum for norm in norms}
    for norm in norms:
        norm.momentum = 0.0  # The statistics become those of this batch.
    base(backbone.preprocessing()(noise), training=True)
    for norm, momentum in momentum_of.items():
        norm.momentum = momentum
    return base
