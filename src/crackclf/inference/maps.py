"""Where in a photo cracks are: what a classifier of patches says of every place in it."""

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise, product
from operator import ge
from typing import NamedTuple

import numpy as np
from PIL import Image

from crackclf.models.dense import DenseModel
from crackclf.models.saving import Classifier

_CONTEXT = 1  # Cells beside a block that are looked at with it, so that its edge is no edge.
_WASTE = 1.25  # How much larger a block may be than is needed.
_BATCH = 64
_BAND = 256  # Rows that are resized at a time; even.


class _Look(NamedTuple):
    """One way to look at a block: `log_odds` of shape (rows, columns) from pixels."""

    log_odds: Callable[[np.ndarray], np.ndarray]
    stride: int
    margin: int
    most_pixels: int


def map_cracks(
    photo: Image.Image, classifier: Classifier, tile_by_tile: bool = False
) -> np.ndarray:
    """Maps the probability of a crack over a photo.

    The photo is looked at in the scale in which the model knows patches and, as long as it is at
    least two patches wide and high then, in half of it, a quarter and so on, for cracks too wide
    to be seen as such close up. The log-odds are averaged; those of a scale weigh half as much as
    those of the next finer one. The network sees one block at a time, so that what it takes of
    memory does not grow with the photo.

    Args:
        photo: RGB.
        classifier: from `load_model`. Its card's `patch_size` says how many pixels of a photo
            make a patch.
        tile_by_tile: cut patches that overlap by half and ask the classifier of each, as one would
            without this package; many times slower. A model that cannot be made fully
            convolutional is always asked so.

    Returns:
        float32 of shape (rows, columns), calibrated with the card's temperature; evenly spaced
        over the photo.
    """
    dense = None if tile_by_tile else classifier.dense
    look = _tiles(classifier) if dense is None else _blocks(classifier, dense)
    card = classifier.card
    scale = card.image_size / (card.patch_size or card.image_size)
    sizes = level_sizes(photo.size, scale / look.stride, -(-card.image_size // look.stride))
    pixels = _resize(photo, *(cells * look.stride for cells in sizes[0]))
    total, weights, block = np.zeros(sizes[0][::-1], np.float32), 0.0, None
    for level in range(len(sizes)):
        if level:
            pixels = _halve(pixels)
        found, block = _scan(pixels, look, block)
        weight, fine = 0.5**level, Image.fromarray(found)
        total += weight * np.asarray(fine.resize(sizes[0], Image.Resampling.BILINEAR))
        weights += weight
    return 1 / (1 + np.exp(-total / weights / card.temperature))


def level_sizes(size: tuple[int, int], density: float, patch: int) -> list[tuple[int, int]]:
    """How many cells a photo is cut into at each scale, the finest first.

    Args:
        size: (width, height) of the photo in pixels.
        density: cells to a pixel at the finest scale.
        patch: side of a patch in cells.

    Returns:
        (columns, rows) by scale: at least one patch each way, and each half of those before.
    """
    depth = 1 + max(0, int(np.log2(max(min(size) * density / (2 * patch), 1))))
    step = 2 ** (depth - 1)
    columns, rows = (max(patch, step * round(side * density / step)) for side in size)
    return [(columns >> level, rows >> level) for level in range(depth)]


def _resize(photo: Image.Image, width: int, height: int) -> np.ndarray:
    """The photo in another size, uint8 of shape (height, width, 3), by all cores."""
    pixels = np.empty((height, width, 3), np.uint8)

    def fill(top: int) -> None:
        bottom = min(top + _BAND, height)
        box = (0, top * photo.height / height, photo.width, bottom * photo.height / height)
        band = photo.resize((width, bottom - top), Image.Resampling.BILINEAR, box, reducing_gap=2.0)
        pixels[top:bottom] = np.asarray(band)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(fill, range(0, height, _BAND)))
    return pixels


def _halve(pixels: np.ndarray) -> np.ndarray:
    bands = (pixels[top : top + _BAND] for top in range(0, len(pixels), _BAND))
    return np.concatenate([np.asarray(Image.fromarray(band).reduce(2)) for band in bands])


def _scan(
    pixels: np.ndarray, look: _Look, used: tuple[int, int] | None
) -> tuple[np.ndarray, tuple[int, int]]:
    """Log-odds of shape (rows, columns), found block by block, and the size of the blocks in cells.

    All blocks are of one size, also from scale to scale if that costs little, because the network
    must be made ready for each other one.
    """
    cells = pixels.shape[0] // look.stride, pixels.shape[1] // look.stride
    counts, block = _divide(cells, look)
    if used and all(map(ge, used, block)) and math.prod(used) <= _WASTE * math.prod(block):
        block = used
    missing = [(0, max(0, b - c) * look.stride) for b, c in zip(block, cells, strict=True)]
    if any(more for _, more in missing):
        pixels = np.pad(pixels, (*missing, (0, 0)), mode="edge")
    found = np.empty(cells, np.float32)
    spans = (_spans(*axis, look.margin) for axis in zip(cells, counts, block, strict=True))
    for (top, rows, inner_rows), (left, columns, inner_columns) in product(*spans):
        height, width = (side * look.stride for side in block)
        y, x = top * look.stride, left * look.stride
        said = look.log_odds(pixels[y : y + height, x : x + width])
        found[rows, columns] = said[inner_rows, inner_columns]
    return found, block


def _divide(cells: tuple[int, int], look: _Look) -> tuple[list[int], tuple[int, int]]:
    """Into how many blocks to cut a picture each way, and their size in cells."""
    counts = [1, 1]
    while True:
        block = tuple(
            -(-side // count) + look.margin * min(count - 1, 2)
            for side, count in zip(cells, counts, strict=True)
        )
        longer = int(block[1] > block[0])
        if math.prod(block) * look.stride**2 <= look.most_pixels or counts[longer] >= cells[longer]:
            return counts, (block[0], block[1])
        counts[longer] *= 2


def _spans(cells: int, count: int, block: int, margin: int) -> list[tuple[int, slice, slice]]:
    """Where each block begins, the cells that it answers for, and where it has them."""
    edges = np.linspace(0, cells, count + 1).round().astype(int).tolist()
    spans = []
    for start, stop in pairwise(edges):
        first = max(0, min(start - margin, cells - block))
        spans.append((first, slice(start, stop), slice(start - first, stop - first)))
    return spans


def _blocks(classifier: Classifier, dense: DenseModel) -> _Look:
    at = classifier.card.class_names.index(classifier.card.positive_class)
    return _Look(
        lambda pixels: _log_odds(dense.probabilities(pixels), at),
        dense.stride,
        _CONTEXT + dense.window // 2,
        dense.most_pixels,
    )


def _tiles(classifier: Classifier) -> _Look:
    card = classifier.card
    at, side = card.class_names.index(card.positive_class), card.image_size
    step = -(-side // 2)

    def look(pixels: np.ndarray) -> np.ndarray:
        tiles = np.lib.stride_tricks.sliding_window_view(pixels, (side, side), axis=(0, 1))
        tiles = tiles[::step, ::step].transpose(0, 1, 3, 4, 2)
        rows, columns = tiles.shape[:2]
        said = np.empty((rows * columns, 2), np.float32)
        for start in range(0, len(said), _BATCH):
            chosen = np.arange(start, min(start + _BATCH, len(said)))
            said[chosen] = classifier.probabilities(tiles[chosen // columns, chosen % columns])
        # Not yet calibrated, as everywhere here.
        odds = card.temperature * _log_odds(said, at).reshape(rows, columns)
        # Each cell, half a tile wide, gets the mean of the tiles that cover it.
        padded = np.pad(odds, 1, constant_values=np.nan)
        corners = [padded[i : rows + 1 + i, j : columns + 1 + j] for i in (0, 1) for j in (0, 1)]
        return np.nanmean(corners, axis=0)

    return _Look(look, step, 1, 2**22)


def _log_odds(probabilities: np.ndarray, at: int) -> np.ndarray:
    clipped = np.clip(probabilities, 1e-7, 1)
    return np.log(clipped[..., at]) - np.log(clipped[..., 1 - at])
