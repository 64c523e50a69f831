"""The map of a photo, the probability of a crack in each of its cells, and its cracked regions.

A photo is read at the scale of the model's patches. Unless the model draws a mask of cracks, it is
also read at half of it, a quarter and so on, as long as it is then two patches wide and high, for
cracks too wide to be recognised close up. Each coarser scale weighs half as much as the one before.
With average pooling and a linear head, the log-odds of a patch are the mean over its cells (class
activation map, Zhou et al. 2016, arXiv:1512.04150); those of a cell become the mean over half a
patch around it.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from PIL import Image

from crackclf.errors import UserError
from crackclf.files import cores
from crackclf.images import resize
from crackclf.prediction import Classifier

Size = tuple[int, int]
Span = tuple[int, int, int]
Read = Callable[[np.ndarray], list[np.ndarray]]
Ring = tuple[tuple[float, float], ...]

MASK_LOW, MASK_HIGH = 0.3, 0.6  # Of a crack's continuation in the mask, and of a crack.
_NEAR = 5  # Pixels of the mask around a crack that are its region, and that join its parts.
REACH = 0.5  # Regions reach out to where a crack is as probable; docs/inspect.md measures it.
_CONTEXT = 2  # Cells read around a block, so that its edge is none to the network.
_PATCHES = 16  # Patches in a block at most. Larger blocks leave a core's cache.
_BAND = 64  # Rows that a core resizes at a time.
_SURE = 8.0  # Log-odds of a mask that count at most.
_LEAST = 16  # Cells that a block may be long in any case.


def map_cracks(photo: Image.Image, classifier: Classifier) -> np.ndarray:
    """Maps the calibrated probability of a crack, float32 of shape (rows, columns) in 0..1."""
    return map_photo(photo, classifier)[0]


def map_photo(photo: Image.Image, classifier: Classifier) -> tuple[np.ndarray, np.ndarray | None]:
    """Maps the probability of a crack, and draws the mask of cracks if the model has one.

    Returns the map, and the probability that a pixel of the mask is crack, float32 of shape
    (8 * rows, 8 * columns) for cells of 32 pixels and a mask of stride 4.
    """
    card = classifier.card
    if card.cell_size:
        cell, margin, read = card.cell_size, _CONTEXT, partial(_read_cells, classifier)
    else:
        cell, margin, read = card.image_size, 0, partial(_read_tiles, classifier)
    patch, window = -(-card.image_size // cell), card.image_size // cell // 2 | 1
    scale = card.image_size / (card.patch_size or card.image_size)
    levels = level_sizes((photo.height, photo.width), scale / cell, max(patch, 2))
    if card.mask_stride:  # Its network has learnt cracks of all widths.
        del levels[1:]
    limit = max(math.isqrt(_PATCHES * patch**2), _LEAST)
    rows, columns = levels[0]
    total, finest = np.zeros((rows, columns), np.float32), None
    pixels = _resize(photo, rows * cell, columns * cell)
    for level, size in enumerate(levels):
        if level:
            pixels = np.asarray(Image.fromarray(pixels).reduce(2))
        found, *masks = _scan(pixels, read, size, block_size(size, margin, limit), margin)
        odds = Image.fromarray(_smooth(found, window))
        total += 0.5**level * np.asarray(odds.resize((columns, rows), Image.Resampling.BILINEAR))
        if masks and not level:
            finest = masks[0]
    total /= sum(0.5**level for level in range(len(levels)))
    if finest is not None:
        total = (total + _pool(finest, cell // card.mask_stride)) / 2
    if not np.isfinite(total).all():
        raise UserError("the model's answers are not finite numbers; train it again")
    mask = None if finest is None else 1 / (1 + np.exp(-finest))
    return card.calibrate(np.stack([total, np.zeros_like(total)], axis=-1))[..., 0], mask


def _pool(odds: np.ndarray, side: int) -> np.ndarray:
    """Log-odds of a mask by cell: the mean of its highest tenth in the cell or a neighbour."""
    rows, columns = (length // side for length in odds.shape)
    cells = odds.reshape(rows, side, columns, side).swapaxes(1, 2).reshape(rows, columns, -1)
    top = np.partition(cells, -side, axis=-1)[..., -(side**2 // 10) :].mean(axis=-1)
    padded = np.pad(top, 1, mode="edge")
    around = [padded[i : i + rows, j : j + columns] for i in range(3) for j in range(3)]
    return np.clip(np.max(around, axis=0), -_SURE, _SURE)


def _read_cells(classifier: Classifier, pixels: np.ndarray) -> list[np.ndarray]:
    """Log-odds of cells and, if the model has a mask, of its pixels."""
    if not classifier.card.mask_stride:
        return [classifier.card.log_odds(classifier.graph(pixels[None])[0])]
    logits, mask = classifier.graph.run(pixels[None])  # pyright: ignore
    return [classifier.card.log_odds(logits[0]), mask[0, ..., 0]]


def level_sizes(size: Size, density: float, patch: int) -> list[Size]:
    """Rows and columns of a photo in cells at each scale, the finest, of `density`, first."""
    depth = 1 + int(np.log2(max(min(size) * density / (2 * patch), 1)))
    step = 2 ** (depth - 1)
    rows, columns = (max(patch, step * round(side * density / step)) for side in size)
    return [(rows >> level, columns >> level) for level in range(depth)]


def block_size(size: Size, margin: int, limit: int) -> Size:
    """Rows and columns of the blocks that cover a picture evenly, of at most `limit**2` cells."""
    short = _even_length(min(size), limit, margin)
    long = _even_length(max(size), limit**2 // short, margin)
    return (short, long) if size[0] <= size[1] else (long, short)


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


def _scan(pixels: np.ndarray, read: Read, size: Size, block: Size, margin: int) -> list[np.ndarray]:
    """Joins what is read block by block, one on each core: arrays of a multiple of `size`."""
    whole: list[np.ndarray] = []
    cell, spans = pixels.shape[0] // size[0], cut(size, block, margin)

    def fill(span: tuple[Span, Span]) -> list[np.ndarray]:
        (top, *_), (left, *_) = span
        return read(pixels[top * cell :, left * cell :][: block[0] * cell, : block[1] * cell])

    with ThreadPoolExecutor(cores()) as pool:
        for span, parts in zip(spans, pool.map(fill, spans), strict=True):
            fine = [len(part) // block[0] for part in parts]  # Its pixels to a cell.
            whole = whole or [np.empty((size[0] * n, size[1] * n), np.float32) for n in fine]
            for n, part, array in zip(fine, parts, whole, strict=True):
                kept = tuple(slice((a - first) * n, (b - first) * n) for first, a, b in span)
                array[tuple(slice(a * n, b * n) for _, a, b in span)] = part[kept]
    return whole


def _smooth(odds: np.ndarray, window: int) -> np.ndarray:
    """The mean over a square window around each cell, of those of its cells that exist."""
    # SciPy has a filter for this, whose import would take longer than a sound photo.
    for axis, length in enumerate(odds.shape):
        first = np.maximum(np.arange(length) - window // 2, 0)
        last = np.minimum(np.arange(length) + window // 2 + 1, length)
        sums = np.insert(odds.cumsum(axis, dtype=np.float64), 0, 0, axis)
        counts = np.expand_dims(last - first, 1 - axis)
        odds = (sums.take(last, axis) - sums.take(first, axis)) / counts
    return odds.astype(np.float32)


def _read_tiles(classifier: Classifier, pixels: np.ndarray) -> list[np.ndarray]:
    """Log-odds of cells as large as a patch, for a model that answers for whole patches only."""
    side = classifier.card.image_size
    rows, columns = pixels.shape[0] // side, pixels.shape[1] // side
    tiles = pixels.reshape(rows, side, columns, side, 3).swapaxes(1, 2)
    return [classifier.card.log_odds(np.stack([classifier.graph(row)[:, 0, 0] for row in tiles]))]


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
    probability: np.ndarray,
    size: tuple[int, int],
    region_threshold: float,
    mask: np.ndarray | None = None,
) -> tuple[Region, ...]:
    """Outlines the peaks of a map on a photo of `size`, its width and height in pixels.

    With a mask, a region is what is near to a crack of the mask; without, what is as probable.
    """
    if probability.max() <= region_threshold:
        return ()  # Most photos are sound, and the imports take longer than reading one.
    from contourpy import contour_generator
    from scipy import ndimage

    if mask is None:
        field, reach = probability, min(REACH, region_threshold)
        score = np.pad(field, 1, mode="edge")
    else:
        wide = ndimage.maximum_filter(np.where(mask >= MASK_LOW, mask, 0), 2 * _NEAR + 1)
        field, reach = ndimage.uniform_filter(wide, _NEAR), MASK_LOW
        cells = Image.fromarray(probability).resize(mask.shape[::-1], Image.Resampling.NEAREST)
        sure = ndimage.maximum_filter(mask, 2 * _NEAR + 1) >= MASK_HIGH
        score = np.pad(np.where(sure, np.asarray(cells), 0), 1, mode="edge")
    # From the centres of the cells out to the photo's edge.
    x, y = (
        np.concatenate([[0], (np.arange(n) + 0.5) * side / n, [side]])
        for n, side in zip(field.shape[::-1], size, strict=True)
    )
    field = np.pad(field, 1, mode="edge")
    found: Any = ndimage.label(field >= reach)
    labels, count = found
    peaks = ndimage.maximum(score, labels, range(1, count + 1))
    boxes = ndimage.find_objects(labels)
    regions = []
    for number, (peak, box) in enumerate(zip(peaks, boxes, strict=True), 1):
        if peak <= region_threshold:
            continue
        near = tuple(slice(max(0, part.start - 1), part.stop + 1) for part in box)
        alone = np.where((labels[near] != number) & (labels[near] != 0), 0, field[near])
        contours = contour_generator(x[near[1]], y[near[0]], alone, fill_type="OuterOffset")
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
