"""Surfaces with joints and edges, none of which is a crack: paving, brick, boards, kerbs."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.spatial import KDTree

from drawn_concrete.drawing import Array, Rng, Shape, blend, blur, noise, ramp, shift, tinted, unit

Scene: TypeAlias = Callable[[Rng, Array], Array]
Stones: TypeAlias = npt.NDArray[np.int_]  # The number of the stone at each pixel.

_TONES = 4096  # Different stones; further ones repeat them.


def _plane(rng: Rng, shape: Shape, tilt: float, wobble: float = 0.0) -> tuple[Array, Array]:
    """Coordinates in pixels on a surface that is turned, tilted to the camera and not quite flat.

    Args:
        rng: source of randomness.
        shape: (height, width) of the canvas.
        tilt: share by which the far edge may be smaller than the near one.
        wobble: pixels by which lines wind.
    """
    height, width = shape
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    along, across = unit(rng.choice([0, rng.uniform(0, np.pi)])), rng.uniform(-tilt, tilt, 2)
    nearness = 1 + across[0] * (rows / height - 0.5) + across[1] * (columns / width - 0.5)
    rows, columns = (rows - height / 2) * nearness, (columns - width / 2) * nearness
    u, v = along[0] * columns + along[1] * rows, along[0] * rows - along[1] * columns
    if wobble:
        u, v = (x + wobble * noise(rng, shape, rng.uniform(25, 80)) for x in (u, v))
    return u + rng.uniform(0, 1000), v + rng.uniform(0, 1000)


def _bond(
    rng: Rng, shape: Shape, stone: tuple[float, float], wobble: float, rounded: float
) -> tuple[Array, Stones]:
    """Stones in rows: pixels to the next edge (negative beyond it), and a number for each stone."""
    length, height = stone
    u, v = _plane(rng, shape, 0.3, wobble)
    row = np.floor(v / height)
    u = u + row * length * rng.choice([0, 1 / 2, 1 / 3, rng.uniform(0, 1)])
    column = np.floor(u / length)
    radius = rounded * min(stone) / 2
    x = np.abs(u / length - column - 0.5) * length - (length / 2 - radius)
    y = np.abs(v / height - row - 0.5) * height - (height / 2 - radius)
    outside = np.hypot(np.maximum(x, 0), np.maximum(y, 0))
    inside = radius - outside - np.minimum(np.maximum(x, y), 0)
    return inside, (row * 57 + column).astype(int) % _TONES


def _rubble(rng: Rng, shape: Shape, size: float) -> tuple[Array, Stones]:
    """Stones of any form, as `_bond` gives those in rows."""
    height, width = shape
    step = max(2, int(size / 16))  # Pixels; enough for lines so smooth.
    small = (-(-height // step), -(-width // step))
    rows, columns = np.mgrid[0 : small[0], 0 : small[1]] * float(step)
    count = int((height + 2 * size) * (width + 2 * size) / size**2) + 4
    centres = rng.uniform(-size, 1, (count, 2))
    centres += rng.random((count, 2)) * (height + 2 * size, width + 2 * size)
    wind = [0.04 * size * noise(rng, small, 4) for _ in range(2)]
    away, nearest = KDTree(centres).query(np.stack([rows + wind[0], columns + wind[1]], -1), k=2)
    inside = Image.fromarray(((away[..., 1] - away[..., 0]) / 2).astype(np.float32))
    stones = np.asarray(nearest)[..., 0] % _TONES
    stones = np.repeat(np.repeat(stones, step, 0), step, 1)[:height, :width]
    return np.asarray(inside.resize((width, height), Image.Resampling.BILINEAR)), stones


def _lay(
    rng: Rng, canvas: Array, laid: tuple[Array, Stones], gap: float, mortar: float, spread: float
) -> Array:
    """Draws stones and the joints between them.

    Args:
        rng: source of randomness.
        canvas: the surface of the stones.
        laid: pixels to the next edge, and the number of each stone.
        gap: width of a joint in pixels.
        mortar: grey level of a joint over that of the stones.
        spread: deviation of the stones' grey levels from each other, as a share.
    """
    inside, stone = laid
    shape = canvas.shape[1:]
    ragged = rng.choice([0.1, rng.uniform(0.2, 1.5)]) * noise(rng, shape, rng.uniform(2, 6))
    soft = rng.uniform(0.5, 1.5)
    joint = 1 - ramp(inside - gap / 2 + ragged, -soft, soft)
    tones = np.exp(rng.normal(0, spread, _TONES)).astype(np.float32)
    casts = rng.normal(0, 30 * spread, (3, _TONES)).astype(np.float32)
    canvas = canvas * tones[stone] + casts[:, stone] * rng.choice([0, 0.4, 1])
    level, light = canvas.mean((1, 2), keepdims=True), unit(rng.uniform(0, 2 * np.pi))
    if rng.random() < 0.5:  # Rounded edges, lit on one side and in shade on the other.
        near = blur(joint, 1 + rng.uniform(0.2, 0.8) * gap)
        canvas = canvas * (1 + rng.uniform(0.1, 0.9) * (shift(near, 2 * light) - near))
    bed = level * mortar * (1 + rng.uniform(0.02, 0.2) * noise(rng, shape, rng.uniform(1.5, 4)))
    if rng.random() < 0.3:  # Moss, sand or dirt fills a part of it.
        dirt = ramp(noise(rng, shape, rng.uniform(10, 40)), -0.5, 0.8)
        bed = blend(bed, dirt, tinted(rng, level, rng.uniform(0.5, 1.2), 14))
    canvas = blend(canvas, joint, tinted(rng, bed, 1, 4))
    if rng.random() < 0.5 and gap > 2:  # The shadow of the stone beside.
        shade = joint * (1 - shift(joint, light * rng.uniform(0.2, 0.6) * gap))
        canvas = blend(canvas, shade * rng.uniform(0.3, 0.9), level * min(mortar, 1) * 0.45)
    return canvas


def _gap_tone(rng: Rng, bright: float) -> float:
    """Grey level of a joint over that of the stones; bright with this probability."""
    return rng.uniform(1.08, 1.45) if rng.random() < bright else rng.uniform(0.2, 0.85)


def _paving(rng: Rng, canvas: Array) -> Array:
    height = rng.uniform(45, 260)
    stone = (height * rng.choice([1, rng.uniform(1, 2.5)]), height)
    laid = _bond(rng, canvas.shape[1:], stone, rng.uniform(0, 1), rng.uniform(0, 0.15))
    return _lay(rng, canvas, laid, rng.uniform(1, 9), _gap_tone(rng, 0.2), rng.uniform(0, 0.12))


def _setts(rng: Rng, canvas: Array) -> Array:
    height = rng.uniform(18, 90)
    stone = (height * rng.uniform(1, 1.6), height)
    laid = _bond(rng, canvas.shape[1:], stone, 0.05 * height, rng.uniform(0.2, 0.8))
    gap = rng.uniform(0.06, 0.2) * height
    return _lay(rng, canvas, laid, gap, _gap_tone(rng, 0.25), rng.uniform(0.05, 0.2))


def _rubble_wall(rng: Rng, canvas: Array) -> Array:
    laid = _rubble(rng, canvas.shape[1:], rng.uniform(30, 170))
    return _lay(rng, canvas, laid, rng.uniform(4, 16), _gap_tone(rng, 0.4), rng.uniform(0.08, 0.2))


def _bricks(rng: Rng, canvas: Array) -> Array:
    height = rng.uniform(18, 70)
    laid = _bond(rng, canvas.shape[1:], (height * rng.uniform(2.2, 3.8), height), 0.6, 0.1)
    hue = [(1.1, 0.72, 0.6), (0.95, 0.85, 0.7), (0.8, 0.75, 0.72), (1, 1, 1)][rng.integers(4)]
    canvas = canvas * rng.uniform(0.6, 1) * np.array(hue, np.float32).reshape(3, 1, 1)
    gap = rng.uniform(0.08, 0.22) * height
    return _lay(rng, canvas, laid, gap, _gap_tone(rng, 0.7), rng.uniform(0.03, 0.15))


def _tiles(rng: Rng, canvas: Array) -> Array:
    side, level = rng.uniform(30, 200), canvas.mean((1, 2), keepdims=True)
    canvas = blend(
        canvas,
        np.full(canvas.shape[1:], rng.uniform(0.4, 0.95), np.float32),
        tinted(rng, level, 1, 12),
    )
    laid = _bond(rng, canvas.shape[1:], (side * rng.choice([1, 1, 2]), side), 0, 0.03)
    return _lay(rng, canvas, laid, rng.uniform(1.5, 6), _gap_tone(rng, 0.6), rng.uniform(0, 0.05))


def _board_marks(rng: Rng, canvas: Array) -> Array:
    """What the boards of a form leave: their edges, their grain, each another shade."""
    shape, width = canvas.shape[1:], rng.uniform(25, 150)
    _, v = _plane(rng, shape, 0.1, rng.uniform(0, 1))
    board = np.floor(v / width).astype(int) % _TONES
    away = width / 2 - np.abs(v - (np.floor(v / width) + 0.5) * width)
    tones = np.exp(rng.normal(0, rng.uniform(0.01, 0.08), _TONES)).astype(np.float32)
    canvas = canvas * tones[board] + rng.uniform(0, 5) * _grain(rng, v, board)
    edge = ramp(away, rng.uniform(0.6, 4), 0) * ramp(noise(rng, shape, 30), -2.5, 0.5)
    tone = rng.choice([rng.uniform(0.35, 0.9), rng.uniform(1.05, 1.25)])
    return blend(canvas, edge.astype(np.float32), canvas * tone)


def _timber(rng: Rng, canvas: Array) -> Array:
    """Boards of wood, with grain and gaps."""
    shape, width = canvas.shape[1:], rng.uniform(40, 300)
    _, v = _plane(rng, shape, 0.2, 1)
    board = np.floor(v / width).astype(int) % _TONES
    away = width / 2 - np.abs(v - (np.floor(v / width) + 0.5) * width)
    hue = np.array([1.1, 0.9, 0.65], np.float32).reshape(3, 1, 1) ** rng.uniform(0, 1)
    tones = np.exp(rng.normal(0, 0.08, _TONES)).astype(np.float32)
    canvas = hue * (0.3 * canvas + 0.7 * canvas.mean((1, 2), keepdims=True))
    canvas = canvas * tones[board] * (1 + rng.uniform(0.03, 0.15) * _grain(rng, v, board))
    gap = ramp(away, rng.uniform(1, 5), 0)
    return blend(canvas, gap, canvas * rng.uniform(0.2, 0.7))


def _grain(rng: Rng, v: Array, board: Array) -> Array:
    """Lines along boards, closer and farther, as year rings are."""
    bent = v + 3 * noise(rng, v.shape, rng.uniform(30, 90)) + 37.0 * (board % 11)
    return np.sin(bent / rng.uniform(0.8, 4)) * ramp(noise(rng, v.shape, 25), -1.5, 1.5)


def _control_joint(rng: Rng, canvas: Array) -> Array:
    """One or two straight cuts or sealed joints."""
    shape, width = canvas.shape[1:], rng.uniform(1.5, 16)
    u, v = _plane(rng, shape, 0)
    lines = [u, v] if rng.random() < 0.25 else [v]
    where = [np.quantile(x, rng.uniform(0.15, 0.85)) for x in lines]
    away = np.min([np.abs(x - at) for x, at in zip(lines, where, strict=True)], axis=0)
    chips = rng.choice([0, rng.uniform(0.2, 1.5)]) * noise(rng, shape, 4)
    soft = rng.uniform(0.4, 1.2)
    cut = 1 - ramp(away - width / 2 + chips, -soft, soft).astype(np.float32)
    tone = rng.choice([rng.uniform(0.08, 0.7), rng.uniform(0.08, 0.7), rng.uniform(1.05, 1.3)])
    filled = canvas.mean((1, 2), keepdims=True) * tone * (1 + 0.08 * noise(rng, shape, 2.5))
    canvas = blend(canvas, blur(cut, 2) * rng.choice([0, 0.3]), canvas * 1.2)
    return blend(canvas, cut, tinted(rng, filled, 1, 5))


def _kerb(rng: Rng, canvas: Array) -> Array:
    """An edge with another surface beyond it, and often a dark line between."""
    shape = canvas.shape[1:]
    _, v = _plane(rng, shape, 0, rng.uniform(0, 1.5))
    away = v - np.quantile(v, rng.uniform(0.2, 0.8))
    other = canvas[:, ::-1] + rng.uniform(0, 14) * noise(rng, shape, rng.uniform(1.5, 8))
    canvas = blend(canvas, ramp(away, -1, 1), tinted(rng, other, rng.uniform(0.3, 1.4), 12))
    line = ramp(np.abs(away), rng.uniform(1, 7), 0).astype(np.float32)
    canvas = blend(canvas, line * rng.uniform(0, 1), canvas * rng.uniform(0.15, 0.8))
    if rng.random() < 0.4:
        fall = ramp(-away, rng.uniform(10, 80), 0) * (away < 0)
        canvas = blend(canvas, fall.astype(np.float32), canvas * rng.uniform(0.45, 0.85))
    return canvas


JOINTED: tuple[Scene, ...] = (
    _paving, _setts, _rubble_wall, _bricks, _tiles, _board_marks, _timber, _control_joint, _kerb,
)  # fmt: skip
