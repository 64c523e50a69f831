"""The one way in which pictures are resized."""

import numpy as np
from PIL import Image

_SMALL = 2**22  # Pixels that become an array at once, which is faster than strip by strip.
_STRIP = 32  # Rows made at a time, which stay in a core's cache.


def resize(
    pixels: np.ndarray | Image.Image,
    height: int,
    width: int,
    rows: slice = slice(None),
) -> np.ndarray:
    """Resizes a picture bilinearly, without antialiasing.

    The same as `tf.image.resize` and so as Keras' image loader, by which models are trained:
    the centres of pixels correspond, and the edge is repeated outwards.

    Args:
        pixels: uint8 or float of shape (any height, any width, channels), or an RGB image, only
            the needed part of which becomes an array.
        height: of the result, in pixels.
        width: of the result, in pixels.
        rows: which rows of the result are wanted; all by default.

    Returns:
        float32 of shape (rows, width, channels), in the range of the input.

    Example:

    ```python
    small = resize(read_image("wall.jpg"), 160, 160)
    ```
    """
    is_image = isinstance(pixels, Image.Image)
    if is_image and rows == slice(None) and pixels.width * pixels.height <= _SMALL:
        pixels = np.asarray(pixels)
    is_array = isinstance(pixels, np.ndarray)
    full_height, full_width = pixels.shape[:2] if is_array else pixels.size[::-1]
    above, below, down = _neighbours(full_height, height, rows)
    left, right, across = _neighbours(full_width, width, slice(None))
    channels = pixels.shape[2] if is_array else 3
    # For each channel apart: NumPy is slow where an axis as short as theirs is stretched.
    across = np.repeat(across[:, None], channels, axis=1)
    result = np.empty((len(above), len(left), channels), np.float32)
    for start in range(0, len(above), _STRIP):
        strip = slice(start, start + _STRIP)
        top, bottom = above[start], below[strip][-1] + 1
        if is_array:
            band = np.ascontiguousarray(pixels[top:bottom])
        else:
            band = np.asarray(pixels.crop((0, top, full_width, bottom)))
        lines = _blend(band, above[strip] - top, below[strip] - top, down[strip, None, None], 0)
        result[strip] = _blend(lines, left, right, across, 1)
    return result


def _blend(
    pixels: np.ndarray, first: np.ndarray, second: np.ndarray, share: np.ndarray, axis: int
) -> np.ndarray:
    # `take` with a mode is twice as fast as an index in brackets.
    result = pixels.take(first, axis, mode="clip").astype(np.float32, copy=False)
    other = pixels.take(second, axis, mode="clip").astype(np.float32, copy=False)
    other -= result
    other *= share
    result += other
    return result


def _neighbours(size: int, wanted: int, which: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each new pixel the two old ones it lies between, and how far from the first."""
    centres = (np.arange(wanted, dtype=np.float32)[which] + 0.5) * (size / wanted) - 0.5
    centres = np.clip(centres, 0, size - 1)
    first = centres.astype(np.intp)
    return first, np.minimum(first + 1, size - 1), (centres - first).astype(np.float32)
