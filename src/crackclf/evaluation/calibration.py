"""Probabilities that mean what they say, and thresholds with a known rate of false alarms."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crackclf.data.folders import find_positive
from crackclf.errors import UserError
from crackclf.saved.card import softmax, to_logits

FALSE_ALARMS = 0.1  # Share of sound photos that may be called cracked.
_SPREAD = 0.35  # Of the logarithm of temperatures, before anything is seen.
_AIMS = ("recall", "precision")
_DRAWS = 400


@dataclass(frozen=True)
class Calibration:
    """The temperature and the threshold that turn a model's probabilities into answers.

    Attributes:
        temperature: logits are divided by it, above 0. 1 changes nothing.
        threshold: an image is called positive from this calibrated probability on, in 0..1.
    """

    temperature: float = 1.0
    threshold: float = 0.5

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, float32 of shape (n, classes), from a model's own."""
        return softmax(to_logits(probabilities), self.temperature)


def calibrate(
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    positive: str | None = None,
    threshold_for: str | None = None,
    groups: Sequence[object] | np.ndarray | None = None,
) -> Calibration:
    """Fits temperature and threshold to a model's answers on validation images.

    Args:
        labels: int of shape (n,), class indices.
        probabilities: float of shape (n, classes), rows summing to 1, as the model gives them.
        class_names: the class names in the order of the columns.
        positive: the class that means cracked; found by its name when None.
        threshold_for: goal of the threshold. `"recall=0.98"`: the highest threshold that finds
            this share of the positive images. `"precision=0.95"`: the lowest threshold at which
            this share of the images called positive is right. None: the best balanced accuracy.
        groups: n keys, e.g. photo numbers. Images with the same key belong together. The share
            must then hold at the lower end of its 95 % interval, from a bootstrap over groups.

    Returns:
        A `Calibration`.

    Raises:
        UserError: when `threshold_for` cannot be read or reached, or all images are positive, or
            none is.

    Example:

    ```python
    said = model.predict(data.validation)
    found = calibrate(data.labels["validation"], said, data.class_names)
    ```
    """
    p = list(class_names).index(find_positive(class_names, positive))
    cracked = np.asarray(labels) == p
    if cracked.all() or not cracked.any():
        raise UserError(
            f"expected images of {class_names[p]} and of other classes to calibrate on. "
            f"Received: {int(cracked.sum())} and {int((~cracked).sum())}."
        )
    temperature = fit_temperature(labels, probabilities)
    scores = Calibration(temperature).apply(probabilities)[:, p].astype(float)
    return Calibration(temperature, _choose_threshold(cracked, scores, threshold_for, groups))


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Finds the temperature at which validation probabilities fit the labels best.

    Where hardly an image is wrong, the best fit would be no doubt at all. So the temperature is
    the most probable one when its logarithm is, beforehand, normally distributed about 0 with
    standard deviation 0.35; of some hundred images with errors the fit alone decides.

    Args:
        labels: int of shape (n,), class indices.
        probabilities: float of shape (n, classes), rows summing to 1.

    Returns:
        The temperature, between 0.1 and 10 (Guo et al. 2017, arXiv:1706.04599).
    """
    from scipy.optimize import minimize_scalar

    logits = to_logits(probabilities)

    def loss(log_temperature: float) -> float:
        scaled = softmax(logits, np.exp(log_temperature))
        likelihood = np.log(np.maximum(scaled[np.arange(len(labels)), labels], 1e-12)).sum()
        return log_temperature**2 / (2 * _SPREAD**2) - likelihood

    found: Any = minimize_scalar(loss, bounds=np.log((0.1, 10)), method="bounded")
    return float(np.exp(found.x))


def read_aim(threshold_for: str) -> tuple[str, float]:
    """Reads what a threshold is chosen for, e.g. "recall=0.98" as ("recall", 0.98)."""
    name, _, value = threshold_for.partition("=")
    try:
        share = float(value)
    except ValueError:
        share = 0.0
    if name not in _AIMS or not 0 < share <= 1:
        raise UserError(
            "threshold_for must be recall=NUMBER or precision=NUMBER, with a number above 0 and at "
            f"most 1, e.g. recall=0.98. Received: {threshold_for!r}."
        )
    return name, share


def _choose_threshold(
    cracked: np.ndarray,
    scores: np.ndarray,
    aim: str | None,
    groups: Sequence[object] | np.ndarray | None,
) -> float:
    from scipy.special import expit, logit

    order = np.argsort(-scores, kind="stable")
    values = scores[order]
    last = np.append(values[1:] < values[:-1], True)  # Equal scores are called alike.
    hits, called = cracked[order].cumsum()[last], np.arange(1, len(scores) + 1)[last]
    recall, precision = hits / cracked.sum(), hits / called
    specificity = 1 - (called - hits) / (~cracked).sum()
    if aim is None:
        balanced = recall + specificity
        good = np.flatnonzero(balanced >= balanced.max() - 1e-9)
    else:
        name, share = read_aim(aim)
        held = recall if name == "recall" else precision
        if groups is not None:
            held = _lower_ends(name, cracked[order], np.asarray(groups)[order])[last]
        reached = held >= share - 1e-9
        if not reached.any():  # Recall is, when everything is called cracked.
            most = held.max()
            raise UserError(
                f"threshold_for={aim} is out of reach on the {len(scores)} validation images: the "
                f"best precision is {most:.3f}, at recall {recall[held == most].max():.3f}. "
                "Choose a lower one."
            )
        at = np.flatnonzero(reached)
        good = at[:1] if name == "recall" else at[-1:]
    # Any threshold from the lowest score called cracked down to the next one does the same.
    low = np.append(values[last][1:], 0.0)[good]
    high = values[last][good]
    if aim is None and ((low < 0.5) & (high >= 0.5)).any():
        return 0.5
    # Midway in log-odds: near 0 and 1 they tell apart what probabilities hardly do.
    odds = logit(np.clip([low, high], 1e-7, 1 - 1e-7)).mean(axis=0)
    middles = np.clip(expit(odds), np.nextafter(low, 1), high)
    return float(middles[np.abs(middles - 0.5).argmin()])


def _lower_ends(name: str, cracked: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Lower ends of the 95 % intervals of recall or precision, by how many are called cracked.

    By drawing whole groups anew, as `group_intervals`; images come in order of their scores.
    """
    rng, (_, group_of) = np.random.default_rng(0), np.unique(groups, return_inverse=True)
    ends = []
    for _ in range(_DRAWS):
        drawn = rng.integers(0, group_of.max() + 1, group_of.max() + 1)
        times = np.bincount(drawn, minlength=group_of.max() + 1)[group_of]
        hits = (times * cracked).cumsum()
        ends.append(hits / np.maximum(hits[-1] if name == "recall" else times.cumsum(), 1))
    return np.quantile(ends, 0.025, axis=0)


def choose_region_threshold(
    sound_peaks: Sequence[float], false_alarms: float = FALSE_ALARMS
) -> float:
    """Finds the probability above which a region on a photo is called a crack.

    A photo like the sound ones exceeds it anywhere with a chance of at most `false_alarms`,
    whatever the distribution (a split conformal bound: Vovk et al. 2005, Algorithmic Learning in
    a Random World).

    Args:
        sound_peaks: the highest probability on each of several photos of sound surfaces, in 0..1.
        false_alarms: share of sound photos that may be called cracked, above 0 and below 1.

    Returns:
        The threshold, one of the peaks.

    Raises:
        UserError: when there are too few peaks for so small a share.

    Example:

    ```python
    threshold = choose_region_threshold(load_model().card.sound_peaks, false_alarms=0.05)
    ```
    """
    if not 0 < false_alarms < 1:
        raise UserError(f"false_alarms must be above 0 and below 1. Received: {false_alarms}.")
    rank = math.ceil(round((1 - false_alarms) * (len(sound_peaks) + 1), 9))
    if rank > len(sound_peaks):
        raise UserError(
            f"false_alarms={false_alarms:.3g} needs at least {math.ceil(1 / false_alarms) - 1} "
            f"photos of sound surfaces. Received: {len(sound_peaks)}."
        )
    return sorted(sound_peaks)[rank - 1]
