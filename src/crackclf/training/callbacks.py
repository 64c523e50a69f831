"""What happens beside the fit: curves, checkpoints, early stopping."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tensorboard.plugins.hparams.api import KerasCallback

from crackclf.files import replace_whole, user_path
from crackclf.training.logs import BEST_KERAS, check_log_dir
from crackclf.training.resume import Backup


class TensorBoard(keras.callbacks.Callback):
    """Curves of loss and metrics of every batch and every epoch, for TensorBoard.

    Keras' own callback writes no validation batches, and offers no way to flush its files, up to
    which `Backup` notes that a training has come.

    Args:
        log_dir: folder in which `train/` and `validation/` are made.
    """

    def __init__(self, log_dir: Path):
        super().__init__()
        self._log_dir = log_dir
        self._writers: dict[str, Any] = {}
        self.train_batches = self.validation_batches = 0

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Writes the running metrics of a training batch."""
        self._write("train", "batch", logs or {}, self.train_batches)
        self.train_batches += 1

    def on_test_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Writes the running metrics of a validation batch."""
        self._write("validation", "batch", logs or {}, self.validation_batches)
        self.validation_batches += 1

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Writes the epoch's metrics, and everything to disk."""
        logs = logs or {}
        validation = {name: x for name, x in logs.items() if name.startswith("val_")}
        training = {name: x for name, x in logs.items() if name not in validation}
        self._write("train", "epoch", training, epoch)
        values = {name.removeprefix("val_"): x for name, x in validation.items()}
        self._write("validation", "epoch", values, epoch)
        for writer in self._writers.values():
            writer.flush()

    def on_train_end(self, logs: dict | None = None) -> None:
        """Closes the files."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _write(self, subset: str, prefix: str, values: Mapping[str, float], step: int) -> None:
        if not values:
            return
        if subset not in self._writers:
            self._writers[subset] = tf.summary.create_file_writer(str(self._log_dir / subset))
        with self._writers[subset].as_default():
            for name, value in values.items():
                tf.summary.scalar(f"{prefix}_{name}", value, step=step)


class ModelCheckpoint(keras.callbacks.ModelCheckpoint):
    """Keras' ModelCheckpoint for the best model, which replaces the last one whole.

    Keras writes into the file itself: a full disk or a kill then costs the last best model. Best
    is the lowest validation loss, or training loss where no images are kept for validation.
    """

    def __init__(self, filepath: Path):
        self._beside = filepath.with_name(f".{filepath.stem}.tmp{filepath.suffix}")
        self._place = filepath
        super().__init__(self._beside, monitor="val_loss", save_best_only=True)

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Removes what a kill may have left half written."""
        self._beside.unlink(missing_ok=True)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Saves the model if it is the best so far."""
        if self.monitor not in (logs or {}):
            self.monitor = "loss"
        try:
            super().on_epoch_end(epoch, logs)
            if self._beside.exists():
                replace_whole(self._beside, self._place)
        finally:
            self._beside.unlink(missing_ok=True)


def build_callbacks(
    log_dir: str | os.PathLike,
    patience: int | None = 3,
    hparams: Mapping[str, bool | float | str] | None = None,
) -> list[keras.callbacks.Callback]:
    """Builds the callbacks of a training run.

    Early stopping that restores the best epoch, TensorBoard curves for every batch and every
    epoch (`train/` and `validation/`), the best model so far as `best.keras`, `history.csv`, and
    what a killed training needs to go on, all in `log_dir`.

    Args:
        log_dir: the run's folder, e.g. `logs/first`; made when missing.
        patience: epochs without a lower validation loss until training stops and goes back to
            the best epoch. None to train all epochs and keep the last weights. `best.keras`
            is the best epoch in either case.
        hparams: settings of this run for TensorBoard's HParams tab, e.g. `{"dropout": 0.5}`.

    Returns:
        Callbacks for `train` and for Keras' `fit`. Only `train` goes on with a killed training.

    Raises:
        UserError: when the folder holds the curves of a run that is finished.

    Example:

    ```python
    train(model, data, build_callbacks("logs/first", patience=5))
    ```
    """
    log_dir = user_path(log_dir)
    check_log_dir(log_dir)
    log_dir.mkdir(parents=True, exist_ok=True)
    callbacks = [
        TensorBoard(log_dir),
        ModelCheckpoint(log_dir / BEST_KERAS),
        keras.callbacks.CSVLogger(log_dir / "history.csv", append=True),
    ]
    if patience is not None:
        early_stopping = keras.callbacks.EarlyStopping(
            monitor="val_loss", patience=patience, restore_best_weights=True, verbose=1
        )
        callbacks.insert(0, early_stopping)
    if hparams is not None:
        callbacks.append(KerasCallback(str(log_dir), dict(hparams)))
    return [*callbacks, Backup(log_dir, callbacks)]
