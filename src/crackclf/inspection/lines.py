"""The lines of cracks: dark ridges of a photo, made thin, joined over gaps, parted at branches."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise, product
from typing import Any

import numpy as np
from PIL import Image

from crackclf.cores import cores

_SURFACE = 61  # Side of the window that says how bright and how rough the surface is, in pixels.
_SCALES = (1, 2, 4)  # By which a photo is made smaller to find wider cracks.
_SIGMAS = (1.5, 2.5)  # Of dark ridges, in pixels of each scale.
_SECOND: Any = ((2, 0), (1, 1), (0, 2))  # Orders of the second derivatives.
_BLOCK, _MARGIN = 752, 136  # Side of what a core looks at, and what it needs around that.
_SURE, _PERHAPS = 1.0, 0.5  # Strength of a ridge that is a crack, and of what goes on from it.
_SPUR = 20  # Pixels: what leaves a line for less is the roughness of its edge.
_SPECK = 16  # Pixels of a thinned ridge that are too few to be a part of a crack.
_GAP = 24  # Pixels over which a crack goes on unseen.
_CELL = 4  # Pixels that count as one when gaps are looked for.
_SHORTEST = 100  # Pixels of a crack.
_SMOOTH = 2  # Standard deviation, in points of a line, of what takes the steps of pixels away.


def find_lines(grey: np.ndarray, inside: np.ndarray) -> list[list[np.ndarray]]:
    """Finds lines that are darker than the surface on both sides (Sato et al. 1998).

    All but the grey values is kept by point, not by pixel: the box of a crack that runs across a
    photo is nearly all sound.

    Args:
        grey: uint8 of shape (rows, columns).
        inside: bool of the same shape; where it is false nothing is found.

    Returns:
        What may be cracks: of each its lines, the longest first; of each line its points, float of
        shape (points, 2), as rows and columns.
    """
    from scipy.sparse.csgraph import connected_components

    points, strength = _thin_ridges(grey, inside)
    if not (strength >= _SURE).any():
        return []
    graph = _join(points, 1.5)  # Side by side or corner to corner.
    _, pieces = connected_components(graph, directed=False)
    sure = np.flatnonzero((np.bincount(pieces, strength >= _SURE) > 0)[pieces])
    cells, cell = np.unique(points[sure] // _CELL, axis=0, return_inverse=True)
    groups = connected_components(_join(cells, _GAP / _CELL), directed=False)[1][cell]
    # Of most, all pixels are too few, even if each step of them went across a corner.
    is_long = np.bincount(groups)[groups] >= _SHORTEST / np.sqrt(2)
    is_long &= np.bincount(pieces)[pieces[sure]] >= _SPECK
    groups, kept = groups[is_long], sure[is_long]
    # Piece after piece, so that each is a block of the graph.
    order = np.argsort(pieces[kept], kind="stable")
    groups, kept = groups[order], kept[order]
    points, graph = points[kept], graph[kept][:, kept]
    starts = np.flatnonzero(np.diff(pieces[kept], prepend=-1))
    found: dict[int, list[np.ndarray]] = {}
    for first, last in pairwise([*starts, len(kept)]):
        lines = [points[first + path] for path in _part(graph[first:last, first:last])]
        found.setdefault(groups[first], []).extend(map(_smooth, lines))
    cracks = [sorted(lines, key=length, reverse=True) for lines in found.values()]
    return [lines for lines in cracks if sum(map(length, lines)) >= _SHORTEST]


def length(line: np.ndarray) -> float:
    """Length of a line in pixels."""
    return float(np.hypot(*np.diff(line, axis=0).T).sum())


def _thin_ridges(grey: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The middle of all dark ridges: rows and columns, and how strong the ridge is there.

    The strength is in standard deviations of the surface.
    """
    from skimage.morphology import skeletonize

    def look(corner: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        own = inside[tuple(slice(x, x + _BLOCK) for x in corner)]
        used = [np.flatnonzero(own.any(axis=1 - axis)) for axis in (0, 1)]
        if not used[0].size:
            return np.empty((0, 2), int), np.empty(0, np.float32)
        kept = [slice(x + at[0], x + at[-1] + 1) for x, at in zip(corner, used, strict=True)]
        # Whole pixels of the coarsest scale, so that it does not matter what is left out.
        first = [max(0, x.start // _SCALES[-1] * _SCALES[-1] - _MARGIN) for x in kept]
        seen = tuple(slice(a, x.stop + _MARGIN) for a, x in zip(first, kept, strict=True))
        inner = tuple(slice(x.start - a, x.stop - a) for a, x in zip(first, kept, strict=True))
        ridges = _find_ridges(grey[seen].astype(np.float32))
        centre = skeletonize((ridges >= _PERHAPS) & inside[seen])[inner]
        return np.argwhere(centre) + [x.start for x in kept], ridges[inner][centre]

    corners = product(*(range(0, side, _BLOCK) for side in grey.shape))
    with ThreadPoolExecutor(cores()) as pool:
        points, strength = zip(*pool.map(look, corners), strict=True)
    return np.concatenate(points), np.concatenate(strength)


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


def _join(points: np.ndarray, far: float) -> Any:
    """The graph of all pairs of points that are near enough, with their distances."""
    from scipy.spatial import KDTree

    tree = KDTree(points)
    return tree.sparse_distance_matrix(tree, far, output_type="coo_matrix").tocsr()


def _part(graph: Any) -> list[np.ndarray]:
    """The longest way through a connected graph, then those that leave it, as numbers of points."""
    from scipy.sparse.csgraph import dijkstra

    def reach(start: Any) -> tuple[np.ndarray, np.ndarray]:
        far, before, _ = dijkstra(graph, indices=start, min_only=True, return_predecessors=True)
        return far, before

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
    # A way that goes back to it longer than others takes all that they share.
    far, before = reach(paths[0])
    for end in np.argsort(-far):
        if not is_known[end]:
            path = walk(int(end))
            if far[end] - far[path[-1]] >= _SPUR:
                paths.append(path)
    return paths


def _smooth(line: np.ndarray) -> np.ndarray:
    """The line without the steps of its pixels, which would make it longer."""
    from scipy import ndimage

    return ndimage.gaussian_filter1d(line.astype(np.float64), _SMOOTH, axis=0, mode="nearest")
