"""An inspected photo as a picture."""

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from crackclf.data.images import read_photo
from crackclf.errors import UserError
from crackclf.inference.inspection import Inspection

_OUTLINE, _SHADE = "#00e5ff", "#10202a"


def draw_overlay(
    inspection: Inspection, photo: Image.Image | np.ndarray | None = None, longest: int = 2000
) -> Image.Image:
    """Lays the map of probabilities and the outlines of the regions over a photo.

    Args:
        inspection: from `inspect_photo`.
        photo: what was inspected; read again from `inspection.file` when None.
        longest: the picture's longer side in pixels, if the photo is larger.

    Returns:
        An RGB image.

    Raises:
        UserError: when there is neither photo nor file, or the file is no longer that photo.

    Example:

    ```python
    draw_overlay(inspect_photo("bridge.jpg", load_model())).save("bridge-cracks.jpg")
    ```
    """
    if photo is None:
        if not inspection.file:
            raise UserError("the photo was not a file; pass it as photo=.")
        photo, _ = read_photo(inspection.file)
    elif isinstance(photo, np.ndarray):
        photo = Image.fromarray(photo)
    if photo.size != (inspection.width, inspection.height):
        raise UserError(
            f"{inspection.file}: expected the photo that was inspected, "
            f"{inspection.width} x {inspection.height} pixels. Received: {photo.size}."
        )
    picture = shrink(photo, longest)
    heat = heat_layer(inspection.probability).resize(picture.size, Image.Resampling.BICUBIC)
    picture = Image.alpha_composite(picture.convert("RGBA"), heat).convert("RGB")
    draw, scale = ImageDraw.Draw(picture), picture.width / photo.width
    line = max(2, round(max(picture.size) / 500))
    font = ImageFont.load_default(size=max(12.0, max(picture.size) / 55))
    for region in inspection.regions:
        for ring in (ring for rings in region.polygons for ring in rings):
            points = [(x * scale, y * scale) for x, y in ring]
            draw.line(points, _SHADE, 2 * line, "curve")
            draw.line(points, _OUTLINE, line, "curve")
    for region in inspection.regions:
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
    colours = mpl.colormaps["inferno"](probability, bytes=True)
    colours[..., 3] = (150 * np.clip((probability - 0.05) / 0.45, 0, 1)).astype(np.uint8)
    return Image.fromarray(colours)
