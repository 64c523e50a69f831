"""Things on concrete which a classifier may take for a crack."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from drawn_concrete.concrete import carve
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
    stroke,
    tinted,
    unit,
    wander,
)

Lookalike: TypeAlias = Callable[[Rng, Array], Array]


def _paint_spots(rng: Rng, canvas: Array) -> Array:
    radii = rng.lognormal(1.5, 0.7, 1 + count_of(rng, canvas, rng.choice([1.0, 25.0]))).clip(1, 35)
    spots = blur(blobs(rng, canvas.shape[1:], radii, 0.15), 0.8)
    return blend(canvas, spots * rng.uniform(0.5, 1), tinted(rng, np.full_like(canvas, 235), 1, 4))


def _stain(rng: Rng, canvas: Array) -> Array:
    shape = canvas.shape[1:]
    field = noise(rng, shape, rng.uniform(35, 90)) + 0.25 * noise(rng, shape, 9)
    inside = ramp(field, 0.4, 0.4 + rng.uniform(0.02, 0.6))
    outline = ramp(np.abs(field - 0.4), 0.12, 0) * rng.choice([0, rng.uniform(0.3, 1)])
    tone = 1 + rng.choice([-1, -1, 1]) * rng.uniform(0.04, 0.2)
    canvas = blend(canvas, inside, tinted(rng, canvas, tone, 2))
    return blend(canvas, outline.astype(np.float32), canvas * rng.uniform(0.8, 1.1))


def _bloom(rng: Rng, canvas: Array) -> Array:
    shape = canvas.shape[1:]
    field = noise(rng, shape, 50) + 0.8 * noise(rng, shape, 12) + 0.5 * noise(rng, shape, 4)
    return blend(canvas, ramp(field, 1.2, 2.4) * rng.uniform(0.4, 1), rng.uniform(215, 240))


def _two_tones(rng: Rng, canvas: Array) -> Array:
    side = _half_plane(rng, canvas.shape[1:], rng.uniform(0, 8), rng.uniform(0.5, 4))
    return blend(canvas, side, tinted(rng, canvas, rng.uniform(0.75, 1.2), 2.5))


def _shadow(rng: Rng, canvas: Array) -> Array:
    side = _half_plane(rng, canvas.shape[1:], rng.choice([0.0, 12.0]), rng.choice([1.5, 8, 40]))
    return blend(canvas, side, canvas * rng.uniform(0.45, 0.85))


def _half_plane(rng: Rng, shape: Shape, wave: float, soft: float) -> Array:
    height, width = shape
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    normal, centre = unit(rng.uniform(0, 2 * np.pi)), rng.uniform(0.2, 0.8, 2) * (width, height)
    away = (columns - centre[0]) * normal[0] + (rows - centre[1]) * normal[1]
    return ramp(
        away + wave * (noise(rng, shape, 18) + 0.4 * noise(rng, shape, 5)), -soft, soft
    ).astype(np.float32)


def _joint(rng: Rng, canvas: Array) -> Array:
    line = stroke(rng, canvas.shape[1:], rng.uniform(2, 9), 0, 0.06)
    line = blur(line, rng.uniform(0.5, 2.5))
    rim = np.clip(shift(line, unit(rng.uniform(0, 2 * np.pi)) * 3) - line, 0, 1)
    canvas = blend(canvas, rim * rng.uniform(0, 0.8), canvas * rng.uniform(0.9, 1.2))
    tone = rng.uniform(0.4, 0.85) if rng.random() < 0.6 else 1.15
    return blend(canvas, line, canvas * tone)


def _scratches(rng: Rng, canvas: Array) -> Array:
    tone = rng.uniform(0.65, 0.9) if rng.random() < 0.5 else rng.uniform(1.08, 1.3)
    for _ in range(rng.integers(1, 5)):
        line = stroke(rng, canvas.shape[1:], rng.uniform(0.8, 2.2), rng.choice([0.02, 0.12]), 0.2)
        canvas = blend(canvas, line * rng.uniform(0.3, 0.9), canvas * tone)
    return canvas


def _trowel(rng: Rng, canvas: Array) -> Array:
    height, width = canvas.shape[1:]
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    centre = rng.uniform(-2, 3, 2) * (width, height)
    radius = np.hypot(columns - centre[0], rows - centre[1])
    rings = profile(rng, int(radius.max()) + 2, rng.uniform(2, 9))
    fade = ramp(noise(rng, (height, width), 60), -0.5, 1.5)
    return canvas + rng.uniform(4, 14) * fade * rings[radius.astype(int)]


def _drip(rng: Rng, canvas: Array) -> Array:
    height, width = canvas.shape[1:]
    outlines = []
    for _ in range(rng.integers(1, 4)):
        start = (rng.uniform(0, width), rng.uniform(-0.2, 0.5) * height)
        path = wander(rng, start, np.pi / 2, rng.uniform(0.3, 1.2) * height, 0.15)
        widths = rng.uniform(3, 14) * (1 + 0.4 * profile(rng, len(path), 25))
        outlines.append(ribbon(rng, path, widths, 0.1))
    shade = blur(fill((height, width), outlines), rng.uniform(1, 4)) * rng.uniform(0.3, 0.9)
    return blend(canvas, shade, tinted(rng, canvas, rng.uniform(0.7, 1.2), 3))


def _root(rng: Rng, canvas: Array) -> Array:
    height, width = canvas.shape[1:]
    count, heading = int(rng.uniform(20, 90)), rng.uniform(0, 2 * np.pi)
    bend = heading + np.cumsum(0.2 * profile(rng, count, 12))
    steps = 2 * np.cumsum(np.stack([np.cos(bend), np.sin(bend)], 1), 0)
    path = rng.uniform(0, 1, 2) * (width, height) + steps
    line = fill((height, width), [ribbon(rng, path, rng.uniform(1, 3), 0)])
    canvas = blend(canvas, blur(shift(line, (2, 2)), 1.5) * 0.4, canvas * 0.6)
    return blend(canvas, line, tinted(rng, np.full_like(canvas, rng.uniform(60, 215)), 1, 8))


def _pore_row(rng: Rng, canvas: Array) -> Array:
    height, width = canvas.shape[1:]
    start = rng.uniform(0, 0.6, 2) * (width, height)
    path = wander(rng, start, rng.uniform(0, 2 * np.pi), 1.3 * max(height, width), 0.15)
    centres = path[:: int(rng.integers(4, 12))]
    radii = np.clip(rng.lognormal(0.8, 0.5, len(centres)), 0.8, 7)
    holes = blobs(rng, (height, width), radii, at=centres)
    return blend(canvas, holes, canvas * rng.uniform(0.3, 0.7))


def _aggregate(rng: Rng, canvas: Array) -> Array:
    for _ in range(3):
        radii = rng.lognormal(1.3, 0.5, 10 + count_of(rng, canvas, 30)).clip(1.5, 14)
        stones = blur(blobs(rng, canvas.shape[1:], radii), 0.6) * rng.uniform(0.4, 0.9)
        canvas = blend(canvas, stones, tinted(rng, canvas, rng.uniform(0.75, 1.2), 3))
    return canvas


def _holes(rng: Rng, canvas: Array) -> Array:
    radii = rng.uniform(2, 9, rng.integers(1, 5))
    holes = blur(blobs(rng, canvas.shape[1:], radii, 0.35), 0.8)
    return carve(rng, canvas, holes, holes * 0, 4)


LOOKALIKES: tuple[Lookalike, ...] = (
    _paint_spots, _stain, _bloom, _two_tones, _shadow, _joint, _scratches, _trowel, _drip, _root,
    _pore_row, _aggregate, _holes,
)  # fmt: skip
