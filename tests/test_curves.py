import json

import keras
import numpy as np
import pytest

from crackclf.curves import diagnose, read_curves
from crackclf.errors import UserError


def curves(validation, training=None) -> dict[str, list[float]]:
    training = np.geomspace(1, 0.01, len(validation)) if training is None else training
    return {"loss": list(training), "val_loss": list(validation)}


def test_the_curves_of_a_run_come_back_as_keras_gave_them(tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, activation="softmax")])
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    x, y = np.random.default_rng(0).normal(size=(8, 4)), np.eye(2)[[0, 1] * 4]
    table = keras.callbacks.CSVLogger(tmp_path / "history.csv")
    trained = model.fit(x, y, epochs=3, validation_data=(x, y), callbacks=[table], verbose=0)
    for place in (tmp_path, tmp_path / "history.csv"):
        read = read_curves(place)
        assert read.keys() == {"loss", "accuracy", "val_loss", "val_accuracy"}
        for name, values in trained.history.items():
            assert read[name] == pytest.approx(values)


def test_an_epoch_that_was_trained_twice_has_its_last_value(tmp_path):
    (tmp_path / "history.csv").write_text("epoch,loss,val_loss\n0,0.9,0.9\n1,0.5,0.6\n1,0.4,0.7\n")
    assert read_curves(tmp_path) == {"loss": [0.9, 0.4], "val_loss": [0.9, 0.7]}


@pytest.mark.parametrize(
    ("text", "expected"), [("epoch,loss,val_loss\n0,0.5,NA\n", {"loss": [0.5]}), ("", {})]
)
def test_what_was_not_measured_is_left_out(tmp_path, text, expected):
    (tmp_path / "history.csv").write_text(text)
    assert read_curves(tmp_path) == expected


def test_a_folder_without_curves_is_named(tmp_path):
    with pytest.raises(UserError, match=r"history.csv: no such file. Name the folder of a run"):
        read_curves(tmp_path)


def test_a_turned_curve_is_called_overfitting_with_its_numbers():
    validation = [0.6, 0.4, 0.3, 0.28, 0.31, 0.36, 0.42, 0.47, 0.55]
    training = [0.6, 0.38, 0.25, 0.18, 0.12, 0.08, 0.05, 0.04, 0.03]
    said = diagnose(curves(validation, training))
    assert (said.epochs, said.best_epoch, said.best_loss) == (9, 4, 0.28)
    assert said.trend == "overfitting"
    assert said.gap == pytest.approx(0.10)
    assert said.last_gap == pytest.approx(0.48 - 0.04)
    assert "0.2800, in epoch 4 of 9; mean of the last 3 epochs 0.4800" in str(said)
    assert "trend of validation loss: overfitting" in str(said)


def test_a_falling_curve_is_still_improving():
    said = diagnose(curves(np.geomspace(1, 0.3, 12)))
    assert said.trend == "still improving"


def test_a_flat_noisy_curve_shows_nothing_but_noise():
    rng = np.random.default_rng(0)
    noise = [diagnose(curves(0.3 + 0.06 * rng.normal(size=20))).trend for _ in range(300)]
    assert noise.count("overfitting") < 24
    assert noise.count("still improving") < 12


def test_a_rise_of_next_to_nothing_is_no_overfitting():
    said = diagnose(curves([0.5, 0.2, 0.1, *np.linspace(0.1, 0.101, 12)]))
    assert said.trend == "flat"


def test_few_epochs_bear_no_verdict():
    said = diagnose(curves([0.5, 0.3, 0.6, 0.9, 1.2]))
    assert said.trend == "unknown"
    assert "mean of the last 2 epochs 0.4000" in str(diagnose(curves([0.5, 0.3])))
    json.dumps(said.__dict__)


@pytest.mark.parametrize("history", [{}, curves([]), curves([0.5, float("nan")])])
def test_no_epochs_and_no_numbers_are_refused(history):
    with pytest.raises(UserError, match="finite values"):
        diagnose(history)
