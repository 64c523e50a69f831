import json
from pathlib import Path

import keras
import numpy as np
import pytest

from crackclf.data.datasets import load_datasets
from crackclf.errors import UserError
from crackclf.models.classifier import build_model
from crackclf.training.fit import train
from crackclf.training.pipeline import train_folder

SMALL = {"image_size": 32, "batch_size": 8, "weights": None}


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_becomes_a_tested_and_saved_model(sample, inside):
    folder, classifier, report = train_folder(sample, epochs=2, **SMALL)
    assert folder == Path("saved_models/mobilenetv2-1")
    assert {path.name for path in folder.iterdir()} == {
        "model.keras",
        "card.json",
        "history.csv",
        "split.csv",
        "curves.png",
        "confusion_matrix.png",
        "roc_pr.png",
        "misclassified.png",
    }
    card = json.loads((folder / "card.json").read_text())
    assert card["metrics"]["test"]["accuracy"] == report.accuracy
    assert card["backbone"] == "mobilenetv2"
    assert card["weights_origin"] == "random initialisation"
    assert len((folder / "history.csv").read_text().splitlines()) == 3
    assert report.n == 10
    assert classifier.card.positive_class == "Positive"
    assert train_folder(sample, epochs=1, **SMALL)[0] == Path("saved_models/mobilenetv2-2")


def test_an_existing_model_is_refused_before_training(sample, inside):
    (inside / "saved_models" / "a").mkdir(parents=True)
    with pytest.raises(UserError, match="overwrites no model"):
        train_folder(sample, "saved_models/a", **SMALL)
    assert not (inside / "logs").exists()


def test_an_interrupted_run_goes_on_where_it_stopped(sample, capsys, monkeypatch):
    class Killed(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    from crackclf.training import pipeline

    build = pipeline.build_callbacks
    monkeypatch.setattr(pipeline, "build_callbacks", lambda logs: [*build(logs), Killed()])
    with pytest.raises(KeyboardInterrupt):
        train_folder(sample, epochs=3, **SMALL)
    monkeypatch.setattr(pipeline, "build_callbacks", build)
    folder = train_folder(sample, epochs=3, **SMALL)[0]
    assert folder == Path("saved_models/mobilenetv2-1")
    assert "going on with the interrupted run" in capsys.readouterr().err
    epochs = [line.split(",")[0] for line in (folder / "history.csv").read_text().splitlines()]
    assert epochs == ["epoch", "0", "1", "2"]


def test_the_logs_of_another_run_are_not_mixed_in(sample, inside):
    (inside / "logs" / "a").mkdir(parents=True)
    with pytest.raises(UserError, match="curves of another run"):
        train_folder(sample, "saved_models/a", **SMALL)


def test_a_finished_run_is_not_gone_on_with(sample, inside):
    out = train_folder(sample, epochs=1, **SMALL)[0]
    out.rename("elsewhere")
    with pytest.raises(UserError, match="curves of another run"):
        train_folder(sample, out, epochs=1, **SMALL)
    assert train_folder(sample, epochs=1, **SMALL)[0].name == "mobilenetv2-2"


def test_no_epoch_at_all_is_refused(sample):
    with pytest.raises(UserError, match="epochs must be at least 1"):
        train_folder(sample, epochs=0, **SMALL)


def test_sizes_that_do_not_fit_are_said_before_training(sample):
    data = load_datasets(sample, image_size=40)
    with pytest.raises(UserError, match="32 pixels, the data were loaded at 40"):
        train(build_model(32, weights=None), data, [])


def test_a_loss_that_is_no_number_is_an_error(sample):
    data = load_datasets(sample, image_size=32)
    model = build_model(32, weights=None)
    model.get_layer("probabilities").bias.assign(np.full(2, np.nan))
    with pytest.raises(UserError, match="smaller learning rate"):
        train(model, data, [], epochs=1)
