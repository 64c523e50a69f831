"""EfficientNet-Lite, which Keras does not have: EfficientNet of operations that run fast anywhere.

No squeeze-and-excitation, ReLU6 in place of swish, and a stem and a head that do not grow with the
rest (Tan & Le 2019, arXiv:1905.11946; tensorflow/tpu, models/official/efficientnet/lite).
"""

import math
from typing import Any

import keras

# Repeats, kernel size, stride, expansion and filters of each stage.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM, _HEAD = 32, 1280


def efficientnet_lite(
    width: float, depth: float, include_top: bool, weights: None, input_shape: tuple[int, int, int]
) -> keras.Model:
    """Builds a base with random weights, as the constructors of `keras.applications` do.

    `width` is the factor on the filters of the stages; `depth` is that on the repeats of all stages
    but the first and the last.
    """
    if include_top or weights is not None:
        raise ValueError("Keras offers none; recipes/efficientnet_lite.py makes them")
    image = keras.Input(input_shape)
    x = _apply(_convolution(_STEM, 3, 2, "stem_conv"), image)
    for stage, (repeats, kernel, stride, expansion, filters) in enumerate(_STAGES, 1):
        filters = _round(width * filters)
        if 1 < stage < len(_STAGES):
            repeats = math.ceil(depth * repeats)
        for repeat in range(repeats):  # An inverted residual each.
            name, inputs, stride = f"block{stage}{'abcdef'[repeat]}_", x, 1 if repeat else stride
            if expansion != 1:
                x = _apply(_convolution(expansion * x.shape[-1], 1, 1, f"{name}expand_conv"), x)
            options: Any = {"padding": "same", "use_bias": False, "name": f"{name}dwconv"}
            x = _apply(keras.layers.DepthwiseConv2D(kernel, stride, **options), x)
            x = _apply(_convolution(filters, 1, 1, f"{name}project_conv"), x, activate=False)
            if stride == 1 and filters == inputs.shape[-1]:
                x = keras.layers.Add(name=f"{name}add")([x, inputs])
    return keras.Model(image, _apply(_convolution(_HEAD, 1, 1, "top_conv"), x))


def _convolution(filters: int, kernel: int, stride: int, name: str) -> keras.Layer:
    return keras.layers.Conv2D(filters, kernel, stride, "same", use_bias=False, name=name)


def _apply(layer: keras.Layer, x: Any, activate: bool = True) -> Any:
    name = layer.name.removesuffix("dwconv").removesuffix("conv")
    x = keras.layers.BatchNormalization(epsilon=1e-3, name=f"{name}bn")(layer(x))
    return keras.layers.ReLU(6.0, name=f"{name}activation")(x) if activate else x


def _round(filters: float) -> int:
    """To the next multiple of eight, but not by more than a tenth down."""
    rounded = max(8, int(filters + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * filters else rounded
