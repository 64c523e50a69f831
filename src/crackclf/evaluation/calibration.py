"""Probabilities that mean what they say, and thresholds with a known rate of false alarms."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from crackclf.errors import UserError
from crackclf.saved.card import softmax, to_logits


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Finds the temperature at which validation probabilities fit the labels best.

    Args:
        labels: int of shape (n,), class indices.
        probabilities: float of shape (n, 2), rows summing to 1.

    Returns:
        The temperature, between 0.1 and 10, of the smallest cross-entropy (Guo et al. 2017,
        arXiv:1706.04599).
    """
    from scipy.optimize import minimize_scalar

    logits = to_logits(probabilities)

    def loss(log_temperature: float) -> float:
        scaled = softmax(logits, np.exp(log_temperature))
        return -np.log(scaled[np.arange(len(labels)), labels]).mean()

    found: Any = minimize_scalar(loss, bounds=np.log((0.1, 10)), method="bounded")
    return float(np.exp(found.x))


def choose_region_threshold(sound_peaks: Sequence[float], false_alarms: float) -> float:
    """Finds the probability above which a region on a photo is called a crack.

    Of a photo that is like the sound ones measured, the chance that it shows a higher probability
    anywhere is at most `false_alarms`, whatever the distribution (a split conformal bound: Vovk et
    al. 2005, Algorithmic Learning in a Random World).

    Args:
        sound_peaks: the highest probability on each of several photos of sound surfaces.
        false_alarms: share of sound photos that may be called cracked, above 0 and below 1.

    Returns:
        The threshold, one of the peaks.

    Raises:
        UserError: when there are too few peaks for so small a share.
    """
    if not 0 < false_alarms < 1:
        raise UserError(f"false_alarms must be above 0 and below 1. Received: {false_alarms}.")
    rank = math.ceil(round((1 - false_alarms) * (len(sound_peaks) + 1), 9))
    if rank > len(sound_peaks):
        raise UserError(
            f"to call at most {false_alarms:.3g} of the sound photos cracked takes at least "
            f"{math.ceil(1 / false_alarms) - 1} photos of sound surfaces to measure on. Received: "
            f"{len(sound_peaks)}."
        )
    return sorted(sound_peaks)[rank - 1]
