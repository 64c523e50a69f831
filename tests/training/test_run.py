import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from filelock import FileLock

from conftest import save_noise
from crackclf.data.datasets import load_datasets
from crackclf.errors import UserError
from crackclf.models.classifier import build_model
from crackclf.saved.store import load_keras_model
from crackclf.training.fit import train
from crackclf.training.run import train_folder
from crackclf.training.settings import TrainSettings

SMALL = {"image_size": 32, "batch_size": 8, "weights": "random"}


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_becomes_a_tested_and_saved_model(sample, inside):
    folder, classifier, report = train_folder(sample, epochs=2, **SMALL)
    assert folder == Path("saved_models/mobilenetv2-1")
    assert {path.name for path in folder.iterdir()} == {
        "model.keras",
        "model.tflite",
        "card.json",
        "settings.json",
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

    folder.rename("elsewhere")
    with pytest.raises(UserError, match="curves of another run"):  # It is finished, not begun.
        train_folder(sample, folder, epochs=2, **SMALL)
    assert train_folder(sample, epochs=2, **SMALL)[0] == Path("saved_models/mobilenetv2-2")


def test_an_existing_model_is_refused_before_training(sample, inside):
    (inside / "saved_models" / "a").mkdir(parents=True)
    with pytest.raises(UserError, match="overwrites no model"):
        train_folder(sample, "saved_models/a", **SMALL)
    assert not (inside / "logs").exists()


KILL = """
import os, signal
import keras
from crackclf.training import run as pipeline

class Kill(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            os.kill(os.getpid(), signal.SIGKILL)

build = pipeline.build_callbacks
pipeline.build_callbacks = lambda logs: [Kill(), *build(logs)]
settings = {"epochs": 3, "image_size": 32, "batch_size": 8, "weights": "random", "views": 1}
pipeline.train_folder("a", "saved_models/a", **settings)
"""


def test_a_killed_run_ends_bit_for_bit_as_one_that_never_was(sample, inside, capsys):
    """Nothing depends on more than seed and machine: not on the process, nor on the cache."""
    for name in ("a", "b"):  # Each with a feature cache of its own.
        shutil.copytree(sample, name, ignore=shutil.ignore_patterns(".crackclf"))
    killed = subprocess.run([sys.executable, "-c", KILL], cwd=inside, check=False)
    assert killed.returncode == -signal.SIGKILL
    ours, whole = (train_folder(x, f"saved_models/{x}", epochs=3, views=1, **SMALL) for x in "ab")
    assert "going on with the interrupted run in logs/a" in capsys.readouterr().err
    a, b = (load_keras_model(folder).get_weights() for folder, *_ in (ours, whole))
    for ours_, theirs in zip(a, b, strict=True):
        np.testing.assert_array_equal(ours_, theirs)
    for name in ("history.csv", "confusion_matrix.png"):
        assert (ours[0] / name).read_bytes() == (whole[0] / name).read_bytes()


def test_images_come_in_the_same_order_to_a_training_that_goes_on(sample):
    data = load_datasets(sample, 8, 8)
    epochs = [[y.numpy() for _, y in data.train] for _ in range(3)]
    again = load_datasets(sample, 8, 8).train
    for _ in range(2):  # Begun, not gone through.
        iter(again)
    goes_on = [y.numpy() for _, y in again.repeat().take(len(again))]
    for theirs, ours in zip(epochs[2], goes_on, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert any(len(a) != len(b) or (a != b).any() for a, b in zip(*epochs[:2], strict=True))


def test_killed_before_it_was_saved_it_is_not_trained_again(sample, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("crackclf.training.run.save_run", killed)
        with pytest.raises(KeyboardInterrupt):
            train_folder(sample, epochs=2, **SMALL)
    best = Path("logs/mobilenetv2-1/best.keras").rename("best.keras")
    with pytest.raises(UserError, match="its best checkpoint is gone"):
        train_folder(sample, epochs=2, **SMALL)
    best.rename("logs/mobilenetv2-1/best.keras")
    with monkeypatch.context() as patch:
        patch.setattr("crackclf.training.run.train", killed)
        folder, _, report = train_folder(sample, epochs=2, **SMALL)
    assert folder.name == "mobilenetv2-1"
    best = keras.saving.load_model("logs/mobilenetv2-1/best.keras")
    saved = load_keras_model(folder)
    for a, b in zip(saved.get_weights(), best.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len((folder / "history.csv").read_text().splitlines()) == 3
    assert report.n == 10


@pytest.mark.parametrize("changed", ["images", "base weights"])
def test_a_run_does_not_go_on_with_something_else(sample, inside, monkeypatch, changed):
    def killed(*_):
        raise KeyboardInterrupt

    shutil.copytree(sample, "data", ignore=lambda *_: [".crackclf"])
    with monkeypatch.context() as patch:
        patch.setattr("crackclf.training.run.train", killed)
        with pytest.raises(KeyboardInterrupt):
            train_folder("data", **SMALL)
    facts = json.loads((inside / "logs" / "mobilenetv2-1" / "run.json").read_text())
    if changed == "images":
        save_noise(inside / "data" / "Positive" / "new.png", 0)
    else:
        (inside / "logs" / "mobilenetv2-1" / "run.json").write_text(
            json.dumps(facts | {"base weights": "ImageNet"})
        )
    with pytest.raises(UserError, match=f"began with other {changed}"):
        train_folder("data", **SMALL)


def test_two_processes_do_not_train_into_one_folder(sample, inside):
    (inside / "logs" / "mobilenetv2-1").mkdir(parents=True)
    with (
        FileLock(inside / "logs" / "mobilenetv2-1" / ".lock"),
        pytest.raises(UserError, match="another crackclf is running this training"),
    ):
        train_folder(sample, **SMALL)


def test_models_of_one_name_in_two_folders_do_not_share_their_logs(sample, inside):
    for folder in ("a/m", "b/m"):
        train_folder(sample, folder, epochs=1, **SMALL)
    assert {path.name for path in (inside / "logs").iterdir()} == {"m", "m-2"}
    outs = [json.loads((inside / "logs" / x / "run.json").read_text())["out"] for x in ("m", "m-2")]
    assert outs == [str(inside / "a" / "m"), str(inside / "b" / "m")]


def test_a_run_with_other_settings_is_refused_and_they_are_named(sample, inside, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("crackclf.training.run.train", killed)
        with pytest.raises(KeyboardInterrupt):
            train_folder(sample, "saved_models/a", epochs=2, **SMALL)
    with pytest.raises(UserError, match=r"other settings is here: epochs \(2, now 3\)\."):
        train_folder(sample, "saved_models/a", epochs=3, **SMALL)


def test_the_settings_beside_a_model_repeat_its_training(sample, inside):
    first, _, report = train_folder(sample, epochs=2, seed=5, **SMALL)
    settings = TrainSettings.read(first / "settings.json")
    assert settings == TrainSettings(epochs=2, seed=5, **SMALL)
    _, _, again = train_folder(sample, "saved_models/again", **settings.to_dict())
    assert again.to_dict() == report.to_dict()


@pytest.mark.parametrize("text", ["{", "[1]", '{"epoch": 3}', '{"epochs": 0}', '{"epochs": "x"}'])
def test_a_file_of_other_settings_is_refused(text, inside):
    (inside / "settings.json").write_text(text)
    with pytest.raises(UserError, match=r"settings\.json: "):
        TrainSettings.read(inside / "settings.json")


def test_the_logs_of_another_run_are_not_mixed_in(sample, inside):
    save_noise(inside / "logs" / "a" / "mine.png", 0)
    with pytest.raises(UserError, match="curves of another run"):
        train_folder(sample, "saved_models/a", **SMALL)


def test_no_epoch_at_all_is_refused(sample):
    with pytest.raises(UserError, match="epochs must be at least 1"):
        train_folder(sample, epochs=0, **SMALL)


def test_sizes_that_do_not_fit_are_said_before_training(sample):
    data = load_datasets(sample, image_size=40)
    with pytest.raises(UserError, match="32 pixels, the data were loaded at 40"):
        train(build_model(32, weights="random"), data, [])


def test_a_loss_that_is_no_number_is_an_error(sample):
    data = load_datasets(sample, image_size=32)
    model = build_model(32, weights="random")
    model.get_layer("probabilities").bias.assign(np.full(2, np.nan))
    with pytest.raises(UserError, match="smaller learning rate"):
        train(model, data, [], epochs=1)
