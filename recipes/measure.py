"""How good a model is on each data set of the recipe, and its temperature and threshold."""

import dataclasses
import re
from pathlib import Path

import numpy as np

from crackclf.data.datasets import Datasets
from crackclf.data.folders import find_positive
from crackclf.data.splits import SUBSETS
from crackclf.errors import UserError
from crackclf.evaluation.calibration import fit_temperature
from crackclf.evaluation.intervals import group_intervals
from crackclf.evaluation.metrics import compute_report
from crackclf.evaluation.report import Report
from crackclf.prediction.classifier import Classifier
from crackclf.prediction.predict import predict
from crackclf.saved.card import Card, softmax, to_logits
from threshold import choose_threshold

CLASS_NAMES = ("crack", "no_crack")
# The part of a file's name that patches of one photo share.
PHOTO = {"metu": None, "sdnet": r"_(\d+)-", "sample": None}
PHOTO |= dict.fromkeys(("uav", "uav-9", "uav-16"), r"(.+)-\d+-\d+")

Measured = dict[str, tuple[Report, dict[str, tuple[float, float]]]]


def calibrate(classifier: Classifier, sets: dict[str, Datasets]) -> Classifier:
    """Chooses the temperature and the threshold on validation images.

    The temperature is chosen on SDNET2018 alone: METU is classified almost without error and would
    make the model overconfident. The threshold is chosen on both, with equal weights.
    """
    names = ("metu", "sdnet")
    files = [file for name in names for file in sets[name].files["validation"]]
    labels = np.concatenate([one_hot(sets[name], "validation") for name in names]).argmax(axis=1)
    of_set = np.repeat(names, [len(sets[name].files["validation"]) for name in names])
    probabilities = predict_classes(classifier, files)
    hard = of_set == "sdnet"
    temperature = fit_temperature(labels[hard], probabilities[hard])
    scores = softmax(to_logits(probabilities), temperature)[:, 0]
    threshold = choose_threshold(labels == 0, scores, of_set)
    card = dataclasses.replace(classifier.card, temperature=temperature, threshold=threshold)
    return dataclasses.replace(classifier, card=card)


def measure(classifier: Classifier, sets: dict[str, Datasets], leave_out: str) -> Measured:
    """Reports and intervals by set: on its test images, or on all images of a set left out."""
    threshold, measured = classifier.card.threshold, {}
    for name, data in sets.items():
        subsets = SUBSETS if leave_out and name.startswith("uav") else ("test",)
        files = [file for subset in subsets for file in data.files[subset]]
        labels = np.concatenate([one_hot(data, subset) for subset in subsets]).argmax(axis=1)
        probabilities = predict_classes(classifier, files)
        shown = [f"{name}/{file.parent.name}/{file.name}" for file in files]
        report = compute_report(labels, probabilities, CLASS_NAMES, shown, threshold=threshold)
        pattern = PHOTO[name]
        photos = [re.findall(pattern, x.name)[0] if pattern else x.name for x in files]
        intervals = group_intervals(labels == 0, probabilities[:, 0], photos, threshold)
        measured[name] = report, intervals
    return measured


def blank_card(image_size: int) -> Card:
    """The card of a model that is not calibrated: temperature 1, threshold 0.5."""
    origin = "trained from scratch by recipes/concrete.py"
    return Card(CLASS_NAMES, "crack", image_size, backbone="mobilenetv2", weights_origin=origin)


def predict_classes(classifier: Classifier, files: list[Path]) -> np.ndarray:
    """Probabilities of shape (n, 2) in the order of `CLASS_NAMES`, as `crackclf predict` gives."""
    predictions = predict(files, classifier)
    failed = [prediction.error for prediction in predictions if prediction.error]
    if failed:
        raise UserError(failed[0])
    scores = np.array([prediction.probability for prediction in predictions])
    return np.stack([scores, 1 - scores], axis=1)


def one_hot(data: Datasets, subset: str) -> np.ndarray:
    """The labels of a set in the order of `CLASS_NAMES`."""
    positive = data.class_names.index(find_positive(data.class_names))
    return np.eye(2, dtype=np.float32)[(data.labels[subset] != positive).astype(int)]
