"""The line and the width of each crack, found in the full resolution of a photo."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from crackclf.cores import cores
from crackclf.inspection.regions import Region

Line = tuple[tuple[float, float, float | None], ...]

_AROUND = 16  # Pixels beyond a region that are looked at with it.
_SURFACE = 61  # Side of the window that says how bright and how rough the surface is, in pixels.
_SCALES = (1, 2, 4)  # By which a photo is made smaller to find wider cracks.
_SIGMAS = (1.5, 2.5)  # Of dark ridges, in pixels of each scale.
_SECOND: Any = ((2, 0), (1, 1), (0, 2))  # Orders of the second derivatives.
_BAND, _MARGIN = 384, 104  # Rows that a core looks at, and those around them that it needs.
_SURE, _PERHAPS = 1.0, 0.5  # Strength of a ridge that is a crack, and of what goes on from it.
_SPUR = 20  # Pixels: what leaves a line for less is the roughness of its edge.
_SPECK = 16  # Pixels of a skeleton that are too few to be a part of a crack.
_GAP = 24  # Pixels over which a crack goes on unseen.
_BLOCK = 4  # Pixels that count as one when gaps are looked for.
_SHORTEST = 100  # Pixels of a crack.
_REACH, _STEP = 32, 0.25  # Of the profile across a crack, to each side, in pixels.
_ACROSS = np.arange(-_REACH, _REACH + _STEP, _STEP)
_CONTRAST = 0.5  # How many times its surface's mean deviation a crack is darker than that.
_NEAR = 3  # Pixels from the line within which the crack is darkest.
_SMOOTH = 2  # Standard deviation, in points of a line, of what takes the steps of pixels away.
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

    A crack is a dark ridge against the surface around it (Sato et al. 1998). Where a ridge is not
    strong enough anywhere, nothing is found.

    Args:
        photo: RGB.
        probability: map of shape (rows, columns), evenly spaced over the photo.
        regions: from `find_regions`.

    Returns:
        The cracks, the longest first.
    """
    cracks = [x for region in regions for x in _trace_region(photo, probability, region)]
    return tuple(sorted(cracks, key=lambda crack: -crack.length))


def _trace_region(photo: Image.Image, probability: np.ndarray, region: Region) -> list[Crack]:
    from scipy import ndimage
    from skimage.filters import apply_hysteresis_threshold
    from skimage.measure import block_reduce
    from skimage.morphology import isotropic_dilation, skeletonize

    left, top = (max(0, int(x) - _AROUND) for x in region.box[:2])
    right, bottom = (
        min(side, int(x) + 1 + _AROUND) for x, side in zip(region.box[2:], photo.size, strict=True)
    )
    grey = np.asarray(photo.crop((left, top, right, bottom)).convert("L"))
    inside = Image.new("1", (right - left, bottom - top))
    draw = ImageDraw.Draw(inside)
    for outer, *holes in region.polygons:
        for ring in (outer, *holes):
            draw.polygon([(x - left, y - top) for x, y in ring], fill=ring is outer)
    ridge = _dark_ridges(grey, np.asarray(inside))
    centre = skeletonize(apply_hysteresis_threshold(ridge, _PERHAPS, _SURE))
    if not centre.any():
        return []
    found: Any = ndimage.label(centre, np.ones((3, 3)))
    pieces, _ = found
    near = isotropic_dilation(block_reduce(centre, _BLOCK, np.max), _GAP / 2 / _BLOCK)
    found = ndimage.label(near)
    groups, count = found
    own, owners = pieces[centre], groups[tuple(np.argwhere(centre).T // _BLOCK)]
    # Of most, all pixels are too few, even if each step of them went across a corner.
    is_long = np.bincount(owners, minlength=count + 1) >= _SHORTEST / np.sqrt(2)
    is_kept = is_long[owners] & (np.bincount(own)[own] >= _SPECK)
    pieces[centre] = np.where(is_kept, own, 0)
    lines: list[list[np.ndarray]] = [[] for _ in range(count + 1)]
    for number, box in enumerate(ndimage.find_objects(pieces), 1):
        if box is None:
            continue
        corner = (box[0].start, box[1].start)
        for line in _split(pieces[box] == number):
            lines[groups[tuple((line[0] + corner) // _BLOCK)]].append(_smooth(line + corner))
    cracks = []
    for crack in lines:
        if sum(map(_length, crack)) < _SHORTEST:
            continue
        crack.sort(key=_length, reverse=True)
        profiles = np.concatenate([_look_across(grey, line) for line in crack])
        if _is_dark(profiles):
            cracks.append(_measure(profiles, crack, (left, top), photo.size, probability))
    return cracks


def _dark_ridges(grey: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """How much darker than the surface on both sides each pixel is, in its standard deviations.

    Where `inside` is false it is 0. Of each band only the columns between those that are inside are
    looked at: the box of a crack that runs across a photo is nearly all sound.
    """
    ridges = np.zeros(grey.shape, np.float32)

    def fill(top: int) -> None:
        own = inside[top : top + _BAND]
        columns = np.flatnonzero(own.any(axis=0))
        if not columns.size:
            return
        left, right = columns[0], columns[-1] + 1
        # Whole pixels of the coarsest scale, so that it does not matter what is left out.
        above, before = max(0, top - _MARGIN), max(0, left // _SCALES[-1] * _SCALES[-1] - _MARGIN)
        seen = grey[above : top + _BAND + _MARGIN, before : right + _MARGIN]
        found = _find_ridges(seen.astype(np.float32))
        found = found[top - above :, left - before : right - before][: len(own)]
        ridges[top : top + _BAND, left:right] = np.where(own[:, left:right], found, 0)

    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(fill, range(0, len(grey), _BAND)))
    return ridges


def _find_ridges(grey: np.ndarray) -> np.ndarray:
    from scipy import ndimage
    from skimage.feature import hessian_matrix_eigvals

    relief = grey - ndimage.uniform_filter(grey, _SURFACE)
    relief /= np.sqrt(ndimage.uniform_filter(relief**2, _SURFACE)) + 2
    ridges = np.zeros(grey.shape, np.float32)
    for factor in _SCALES:
        coarse = np.asarray(Image.fromarray(relief).reduce(factor))
        found = np.zeros(coarse.shape, np.float32)
        for sigma in _SIGMAS:  # `sato` of scikit-image finds the same in three times the time.
            hessian = [ndimage.gaussian_filter(coarse, sigma, order) for order in _SECOND]
            np.maximum(found, sigma**2 * hessian_matrix_eigvals(hessian)[0], out=found)
        fine = Image.fromarray(found).resize(grey.shape[::-1], Image.Resampling.BILINEAR)
        np.maximum(ridges, np.asarray(fine), out=ridges)
    return ridges


def _split(centre: np.ndarray) -> list[np.ndarray]:
    """The longest line through a skeleton, then those that leave it, as rows and columns."""
    from scipy.sparse.csgraph import dijkstra
    from skimage.graph import pixel_graph

    if centre.sum() < 2:
        return []
    graph, pixels = pixel_graph(centre, connectivity=2)
    places = np.stack(np.unravel_index(pixels, centre.shape), axis=1)

    def reach(start: list[int]) -> tuple[int, float, np.ndarray]:
        far, before, _ = dijkstra(graph, indices=start, min_only=True, return_predecessors=True)
        end = int(far.argmax())
        return end, far[end], before

    def walk(end: int, before: np.ndarray) -> list[int]:
        path = [end]
        while before[path[-1]] >= 0:
            path.append(int(before[path[-1]]))
        return path

    start, _, _ = reach([0])
    end, _, before = reach([start])
    paths = [walk(end, before)]
    known = list(paths[0])
    while True:
        end, far, before = reach(known)
        if far < _SPUR:
            return [places[path] for path in paths]
        paths.append(walk(end, before))
        known += paths[-1]


def _smooth(line: np.ndarray) -> np.ndarray:
    """The line without the steps of its pixels, which would make it longer."""
    from scipy import ndimage

    return ndimage.gaussian_filter1d(line.astype(np.float64), _SMOOTH, axis=0, mode="nearest")


def _length(line: np.ndarray) -> float:
    return float(np.hypot(*np.diff(line, axis=0).T).sum())


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
        length=round(sum(map(_length, lines)), 1),
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
