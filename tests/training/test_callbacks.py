import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from crackclf.training.callbacks import build_callbacks


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small model trained on chance for eight epochs, with all callbacks."""
    keras.utils.set_random_seed(0)
    head = keras.layers.Dense(2, activation="softmax", kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((4,)), head])
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(16, 4)), np.eye(2)[rng.integers(0, 2, 16)]
    folder = tmp_path_factory.mktemp("logs") / "run"
    # Trained away from the validation labels, so that the first epoch is the best.
    history = model.fit(
        x,
        y,
        batch_size=4,
        epochs=8,
        validation_data=(x, 1 - y),
        validation_batch_size=8,
        callbacks=build_callbacks(folder, patience=2),
        verbose=0,
    )
    return folder, model, history.history, (x, 1 - y)


def scalars(folder) -> dict[str, int]:
    """Number of points by tag."""
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    return {tag: len(events.Tensors(tag)) for tag in events.Tags()["tensors"]}


def test_event_files_hold_every_batch_and_every_epoch_of_both_sets(run):
    folder, _, history, _ = run
    epochs = len(history["loss"])
    train, validation = scalars(folder / "train"), scalars(folder / "validation")
    for name in ("loss", "accuracy"):
        assert train[f"batch_{name}"] == 4 * epochs
        assert validation[f"batch_{name}"] == 2 * epochs
        assert train[f"epoch_{name}"] == validation[f"epoch_{name}"] == epochs


def test_training_stops_early_and_goes_back_to_the_best_epoch(run):
    _, model, history, data = run
    assert len(history["loss"]) == 3
    assert model.evaluate(*data, verbose=0)[0] == pytest.approx(history["val_loss"][0], rel=1e-5)


def test_the_best_model_is_on_disk(run):
    folder, _, history, data = run
    best = keras.saving.load_model(folder / "best.keras")
    assert best.evaluate(*data, verbose=0)[0] == pytest.approx(min(history["val_loss"]), rel=1e-5)


def test_the_history_is_a_table(run):
    folder, _, history, _ = run
    lines = (folder / "history.csv").read_text().splitlines()
    assert lines[0] == "epoch,accuracy,loss,val_accuracy,val_loss"
    assert len(lines) == 1 + len(history["loss"])
