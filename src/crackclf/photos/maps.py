"""The map of a photo, the probability of a crack in each of its cells, and its cracked regions.

A photo is read at the scale of the model's patches and, as long as it is then two patches wide and
high, at half of it, a quarter and so on, for cracks too wide to be recognised close up. Each
coarser scale weighs half as much as the one before. With average pooling and a linear head, the
log-odds of a patch are the mean over its cells (class activation map, Zhou et al. 2016,
arXiv:1512.04150); those of a cell become the mean over half a patch around it.
"""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from typing import Any

import numpy as np
from PIL import Image

from crackclf.errors import UserError, notice
from crackclf.files import cores
from crackclf.images import resize
from crackclf.litert import SHARE
from crackclf.prediction import Classifier

Size = tuple[int, int]
Span = tuple[int, int, int]
Read = Callable[[np.ndarray], np.ndarray]
Ring = tuple[tuple[float, float], ...]

REACH = 0.5  # Regions reach out to where a crack is as probable; docs/inspect.md measures it.
_CONTEXT = 2  # Cells read around a block, so that its edge is none to the network.
_PATCHES = 22  # Patches in a block at most. Larger blocks leave a core's cache.
_BAND = 64  # Rows that a core resizes at a time.
_LEAST = 16  # Cells that a block may be long in any case.
_notice_once = cache(notice)  # Not for each photo.


def map_cracks(photo: Image.Image, classifier: Classifier) -> np.ndarray:
    """Maps the calibrated probability of a crack, float32 of shape (rows, columns) in 0..1."""
    card = classifier.card
    if card.cell_size:
        cell, margin = card.cell_size, _CONTEXT
        read = lambda pixels: card.log_odds(classifier.graph(pixels[None])[0])
    else:
        _notice_once(
            f"model {card.fingerprint[:8]} answers for patches only, so photos are read tile by "
            "tile, which is slow"
        )
        cell, margin, read = -(-card.image_size // 2), 1, partial(_read_tiles, classifier)
    patch, window = -(-card.image_size // cell), card.image_size // cell // 2 | 1
    scale = card.image_size / (card.patch_size or card.image_size)
    levels = level_sizes((photo.height, photo.width), scale / cell, patch)
    blocks = block_sizes(levels, margin, max(math.isqrt(_PATCHES * patch**2), _LEAST))
    rows, columns = levels[0]
    total = np.zeros((rows, columns), np.float32)
    pixels = _resize(photo, rows * cell, columns * cell)
    for level, (size, block) in enumerate(zip(levels, blocks, strict=True)):
        if level:
            pixels = np.asarray(Image.fromarray(pixels).reduce(2))
        odds = Image.fromarray(_smooth(_scan(pixels, read, size, block, margin), window))
        total += 0.5**level * np.asarray(odds.resize((columns, rows), Image.Resampling.BILINEAR))
    total /= sum(0.5**level for level in range(len(levels)))
    if not np.isfinite(total).all():
        raise UserError("the model's answers are not finite numbers; train it again")
    return card.calibrate(np.stack([total, np.zeros_like(total)], axis=-1))[..., 0]


def level_sizes(size: Size, density: float, patch: int) -> list[Size]:
    """Rows and columns of a photo in cells at each scale, the finest, of `density`, first."""
    depth = 1 + int(np.log2(max(min(size) * density / (2 * patch), 1)))
    step = 2 ** (depth - 1)
    rows, columns = (max(patch, step * round(side * density / step)) for side in size)
    return [(rows >> level, columns >> level) for level in range(depth)]


def block_sizes(levels: Sequence[Size], margin: int, limit: int) -> list[Size]:
    """Rows and columns of each scale's blocks, of at most `limit**2` cells, the fewest in all."""

    def choose(side: int) -> list[Size]:
        chosen, block = [], (levels[0][0] + 1, levels[0][1] + 1)
        for rows, columns in levels:
            # LiteRT prepares the network for each size, so one serves all scales that it fits.
            if block[0] > rows or block[1] > columns:
                short = _even_length(min(rows, columns), side, margin)
                long = _even_length(max(rows, columns), side**2 // short, margin)
                block = (short, long) if rows <= columns else (long, short)
            chosen.append(block)
        return chosen

    def count_cells(chosen: list[Size]) -> int:
        pairs = zip(levels, chosen, strict=True)
        return sum(len(cut(size, block, margin)) * math.prod(block) for size, block in pairs)

    return min(map(choose, range(limit, limit * 2 // 3, -1)), key=count_cells)


def cut(size: Size, block: Size, margin: int) -> list[tuple[Span, Span]]:
    """Cuts a picture into overlapping blocks. What is kept of them covers it once.

    Of each, down and across: its first cell, the first to keep, and the one after the last to keep.
    """
    axes = []
    for cells, length in zip(size, block, strict=True):
        count = _count(cells, length, margin)
        firsts = np.linspace(0, cells - length, count).round().astype(int).tolist()
        edges = [0, *(first + margin for first in firsts[1:]), cells]
        axes.append(list(zip(firsts, edges[:-1], edges[1:], strict=True)))
    return list(product(*axes))


def _count(cells: int, length: int, margin: int) -> int:
    """How many spans of a length cover a side; neighbours share two margins."""
    return max(1, -(-(cells - 2 * margin) // (length - 2 * margin)))


def _even_length(cells: int, longest: int, margin: int) -> int:
    """The length of spans that cover a side evenly."""
    count = _count(cells, longest, margin)
    return -(-(cells + 2 * margin * (count - 1)) // count)


def _resize(photo: Image.Image, height: int, width: int) -> np.ndarray:
    photo.load()  # Here, as threads that load one file at once would break it.
    pixels = np.empty((height, width, 3), np.uint8)

    def fill(top: int) -> None:
        rows = slice(top, top + _BAND)
        pixels[rows] = np.rint(resize(photo, height, width, rows))

    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(fill, range(0, height, _BAND)))
    return pixels


def _scan(pixels: np.ndarray, read: Read, size: Size, block: Size, margin: int) -> np.ndarray:
    """Log-odds of shape (rows, columns). Each core reads one block at a time."""
    odds, cell = np.empty(size, np.float32), pixels.shape[0] // size[0]

    def fill(spans: tuple[Span, Span]) -> None:
        (top, *rows), (left, *columns) = spans
        seen = pixels[top * cell :, left * cell :][: block[0] * cell, : block[1] * cell]
        found = read(seen)[slice(*(x - top for x in rows)), slice(*(x - left for x in columns))]
        odds[slice(*rows), slice(*columns)] = found

    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(fill, cut(size, block, margin)))
    return odds


def _smooth(odds: np.ndarray, window: int) -> np.ndarray:
    """The mean over a square window around each cell, of those of its cells that exist."""
    for axis, length in enumerate(odds.shape):
        first = np.maximum(np.arange(length) - window // 2, 0)
        last = np.minimum(np.arange(length) + window // 2 + 1, length)
        sums = np.insert(odds.cumsum(axis, dtype=np.float64), 0, 0, axis)
        counts = np.expand_dims(last - first, 1 - axis)
        odds = (sums.take(last, axis) - sums.take(first, axis)) / counts
    return odds.astype(np.float32)


def _read_tiles(classifier: Classifier, pixels: np.ndarray) -> np.ndarray:
    """Log-odds of cells half a patch wide, for a model that answers for whole patches only."""
    card, side = classifier.card, classifier.card.image_size
    step = -(-side // 2)
    tiles = np.lib.stride_tricks.sliding_window_view(pixels, (side, side), axis=(0, 1))
    tiles = tiles[::step, ::step].transpose(0, 1, 3, 4, 2)
    rows, columns = tiles.shape[:2]
    places = np.indices((rows, columns)).reshape(2, -1)
    parts = [places[:, i : i + SHARE] for i in range(0, places.shape[1], SHARE)]
    answers = np.concatenate([classifier.graph(tiles[tuple(part)])[:, 0, 0] for part in parts])
    # Each cell gets the mean of the tiles that cover it.
    odds = np.pad(card.log_odds(answers).reshape(rows, columns), 1, constant_values=np.nan)
    corners = [odds[i : rows + 1 + i, j : columns + 1 + j] for i in (0, 1) for j in (0, 1)]
    return np.nanmean(corners, axis=0)


@dataclass(frozen=True)
class Region:
    """A connected part of a photo that is called cracked.

    Attributes:
        probability: of a crack, where it is highest, in 0..1.
        area: in pixels of the photo. The region is wider than the crack in it.
        box: left, top, right, bottom in pixels.
        polygons: each an outer ring and perhaps holes; a ring is closed, its (x, y) in pixels from
            the photo's upper left corner, as in the coordinates of a GeoJSON MultiPolygon.
    """

    probability: float
    area: float
    box: tuple[float, float, float, float]
    polygons: tuple[tuple[Ring, ...], ...]


def find_regions(
    probability: np.ndarray, size: tuple[int, int], region_threshold: float
) -> tuple[Region, ...]:
    """Outlines the peaks of a map on a photo of `size`, its width and height in pixels."""
    if probability.max() <= region_threshold:
        return ()  # Most photos are sound, and the imports take longer than reading one.
    import contourpy
    from scipy import ndimage

    reach = min(REACH, region_threshold)
    # From the centres of the cells out to the photo's edge.
    x, y = (
        np.concatenate([[0], (np.arange(n) + 0.5) * side / n, [side]])
        for n, side in zip(probability.shape[::-1], size, strict=True)
    )
    field = np.pad(probability, 1, mode="edge")
    found: Any = ndimage.label(field >= reach)
    labels, count = found
    regions = []
    for number in range(1, count + 1):
        peak = field[labels == number].max()
        if peak <= region_threshold:
            continue
        alone = np.where((labels != number) & (labels != 0), 0, field)
        contours = contourpy.contour_generator(x, y, alone, fill_type="OuterOffset")
        filled: Any = contours.filled(reach, np.inf)
        polygons = [
            [ring.round(1) for ring in np.split(corners, starts[1:-1].astype(int))]
            for corners, starts in zip(*filled, strict=True)
        ]
        # Holes run the other way round, so that their area is subtracted.
        area = sum(_signed_area(ring) for rings in polygons for ring in rings)
        corners = np.concatenate(filled[0])
        box = tuple(np.concatenate([corners.min(0), corners.max(0)]).round(1).tolist())
        rings = tuple(tuple(tuple(map(tuple, x.tolist())) for x in rings) for rings in polygons)
        regions.append(Region(float(peak), round(abs(area), 1), box, rings))
    return tuple(sorted(regions, key=lambda region: -region.probability))


def _signed_area(ring: np.ndarray) -> float:
    (x, y), (next_x, next_y) = ring.T, np.roll(ring, -1, axis=0).T
    return float((x * next_y - next_x * y).sum() / 2)
