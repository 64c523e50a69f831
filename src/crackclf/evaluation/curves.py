"""Learning curves read back from TensorBoard's files, and what they show."""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crackclf.errors import UserError

_WINDOW = 3  # Epochs whose mean stands for where a curve is.
# In multiples of the scatter. On curves of pure noise of 6 to 40 epochs, 4 % are called turned and
# 2 % improving (4,000 simulated ones of each length); for fewer epochs nothing is claimed.
_RISE, _FALL, _FEWEST = 4.0, 2.5, 6
_MATERIAL = 0.05  # Share of the lowest loss; a smaller change does not matter.
_NOISY = 0.1  # Scatter as a share of the lowest loss.


def read_curves(log_dir: str | os.PathLike) -> dict[str, list[float]]:
    """Reads a run's curves from its event files, as Keras' History would hold them.

    Args:
        log_dir: the run's folder, in which `build_callbacks` or `train_resnet18` wrote `train/` and
            `validation/`.

    Returns:
        A value for each epoch by name: "loss", "accuracy", "val_loss", "val_accuracy" and what else
        was written. Of an epoch that was trained twice, because a run was killed in it, the last
        one.

    Raises:
        UserError: when there are no such curves.

    Example:

    ```python
    plots.plot_history(read_curves("logs/first"))
    ```
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    series: dict[str, dict[int, float]] = {}
    for subset, prefix in {"train": "", "validation": "val_"}.items():
        folder = Path(log_dir) / subset
        if not any(folder.glob("*tfevents*")):
            raise UserError(
                f"{folder}: holds no event files. Expected the folder of a run, e.g. logs/first, "
                "in which crackclf or Keras wrote its curves."
            )
        events = EventAccumulator(str(folder), {"tensors": 0, "scalars": 0}).Reload()
        # Keras writes its scalars as tensors, PyTorch as scalars.
        for tag in events.Tags()["tensors"]:
            if tag.startswith("epoch_"):
                series[prefix + tag.removeprefix("epoch_")] = {
                    event.step: float(make_ndarray(event.tensor_proto))
                    for event in events.Tensors(tag)
                }
        for tag in events.Tags()["scalars"]:
            if tag.startswith("epoch_"):
                series[prefix + tag.removeprefix("epoch_")] = {
                    event.step: event.value for event in events.Scalars(tag)
                }
    if not {"loss", "val_loss"} <= series.keys():
        raise UserError(
            f"{log_dir}: holds no training and validation loss by epoch; it was stopped in its "
            "first one, or something else wrote it."
        )
    # The epoch in which a run was killed may have been written in part.
    epochs = sorted(set.intersection(*(set(values) for values in series.values())))
    return {name: [values[epoch] for epoch in epochs] for name, values in series.items()}


def read_history(path: str | os.PathLike) -> dict[str, list[float]]:
    """Reads the `history.csv` of a run or a saved model, as Keras' History would hold it.

    Args:
        path: the file.

    Returns:
        A value for each epoch by name, e.g. "loss" and "val_loss".
    """
    return parse_history(Path(path).read_text(encoding="utf-8"))


def parse_history(text: str) -> dict[str, list[float]]:
    """Reads the content of a `history.csv`, as `read_history` does."""
    rows = list(csv.DictReader(io.StringIO(text)))
    # Of what was not measured, the validation loss where no images are kept for it, Keras says NA.
    measured = [name for name, value in rows[0].items() if value != "NA"]
    return {name: [float(row[name]) for row in rows] for name in measured}


@dataclass(frozen=True)
class Diagnosis:
    """What learning curves show, and how sure that is. Epochs count from 1.

    Training loss is measured with dropout and on augmented images, while the weights still change,
    validation loss after that without either; so a gap a little below 0 is normal.

    Attributes:
        epochs: number of epochs.
        best_epoch: the one with the lowest validation loss.
        best_loss: that loss.
        gap: validation loss less training loss in that epoch.
        last_loss: validation loss, mean of the last three epochs (of all, when fewer).
        last_gap: the same, less that of the training loss.
        scatter: by how much validation loss jumps about its trend from one epoch to the next
            (standard deviation); None when there are fewer than six epochs.
        turned: whether the model overfits: since the best epoch, validation loss has risen by more
            than its scatter explains and by more than 5 %. None with too few epochs since.
        still_improving: whether validation loss fell by more than that over the last six epochs.
            None with fewer epochs.
        noisy: whether the scatter is above a tenth of the loss. None with fewer than six epochs.
    """

    epochs: int
    best_epoch: int
    best_loss: float
    gap: float
    last_loss: float
    last_gap: float
    scatter: float | None
    turned: bool | None
    still_improving: bool | None
    noisy: bool | None

    def __str__(self) -> str:
        last = f"mean of the last {min(self.epochs, _WINDOW)} epochs"
        lines = [
            f"validation loss was lowest, {self.best_loss:.4f}, in epoch {self.best_epoch} of "
            f"{self.epochs}; {last} {self.last_loss:.4f}",
            f"gap to training loss {self.gap:.4f} in that epoch, {last} {self.last_gap:.4f}",
        ]
        if self.scatter is None:
            lines.append(f"fewer than {_FEWEST} epochs: too few to tell a trend from scatter")
            return "\n".join(lines)
        share = self.scatter / self.best_loss if self.best_loss else 0
        noisy = ", noisy" if self.noisy else ""
        lines.append(f"scatter from epoch to epoch {self.scatter:.4f} ({share:.0%}){noisy}")
        if self.turned:
            lines.append(f"overfitting: validation loss has risen since epoch {self.best_epoch}")
        elif self.still_improving:
            lines.append("still improving: more epochs may help")
        elif self.turned is None:
            lines.append("too few epochs since the best one to tell whether the model overfits")
        else:
            lines.append("validation loss neither rises nor falls by more than its scatter and 5 %")
        return "\n".join(lines)


def diagnose(history: Mapping[str, Sequence[float]]) -> Diagnosis:
    """Says whether the curves of a run show overfitting, progress or noise.

    Args:
        history: values by epoch for "loss" and "val_loss", from `read_curves` or
            `keras.callbacks.History.history`.

    Returns:
        A `Diagnosis`. Printed, it is a few lines of text.

    Raises:
        UserError: when there is no epoch, or a loss is NaN or infinite.

    Example:

    ```python
    print(diagnose(read_curves("logs/first")))
    ```
    """
    losses = [np.asarray(history.get(name, ()), float) for name in ("loss", "val_loss")]
    training, validation = losses
    n = len(validation)
    if n == 0 or len(training) != n or not np.isfinite(losses).all():
        raise UserError(
            'expected as many finite values of "loss" as of "val_loss", at least one. '
            f"Received: {training.tolist()} and {validation.tolist()}."
        )
    best = int(validation.argmin())
    last = validation[-_WINDOW:].mean()
    scatter = turned = improving = noisy = None
    if n >= _FEWEST:
        # A smooth curve has next to no second differences, independent noise sqrt(6) times its
        # own standard deviation; the median keeps the steep beginning out.
        scatter = float(np.median(np.abs(np.diff(validation, 2))) / 0.6745 / np.sqrt(6))
        material = _MATERIAL * validation[best]
        if best < n - _WINDOW:
            turned = bool(last - validation[best] > max(_RISE * scatter, material))
        before = validation[-2 * _WINDOW : -_WINDOW].mean()
        improving = bool(before - last > max(_FALL * scatter, material))
        noisy = bool(scatter > _NOISY * validation[best])
    return Diagnosis(
        epochs=n,
        best_epoch=best + 1,
        best_loss=float(validation[best]),
        gap=float(validation[best] - training[best]),
        last_loss=float(last),
        last_gap=float(last - training[-_WINDOW:].mean()),
        scatter=scatter,
        turned=turned,
        still_improving=improving,
        noisy=noisy,
    )
