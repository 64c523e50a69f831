"""Splitting without leaks: what belongs together lands on one side."""

from collections.abc import Hashable, Sequence

import numpy as np

SUBSETS = ("train", "validation", "test")


def connect(*keys: Sequence[Hashable]) -> np.ndarray:
    """Numbers the groups of items that share any key, directly or through others.

    Args:
        *keys: one or more sequences of length n, such as file digests and photo numbers.

    Returns:
        int array of shape (n,): equal numbers mean the same group.

    Example:

    ```python
    connect(["a", "b", "a"])  # array([0, 1, 0])
    ```
    """
    n = len(keys[0])
    parent = list(range(n))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for column in keys:
        first: dict[Hashable, int] = {}
        for i, key in enumerate(column):
            a, b = root(first.setdefault(key, i)), root(i)
            parent[max(a, b)] = min(a, b)
    return np.unique([root(i) for i in range(n)], return_inverse=True)[1]


def split_groups(
    labels: np.ndarray, groups: np.ndarray, fractions: Sequence[float], seed: int, least: int = 0
) -> np.ndarray:
    """Deals whole groups to subsets so that each class meets the wanted fractions.

    Groups of several items go first, in random order, each to the subset where it lowers the
    chi-square distance to the wanted class counts the most; single items then fill what is
    left, which makes the counts exact wherever there are enough of them.

    Args:
        labels: int array of shape (n,), the class of each item.
        groups: int array of shape (n,), from `connect`.
        fractions: the wanted share of each subset, summing to 1, each above 0.
        seed: of the random order.
        least: items of a class that each subset is given even where its share is smaller, up to a
            fifth of the class; the first subset gives them.

    Returns:
        int array of shape (n,): the subset of each item.
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
