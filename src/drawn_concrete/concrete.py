"""Drawn concrete: its surface, its cracks, and the camera, on a canvas of any shape."""

import math

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from drawn_concrete.drawing import (
    Array,
    Rng,
    Shape,
    blend,
    blobs,
    blur,
    count_of,
    fill,
    noise,
    profile,
    ramp,
    ribbon,
    shift,
    tinted,
    unit,
    wander,
)


def surface(rng: Rng, shape: Shape) -> Array:
    """Returns a canvas of sound concrete: colour, grain, relief, pores and uneven light.

    Args:
        rng: Source of randomness.
        shape: (height, width) in pixels.

    Returns:
        Canvas of shape (3, height, width).
    """
    height, width = shape
    light, zoom = rng.uniform(0, 2 * np.pi), rng.uniform(0.8, 1.7)
    strength = rng.lognormal(0, [0.35, 0.35, 0.35, 0.5, 0.5, 0.6, 0.6]).tolist()
    stretch, angle = rng.uniform(1.1, 2.4), rng.uniform(0, 180)
    fine, cloud = noise(rng, shape, 3.2 * zoom), noise(rng, shape, 45 * zoom)
    blotch = noise(rng, shape, 7 * zoom, stretch, angle)
    grain = 2.0 * strength[0] * noise(rng, shape, 1.7 * zoom)
    grain += 5.5 * strength[1] * np.tanh(1.3 * fine) * ramp(cloud, -3, 2)
    grain += 4.4 * strength[2] * np.tanh(blotch)
    grain += 2.6 * strength[3] * cloud
    grain -= 30 * strength[4] * ramp(fine + 0.6 * blotch, 1.7, 4)
    grain += 22 * strength[5] * ramp(noise(rng, shape, 4 * zoom) - 0.5 * blotch, 1.9, 4)
    relief = noise(rng, shape, 2.6 * zoom)
    if rng.random() < 0.35:
        brush = noise(rng, shape, rng.uniform(2, 5), rng.uniform(2, 7), angle)
        relief = 0.6 * relief + rng.uniform(0.6, 1.8) * brush * ramp(blotch, -2.5, 1)
    grain += 2.2 * strength[6] * (relief - shift(relief, 1.6 * unit(light)))
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    slope = unit(rng.uniform(0, 2 * np.pi)) * abs(rng.normal(0, 9)) / max(shape)
    grain += slope[0] * (columns - width / 2) + slope[1] * (rows - height / 2)
    level, warm, green = rng.normal(183, 21), rng.normal(14, 7.5), rng.normal(1, 1.2)
    tint = np.array([warm / 2 - green / 3, green, -warm / 2 - green / 3]).reshape(3, 1, 1)
    drift = 0.6 * strength[3] * noise(rng, shape, 8 * zoom)
    casts = np.array([1, 0, -1], np.float32).reshape(3, 1, 1) * drift
    canvas = np.float32(np.clip(level, 95, 226)) + grain + tint.astype(np.float32) + casts
    return _specks(rng, _pores(rng, canvas, light))


def _pores(rng: Rng, canvas: Array, light: float) -> Array:
    count = count_of(rng, canvas, rng.choice([3.0, 15.0, 50.0], p=[0.35, 0.4, 0.25]))
    if not count:
        return canvas
    radii = np.clip(rng.lognormal(0.4, 0.5, count), 0.7, 9)
    holes = blur(blobs(rng, canvas.shape[1:], radii, 0.35), 0.6)
    rim = np.clip(shift(holes, 1.5 * unit(light)) - holes, 0, 1)
    return canvas * (1 + rng.uniform(0, 0.1) * rim - rng.uniform(0.1, 0.6) * holes)


def _specks(rng: Rng, canvas: Array) -> Array:
    if rng.random() > 0.4:
        return canvas
    radii = np.clip(rng.lognormal(0.4, 0.6, 1 + count_of(rng, canvas, 12)), 0.7, 16)
    spots = blobs(rng, canvas.shape[1:], radii, 0.15)
    return blend(canvas, spots * rng.uniform(0.2, 1), rng.uniform(215, 245))


def crack(rng: Rng, shape: Shape, width: float) -> tuple[Array, Array]:
    """Returns where a branching crack runs, and which side of it has sunk.

    Args:
        rng: Source of randomness.
        shape: (height, width) of the canvas, in pixels.
        width: Mean width of the main crack, in pixels.

    Returns:
        Two coverages of shape `shape`: the crack, and the ground to one side of it (0 throughout
        for a crack that ends inside).
    """
    height, extent = shape
    reach = math.hypot(height, extent)
    rough, ragged = rng.uniform(0.4, 1.1), rng.uniform(0.15, 0.8)
    margin = rng.choice([0.25, 0.02], p=[0.85, 0.15])
    anchor = rng.uniform(margin, 1 - margin, 2) * (extent, height)
    heading = rng.uniform(0, 2 * np.pi)
    path = wander(rng, anchor, heading, reach, rough)
    widths, side = width * _swell(rng, len(path)), np.zeros(shape, np.float32)
    if rng.random() < 0.12:
        widths *= np.minimum(1, np.arange(len(path)) / rng.uniform(5, 40))
    else:
        back = wander(rng, anchor, heading + np.pi + rng.normal(0, 0.35), reach, rough)
        path = np.concatenate([back[::-1], path])
        widths = width * _swell(rng, len(path))
        beyond = 2 * reach * unit(heading + rng.choice([-1, 1]) * np.pi / 2)
        side = fill(shape, [np.concatenate([path, [path[-1] + beyond, path[0] + beyond]])])
    outlines = [ribbon(rng, path, np.maximum(widths, 0.8), ragged)]
    for _ in range(rng.choice([0, 1, 2, 4], p=[0.6, 0.22, 0.12, 0.06])):
        at = int(rng.integers(len(path) // 4, len(path) * 3 // 4))
        turn = rng.choice([-1, 1]) * rng.uniform(0.4, 1.3)
        twig = wander(rng, path[at], heading + turn, rng.uniform(30, reach), rough)
        taper = np.linspace(1, rng.uniform(0, 0.6), len(twig))
        twig_width = width * rng.uniform(0.2, 0.7) * taper * _swell(rng, len(twig))
        outlines.append(ribbon(rng, twig, np.maximum(twig_width, 0.8), ragged))
    return fill(shape, outlines), side


def _swell(rng: Rng, count: int) -> Array:
    swell = 1 + 0.5 * profile(rng, count, 30) + 0.25 * profile(rng, count, 8)
    if rng.random() < 0.12:
        swell *= ramp(profile(rng, count, 15), -0.75, -0.5)
    return swell


def carve(rng: Rng, canvas: Array, coverage: Array, side: Array, width: float) -> Array:
    """Shades an opening in the surface: dark bottom, lit wall, sunken side, broken lips.

    Args:
        rng: Source of randomness.
        canvas: Surface to open, of shape (3, height, width).
        coverage: Opening, of shape (height, width).
        side: Ground on the sunken side, of shape (height, width).
        width: Mean width of the opening, in pixels; sets the size of lips and walls.

    Returns:
        New canvas of the same shape.
    """
    shape = canvas.shape[1:]
    light = unit(rng.uniform(0, 2 * np.pi))
    patches = noise(rng, shape, rng.uniform(5, 18))
    level = canvas.mean((1, 2), keepdims=True)
    mottle = 1 + 0.08 * noise(rng, shape, 4)
    wide = 0.5 + 0.5 * min(width / 8, 1)
    if rng.random() < 0.35:
        canvas = blend(canvas, side, tinted(rng, canvas, rng.uniform(0.85, 1.12), 2))
    if rng.random() < 0.65:
        slope = ramp(blur(coverage, 1 + width * rng.uniform(0.3, 1.4)), 0.02, rng.uniform(0.4, 0.8))
        slope *= side if rng.random() < 0.75 else 1
        canvas = blend(canvas, slope * rng.uniform(0.4, 1) * wide, level * rng.uniform(0.4, 0.8))
    if rng.random() < 0.8:
        ring = blur(coverage, 1 + rng.uniform(0.05, 0.35) * width)
        lip = ramp(ring, 0.1, 0.4) * (1 - side if side.any() else shift(ring, 2 * light))
        lip *= ramp(patches, rng.uniform(-2.5, 0.8), 1) * rng.uniform(0.4, 1)
        canvas = blend(canvas, lip, np.minimum(level * rng.uniform(1.15, 1.5), 250) * mottle)
    if rng.random() < 0.25:
        near = blur(coverage, 1 + 0.4 * width)
        broken = np.clip(shift(near, light * width * 0.8) - 0.3 * near, 0, 1) + 0.25 * patches
        chip = blur(ramp(broken, 0.45, 0.6), 0.7) * rng.uniform(0.4, 1)
        canvas = blend(canvas, chip, level * rng.uniform(0.75, 1.25) * mottle)
    brown = np.array([1, 0, -1], np.float32).reshape(3, 1, 1) * rng.uniform(-4, 14)
    canvas = blend(canvas, coverage, level * rng.uniform(0.35, 0.75) * mottle + brown)
    deep = coverage * shift(coverage, light * width * rng.uniform(0.05, 0.45))
    deep = ramp(blur(deep, rng.uniform(0.3, 0.5 + 0.2 * width)), 0.1, rng.uniform(0.6, 1))
    dark = rng.uniform(0.1, 0.32) if rng.random() < 0.85 else rng.uniform(0.32, 0.6)
    canvas = blend(canvas, deep, (level * dark + 0.3 * brown) * mottle)
    if rng.random() < 0.2:
        debris = coverage * ramp(noise(rng, shape, rng.uniform(4, 9)), 0.8, 1.2)
        canvas = blend(canvas, debris * 0.8, level * rng.uniform(0.3, 0.9) * mottle)
    return canvas


def photograph(rng: Rng, canvas: Array) -> npt.NDArray[np.uint8]:
    """Returns the canvas as a phone camera would give it: blur, grain, sharpening.

    Args:
        rng: Source of randomness.
        canvas: Scene of shape (3, height, width).

    Returns:
        uint8 RGB image of shape (height, width, 3).
    """
    grain = rng.gamma(2, 1.0) * rng.standard_normal(canvas.shape[1:], dtype=np.float32)
    scene = np.clip(canvas + grain, 0, 255).astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(scene.transpose(1, 2, 0)))
    image = image.filter(ImageFilter.GaussianBlur(float(rng.choice([0.4, 0.6, 0.8, 1.1, 1.6]))))
    if rng.random() < 0.3:
        luma, *chroma = image.convert("YCbCr").split()
        luma = luma.filter(ImageFilter.MedianFilter(3))
        image = Image.merge("YCbCr", (luma, *chroma)).convert("RGB")
    if rng.random() < 0.5:
        image = image.filter(ImageFilter.UnsharpMask(1.5, int(rng.uniform(20, 90)), 0))
    return np.asarray(image)
