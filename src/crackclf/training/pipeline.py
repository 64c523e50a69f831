"""The whole way: a folder of images becomes a trained, evaluated, saved model."""

import csv
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from crackclf.data.datasets import Datasets, load_datasets
from crackclf.data.folders import find_positive
from crackclf.errors import UserError, notice
from crackclf.evaluation import plots
from crackclf.evaluation.metrics import Report, evaluate
from crackclf.models.backbones import RESNET18
from crackclf.models.card import Card
from crackclf.models.classifier import build_model
from crackclf.models.saving import Classifier, check_new_folder, save_model
from crackclf.training.callbacks import build_callbacks
from crackclf.training.feature_cache import cache_features as fill_cache
from crackclf.training.feature_cache import check_views
from crackclf.training.fit import predict_features, train
from crackclf.training.logs import BEST_KERAS, BEST_TORCH, Run

if TYPE_CHECKING:
    from crackclf.models.resnet18 import ResNet18


def train_folder(
    directory: str | os.PathLike,
    out: str | os.PathLike | None = None,
    epochs: int = 10,
    image_size: int = 160,
    batch_size: int = 32,
    validation_split: float = 0.2,
    test_split: float = 0.2,
    seed: int = 0,
    backbone: str = "mobilenetv2",
    weights: str | os.PathLike | None = "imagenet",
    positive: str | None = None,
    group_by: str | None = None,
    skip_unreadable: bool = False,
    cache_features: bool = True,
    views: int = 0,
    cluster: str | None = None,
    log_dir: str | os.PathLike = "logs",
) -> tuple[Path, Classifier, Report]:
    """Loads, trains, evaluates on the test set and saves, as the notebook does step by step.

    Curves and checkpoints go to `<log_dir>/<name of out>`. A run that was interrupted goes on from
    its last full epoch when started again with the same arguments.

    Args:
        directory: see `load_datasets`.
        out: the model folder to make; `saved_models/BACKBONE-N` with the first free N when None.
        epochs: at most this many.
        image_size: see `load_datasets`.
        batch_size: see `load_datasets`.
        validation_split: see `load_datasets`.
        test_split: see `load_datasets`.
        seed: of the split, the shuffling, the augmentation, the dropout and the head.
        backbone: see `build_model`; or `"resnet18-torch"`, see `build_resnet18`, of which no
            features are cached.
        weights: see `build_model`.
        positive: the class that means cracked; found by its name when None.
        group_by: see `load_datasets`.
        skip_unreadable: see `load_datasets`.
        cache_features: see `train`.
        views: see `train`.
        cluster: address of a Ray cluster that computes the features to be cached, HOST:PORT, or
            "local" for one of this machine's cores. All its machines must see the data folder at
            the same place. The trained model is the same.
        log_dir: the folder that holds a folder for each run.

    Returns:
        The model folder, the saved `Classifier` and the `Report` on the test set.

    Raises:
        UserError: when an argument or the data cannot be used.
    """
    arguments = {
        "directory": str(Path(directory).resolve()),
        "epochs": epochs,
        "image_size": image_size,
        "batch_size": batch_size,
        "validation_split": validation_split,
        "test_split": test_split,
        "seed": seed,
        "backbone": backbone,
        "weights": None if weights is None else str(weights),
        "positive": positive,
        "group_by": group_by,
        "skip_unreadable": skip_unreadable,
        "cache_features": cache_features,
        "views": views,
    }
    out = _next_free(Path(log_dir), arguments) if out is None else check_new_folder(out)
    if epochs < 1:
        raise UserError(f"epochs must be at least 1. Received: {epochs}.")
    cached = cache_features and backbone != RESNET18
    check_views(views, cached)
    if cluster is not None and not cached:
        raise UserError(
            "on a cluster, features are computed and cached; the head is then trained here. Leave "
            "out --engine ray for a training without such a cache."
        )
    logs = Path(log_dir) / out.name
    run = Run(logs, arguments)
    if run.check(f"Choose another --out than {out}, or move that folder away."):
        notice(f"going on with the interrupted run in {logs}")

    keras.utils.set_random_seed(seed)
    data = load_datasets(
        directory,
        image_size,
        batch_size,
        validation_split,
        test_split,
        seed,
        group_by,
        skip_unreadable,
    )
    positive = find_positive(data.class_names, positive)
    for subset, counts in data.counts.items():
        notice(f"{subset}: " + ", ".join(f"{n} {name}" for name, n in counts.items()))
    model: Any = _build(backbone, image_size, weights, seed)

    with run.going({"images": data.fingerprint, "base weights": model.weights_origin}) as fitted:
        if backbone == RESNET18:
            probabilities = _fit_torch(model, data, logs, 0 if fitted else epochs, seed)
        else:
            if fitted:
                best: Any = keras.saving.load_model(logs / BEST_KERAS, compile=False)
                model.set_weights(best.get_weights())
            else:
                if cluster is not None:
                    fill_cache(model, data, views, seed, cluster=cluster)
                train(model, data, build_callbacks(logs), epochs, cache_features, views, seed)
            probabilities = (
                predict_features(model, data) if cache_features else model.predict(data.test)
            )
        report = evaluate(
            data.labels["test"], probabilities, data.class_names, data.files["test"], positive
        )
        classifier = save_run(model, out, data, report, probabilities, logs)
    return out, classifier, report


def save_run(
    model: "keras.Model | ResNet18",
    out: str | os.PathLike,
    data: Datasets,
    report: Report,
    probabilities: np.ndarray,
    log_dir: str | os.PathLike | None = None,
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

    Returns:
        The `Classifier` as read back from the folder.

    Raises:
        UserError: when the folder exists or cannot be written.
    """
    files, figures = {"split.csv": data.split_table()}, {}
    if log_dir is not None:
        files["history.csv"] = (Path(log_dir) / "history.csv").read_text()
        rows = list(csv.DictReader(files["history.csv"].splitlines()))
        columns = {name: [float(row[name]) for row in rows] for name in rows[0]}
        figures["curves"] = plots.plot_history(columns)
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
    return save_model(
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


def _build(backbone: str, image_size: int, weights: str | os.PathLike | None, seed: int) -> Any:
    if backbone != RESNET18:
        return build_model(image_size, backbone, weights)
    from crackclf.models.pytorch import torch
    from crackclf.models.resnet18 import build_resnet18

    torch.manual_seed(seed)
    return build_resnet18(weights)


def _fit_torch(model: Any, data: Datasets, logs: Path, epochs: int, seed: int) -> np.ndarray:
    from crackclf.models.pytorch import torch
    from crackclf.models.resnet18 import load_resnet18
    from crackclf.training.resnet18 import CrackDataset, predict_resnet18, train_resnet18

    def load(subset: str, **shuffling: Any) -> torch.utils.data.DataLoader:
        return torch.utils.data.DataLoader(CrackDataset(data, subset), data.batch_size, **shuffling)

    if epochs:
        training = load("train", shuffle=True, generator=torch.Generator().manual_seed(seed))
        train_resnet18(model, training, load("validation"), logs, epochs * len(training))
    else:
        model.load_state_dict(load_resnet18(logs / BEST_TORCH).state_dict())
    return predict_resnet18(model, load("test"))


def _next_free(log_dir: Path, arguments: dict) -> Path:
    number = 1
    while True:
        out = Path("saved_models") / f"{arguments['backbone']}-{number}"
        if not out.exists() and Run(log_dir / out.name, arguments).is_free:
            return out
        number += 1
