"""What happens beside the fit: curves, checkpoints, early stopping."""

import os
from collections.abc import Mapping
from pathlib import Path

import keras
from tensorboard.plugins.hparams.api import KerasCallback


class TensorBoard(keras.callbacks.TensorBoard):
    """Keras' TensorBoard callback that also logs each validation batch.

    Keras writes `batch_loss` and `batch_accuracy` for training batches only; here the
    validation run gets them too.
    """

    def on_test_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Writes the running metrics of a validation batch."""
        for name, value in (logs or {}).items():
            self.summary.scalar(f"batch_{name}", value, step=self._global_test_batch)


def build_callbacks(
    log_dir: str | os.PathLike,
    patience: int | None = 3,
    hparams: Mapping[str, bool | float | str] | None = None,
) -> list[keras.callbacks.Callback]:
    """Builds the callbacks of a training run.

    Early stopping that restores the best epoch, TensorBoard curves for every batch and every
    epoch (`train/` and `validation/`), the best model so far as `best.keras`, the state to go
    on from after a kill in `backup/`, and `history.csv`, all in `log_dir`.

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
        keras.callbacks.ModelCheckpoint(
            log_dir / "best.keras", monitor="val_loss", save_best_only=True
        ),
        keras.callbacks.BackupAndRestore(log_dir / "backup"),
        keras.callbacks.CSVLogger(log_dir / "history.csv", append=True),
    ]
    if patience is not None:
        early_stopping = keras.callbacks.EarlyStopping(
            monitor="val_loss", patience=patience, restore_best_weights=True, verbose=1
        )
        callbacks.insert(0, early_stopping)
    if hparams is not None:
        callbacks.append(KerasCallback(str(log_dir), dict(hparams)))
    return callbacks
