import dataclasses
import multiprocessing
import pickle

import numpy as np
import pytest

from conftest import build_card, build_keras, plain
from crackclf.errors import UserError
from crackclf.prediction import as_classifier, load_model, predict

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), np.uint8)


def test_it_answers_as_keras_does_for_few_images_and_for_many(classifier):
    expected = build_keras().predict(IMAGES, verbose=0)
    for images in (IMAGES[:1], IMAGES[:8], IMAGES, IMAGES.astype(np.float64)):
        found = classifier.probabilities(images)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected[: len(images)], atol=1e-5)


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork"
)
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_it_answers_in_a_forked_process_and_after_a_pickle(classifier):
    expected = classifier.probabilities(IMAGES)
    again = pickle.loads(pickle.dumps(classifier))  # noqa: S301
    np.testing.assert_array_equal(again.probabilities(IMAGES), expected)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        found = pool.map_async(classifier.probabilities, [IMAGES]).get(timeout=60)
    np.testing.assert_array_equal(found[0], expected)


def test_a_folder_stands_for_its_model(classifier, save_keras, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_keras("shipped", build_card(threshold=0.25))
    assert as_classifier(classifier) is classifier
    assert as_classifier(tmp_path / "shipped").card.threshold == 0.25
    assert load_model("./shipped").card.threshold == 0.25
    assert load_model("shipped").card == load_model().card != load_model("./shipped").card
    assert predict(IMAGES, "./shipped")[0].probability == predict(IMAGES, classifier)[0].probability
    with pytest.raises(UserError, match=r"expected a Classifier from load_model.*Functional"):
        predict(IMAGES, build_keras())  # pyright: ignore[reportArgumentType]


def test_files_folders_arrays_and_images_of_pillow_get_the_same_answers(tmp_path, classifier):
    files = [tmp_path / "dark.png", tmp_path / "inner" / "light.jpg"]
    files[1].parent.mkdir()
    plain((50, 30), "black").save(files[0])
    plain((32, 32), "white").save(files[1])
    by_folder = predict(tmp_path, classifier)
    assert [p.file for p in by_folder] == [str(file) for file in files]
    assert [p.label for p in by_folder] == ["Positive", "Negative"]
    assert predict(str(files[0]), classifier) == by_folder[:1]
    arrays = np.stack([np.array(plain((64, 64), x), float) for x in ("black", "white")])
    images = [plain((40, 40), "black"), plain((40, 40), "white").convert("L")]
    for given in (arrays, arrays.astype(np.uint8), images, [images[0], arrays[1]]):
        found = predict(given, classifier)
        assert [p.file for p in found] == ["0", "1"]
        for one, other in zip(found, by_folder, strict=True):
            assert one.probabilities == pytest.approx(other.probabilities, abs=1e-3)


def test_many_images_keep_their_order_and_one_that_cannot_be_read_is_listed(tmp_path, classifier):
    files = [tmp_path / f"p{i:02}.png" for i in range(50)]
    for i, file in enumerate(files):
        plain((32, 32), (5 * i,) * 3).save(file)
    files[20].write_bytes(b"")
    found = predict(files, classifier)
    assert [p.file for p in found] == [str(file) for file in files]
    assert [i for i, p in enumerate(found) if p.error] == [20]
    assert "p20.png: is empty" in found[20].error
    assert (found[20].label, found[20].probability) == (None, None)
    scores = [p.probability for p in found if p.probability is not None]
    assert scores == sorted(scores, reverse=True)


def test_whole_photos_are_predicted_and_inspect_is_named(tmp_path, classifier, capsys):
    card = dataclasses.replace(classifier.card, patch_size=50)
    plain((201, 60), "black").save(tmp_path / "photo.png")
    plain((200, 60), "black").save(tmp_path / "patch.png")
    found = predict(tmp_path, dataclasses.replace(classifier, card=card))
    assert [p.error for p in found] == ["", ""]
    [line] = capsys.readouterr().err.splitlines()
    assert "found 1 image, e.g. " in line
    assert "photo.png, more than 4 times as large" in line
    assert "`crackclf inspect`" in line
