import shutil

import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from crackclf.callbacks import build_callbacks
from crackclf.errors import UserError


class Stop(BaseException):
    """Ends a training without any of its callbacks' last words."""


class StopAt(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise Stop


def fit(folder, *more, epochs=8, patience=2, validation=True):
    """A small model on chance, away from the validation labels, so that the first epoch is best."""
    keras.utils.set_random_seed(0)
    head = keras.layers.Dense(2, activation="softmax", kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((4,)), head])
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(16, 4)), np.eye(2)[rng.integers(0, 2, 16)]
    history = model.fit(
        x,
        y,
        batch_size=4,
        epochs=epochs,
        validation_data=(x, 1 - y) if validation else None,
        callbacks=[*build_callbacks(folder, patience), *more],
        verbose=0,
    )
    return model, history.history, (x, 1 - y)


def count_points(folder) -> dict[str, int]:
    """Number of points by tag."""
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    return {tag: len(events.Tensors(tag)) for tag in events.Tags()["tensors"]}


def test_a_run_stops_early_goes_back_to_its_best_epoch_and_keeps_that_on_disk(tmp_path):
    model, history, data = fit(tmp_path)
    assert len(history["loss"]) == 3
    lowest = pytest.approx(min(history["val_loss"]), rel=1e-5)
    assert history["val_loss"][0] == lowest
    assert model.evaluate(*data, verbose=0)[0] == lowest
    assert keras.saving.load_model(tmp_path / "best.keras").evaluate(*data, verbose=0)[0] == lowest
    lines = (tmp_path / "history.csv").read_text().splitlines()
    assert lines[0] == "epoch,accuracy,loss,val_accuracy,val_loss"
    assert [line[0] for line in lines[1:]] == ["0", "1", "2"]
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"best.keras", "history.csv", "train", "validation"}
    with pytest.raises(UserError, match="holds the curves of another run"):
        build_callbacks(tmp_path)
    # The event files hold every training batch, and every epoch of both sets.
    assert count_points(tmp_path / "train") == {
        **{"batch_loss": 12, "batch_accuracy": 12},
        **{"epoch_loss": 3, "epoch_accuracy": 3, "epoch_learning_rate": 3},
    }
    assert count_points(tmp_path / "validation") == {
        **{"epoch_loss": 3, "epoch_accuracy": 3},
        **{"evaluation_loss_vs_iterations": 3, "evaluation_accuracy_vs_iterations": 3},
    }


def test_without_patience_and_validation_all_epochs_are_trained(tmp_path):
    _, history, (x, opposite) = fit(tmp_path, epochs=5, patience=None, validation=False)
    assert len(history["loss"]) == 5
    best = keras.saving.load_model(tmp_path / "best.keras")
    assert best.evaluate(x, 1 - opposite, verbose=0)[0] < history["loss"][0]


def test_an_interrupted_run_goes_on_from_its_last_epoch_and_keeps_its_best_model(tmp_path):
    with pytest.raises(Stop):
        fit(tmp_path, StopAt(2), patience=5)
    best = (tmp_path / "best.keras").read_bytes()
    _, history, _ = fit(tmp_path, epochs=4, patience=5)
    assert len(history["loss"]) == 2  # Epochs 2 and 3.
    lines = (tmp_path / "history.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch", "0", "1", "2", "3"]
    assert (tmp_path / "best.keras").read_bytes() == best  # The first epoch was better than these.
    assert not (tmp_path / "backup").exists()


def test_a_run_killed_in_its_first_backup_starts_again(tmp_path):
    with pytest.raises(Stop):
        fit(tmp_path, StopAt(1))
    (tmp_path / "backup" / "training_metadata.json").unlink()  # Keras writes it last.
    (tmp_path / "backup" / "latest.weights.h5").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("mine")
    _, history, _ = fit(tmp_path, epochs=2)
    assert len(history["loss"]) == 2
    assert [x[0] for x in (tmp_path / "history.csv").read_text().splitlines()] == ["e", "0", "1"]
    assert len(list((tmp_path / "train").iterdir())) == 1
    assert (tmp_path / "notes.txt").exists()


def test_a_full_disk_leaves_the_last_best_model_readable(small_disk):
    class Fill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                (small_disk / "hog").write_bytes(bytes(shutil.disk_usage(small_disk).free))

    with pytest.raises(OSError, match=r"(?i)space|write"):
        fit(small_disk / "run", Fill(), patience=None, validation=False)
    keras.saving.load_model(small_disk / "run" / "best.keras")
