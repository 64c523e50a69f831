"""A Dataset of crack images, and a training loop in PyTorch."""

import copy
import csv
import io
import math
import os
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from crackclf.data.datasets import Datasets
from crackclf.errors import UserError
from crackclf.files import write_whole
from crackclf.images.decode import read_image
from crackclf.images.resize import resize
from crackclf.torch.network import ResNet18
from crackclf.torch.pytorch import torch
from crackclf.training.logs import BACKUPS, BEST_TORCH, cut_logs, log_sizes


class CrackDataset(torch.utils.data.Dataset):
    """One set of a data folder as pairs of image and class index.

    An image is a float32 tensor of shape (3, image_size, image_size) in 0..255, RGB: the pixels
    that a Keras model of this data gets.

    Args:
        data: from `load_datasets`.
        subset: "train", "validation" or "test".

    Example:

    ```python
    image, label = CrackDataset(data, "train")[0]
    ```
    """

    def __init__(self, data: Datasets, subset: str):
        self.files, self.labels = data.files[subset], data.labels[subset]
        self.image_size = data.image_size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        pixels = resize(read_image(self.files[index]), self.image_size, self.image_size)
        return torch.from_numpy(pixels).permute(2, 0, 1), int(self.labels[index])


def train_resnet18(
    model: ResNet18,
    training: torch.utils.data.DataLoader,
    validation: torch.utils.data.DataLoader,
    log_dir: str | os.PathLike,
    iterations: int = 300,
    learning_rate: float = 1e-3,
) -> list[dict[str, float]]:
    """Trains by Adam on the cross-entropy, and keeps the weights of the lowest validation loss.

    The validation images are measured after every pass over the training images, and after the
    last iteration. Curves of batches and passes go to TensorBoard and `history.csv` under the
    names that Keras gives them. An interrupted training that is called again goes on after its
    last full pass.

    Args:
        model: from `build_resnet18`; changed in place, and moved to an accelerator if there is
            one.
        training: batches of a `CrackDataset`, shuffled.
        validation: batches of another, not shuffled.
        log_dir: the folder of the run, e.g. `logs/resnet18`; made when missing.
        iterations: batches to train on.
        learning_rate: of Adam.

    Returns:
        Loss and accuracy, a row for each pass.

    Raises:
        UserError: when `iterations` is below 1, or the loss is no longer a number.

    Example:

    ```python
    history = train_resnet18(model, training, validation, "logs/resnet18")
    ```
    """
    from torch.utils.tensorboard import SummaryWriter
    from tqdm import tqdm

    if iterations < 1:
        raise UserError(f"iterations must be at least 1. Received: {iterations}.")
    log_dir, device = Path(log_dir), _device()
    model.to(device)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, learning_rate)
    criterion = torch.nn.CrossEntropyLoss()
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
        while done < iterations:
            model.train()
            losses, hits = [], []
            for images, labels in islice(training, iterations - done):
                images, labels = images.to(device), labels.to(device)
                optimizer.zero_grad()
                logits = model(images)
                loss = criterion(logits, labels)
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
                "val_loss": criterion(logits, labels).item(),
            }
            if not math.isfinite(row["loss"] + row["val_loss"]):
                raise UserError("the loss is no longer a number; try a smaller learning_rate.")
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
        float32 of shape (n, 2), rows summing to 1, in the order of the data set.
    """
    logits, _ = _answers(model, loader)
    return logits.softmax(dim=1).numpy()


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
    _generator(training).set_state(state["shuffling"].cpu())
    progress = state["progress"]
    cut_logs(backup.parent, progress["logs"])
    return progress["done"], progress["history"], progress["best"]
