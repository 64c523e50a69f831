"""An inspected photo as a picture."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from crackclf.inspection.regions import Region
from crackclf.inspection.trace import Crack

_OUTLINE, _SHADE = "#00e5ff", "#10202a"
_THIN, _WIDE = (255, 232, 64), (190, 0, 110)  # Colours of a crack.
_GAP = 8  # Pixels between a photo and its drawing.
# Sixteen colours of matplotlib's inferno, evenly spaced.
_INFERNO = np.frombuffer(
    bytes.fromhex(
        "0000040c0826240c4f420a685d126e781c6d932667ae305c"
        "c73e4cdd513aed6925f8850ffca50afac62df2e661fcffa4"
    ),
    np.uint8,
).reshape(16, 3)


def draw_cracks(
    photo: Image.Image, cracks: Sequence[Crack], regions: Sequence[Region], longest: int
) -> Image.Image:
    """Draws a photo twice: as it is, and with its cracks and the outlines of the regions.

    Args:
        photo: RGB.
        cracks: coloured by their width; numbered from 1.
        regions: outlined thinly, so that one without a crack is seen as well.
        longest: the longer side of each of the two in pixels, if the photo is larger.

    Returns:
        An RGB image: a wide photo above its drawing, a high one beside it.
    """
    plain = shrink(photo, longest)
    drawn = plain.copy()
    draw, scale = ImageDraw.Draw(drawn), plain.width / photo.width
    line = max(1, round(max(plain.size) / 700))
    for ring in (ring for region in regions for rings in region.polygons for ring in rings):
        draw.line([(x * scale, y * scale) for x, y in ring], _OUTLINE, line)
    widest = max((crack.max_width or 0 for crack in cracks), default=0) or 1
    for points in (points for crack in cracks for points in crack.lines):
        for (x, y, _), (next_x, next_y, width) in pairwise(points):
            ends = [(x * scale, y * scale), (next_x * scale, next_y * scale)]
            draw.line(ends, _colour((width or 0) / widest), 2 * line)
    font = ImageFont.load_default(size=max(12.0, max(plain.size) / 60))
    for number, crack in enumerate(cracks, 1):
        _label(draw, str(number), (crack.box[0] * scale, crack.box[1] * scale), font, drawn.size)
    if cracks:
        text = f"yellow to magenta: 0 to {widest:.1f} pixels wide"
        _label(draw, text, (0, drawn.height), font, drawn.size)
    is_wide = plain.width > plain.height
    place = (0, plain.height + _GAP) if is_wide else (plain.width + _GAP, 0)
    both = Image.new("RGB", (place[0] + plain.width, place[1] + plain.height), "white")
    both.paste(plain)
    both.paste(drawn, place)
    return both


def _colour(share: float) -> tuple[int, ...]:
    """Bright yellow for the thinnest to dark magenta for the widest: told apart by anybody."""
    share = min(share, 1)
    return tuple(round(a + share * (b - a)) for a, b in zip(_THIN, _WIDE, strict=True))


def _label(
    draw: ImageDraw.ImageDraw,
    text: str,
    place: tuple[float, float],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    size: tuple[int, int],
) -> None:
    _, _, right, bottom = draw.textbbox((0, 0), text, font)
    x = max(min(place[0], size[0] - right - 8), 0)
    y = max(min(place[1], size[1]) - bottom - 8, 0)
    draw.rectangle((x, y, x + right + 8, y + bottom + 6), fill=_SHADE)
    draw.text((x + 4, y + 2), text, "white", font)


def lay_heat(photo: Image.Image, probability: np.ndarray, longest: int) -> Image.Image:
    """Lays a map of probabilities over a photo.

    Args:
        photo: RGB.
        probability: float of shape (rows, columns) in 0..1, evenly spaced over the photo.
        longest: the picture's longer side in pixels, if the photo is larger.

    Returns:
        An RGB image.
    """
    picture = shrink(photo, longest)
    heat = heat_layer(probability).resize(picture.size, Image.Resampling.BICUBIC)
    return Image.alpha_composite(picture.convert("RGBA"), heat).convert("RGB")


def crop_crack(photo: Image.Image, crack: Crack, side: int) -> Image.Image:
    """The part of a photo around the widest place of a crack, as it is."""
    points = [point for line in crack.lines for point in line]
    x, y, _ = max(points, key=lambda point: point[2] or 0)
    corner = (
        max(0, min(round(place) - side // 2, whole - side))
        for place, whole in zip((x, y), photo.size, strict=True)
    )
    left, top = corner
    return photo.crop((left, top, min(left + side, photo.width), min(top + side, photo.height)))


def shrink(photo: Image.Image, longest: int) -> Image.Image:
    """A copy whose longer side has at most so many pixels."""
    scale = min(1, longest / max(photo.size))
    width, height = (max(1, round(side * scale)) for side in photo.size)
    return photo.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)


def heat_layer(probability: np.ndarray) -> Image.Image:
    """The map as RGBA, one pixel a cell, clear where a crack is improbable."""
    places = np.linspace(0, 1, len(_INFERNO))
    channels = [np.interp(probability, places, channel) for channel in _INFERNO.T]
    channels.append(150 * np.clip((probability - 0.05) / 0.45, 0, 1))
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))
