"""Cracked regions of a photo, outlined, from the map of probabilities."""

from dataclasses import dataclass
from typing import Any

import numpy as np

_REACH = 0.5  # More probable than not; docs/inspect.md measures it.

Ring = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Region:
    """A connected part of a photo that is called cracked.

    Attributes:
        probability: of a crack, where it is highest.
        area: in pixels of the photo; that of the region, which is wider than the crack in it.
        box: left, top, right, bottom in pixels.
        polygons: each an outer ring and perhaps holes; a ring is closed, its (x, y) in pixels from
            the photo's upper left corner, as in the coordinates of a GeoJSON MultiPolygon.
    """

    probability: float
    area: float
    box: tuple[float, float, float, float]
    polygons: tuple[tuple[Ring, ...], ...]


def choose_reach(region_threshold: float) -> float:
    """The probability that a region reaches out to, never above what its peak needs."""
    return min(_REACH, region_threshold)


def find_regions(
    probability: np.ndarray, size: tuple[int, int], region_threshold: float
) -> tuple[Region, ...]:
    """Outlines where a crack is probable around a peak.

    Args:
        probability: map of shape (rows, columns), evenly spaced over the photo.
        size: (width, height) of the photo in pixels.
        region_threshold: the probability of a region's peak must be above this. The region reaches
            out to `choose_reach` of it.

    Returns:
        The regions, the most probable first.
    """
    if probability.max() <= region_threshold:
        return ()  # Most photos are sound, and the imports take longer than looking at one.
    import contourpy
    from scipy import ndimage

    reach = choose_reach(region_threshold)
    rows, columns = probability.shape
    # From cell centres out to the photo's edge.
    x, y = (
        np.concatenate([[0], (np.arange(n) + 0.5) * side / n, [side]])
        for n, side in ((columns, size[0]), (rows, size[1]))
    )
    field = np.pad(probability, 1, mode="edge")
    found: Any = ndimage.label(field >= reach)
    labels, count = found
    regions = []
    for number in range(1, count + 1):
        peak = field[labels == number].max()
        if peak <= region_threshold:
            continue
        others = (labels != number) & (labels != 0)
        outline = contourpy.contour_generator(
            x, y, np.where(others, 0, field), fill_type=contourpy.FillType.OuterOffset
        )
        filled: Any = outline.filled(reach, np.inf)
        points, offsets = filled
        polygons = [
            [ring.round(1) for ring in np.split(corners, starts[1:-1].astype(int))]
            for corners, starts in zip(points, offsets, strict=True)
        ]
        corners = np.concatenate(points)
        regions.append(
            Region(
                probability=float(peak),
                # Holes run the other way round, so that their area is subtracted.
                area=round(abs(sum(_signed_area(r) for rings in polygons for r in rings)), 1),
                box=tuple(np.concatenate([corners.min(0), corners.max(0)]).round(1).tolist()),
                polygons=tuple(
                    tuple(tuple(map(tuple, ring.tolist())) for ring in rings) for rings in polygons
                ),
            )
        )
    return tuple(sorted(regions, key=lambda region: -region.probability))


def _signed_area(ring: np.ndarray) -> float:
    (x, y), (next_x, next_y) = ring.T, np.roll(ring, -1, axis=0).T
    return float((x * next_y - next_x * y).sum() / 2)
