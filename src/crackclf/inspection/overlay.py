"""An inspected photo as a picture."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from crackclf.inspection.regions import Region

_OUTLINE, _SHADE = "#00e5ff", "#10202a"
# Sixteen colours of matplotlib's inferno, evenly spaced.
_INFERNO = np.frombuffer(
    bytes.fromhex(
        "0000040c0826240c4f420a685d126e781c6d932667ae305c"
        "c73e4cdd513aed6925f8850ffca50afac62df2e661fcffa4"
    ),
    np.uint8,
).reshape(16, 3)


def lay_over(
    photo: Image.Image, probability: np.ndarray, regions: Sequence[Region], longest: int
) -> Image.Image:
    """Lays a map of probabilities and the outlines of regions over a photo.

    Args:
        photo: RGB.
        probability: float of shape (rows, columns) in 0..1, evenly spaced over the photo.
        regions: in pixels of the photo.
        longest: the picture's longer side in pixels, if the photo is larger.

    Returns:
        An RGB image.
    """
    picture = shrink(photo, longest)
    heat = heat_layer(probability).resize(picture.size, Image.Resampling.BICUBIC)
    picture = Image.alpha_composite(picture.convert("RGBA"), heat).convert("RGB")
    draw, scale = ImageDraw.Draw(picture), picture.width / photo.width
    line = max(2, round(max(picture.size) / 500))
    for region in regions:
        for ring in (ring for rings in region.polygons for ring in rings):
            points = [(x * scale, y * scale) for x, y in ring]
            draw.line(points, _SHADE, 2 * line, "curve")
            draw.line(points, _OUTLINE, line, "curve")
    font = ImageFont.load_default(size=max(12.0, max(picture.size) / 55))
    for region in regions:
        text = f"{region.probability:.2f}"
        _, _, right, bottom = draw.textbbox((0, 0), text, font)
        x = min(region.box[0] * scale, picture.width - right - 8)
        y = max(region.box[1] * scale - bottom - 8, 0)
        draw.rectangle((x, y, x + right + 8, y + bottom + 6), fill=_SHADE)
        draw.text((x + 4, y + 2), text, _OUTLINE, font)
    return picture


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
