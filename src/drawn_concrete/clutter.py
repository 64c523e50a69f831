"""Things that lie on concrete, hang before it or throw their shadow on it."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from drawn_concrete.drawing import (
    Array,
    Rng,
    Shape,
    blend,
    blur,
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


def _paint(rng: Rng, canvas: Array, coverage: Array, level: float, cast: float) -> Array:
    """Covers with one colour of this grey level, with a colour cast of this deviation."""
    return blend(canvas, coverage, tinted(rng, np.full_like(canvas, level), 1, cast))


def _cable(rng: Rng, canvas: Array) -> Array:
    shape, width = canvas.shape[1:], rng.uniform(2, 14)
    line = stroke(rng, shape, width, rng.choice([0, 0.06]))
    fall = unit(rng.uniform(0, 2 * np.pi)) * rng.uniform(0, 3) * width
    canvas = blend(canvas, blur(shift(line, fall), 2) * rng.uniform(0, 0.6), canvas * 0.5)
    canvas = _paint(rng, canvas, line, rng.uniform(20, 230), rng.choice([3.0, 40.0]))
    shine = np.clip(line - shift(line, 0.3 * width * unit(rng.uniform(0, 2 * np.pi))), 0, 1)
    return blend(canvas, shine * rng.uniform(0, 0.6), canvas * rng.uniform(0.5, 1.5))


def _rust(rng: Rng, canvas: Array) -> Array:
    shape = canvas.shape[1:]
    core = stroke(rng, shape, rng.uniform(2, 14), 0.03, 0.8)
    near = blur(core, rng.uniform(4, 16)) * ramp(noise(rng, shape, 14), -1.5, 1)
    brown = np.array([120, 72, 40], np.float32).reshape(3, 1, 1) * rng.uniform(0.7, 1.3)
    canvas = blend(canvas, np.clip(near * rng.uniform(0.5, 2), 0, 1), brown + 0.35 * canvas)
    return blend(canvas, core * rng.uniform(0, 1), brown * rng.uniform(0.4, 1))


def _leaves(rng: Rng, canvas: Array) -> Array:
    height, width = canvas.shape[1:]
    along = np.linspace(0, 1, 24)
    for _ in range(rng.integers(1, 5)):
        length, heading = rng.uniform(15, 110), rng.uniform(0, 2 * np.pi)
        axis, normal = unit(heading), unit(heading + np.pi / 2)
        middle = rng.random(2) * (width, height) + np.outer(along * length, axis)
        middle += np.outer(np.sin(3 * along) * rng.uniform(-0.2, 0.2) * length, normal)
        half = length * rng.uniform(0.12, 0.35) * np.sin(np.pi * along**0.8)
        half *= 1 + 0.15 * profile(rng, 24, 2)
        sides = [middle + np.outer(sign * half, normal) for sign in (1, -1)]
        leaf = fill((height, width), [np.concatenate([sides[0], sides[1][::-1]])])
        canvas = blend(canvas, blur(shift(leaf, unit(rng.uniform(0, 6)) * 4), 2) * 0.5, canvas / 2)
        hue = [(80, 110, 50), (150, 110, 50), (180, 150, 60), (90, 60, 40)][rng.integers(4)]
        colour = np.array(hue, np.float32).reshape(3, 1, 1) * rng.uniform(0.6, 1.3)
        canvas = blend(canvas, leaf, colour * (1 + 0.1 * noise(rng, (height, width), 4)))
        vein = fill((height, width), [ribbon(rng, middle.astype(np.float32), 1.2, 0)])
        canvas = blend(canvas, vein * 0.7, colour * rng.choice([0.6, 1.4]))
    return canvas


def _tide(rng: Rng, canvas: Array) -> Array:
    """The line up to which water stood."""
    shape = canvas.shape[1:]
    rows = np.mgrid[0 : shape[0], 0 : shape[1]][0].astype(np.float32)
    away = rows - rng.uniform(0.2, 0.8) * shape[0] + rng.uniform(1, 12) * noise(rng, shape, 40)
    away += rng.uniform(0, 3) * noise(rng, shape, 6)
    canvas = blend(canvas, ramp(away, -2, 4), tinted(rng, canvas, rng.uniform(0.55, 0.95), 5))
    line = ramp(np.abs(away), rng.uniform(1.5, 8), 0).astype(np.float32)
    tone = rng.choice([rng.uniform(0.5, 0.9), rng.uniform(1.05, 1.3)])
    return blend(canvas, line * rng.uniform(0.2, 1), canvas * tone)


def _tyre_marks(rng: Rng, canvas: Array) -> Array:
    shape = canvas.shape[1:]
    band = stroke(rng, shape, rng.uniform(20, 90), 0.02)
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    direction = unit(rng.uniform(0, np.pi))
    tread = np.sin((rows * direction[1] + columns * direction[0]) / rng.uniform(1.5, 6))
    worn = ramp(noise(rng, shape, rng.uniform(8, 40)), -1, 1.5) * ramp(tread, -0.4, 0.6)
    return blend(canvas, band * worn * rng.uniform(0.3, 0.8), canvas * rng.uniform(0.35, 0.75))


def _painted_line(rng: Rng, canvas: Array) -> Array:
    shape = canvas.shape[1:]
    line = stroke(rng, shape, rng.uniform(8, 90), 0, 0.02)
    worn = ramp(noise(rng, shape, rng.uniform(2, 9)) + noise(rng, shape, 30), -2.5, -1.2)
    return _paint(rng, canvas, line * worn, rng.uniform(150, 245), rng.choice([4.0, 60.0]))


def _text(rng: Rng, canvas: Array) -> Array:
    height, width = canvas.shape[1:]
    letters = "".join(chr(x) for x in rng.integers(48, 91, rng.integers(1, 7)))
    image = Image.new("L", (width, height))
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(float(rng.uniform(14, 130)))
    at = tuple((rng.uniform(-0.1, 0.7, 2) * (width, height)).tolist())
    draw.text(at, letters, 255, font, stroke_width=int(rng.integers(0, 4)))
    image = image.rotate(rng.uniform(0, 360) if rng.random() < 0.5 else 0)
    written = blur(np.asarray(image, np.float32) / 255, rng.uniform(0.4, 2))
    return _paint(rng, canvas, written * rng.uniform(0.5, 1), rng.uniform(20, 240), 40)


def _branches(rng: Rng, shape: Shape) -> Array:
    """The coverage of a tree's branches."""
    height, width = shape
    outlines = []
    stack = [(rng.random(2) * (width, height), rng.uniform(0, 6.3), rng.uniform(3, 16), 0)]
    while stack:
        start, heading, thick, depth = stack.pop()
        path = wander(rng, start, heading, rng.uniform(0.3, 1.2) * max(shape), 0.18)
        outlines.append(ribbon(rng, path, thick * np.linspace(1, 0.4, len(path)), 0.1))
        if depth < 3:
            for _ in range(rng.integers(1, 4)):
                at = path[rng.integers(len(path) // 5, len(path))]
                turn = rng.choice([-1, 1]) * rng.uniform(0.3, 1.1)
                stack.append((at, heading + turn, thick * rng.uniform(0.3, 0.7), depth + 1))
    return fill(shape, outlines)


def _branch_shadow(rng: Rng, canvas: Array) -> Array:
    dark = blur(_branches(rng, canvas.shape[1:]), rng.uniform(0.8, 6))
    return blend(canvas, dark, canvas * rng.uniform(0.4, 0.85))


def _railing_shadow(rng: Rng, canvas: Array) -> Array:
    height, width = canvas.shape[1:]
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    direction = unit(rng.uniform(0, np.pi))
    period, soft = rng.uniform(12, 110), rng.uniform(0.8, 6)
    away = np.abs((rows * direction[1] + columns * direction[0]) % period - period / 2)
    bars = 1 - ramp(away - period * rng.uniform(0.05, 0.3), -soft, soft)
    return blend(canvas, bars.astype(np.float32), canvas * rng.uniform(0.4, 0.85))


def _web(rng: Rng, canvas: Array) -> Array:
    height, width = canvas.shape[1:]
    centre, reach = rng.random(2) * (width, height), rng.uniform(30, 200)
    spokes = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(6, 16)))
    ends = centre + reach * np.stack([np.cos(spokes), np.sin(spokes)], 1)
    image = Image.new("L", (2 * width, 2 * height))
    draw = ImageDraw.Draw(image)
    rings = [centre + (ends - centre) * share for share in np.linspace(0.15, 0.95, 9)]
    for end in ends:
        draw.line([*(2 * centre), *(2 * end)], 255, 2)
    for ring in rings[: int(rng.integers(0, 10))]:
        draw.line([tuple(2 * point) for point in (*ring, ring[0])], 255, 1)
    lines = np.asarray(image.reduce(2), np.float32) / 255
    return _paint(rng, canvas, lines * rng.uniform(0.2, 0.9), rng.uniform(20, 245), 3)


CLUTTER = (
    _cable, _rust, _leaves, _tide, _tyre_marks, _painted_line, _text, _branch_shadow,
    _railing_shadow, _web,
)  # fmt: skip
