import csv
import os
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from crackclf.errors import UserError
from crackclf.training.callbacks import build_callbacks
from crackclf.training.logs import Run

EPOCHS, BATCHES = 6, 4


class Killed(BaseException):
    pass


class Killer(keras.callbacks.Callback):
    """Raises at the n-th of the moments at which a callback is called."""

    def __init__(self, at: int):
        super().__init__()
        self.at, self.moments = at, 0

    def _count(self, *_, **__):
        self.moments += 1
        if self.moments == self.at:
            raise Killed

    on_train_begin = on_epoch_begin = on_train_batch_end = on_test_begin = on_epoch_end = _count


def fit(folder: Path, *more: keras.callbacks.Callback, first: bool = True) -> keras.Model:
    """Trains a small network with all that is random in one: its start, its data, its dropout."""
    keras.utils.set_random_seed(2)
    layers = [keras.layers.Dense(8), keras.layers.Dropout(0.3), keras.layers.Dense(2, "softmax")]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(keras.optimizers.Adam(0.05), "categorical_crossentropy", metrics=["accuracy"])
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(16, 4)).astype(np.float32), np.eye(2)[rng.integers(0, 2, 16)]
    # As `train` does it.
    training = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(16, seed=2).batch(16 // BATCHES)
    callbacks = build_callbacks(folder, patience=2)
    first_epoch = callbacks[-1].first_epoch(EPOCHS)
    for _ in range(first_epoch):
        iter(training)
    # The killer stands first or last, so that all the others have had their turn or none has.
    callbacks = [*more, *callbacks] if first else [*callbacks, *more]
    # Labels learnt by heart: validation gets better, then worse, and training stops early.
    model.fit(
        training.repeat(),
        steps_per_epoch=BATCHES,
        validation_data=(x, np.roll(y, 1, axis=0)),
        epochs=EPOCHS,
        initial_epoch=first_epoch,
        callbacks=callbacks,
        verbose=0,
        shuffle=False,
    )
    return model


def series(folder: Path) -> dict[str, list[tuple[int, float]]]:
    found = {}
    for part in ("train", "validation"):
        events = EventAccumulator(str(folder / part), size_guidance={"tensors": 0}).Reload()
        for tag in events.Tags()["tensors"]:
            found[f"{part}/{tag}"] = [
                (event.step, float(tf.make_ndarray(event.tensor_proto)))
                for event in events.Tensors(tag)
            ]
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A training that was never killed, and its number of moments."""
    folder = tmp_path_factory.mktemp("logs") / "whole"
    counter = Killer(0)
    return folder, fit(folder, counter), counter.moments


def assert_same(folder: Path, model: keras.Model, whole) -> None:
    reference, other, _ = whole
    assert model.history.history == other.history.history
    assert model.history.epoch == other.history.epoch
    for ours, theirs in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert (folder / "history.csv").read_text() == (reference / "history.csv").read_text()
    # Files that one process began within one second are not read in their order.
    ours, theirs = (
        {tag: sorted(points) for tag, points in series(x).items()} for x in (folder, reference)
    )
    assert ours == theirs
    best = [keras.saving.load_model(path / "best.keras") for path in (folder, reference)]
    for ours, theirs in zip(*(model.get_weights() for model in best), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not (folder / "backup.npz").exists()


def test_it_stops_early_after_some_epochs_got_better(whole):
    folder, model, moments = whole
    losses = model.history.history["val_loss"]
    assert moments == 1 + 7 * len(losses) == 36
    assert 0 < np.argmin(losses) < len(losses) - 1
    assert len(losses) < EPOCHS
    assert len(list(csv.DictReader((folder / "history.csv").open()))) == len(losses)


@pytest.mark.parametrize(
    ("moment", "first"),
    # An epoch has seven moments. In the first one; at the end of the second, before and after the
    # other callbacks were called; in the third; when all is done.
    [(4, True), (15, True), (15, False), (18, True), (36, False)],
)
def test_killed_at_any_moment_it_ends_as_if_it_never_was(whole, tmp_path, moment, first):
    with pytest.raises(Killed):
        fit(tmp_path, Killer(moment), first=first)
    assert_same(tmp_path, fit(tmp_path), whole)


def test_killed_again_and_again_it_ends_as_if_it_never_was(whole, tmp_path):
    while True:
        try:
            model = fit(tmp_path, Killer(2 * 7 + 3))
        except Killed:
            continue
        break
    assert_same(tmp_path, model, whole)


def test_the_backup_of_another_model_is_refused(tmp_path):
    with pytest.raises(Killed):
        fit(tmp_path, Killer(BATCHES + 5))
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, "softmax")])
    model.compile("adam", "categorical_crossentropy")
    kept = (tmp_path / "backup.npz").read_bytes()
    callbacks = build_callbacks(tmp_path)
    with pytest.raises(UserError, match=r"holds an interrupted training\. Call `train`"):
        model.fit(np.zeros((4, 4)), np.zeros((4, 2)), callbacks=callbacks, verbose=0)
    callbacks[-1].first_epoch(1)
    with pytest.raises(UserError, match=r"backup\.npz: belongs to .* another model"):
        model.fit(np.zeros((4, 4)), np.zeros((4, 2)), callbacks=callbacks, verbose=0)
    assert (tmp_path / "backup.npz").read_bytes() == kept


def test_a_damaged_backup_is_named(tmp_path):
    with pytest.raises(Killed):
        fit(tmp_path, Killer(BATCHES + 5))
    os.truncate(tmp_path / "backup.npz", 300)
    with pytest.raises(UserError, match=r"backup\.npz: is damaged"):
        fit(tmp_path)


def test_on_a_disk_that_fills_up_it_stops_and_goes_on(whole, small_disk):
    class Fill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                (small_disk / "hog").write_bytes(bytes(shutil.disk_usage(small_disk).free))

    run = Run(small_disk / "run", {})
    with (
        pytest.raises(UserError, match=r"run: the training stopped .*No space left.*to go on"),
        run.going({}),
    ):
        fit(small_disk / "run", Fill())
    keras.saving.load_model(small_disk / "run" / "best.keras")
    (small_disk / "hog").unlink()
    assert_same(small_disk / "run", fit(small_disk / "run"), whole)
