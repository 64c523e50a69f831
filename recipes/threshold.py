"""The decision threshold of the shipped model."""

import numpy as np
from sklearn.metrics import roc_curve


def choose_threshold(is_positive: np.ndarray, scores: np.ndarray, of_set: np.ndarray) -> float:
    """Finds the threshold of the best balanced accuracy, averaged over data sets.

    Args:
        is_positive: bool of shape (n,), both values present in every set.
        scores: float of shape (n,), probability of the positive class.
        of_set: of shape (n,), the set of each image; all sets have equal weight.

    Returns:
        The threshold, midway between two scores; the middle one when several are equally good.
    """
    group = np.unique(np.stack([is_positive, of_set.astype(str)]), axis=1, return_inverse=True)[1]
    false_positives, true_positives, cuts = roc_curve(
        is_positive, scores, sample_weight=1 / np.bincount(group)[group], drop_intermediate=False
    )
    gain = true_positives - false_positives
    best = np.flatnonzero(np.isclose(gain, gain.max()))
    at = best[len(best) // 2]
    below = cuts[at + 1] if at + 1 < len(cuts) else 0.0
    return float((min(cuts[at], 1.0) + below) / 2)
