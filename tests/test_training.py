import json
import shutil
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pytest
from filelock import FileLock

from conftest import save_noise
from crackclf.callbacks import build_callbacks
from crackclf.data import load_datasets
from crackclf.errors import UserError
from crackclf.evaluation import compute_report
from crackclf.model import build_model, unfreeze
from crackclf.pipeline import save_run, train_folder
from crackclf.prediction import predict
from crackclf.saving import load_keras_model
from crackclf.settings import TrainSettings
from crackclf.training import count_views, predict_features, train, weigh_classes

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


def rows(path) -> list[str]:
    """The epochs in a history."""
    return [line.split(",")[0] for line in Path(path).read_text().splitlines()[1:]]


def test_a_folder_becomes_a_tested_and_saved_model(sample, inside):
    settings = TrainSettings(epochs=2, seed=5, threshold_for="recall=1.0", **SMALL)
    folder, classifier, report = train_folder(sample, **settings.to_dict())
    assert folder == Path("saved_models/tiny-1")
    assert {path.name for path in folder.iterdir()} == {
        *("model.keras", "model.tflite", "card.json", "settings.json", "history.csv", "split.csv"),
        *("curves.png", "calibration.png", "confusion_matrix.png", "roc_pr.png"),
        "misclassified.png",
    }
    card = json.loads((folder / "card.json").read_text())
    assert card["metrics"]["test"]["accuracy"] == report.accuracy
    assert (card["backbone"], card["weights_origin"]) == ("tiny", "random initialisation")
    assert (card["temperature"], card["threshold"]) == (report.temperature, report.threshold)
    assert card["temperature"] != 1
    assert rows(folder / "history.csv") == rows("logs/tiny-1/history.csv") == ["0", "1"]
    assert report.n == 10
    assert classifier.card.positive_class == "Positive"
    data = load_datasets(sample, image_size=32, batch_size=8, seed=5)
    found = [p.label == "Positive" for p in predict(data.files["validation"], folder)]
    assert all(np.array(found)[data.labels["validation"] == 1])  # As the recall was to be 1.

    # The settings beside a model repeat its training, with a model and logs of their own.
    assert TrainSettings.read(folder / "settings.json") == settings
    save_noise(inside / "logs" / "m" / "mine.png", 0)  # Left alone, of whomever it is.
    read = TrainSettings.read(folder / "settings.json").to_dict()
    _, _, other = train_folder(sample, "saved_models/m", **read)
    assert other.to_dict() == report.to_dict()
    assert {path.name for path in Path("logs").iterdir()} == {"tiny-1", "m", "m-2"}
    assert [path.name for path in (inside / "logs" / "m").iterdir()] == ["mine.png"]
    about = json.loads(Path("logs/m-2/run.json").read_text())
    assert about["out"] == str(inside / "saved_models" / "m")


def test_an_existing_model_is_refused_before_training(sample, inside):
    (inside / "saved_models" / "a").mkdir(parents=True)
    with pytest.raises(UserError, match="overwrites nothing"):
        train_folder(sample, "saved_models/a", **SMALL)
    assert not (inside / "logs").exists()


def test_two_processes_do_not_train_into_one_folder(sample, inside):
    (inside / "logs" / "tiny-1").mkdir(parents=True)
    with (
        FileLock(inside / "logs" / "tiny-1" / ".lock"),
        pytest.raises(UserError, match="another process is running this training"),
    ):
        train_folder(sample, **SMALL)


class Kill(BaseException):
    """Ends a training without any of its callbacks' last words."""


@pytest.mark.parametrize("cached", [True, False], ids=["cached", "not cached"])
def test_an_interrupted_training_is_taken_up_by_the_same_call(
    cached, sample, inside, monkeypatch, capsys
):
    shutil.copytree(sample, "data", ignore=shutil.ignore_patterns(".crackclf"))
    settings = {**SMALL, "epochs": 2, "patience": 9, "fine_tune": 1, "cache_features": cached}

    def kill(self, epoch, logs=None):
        if epoch == 1 and self.filename.endswith("fine-tuned/history.csv"):
            raise Kill  # The first stage is finished.

    with monkeypatch.context() as patch:
        patch.setattr(keras.callbacks.CSVLogger, "on_epoch_begin", kill)
        with pytest.raises(Kill):
            train_folder("data", "saved_models/a", **settings)
    assert rows("logs/a/fine-tuned/history.csv") == ["0"]
    assert not Path("saved_models").exists()
    notes = [Path("logs/a/notes.txt"), Path("logs/a/fine-tuned/notes.txt")]
    for note in notes:
        note.write_text("mine")

    def write_times(pattern):
        return {path: path.stat().st_mtime_ns for path in Path().glob(pattern)}

    features, curves = "data/.crackclf/features/*", "logs/a/train/*"
    before = write_times("logs/a/best.keras"), write_times(curves), len(write_times(features))
    folder, _, report = train_folder("data", "saved_models/a", **settings)
    after = write_times("logs/a/best.keras"), write_times(curves), len(write_times(features))
    assert "takes up the interrupted run" in capsys.readouterr().err
    assert all(note.read_text() == "mine" for note in notes)
    assert rows(folder / "history.csv") == [*"0123"]
    assert report.n == 10
    if cached:  # Trained again, in the same place, on the same features.
        assert not before[1].keys() & after[1].keys()
        assert len(after[1]) == 1
        assert before[2] == 4
    else:  # Only what was left of the second stage was trained.
        assert before[:2] == after[:2]
        assert len(list(Path("logs/a/fine-tuned/train").iterdir())) == 2
    names = {path.name for path in Path("logs/a/fine-tuned").iterdir()}
    assert names == {"train", "validation", "best.keras", "history.csv", "notes.txt"}
    trainable = {x.path.split("/")[0] for x in load_keras_model(folder).trainable_weights}
    assert "block2_conv" in trainable
    assert "block1_conv" not in trainable


def test_more_blocks_than_the_base_has_are_refused_before_any_training(sample, inside):
    with pytest.raises(UserError, match="blocks must be from 1 to 2"):
        train_folder(sample, "saved_models/b", **SMALL, fine_tune=3)
    assert not (inside / "logs").exists()


@pytest.mark.parametrize("cached", [True, False], ids=["cached", "not cached"])
def test_the_last_block_is_trained_with_the_head(sample, cached):
    data = load_datasets(sample, image_size=32, batch_size=8)
    model = build()
    base = model.get_layer("tiny")
    before = [weight.numpy().copy() for weight in base.weights]
    callbacks = build_callbacks("logs/a")
    unfreeze(model, learning_rate=1e-2)
    history = train(model, data, callbacks, 1, cache_features=cached, views=1, verbose=0)
    assert len(history.history["val_loss"]) == 1
    moved = {
        weight.path.split("/")[0]
        for weight, old in zip(base.weights, before, strict=True)
        if (weight.numpy() != old).any()
    }
    assert moved == {"block2_conv"}
    # Features are kept in 16 bits.
    expected = model.predict(data.test, verbose=0)
    np.testing.assert_allclose(predict_features(model, data), expected, atol=5e-3)


def test_a_model_of_three_classes_is_trained_tested_and_saved(make_folder):
    images = make_folder({"crack": 12, "joint": 10, "plain": 8})
    _, classifier, report = train_folder(images, epochs=1, **SMALL)
    assert classifier.card.class_names == ("crack", "joint", "plain")
    assert classifier.card.positive_class == "crack"
    assert np.shape(report.confusion_matrix) == (3, 3)
    [prediction] = predict(images / "joint" / "000.png", classifier)
    assert sum(prediction.probabilities) == pytest.approx(1, abs=1e-5)


def test_the_report_says_which_test_images_the_base_of_the_box_knows(sample, monkeypatch, capsys):
    known = load_datasets(sample, image_size=32).digests["test"][:4]
    monkeypatch.setattr("crackclf.prediction.read_learnt", lambda: {*known})
    chosen = {**SMALL, "backbone": "mobilenetv2", "weights": "concrete"}
    _, classifier, report = train_folder(sample, epochs=1, **chosen)
    assert report.caution.startswith("4 of 10 images were in the training of the base, so")
    assert "--folds 5 tests every image" in capsys.readouterr().err  # There are five of a class.
    assert report.caution == classifier.card.metrics["test"]["caution"]
    assert str(report).endswith(f"caution: {report.caution}")


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
        train(model, data, [], 3, views=0, class_weights=class_weights, verbose=0)
        return predict_features(model, data, "train")[:, 1].mean()

    assert mean_of_positive("balanced") > mean_of_positive("none") + 0.1


@pytest.mark.parametrize("class_weights", [None, "balancd"])
def test_class_weights_that_are_not_known_are_refused(class_weights, sample):
    data = load_datasets(sample, image_size=32)
    with pytest.raises(UserError, match="class_weights must be one of auto, balanced, none"):
        train(build(), data, [], class_weights=class_weights)


def test_few_images_have_many_views_in_the_cache(sample):
    data = load_datasets(sample, image_size=32)
    assert count_views(data, None) == 8
    assert count_views(data, 2) == 2


def test_sizes_and_classes_that_do_not_fit_are_refused_before_training(sample, make_folder):
    with pytest.raises(UserError, match="image_size=32, the data sets have 40"):
        train(build(), load_datasets(sample, image_size=40), [])
    data = load_datasets(make_folder({"a": 4, "b": 4, "crack": 4}), image_size=32)
    with pytest.raises(UserError, match="Build the model with classes=3"):
        train(build(), data, [])


def test_a_loss_that_is_not_a_number_is_an_error(sample):
    data = load_datasets(sample, image_size=32)
    model = build()
    model.get_layer("probabilities").bias.assign(np.full(2, np.nan))
    with pytest.raises(UserError, match="smaller learning rate"):
        train(model, data, [], epochs=1, views=0, verbose=0)


def test_a_log_folder_without_curves_is_refused_when_saving(sample, inside):
    data = load_datasets(sample, image_size=32)
    model = build()
    probabilities = predict_features(model, data)
    files = data.files["test"]
    report = compute_report(data.labels["test"], probabilities, data.class_names, files)
    with pytest.raises(UserError, match=r"logs/frist: holds no history\.csv"):
        save_run(model, "saved_models/a", data, report, probabilities, "logs/frist")
    assert not (inside / "saved_models" / "a").exists()
