"""How a photo is halved into scales, and each scale cut into blocks: geometry only."""

from collections.abc import Sequence
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np

Size = tuple[int, int]


class Span(NamedTuple):
    """One side of a block, in cells: it is looked at from first to last, kept from start to stop.

    The ends are not included.
    """

    first: int
    last: int
    start: int
    stop: int


def level_sizes(size: Size, density: float, patch: int) -> list[Size]:
    """How many cells a photo is cut into at each scale, the finest first.

    Args:
        size: height and width of the photo in pixels.
        density: cells to a pixel at the finest scale.
        patch: side of a patch in cells.

    Returns:
        Rows and columns by scale: at least one patch each way, and each half of those before.
    """
    depth = 1 + max(0, int(np.log2(max(min(size) * density / (2 * patch), 1))))
    step = 2 ** (depth - 1)
    rows, columns = (max(patch, step * round(side * density / step)) for side in size)
    return [(rows >> level, columns >> level) for level in range(depth)]


def block_sizes(levels: Sequence[Size], margin: int, most: int) -> list[Size]:
    """Chooses the size of the blocks that each scale is cut into.

    The network must be made ready for each size, so a size serves all coarser scales in which it
    fits. Of several sizes, the one is chosen with which the fewest cells are looked at.

    Args:
        levels: rows and columns of each scale in cells, the finest first.
        margin: cells along the edges of a block that are looked at and not kept.
        most: a block has at most as many cells as a square of this side.

    Returns:
        Rows and columns of a block by scale.
    """

    def choose(side: int) -> list[Size]:
        chosen: list[Size] = []
        for rows, columns in levels:
            if not chosen or chosen[-1][0] > rows or chosen[-1][1] > columns:
                chosen.append(_even_size(rows, columns, margin, side))
            else:
                chosen.append(chosen[-1])
        return chosen

    def seen(chosen: list[Size]) -> int:
        return sum(
            _count(rows, height, margin) * height * _count(columns, width, margin) * width
            for (rows, columns), (height, width) in zip(levels, chosen, strict=True)
        )

    return min(map(choose, range(most, most * 2 // 3, -1)), key=seen)


def cut(size: Size, block: Size, margin: int) -> list[tuple[Span, Span]]:
    """Cuts a picture into blocks of one size.

    Args:
        size: rows and columns of the picture, in cells.
        block: rows and columns of a block, no more than those of the picture.
        margin: cells along the edges of a block that are looked at and not kept, but at the edges
            of the picture.

    Returns:
        The spans of rows and of columns of each block. What they keep is the picture.
    """
    down, across = (_spans(*side, margin) for side in zip(size, block, strict=True))
    return list(product(down, across))


def _even_size(rows: int, columns: int, margin: int, most: int) -> Size:
    """Sides of blocks that cover a picture evenly."""
    if rows > columns:
        width, height = _even_size(columns, rows, margin, most)
    else:
        height = _even_length(rows, margin, most)
        width = _even_length(columns, margin, most**2 // height)
    return height, width


def _even_length(cells: int, margin: int, most: int) -> int:
    count = _count(cells, most, margin)
    return -(-(cells + 2 * margin * (count - 1)) // count)


def _count(cells: int, length: int, margin: int) -> int:
    """How many spans of a length cover a side; neighbours share two margins."""
    return max(1, -(-(cells - 2 * margin) // (length - 2 * margin)))


def _spans(cells: int, length: int, margin: int) -> list[Span]:
    count = _count(cells, length, margin)
    firsts = np.linspace(0, cells - length, count).round().astype(int).tolist()
    edges = pairwise([0, *(first + margin for first in firsts[1:]), cells])
    return [
        Span(first, first + length, start, stop)
        for first, (start, stop) in zip(firsts, edges, strict=True)
    ]
