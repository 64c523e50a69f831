import csv
import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import build_card, build_keras, run, save_noise
from crackclf.errors import UserError
from crackclf.images.listing import list_pictures
from crackclf.prediction.predict import ask, predict
from crackclf.saved.store import save_model
from several import CARD, CRACKED, JOINT, SEVERAL, SPALLED, build_several


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "inner").mkdir()
    Image.new("RGB", (50, 30), "black").save(tmp_path / "dark.png")
    Image.new("L", (32, 32), 255).save(tmp_path / "inner" / "light.jpg")
    return tmp_path


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)


def test_files_folders_and_arrays_get_the_same_answers(folder, classifier):
    by_folder = predict(folder, classifier)
    assert [(p.file, p.label) for p in by_folder] == [
        (str(folder / "dark.png"), "Positive"),
        (str(folder / "inner" / "light.jpg"), "Negative"),
    ]
    assert predict([folder / "dark.png"], classifier) == by_folder[:1]
    assert predict(str(folder / "dark.png"), classifier) == by_folder[:1]
    arrays = np.stack([np.zeros((64, 64, 3)), np.full((64, 64, 3), 255.0)])
    by_array = predict(arrays, classifier)
    assert [p.file for p in by_array] == ["0", "1"]
    assert [p.probability for p in by_array] == pytest.approx(
        [p.probability for p in by_folder], abs=1e-6
    )
    assert predict(arrays[0], classifier) == by_array[:1]
    assert predict(arrays.astype(np.uint8), classifier) == by_array


def test_an_image_of_pillow_is_answered_as_its_file_is(folder, classifier):
    image = Image.open(folder / "dark.png").rotate(20, fillcolor="white")
    image.save(folder / "turned.png")
    expected = predict(folder / "turned.png", classifier)[0].probability
    assert [p.probability for p in predict(image, classifier)] == [expected]
    assert predict(image.convert("RGBA"), classifier)[0].probability == expected


def test_a_list_may_mix_all_of_these(folder, classifier):
    image = Image.new("RGB", (40, 40), "white")
    found = predict([folder, image, draw(2, 40, 40), folder / "dark.png"], classifier)
    assert [p.file for p in found] == [
        str(folder / "dark.png"),
        str(folder / "inner" / "light.jpg"),
        *("2", "3", "4"),
        str(folder / "dark.png"),
    ]


def test_a_file_gets_the_probability_its_pixels_get_from_keras(folder, classifier):
    pixels = draw(32, 32)
    Image.fromarray(pixels).save(folder / "a.png")
    expected = build_keras().predict(pixels[None], verbose=0)[0, 1]
    assert predict(folder / "a.png", classifier)[0].probability == pytest.approx(expected, abs=1e-5)


def test_the_folder_of_a_saved_model_stands_for_it(folder, classifier, save_keras, tmp_path):
    save_keras(tmp_path / "model", build_card())
    assert predict(draw(3, 32, 32), tmp_path / "model") == predict(draw(3, 32, 32), classifier)
    assert predict(draw(3, 32, 32), str(tmp_path / "model")) == predict(draw(3, 32, 32), classifier)


def test_without_a_model_the_one_in_the_package_answers(folder):
    [found] = predict(folder / "dark.png")
    assert found.label in ("crack", "no_crack")
    assert [found] == predict(folder / "dark.png", "shipped")


def test_a_keras_model_is_refused_in_a_sentence(folder):
    with pytest.raises(UserError, match="expected a Classifier from load_model"):
        predict(folder, build_keras())  # pyright: ignore[reportArgumentType]


def test_an_unreadable_image_is_listed_and_the_others_go_on(folder, classifier):
    (folder / "broken.jpg").write_bytes(b"")
    predictions = predict(folder, classifier)
    assert [p.label for p in predictions] == [None, "Positive", "Negative"]
    assert predictions[0].probability is None
    assert "broken.jpg: is empty" in predictions[0].error
    assert [p.error for p in predictions[1:]] == ["", ""]


def test_many_images_keep_their_order(tmp_path, classifier):
    files = [tmp_path / f"p{i:02}.png" for i in range(50)]
    for i, file in enumerate(files):
        Image.new("L", (32, 32), 5 * i).save(file)
    files[20].write_bytes(b"no image")
    predictions = predict(files, classifier)
    assert [p.file for p in predictions] == [str(file) for file in files]
    assert [i for i, p in enumerate(predictions) if p.error] == [20]
    scores = [p.probability for p in predictions if p.probability is not None]
    assert scores == sorted(scores, reverse=True)
    answers = list(ask(list_pictures(files), classifier))
    assert isinstance(answers[20], UserError)
    assert [float(x[1]) for x in answers if not isinstance(x, UserError)] == scores


@pytest.mark.parametrize("paths", ["gone.jpg", [], "empty"])
def test_paths_that_name_no_image_are_errors(paths, tmp_path, classifier, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError):
        predict(paths, classifier)


@pytest.mark.parametrize(
    ("images", "received"),
    [
        (np.zeros((4, 4)), r"shape \(4, 4\)"),
        (np.zeros((0, 4, 4, 3)), r"shape \(0, 4, 4, 3\)"),
        (draw(4, 4) / 255, "float64 from 0.0"),
        (np.full((4, 4, 3), np.nan), "float64 from nan to nan"),
        (7, "int"),
    ],
)
def test_what_is_no_image_is_refused(images, received, classifier):
    with pytest.raises(UserError, match=f"Received: {received}"):
        predict(images, classifier)


def test_of_three_classes_the_name_is_one_and_the_probability_the_cracked_ones():
    images = np.stack([np.full((40, 40, 3), x, np.uint8) for x in (CRACKED, JOINT, SPALLED)])
    found = predict(images, SEVERAL)
    assert [p.label for p in found] == ["cracked", "joint", "spalled"]
    for p in found:
        assert sum(p.probabilities) == pytest.approx(1)
        assert p.probability == p.probabilities[0]
        assert np.argmax(p.probabilities) == CARD.class_names.index(str(p.label))


def test_a_table_of_three_classes_has_a_column_for_each(tmp_path, monkeypatch):
    model = save_model(build_several(), tmp_path / "model", CARD)
    Image.new("RGB", (40, 40), JOINT).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"")
    table, files = tmp_path / "a.csv", [tmp_path / "a.png", tmp_path / "b.png"]
    for _ in range(2):  # It is known for a table of crackclf's, and written again.
        assert run(monkeypatch, "predict", *files, "--model", model, "--csv", table) == 2
    head, joint, broken = csv.reader(table.open())
    assert head == ["file", "label", "probability", "error", *CARD.class_names]
    assert joint[1] == "joint"
    assert joint[2] == joint[4]
    assert sum(map(float, joint[4:])) == pytest.approx(1)
    assert [bool(x) for x in broken] == [True, False, False, True, False, False, False]


def test_a_table_of_two_classes_is_as_it_always_was(folder, tmp_path, monkeypatch):
    table = tmp_path / "a.csv"
    assert run(monkeypatch, "predict", folder / "dark.png", "--csv", table) == 0
    [head, row] = csv.reader(table.open())
    assert head == ["file", "label", "probability", "error"]
    assert len(row) == 4


def test_a_model_that_answers_with_no_number_answers_nothing(classifier):
    def broken(images):
        logits = classifier.graph(images)
        logits[0] = np.nan
        return logits

    found = predict(draw(3, 32, 32), dataclasses.replace(classifier, graph=broken))
    assert [p.label is None for p in found] == [True, False, False]
    assert "0: the model's probabilities are NaN or infinite" in found[0].error


def test_whole_photos_are_answered_and_inspect_is_named(tmp_path, classifier, capsys):
    card = dataclasses.replace(classifier.card, patch_size=50)
    Image.new("RGB", (201, 60)).save(tmp_path / "photo.png")
    Image.new("RGB", (200, 60)).save(tmp_path / "patch.png")
    found = predict(tmp_path, dataclasses.replace(classifier, card=card))
    assert [p.error for p in found] == ["", ""]
    [said] = capsys.readouterr().err.splitlines()
    assert "found 1 image, e.g. " in said
    assert "photo.png, of more than 4 times the size" in said
    assert "`crackclf inspect`" in said


def test_a_table_of_odd_names_can_be_opened(save_keras, tmp_path, monkeypatch, capsys):
    save_keras(tmp_path / "model", build_card())
    monkeypatch.chdir(tmp_path)
    names = ["=HYPERLINK(1).png", "+1.png", "\t=1.png", "a\nb.png", os.fsdecode(b"stra\xdfe.png")]
    for name in names:
        Image.new("RGB", (32, 32)).save(Path("p.png"))
        Path("p.png").rename(name)
    assert run(monkeypatch, "predict", "--model", "model", "--csv", "t.csv", "--", *names) == 0
    rows = csv.DictReader(Path("t.csv").read_text(encoding="utf-8").splitlines())
    assert [row["file"] for row in rows] == [
        *("'=HYPERLINK(1).png", "'+1.png", "'\\t=1.png", "a\\nb.png", "stra\\xdfe.png"),
    ]
    assert len(capsys.readouterr().out.splitlines()) == 5


@pytest.mark.parametrize("option", ["--csv"])
def test_a_device_is_not_replaced_by_a_file(tmp_path, monkeypatch, capsys, option):
    os.mkfifo(tmp_path / "pipe")
    save_noise(tmp_path / "a.png", 0)
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    for name in ("pipe", "gone"):
        assert run(monkeypatch, "predict", tmp_path / "a.png", option, tmp_path / name) == 2
        assert "received a device, pipe or broken link" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()
