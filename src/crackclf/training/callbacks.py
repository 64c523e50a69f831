"""What happens beside the fit: curves, checkpoints, early stopping."""

import os
from collections.abc import Mapping
from pathlib import Path

import keras
from tensorboard.plugins.hparams.api import KerasCallback

from crackclf.data.files import replace_whole
from crackclf.training.backup import Backup
from crackclf.training.logs import BEST_KERAS


class TensorBoard(keras.callbacks.TensorBoard):
    """Keras' TensorBoard callback that also logs each validation batch.

    Keras writes `batch_loss` and `batch_accuracy` for training batches only; here the
    validation run gets them too.
    """

    def on_test_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Writes the running metrics of a validation batch."""
        for name, value in (logs or {}).items():
            self.summary.scalar(f"batch_{name}", value, step=self._global_test_batch)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Writes the epoch's metrics, and all of them to disk: `Backup` notes how far they go."""
        super().on_epoch_end(epoch, logs)
        for writer in self._writers.values():
            writer.flush()


class ModelCheckpoint(keras.callbacks.ModelCheckpoint):
    """Keras' ModelCheckpoint for the best model, which replaces the last one whole.

    Keras writes into the file itself: a full disk or a kill then costs the last best model.
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
        patience: epochs without a lower validation loss after which training stops; None to
            go on to the last epoch and stay there, while `best.keras` keeps the best one.
        hparams: what sets this run apart from others, e.g. `{"dropout": 0.5}`, for
            TensorBoard's HParams tab.

    Returns:
        Callbacks for `fit`.

    Example:

    ```python
    model.fit(data.train, validation_data=data.validation, callbacks=build_callbacks("logs/a"))
    ```
    """
    log_dir = Path(log_dir)
    log_dir.mkdir(parents=True, exist_ok=True)
    callbacks = [
        TensorBoard(str(log_dir), update_freq="batch", write_graph=False),
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
