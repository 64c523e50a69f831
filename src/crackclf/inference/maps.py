"""Where in a photo cracks are: what a classifier of patches says of every place in it."""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise, product
from operator import ge
from typing import NamedTuple

import numpy as np
from PIL import Image

from crackclf.data.cores import cores
from crackclf.models.dense import DenseModel
from crackclf.models.saving import Classifier

_CONTEXT = 2  # Cells beside a block that are looked at with it, so that its edge is no edge.
_WASTE = 1.5  # How much larger a block may be than is needed.
_BATCH = 64
_MOST_BLOCKS = 40  # Each way.
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
    # What the photo takes is not left for the network, whose memory for a pixel is some 32 times as
    # much as the photo's.
    room = look.most_pixels - photo.width * photo.height // 32
    look = look._replace(most_pixels=max(room, look.most_pixels // 3))
    card = classifier.card
    scale = card.image_size / (card.patch_size or card.image_size)
    sizes = level_sizes(photo.size, scale / look.stride, -(-card.image_size // look.stride))
    width, height = (cells * look.stride for cells in sizes[0])
    total, weights, block = np.zeros(sizes[0][::-1], np.float32), 0.0, None
    read: Callable[[int, int], np.ndarray] = partial(_resize, photo, width, height)
    for level, (columns, rows) in enumerate(sizes):
        found, block, halved = _scan(read, (rows, columns), look, block)
        weight, fine = 0.5**level, Image.fromarray(found)
        total += weight * np.asarray(fine.resize(sizes[0], Image.Resampling.BILINEAR))
        weights += weight
        read = partial(_cut, halved)
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


def _resize(photo: Image.Image, width: int, height: int, first: int, last: int) -> np.ndarray:
    """Rows of the photo in another size, uint8 of shape (last - first, width, 3), by all cores."""
    pixels = np.empty((last - first, width, 3), np.uint8)

    def fill(top: int) -> None:
        bottom = min(top + _BAND, last)
        box = (0, top * photo.height / height, photo.width, bottom * photo.height / height)
        band = photo.resize((width, bottom - top), Image.Resampling.BILINEAR, box, reducing_gap=2.0)
        pixels[top - first : bottom - first] = np.asarray(band)

    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(fill, range(first, last, _BAND)))
    return pixels


def _cut(pixels: np.ndarray, first: int, last: int) -> np.ndarray:
    return pixels[first:last]


def _halve(pixels: np.ndarray) -> np.ndarray:
    bands = (pixels[top : top + _BAND] for top in range(0, len(pixels), _BAND))
    return np.concatenate([np.asarray(Image.fromarray(band).reduce(2)) for band in bands])


def _scan(
    read: Callable[[int, int], np.ndarray],
    cells: tuple[int, int],
    look: _Look,
    used: tuple[int, int] | None,
) -> tuple[np.ndarray, tuple[int, int], np.ndarray]:
    """Looks at a picture block by block.

    All blocks are of one size, also from scale to scale if that costs little, because the network
    must be made ready for each other one.

    Args:
        read: from the first row of pixels and the one after the last to these rows.
        cells: rows and columns.
        look: how.
        used: size of the blocks of the scale before.

    Returns:
        Log-odds of shape (rows, columns), the size of the blocks, and the picture at half its size
        (of no use when a side is odd: then it is the coarsest).
    """
    counts, block = _divide(cells, look)
    if used and all(map(ge, used, block)) and math.prod(used) <= _WASTE * math.prod(block):
        block = used
    stride, (height, width) = look.stride, (side * look.stride for side in block)
    found = np.empty(cells, np.float32)
    halved = np.empty((cells[0] * stride // 2, -(-cells[1] * stride // 2), 3), np.uint8)
    down, across = (_spans(*axis, look.margin) for axis in zip(cells, counts, block, strict=True))
    for top, rows, inner_rows in down:
        band = read(top * stride, min(top + block[0], cells[0]) * stride)
        inside = band[inner_rows.start * stride : inner_rows.stop * stride]
        place = slice(rows.start * stride // 2, rows.stop * stride // 2)
        halved[place] = _halve(inside)[: len(halved[place])]
        missing = [(0, max(0, height - len(band))), (0, max(0, width - band.shape[1]))]
        if any(more for _, more in missing):
            band = np.pad(band, (*missing, (0, 0)), mode="edge")
        for left, columns, inner_columns in across:
            said = look.log_odds(band[:, left * stride : left * stride + width])
            found[rows, columns] = said[inner_rows, inner_columns]
    return found, block, halved


def _divide(cells: tuple[int, int], look: _Look) -> tuple[tuple[int, int], tuple[int, int]]:
    """Into how many blocks to cut a picture each way with the least work, and their size."""

    def size(rows: int, columns: int) -> tuple[int, int]:
        height, width = (
            _unit(side) * -(-side // _unit(side) // count) + look.margin * min(count - 1, 2)
            for side, count in zip(cells, (rows, columns), strict=True)
        )
        return height, width

    def work(counts: tuple[int, int]) -> tuple[bool, int]:
        area = math.prod(size(*counts))
        return area * look.stride**2 > look.most_pixels, area * math.prod(counts)

    rows, columns = (range(1, min(side, _MOST_BLOCKS) + 1) for side in cells)
    counts = min(product(rows, columns), key=work)
    return counts, size(*counts)


def _unit(cells: int) -> int:
    # A picture that is to be halved is cut between pairs of rows.
    return 2 - cells % 2


def _spans(cells: int, count: int, block: int, margin: int) -> list[tuple[int, slice, slice]]:
    """Where each block begins, the cells that it answers for, and where it has them."""
    unit = _unit(cells)
    edges = (unit * np.linspace(0, cells // unit, count + 1).round().astype(int)).tolist()
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
