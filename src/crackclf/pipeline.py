"""A folder of images becomes a trained, tested and saved model, in one call."""

import dataclasses
import errno
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from crackclf import plots
from crackclf.augmentation import build_augmentation
from crackclf.calibration import Calibration, calibrate, softmax, to_logits
from crackclf.callbacks import BACKUP, BEST, HISTORY, build_callbacks, clear_run, is_finished
from crackclf.curves import parse_history, read_curves
from crackclf.data import Datasets, find_groups, load_datasets, load_folds
from crackclf.errors import UserError, notice
from crackclf.evaluation import Report, compute_report, group_intervals
from crackclf.files import check_new_folder, format_table, user_path, write_whole
from crackclf.folders import ImageFile, find_positive
from crackclf.model import build_model, find_block, unfreeze
from crackclf.prediction import Classifier, beware_base, load_model
from crackclf.saving import SHIPPED_ORIGIN, Card, save_model
from crackclf.settings import TrainSettings
from crackclf.training import predict_features, train

_FEW = 20  # Images of a class to test on.
_ABOUT, _LOCK, _TUNED = "run.json", ".lock", "fine-tuned"


def train_folder(
    directory: str | os.PathLike,
    out: str | os.PathLike | None = None,
    log_dir: str | os.PathLike = "logs",
    **settings: Any,
) -> tuple[Path, Classifier, Report]:
    """Trains a model on a folder of images: loads, trains, calibrates, tests and saves.

    Curves and checkpoints go to the folder `LOG_DIR/NAME`, with the name of the model folder.
    After an interruption the same call trains again on the features that are kept or, without
    cached features, goes on from the last epoch.

    Args:
        directory: a folder with a sub-folder per class, or with `train/ validation/ test/`.
        out: the model folder to make. None for `saved_models/BACKBONE-N` with the first free N.
        log_dir: the folder that holds a folder for each run.
        settings: fields of `TrainSettings`, e.g. `epochs=20`.

    Returns:
        The model folder, the saved `Classifier`, and the `Report` on the test set; with `folds` a
        `FoldReport`, in which each image is tested once.

    Raises:
        UserError: when an argument or the data cannot be used.

    Examples:
        >>> folder, classifier, report = train_folder("data/metu", epochs=20)
    """
    chosen = TrainSettings(**settings)
    out, log_dir = None if out is None else check_new_folder(out), user_path(log_dir)
    if chosen.folds:
        folds, data = load_folds(directory, **chosen.arguments_of(load_folds))
    else:
        folds, data = (), load_datasets(directory, **chosen.arguments_of(load_datasets))
    find_positive(data.class_names, chosen.positive)  # An error now, not after the training.
    for subset, counts in data.counts.items():
        if sum(counts.values()):
            notice(f"{subset}: " + ", ".join(f"{n} {name}" for name, n in counts.items()))
    if not folds and min(data.counts["test"].values()) < _FEW:
        notice("so few test images give rough figures. --folds 5 tests every image")
    model = _build(chosen, len(data.class_names))
    with _open_run(log_dir, out, chosen, data.fingerprint) as (out, logs):
        if folds:
            return out, *_cross_validate(model, folds, data, out, logs, chosen)
        _fit(model, data, logs, chosen)
        report, answers = _measure(model, data, chosen)
        return out, save_run(model, out, data, report, answers["test"], logs, chosen), report


@contextmanager
def _open_run(
    log_dir: Path, out: Path | None, settings: TrainSettings, fingerprint: str
) -> Iterator[tuple[Path, Path]]:
    """Gives the first free model folder and run's folder, and locks the latter.

    A run's folder is free when it is empty or holds an unfinished run of the same arguments.
    """
    number = 0
    while True:
        number += 1
        place = out or Path("saved_models") / f"{settings.backbone}-{number}"
        logs = log_dir / (f"{place.name}-{number}" if out and number > 1 else place.name)
        about = {"out": str(place.resolve()), "images": fingerprint, **settings.to_dict()}
        file, inside = logs / _ABOUT, logs.iterdir() if logs.exists() else ()
        is_same = file.exists() and json.loads(file.read_text()) == about
        if (is_same or all(path.name == _LOCK for path in inside)) and not place.exists():
            break
    try:
        logs.mkdir(parents=True, exist_ok=True)
        with FileLock(logs / _LOCK, blocking=False):
            if is_same:
                notice(f"{logs}: takes up the interrupted run")
            if settings.cache_features:  # On these it is trained again, in seconds.
                for path in (logs, *logs.glob("fold-*")):
                    clear_run(path)
                    clear_run(path / _TUNED)
            write_whole(file, json.dumps(about, indent=2) + "\n")
            yield place, logs
            write_whole(file, json.dumps(about | {"saved": True}, indent=2) + "\n")
    except Timeout:
        words = "another process is running this training; wait for it"
        raise UserError(f"{logs}: {words}, or name another model folder.") from None
    except Exception as error:
        # h5py and NumPy report a full disk as an OSError, TensorFlow as an error of its own.
        is_full = "No space left" in str(error)
        if not isinstance(error, OSError) and not is_full:
            raise
        reason = os.strerror(errno.ENOSPC) if is_full else error  # h5py writes several lines.
        words = f"the training stopped ({reason}). Mend the cause and run the same command again"
        raise UserError(f"{logs}: {words}.") from error


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
        model: a trained model from `build_model` or `build_ensemble`.
        out: the model folder to make; must not exist.
        data: the data sets that the model was trained and tested on.
        report: from `compute_report` on the test set.
        probabilities: float of shape (n, classes), the same that the report was computed from.
        log_dir: the run's folder, with its `history.csv`. None for an ensemble.
        settings: stored as `settings.json`, for `crackclf train --settings`.

    Returns:
        The `Classifier` as read back from the folder.

    Raises:
        UserError: when `log_dir` holds no curves, or the folder exists or cannot be written.

    Examples:
        >>> save_run(model, "saved_models/first", data, report, probabilities, "logs/first")
    """
    if not report.caution:
        report = beware_base(report, model, data.images["test"])
    found = Calibration(report.temperature, report.threshold)
    answers = data.labels["test"], probabilities, found.apply(probabilities)
    return _save(model, out, data, report, answers, found, log_dir, settings, {})


def _build(settings: TrainSettings, classes: int) -> Any:
    """The model of the settings, untrained; a `UserError` when it has no `fine_tune` blocks."""
    more = {"augmentation": build_augmentation(float(settings.augmentation)), "classes": classes}
    model = build_model(**settings.arguments_of(build_model) | more)
    if settings.fine_tune:
        find_block(model, settings.fine_tune)
    return model


def _fit(
    model: Any, data: Datasets, logs: Path, settings: TrainSettings, epochs: Sequence[int] = ()
) -> list[int]:
    """Trains in one stage or, with `fine_tune`, two; gives the best number of epochs of each.

    A stage goes on from its backup; one that is finished is not trained again. With `epochs`, one
    number a stage, each is trained to the end.
    """
    patience, best = None if epochs else settings.patience, []
    arguments = settings.arguments_of(train)
    arguments["views"] = settings.views if settings.augmentation else 0
    for stage, folder in enumerate([logs, logs / _TUNED] if settings.fine_tune else [logs]):
        if stage > 0:
            unfreeze(model, settings.fine_tune, settings.learning_rate / 100)
        finished, resumed = is_finished(folder), (folder / BACKUP).exists()
        if not finished:
            arguments["epochs"] = epochs[stage] if epochs else settings.epochs
            train(model, data, build_callbacks(folder, patience), **arguments)
        if finished or (resumed and patience):  # The best epoch may have been before.
            model.optimizer.build(model.trainable_variables)
            model.load_weights(folder / BEST)
        losses = read_curves(folder / HISTORY)
        best.append(1 + int(np.argmin(losses.get("val_loss", losses["loss"]))))
    return best


def _measure(
    model: Any, data: Datasets, settings: TrainSettings
) -> tuple[Report, dict[str, np.ndarray]]:
    """Calibrates on the validation set; gives the test report and the probabilities by subset."""
    answers = {
        subset: predict_features(model, data, subset)
        if settings.cache_features
        else model.predict(getattr(data, subset))
        for subset in ("validation", "test")
    }
    names = data.class_names
    found = _calibrate(data.images["validation"], answers["validation"], names, settings)
    test = data.labels["test"], answers["test"], names, data.files["test"]
    report = compute_report(*test, settings.positive, found.threshold, found.temperature)
    return beware_base(report, model, data.images["test"]), answers


def _calibrate(
    images: Sequence[ImageFile], answers: np.ndarray, names: Sequence[str], settings: TrainSettings
) -> Calibration:
    groups = None if settings.group_by is None else find_groups(images, settings.group_by)
    labels, goal = np.array([image.label for image in images]), settings.threshold_for
    return calibrate(labels, answers, names, settings.positive, goal, groups)


@dataclass(frozen=True, kw_only=True)
class FoldReport(Report):
    """The pooled figures of a cross-validation: each image by the model that had not seen it.

    `intervals` are of 95 %, by a bootstrap over groups of images (copies, or one photo's).
    """

    folds: tuple[Report, ...]
    intervals: dict[str, tuple[float, float]]

    def __str__(self) -> str:
        lines = [super().__str__()]
        for name in ("auroc", "balanced_accuracy", "loss"):
            values = [getattr(fold, name) for fold in self.folds]
            if None not in values:
                low_high = self.intervals.get(name)
                line = f"{name} {getattr(self, name):.4f}; by fold {np.mean(values):.4f} ± "
                line += f"{np.std(values, ddof=1):.4f}"
                line += "; 95 % interval {:.4f} to {:.4f}".format(*low_high) if low_high else ""
                lines.append(line)
        return "\n".join(lines)


def _cross_validate(
    model: Any,
    folds: Sequence[Datasets],
    whole: Datasets,
    out: Path,
    logs: Path,
    settings: TrainSettings,
) -> tuple[Classifier, FoldReport]:
    """Trains and tests a model for each fold, then trains one on all images and saves it.

    The last model is trained for the median of the folds' best numbers of epochs. It gets the
    temperature and threshold that suit the answers of all folds on their validation sets.
    """
    # Where ImageNet's weights are missing, one download is tried, and one notice given.
    is_concrete = model.weights_origin.startswith(SHIPPED_ORIGIN)
    again = dataclasses.replace(settings, weights="concrete") if is_concrete else settings
    names, reports, answers, best = whole.class_names, [], [], []
    for number, data in enumerate(folds, 1):
        notice(f"Fold {number} of {len(folds)}")
        best.append(_fit(model, data, logs / f"fold-{number}", settings))
        report, probabilities = _measure(model, data, settings)
        reports.append(report)
        answers.append(probabilities)
        model = _build(again, len(names))
    notice("All images")
    _fit(model, whole, logs, settings, np.median(best, axis=0).astype(int).tolist())

    def pool(subset: str) -> tuple[list[ImageFile], np.ndarray]:
        images = [image for data in folds for image in data.images[subset]]
        return images, np.concatenate([answer[subset] for answer in answers])

    found = _calibrate(*pool("validation"), names, settings)
    images, before = pool("test")
    labels = np.array([image.label for image in images])
    fold_of = np.repeat(range(len(folds)), [report.n for report in reports])
    fitted = np.array([(report.threshold, report.temperature) for report in reports])[fold_of].T
    files = [image.path for image in images]
    pooled = compute_report(labels, before, names, files, settings.positive, *fitted)
    pooled = beware_base(pooled, model, images)
    after = softmax(to_logits(before), fitted[1][:, None])
    column = names.index(pooled.positive_class)
    groups = find_groups(images, settings.group_by, settings.group_look_alikes).tolist()
    intervals = group_intervals(labels == column, after[:, column], groups, fitted[0])
    report = FoldReport(**vars(pooled), folds=tuple(reports), intervals=intervals)
    rows = (
        {"file": image.path, "class": names[image.label], "fold": fold + 1}
        | dict(zip(names, row.astype(float).round(6).tolist(), strict=True))
        for image, fold, row in zip(images, fold_of, after, strict=True)
    )
    table = {"out_of_fold.csv": format_table(("file", "class", "fold", *names), rows)}
    answers = labels, before, after
    return _save(model, out, whole, report, answers, found, logs, settings, table), report


def _save(
    model: Any,
    out: str | os.PathLike,
    data: Datasets,
    report: Report,
    answers: tuple[np.ndarray, np.ndarray, np.ndarray],
    found: Calibration,
    log_dir: str | os.PathLike | None,
    settings: TrainSettings | None,
    files: Mapping[str, str],
) -> Classifier:
    """Saves a model; `answers` are labels, and probabilities before and after calibration."""
    card = Card(
        class_names=data.class_names,
        positive_class=report.positive_class,
        image_size=data.image_size,
        backbone=getattr(model, "backbone", ""),
        weights_origin=getattr(model, "weights_origin", ""),
        threshold=found.threshold,
        temperature=found.temperature,
        patch_size=data.patch_size,
        data_fingerprint=data.fingerprint,
        metrics={"out_of_fold" if isinstance(report, FoldReport) else "test": report.to_dict()},
    )
    is_positive, scores = answers[0] == card.positive_index, answers[2][:, card.positive_index]
    figures = {
        "confusion_matrix": plots.plot_confusion_matrix(report),
        "roc_pr": plots.plot_roc_pr(is_positive, scores),
        "calibration": plots.plot_calibration(*answers),
        "misclassified": plots.plot_misclassified(report.misclassified),
    }
    files = {"split.csv": data.split_table(), **files}
    if settings is not None:
        files["settings.json"] = settings.to_json()
    if log_dir is not None:
        paths = [user_path(log_dir) / HISTORY, user_path(log_dir) / _TUNED / HISTORY]
        if not paths[0].exists():
            raise UserError(f"{log_dir}: holds no {HISTORY}, as build_callbacks' log_dir does.")
        texts = [path.read_text().splitlines() for path in paths if path.exists()]
        rows = [row.partition(",")[2] for _, *stage in texts for row in stage]  # Numbered on.
        lines = [texts[0][0], *(f"{epoch},{row}" for epoch, row in enumerate(rows)), ""]
        files["history.csv"] = "\n".join(lines)
        figures["curves"] = plots.plot_history(parse_history(files["history.csv"]))
    return load_model(save_model(model, out, card, files=files, figures=figures))
