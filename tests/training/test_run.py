import csv
import json
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest
from filelock import FileLock

from conftest import save_noise
from crackclf.data.datasets import Datasets
from crackclf.data.loading import load_datasets
from crackclf.errors import UserError
from crackclf.models.classifier import build_model
from crackclf.prediction.evaluate import evaluate
from crackclf.prediction.predict import predict
from crackclf.saved.store import load_keras_model
from crackclf.training.callbacks import build_callbacks
from crackclf.training.fit import count_views, predict_features, train, weigh_classes
from crackclf.training.run import train_folder
from crackclf.training.settings import TrainSettings

# Without views: to have them drawn takes seconds before the first one.
SMALL = {
    "image_size": 32,
    "batch_size": 8,
    "backbone": "tiny",
    "weights": "random",
    "augmentation": False,
}
build = partial(build_model, 32, "tiny", "random")


@pytest.fixture(autouse=True)
def inside(tiny, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_becomes_a_tested_and_saved_model(sample, inside):
    folder, classifier, report = train_folder(sample, epochs=2, **SMALL)
    assert folder == Path("saved_models/tiny-1")
    assert {path.name for path in folder.iterdir()} == {
        "model.keras",
        "model.tflite",
        "card.json",
        "settings.json",
        "history.csv",
        "split.csv",
        "curves.png",
        "calibration.png",
        "confusion_matrix.png",
        "roc_pr.png",
        "misclassified.png",
    }
    card = json.loads((folder / "card.json").read_text())
    assert card["metrics"]["test"]["accuracy"] == report.accuracy
    assert card["backbone"] == "tiny"
    assert card["weights_origin"] == "random initialisation"
    assert len((folder / "history.csv").read_text().splitlines()) == 3
    assert report.n == 10
    assert classifier.card.positive_class == "Positive"

    folder.rename("elsewhere")
    with pytest.raises(UserError, match="curves of another run"):  # It is finished, not begun.
        train_folder(sample, folder, epochs=2, **SMALL)
    assert train_folder(sample, epochs=2, **SMALL)[0] == Path("saved_models/tiny-2")


def test_an_existing_model_is_refused_before_training(sample, inside):
    (inside / "saved_models" / "a").mkdir(parents=True)
    with pytest.raises(UserError, match="overwrites no model"):
        train_folder(sample, "saved_models/a", **SMALL)
    assert not (inside / "logs").exists()


KILL = """
import os, signal, sys
import keras
from crackclf.models.backbones import BACKBONES
from crackclf.training import stages
from crackclf.training.run import train_folder
from tiny import TINY

class Kill(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        os.kill(os.getpid(), signal.SIGKILL)

build = stages.build_callbacks
stages.build_callbacks = lambda logs, patience: [
    *([Kill()] if str(logs) == sys.argv[1] else []), *build(logs, patience)
]
BACKBONES["tiny"] = TINY
train_folder("a", "saved_models/a", **eval(sys.argv[2]))
"""
TWO = {**SMALL, "epochs": 2, "views": 2, "augmentation": True}
TUNED = {**TWO, "fine_tune": 1}


@pytest.mark.parametrize(
    ("settings", "stages"),
    [
        (TWO, ["logs/a"]),
        (
            {**TUNED, "folds": 3},
            ["logs/a/fold-2/fine-tuned", "logs/a"],
        ),
    ],
    ids=["one stage", "folds of two stages"],
)
def test_a_killed_run_ends_bit_for_bit_as_one_that_never_was(
    settings, stages, sample, inside, capsys, monkeypatch
):
    """Nothing depends on more than seed and machine: not on the process, nor on the cache."""
    for name in ("a", "b"):  # Each with a feature cache of its own.
        shutil.copytree(sample, name, ignore=shutil.ignore_patterns(".crackclf"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    for stage in stages:
        command = [sys.executable, "-c", KILL, stage, repr(settings)]
        killed = subprocess.run(command, cwd=inside, check=False, capture_output=True)
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
    ours, whole = (train_folder(x, f"saved_models/{x}", **settings) for x in "ab")
    assert "going on with the interrupted run in logs/a" in capsys.readouterr().err
    a, b = (load_keras_model(folder) for folder, *_ in (ours, whole))
    a, b = ([*x.weights, *x.optimizer.variables] for x in (a, b))
    for ours_, theirs in zip(a, b, strict=True):
        np.testing.assert_array_equal(ours_, theirs)
    for name in ("history.csv", "confusion_matrix.png"):
        assert (ours[0] / name).read_bytes() == (whole[0] / name).read_bytes()
    assert ours[2].loss == whole[2].loss


def test_fine_tuning_is_the_second_stage_of_the_same_run(sample, inside):
    folder, _, _ = train_folder(sample, "saved_models/a", **TUNED)
    assert {path.name for path in (inside / "logs" / "a" / "fine-tuned").iterdir()} >= {
        "train",
        "validation",
        "best.keras",
        "history.csv",
    }
    rows = (folder / "history.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["epoch", *map(str, range(4))]
    trainable = {x.path.split("/")[0] for x in load_keras_model(folder).trainable_weights}
    assert "block2_conv" in trainable
    assert "block1_conv" not in trainable


def test_more_blocks_than_there_are_are_refused_before_training(sample, inside):
    with pytest.raises(UserError, match="blocks must be from 1 to 2, as many as tiny has"):
        train_folder(sample, "saved_models/a", **TUNED | {"fine_tune": 3})
    assert not (inside / "logs" / "a" / "history.csv").exists()


def test_every_image_is_tested_on_once_and_the_model_learns_from_all(sample, inside, capsys):
    folder, classifier, report = train_folder(sample, folds=3, epochs=2, **SMALL)
    assert report.n == 48 == sum(fold.n for fold in report.folds)
    assert len(report.folds) == 3
    low, high = report.intervals["auroc"]
    assert low <= report.auroc <= high
    rows = list(csv.DictReader((folder / "out_of_fold.csv").open()))
    assert len({row["file"] for row in rows}) == 48
    assert {row["fold"] for row in rows} == {"1", "2", "3"}
    split = list(csv.DictReader((folder / "split.csv").open()))
    assert [row["subset"] for row in split] == ["train"] * 48
    assert classifier.card.metrics["out_of_fold"]["loss"] == report.loss
    logs = inside / "logs" / folder.name
    assert {path.name for path in logs.iterdir()} > {"fold-1", "fold-2", "fold-3", "train"}
    assert not (logs / "validation").exists()
    assert "by fold" in str(report)


def test_a_model_of_three_classes_is_trained_tested_saved_and_asked(make_folder, inside):
    images = make_folder({"crack": 12, "joint": 10, "plain": 8})
    folder, classifier, report = train_folder(images, epochs=2, **SMALL)
    assert classifier.card.class_names == ("crack", "joint", "plain")
    assert classifier.card.positive_class == "crack"
    assert np.shape(report.confusion_matrix) == (3, 3)
    [said] = predict(images / "joint" / "000.png", classifier)
    assert len(said.probabilities) == 3
    assert sum(said.probabilities) == pytest.approx(1, abs=1e-5)
    assert evaluate(images, folder).n == 30


def test_a_model_ships_calibrated_with_the_threshold_that_was_asked_for(sample, inside):
    folder, classifier, report = train_folder(
        sample, "saved_models/a", epochs=2, threshold_for="recall=1.0", **SMALL
    )
    card = classifier.card
    assert (card.temperature, card.threshold) == (report.temperature, report.threshold)
    assert card.temperature != 1
    data = load_datasets(sample, image_size=32, batch_size=8)
    said = predict(data.files["validation"], folder)
    found = [p.label == "Positive" for p in said]
    assert all(np.array(found)[data.labels["validation"] == 1])


def test_the_threshold_may_be_changed_when_an_interrupted_run_goes_on(sample, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("crackclf.training.run.save_run", killed)
        with pytest.raises(KeyboardInterrupt):
            train_folder(sample, "saved_models/a", epochs=1, **SMALL)
    aim = {"threshold_for": "recall=0.9"}
    folder, *_ = train_folder(sample, "saved_models/a", epochs=1, **aim, **SMALL)
    assert json.loads((folder / "settings.json").read_text())["threshold_for"] == "recall=0.9"


def test_the_smaller_class_weighs_more_where_classes_are_uneven(make_folder):
    data = load_datasets(make_folder({"Negative": 40, "Positive": 10}), image_size=32)
    n, few = data.counts["train"].values()
    assert weigh_classes(data, "auto") == pytest.approx([(n + few) / 2 / n, (n + few) / 2 / few])
    assert weigh_classes(data, "none") is None
    even = load_datasets(make_folder({"Negative": 12, "Positive": 10}, "even"), image_size=32)
    assert weigh_classes(even, "auto") is None
    assert weigh_classes(even, "balanced") is not None


def test_class_weights_raise_the_recall_of_the_smaller_class(make_folder):
    data = load_datasets(make_folder({"Negative": 60, "Positive": 12}), image_size=32, batch_size=8)

    def mean_of_positive(class_weights):
        model = build()
        train(model, data, [], 3, class_weights=class_weights, verbose=0)
        return predict_features(model, data, "train")[:, 1].mean()

    assert mean_of_positive("balanced") > mean_of_positive("none") + 0.1


@pytest.mark.parametrize(("n", "views"), [(28, 8), (2000, 3), (5000, 1), (9000, 1)])
def test_few_images_have_many_views(n, views):
    data = Datasets({"train": (None,) * n}, ("a", "b"), 32, 8, 0, {}, Path())
    assert count_views(data, None) == views
    assert count_views(data, 2) == 2


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
    end = Path("logs/tiny-1/finished.npz").rename("finished.npz")
    with pytest.raises(UserError, match=r"finished\.npz, the end of its training, is gone"):
        train_folder(sample, epochs=2, **SMALL)
    end.rename("logs/tiny-1/finished.npz")
    with monkeypatch.context() as patch:
        patch.setattr("crackclf.training.stages.train", killed)
        folder, _, report = train_folder(sample, epochs=2, **SMALL)
    assert folder.name == "tiny-1"
    best = keras.saving.load_model("logs/tiny-1/best.keras")
    saved = load_keras_model(folder)
    for a, b in zip(saved.get_weights(), best.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len((folder / "history.csv").read_text().splitlines()) == 3
    assert report.n == 10
    assert not list(Path("logs").rglob("finished.npz"))
    whole, *_ = train_folder(sample, "saved_models/whole", epochs=2, **SMALL)
    ours, theirs = (load_keras_model(x).optimizer.variables for x in (folder, whole))
    assert int(ours[0]) == 8
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("changed", ["images", "base weights"])
def test_a_run_does_not_go_on_with_something_else(sample, inside, monkeypatch, changed):
    def killed(*_, **__):
        raise KeyboardInterrupt

    shutil.copytree(sample, "data", ignore=lambda *_: [".crackclf"])
    with monkeypatch.context() as patch:
        patch.setattr("crackclf.training.stages.train", killed)
        with pytest.raises(KeyboardInterrupt):
            train_folder("data", **SMALL)
    facts = json.loads((inside / "logs" / "tiny-1" / "run.json").read_text())
    if changed == "images":
        save_noise(inside / "data" / "Positive" / "new.png", 0)
    else:
        (inside / "logs" / "tiny-1" / "run.json").write_text(
            json.dumps(facts | {"base weights": "ImageNet"})
        )
    with pytest.raises(UserError, match=f"began with other {changed}"):
        train_folder("data", **SMALL)


def test_two_processes_do_not_train_into_one_folder(sample, inside):
    (inside / "logs" / "tiny-1").mkdir(parents=True)
    with (
        FileLock(inside / "logs" / "tiny-1" / ".lock"),
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
    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("crackclf.training.stages.train", killed)
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
    with pytest.raises(UserError, match="epochs must be 1 or more"):
        train_folder(sample, epochs=0, **SMALL)


def test_a_finished_run_is_not_added_to(sample, inside):
    data = load_datasets(sample, image_size=32)
    train(build(), data, build_callbacks("logs/first"), 1, verbose=0)
    before = (inside / "logs" / "first" / "history.csv").read_bytes()
    with pytest.raises(UserError, match="logs/first: holds the curves of another run"):
        build_callbacks("logs/first")
    assert (inside / "logs" / "first" / "history.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dropout": 1.0}, "dropout must be from 0 to below 1"),
        ({"patience": 0}, "patience must be 1 or more"),
        ({"views": 0}, "views must be 1 or more"),
        ({"learning_rate": 0}, "learning_rate must be above 0"),
        ({"class_weights": "heavy"}, "class_weights must be one of auto, balanced, none"),
        ({"threshold_for": "f1"}, "threshold_for must be recall=NUMBER or precision="),
        ({"backbone": "resnet18-torch", "fine_tune": 1}, "takes no folds, hidden_units, dropout"),
        ({"folds": 2}, "folds must be 3 or more"),
    ],
)
def test_settings_out_of_range_are_refused_before_anything_is_read(settings, words, inside):
    with pytest.raises(UserError, match=words):
        train_folder("nowhere", **settings)


def test_a_model_of_another_number_of_classes_is_refused(make_folder):
    data = load_datasets(make_folder({"a": 4, "b": 4, "crack": 4}), image_size=32)
    with pytest.raises(UserError, match="Build the model with classes=3"):
        train(build(), data, [])


def test_the_same_seed_builds_the_same_head():
    first, again, other = (build(seed=seed) for seed in (1, 1, 2))
    a, b, c = (model.get_layer("probabilities").kernel.numpy() for model in (first, again, other))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


def test_sizes_that_do_not_fit_are_said_before_training(sample):
    data = load_datasets(sample, image_size=40)
    with pytest.raises(UserError, match=r"expected images of 32 pixels, .* Received: 40"):
        train(build(), data, [])


def test_a_loss_that_is_no_number_is_an_error(sample):
    data = load_datasets(sample, image_size=32)
    model = build()
    model.get_layer("probabilities").bias.assign(np.full(2, np.nan))
    with pytest.raises(UserError, match="smaller learning rate"):
        train(model, data, [], epochs=1)
