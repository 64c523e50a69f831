"""What happens beside the fit: curves, checkpoints, early stopping."""

import os
import shutil
from pathlib import Path

import keras

from crackclf.curves import read_curves
from crackclf.errors import UserError, need
from crackclf.files import user_path

BEST, HISTORY, BACKUP = "best.keras", "history.csv", "backup"


class _Checkpoint(keras.callbacks.ModelCheckpoint):
    """Keras' ModelCheckpoint, by a rename: a full disk or a kill never costs the last best model.

    Best is the lowest validation loss, or training loss where no images are kept for validation.
    """

    def __init__(self, path: Path, best: float | None):
        self._path, self._draft = path, path.with_name(f".{path.name.replace('.', '-draft.')}")
        super().__init__(self._draft, save_best_only=True, initial_value_threshold=best)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Saves the model if it is the best so far."""
        if self.monitor not in (logs or {}):
            self.monitor = "loss"
        try:
            super().on_epoch_end(epoch, logs)
            if self._draft.exists():
                self._draft.replace(self._path)
        finally:
            self._draft.unlink(missing_ok=True)


def build_callbacks(
    log_dir: str | os.PathLike, patience: int | None = 3
) -> list[keras.callbacks.Callback]:
    """Builds the callbacks of a training run.

    Keras' own EarlyStopping (which restores the best epoch), TensorBoard (`train/` and
    `validation/`), ModelCheckpoint (`best.keras`), CSVLogger (`history.csv`) and
    BackupAndRestore, with which a killed training goes on from its last epoch. All of them write
    into `log_dir`.

    Args:
        log_dir: the run's folder, e.g. `logs/first`; made when missing.
        patience: epochs without a lower validation loss until training stops and goes back to the
            best epoch. None to train all epochs and keep the last weights.

    Returns:
        Callbacks for `train` and for Keras' `fit`.

    Raises:
        UserError: when the folder holds the curves of a run that is finished.

    Examples:
        >>> train(model, data, build_callbacks("logs/first", patience=5))
    """
    need("tensorboard", "train")  # Keras would miss it at the first epoch only.
    log_dir = user_path(log_dir)
    if is_finished(log_dir):
        raise UserError(
            f"{log_dir}: holds the curves of another run. Choose another log_dir, or move it away."
        )
    backup = log_dir / BACKUP
    if backup.exists() and not (backup / "training_metadata.json").exists():
        clear_run(log_dir)  # Keras writes that file last: a kill has cut its first backup.
    backup.mkdir(parents=True, exist_ok=True)  # Until the training ends, the run is unfinished.
    history = read_curves(log_dir / HISTORY) if (log_dir / HISTORY).exists() else {}
    best = min(history.get("val_loss") or history.get("loss") or [], default=None)
    callbacks = [
        keras.callbacks.TensorBoard(str(log_dir), write_graph=False, update_freq="batch"),
        _Checkpoint(log_dir / BEST, best),
        keras.callbacks.CSVLogger(log_dir / HISTORY, append=True),
        keras.callbacks.BackupAndRestore(backup, double_checkpoint=True),
    ]
    if patience is not None:
        stopping = keras.callbacks.EarlyStopping(
            patience=patience, restore_best_weights=True, verbose=1
        )
        callbacks.insert(0, stopping)
    return callbacks


def is_finished(log_dir: Path) -> bool:
    """Whether a training has been in this folder and came to its end."""
    return (log_dir / HISTORY).exists() and not (log_dir / BACKUP).exists()


def clear_run(log_dir: Path) -> None:
    """Removes what the callbacks have written into a folder, and no other file."""
    for name in ("train", "validation", BACKUP):
        shutil.rmtree(log_dir / name, ignore_errors=True)
    for name in (BEST, HISTORY):
        (log_dir / name).unlink(missing_ok=True)
