"""What a training leaves behind: the model folder with all that belongs to it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from crackclf.data.datasets import Datasets
from crackclf.evaluation import plots
from crackclf.evaluation.calibration import Calibration
from crackclf.evaluation.curves import parse_history
from crackclf.evaluation.report import Report
from crackclf.prediction.classifier import Classifier, load_model
from crackclf.saved.card import Card
from crackclf.saved.store import save_model
from crackclf.training.logs import FINISHED, join_histories
from crackclf.training.settings import TrainSettings


def save_run(
    model: Any,
    out: str | os.PathLike,
    data: Datasets,
    report: Report,
    probabilities: np.ndarray,
    log_dir: str | os.PathLike | None = None,
    settings: TrainSettings | None = None,
) -> Classifier:
    """Saves a trained model with its card, history, split, test report and plots.

    The temperature and the threshold of the report are stored in the card.

    Args:
        model: a trained model from `build_model`, `build_ensemble` or `build_resnet18`.
        out: the model folder to make; must not exist.
        data: the data sets that the model was trained and tested on.
        report: from `compute_report` on the test set.
        probabilities: float of shape (n, classes), the same that the report was computed from.
        log_dir: the folder of the run, with its `history.csv`. None for an ensemble, which has
            no curves.
        settings: stored as `settings.json`, so that `crackclf train --settings` can repeat the
            run.

    Returns:
        The `Classifier` as read back from the folder.

    Raises:
        UserError: when the folder exists or cannot be written.

    Example:

    ```python
    classifier = save_run(model, "saved_models/first", data, report, probabilities, "logs/first")
    ```
    """
    found = Calibration(report.temperature, report.threshold)
    after = found.apply(probabilities)
    figures = draw_report(report, data.labels["test"], probabilities, after)
    metrics = {"test": report.to_dict()}
    card = make_card(model, data, report.positive_class, found, metrics)
    return save_folder(model, out, data, card, figures, {}, log_dir, settings)


def make_card(
    model: Any, data: Datasets, positive: str, found: Calibration, metrics: Mapping[str, Any]
) -> Card:
    """The card of a trained model."""
    return Card(
        class_names=data.class_names,
        positive_class=positive,
        image_size=data.image_size,
        backbone=getattr(model, "backbone", ""),
        weights_origin=getattr(model, "weights_origin", ""),
        threshold=found.threshold,
        temperature=found.temperature,
        patch_size=data.patch_size,
        data_fingerprint=data.fingerprint,
        metrics=metrics,
    )


def draw_report(
    report: Report, labels: np.ndarray, before: np.ndarray, after: np.ndarray
) -> dict[str, Any]:
    """The plots of a report, by name, from the probabilities before and after calibration."""
    positive = report.class_names.index(report.positive_class)
    return {
        "confusion_matrix": plots.plot_confusion_matrix(report),
        "roc_pr": plots.plot_roc_pr(labels == positive, after[:, positive]),
        "calibration": plots.plot_calibration(labels, before, after),
        "misclassified": plots.plot_misclassified(report.misclassified),
    }


def save_folder(
    model: Any,
    out: str | os.PathLike,
    data: Datasets,
    card: Card,
    figures: Mapping[str, Any],
    files: Mapping[str, str],
    log_dir: str | os.PathLike | None,
    settings: TrainSettings | None,
) -> Classifier:
    """Saves a model with its card, and with history, curves, split and settings."""
    files, figures = {"split.csv": data.split_table(), **files}, dict(figures)
    if settings is not None:
        files["settings.json"] = settings.to_json()
    if log_dir is not None:
        files["history.csv"] = join_histories(Path(log_dir))
        figures["curves"] = plots.plot_history(parse_history(files["history.csv"]))
    save_model(model, out, card, files=files, figures=figures)
    for left in Path(log_dir).rglob(FINISHED) if log_dir is not None else ():
        left.unlink()  # Kept for a kill before the model was saved.
    return load_model(out)
