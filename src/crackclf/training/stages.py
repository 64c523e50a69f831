"""The stages of a training, each of which goes on where an interruption left it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from tqdm import tqdm
from tqdm.keras import TqdmCallback

from crackclf.data.datasets import Datasets
from crackclf.data.loading import find_groups
from crackclf.data.splits import SUBSETS
from crackclf.errors import UserError
from crackclf.evaluation.calibration import calibrate
from crackclf.evaluation.metrics import compute_report
from crackclf.evaluation.report import Report
from crackclf.extras import need, torch_room
from crackclf.features.cache import cache_features
from crackclf.features.extract import Mapper, compute_here
from crackclf.models.augmentation import build_augmentation
from crackclf.models.classifier import build_model
from crackclf.models.parts import split_model
from crackclf.models.unfreezing import find_blocks, unfreeze
from crackclf.training.callbacks import build_callbacks
from crackclf.training.fit import count_views, predict_features, train, weigh_classes
from crackclf.training.logs import BEST_TORCH, FINE_TUNED, is_finished
from crackclf.training.resume import restore_finished
from crackclf.training.settings import TrainSettings

_FINE = 100  # By how much smaller the learning rate of fine-tuning is.


def build(chosen: TrainSettings, classes: int) -> Any:
    """The model of the settings, untrained."""
    if chosen.in_pytorch:
        room = torch_room()
        need("torch", "torch").manual_seed(chosen.seed)
        return room.build_resnet18(chosen.weights, classes=classes)
    model = build_model(
        chosen.image_size,
        chosen.backbone,
        chosen.weights,
        build_augmentation(float(chosen.augmentation)),
        chosen.hidden_units,
        chosen.dropout,
        chosen.weight_decay,
        chosen.label_smoothing,
        chosen.learning_rate,
        classes,
        chosen.seed,
    )
    if chosen.fine_tune:
        find_blocks(model, chosen.fine_tune)  # Which refuses too many, before hours pass.
    return model


def fit(
    model: Any,
    data: Datasets,
    logs: Path,
    chosen: TrainSettings,
    mapper: Mapper = compute_here,
    epochs: Sequence[int] | None = None,
    title: str = "",
) -> None:
    """Trains a model from `build` in one stage or, with `fine_tune`, two.

    Args:
        model: from `build`; changed in place.
        data: at the model's image size.
        logs: the run's folder; the second stage has one of its own in it.
        chosen: the settings.
        mapper: has the features to be cached computed.
        epochs: of each stage, to be trained to the end; None for the settings' number and early
            stopping.
        title: of one progress bar, in place of Keras' line for each epoch.
    """
    if chosen.in_pytorch:
        _fit_torch(model, data, logs, chosen)
        return
    folders = list_stages(logs, chosen)
    for stage, folder in enumerate(folders):
        if stage > 0:
            unfreeze(model, chosen.fine_tune, chosen.learning_rate / _FINE)
        if is_finished(folder):
            # What was trained: of a model on cached features, the part behind them.
            trained = split_model(model).head if chosen.caches else model
            restore_finished(trained, folder)
            continue
        views = count_views(data, chosen.views if chosen.augmentation else 0)
        if chosen.caches and (title or mapper is not compute_here):
            cache_features(model, data, views, mapper=mapper)  # Before the bar of the epochs.
        callbacks = build_callbacks(folder, chosen.patience if epochs is None else None)
        if title:
            cast(Any, callbacks[0]).verbose = 0  # Early stopping prints lines of its own.
            words = f"{title}, fine-tuning" if stage > 0 else title
            bar = cast(Any, TqdmCallback(verbose=0, desc=words, tqdm_class=tqdm))
            callbacks.insert(0, bar)
        train(
            model,
            data,
            callbacks,
            chosen.epochs if epochs is None else epochs[stage],
            chosen.cache_features,
            views,
            chosen.class_weights,
            verbose=0 if title else "auto",
        )


def list_stages(logs: Path, chosen: TrainSettings) -> list[Path]:
    """The folders of the curves of a run's stages, in order."""
    return [logs, logs / FINE_TUNED] if chosen.fine_tune else [logs]


def predict(model: Any, data: Datasets, subset: str, chosen: TrainSettings) -> np.ndarray:
    """Probabilities of a set in the order of its files, float32 of shape (n, classes)."""
    if chosen.in_pytorch:
        return torch_room().predict_resnet18(model, _loader(data, subset))
    if chosen.caches:
        return predict_features(model, data, subset)
    return model.predict(getattr(data, subset))


def measure(
    model: Any, data: Datasets, positive: str, chosen: TrainSettings
) -> tuple[Report, dict[str, np.ndarray]]:
    """Calibrates a model on the validation set and tests it.

    Returns:
        The report on the test set; and the model's own probabilities on both sets, by subset.
    """
    said = {subset: predict(model, data, subset, chosen) for subset in SUBSETS[1:]}
    names, truth, aim = data.class_names, data.labels, chosen.threshold_for
    by_photo = chosen.group_by is not None
    groups = find_groups(data.images["validation"], chosen.group_by) if by_photo else None
    found = calibrate(truth["validation"], said["validation"], names, positive, aim, groups)
    report = compute_report(
        truth["test"],
        said["test"],
        names,
        data.files["test"],
        positive,
        found.threshold,
        found.temperature,
    )
    return report, said


def _fit_torch(model: Any, data: Datasets, logs: Path, chosen: TrainSettings) -> None:
    if is_finished(logs):
        if not (logs / BEST_TORCH).exists():
            raise UserError(
                f"{logs}: its best checkpoint, {BEST_TORCH}, is gone. Remove this folder to train "
                "anew."
            )
        model.load_state_dict(type(model).load(logs / BEST_TORCH).state_dict())
        return
    shuffling = need("torch", "torch").Generator().manual_seed(chosen.seed)
    training = _loader(data, "train", chosen.augmentation, shuffle=True, generator=shuffling)
    torch_room().train_resnet18(
        model,
        training,
        _loader(data, "validation"),
        logs,
        chosen.epochs * len(training),
        chosen.learning_rate,
        chosen.weight_decay,
        chosen.label_smoothing,
        weigh_classes(data, chosen.class_weights),
        chosen.patience,
    )


def _loader(data: Datasets, subset: str, augment: bool = False, **settings: Any) -> Any:
    images = torch_room().CrackDataset(data, subset, augment)
    return need("torch", "torch").utils.data.DataLoader(images, data.batch_size, **settings)
