"""Splitting without leaks: what belongs together lands on one side."""

from collections.abc import Hashable, Sequence

import numpy as np

SUBSETS = ("train", "validation", "test")


def connect(*keys: Sequence[Hashable]) -> np.ndarray:
    """Numbers the groups of items that share any key, directly or through others.

    Takes sequences of n keys, such as file digests and photo numbers. Returns int of shape (n,):
    `connect(["a", "b", "a"])` is `[0, 1, 0]`.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n, firsts = len(keys[0]), []
    for column in keys:
        first: dict[Hashable, int] = {}
        firsts += [first.setdefault(key, i) for i, key in enumerate(column)]
    edges = np.array(firsts), np.tile(np.arange(n), len(keys))
    return connected_components(coo_array((np.ones(len(firsts)), edges), (n, n)), directed=False)[1]


def split_groups(
    labels: np.ndarray, groups: np.ndarray, fractions: Sequence[float], seed: int, least: int = 0
) -> np.ndarray:
    """Deals whole groups to subsets so that each class meets the wanted fractions.

    Groups of several items go first, in random order, each to the subset where it lowers the
    chi-square distance to the wanted class counts the most; single items then fill what is left.
    Takes labels and groups, int of shape (n,), and the fractions, each above 0. Each subset is
    given at least `least` items of a class, up to a fifth of the class; the first one gives them.
    Returns the subset of each item, int of shape (n,).
    """
    classes, labels = np.unique(labels, return_inverse=True)
    counts = np.zeros((groups.max() + 1, len(classes)), dtype=int)
    np.add.at(counts, (groups, labels), 1)
    total = counts.sum(axis=0)
    wanted = np.outer(fractions, total)
    wanted[1:] = np.maximum(wanted[1:], np.minimum(least, total / 5))
    wanted[0] = total - wanted[1:].sum(axis=0)
    have = np.zeros_like(wanted)

    order = np.random.default_rng(seed).permutation(len(counts))
    order = order[np.argsort(counts[order].sum(axis=1) == 1, kind="stable")]
    subset_of_group = np.empty(len(counts), dtype=int)
    for group in order:
        cost = (counts[group] * (2 * (have - wanted) + counts[group]) / wanted).sum(axis=1)
        subset = int(np.argmin(cost))
        subset_of_group[group] = subset
        have[subset] += counts[group]
    return subset_of_group[groups]
