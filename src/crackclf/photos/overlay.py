"""An inspected photo as a picture."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from crackclf.photos.maps import Region
from crackclf.photos.trace import Crack

_OUTLINE, _SHADE = "#00e5ff", "#10202a"
_THIN, _WIDE = np.array([255, 232, 64]), np.array([190, 0, 110])  # Yellow and magenta.
_GAP = 8  # Pixels between a photo and its drawing.
# Sixteen colours of matplotlib's inferno, evenly spaced.
_INFERNO = bytes.fromhex(
    "0000040c0826240c4f420a685d126e781c6d932667ae305c"
    "c73e4cdd513aed6925f8850ffca50afac62df2e661fcffa4"
)


def draw_cracks(
    photo: Image.Image, cracks: Sequence[Crack], regions: Sequence[Region], longest: int
) -> Image.Image:
    """Draws an RGB photo, shrunk to `longest`, and beside or below it its cracks and regions."""
    plain = shrink(photo, longest)
    drawn, scale = plain.copy(), plain.width / photo.width
    draw, line = ImageDraw.Draw(drawn), max(1, round(max(plain.size) / 700))
    for ring in (ring for region in regions for rings in region.polygons for ring in rings):
        draw.line([(x * scale, y * scale) for x, y in ring], _OUTLINE, line)
    widest = max((crack.max_width or 0 for crack in cracks), default=0) or 1
    for points in (points for crack in cracks for points in crack.lines):
        for (x, y, _), (next_x, next_y, width) in pairwise(points):
            ends = [(x * scale, y * scale), (next_x * scale, next_y * scale)]
            colour = _THIN + min((width or 0) / widest, 1) * (_WIDE - _THIN)
            draw.line(ends, tuple(colour.round().astype(int).tolist()), 2 * line)
    labels = [(str(i), x.box[0] * scale, x.box[1] * scale) for i, x in enumerate(cracks, 1)]
    if cracks:
        labels.append((f"yellow to magenta: 0 to {widest:.1f} pixels wide", 0, drawn.height))
    font = ImageFont.load_default(size=max(12.0, max(plain.size) / 60))
    for text, x, y in labels:
        _, _, right, bottom = draw.textbbox((0, 0), text, font)
        x = max(min(x, drawn.width - right - 8), 0)
        y = max(min(y, drawn.height) - bottom - 8, 0)
        draw.rectangle((x, y, x + right + 8, y + bottom + 6), fill=_SHADE)
        draw.text((x + 4, y + 2), text, "white", font)
    width, height = plain.size
    place = (0, height + _GAP) if width > height else (width + _GAP, 0)
    both = Image.new("RGB", (place[0] + width, place[1] + height), "white")
    both.paste(plain)
    both.paste(drawn, place)
    return both


def lay_heat(photo: Image.Image, probability: np.ndarray) -> Image.Image:
    """Lays a map, of shape (rows, columns) in 0..1, over an RGB photo."""
    heat = heat_layer(probability).resize(photo.size, Image.Resampling.BICUBIC)
    return Image.alpha_composite(photo.convert("RGBA"), heat).convert("RGB")


def heat_layer(probability: np.ndarray) -> Image.Image:
    """The map as RGBA, one pixel a cell, clear where a crack is improbable."""
    colours = np.frombuffer(_INFERNO, np.uint8).reshape(-1, 3).T
    channels = [np.interp(probability, np.linspace(0, 1, 16), channel) for channel in colours]
    channels.append(150 * np.clip((probability - 0.05) / 0.45, 0, 1))
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def crop_crack(photo: Image.Image, crack: Crack, side: int) -> tuple[Image.Image, tuple[int, ...]]:
    """A square of a photo at the widest place of a crack; its left, top, width and height."""
    x, y, _ = max((point for line in crack.lines for point in line), key=lambda x: x[2] or 0)
    left = max(0, min(round(x) - side // 2, photo.width - side))
    top = max(0, min(round(y) - side // 2, photo.height - side))
    crop = photo.crop((left, top, min(left + side, photo.width), min(top + side, photo.height)))
    return crop, (left, top, *crop.size)


def shrink(photo: Image.Image, longest: int) -> Image.Image:
    """A copy whose longer side has at most so many pixels."""
    scale = min(1, longest / max(photo.size))
    width, height = (max(1, round(side * scale)) for side in photo.size)
    return photo.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
