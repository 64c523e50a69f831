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
_NOISY = 0.1  # Scatter as a share of the lowest loss.


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
    """What learning curves show, and how sure that is. Epochs count from 1.

    Training loss is measured with dropout and on augmented images, while the weights still change;
    validation loss after that, without either. So a gap (validation loss less training loss) a
    little below 0 is normal. `last_loss` and `last_gap` are means of the last three epochs.

    `scatter` is the standard deviation of validation loss about its trend, `noisy` says whether it
    is above a tenth of the loss. `turned` says whether the model overfits: since the best epoch,
    validation loss has risen by more than its scatter explains and by more than 5 %.
    `still_improving` says whether it fell so over the last six epochs. None: too few epochs.
    """

    epochs: int
    best_epoch: int
    best_loss: float
    gap: float
    last_loss: float
    last_gap: float
    scatter: float | None = None
    turned: bool | None = None
    still_improving: bool | None = None
    noisy: bool | None = None

    def __str__(self) -> str:
        last = f"mean of the last {min(self.epochs, _WINDOW)} epochs"
        lines = [
            f"validation loss was lowest, {self.best_loss:.4f}, in epoch {self.best_epoch} of "
            f"{self.epochs}; {last} {self.last_loss:.4f}",
            f"gap to training loss {self.gap:.4f} in that epoch, {last} {self.last_gap:.4f}",
        ]
        if self.scatter is not None:
            share = self.scatter / self.best_loss if self.best_loss else 0
            noisy = ", noisy" if self.noisy else ""
            lines.append(f"scatter from epoch to epoch {self.scatter:.4f} ({share:.0%}){noisy}")
        if self.scatter is None:
            lines.append(f"fewer than {_FEWEST} epochs: too few to tell a trend from scatter")
        elif self.turned:
            lines.append(f"overfitting: validation loss has risen since epoch {self.best_epoch}")
        elif self.still_improving:
            lines.append("still improving: more epochs may help")
        elif self.turned is None:
            lines.append("too few epochs since the best one to tell whether the model overfits")
        else:
            lines.append("validation loss neither rises nor falls by more than its scatter and 5 %")
        return "\n".join(lines)


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
    found = n, best + 1, lowest, float(gaps[best]), last, float(gaps[-_WINDOW:].mean())
    if n < _FEWEST:
        return Diagnosis(*found)
    # A smooth curve has next to no second differences, independent noise sqrt(6) times its own
    # standard deviation; the median keeps the steep beginning out.
    scatter = float(np.median(np.abs(np.diff(validation, 2))) / 0.6745 / np.sqrt(6))
    has_turned = last - lowest > max(_RISE * scatter, _MATERIAL * lowest)
    fall = float(validation[-2 * _WINDOW : -_WINDOW].mean()) - last
    improves = fall > max(_FALL * scatter, _MATERIAL * lowest)
    turned = has_turned if best < n - _WINDOW else None
    return Diagnosis(*found, scatter, turned, improves, noisy=scatter > _NOISY * lowest)
