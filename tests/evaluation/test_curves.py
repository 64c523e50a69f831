import json

import keras
import numpy as np
import pytest

from crackclf.errors import UserError
from crackclf.evaluation.curves import diagnose, read_curves


def curves(validation, training=None) -> dict[str, list[float]]:
    training = np.geomspace(1, 0.01, len(validation)) if training is None else training
    return {"loss": list(training), "val_loss": list(validation)}


@pytest.fixture(scope="module")
def keras_run(tmp_path_factory):
    from crackclf.training.callbacks import build_callbacks

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, activation="softmax")])
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    x, y = np.random.default_rng(0).normal(size=(8, 4)), np.eye(2)[[0, 1] * 4]
    folder = tmp_path_factory.mktemp("logs") / "run"
    history = None
    for _ in range(2):  # The second run writes the same epochs again, in files of its own.
        (folder / "history.csv").unlink(missing_ok=True)
        callbacks = build_callbacks(folder, patience=None)
        history = model.fit(
            x, y, epochs=4, validation_data=(x, y), callbacks=callbacks, verbose=0
        ).history
    return folder, history


def test_curves_come_back_from_the_event_files_of_keras(keras_run):
    folder, history = keras_run
    read = read_curves(folder)
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= read.keys()
    for name, values in history.items():
        np.testing.assert_allclose(read[name], values, rtol=1e-6)


def test_an_epoch_that_was_not_finished_is_left_out(keras_run, tmp_path):
    import shutil

    import tensorflow as tf

    folder = shutil.copytree(keras_run[0], tmp_path / "killed")
    with tf.summary.create_file_writer(str(folder / "train")).as_default():
        tf.summary.scalar("epoch_loss", 0.5, step=4)
    assert {len(values) for values in read_curves(folder).values()} == {4}


def test_curves_come_back_from_the_event_files_of_pytorch(tmp_path):
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    for subset, offset in {"train": 0.0, "validation": 0.5}.items():
        with tensorboard.SummaryWriter(tmp_path / subset) as writer:
            for epoch in range(3):
                writer.add_scalar("epoch_loss", offset + epoch, epoch)
                writer.add_scalar("batch_loss", 9, epoch)
    assert read_curves(tmp_path) == {"loss": [0, 1, 2], "val_loss": [0.5, 1.5, 2.5]}


def test_a_folder_without_curves_is_named(tmp_path):
    with pytest.raises(UserError, match=r"train: holds no event files. Expected the folder of a"):
        read_curves(tmp_path)


def test_a_turned_curve_is_called_overfitting_with_its_numbers():
    validation = [0.6, 0.4, 0.3, 0.28, 0.31, 0.36, 0.42, 0.47, 0.55]
    training = [0.6, 0.38, 0.25, 0.18, 0.12, 0.08, 0.05, 0.04, 0.03]
    said = diagnose(curves(validation, training))
    assert (said.epochs, said.best_epoch, said.best_loss) == (9, 4, 0.28)
    assert said.turned
    assert said.gap == pytest.approx(0.10)
    assert said.last_gap == pytest.approx(0.48 - 0.04)
    assert not said.still_improving
    assert "0.2800, in epoch 4 of 9; mean of the last 3 epochs 0.4800" in str(said)
    assert "overfitting: validation loss has risen since epoch 4" in str(said)


def test_a_falling_curve_is_still_improving():
    said = diagnose(curves(np.geomspace(1, 0.3, 12)))
    assert said.still_improving
    assert said.turned is None
    assert "still improving" in str(said)


def test_a_flat_noisy_curve_shows_nothing_but_noise():
    rng = np.random.default_rng(0)
    noise = [diagnose(curves(0.3 + 0.06 * rng.normal(size=20))) for _ in range(300)]
    assert np.mean([bool(said.turned) for said in noise]) < 0.08
    assert np.mean([bool(said.still_improving) for said in noise]) < 0.04
    assert np.mean([said.noisy for said in noise]) > 0.9
    assert np.median([said.scatter for said in noise]) == pytest.approx(0.06, rel=0.15)


def test_a_rise_of_next_to_nothing_is_no_overfitting():
    said = diagnose(curves([0.5, 0.2, 0.1, *np.linspace(0.1, 0.101, 12)]))
    assert said.turned is False
    assert "neither rises nor falls" in str(said)


def test_few_epochs_bear_no_verdict():
    said = diagnose(curves([0.5, 0.3, 0.6, 0.9, 1.2]))
    assert (said.turned, said.still_improving, said.scatter) == (None, None, None)
    assert "fewer than 6 epochs" in str(said)
    assert "mean of the last 2 epochs 0.4000" in str(diagnose(curves([0.5, 0.3])))
    json.dumps(said.__dict__)


def test_too_few_epochs_after_the_best_bear_no_verdict():
    said = diagnose(curves([0.6, 0.5, 0.45, 0.44, 0.3, 0.5]))
    assert said.turned is None


@pytest.mark.parametrize("history", [{}, curves([]), curves([0.5, float("nan")])])
def test_no_epochs_and_no_numbers_are_refused(history):
    with pytest.raises(UserError, match="finite values"):
        diagnose(history)
