"""The line and the width of each crack, found in the full resolution of a photo."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from crackclf.inspection.lines import find_lines, length
from crackclf.inspection.regions import Region

Line = tuple[tuple[float, float, float | None], ...]

_AROUND = 16  # Pixels beyond a region that are looked at with it.
_REACH, _STEP = 32, 0.25  # Of the profile across a crack, to each side, in pixels.
_ACROSS = np.arange(-_REACH, _REACH + _STEP, _STEP)
_CONTRAST = 0.5  # How many times its surface's mean deviation a crack is darker than that.
_NEAR = 3  # Pixels from the line within which the crack is darkest.
_EVERY = 4  # Points of a line, of which one is told.


@dataclass(frozen=True)
class Crack:
    """A crack, traced.

    Attributes:
        probability: of a crack, where it is highest along the lines.
        length: of all lines, in pixels of the photo.
        mean_width: in pixels, over the length; None where no edges are seen.
        max_width: in pixels, which one point in twenty exceeds; None where no edges are seen.
        angle: of its main direction, in degrees anticlockwise from the rows of the photo, 0..180.
        box: left, top, right, bottom in pixels.
        lines: its parts and branches, the longest first. Of each, every fourth point as (x, y,
            width): in pixels from the photo's upper left corner, and the width there; None where
            the edges are not seen.
    """

    probability: float
    length: float
    mean_width: float | None
    max_width: float | None
    angle: float
    box: tuple[float, float, float, float]
    lines: tuple[Line, ...]


def trace_cracks(
    photo: Image.Image, probability: np.ndarray, regions: Sequence[Region]
) -> tuple[Crack, ...]:
    """Finds the cracks themselves in the regions of a photo.

    A crack is a line that is darker than both its sides. Where there is none, nothing is found.

    Args:
        photo: RGB.
        probability: map of shape (rows, columns), evenly spaced over the photo.
        regions: from `find_regions`.

    Returns:
        The cracks, the longest first.
    """
    if not regions:
        return ()
    grey = photo.convert("L")
    cracks = [x for region in regions for x in _trace_region(grey, probability, region)]
    return tuple(sorted(cracks, key=lambda crack: -crack.length))


def _trace_region(grey: Image.Image, probability: np.ndarray, region: Region) -> list[Crack]:
    left, top = (max(0, int(x) - _AROUND) for x in region.box[:2])
    right, bottom = (
        min(side, int(x) + 1 + _AROUND) for x, side in zip(region.box[2:], grey.size, strict=True)
    )
    pixels = np.asarray(grey.crop((left, top, right, bottom)))
    inside = Image.new("1", (right - left, bottom - top))
    draw = ImageDraw.Draw(inside)
    for outer, *holes in region.polygons:
        for ring in (outer, *holes):
            draw.polygon([(x - left, y - top) for x, y in ring], fill=ring is outer)
    cracks = []
    for lines in find_lines(pixels, np.asarray(inside)):
        profiles = np.concatenate([_look_across(pixels, line) for line in lines])
        if _is_dark(profiles):
            cracks.append(_measure(profiles, lines, (left, top), grey.size, probability))
    return cracks


def _look_across(grey: np.ndarray, line: np.ndarray) -> np.ndarray:
    """Grey values across a line at each of its points, of shape (points, `_ACROSS`)."""
    from scipy import ndimage

    along = np.gradient(line, axis=0)
    along /= np.maximum(np.hypot(*along.T), 1e-9)[:, None]
    places = line[:, None] + _ACROSS[:, None] * along[:, None, ::-1] * (1, -1)
    places = places.transpose(2, 0, 1)
    values = ndimage.map_coordinates(grey, places, np.float32, order=1, mode="nearest")
    return ndimage.uniform_filter1d(values, 5, axis=0, mode="nearest")


def _sides(profiles: np.ndarray) -> list[np.ndarray]:
    """The surface to the left and to the right of a line."""
    return [profiles[:, side * _ACROSS > _REACH / 2] for side in (-1, 1)]


def _is_dark(profiles: np.ndarray) -> bool:
    """Whether a line is darker than both its sides, which the edge of something dark is not."""
    sides = _sides(profiles)
    rough = np.median([np.abs(x - np.median(x, axis=1, keepdims=True)).mean() for x in sides])
    middle = profiles[:, np.abs(_ACROSS) <= 1].mean(axis=1)
    depth = np.min([np.median(x, axis=1) for x in sides], axis=0) - middle
    return bool(np.median(depth) > _CONTRAST * rough)


def _measure(
    profiles: np.ndarray,
    lines: list[np.ndarray],
    corner: tuple[int, int],
    size: tuple[int, int],
    probability: np.ndarray,
) -> Crack:
    wide = _widths(profiles)
    widths = np.split(wide, np.cumsum([len(line) for line in lines])[:-1])
    seen = wide[np.isfinite(wide)]
    lines = [line[:, ::-1] + corner + 0.5 for line in lines]
    points = np.concatenate(lines)
    columns, rows = (points / size * probability.shape[::-1]).astype(int).T
    x, y = np.linalg.svd(points - points.mean(0), full_matrices=False)[2][0]
    left, top, right, bottom = np.concatenate([points.min(0), points.max(0)]).round(1).tolist()
    kept = [np.unique([*range(0, len(line), _EVERY), len(line) - 1]) for line in lines]
    return Crack(
        probability=float(probability[rows, columns].max()),
        length=round(sum(map(length, lines)), 1),
        mean_width=round(float(seen.mean()), 2) if seen.size else None,
        max_width=round(float(np.percentile(seen, 95)), 2) if seen.size else None,
        angle=round(float(np.degrees(np.arctan2(-y, x))) % 180, 1),
        box=(left, top, right, bottom),
        lines=tuple(
            tuple(
                (round(x, 1), round(y, 1), round(width, 2) if np.isfinite(width) else None)
                for (x, y), width in zip(line[at].tolist(), wide[at].tolist(), strict=True)
            )
            for line, wide, at in zip(lines, widths, kept, strict=True)
        ),
    )


def _widths(profiles: np.ndarray) -> np.ndarray:
    """From edge to edge: where the grey value is half way from the surface to the crack."""
    near = np.flatnonzero(np.abs(_ACROSS) <= _NEAR)
    bottom = profiles[:, near].min(axis=1)
    middle = near[profiles[:, near].argmin(axis=1)]
    number = np.arange(len(_ACROSS))
    width = np.full(len(profiles), -_STEP)
    for side, surface in zip((-1, 1), _sides(profiles), strict=True):
        edge = (bottom + np.median(surface, axis=1)) / 2
        beyond = side * (number - middle[:, None]) > 0
        risen = ((profiles > edge[:, None]) & beyond)[:, ::side]
        first = number[::side][risen.argmax(axis=1)]
        width += np.where(risen.any(axis=1), np.abs(first - middle) * _STEP, np.inf)
    return width
