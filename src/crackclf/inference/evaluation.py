"""A saved model is measured on a labelled folder that it may never have seen."""

import csv
import os
from pathlib import Path

import numpy as np

from crackclf.data.folders import find_positive, is_split, read_folder, report_skipped
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
    if is_split(directory):
        raise UserError(f"{directory}: is split; name the part to measure on, {directory}/test.")
    images, folders, skipped = read_folder(directory, skip_unreadable)
    report_skipped(skipped)
    card = classifier.card
    # Same names mean the same classes; otherwise the cracked folder must be known.
    if positive is None and set(folders) == set(card.class_names):
        positive = card.positive_class
    cracked = find_positive(folders, positive)
    if model_folder is not None:
        _tell_of_seen(Path(model_folder) / "split.csv", [image.digest for image in images])
    at = card.class_names.index(card.positive_class)
    labels = np.array([at if folders[image.label] == cracked else 1 - at for image in images])
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


def _tell_of_seen(split: Path, digests: list[str]) -> None:
    try:
        with split.open(newline="", encoding="utf-8") as file:
            seen = {row["digest"] for row in csv.DictReader(file) if row["subset"] != "test"}
    except FileNotFoundError:
        return
    except (OSError, KeyError, ValueError, csv.Error):
        notice(f"{split}: is damaged, so that nobody knows which images this model has seen")
        return
    count = sum(digest in seen for digest in digests)
    if count:
        notice(
            f"{count} of these {len(digests)} images were in this model's training or validation "
            "set, so the figures flatter it"
        )
