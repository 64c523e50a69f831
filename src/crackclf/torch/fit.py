"""A training loop in PyTorch."""

import copy
import csv
import io
import math
import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from crackclf.errors import UserError
from crackclf.files import write_whole
from crackclf.torch.network import ResNet18
from crackclf.torch.pytorch import torch
from crackclf.training.logs import BACKUPS, BEST_TORCH, check_log_dir, cut_logs, log_sizes


def train_resnet18(
    model: ResNet18,
    training: torch.utils.data.DataLoader,
    validation: torch.utils.data.DataLoader,
    log_dir: str | os.PathLike,
    iterations: int = 300,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
    label_smoothing: float = 0.0,
    class_weights: Sequence[float] | None = None,
    patience: int | None = None,
) -> list[dict[str, float]]:
    """Trains by Adam on the cross-entropy, and keeps the weights of the lowest validation loss.

    The validation images are measured after every pass over the training images, and after the
    last iteration. Curves of batches and passes go to TensorBoard and `history.csv` under the
    names that Keras gives them. An interrupted training that is called again goes on after its
    last full pass; with `num_workers` above 0 its images are then augmented otherwise.

    Args:
        model: from `build_resnet18`; changed in place, and moved to an accelerator if there is
            one.
        training: batches of a `CrackDataset`, shuffled.
        validation: batches of another, not shuffled.
        log_dir: the folder of the run, e.g. `logs/resnet18`; made when missing.
        iterations: batches to train on.
        learning_rate: of Adam.
        weight_decay: share, times the learning rate, by which weights shrink at each step.
        label_smoothing: share of each label that is spread over all classes, below 1.
        class_weights: by what an error on an image of each class counts; None for all alike.
            Validation loss is neither weighted nor smoothed.
        patience: passes without a lower validation loss after which training stops; None for
            never.

    Returns:
        Loss and accuracy, a row for each pass.

    Raises:
        UserError: when `iterations` is below 1, `class_weights` are not one a class, `log_dir`
            holds the curves of a run that is finished, or the loss is NaN or infinite.

    Example:

    ```python
    history = train_resnet18(model, training, validation, "logs/resnet18")
    ```
    """
    from torch.utils.tensorboard import SummaryWriter
    from tqdm import tqdm

    if iterations < 1:
        raise UserError(f"iterations must be at least 1. Received: {iterations}.")
    classes = model.fc.out_features
    if class_weights is not None and len(class_weights) != classes:
        raise UserError(
            f"class_weights must be one number for each of the model's {classes} classes. "
            f"Received: {list(class_weights)}."
        )
    log_dir, device = Path(log_dir), _device()
    check_log_dir(log_dir)
    model.to(device)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, learning_rate, weight_decay=weight_decay)
    # As in Keras: PyTorch's own weights would cancel out in a batch of one class.
    weights = torch.tensor(class_weights or [1.0] * classes, device=device)
    criterion = torch.nn.CrossEntropyLoss(reduction="none", label_smoothing=label_smoothing)
    log_dir.mkdir(parents=True, exist_ok=True)
    backup = log_dir / BACKUPS[1]
    if not backup.exists():
        progress: dict[str, Any] = {"done": 0, "history": [], "best": {}}
        _keep(backup, model, optimizer, training, **progress, logs=log_sizes(log_dir))
    done, history, best = _restore(backup, model, optimizer, training)
    with (
        SummaryWriter(log_dir / "train") as curves,
        SummaryWriter(log_dir / "validation") as validation_curves,
        tqdm(initial=done, total=iterations, desc="Training", unit=" batches") as bar,
    ):
        while done < iterations and not _is_spent(history, patience):
            model.train()
            losses, hits = [], []
            for images, labels in islice(training, iterations - done):
                images, labels = images.to(device), labels.to(device)
                optimizer.zero_grad()
                logits = model(images)
                loss = (weights[labels] * criterion(logits, labels)).mean()
                loss.backward()
                optimizer.step()
                losses += [loss.item()] * len(labels)
                hits += (logits.argmax(dim=1) == labels).tolist()
                curves.add_scalar("batch_loss", np.mean(losses), done)
                curves.add_scalar("batch_accuracy", np.mean(hits), done)
                done += 1
                bar.update()
            logits, labels = _answers(model, validation)
            row = {
                "accuracy": float(np.mean(hits)),
                "loss": float(np.mean(losses)),
                "val_accuracy": (logits.argmax(dim=1) == labels).float().mean().item(),
                "val_loss": torch.nn.functional.cross_entropy(logits, labels).item(),
            }
            if not math.isfinite(row["loss"] + row["val_loss"]):
                raise UserError(
                    "the training loss is NaN or infinite. Try a smaller learning rate."
                )
            if row["val_loss"] <= min([old["val_loss"] for old in history], default=math.inf):
                best = copy.deepcopy(model.state_dict())
            for name in ("accuracy", "loss"):
                curves.add_scalar(f"epoch_{name}", row[name], len(history))
                validation_curves.add_scalar(f"epoch_{name}", row[f"val_{name}"], len(history))
            history.append(row)
            curves.flush()
            validation_curves.flush()
            progress = {"done": done, "history": history, "best": best}
            _keep(backup, model, optimizer, training, **progress, logs=log_sizes(log_dir))
    model.load_state_dict(best)
    table = io.StringIO()
    writer = csv.DictWriter(table, ["epoch", *history[0]], lineterminator="\n")
    writer.writeheader()
    writer.writerows({"epoch": epoch} | row for epoch, row in enumerate(history))
    content = io.BytesIO()
    torch.save(best, content)
    write_whole(log_dir / BEST_TORCH, content.getvalue())
    write_whole(log_dir / "history.csv", table.getvalue())
    backup.unlink()
    return history


def predict_resnet18(model: ResNet18, loader: torch.utils.data.DataLoader) -> np.ndarray:
    """Probabilities of the images of a `DataLoader`.

    Args:
        model: the network.
        loader: batches of a `CrackDataset`, not shuffled.

    Returns:
        float32 of shape (n, classes), rows summing to 1, in the order of the data set.
    """
    logits, _ = _answers(model, loader)
    return logits.softmax(dim=1).numpy()


def _is_spent(history: list[dict[str, float]], patience: int | None) -> bool:
    """Whether so many passes have come since the lowest validation loss."""
    losses = [row["val_loss"] for row in history]
    return (
        patience is not None and bool(losses) and len(losses) > losses.index(min(losses)) + patience
    )


def _answers(
    model: ResNet18, loader: torch.utils.data.DataLoader
) -> tuple[torch.Tensor, torch.Tensor]:
    model.eval()
    with torch.inference_mode():
        device = model.fc.weight.device
        answers = [(model(images.to(device)).cpu(), labels) for images, labels in loader]
    logits, labels = zip(*answers, strict=True)
    return torch.cat(logits), torch.cat(labels)


def _device() -> torch.device:
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return device or torch.device("cpu")


def _generator(loader: torch.utils.data.DataLoader) -> torch.Generator:
    return loader.generator or torch.default_generator


def _keep(
    backup: Path,
    model: ResNet18,
    optimizer: torch.optim.Optimizer,
    training: torch.utils.data.DataLoader,
    **progress: Any,
) -> None:
    """Writes all that decides how the training goes on."""
    content = io.BytesIO()
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "shuffling": _generator(training).get_state(),
        "augmentation": torch.get_rng_state(),
        "progress": progress,
    }
    torch.save(state, content)
    write_whole(backup, content.getvalue())


def _restore(
    backup: Path,
    model: ResNet18,
    optimizer: torch.optim.Optimizer,
    training: torch.utils.data.DataLoader,
) -> tuple[int, list[dict[str, float]], dict[str, torch.Tensor]]:
    state = torch.load(backup, map_location=_device(), weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["augmentation"].cpu())
    _generator(training).set_state(state["shuffling"].cpu())
    progress = state["progress"]
    cut_logs(backup.parent, progress["logs"])
    return progress["done"], progress["history"], progress["best"]
