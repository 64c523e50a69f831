"""The table of backbones: what each takes, gives and costs, and whose its weights are."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from crackclf.models.efficientnet_lite import efficientnet_lite


@dataclass(frozen=True)
class Backbone:
    """One row of the table of backbones.

    Attributes:
        application: the `keras.applications` constructor, or one like it.
        preprocessing: builds the layer from 0..255 RGB to what the weights were trained on.
        native_size: side in pixels of the images on which Keras' weights were trained.
        features: number of channels of its last feature map.
        licence: of those weights.
        source: where they come from.
        keras_file: their file's name in Keras' cache; empty where Keras has none.
        weights_name: how their file is called in a mirror folder, before its suffix.
        minimum_size: smallest image side in pixels that it accepts.
        tap: the layer behind which it is cut off; its last one when empty.
    """

    application: Callable[..., keras.Model]
    preprocessing: Callable[[], keras.Layer]
    native_size: int
    features: int
    licence: str
    source: str
    keras_file: str
    weights_name: str
    minimum_size: int = 32
    tap: str = ""


def _centred() -> keras.Layer:
    return keras.layers.Rescaling(1 / 127.5, offset=-1, name="preprocessing")


def _unit() -> keras.Layer:
    return keras.layers.Rescaling(1 / 128, offset=-127 / 128, name="preprocessing")


def _caffe() -> keras.Layer:
    # The means over ImageNet of blue, green and red, as in the Caffe models of the papers:
    # keras.applications.imagenet_utils.
    rgb = keras.Input((None, None, 3))
    bgr = keras.ops.flip(rgb, axis=-1)
    offset: Any = [-103.939, -116.779, -123.68]
    means = keras.layers.Rescaling(1.0, offset)
    return keras.Model(rgb, means(bgr), name="preprocessing")


def _inside() -> keras.Layer:
    return keras.layers.Identity(name="preprocessing")  # The application does it itself.


_VGG16 = Backbone(
    keras.applications.VGG16,
    _caffe,
    224,
    512,
    "CC BY 4.0",
    "Simonyan & Zisserman 2014, arXiv:1409.1556, Visual Geometry Group, Oxford",
    "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
    "vgg16",
)


def _lite(variant: int, width: float, depth: float, native_size: int) -> Backbone:
    return Backbone(
        efficientnet_lite(width, depth),
        _unit,
        native_size,
        1280,
        "Apache-2.0",
        "Tan & Le 2019, arXiv:1905.11946, tensorflow/tpu, by recipes/efficientnet_lite.py",
        "",
        f"efficientnetlite{variant}",
    )


BACKBONES = {
    "mobilenetv2": Backbone(
        keras.applications.MobileNetV2,
        _centred,
        224,
        1280,
        "Apache-2.0",
        "Sandler et al. 2018, arXiv:1801.04381, TensorFlow Models",
        "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_{size}_no_top.h5",
        "mobilenetv2",
    ),
    "mobilenetv3large": Backbone(
        keras.applications.MobileNetV3Large,
        _inside,
        224,
        960,
        "Apache-2.0",
        "Howard et al. 2019, arXiv:1905.02244, TensorFlow Models",
        "weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5",
        "mobilenetv3large",
    ),
    "vgg16": _VGG16,
    "vgg16-block4": dataclasses.replace(_VGG16, tap="block4_pool"),
    "resnet50": Backbone(
        keras.applications.ResNet50,
        _caffe,
        224,
        2048,
        "MIT",
        "He et al. 2015, arXiv:1512.03385",
        "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "resnet50",
    ),
    "resnet50v2": Backbone(
        keras.applications.ResNet50V2,
        _centred,
        224,
        2048,
        "BSD",
        "He et al. 2016, arXiv:1603.05027, facebook/fb.resnet.torch",
        "resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "resnet50v2",
    ),
    "efficientnetv2b0": Backbone(
        keras.applications.EfficientNetV2B0,
        _inside,
        224,
        1280,
        "Apache-2.0",
        "Tan & Le 2021, arXiv:2104.00298, google/automl",
        "efficientnetv2-b0_notop.h5",
        "efficientnetv2b0",
    ),
    "convnexttiny": Backbone(
        keras.applications.ConvNeXtTiny,
        _inside,
        224,
        768,
        "MIT",
        "Liu et al. 2022, arXiv:2201.03545, facebookresearch/ConvNeXt",
        "convnext_tiny_notop.h5",
        "convnexttiny",
    ),
    "efficientnetlite0": _lite(0, 1.0, 1.0, 224),
    "efficientnetlite1": _lite(1, 1.0, 1.1, 240),
    "efficientnetlite2": _lite(2, 1.1, 1.2, 260),
}
