import csv
from dataclasses import fields

import pytest

from crackclf.data.loading import load_datasets
from crackclf.errors import UserError
from crackclf.evaluation.report import Report
from crackclf.prediction.classifier import load_model
from crackclf.prediction.predict import predict
from crackclf.torch import CrackDataset, build_resnet18, predict_resnet18, train_resnet18
from crackclf.torch.pytorch import torch
from crackclf.training.compare import compare


@pytest.fixture(scope="module")
def data(sample):
    return load_datasets(sample, image_size=40, batch_size=8)


def loaders(data, seed=0):
    generator = torch.Generator().manual_seed(seed)
    training = torch.utils.data.DataLoader(
        CrackDataset(data, "train"), data.batch_size, shuffle=True, generator=generator
    )
    return training, torch.utils.data.DataLoader(CrackDataset(data, "validation"), data.batch_size)


def build(frozen=False):
    torch.manual_seed(0)
    return build_resnet18(weights=None, frozen=frozen)


def scalars(folder, tag):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    model, folder = build(), tmp_path_factory.mktemp("logs") / "run"
    return model, train_resnet18(model, *loaders(data), folder, iterations=16), folder


def test_training_learns_and_leaves_curves_beside_keras(trained):
    _, history, folder = trained
    assert history[-1]["loss"] < history[0]["loss"]
    with (folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["val_loss"]) for row in rows] == [row["val_loss"] for row in history]
    assert [step for step, _ in scalars(folder / "train", "batch_loss")] == [*range(16)]
    curve = scalars(folder / "validation", "epoch_loss")
    assert [value for _, value in curve] == pytest.approx([row["val_loss"] for row in history])
    assert not (folder / "backup.pt").exists()


def test_the_same_seed_gives_the_same_weights_interrupted_or_not(data, tmp_path):
    whole = build()
    expected = train_resnet18(whole, *loaders(data), tmp_path / "whole", iterations=7)

    training, validation = loaders(data)
    stopped, count = build(), 0

    def stop(module, inputs):
        nonlocal count
        count += module.training
        if count == 6:
            raise KeyboardInterrupt

    hook = stopped.register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        train_resnet18(stopped, training, validation, tmp_path / "run", iterations=7)
    hook.remove()
    again = build()
    history = train_resnet18(again, *loaders(data), tmp_path / "run", iterations=7)
    assert history == expected
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    steps = [step for step, _ in scalars(tmp_path / "run" / "train", "batch_loss")]
    assert steps == [*range(7)]


def test_a_loss_that_is_no_number_stops_with_one_message(data, tmp_path):
    model = build()
    torch.nn.init.constant_(model.fc.weight, float("nan"))
    with pytest.raises(UserError, match="NaN or infinite"):
        train_resnet18(model, *loaders(data), tmp_path / "run", iterations=1)


def test_it_is_trained_compared_and_used_like_a_keras_model(sample, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = compare(sample, ["resnet18-torch"], "out", epochs=1, image_size=32, weights="random")
    [twin] = found.entries
    assert twin.n == len(twin.wrong) + round(twin.accuracy * twin.n)
    assert twin.parameters > 11_000_000
    assert twin.images_per_second > 0
    classifier = load_model("out-resnet18-torch")
    assert classifier.card.backbone == "resnet18-torch"
    assert set(classifier.card.metrics["test"]) == {field.name for field in fields(Report)}
    test = load_datasets(sample, image_size=32).files["test"]
    said = predict(test, "out-resnet18-torch")
    wrong = {prediction.file for prediction in said if prediction.label not in prediction.file}
    assert wrong == set(twin.wrong)


def test_no_iteration_is_refused_before_anything_is_written(data, tmp_path):
    with pytest.raises(UserError, match="iterations must be at least 1"):
        train_resnet18(build(), *loaders(data), tmp_path / "run", iterations=0)
    assert not (tmp_path / "run").exists()


def test_class_weights_raise_the_probability_of_the_class_that_weighs_more(make_folder, tmp_path):
    folder = make_folder({"crack": 4, "hole": 4, "sound": 4})
    data = load_datasets(folder, image_size=32, batch_size=1)

    def train(weights):
        torch.manual_seed(0)
        model = build_resnet18(weights=None, classes=3)
        logs = tmp_path / str(weights)
        train_resnet18(model, *loaders(data), logs, 6, 0.01, class_weights=weights)
        return predict_resnet18(model, loaders(data)[1])

    holes, sound = train([0.1, 10.0, 0.1]), train([0.1, 0.1, 10.0])
    assert holes.shape == (len(data.files["validation"]), 3)
    assert (holes[:, 1] > sound[:, 1]).all()
    assert (holes[:, 2] < sound[:, 2]).all()


def test_as_many_class_weights_as_classes_are_asked_for(data, tmp_path):
    with pytest.raises(UserError, match=r"each of the model's 2 classes. Received: \[1, 2, 3\]"):
        train_resnet18(build(), *loaders(data), tmp_path / "run", class_weights=[1, 2, 3])
    assert not (tmp_path / "run").exists()


def test_it_stops_after_passes_without_a_lower_loss_and_keeps_the_best_weights(data, tmp_path):
    model, (training, validation) = build(frozen=True), loaders(data)
    history = train_resnet18(model, training, validation, tmp_path / "run", 40, 5.0, patience=1)
    losses = [row["val_loss"] for row in history]
    assert len(losses) < 10
    assert len(losses) == losses.index(min(losses)) + 2
    with torch.inference_mode():
        logits = torch.cat([model.eval()(images) for images, _ in validation])
    labels = torch.from_numpy(data.labels["validation"]).long()
    loss = torch.nn.functional.cross_entropy(logits, labels).item()
    assert loss == pytest.approx(min(losses), rel=1e-3)
    assert loss < losses[-1]


def test_a_finished_run_is_not_added_to(trained, data):
    with pytest.raises(UserError, match="holds the curves of another run"):
        train_resnet18(build(), *loaders(data), trained[2], iterations=1)
