"""A saved model is measured on a labelled folder that it may never have seen."""

import csv
import os
from pathlib import Path

import numpy as np

from crackclf.data.folders import (
    ImageFile,
    find_positive,
    is_split,
    read_folder,
    report_skipped,
)
from crackclf.errors import UserError, notice
from crackclf.evaluation.metrics import Report, evaluate
from crackclf.inference.predict import predict
from crackclf.models.saving import Classifier


def evaluate_folder(
    classifier: Classifier,
    directory: str | os.PathLike,
    positive: str | None = None,
    skip_unreadable: bool = False,
    model_folder: str | os.PathLike | None = None,
) -> Report:
    """Evaluates a saved model on a folder with two class folders.

    Args:
        classifier: from `load_model`.
        directory: the folder; its class folders may have other names than the model's classes.
        positive: the class folder that holds the cracked images; found by its name when None.
        skip_unreadable: leave out, and list, files that cannot be read.
        model_folder: where the model was saved; when given, images on which it was trained are
            counted and the user is told, for they flatter the figures.

    Returns:
        A `Report` in the model's class names.

    Raises:
        UserError: when the folder cannot be used.
    """
    images, cracked = read_labelled(classifier, directory, positive, skip_unreadable)
    card = classifier.card
    if model_folder is not None:
        _tell_of_seen([image.digest for image in images], read_split(model_folder))
    at = card.class_names.index(card.positive_class)
    labels = np.where(cracked, at, 1 - at)
    predictions = predict([image.path for image in images], classifier)
    failed = [prediction.error for prediction in predictions if prediction.error]
    if failed:
        raise UserError(failed[0])
    score = np.array([prediction.probability for prediction in predictions])
    probabilities = np.empty((len(score), 2))
    probabilities[:, at], probabilities[:, 1 - at] = score, 1 - score
    return evaluate(
        labels,
        probabilities,
        card.class_names,
        [image.path for image in images],
        card.positive_class,
        card.threshold,
    )


def read_labelled(
    classifier: Classifier,
    directory: str | os.PathLike,
    positive: str | None = None,
    skip_unreadable: bool = False,
) -> tuple[list[ImageFile], np.ndarray]:
    """Lists the images of a folder with two class folders, and which of them are cracked.

    Args:
        classifier: from `load_model`.
        directory: likewise as in `evaluate_folder`.
        positive: likewise.
        skip_unreadable: likewise.

    Returns:
        The images, and a bool for each.

    Raises:
        UserError: when the folder cannot be used.
    """
    if is_split(directory):
        raise UserError(f"{directory}: is split; name the part to measure on, {directory}/test.")
    images, folders, skipped = read_folder(directory, skip_unreadable)
    report_skipped(skipped)
    card = classifier.card
    # Same names mean the same classes; otherwise the cracked folder must be known.
    if positive is None and set(folders) == set(card.class_names):
        positive = card.positive_class
    at = list(folders).index(find_positive(folders, positive))
    return images, np.array([image.label == at for image in images])


def read_split(model_folder: str | os.PathLike) -> dict[str, str]:
    """Which images a model was trained and tested on.

    Args:
        model_folder: where it was saved.

    Returns:
        "train", "validation" or "test" by an image's digest; empty, and told so if the file is
        damaged, when nobody knows.
    """
    split = Path(model_folder) / "split.csv"
    try:
        with split.open(newline="", encoding="utf-8") as file:
            return {row["digest"]: row["subset"] for row in csv.DictReader(file)}
    except FileNotFoundError:
        pass
    except (OSError, KeyError, ValueError, csv.Error):
        notice(f"{split}: is damaged, so that nobody knows which images this model has seen")
    return {}


def choose_for_export(
    images: list[ImageFile], split: dict[str, str], calibration: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Chooses images to quantise a model by, and others to measure it on.

    Args:
        images: of one folder.
        split: of the model, from `read_split`.
        calibration: how many to quantise by; 0 for none.
        seed: of the choice.

    Returns:
        Indices of those to measure on: the ones that the model was tested on, or, when none of
        these is here, all that it was not trained on; and indices of those to quantise by, among
        which none is measured on. Byte-identical images are on one side.

    Raises:
        UserError: when there are too few.
    """
    digests = np.array([image.digest for image in images])
    subsets = np.array([split.get(digest, "") for digest in digests])
    fresh = (subsets == "test") if "test" in subsets else (subsets == "")
    order = np.unique(digests, return_index=True)[1]
    order = np.random.default_rng(seed).permutation(order)
    # First by those that are not to be measured on anyway.
    order = order[np.argsort(fresh[order], kind="stable")]
    chosen = order[:calibration]
    measured = np.flatnonzero(fresh & ~np.isin(digests, digests[chosen]))
    if not len(measured) or len(chosen) < calibration:
        raise UserError(
            f"expected {calibration} images to quantise by and some more, on which the model was "
            f"not trained, to measure on. Received: {len(order)}, and it was not trained on "
            f"{np.count_nonzero(fresh[order])} of them."
        )
    return measured, chosen


def _tell_of_seen(digests: list[str], split: dict[str, str]) -> None:
    count = sum(split.get(digest, "test") != "test" for digest in digests)
    if count:
        notice(
            f"{count} of these {len(digests)} images were in this model's training or validation "
            "set, so the figures flatter it"
        )
