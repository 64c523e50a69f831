"""Noise, strokes and blobs from which concrete is drawn, on a canvas of any shape.

A canvas is a float32 array of shape (3, height, width), grey levels nominally 0 to 255; colours
come first because arithmetic with a coverage is several times quicker that way. A coverage is a
float32 array of shape (height, width) from 0 (untouched) to 1 (covered).
"""

import math
from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

Array: TypeAlias = npt.NDArray[np.floating[Any]]
Shape: TypeAlias = tuple[int, int]
Rng: TypeAlias = np.random.Generator

_SUPERSAMPLE = 2
_CORNERS = np.linspace(0, 2 * np.pi, 18, endpoint=False)


def noise(rng: Rng, shape: Shape, cell: float, stretch: float = 1.0, angle: float = 0.0) -> Array:
    """Returns smooth noise of about zero mean and unit deviation.

    Args:
        rng: Source of randomness.
        shape: (height, width) in pixels.
        cell: Size of the smallest feature, in pixels.
        stretch: Length of a feature over its width.
        angle: Direction of the long side, in degrees.

    Returns:
        float32 array of shape `shape`.

    Example:

    ```python
    clouds = noise(np.random.default_rng(0), (227, 227), cell=45)
    ```
    """
    height, width = shape
    turned = stretch != 1.0
    box_h, box_w = (math.ceil(math.hypot(height, width)),) * 2 if turned else shape
    lattice_shape = (math.ceil(box_h / cell) + 2, math.ceil(box_w / (cell * stretch)) + 2)
    lattice = rng.standard_normal(lattice_shape, dtype=np.float32)
    lattice = (lattice - lattice.mean()) / (0.82 * lattice.std())
    image = Image.fromarray(lattice).resize((box_w, box_h), Image.Resampling.BICUBIC)
    if turned:
        top, left = (box_h - height) // 2, (box_w - width) // 2
        image = image.rotate(angle, Image.Resampling.BILINEAR)
        image = image.crop((left, top, left + width, top + height))
    return np.asarray(image)


def profile(rng: Rng, count: int, cell: float) -> Array:
    """Returns smooth one-dimensional noise of `count` values in -1 to 1."""
    knots = rng.uniform(-1, 1, max(2, math.ceil(count / cell) + 2))
    return np.interp(np.arange(count) / cell, np.arange(knots.size), knots).astype(np.float32)


def ramp(field: Array, low: float, high: float) -> Array:
    """Maps `field` linearly so that `low` becomes 0 and `high` becomes 1, clipped."""
    return np.clip((field - low) * np.float32(1 / (high - low)), 0, 1)


def blend(canvas: Array, coverage: Array, colour: Any) -> Array:
    """Lays `colour`, anything that broadcasts to the canvas, over it by `coverage`."""
    change = np.asarray(colour, np.float32) - canvas
    change *= coverage
    change += canvas
    return change


def tinted(rng: Rng, canvas: Array, tone: float, spread: float = 0.0) -> Array:
    """Returns the canvas times `tone`, with a colour cast of deviation `spread`."""
    return canvas * np.float32(tone) + rng.normal(0, spread, (3, 1, 1)).astype(np.float32)


def blur(coverage: Array, radius: float) -> Array:
    """Blurs a coverage by a Gaussian of `radius` pixels."""
    image = Image.fromarray((coverage * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), np.float32) / 255


def shift(coverage: Array, offset: npt.ArrayLike) -> Array:
    """Moves a coverage by `offset` (x, y) whole pixels, repeating its border."""
    dx, dy = np.rint(offset).astype(int)
    pad = int(max(abs(dx), abs(dy)))
    height, width = coverage.shape
    padded = np.pad(coverage, pad, mode="edge")
    return padded[pad - dy : pad - dy + height, pad - dx : pad - dx + width]


def unit(angle: float) -> Array:
    """Returns the (x, y) unit vector at `angle` radians."""
    return np.array([math.cos(angle), math.sin(angle)], np.float32)


def fill(shape: Shape, outlines: Iterable[npt.NDArray[Any]]) -> Array:
    """Rasterises closed (x, y) outlines into one anti-aliased coverage."""
    height, width = shape
    image = Image.new("L", (width * _SUPERSAMPLE, height * _SUPERSAMPLE))
    draw = ImageDraw.Draw(image)
    for outline in outlines:
        draw.polygon((outline * _SUPERSAMPLE).ravel().tolist(), fill=255)
    return np.asarray(image.reduce(_SUPERSAMPLE), np.float32) / 255


def blobs(rng: Rng, shape: Shape, radii: Array, rough: float = 0.25, at: Any = None) -> Array:
    """Returns the coverage of irregular ellipses of pixel `radii`, scattered or at (x, y) `at`."""
    count = len(radii)
    centres = rng.random((count, 2)) * shape[::-1] if at is None else np.asarray(at)
    reach = radii[:, None] * (1 + rough * rng.uniform(-1, 1, (count, _CORNERS.size)))
    tilt = rng.uniform(0, np.pi, (count, 1))
    x, y = reach * np.cos(_CORNERS), reach * np.sin(_CORNERS) * rng.uniform(0.35, 1, (count, 1))
    turned = (x * np.cos(tilt) - y * np.sin(tilt), x * np.sin(tilt) + y * np.cos(tilt))
    return fill(shape, centres[:, None] + np.stack(turned, -1))


def wander(rng: Rng, start: npt.ArrayLike, heading: float, length: float, rough: float) -> Array:
    """Returns a path of (x, y) points two pixels apart that drifts, kinks and jitters.

    Args:
        rng: Source of randomness.
        start: First point, (x, y) in pixels.
        heading: Mean direction, in radians.
        length: Length along the path, in pixels.
        rough: Strength of all turns; 0 is straight, 1 a very jagged crack.

    Returns:
        float32 array of shape (points, 2).
    """
    count = max(4, int(length / 2))
    kinks = np.repeat(rng.uniform(-1, 1, count), rng.integers(4, 22, count))[:count]
    angles = heading + rough * (
        0.65 * profile(rng, count, 40)
        + 0.55 * kinks
        + 0.5 * profile(rng, count, 5)
        + 0.5 * rng.uniform(-1, 1, count)
    )
    steps = 2 * np.stack([np.cos(angles), np.sin(angles)], 1)
    return (np.asarray(start) + np.cumsum(steps, 0)).astype(np.float32)


def ribbon(rng: Rng, path: Array, widths: npt.ArrayLike, ragged: float) -> Array:
    """Returns the outline of a stroke along `path` whose two edges are ragged apart."""
    index = np.arange(len(path))
    tangent = path[np.minimum(index + 4, index[-1])] - path[np.maximum(index - 4, 0)]
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True) + 1e-6
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], 1)
    count, widths = len(path), np.broadcast_to(widths, len(path))
    fine = np.minimum(2.5, 0.6 * widths)
    sides = []
    for sign in (1, -1):
        coarse = widths * profile(rng, count, 4 + float(widths.mean()) / 4)
        edge = 0.5 * widths + ragged * (0.7 * coarse + fine * profile(rng, count, 1.5))
        sides.append(path + (sign * edge)[:, None] * normal)
    return np.concatenate([sides[0], sides[1][::-1]])


def stroke(rng: Rng, shape: Shape, width: float, rough: float, ragged: float = 0.0) -> Array:
    """Returns the coverage of one line which crosses the canvas or ends inside it."""
    height, extent = shape
    reach = math.hypot(height, extent) * rng.choice([0.25, 0.6, 1.0], p=[0.2, 0.2, 0.6])
    centre, heading = rng.uniform(0.1, 0.9, 2) * (extent, height), rng.uniform(0, 2 * np.pi)
    path = wander(rng, centre - reach * unit(heading), heading, 2 * reach, rough)
    return fill(shape, [ribbon(rng, path, width, ragged)])


def count_of(rng: Rng, canvas: Array, mean: float) -> int:
    """Returns how many things to scatter, given their mean number on 227 x 227 pixels."""
    return int(rng.exponential(mean) * canvas[0].size / 227**2)
