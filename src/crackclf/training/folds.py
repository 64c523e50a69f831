"""Cross-validation: every image is tested on once, and the model learns from all of them."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crackclf.data.datasets import Datasets
from crackclf.data.folders import find_positive
from crackclf.data.loading import find_groups, load_folds
from crackclf.errors import notice
from crackclf.evaluation.calibration import calibrate
from crackclf.evaluation.curves import read_history
from crackclf.evaluation.intervals import group_intervals
from crackclf.evaluation.metrics import compute_report
from crackclf.evaluation.report import Report
from crackclf.features.extract import Mapper
from crackclf.files import format_table
from crackclf.prediction.classifier import Classifier
from crackclf.saved.card import softmax, to_logits
from crackclf.training.logs import Run
from crackclf.training.saving import draw_report, make_card, save_folder
from crackclf.training.settings import TrainSettings
from crackclf.training.stages import build, fit, list_stages, measure


@dataclass(frozen=True)
class FoldReport(Report):
    """The pooled figures of a cross-validation: each image by the model that had not seen it.

    Attributes:
        folds: the figures of each fold alone.
        intervals: 95 % intervals of "auroc" and "balanced_accuracy" by drawing whole groups of
            images (copies, or one photo's) anew.
    """

    folds: tuple[Report, ...]
    intervals: dict[str, tuple[float, float]]

    def __str__(self) -> str:
        lines = [super().__str__()]
        names = {"auroc": "AUROC", "balanced_accuracy": "balanced accuracy", "loss": "loss"}
        for name, words in names.items():
            values = [getattr(fold, name) for fold in self.folds]
            if None in values:
                continue
            low, high = self.intervals.get(name, (None, None))
            interval = "" if low is None else f" (95 % interval by group {low:.4f} to {high:.4f})"
            lines.append(
                f"{words} {getattr(self, name):.4f}{interval}; by fold {np.mean(values):.4f} ± "
                f"{np.std(values, ddof=1):.4f} ({min(values):.4f} to {max(values):.4f})"
            )
        return "\n".join(lines)


def cross_validate(
    directory: str | os.PathLike, out: Path, run: Run, mapper: Mapper, chosen: TrainSettings
) -> tuple[Path, Classifier, FoldReport]:
    """Trains and tests a model for each fold, then trains one on all images and saves it.

    A fold's model is calibrated on its validation set, which is the next fold. The last model has
    no images left to be watched on: it is trained for the median of the folds' best numbers of
    epochs, and gets the temperature and the threshold that suit all folds' validation answers.

    Args:
        directory: the data folder.
        out: the model folder to make.
        run: the run, with a folder of curves for each fold in its own.
        mapper: has the features to be cached computed.
        chosen: the settings, `folds` among them.

    Returns:
        The model folder, the saved `Classifier` and the `FoldReport`.
    """
    parts, whole = load_folds(
        directory,
        chosen.folds,
        chosen.image_size,
        chosen.batch_size,
        chosen.seed,
        chosen.group_by,
        chosen.skip_unreadable,
    )
    names, positive = whole.class_names, find_positive(whole.class_names, chosen.positive)
    counts = ", ".join(f"{n} {name}" for name, n in whole.counts["train"].items())
    notice(f"{chosen.folds} folds of {counts}")
    model = build(chosen, len(names))
    facts = {"images": parts[0].fingerprint, "base weights": model.weights_origin}
    # Where ImageNet's weights are missing, one download is tried, and one notice given.
    is_concrete = model.weights_origin.startswith("concrete")
    again = dataclasses.replace(chosen, weights="concrete") if is_concrete else chosen
    with run.going(facts):
        reports, said, best = [], [], []
        for number, data in enumerate(parts, 1):
            logs, title = run.folder / f"fold-{number}", f"Fold {number} of {chosen.folds}"
            fit(model, data, logs, chosen, mapper, title=title)
            best.append([_best_epoch(folder) for folder in list_stages(logs, chosen)])
            of_fold = measure(model, data, positive, chosen)
            reports.append(of_fold[0])
            said.append(of_fold[1])
            model = build(again, len(names))
        epochs = np.median(best, axis=0).astype(int).tolist()
        fit(model, whole, run.folder, chosen, mapper, epochs, title="All images")
        classifier, report = _save(model, out, parts, whole, reports, said, run.folder, chosen)
    return out, classifier, report


def _best_epoch(folder: Path) -> int:
    return 1 + int(np.argmin(read_history(folder / "history.csv")["val_loss"]))


def _save(
    model: Any,
    out: Path,
    parts: Sequence[Datasets],
    whole: Datasets,
    reports: Sequence[Report],
    said: Sequence[Mapping[str, np.ndarray]],
    logs: Path,
    chosen: TrainSettings,
) -> tuple[Classifier, FoldReport]:
    """Pools what was found in the folds, and saves the model of all images with it."""

    def pool(subset: str) -> tuple[np.ndarray, np.ndarray]:
        labels = np.concatenate([data.labels[subset] for data in parts])
        return labels, np.concatenate([of_fold[subset] for of_fold in said])

    positive, aim = reports[0].positive_class, chosen.threshold_for
    labels, before = pool("test")
    images = [image for data in parts for image in data.images["test"]]
    fold_of = np.repeat(range(len(parts)), [report.n for report in reports])
    temperatures, thresholds = (
        np.array([getattr(report, name) for report in reports])[fold_of]
        for name in ("temperature", "threshold")
    )
    pooled = compute_report(
        labels,
        before,
        whole.class_names,
        [image.path for image in images],
        positive,
        thresholds,
        temperatures,
    )
    after = softmax(to_logits(before), temperatures[:, None])
    score = after[:, whole.class_names.index(positive)]
    intervals = group_intervals(
        labels == whole.class_names.index(positive),
        score,
        find_groups(images, chosen.group_by).tolist(),
        thresholds,
    )
    report = FoldReport(**vars(pooled), folds=tuple(reports), intervals=intervals)
    watched = [image for data in parts for image in data.images["validation"]]
    keys = find_groups(watched, chosen.group_by) if chosen.group_by is not None else None
    found = calibrate(*pool("validation"), whole.class_names, positive, aim, keys)
    columns = ("file", "class", "fold", *whole.class_names)
    calibrated = after.astype(float).round(6).tolist()
    rows = (
        dict(
            zip(columns, [image.path, whole.class_names[image.label], fold + 1, *told], strict=True)
        )
        for image, fold, told in zip(images, fold_of, calibrated, strict=True)
    )
    table = format_table(columns, rows)
    card = make_card(model, whole, positive, found, {"out_of_fold": report.to_dict()})
    figures = draw_report(report, labels, before, after)
    files = {"out_of_fold.csv": table}
    return save_folder(model, out, whole, card, figures, files, logs, chosen), report
