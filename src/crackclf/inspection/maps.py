"""Where in a photo cracks are: what a classifier of patches says of every place in it."""

import math
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image

from crackclf.cores import cores
from crackclf.errors import UserError, notice
from crackclf.images.resize import resize
from crackclf.inspection.blocks import Span, block_sizes, cut, level_sizes
from crackclf.prediction.classifier import Classifier
from crackclf.saved.graph import SHARE

_CONTEXT = 2  # Cells beside a block that the network sees with it, so that its edge is no edge.
_PATCHES = 22  # Patches that a block may be as large as. Larger ones leave a core's cache.
_BAND = 64  # Rows that a core resizes or halves at a time.
_MOST_PIXELS = 2**28  # Of a photo in the scale of the model's patches.
_LEAST = 16  # Cells that a block may be long in any case.


class _Look(NamedTuple):
    """One way to look at a block of pixels, of shape (rows * cell, columns * cell, 3).

    Attributes:
        log_odds: of a crack, of shape (rows, columns), from the pixels.
        cell: side of a cell in pixels.
        margin: cells along the edges of a block whose answers lack what lies beyond.
        window: side, in cells, of the square that answers are averaged over.
    """

    log_odds: Callable[[np.ndarray], np.ndarray]
    cell: int
    margin: int
    window: int


def map_cracks(photo: Image.Image, classifier: Classifier) -> np.ndarray:
    """Maps the probability of a crack over a photo.

    The photo is looked at in the scale in which the model knows patches and, as long as it is at
    least two patches wide and high then, in half of it, a quarter and so on, for cracks too wide
    to be seen as such close up. The log-odds are averaged; those of a scale weigh half as much as
    those of the next finer one. In each scale the log-odds of a cell are the mean over a window of
    half a patch around it. With average pooling and a linear head, that of a patch is the mean
    over its cells too (class activation map, Zhou et al. 2016, arXiv:1512.04150); with more than
    two classes, it is that or more.

    Each core looks at one block at a time, so the memory that the network takes does not grow
    with the photo. A model that answers for patches only is asked about patches that overlap by
    half.

    Args:
        photo: RGB.
        classifier: from `load_model`. Its card's `patch_size` says how many pixels of a photo
            make a patch.

    Returns:
        float32 of shape (rows, columns), calibrated by the card; evenly spaced over the photo.

    Raises:
        UserError: when the photo is too long and narrow, or the model's answers are no numbers.
    """
    card = classifier.card
    look = _cells(classifier) if card.cell_size else _tiles(classifier)
    patch = -(-card.image_size // look.cell)
    scale = card.image_size / (card.patch_size or card.image_size)
    levels = level_sizes((photo.height, photo.width), scale / look.cell, patch)
    sizes = block_sizes(levels, look.margin, max(math.isqrt(_PATCHES * patch**2), _LEAST))
    rows, columns = levels[0]
    if rows * columns * look.cell**2 > _MOST_PIXELS:
        raise UserError(
            f"is {photo.width:,} x {photo.height:,} pixels, so the model would have to look at "
            f"{rows * look.cell:,} x {columns * look.cell:,} (limit {_MOST_PIXELS:,} in all): it "
            f"is {max(photo.size) / min(photo.size):,.0f} times as long as wide. Crop it"
        )
    total = np.zeros((rows, columns), np.float32)
    with ThreadPoolExecutor(cores()) as pool:
        pixels = _resize(photo, rows * look.cell, columns * look.cell, pool)
        for level, (size, block) in enumerate(zip(levels, sizes, strict=True)):
            if level:
                pixels = _halve(pixels, pool)
            odds = _scan(pixels, look, cut(size, block, look.margin), pool)
            smooth = Image.fromarray(_smooth(odds, look.window))
            fine = smooth.resize((columns, rows), Image.Resampling.BILINEAR)
            total += 0.5**level * np.asarray(fine)
    total /= sum(0.5**level for level in range(len(levels)))
    if not np.isfinite(total).all():
        raise UserError("the model answers with numbers that are none")
    return card.calibrate(np.stack([total, np.zeros_like(total)], axis=-1))[..., 0]


def _resize(photo: Image.Image, height: int, width: int, pool: Executor) -> np.ndarray:
    photo.load()  # Threads that open one file at once would break it.
    pixels = np.empty((height, width, 3), np.uint8)

    def fill(top: int) -> None:
        rows = slice(top, top + _BAND)
        pixels[rows] = np.rint(resize(photo, height, width, rows))

    list(pool.map(fill, range(0, height, _BAND)))
    return pixels


def _halve(pixels: np.ndarray, pool: Executor) -> np.ndarray:
    height, width, channels = pixels.shape
    half = np.empty((-(-height // 2), -(-width // 2), channels), np.uint8)

    def fill(top: int) -> None:
        band = Image.fromarray(pixels[top : top + _BAND])
        half[top // 2 : (top + _BAND) // 2] = np.asarray(band.reduce(2))

    list(pool.map(fill, range(0, height, _BAND)))
    return half


def _scan(
    pixels: np.ndarray, look: _Look, blocks: list[tuple[Span, Span]], pool: Executor
) -> np.ndarray:
    """Looks at a picture block by block, on all cores: log-odds of shape (rows, columns)."""
    odds = np.empty([side // look.cell for side in pixels.shape[:2]], np.float32)

    def look_at(block: tuple[Span, Span]) -> None:
        rows, columns = (slice(x.first * look.cell, x.last * look.cell) for x in block)
        inside = tuple(slice(x.start - x.first, x.stop - x.first) for x in block)
        kept = tuple(slice(x.start, x.stop) for x in block)
        odds[kept] = look.log_odds(pixels[rows, columns])[inside]

    list(pool.map(look_at, blocks))
    return odds


def _smooth(odds: np.ndarray, window: int) -> np.ndarray:
    """The mean over a square window around each cell, of those of its cells that exist."""
    for axis, length in enumerate(odds.shape):
        first = np.maximum(np.arange(length) - window // 2, 0)
        last = np.minimum(np.arange(length) + window // 2 + 1, length)
        counts = np.expand_dims(last - first, 1 - axis)
        sums = np.insert(odds.cumsum(axis, dtype=np.float64), 0, 0, axis)
        odds = (sums.take(last, axis) - sums.take(first, axis)) / counts
    return odds.astype(np.float32)


def _cells(classifier: Classifier) -> _Look:
    card = classifier.card
    return _Look(
        lambda pixels: card.log_odds(classifier.graph(pixels[None])[0]),
        card.cell_size,
        _CONTEXT,
        card.image_size // card.cell_size // 2 | 1,
    )


def _tiles(classifier: Classifier) -> _Look:
    card = classifier.card
    _tell_of_tiles(card.fingerprint)
    side, step = card.image_size, -(-card.image_size // 2)

    def log_odds(pixels: np.ndarray) -> np.ndarray:
        tiles = np.lib.stride_tricks.sliding_window_view(pixels, (side, side), axis=(0, 1))
        tiles = tiles[::step, ::step].transpose(0, 1, 3, 4, 2)
        rows, columns = tiles.shape[:2]
        places = np.indices((rows, columns)).reshape(2, -1)
        parts = [places[:, i : i + SHARE] for i in range(0, places.shape[1], SHARE)]
        answers = np.concatenate([classifier.graph(tiles[tuple(part)])[:, 0, 0] for part in parts])
        # Each cell, half a tile wide, gets the mean of the tiles that cover it.
        odds = np.pad(card.log_odds(answers).reshape(rows, columns), 1, constant_values=np.nan)
        corners = [odds[i : rows + 1 + i, j : columns + 1 + j] for i in (0, 1) for j in (0, 1)]
        return np.nanmean(corners, axis=0)

    return _Look(log_odds, step, 1, 1)


@cache
def _tell_of_tiles(fingerprint: str) -> None:
    notice(
        "this model answers for patches only, so photos are looked at tile by tile, which takes "
        "many times as long"
    )
