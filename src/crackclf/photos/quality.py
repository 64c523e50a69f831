"""What on a photo keeps cracks from being seen: light, blur, and parts that show nothing."""

import numpy as np
from PIL import Image

_TILE, _TILES = 256, 5  # Pixels of a part that is looked at, and how many there are to a side.
_DARK, _BRIGHT = 50, 250  # Grey levels that all but a twentieth of a photo exceed, or reach.
_BLURRED = 1.7  # A sharp photo's gradients grow by less when it is halved, a blurred one's by 2.
_LEVELS = 4
_EMPTY = 0.04  # Share of a photo in rows or columns of one grey.


def describe_quality(photo: Image.Image) -> str:
    """What is wrong with an RGB photo, in words; empty when nothing is."""
    grey = photo.convert("L")
    levels = np.sort(np.asarray(grey.resize((256, 256), Image.Resampling.BOX)), axis=None)
    reasons = []
    if levels[int(0.95 * levels.size)] < _DARK:
        reasons.append("is too dark")
    elif levels[int(0.5 * levels.size)] >= _BRIGHT:
        reasons.append("is overexposed")
    rows = np.asarray(grey.resize((64, photo.height), Image.Resampling.NEAREST))
    empty = float((np.ptp(rows, axis=1) == 0).mean())
    if empty > _EMPTY:
        reasons.append(f"shows nothing in {empty:.0%} of its rows: the file may be incomplete")
    if (least := measure_blur(grey)) > 2:
        reasons.append(f"is blurred: nothing under about {least} pixels can be seen")
    return "; ".join(reasons)


def measure_blur(grey: Image.Image) -> int:
    """Side in pixels of the smallest things that a grey photo shows, 1, 2, 4 and so on."""
    spots = [np.linspace(0, max(0, side - _TILE), _TILES).astype(int) for side in grey.size]
    tiles = [grey.crop((x, y, x + _TILE, y + _TILE)) for x in spots[0] for y in spots[1]]
    strengths = []
    for level in range(_LEVELS + 1):
        found = [np.asarray(tile.reduce(2**level), np.float32) for tile in tiles]
        strengths.append([np.abs(np.diff(x, axis=0)).mean() for x in found])
    # The sharpest parts count: a wall may be smooth, and what stands before it out of focus.
    growth = np.array(strengths[1:]) / np.maximum(strengths[:-1], 1e-3)
    sharp = np.quantile(growth, 0.25, axis=1) < _BLURRED
    return 2 ** int(np.argmax(sharp)) if sharp.any() else 2**_LEVELS
