"""Cracks in the full resolution of a photo: dark ridges, thinned, joined, parted and measured."""

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from crackclf.files import cores
from crackclf.photos.maps import Region

_AROUND = 16  # Pixels around a region that are read with it.
_SURFACE = 61  # Side of the window for the surface's brightness and roughness, in pixels.
_SCALES = (1, 2, 4)  # By which a photo is made smaller to find wider cracks.
_SIGMAS = (1.5, 2.5)  # Of dark ridges, in pixels of each scale.
_BLOCK, _MARGIN = 752, 136  # Side of a core's block, and of the border that it needs.
_SECOND: Any = ((2, 0), (1, 1), (0, 2))  # Orders of the second derivatives.
_SURE, _PERHAPS = 1.0, 0.5  # Strength of a crack's ridge, and of its continuation.
_SPUR = 20  # Pixels: a shorter branch is the roughness of the crack's edge.
_SPECK = 16  # Pixels: a shorter thinned ridge is no part of a crack.
_GAP = 24  # Pixels between parts of one crack.
_CELL = 4  # Pixels to a side that count as one in the search for gaps.
_SHORTEST = 100  # Pixels of a crack.
_SMOOTH = 2  # Standard deviation of the smoothing of a line, in points.
_EVERY = 4  # Points of a line for each one that is kept.
_REACH, _STEP = 32, 0.25  # Of the profile across a crack, to each side, in pixels.
_ACROSS = np.arange(-_REACH, _REACH + _STEP, _STEP)
_CONTRAST = 0.5  # A crack is darker than its surface by this many mean deviations of it.
_NEAR = 3  # Pixels from the line within which the crack is darkest.


@dataclass(frozen=True)
class Crack:
    """A traced crack, in pixels of the photo. A width is None where no edges are seen.

    Attributes:
        probability: of a crack, where it is highest along the lines, in 0..1.
        length: of all lines.
        mean_width: over the length.
        max_width: which one point in twenty exceeds.
        angle: of its main direction, in degrees anticlockwise from the rows of the photo, 0..180.
        box: left, top, right, bottom.
        lines: its parts and branches, the longest first: every fourth point as (x, y, width).
    """

    probability: float
    length: float
    mean_width: float | None
    max_width: float | None
    angle: float
    box: tuple[float, float, float, float]
    lines: tuple[tuple[tuple[float, float, float | None], ...], ...]


def trace_cracks(
    photo: Image.Image, probability: np.ndarray, regions: Sequence[Region]
) -> tuple[Crack, ...]:
    """Finds cracks in the regions of an RGB photo and its map, the longest crack first."""
    if not regions:
        return ()
    grey, cracks = np.asarray(photo.convert("L")), []
    for region in regions:
        left, top = (max(0, int(x) - _AROUND) for x in region.box[:2])
        right, bottom = (int(x) + 1 + _AROUND for x in region.box[2:])
        pixels = grey[top:bottom, left:right]
        inside = Image.new("1", pixels.shape[::-1])
        draw = ImageDraw.Draw(inside)
        for rings in region.polygons:
            for ring in rings:
                draw.polygon([(x - left, y - top) for x, y in ring], fill=ring is rings[0])
        for lines in find_lines(pixels, np.asarray(inside)):
            widths = _measure_widths(np.concatenate([_read_across(pixels, x) for x in lines]))
            if widths is not None:
                lines = [line[:, ::-1] + (left, top) + 0.5 for line in lines]
                cracks.append(_describe(lines, widths, photo.size, probability))
    return tuple(sorted(cracks, key=lambda crack: -crack.length))


def find_lines(grey: np.ndarray, inside: np.ndarray) -> list[list[np.ndarray]]:
    """The dark lines of each crack in uint8 grey, the longest first, as rows and columns."""
    from scipy.ndimage import gaussian_filter1d
    from scipy.sparse.csgraph import connected_components

    points, strength = _thin_ridges(grey, inside)
    if not (strength >= _SURE).any():
        return []
    graph = _join(points, 1.5)  # Side by side or corner to corner.
    _, pieces = connected_components(graph, directed=False)
    sure = np.flatnonzero((np.bincount(pieces, strength >= _SURE) > 0)[pieces])
    cells, cell = np.unique(points[sure] // _CELL, axis=0, return_inverse=True)
    groups = connected_components(_join(cells, _GAP / _CELL), directed=False)[1][cell]
    # Even if each step went across a corner.
    is_long = np.bincount(groups)[groups] >= _SHORTEST / np.sqrt(2)
    is_long &= np.bincount(pieces)[pieces[sure]] >= _SPECK
    groups, kept = groups[is_long], sure[is_long]
    found = defaultdict(list)
    for piece in np.unique(pieces[kept]):
        own = pieces[kept] == piece
        here = kept[own]
        for path in _part(graph[here][:, here]):
            # The steps of pixels would make a line longer.
            line = gaussian_filter1d(points[here[path]].astype(float), _SMOOTH, 0, mode="nearest")
            found[groups[own][0]].append(line)
    cracks = [sorted(lines, key=length, reverse=True) for lines in found.values()]
    return [lines for lines in cracks if sum(map(length, lines)) >= _SHORTEST]


def length(line: np.ndarray) -> float:
    """Length of a line in pixels."""
    return float(np.hypot(*np.diff(line, axis=0).T).sum())


def _thin_ridges(grey: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points in the middle of all dark ridges; strength, in standard deviations of the surface."""
    from scipy import ndimage
    from skimage.morphology import skeletonize

    def search(corner: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        own = inside[tuple(slice(x, x + _BLOCK) for x in corner)]
        if not (used := ndimage.find_objects(own.astype(int))):
            return np.empty((0, 2), int), np.empty(0, np.float32)
        low = np.add(corner, [x.start for x in used[0]])
        high = np.add(corner, [x.stop for x in used[0]])
        # Whole pixels of the coarsest scale, so that it does not matter what is left out.
        first = np.maximum(low // _SCALES[-1] * _SCALES[-1] - _MARGIN, 0)
        seen = tuple(map(slice, first, high + _MARGIN))
        inner = tuple(map(slice, low - first, high - first))
        ridges = _find_ridges(grey[seen].astype(np.float32))
        centre = skeletonize((ridges >= _PERHAPS) & inside[seen])[inner]
        return np.argwhere(centre) + low, ridges[inner][centre]

    corners = product(*(range(0, side, _BLOCK) for side in grey.shape))
    with ThreadPoolExecutor(cores()) as pool:
        points, strength = zip(*pool.map(search, corners), strict=True)
    return np.concatenate(points), np.concatenate(strength)


def _find_ridges(grey: np.ndarray) -> np.ndarray:
    """Strength of dark ridges at each pixel (Sato et al. 1998)."""
    from scipy import ndimage
    from skimage.feature import hessian_matrix_eigvals

    relief = grey - ndimage.uniform_filter(grey, _SURFACE)
    relief /= np.sqrt(ndimage.uniform_filter(relief**2, _SURFACE)) + 2
    ridges = np.zeros(grey.shape, np.float32)
    for factor in _SCALES:
        coarse = np.asarray(Image.fromarray(relief).reduce(factor))
        found = np.zeros(coarse.shape, np.float32)
        for sigma in _SIGMAS:  # `sato` of scikit-image finds the same in three times the time.
            second = [ndimage.gaussian_filter(coarse, sigma, order) for order in _SECOND]
            np.maximum(found, sigma**2 * hessian_matrix_eigvals(second)[0], out=found)
        fine = Image.fromarray(found).resize(grey.shape[::-1], Image.Resampling.BILINEAR)
        np.maximum(ridges, np.asarray(fine), out=ridges)
    return ridges


def _join(points: np.ndarray, far: float) -> Any:
    """The graph of all pairs of points that are near enough, with their distances."""
    from scipy.spatial import KDTree

    tree = KDTree(points)
    return tree.sparse_distance_matrix(tree, far, output_type="coo_matrix").tocsr()


def _part(graph: Any) -> list[np.ndarray]:
    """The longest path through a connected graph, then its branches, as numbers of points."""
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
            if far[end] - far[path[-1]] >= _SPUR:
                paths.append(path)
    return paths


def _read_across(grey: np.ndarray, line: np.ndarray) -> np.ndarray:
    """Grey values across a line at each of its points, of shape (points, `_ACROSS`)."""
    from scipy import ndimage

    along = np.gradient(line, axis=0)
    along /= np.maximum(np.hypot(*along.T), 1e-9)[:, None]
    places = line[:, None] + _ACROSS[:, None] * along[:, None, ::-1] * (1, -1)
    places = places.transpose(2, 0, 1)
    values = ndimage.map_coordinates(grey, places, np.float32, order=1, mode="nearest")
    return ndimage.uniform_filter1d(values, 5, axis=0, mode="nearest")


def _measure_widths(profiles: np.ndarray) -> np.ndarray | None:
    """From edge to edge, half way in grey from surface to crack; None if a side is not brighter."""
    sides = [profiles[:, side * _ACROSS > _REACH / 2] for side in (-1, 1)]
    surfaces = [np.median(side, axis=1, keepdims=True) for side in sides]
    rough = np.median([np.abs(x - y).mean() for x, y in zip(sides, surfaces, strict=True)])
    depth = np.min(surfaces, axis=0)[:, 0] - profiles[:, np.abs(_ACROSS) <= 1].mean(axis=1)
    if np.median(depth) <= _CONTRAST * rough:
        return None  # Such as the edge of a dark object.
    near = np.flatnonzero(np.abs(_ACROSS) <= _NEAR)
    bottom = profiles[:, near].min(axis=1, keepdims=True)
    middle = near[profiles[:, near].argmin(axis=1)]
    number = np.arange(len(_ACROSS))
    width = np.full(len(profiles), -_STEP)
    for side, surface in zip((-1, 1), surfaces, strict=True):
        beyond = side * (number - middle[:, None]) > 0
        risen = ((profiles > (bottom + surface) / 2) & beyond)[:, ::side]
        first = number[::side][risen.argmax(axis=1)]
        width += np.where(risen.any(axis=1), np.abs(first - middle) * _STEP, np.inf)
    return width


def _describe(
    lines: list[np.ndarray], widths: np.ndarray, size: tuple[int, int], probability: np.ndarray
) -> Crack:
    known = widths[np.isfinite(widths)]
    points = np.concatenate(lines)
    columns, rows = (points / size * probability.shape[::-1]).astype(int).T
    x, y = np.linalg.svd(points - points.mean(0), full_matrices=False)[2][0]
    parts = np.split(widths, np.cumsum([len(line) for line in lines])[:-1])
    return Crack(
        probability=float(probability[rows, columns].max()),
        length=round(sum(map(length, lines)), 1),
        mean_width=round(float(known.mean()), 2) if known.size else None,
        max_width=round(float(np.percentile(known, 95)), 2) if known.size else None,
        angle=round(float(np.degrees(np.arctan2(-y, x))) % 180, 1),
        box=tuple(np.concatenate([points.min(0), points.max(0)]).round(1).tolist()),
        lines=tuple(map(_thin_out, lines, parts)),
    )


def _thin_out(line: np.ndarray, widths: np.ndarray) -> tuple[tuple[float, float, Any], ...]:
    kept = np.unique([*range(0, len(line), _EVERY), len(line) - 1])
    return tuple(
        (round(x, 1), round(y, 1), round(width, 2) if np.isfinite(width) else None)
        for x, y, width in np.column_stack([line, widths])[kept].tolist()
    )
