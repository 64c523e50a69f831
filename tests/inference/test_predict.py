import numpy as np
import pytest
from PIL import Image

from crackclf.errors import UserError
from crackclf.inference import predict as module
from crackclf.inference.predict import predict


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "inner").mkdir()
    Image.new("RGB", (50, 30), "black").save(tmp_path / "dark.png")
    Image.new("L", (32, 32), 255).save(tmp_path / "inner" / "light.jpg")
    return tmp_path


def test_files_folders_and_arrays_get_the_same_answers(folder, classifier):
    by_folder = predict(folder, classifier)
    assert [(p.file, p.label) for p in by_folder] == [
        (str(folder / "dark.png"), "Positive"),
        (str(folder / "inner" / "light.jpg"), "Negative"),
    ]
    assert predict([folder / "dark.png"], classifier) == by_folder[:1]
    arrays = np.stack([np.zeros((64, 64, 3)), np.full((64, 64, 3), 255.0)])
    by_array = predict(arrays, classifier)
    assert [p.probability for p in by_array] == pytest.approx(
        [p.probability for p in by_folder], abs=1e-6
    )
    assert predict(arrays[0], classifier) == by_array[:1]


def test_a_file_gets_the_probability_its_pixels_get(folder, classifier):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    expected = classifier.model.predict(pixels[None], verbose=0)[0, 1]
    assert predict(folder / "a.png", classifier)[0].probability == pytest.approx(expected)


def test_an_unreadable_image_is_listed_and_the_others_go_on(folder, classifier):
    (folder / "broken.jpg").write_bytes(b"")
    predictions = predict(folder, classifier)
    assert [p.label for p in predictions] == [None, "Positive", "Negative"]
    assert "broken.jpg: is empty" in predictions[0].error


def test_more_images_than_a_batch_keep_their_order(folder, classifier, monkeypatch):
    monkeypatch.setattr(module, "_BATCH", 4)
    for i in range(10):
        Image.new("L", (32, 32), 25 * i).save(folder / f"p{i}.png")
    predictions = predict([folder / f"p{i}.png" for i in range(10)], classifier)
    assert [p.file[-6:] for p in predictions] == [f"p{i}.png" for i in range(10)]
    scores = [p.probability for p in predictions]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("paths", ["gone.jpg", [], "empty"])
def test_paths_that_name_no_image_are_errors(paths, tmp_path, classifier, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError):
        predict(paths, classifier)


def test_an_array_of_another_form_is_refused(classifier):
    with pytest.raises(UserError, match=r"Received: shape \(4, 4\)"):
        predict(np.zeros((4, 4)), classifier)


def test_many_images_go_through_litert_and_few_do_not(classifier, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), np.uint8)
    few = predict(images, classifier)
    assert "fast" not in vars(classifier)
    monkeypatch.setattr(module, "_MANY", len(images))
    many = predict(images, classifier)
    assert "fast" in vars(classifier)
    assert [p.label for p in many] == [p.label for p in few]
    assert [p.probability for p in many] == pytest.approx([p.probability for p in few], abs=1e-5)
