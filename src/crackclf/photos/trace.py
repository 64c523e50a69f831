"""Cracks in a photo: the network's mask thinned to lines, joined, parted, and measured across."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from crackclf.photos.maps import MASK_HIGH, MASK_LOW, Region
from crackclf.photos.quality import measure_blur

_FINE = 2  # Pixels to each of the mask's, to thin it.
_SPUR = 20  # Pixels of the photo: a shorter branch is the roughness of the crack's edge.
_GAP = 24  # Pixels between parts of one crack.
_SHORTEST = 60  # Pixels of a crack.
_SMOOTH = 2  # Standard deviation of the smoothing of a line, in points.
_EVERY = 4  # Points of a line for each one that is kept.
_REACH = 16, 320  # Of the profile across a crack, to each side, in pixels: least and greatest.
_SAMPLES = 64  # Of a profile, to each side.
_CORE = 1.5  # Pixels from the line that are in a crack, if it is dark.
_NEAREST = 5  # Pixels from the line within which any crack is darkest.
_WIDE = 40  # Pixels: the edges of a wider crack are those of the mask.
_BLUR = 1.75  # Pixels by which optics widen a line that is one of the smallest things on a photo.
# Of a true width over the measured one, by the latter in pixels: the ends of a 90 % interval.
_AT = (1.0, 2.5, 3.75, 5.5, 8.0, 13.0, 20.0, 32.0, 60.0)
_LOW = (0.8, 0.85, 0.55, 0.5, 0.56, 0.8, 0.92, 0.9, 0.9)
_HIGH = (1.7, 1.27, 1.22, 1.16, 1.2, 1.25, 1.27, 1.45, 1.9)
_CONTRAST = 0.5  # A crack is darker than its surface by this many mean deviations of it.


@dataclass(frozen=True)
class Crack:
    """A traced crack, in pixels of the photo. A width is None where no edges are seen.

    Attributes:
        probability: of a crack, where it is highest along the lines, in 0..1.
        length: of all lines.
        main_length: of the longest line: without branches, and without parts beyond a gap.
        mean_width: over the length.
        max_width: of the widest place that is at least as long as it is wide. None where it is
            less than the photo can show: then it is under `width_high`.
        width_low, width_high: the true one is between them in 90 of 100 cases.
        widest: where that place is: x and y.
        angle: of its main direction, in degrees anticlockwise from the rows of the photo, 0..180.
        box: left, top, right, bottom.
        lines: its parts and branches, the longest first: every fourth point as (x, y, width).
    """

    probability: float
    length: float
    main_length: float
    mean_width: float | None
    max_width: float | None
    width_low: float | None
    width_high: float | None
    widest: tuple[float, float] | None
    angle: float
    box: tuple[float, float, float, float]
    lines: tuple[tuple[tuple[float, float, float | None], ...], ...]


def trace_cracks(
    photo: Image.Image, mask: np.ndarray, probability: np.ndarray, regions: Sequence[Region]
) -> tuple[Crack, ...]:
    """Finds cracks in the regions of an RGB photo by its mask and map, the longest crack first."""
    if not regions:
        return ()
    rows, columns = (_FINE * side for side in mask.shape)
    step = np.array([photo.height / rows, photo.width / columns])
    inside = Image.new("1", (columns, rows))
    draw = ImageDraw.Draw(inside)
    for rings in (rings for region in regions for rings in region.polygons):
        for ring in rings:
            corners = [(x / step[1], y / step[0]) for x, y in ring]
            draw.polygon(corners, fill=ring is rings[0])
    fine = Image.fromarray(mask).resize((columns, rows), Image.Resampling.BICUBIC)
    pixel, cracks = float(step.mean()), []
    grey = photo.convert("L")
    pixels, blur = np.asarray(grey), _BLUR * measure_blur(grey)
    for lines in find_lines(np.asarray(fine), np.asarray(inside), pixel):
        places = [((line[:, :2] + 0.5) * step - 0.5, pixel * line[:, 2]) for line in lines]
        parts = [_measure(pixels, line, half, blur) for line, half in places]
        cracks.append(_describe(parts, blur, photo.size, probability))
    return tuple(sorted(cracks, key=lambda crack: -crack.length))


def find_lines(mask: np.ndarray, inside: np.ndarray, pixel: float) -> list[list[np.ndarray]]:
    """The lines of each crack, the longest first: row, column and half the width of the mask.

    `pixel` is the side of a pixel of the mask in the photo.
    """
    from scipy import ndimage
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import KDTree
    from skimage.filters import apply_hysteresis_threshold
    from skimage.morphology import skeletonize

    solid = apply_hysteresis_threshold(mask, MASK_LOW, MASK_HIGH) & inside
    if not solid.any():
        return []
    points = np.argwhere(skeletonize(solid))
    # A distance transform of a large photo would take most of the memory.
    edge = np.argwhere(ndimage.binary_dilation(solid, np.ones((3, 3))) & ~solid)
    half = KDTree(edge).query(points)[0] if len(edge) else np.full(len(points), np.inf)
    graph = _join(points, 1.5)  # Side by side or corner to corner.
    _, pieces = connected_components(graph, directed=False)
    groups = connected_components(_join(points, _GAP / pixel), directed=False)[1]
    # Even if each step went across a corner.
    kept = np.flatnonzero(np.bincount(groups)[groups] >= _SHORTEST / pixel / np.sqrt(2))
    found = defaultdict(list)
    for piece in np.unique(pieces[kept]):
        here = kept[pieces[kept] == piece]
        # From the middle to a rough edge is no branch.
        spurs = _SPUR / pixel + 2 * half[here]
        for number, path in enumerate(_part(graph[here][:, here], spurs)):
            # The steps of pixels would make a line longer.
            line = np.column_stack([points[here[path]], half[here[path]]]).astype(float)
            line = ndimage.gaussian_filter1d(line, _SMOOTH, 0, mode="nearest")
            line = _lengthen(line)
            # A branch begins at another line.
            found[groups[here[0]]].append(line if number else _lengthen(line[::-1]))
    cracks = [sorted(lines, key=length, reverse=True) for lines in found.values()]
    return [lines for lines in cracks if pixel * sum(map(length, lines)) >= _SHORTEST]


def _lengthen(line: np.ndarray) -> np.ndarray:
    """A line whose first end is at the end of its crack: thinning has moved it in."""
    ahead = line[0, :2] - line[min(len(line) - 1, 6), :2]
    ahead *= line[0, 2] / max(float(np.hypot(*ahead)), 1e-9)
    return np.concatenate([[[*(line[0, :2] + ahead), line[0, 2]]], line])


def length(line: np.ndarray) -> float:
    """Length of a line, whose first columns are row and column."""
    return float(np.hypot(*np.diff(line[:, :2], axis=0).T).sum())


def _join(points: np.ndarray, far: float) -> Any:
    """The graph of all pairs of points that are near enough, with their distances."""
    from scipy.spatial import KDTree

    tree = KDTree(points)
    return tree.sparse_distance_matrix(tree, far, output_type="coo_matrix").tocsr()


def _part(graph: Any, spurs: np.ndarray) -> list[np.ndarray]:
    """The longest path through a connected graph, then its branches, as numbers of points.

    A branch is longer than the spur at the point where it begins.
    """
    from scipy.sparse.csgraph import dijkstra

    def reach(start: Any) -> tuple[np.ndarray, np.ndarray]:
        return dijkstra(graph, indices=start, min_only=True, return_predecessors=True)[:2]

    def walk(end: int) -> np.ndarray:
        path = [end]
        while not is_known[path[-1]]:
            path.append(before[path[-1]])
        is_known[path] = True
        return np.array(path)

    is_known = np.zeros(graph.shape[0], bool)
    start = reach([0])[0].argmax()
    is_known[start] = True
    far, before = reach([start])
    paths = [walk(int(far.argmax()))]
    # The longest branch first: it takes what it shares with others.
    far, before = reach(paths[0])
    for end in np.argsort(-far):
        if not is_known[end]:
            path = walk(int(end))
            if far[end] - far[path[-1]] >= spurs[path[-1]]:
                paths.append(path)
    return paths


def _measure(
    grey: np.ndarray, line: np.ndarray, half: np.ndarray, blur: float
) -> tuple[np.ndarray, np.ndarray]:
    """A line with a point for each pixel of its length, in its crack's middle; and its widths.

    A width is that from edge to edge, half way in grey from surface to crack, less what the optics
    add: the squares of both are subtracted. It is NaN without edges. `half` is that of the mask.
    """
    from scipy import ndimage

    along = np.append(0, np.hypot(*np.diff(line, axis=0).T).cumsum())
    at = np.linspace(0, along[-1], max(2, int(along[-1]) + 1))
    line = np.column_stack([np.interp(at, along, part) for part in line.T])
    width = 2 * np.interp(at, along, half)  # Of the mask.
    normal = np.gradient(line, axis=0)[:, ::-1] * (1, -1)
    normal /= np.maximum(np.hypot(*normal.T), 1e-9)[:, None]
    reach = float(np.clip(1.5 * np.median(width), *_REACH))
    across = np.linspace(-reach, reach, 2 * _SAMPLES + 1)
    places = (line[:, None] + across[:, None] * normal[:, None]).transpose(2, 0, 1)
    profiles = ndimage.map_coordinates(grey, places, np.float32, order=1, mode="nearest")
    profiles = ndimage.uniform_filter1d(profiles, 5, axis=0, mode="nearest")
    left, right = _find_edges(profiles, across, np.maximum(width / 2, _NEAREST))
    measured = np.sqrt(np.maximum((right - left) ** 2 - blur**2, 0))
    is_wide = width > _WIDE
    measured[is_wide] = width[is_wide]
    middle = np.where(np.isfinite(measured) & ~is_wide, (left + right) / 2, 0)
    middle = ndimage.gaussian_filter1d(middle, 2 * _SMOOTH, mode="nearest")
    return line + middle[:, None] * normal, measured


def _find_edges(profiles: np.ndarray, across: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Where the left and right edges of a dark crack are on each profile, (2, n); NaN if nowhere.

    The crack is darkest nearer to the line than `near`, of shape (n,), pixels.
    """
    outer, inner = np.abs(across) > across[-1] / 2, np.abs(across) <= _CORE
    sides = [profiles[:, outer & (side * across > 0)] for side in (-1, 1)]
    surfaces = [np.median(side, axis=1, keepdims=True) for side in sides]
    rough = np.mean([np.abs(x - y).mean(axis=1) for x, y in zip(sides, surfaces, strict=True)], 0)
    depth = np.min(surfaces, axis=0)[:, 0] - profiles[:, inner].mean(axis=1)
    if np.median(depth) <= _CONTRAST * np.median(rough):  # Not dark, such as one full of lime.
        return np.full((2, len(profiles)), np.nan)
    within = np.where(np.abs(across) <= near[:, None], profiles, np.inf)
    middle, bottom = within.argmin(axis=1), within.min(axis=1)
    number, edges = np.arange(len(across)), []
    for side, surface in zip((-1, 1), surfaces, strict=True):
        beyond = side * (number - middle[:, None]) > 0
        level = (bottom[:, None] + surface) / 2
        risen = ((profiles > level) & beyond)[:, ::side]
        first = number[::side][risen.argmax(axis=1)]
        # Between the pixel that is above and the one before.
        before = np.clip(first - side, 0, len(number) - 1)
        above, below = (profiles[np.arange(len(profiles)), at] for at in (first, before))
        share = (level[:, 0] - below) / np.maximum(above - below, 1e-6)
        step = across[1] - across[0]
        edge = across[first] - side * step * (1 - share.clip(0, 1))
        deep = surface[:, 0] - bottom > _CONTRAST * rough
        edges.append(np.where(risen.any(axis=1) & deep, edge, np.nan))
    return np.array(edges)


def widest_place(line: np.ndarray, widths: np.ndarray) -> tuple[float, np.ndarray] | None:
    """The width of the widest place that is at least as long as it is wide, and where it is."""
    order = np.argsort(-np.nan_to_num(widths, nan=-1))
    for i in order:
        if not np.isfinite(widths[i]):
            break
        reach = int(widths[i] / 2) + 1
        part = widths[max(0, i - reach) : i + reach + 1]
        if len(part) > reach and np.nanmin(part) >= 0.8 * widths[i]:
            return float(np.nanmedian(part)), line[i]
    return None


def _describe(parts: list[Any], blur: float, size: Any, probability: np.ndarray) -> Crack:
    lines = [np.clip(line[:, ::-1] + 0.5, 0, np.array(size) - 0.1) for line, _ in parts]
    points, widths = np.concatenate(lines), np.concatenate([width for _, width in parts])
    known = widths[np.isfinite(widths)]
    places = (points / size * probability.shape[::-1]).astype(int)
    columns, rows = np.clip(places, 0, np.array(probability.shape[::-1]) - 1).T
    x, y = np.linalg.svd(points - points.mean(0), full_matrices=False)[2][0]
    found = [widest_place(line, width) for line, (_, width) in zip(lines, parts, strict=True)]
    width, place = max((x for x in found if x), key=lambda x: x[0], default=(None, None))
    low = high = None
    if width is not None:
        low, high = (round(width * float(np.interp(width, _AT, x)), 2) for x in (_LOW, _HIGH))
        if width < blur / 2:  # Less than the photo can show.
            width, low, high = None, 0.0, round(blur, 2)
    return Crack(
        probability=float(probability[rows, columns].max()),
        length=round(sum(map(length, lines)), 1),
        main_length=round(max(map(length, lines)), 1),
        mean_width=round(float(known.mean()), 2) if known.size else None,
        max_width=None if width is None else round(width, 2),
        width_low=low,
        width_high=high,
        widest=None if place is None else tuple(place.round(1).tolist()),
        angle=round(float(np.degrees(np.arctan2(-y, x))) % 180, 1),
        box=tuple(np.concatenate([points.min(0), points.max(0)]).round(1).tolist()),
        lines=tuple(_thin_out(line, width) for line, (_, width) in zip(lines, parts, strict=True)),
    )


def _thin_out(line: np.ndarray, widths: np.ndarray) -> tuple[tuple[float, float, Any], ...]:
    kept = np.unique([*range(0, len(line), _EVERY), len(line) - 1])
    points = np.column_stack([line, widths])[kept].tolist()
    return tuple((round(x, 1), round(y, 1), round(z, 2) if z == z else None) for x, y, z in points)
