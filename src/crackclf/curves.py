"""Learning curves read back from a run's folder, and what they show."""

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from crackclf.errors import UserError
from crackclf.files import user_path

_WINDOW = 3  # Epochs whose mean is the level of a curve.
# In multiples of the scatter. On curves of pure noise of 6 to 40 epochs, 4 % are called turned and
# 2 % improving (4,000 simulated ones of each length); for fewer epochs nothing is claimed.
_RISE, _FALL, _FEWEST = 4.0, 2.5, 6
_MATERIAL = 0.05  # Share of the lowest loss; a smaller change does not matter.


def read_curves(log_dir: str | os.PathLike) -> dict[str, list[float]]:
    """Reads the curves of a run, as Keras' History would hold them.

    Args:
        log_dir: the folder of a run or of a saved model, or the `history.csv` in it.

    Returns:
        A value for each epoch by name: "loss", "accuracy", "val_loss", "val_accuracy" and any other
        curve. An epoch that was trained twice has its last value.

    Raises:
        UserError: when there is no such file.

    Examples:
        >>> plots.plot_history(read_curves("logs/first"))
    """
    path = user_path(log_dir)
    path = path if path.suffix == ".csv" else path / "history.csv"
    if not path.is_file():
        raise UserError(
            f"{path}: no such file. Name the folder of a run, e.g. logs/first, in which "
            "build_callbacks wrote its curves."
        )
    return parse_history(path.read_text(encoding="utf-8"))


def parse_history(text: str) -> dict[str, list[float]]:
    """Reads the content of a `history.csv`; an empty one has no curves."""
    rows = {row.pop("epoch"): row for row in csv.DictReader(text.splitlines())}.values()
    # Keras writes NA for what was not measured: the validation loss of a set without images.
    measured = [name for name, value in next(iter(rows), {}).items() if value != "NA"]
    return {name: [float(row[name]) for row in rows] for name in measured}


@dataclass(frozen=True)
class Diagnosis:
    """What learning curves show. Epochs count from 1.

    `gap` is validation loss less training loss in the best epoch. A little below 0 is normal:
    training loss is measured with dropout, on augmented images, while the weights still change.
    `last_loss` and `last_gap` are means of the last three epochs. `trend` is "overfitting" when
    validation loss has risen since the best epoch, "still improving" when it fell over the last six
    epochs, in both cases by more than its scatter explains and by more than 5 %; else "flat". With
    fewer than six epochs it is "unknown".
    """

    epochs: int
    best_epoch: int
    best_loss: float
    gap: float
    last_loss: float
    last_gap: float
    trend: str

    def __str__(self) -> str:
        last = f"mean of the last {min(self.epochs, _WINDOW)} epochs"
        return (
            f"validation loss was lowest, {self.best_loss:.4f}, in epoch {self.best_epoch} of "
            f"{self.epochs}; {last} {self.last_loss:.4f}\n"
            f"gap to training loss {self.gap:.4f} in that epoch, {last} {self.last_gap:.4f}\n"
            f"trend of validation loss: {self.trend}"
        )


def diagnose(history: Mapping[str, Sequence[float]]) -> Diagnosis:
    """Tells whether the curves of a run show overfitting, progress or noise.

    Args:
        history: values by epoch for "loss" and "val_loss", from `read_curves` or
            `keras.callbacks.History.history`.

    Returns:
        A `Diagnosis`. Printed, it is a few lines of text.

    Raises:
        UserError: when there is no epoch, or a loss is NaN or infinite.

    Examples:
        >>> print(diagnose(read_curves("logs/first")))
    """
    training, validation = (np.asarray(history.get(x, ()), float) for x in ("loss", "val_loss"))
    n = len(validation)
    if n == 0 or len(training) != n or not np.isfinite([training, validation]).all():
        raise UserError(
            'expected as many finite values of "loss" as of "val_loss", at least one. '
            f"Received: {training.tolist()} and {validation.tolist()}."
        )
    best, gaps = int(validation.argmin()), validation - training
    lowest, last = float(validation[best]), float(validation[-_WINDOW:].mean())
    trend = "unknown"
    if n >= _FEWEST:
        # A smooth curve has next to no second differences, independent noise sqrt(6) times its own
        # standard deviation; the median keeps the steep beginning out.
        scatter = float(np.median(np.abs(np.diff(validation, 2))) / 0.6745 / np.sqrt(6))
        fall = float(validation[-2 * _WINDOW : -_WINDOW].mean()) - last
        has_risen = last - lowest > max(_RISE * scatter, _MATERIAL * lowest)
        has_fallen = fall > max(_FALL * scatter, _MATERIAL * lowest)
        trend = "still improving" if has_fallen else "flat"
        trend = "overfitting" if has_risen and best < n - _WINDOW else trend
    last_gap = float(gaps[-_WINDOW:].mean())
    return Diagnosis(n, best + 1, lowest, float(gaps[best]), last, last_gap, trend)
