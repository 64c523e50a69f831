"""A classifier of patches made to look at a whole picture in one go."""

import contextlib
import ctypes
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from crackclf.errors import UserError
from crackclf.models.features import build_extractor

POOLING = keras.layers.GlobalAveragePooling2D
_MOST_FLOATS = 36_000_000  # Numbers that one layer may give for one picture.


class DenseModel(NamedTuple):
    """What `build_dense` makes of a classifier.

    Attributes:
        probabilities: from RGB pixels in 0..255, of shape (height, width, 3), both sides multiples
            of `stride`, to float32 of shape (height / stride, width / stride, 2): for each cell
            what the model says of the cells around it.
        stride: side of a cell in pixels.
        window: how many cells each way an answer is about.
        most_pixels: of a picture that is looked at in one go without much memory.
    """

    probabilities: Callable[[np.ndarray], np.ndarray]
    stride: int
    window: int
    most_pixels: int


def build_dense(model: keras.Model, threads: int = 1) -> DenseModel:
    """Makes a classifier fully convolutional.

    Where it took the mean of the features over a whole patch, it now takes the mean over a window
    of about half a patch around each cell of the feature map, and its head answers for each. So
    patches may overlap as much as they like for the price of one pass. (The weights are those of
    the class activation map of Zhou et al. 2016, arXiv:1512.04150.) A model that averages over
    mirrored views, as the one in the box, is asked upright only.

    Args:
        model: a functional model with global average pooling.
        threads: on which an answer is computed.

    Returns:
        A `DenseModel`.

    Raises:
        UserError: when the model cannot be used so: it does not pool its features by their mean,
            or gives another answer then.
    """
    try:
        model = upright(model)
        (side,) = _pooled_sides(model)
        window = side // 2 | 1
        whole = _unroll(model, side, "valid")
        patch = np.random.default_rng(0).uniform(0, 255, (1, *model.input_shape[1:])).astype("f")
        expected, found = (np.ravel(x(patch, training=False)) for x in (model, whole))
        # A layer that depends on the size of its input, say, shows here.
        if not np.allclose(expected, found, atol=1e-3):
            raise ValueError("another answer")
        dense = _unroll(model, window, "same")
        stride = _stride(dense)
    except (ValueError, TypeError, AttributeError, IndexError, tf.errors.InvalidArgumentError):
        raise UserError("the model cannot be made fully convolutional.") from None
    extract = build_extractor(dense, threads)
    with contextlib.suppress(OSError, AttributeError):  # Where there is no glibc.
        # Of what conversion has freed, glibc would keep more than a hundred megabytes.
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    share = max(_sizes(model)) / math.prod(model.input_shape[1:3])
    return DenseModel(
        lambda pixels: extract(pixels[None])[0],
        stride,
        window,
        int(_MOST_FLOATS / share),
    )


def upright(model: keras.Model) -> keras.Model:
    """A model that answers with the mean over mirrored views, without all but the first of them."""
    last = model.layers[-1]
    views = last.input if isinstance(last, keras.layers.Average) else []
    # The mean of what one head says of several views of the image.
    if views and len({view._keras_history.operation for view in views}) == 1:
        return keras.Model(model.input, views[0])
    return model


def _pooled_sides(model: Any) -> set[int]:
    """Sides of the feature maps that are pooled, also in models within the model."""
    sides, layers = set(), list[Any](model.layers)
    for layer in layers:
        if isinstance(layer, POOLING):
            sides.add(layer.input.shape[1])  # pyright: ignore[reportAttributeAccessIssue]
        elif getattr(layer, "layers", None):
            inside = _pooled_sides(layer)
            if inside and len(layer.output.shape) == 4:
                raise ValueError("a base that looks at all of the image: squeeze and excite")
            sides |= inside
    return sides


def _stride(dense: Any) -> int:
    """Pixels to a cell, each way, whatever the size of the picture."""
    stride = 1024 // dense.compute_output_shape((1, 1024, 1024, 3))[1]
    if dense.compute_output_shape((1, 3 * stride, 5 * stride, 3))[1:3] != (3, 5):
        raise ValueError("cells do not fill the picture")
    return stride


def _sizes(model: Any) -> Iterator[int]:
    """How many numbers each layer gives for one image."""
    for layer in model.layers:
        if getattr(layer, "layers", None):
            yield from _sizes(layer)
        else:
            shape = layer.output.shape[1:]
            yield 0 if None in shape else math.prod(shape)  # Preprocessing, for images of any size.


def _unroll(model: keras.Model, window: int, padding: str) -> keras.Model:
    """The same layers on an input of any size, pooled over a window instead of over everything."""

    def replace(layer: Any) -> Any:
        if isinstance(layer, POOLING):
            return keras.layers.AveragePooling2D(window, 1, padding)
        if isinstance(layer, keras.Model) and layer.layers:
            return _unroll(layer, window, padding)
        return layer

    inputs = keras.Input((None, None, model.input_shape[-1]))
    return keras.models.clone_model(model, inputs, clone_function=replace)
