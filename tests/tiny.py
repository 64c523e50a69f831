"""A backbone of two blocks, for tests of what is the same with any: it is built and converted soon.

Other processes than pytest's, in which there are no fixtures, import `TINY` and name it themselves.
"""

import dataclasses

import keras

from crackclf.backbones import BACKBONES


def _build(include_top: bool, weights: None, input_shape: tuple[int, int, int]) -> keras.Model:
    x = image = keras.Input(input_shape)
    for number, filters in ((1, 8), (2, 64)):
        name = f"block{number}"
        convolution = keras.layers.Conv2D(
            filters, 4, 4, "same", use_bias=False, name=f"{name}_conv"
        )
        x = keras.layers.BatchNormalization(name=f"{name}_bn")(convolution(x))
        x = keras.layers.ReLU(name=f"{name}_relu")(x)
    return keras.Model(image, x)


TINY = dataclasses.replace(
    BACKBONES["mobilenetv2"], application=_build, features=64, weights_name="tiny"
)
