import csv
import re
import shutil

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from crackclf.data.folders import read_folder
from crackclf.images.decode import read_image
from crackclf.prediction.classifier import load_model
from crackclf.prediction.evaluate import evaluate
from crackclf.prediction.predict import predict
from crackclf.saved.store import SHIPPED, load_keras_model, model_folder


@pytest.fixture(scope="module")
def shipped():
    return load_model()


def test_the_word_shipped_means_the_model_in_the_package():
    assert model_folder("shipped") == SHIPPED
    assert model_folder("./shipped") != SHIPPED


def test_it_is_small():
    for name in ("model.keras", "model.tflite"):
        assert (SHIPPED / name).stat().st_size <= 4_000_000


def test_it_answers_by_cells_and_its_keras_model_is_the_base_for_training(shipped):
    assert shipped.card.cell_size == 32
    model = load_keras_model()
    assert model.input_shape == (None, 192, 192, 3)
    assert [layer.name for layer in model.layers[-3:]] == [
        "mobilenetv2",
        "pooling",
        "probabilities",
    ]


def test_it_tells_cracks_on_drawings_it_never_saw(shipped, sample):
    assert evaluate(sample, shipped).balanced_accuracy > 0.85


def test_its_answer_changes_little_when_a_picture_is_turned_or_mirrored(shipped, sample):
    images = [read_image(path) for path in sorted((sample / "Positive").iterdir())[:8]]
    upright, turned, mirrored = (
        np.array([p.probability for p in predict(np.stack(batch), shipped)])
        for batch in (images, [x[::-1] for x in images], [x[:, ::-1] for x in images])
    )
    assert np.abs(upright - turned).mean() < 0.15
    assert np.abs(upright - mirrored).mean() < 0.15


def test_the_card_and_its_markdown_say_the_same(shipped):
    text = (SHIPPED / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert shipped.card.fingerprint in text
    assert "CC BY 4.0" in text
    assert "must not be used for" in text
    for name, report in shipped.card.metrics.items():
        assert name == "jointed" or f"{report['auroc']:.4f}" in text, name
    for name in ("metu", "sdnet", "drone"):
        for wrong in shipped.card.metrics[name]["misclassified"][:3]:
            assert wrong["file"] in text
    assert re.search(r"\| baseline \|", text)


def test_no_photo_is_on_both_sides_of_its_split():
    sides: dict[str, set[str]] = {}
    with (SHIPPED / "split.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            photo = re.search(r"sdnet/\w_(\d+)-", row["file"])
            key = photo[0] if photo else row["digest"]
            sides.setdefault(key, set()).add(row["subset"])
    assert len(sides) > 5000
    assert all(len(subsets) == 1 for subsets in sides.values())


def test_it_gives_the_same_answer_the_first_time_and_later(sample):
    fresh = load_model()
    files = sorted((sample / "Positive").iterdir())[:2]
    first, again, more = (
        [p.probability for p in predict(batch, fresh)] for batch in (files, files, files * 8)
    )
    assert first == pytest.approx(again, abs=1e-5)
    assert more[:2] == pytest.approx(first, abs=1e-5)


@pytest.mark.real_data
def test_it_works_on_photos_it_never_saw(shipped, real_data):
    with (SHIPPED / "split.csv").open(newline="", encoding="utf-8") as file:
        unseen = {row["digest"] for row in csv.DictReader(file) if row["subset"] == "test"}
    images, folders, _ = read_folder(real_data / "sdnet2018")
    images = [image for image in images if image.digest in unseen]
    assert len(images) > 700
    predictions = predict([image.path for image in images], shipped)
    cracked = [folders[image.label] == "crack" for image in images]
    recorded = shipped.card.metrics["sdnet"]["auroc"]
    scores = [p.probability for p in predictions]
    assert roc_auc_score(cracked, scores) == pytest.approx(recorded, abs=0.005)


@pytest.mark.real_data
def test_measuring_it_on_its_training_images_is_reported(real_data, tmp_path, capsys):
    for name in ("crack", "no_crack"):
        (tmp_path / name).mkdir()
        for file in sorted((real_data / "sdnet2018" / name).iterdir())[:12]:
            shutil.copy(file, tmp_path / name)
    evaluate(tmp_path, "shipped")
    assert "in this model's training or validation set" in capsys.readouterr().err
