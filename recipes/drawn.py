"""Drawn scenes with the masks of their cracks: on drawn concrete, on joints and on real grain."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.morphology import skeletonize

from crackclf.images import read_image
from drawn_concrete.concrete import carve, crack, photograph, surface
from drawn_concrete.drawing import blend, blobs, blur, noise, ramp, tinted
from drawn_concrete.joints import JOINTED
from drawn_concrete.make import add_things, distract

SIDE = 320  # Of a drawn scene, in pixels.
CRACK, CENTRE = 128, 255  # Values in a mask; CENTRE is the crack's centre line.
_HAIRLINE, _WIDE = (1.0, 3.5), (20.0, 75.0)  # Widths in pixels; views show parts at any scale.
_BRIGHT = 0.12  # Share of the cracks that lime has filled.

Scene = tuple[np.ndarray, np.ndarray]


def draw_concrete(rng: np.random.Generator, cracked: bool, side: int = SIDE) -> Scene:
    """Concrete with or without look-alikes, joints, spalls and soil beside it."""
    canvas = surface(rng, (side, side))
    if rng.random() < 0.6:
        canvas = distract(rng, canvas)
    return _photograph(rng, _add_damage(rng, canvas), cracked)


def draw_jointed(
    rng: np.random.Generator, cracked: bool, side: int = SIDE, plain: bool = False
) -> Scene:
    """A surface with joints of any kind and, unless it is plain, with look-alikes."""
    canvas = JOINTED[rng.integers(len(JOINTED))](rng, surface(rng, (side, side)))
    if not plain:
        canvas = add_things(rng, canvas, rng.choice([0, 0, 1, 2]))
    return _photograph(rng, canvas, cracked)


def draw_on_real(rng: np.random.Generator, cracked: bool, grounds: Sequence[Path]) -> Scene:
    """A crack on the image of a real sound surface, as sharp as the image is."""
    image = Image.fromarray(read_image(grounds[rng.integers(len(grounds))]))
    if min(image.size) < SIDE / 2:  # A texture, which tiles.
        image = tile(rng, image, SIDE)
    canvas = np.asarray(image, np.float32).transpose(2, 0, 1)
    opened, mask = _add_cracks(rng, canvas) if cracked else (canvas, np.zeros(image.size[::-1]))
    change = gaussian_filter(opened - canvas, (0, *[rng.uniform(0.4, 1.5)] * 2))
    return np.clip(canvas + change, 0, 255).astype(np.uint8).transpose(1, 2, 0), mask > 0


def tile(rng: np.random.Generator, texture: Image.Image, side: int) -> Image.Image:
    """A square of a texture that is repeated, one to four times in each direction."""
    count = rng.integers(1, 5)
    width, height = (count * x for x in texture.size)
    whole = Image.new("RGB", (width, height))
    for x in range(0, width, texture.width):
        for y in range(0, height, texture.height):
            whole.paste(texture, (x, y))
    return whole.resize((side, side), Image.Resampling.BICUBIC, (0, 0, *[min(width, height)] * 2))


def _add_damage(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """Perhaps a spall, and perhaps soil, plants or another surface beside the concrete."""
    shape, level = canvas.shape[1:], canvas.mean((1, 2), keepdims=True)
    rough = lambda cell: noise(rng, shape, cell)
    if rng.random() < 0.15:
        radius = rng.uniform(10, 90, 1)
        hole = ramp(blur(blobs(rng, shape, radius, 0.4), 3) + 0.08 * rough(9), 0.4, 0.55)
        bed = level * rng.uniform(0.55, 1.15) * (1 + 0.15 * rough(4) + 0.12 * rough(15))
        rim = np.abs(hole - blur(hole, rng.uniform(2, 7)))
        canvas = blend(canvas, hole * rng.uniform(0.7, 1), tinted(rng, bed, 1, 5))
        canvas = blend(canvas, rim * rng.uniform(0.3, 1.2), level * rng.uniform(0.25, 1.3))
    if rng.random() < 0.12:
        slope = rng.normal(0, 1, 2)
        rows, columns = np.indices(shape) / shape[0] - rng.uniform(0.2, 0.8)
        away = SIDE * (slope[0] * rows + slope[1] * columns) / np.hypot(*slope)
        edge = ramp(away + rng.uniform(0, 10) * rough(20) + rng.uniform(0, 6) * rough(5), -2, 2)
        colour = np.array(((70, 60, 45), (60, 85, 35), (95, 90, 85))[rng.integers(3)], np.float32)
        grain = 1 + 0.25 * rough(rng.uniform(2, 5)) + 0.25 * rough(12)
        canvas = blend(canvas, edge, colour.reshape(3, 1, 1) * rng.uniform(0.4, 1.8) * grain)
    return canvas


def _photograph(rng: np.random.Generator, canvas: np.ndarray, cracked: bool) -> Scene:
    mask = np.zeros(canvas.shape[1:], bool)
    if cracked:
        canvas, mask = _add_cracks(rng, canvas)
    return photograph(rng, canvas), mask


def _add_cracks(rng: np.random.Generator, canvas: np.ndarray) -> Scene:
    mask = np.zeros(canvas.shape[1:], bool)
    while mask.sum() < 40 or rng.random() < 0.15:
        kind = rng.random()
        width = min(25, rng.lognormal(2.0, 0.6))
        if kind < 0.3:
            width = rng.uniform(*_HAIRLINE)
        elif kind > 0.88:
            width = float(np.exp(rng.uniform(*np.log(_WIDE))))
        coverage, side = crack(rng, mask.shape, width)
        mask |= coverage > 0.5
        if rng.random() < _BRIGHT:
            lime = np.minimum(canvas.mean((1, 2), keepdims=True) * rng.uniform(1.2, 1.7), 245)
            ragged = blur(coverage, 0.8) * ramp(noise(rng, mask.shape, 6), -2.5, 0.5)
            canvas = blend(canvas, ragged * rng.uniform(0.5, 1), tinted(rng, lime, 1, 4))
        else:
            faint = rng.uniform(0.35, 1) if rng.random() < 0.3 else 1.0
            canvas = canvas + faint * (carve(rng, canvas, coverage, side, width) - canvas)
    return canvas, mask


def mark_centre(mask: np.ndarray) -> np.ndarray:
    """A mask with its centre lines: uint8, 0, `CRACK` or `CENTRE`."""
    return np.where(skeletonize(mask), CENTRE, np.where(mask, CRACK, 0)).astype(np.uint8)
