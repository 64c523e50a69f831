"""Probabilities from logits, and the temperature and thresholds that turn them into answers."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crackclf.errors import UserError

FALSE_ALARMS = 0.1  # Share of sound photos that may be called cracked.
_SPREAD = 0.35  # Standard deviation of the logarithm of temperatures, before any image is seen.
_DRAWS = 400


def softmax(logits: np.ndarray, temperature: float | np.ndarray = 1.0) -> np.ndarray:
    """Softmax over the last axis of logits divided by a temperature, as float32."""
    scaled = np.asarray(logits, np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)


def to_logits(probabilities: np.ndarray) -> np.ndarray:
    """Logits whose softmax is the given probabilities; 0 counts as 1e-7, as in Keras."""
    return np.log(np.clip(probabilities, 1e-7, 1))


def choose_classes(
    probabilities: np.ndarray, positive: int, threshold: float | np.ndarray
) -> np.ndarray:
    """Class indices (...) of probabilities (..., classes) and a threshold of shape () or (...).

    The positive class is chosen from its threshold on, or else the most probable other class.
    """
    # In float64: in float32 a probability just below the threshold would reach it.
    others = np.array(probabilities, np.float64)
    is_positive = others[..., positive] >= threshold
    others[..., positive] = -1
    return np.where(is_positive, positive, others.argmax(axis=-1))


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
        groups: n keys, e.g. photo numbers, of images that belong together. The share must then
            hold at the lower end of its 95 % interval, from a bootstrap over groups.

    Returns:
        A `Calibration`.

    Raises:
        UserError: when `threshold_for` cannot be read or reached, or only one kind is there.

    Examples:
        >>> probabilities = model.predict(data.validation)
        >>> calibration = calibrate(data.labels["validation"], probabilities, data.class_names)
    """
    from crackclf.folders import find_positive

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
    """Finds the temperature, 0.1 to 10, at which probabilities fit the labels best.

    By likelihood (Guo et al. 2017, arXiv:1706.04599), with a normal prior on the temperature's
    logarithm: where hardly an image is wrong, the likelihood alone would ask for one near 0.
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
    """Reads the goal of a threshold, e.g. "recall=0.98" as ("recall", 0.98)."""
    name, _, value = threshold_for.partition("=")
    try:
        share = float(value)
    except ValueError:
        share = 0.0
    if name not in ("recall", "precision") or not 0 < share <= 1:
        raise UserError(
            "threshold_for must be recall=NUMBER or precision=NUMBER, with a number above 0 and at "
            f"most 1, e.g. recall=0.98. Received: {threshold_for!r}."
        )
    return name, share


def _choose_threshold(
    cracked: np.ndarray, scores: np.ndarray, aim: str | None, groups: Any
) -> float:
    from scipy.special import expit, logit

    order = np.argsort(-scores, kind="stable")
    values, cracked = scores[order], cracked[order]
    name, share = ("balanced accuracy", 0.0) if aim is None else read_aim(aim)

    def measure(times: np.ndarray) -> np.ndarray:
        """The rate by the number of images called cracked, each image counted so many times."""
        hits, called = (times * cracked).cumsum(), times.cumsum()
        recall = hits / max(hits[-1], 1)
        if name == "precision":
            return hits / np.maximum(called, 1)
        return recall if aim else recall - (called - hits) / (called[-1] - hits[-1])

    reached = measure(np.ones(len(cracked)))
    if aim and groups is not None:
        drawn = draw_groups(np.asarray(groups)[order], _DRAWS)
        reached = np.quantile([measure(times) for times in drawn], 0.025, axis=0)
    last = np.append(values[1:] < values[:-1], True)  # Equal scores are called alike.
    values, reached = values[last], reached[last]
    good = np.flatnonzero(reached >= (reached.max() if aim is None else share) - 1e-9)
    if not len(good):
        raise UserError(
            f"threshold_for={aim} is out of reach on the {len(scores)} validation images: the "
            f"best {name} is {reached.max():.3f}. Choose a lower one."
        )
    if aim is not None:
        good = good[:1] if name == "recall" else good[-1:]
    # Any threshold from the lowest score called cracked down to the next one does the same.
    low, high = np.append(values[1:], 0.0)[good], values[good]
    if aim is None and ((low < 0.5) & (high >= 0.5)).any():
        return 0.5
    # Midway in log-odds, which differ near 0 and 1 where probabilities hardly do.
    odds = logit(np.clip([low, high], 1e-7, 1 - 1e-7)).mean(axis=0)
    middles = np.clip(expit(odds), np.nextafter(low, 1), high)
    return float(middles[np.abs(middles - 0.5).argmin()])


def draw_groups(groups: Sequence[object] | np.ndarray, draws: int) -> Iterator[np.ndarray]:
    """Bootstrap samples of whole groups, always the same: how many times each element is drawn."""
    rng = np.random.default_rng(0)
    keys, group_of = np.unique(np.asarray(groups), return_inverse=True)
    for _ in range(draws):
        yield np.bincount(rng.integers(0, len(keys), len(keys)), minlength=len(keys))[group_of]


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

    Examples:
        >>> threshold = choose_region_threshold(load_model().card.sound_peaks, false_alarms=0.05)
    """
    if not 0 < false_alarms < 1:
        raise UserError(f"false_alarms must be above 0 and below 1. Received: {false_alarms}.")
    rank = math.ceil(round((1 - false_alarms) * (len(sound_peaks) + 1), 9))
    if rank > len(sound_peaks):
        raise UserError(
            f"false_alarms={false_alarms:.3g} needs at least {math.ceil(1 / false_alarms) - 1} "
            f"photos of sound surfaces. Received: {len(sound_peaks)}. Name a folder of such photos "
            "with --sound, or choose region_threshold yourself."
        )
    return sorted(sound_peaks)[rank - 1]
