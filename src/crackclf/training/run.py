"""The whole way: a folder of images becomes a trained, evaluated, saved model."""

import os
from itertools import count
from pathlib import Path
from typing import Any

import keras
import numpy as np

from crackclf.data.datasets import Datasets, load_datasets
from crackclf.data.folders import find_positive
from crackclf.errors import UserError, notice
from crackclf.evaluation import plots
from crackclf.evaluation.curves import read_history
from crackclf.evaluation.metrics import Report, compute_report
from crackclf.extras import RESNET18, need, torch_room
from crackclf.features.cache import cache_features
from crackclf.features.extract import Mapper, compute_here
from crackclf.files import check_new_folder
from crackclf.models.classifier import build_model
from crackclf.prediction.classifier import Classifier, load_model
from crackclf.saved.card import Card
from crackclf.saved.store import save_model
from crackclf.training.callbacks import build_callbacks
from crackclf.training.fit import predict_features, train
from crackclf.training.logs import BEST_KERAS, BEST_TORCH, Run
from crackclf.training.settings import TrainSettings


def train_folder(
    directory: str | os.PathLike,
    out: str | os.PathLike | None = None,
    log_dir: str | os.PathLike = "logs",
    mapper: Mapper = compute_here,
    **settings: Any,
) -> tuple[Path, Classifier, Report]:
    """Loads, trains, evaluates on the test set and saves, as the notebook does step by step.

    Curves and checkpoints go to `LOG_DIR/NAME`, NAME being the model folder's. A run that was
    interrupted goes on from its last full epoch when started again with the same arguments.

    Args:
        directory: a folder with one sub-folder of images per class, or one that already holds
            `train/`, `validation/` and `test/`.
        out: the model folder to make; `saved_models/BACKBONE-N` with the first free N when None.
        log_dir: the folder that holds a folder for each run.
        mapper: has the features to be cached computed; on this machine by default.
        settings: fields of `TrainSettings`, e.g. `epochs=20`.

    Returns:
        The model folder, the saved `Classifier` and the `Report` on the test set.

    Raises:
        UserError: when an argument or the data cannot be used.

    Example:

    ```python
    folder, classifier, report = train_folder("data/metu", epochs=20)
    ```
    """
    chosen = TrainSettings(**settings)
    if mapper is not compute_here and not chosen.caches:
        raise UserError(
            "on a cluster, features are computed and cached; the head is then trained here. Leave "
            "out --engine ray for a training without such a cache."
        )
    run, out = _place(directory, out, Path(log_dir), chosen)
    if run.check():
        notice(f"going on with the interrupted run in {run.folder}")

    keras.utils.set_random_seed(chosen.seed)
    data = load_datasets(
        directory,
        chosen.image_size,
        chosen.batch_size,
        chosen.validation_split,
        chosen.test_split,
        chosen.seed,
        chosen.group_by,
        chosen.skip_unreadable,
    )
    positive = find_positive(data.class_names, chosen.positive)
    for subset, counts in data.counts.items():
        notice(f"{subset}: " + ", ".join(f"{n} {name}" for name, n in counts.items()))
    model: Any = _build(chosen)

    with run.going({"images": data.fingerprint, "base weights": model.weights_origin}) as fitted:
        fit = _fit_torch if chosen.backbone == RESNET18 else _fit_keras
        probabilities = fit(model, data, run.folder, chosen, fitted, mapper)
        report = compute_report(
            data.labels["test"], probabilities, data.class_names, data.files["test"], positive
        )
        classifier = save_run(model, out, data, report, probabilities, run.folder, chosen)
    return out, classifier, report


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

    Args:
        model: the trained model, from `build_model`, `build_ensemble` or `build_resnet18`.
        out: the model folder to make; must not exist.
        data: what it was trained on.
        report: from `evaluate` on the test set.
        probabilities: float of shape (n, 2), the model's on the test set.
        log_dir: the run's folder, which holds `history.csv`; None for an ensemble, which has no
            curves of its own.
        settings: with which `crackclf train --settings` can repeat the run; stored as
            `settings.json`.

    Returns:
        The `Classifier` as read back from the folder.

    Raises:
        UserError: when the folder exists or cannot be written.
    """
    files, figures = {"split.csv": data.split_table()}, {}
    if settings is not None:
        files["settings.json"] = settings.to_json()
    if log_dir is not None:
        history = Path(log_dir) / "history.csv"
        files["history.csv"] = history.read_text()
        figures["curves"] = plots.plot_history(read_history(history))
    is_positive = data.class_names.index(report.positive_class)
    card = Card(
        class_names=(data.class_names[0], data.class_names[1]),
        positive_class=report.positive_class,
        image_size=data.image_size,
        backbone=getattr(model, "backbone", ""),
        weights_origin=getattr(model, "weights_origin", ""),
        threshold=report.threshold,
        patch_size=data.patch_size,
        data_fingerprint=data.fingerprint,
        metrics={"test": report.to_dict()},
    )
    folder = save_model(
        model,
        out,
        card,
        files=files,
        figures=figures
        | {
            "confusion_matrix": plots.plot_confusion_matrix(report),
            "roc_pr": plots.plot_roc_pr(
                data.labels["test"] == is_positive, probabilities[:, is_positive]
            ),
            "misclassified": plots.plot_misclassified(report.misclassified),
        },
    )
    return load_model(folder)


def _place(
    directory: str | os.PathLike,
    out: str | os.PathLike | None,
    log_dir: Path,
    chosen: TrainSettings,
) -> tuple[Run, Path]:
    """The run and the model folder: the ones named, or the first that are free."""
    arguments = {"directory": str(Path(directory).resolve()), **chosen.to_dict()}
    if out is not None:
        out = check_new_folder(out)
        return Run.named(log_dir, arguments | {"out": str(out.resolve())}), out
    for number in count(1):
        out = Path("saved_models") / f"{chosen.backbone}-{number}"
        run = Run.named(log_dir, arguments | {"out": str(out.resolve())})
        if not out.exists() and run.is_free:
            return run, out
    raise AssertionError


def _build(chosen: TrainSettings) -> Any:
    if chosen.backbone != RESNET18:
        return build_model(chosen.image_size, chosen.backbone, chosen.weights)
    room = torch_room()
    need("torch", "torch").manual_seed(chosen.seed)
    return room.build_resnet18(chosen.weights)


def _fit_keras(
    model: Any, data: Datasets, logs: Path, chosen: TrainSettings, fitted: bool, mapper: Mapper
) -> np.ndarray:
    """Trains, or loads what was trained before; probabilities on the test set."""
    if fitted:
        best: Any = keras.saving.load_model(logs / BEST_KERAS, compile=False)
        model.set_weights(best.get_weights())
    else:
        if mapper is not compute_here:
            cache_features(model, data, chosen.views, chosen.seed, mapper=mapper)
        train(
            model,
            data,
            build_callbacks(logs),
            chosen.epochs,
            chosen.cache_features,
            chosen.views,
            chosen.seed,
        )
    return predict_features(model, data) if chosen.caches else model.predict(data.test)


def _fit_torch(
    model: Any, data: Datasets, logs: Path, chosen: TrainSettings, fitted: bool, mapper: Mapper
) -> np.ndarray:
    """`_fit_keras` for a model in PyTorch, whose features are not cached."""
    room, torch = torch_room(), need("torch", "torch")
    loader = torch.utils.data.DataLoader
    if fitted:
        model.load_state_dict(type(model).load(logs / BEST_TORCH).state_dict())
    else:
        shuffling = torch.Generator().manual_seed(chosen.seed)
        images = room.CrackDataset(data, "train")
        training = loader(images, data.batch_size, shuffle=True, generator=shuffling)
        validation = loader(room.CrackDataset(data, "validation"), data.batch_size)
        room.train_resnet18(model, training, validation, logs, chosen.epochs * len(training))
    return room.predict_resnet18(model, loader(room.CrackDataset(data, "test"), data.batch_size))
