"""EfficientNet-Lite, which Keras does not have: EfficientNet of operations that run fast anywhere.

No squeeze-and-excitation, ReLU6 in place of swish, and a stem and a head that do not grow with the
rest (Tan & Le 2019, arXiv:1905.11946; tensorflow/tpu, models/official/efficientnet/lite).
"""

from collections.abc import Callable
from functools import partial
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


def efficientnet_lite(width: float, depth: float) -> Callable[..., keras.Model]:
    """A constructor like those of `keras.applications`.

    Args:
        width: by which the filters of the stages are multiplied.
        depth: by which the repeats of all stages but the first and the last are.

    Returns:
        A function of `include_top`, which must be False, `weights`, which must be None, and
        `input_shape`.
    """
    return partial(_build, width, depth)


def _build(
    width: float, depth: float, include_top: bool, weights: None, input_shape: tuple[int, int, int]
) -> keras.Model:
    if include_top or weights is not None:
        raise ValueError("Keras offers none")
    image = keras.Input(input_shape)
    x = _convolve(image, _STEM, 3, 2, "stem")
    for stage, (repeats, kernel, stride, expansion, filters) in enumerate(_STAGES):
        if 0 < stage < len(_STAGES) - 1:
            repeats = -int(-depth * repeats // 1)  # Rounded up.
        for repeat in range(repeats):
            name = f"block{stage + 1}{chr(ord('a') + repeat)}_"
            stride_here = stride if repeat == 0 else 1
            x = _block(x, kernel, stride_here, expansion, _round(width * filters), name)
    return keras.Model(image, _convolve(x, _HEAD, 1, 1, "top"))


def _block(inputs: Any, kernel: int, stride: int, expansion: int, filters: int, name: str) -> Any:
    """An inverted residual."""
    x, channels = inputs, inputs.shape[-1]
    if expansion != 1:
        x = _convolve(x, expansion * channels, 1, 1, f"{name}expand")
    depthwise = keras.layers.DepthwiseConv2D(
        kernel, stride, "same", use_bias=False, name=f"{name}dwconv"
    )
    x = _activate(_normalise(depthwise(x), f"{name}bn"), f"{name}activation")
    project = keras.layers.Conv2D(filters, 1, use_bias=False, name=f"{name}project_conv")
    x = _normalise(project(x), f"{name}project_bn")
    if stride == 1 and filters == channels:
        x = keras.layers.Add(name=f"{name}add")([x, inputs])
    return x


def _convolve(x: Any, filters: int, kernel: int, stride: int, name: str) -> Any:
    convolution = keras.layers.Conv2D(
        filters, kernel, stride, "same", use_bias=False, name=f"{name}_conv"
    )
    return _activate(_normalise(convolution(x), f"{name}_bn"), f"{name}_activation")


def _normalise(x: Any, name: str) -> Any:
    return keras.layers.BatchNormalization(epsilon=1e-3, name=name)(x)


def _activate(x: Any, name: str) -> Any:
    return keras.layers.ReLU(6.0, name=name)(x)


def _round(filters: float) -> int:
    """To the next multiple of eight, but not by more than a tenth down."""
    rounded = max(8, int(filters + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * filters else rounded
