import numpy as np
import pytest

from crackclf.splits import split_groups


@pytest.mark.parametrize("fractions", [(0.75, 0.2375, 0.0125), (0.6, 0.2, 0.2)])
def test_single_items_are_split_exactly_and_stratified(fractions):
    labels = np.repeat([0, 1], [600, 1000])
    subset = split_groups(labels, np.arange(1600), fractions, seed=0)
    for label, total in ((0, 600), (1, 1000)):
        counts = np.bincount(subset[labels == label], minlength=3)
        assert np.abs(counts - total * np.array(fractions)).max() <= 1


def test_groups_stay_whole_and_fractions_are_nearly_met():
    rng = np.random.default_rng(0)
    sizes = rng.integers(5, 60, 115)  # photos cut into patches of both classes
    groups = np.repeat(np.arange(115), sizes)
    labels = rng.integers(0, 2, len(groups))
    subset = split_groups(labels, groups, (0.6, 0.2, 0.2), seed=1)
    for group in range(115):
        assert len(set(subset[groups == group])) == 1
    share = np.bincount(subset, minlength=3) / len(subset)
    assert np.abs(share - [0.6, 0.2, 0.2]).max() < 0.02


def test_few_images_give_each_subset_more_than_their_share():
    labels = np.repeat([0, 1], [200, 60])
    subset = split_groups(labels, np.arange(260), (0.9, 0.0875, 0.0125), seed=0, least=20)
    held_out = [[int(((subset == s) & (labels == c)).sum()) for c in (0, 1)] for s in (1, 2)]
    assert held_out == [[20, 12], [20, 12]]  # Of sixty a fifth.
