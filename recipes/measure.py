"""How good a model is on each set of the recipe, and its temperature and threshold."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crackclf.calibration import fit_temperature, softmax, to_logits
from crackclf.errors import UserError
from crackclf.evaluation import Report, compute_report, group_intervals
from crackclf.prediction import Classifier, predict
from crackclf.saving import Card
from sets import Item
from threshold import choose_threshold

CLASS_NAMES = ("crack", "no_crack")
_RECALL = 0.9  # At which the share of false alarms is told.


@dataclass(frozen=True)
class Figures:
    """What a model does on one set.

    Attributes:
        report: at the model's own threshold.
        intervals: of AUROC and balanced accuracy, over photos.
        false_alarms: share of the sound images that are called cracked where nine of ten cracked
            ones are found; None where no image is cracked.
    """

    report: Report
    intervals: Mapping[str, tuple[float, float]]
    false_alarms: float | None


def measure(items: Sequence[Item], scores: np.ndarray, threshold: float) -> Figures:
    """The figures of a model on a set.

    Args:
        items: the images.
        scores: their probabilities of a crack, float of shape (n,).
        threshold: from which on a model calls an image cracked.
    """
    cracked = np.array([item.is_cracked for item in items])
    shown = [f"{item.path.parent.name}/{item.path.name}" for item in items]
    probabilities = np.stack([scores, 1 - scores], axis=1)
    report = compute_report(
        (~cracked).astype(int), probabilities, CLASS_NAMES, shown, threshold=threshold
    )
    if not cracked.any():
        return Figures(report, {}, None)
    photos = [item.photo for item in items]
    intervals = group_intervals(cracked, scores, photos, threshold)
    cut = np.quantile(scores[cracked], 1 - _RECALL, method="lower")
    return Figures(report, intervals, float((scores[~cracked] >= cut).mean()))


def calibrate(classifier: Classifier, sets: Mapping[str, Sequence[Item]]) -> Classifier:
    """Chooses the temperature and the threshold on images that trained nothing.

    The temperature is that of SDNET2018: METU is classified almost without error and would make
    the model overconfident. The threshold is the mean, in log-odds, of those chosen with each set
    left out in turn, all other sets with equal weights.

    Args:
        classifier: the model.
        sets: validation images by name; "sdnet" is one of them.
    """
    scores = {name: answer(classifier, [x.path for x in items]) for name, items in sets.items()}
    cracked = {name: np.array([x.is_cracked for x in items]) for name, items in sets.items()}
    hard = np.stack([scores["sdnet"], 1 - scores["sdnet"]], axis=1)
    temperature = fit_temperature((~cracked["sdnet"]).astype(int), hard)
    scores = {name: cool(values, temperature) for name, values in scores.items()}
    chosen = []
    for left_out in sets:
        names = [name for name in sets if name != left_out]
        of_set = np.repeat(names, [len(sets[name]) for name in names])
        chosen.append(
            choose_threshold(
                np.concatenate([cracked[name] for name in names]),
                np.concatenate([scores[name] for name in names]),
                of_set,
            )
        )
    odds = np.log(chosen) - np.log1p(-np.array(chosen))
    threshold = float(1 / (1 + np.exp(-odds.mean())))
    card = dataclasses.replace(classifier.card, temperature=temperature, threshold=threshold)
    return dataclasses.replace(classifier, card=card)


def cool(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities of a crack at another temperature."""
    return softmax(to_logits(np.stack([scores, 1 - scores], axis=1)), temperature)[:, 0]


def blank_card(image_size: int) -> Card:
    """The card of a model that is not calibrated: temperature 1, threshold 0.5."""
    origin = "trained from scratch by recipes/concrete.py"
    return Card(CLASS_NAMES, "crack", image_size, backbone="mobilenetv2", weights_origin=origin)


def answer(classifier: Classifier, files: Sequence[Path]) -> np.ndarray:
    """Probabilities of a crack, float of shape (n,), as `crackclf predict` gives them."""
    predictions = predict(list(files), classifier)
    failed = [prediction.error for prediction in predictions if prediction.error]
    if failed:
        raise UserError(failed[0])
    return np.array([prediction.probability for prediction in predictions])
