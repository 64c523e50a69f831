"""What a training must keep to go on, after a kill at any moment, as if nothing had happened."""

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from crackclf.errors import UserError
from crackclf.files import write_whole
from crackclf.training.logs import BACKUPS, FINISHED, cut_logs, log_sizes

# What early stopping, checkpoint and curves have counted so far.
_COUNTED = ("best", "best_epoch", "wait", "stopped_epoch", "train_batches", "validation_batches")


class Backup(keras.callbacks.Callback):
    """Keeps the state of a training in one file, replaced whole at the end of every epoch.

    Keras' `BackupAndRestore` keeps weights and epoch. This keeps, too, the states of the random
    generators, what the other callbacks have counted, the weights that early stopping may go back
    to, and the history; and it cuts the logs back to the epoch from which training goes on. When
    training ends the file is removed. `first_epoch` must be asked before a `fit` that goes on.

    Args:
        log_dir: the run's folder, in which `backup.npz` is kept.
        callbacks: the others of the run; this one must stand behind them.
    """

    model: Any  # Keras sets it before it calls anything.

    def __init__(self, log_dir: str | os.PathLike, callbacks: Sequence[keras.callbacks.Callback]):
        super().__init__()
        self.file = Path(log_dir) / BACKUPS[0]
        self._callbacks = callbacks
        self._history: dict[str, list[float]] = {}
        self._goes_on = False

    def first_epoch(self, epochs: int) -> int:
        """The epoch in which an interrupted training goes on, as `fit` counts them.

        Args:
            epochs: of the whole training. A training that had stopped early has nothing left to do.
        """
        self._goes_on = True
        if not self.file.exists():
            return 0
        state, _ = _read(self.file)
        return epochs if state["stopped"] else state["epochs"]

    def set_model(self, model: Any) -> None:
        """Cuts the logs back before the other callbacks open them."""
        super().set_model(model)
        if self.file.exists():
            if not self._goes_on:
                raise UserError(
                    f"{self.file.parent}: holds an interrupted training. Call `train`, which goes "
                    "on with it, or choose another log_dir."
                )
            cut_logs(self.file.parent, _read(self.file)[0]["logs"])

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Goes on from the backup, if there is one."""
        if not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)
        if self.file.exists():
            self._restore()
        else:
            self._history = {}
            self._write(0)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Keeps everything."""
        for name, value in (logs or {}).items():
            self._history.setdefault(name, []).append(float(value))
        self._write(epoch + 1)

    def on_train_end(self, logs: dict | None = None) -> None:
        """Keeps the end, for one killed before its model is saved, in place of the backup."""
        epochs = max(map(len, self._history.values()), default=0)
        self._write(epochs, self.file.with_name(FINISHED))
        history = self.model.history
        history.history = self._history
        history.epoch = list(range(epochs))
        self._goes_on = False
        self.file.unlink()

    def _write(self, epochs: int, file: Path | None = None) -> None:
        state = {
            "epochs": epochs,
            "stopped": self.model.stop_training,
            "history": self._history,
            "counted": [
                {name: getattr(callback, name) for name in _COUNTED if hasattr(callback, name)}
                for callback in self._callbacks
            ],
            "logs": log_sizes(self.file.parent),
        }
        best = [x for callback in self._callbacks for x in _best_weights(callback)]
        content = io.BytesIO()
        variables = map(np.asarray, _variables(self.model))
        np.savez(content, np.array(json.dumps(state)), *variables, *best)
        write_whole(file or self.file, content.getvalue())

    def _restore(self) -> None:
        state, best = _restore(self.model, self.file)
        for callback, counted in zip(self._callbacks, state["counted"], strict=True):
            vars(callback).update(counted)
            if best and isinstance(callback, keras.callbacks.EarlyStopping):
                callback.best_weights = best
        self._history = state["history"]


def restore_finished(model: Any, log_dir: Path) -> None:
    """Gives a model the weights and the optimizer of a training that ended and was not saved.

    Args:
        model: built and compiled as for that training; changed in place.
        log_dir: the run's folder.

    Raises:
        UserError: when the end of that training is gone, or is another model's.
    """
    if not (log_dir / FINISHED).exists():
        raise UserError(
            f"{log_dir}: {FINISHED}, the end of its training, is gone. Remove this folder to train "
            "anew."
        )
    _restore(model, log_dir / FINISHED)


def _restore(model: Any, file: Path) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Puts back all variables; gives the rest of the state, and the best weights."""
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    state, arrays = _read(file)
    variables = _variables(model)
    kept, best = arrays[: len(variables)], arrays[len(variables) :]
    if [x.shape for x in kept] != [tuple(x.shape) for x in variables]:
        raise UserError(
            f"{file}: belongs to the interrupted training of another model. Train this one with "
            "another log_dir."
        )
    for variable, value in zip(variables, kept, strict=True):
        variable.assign(value)
    return state, best


def _read(file: Path) -> tuple[dict[str, Any], list[np.ndarray]]:
    try:
        with np.load(file, allow_pickle=False) as content:
            state, *arrays = (content[f"arr_{i}"] for i in range(len(content)))
            return json.loads(str(state)), arrays
    except Exception as error:  # Zip, NumPy and JSON each have errors of their own.
        raise UserError(
            f"{file}: is damaged ({error}). Remove it and the folder's other files to train anew."
        ) from None


def _variables(model: Any) -> list[Any]:
    return [*model.variables, *model.optimizer.variables]


def _best_weights(callback: keras.callbacks.Callback) -> list[np.ndarray]:
    return getattr(callback, "best_weights", None) or []
