import dataclasses
import multiprocessing
import pickle
import threading

import numpy as np
import pytest

from conftest import build_card, build_keras
from crackclf.errors import UserError
from crackclf.prediction.classifier import as_classifier, load_model

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), np.uint8)


def test_it_answers_as_keras_does_for_few_images_and_for_many(classifier):
    expected = build_keras().predict(IMAGES, verbose=0)
    for count in (1, 8, 20):
        found = classifier.probabilities(IMAGES[:count])
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected[:count], atol=1e-5)
    np.testing.assert_allclose(
        classifier.probabilities(IMAGES.astype(np.float64)), expected, atol=1e-5
    )


def test_a_temperature_softens_its_answers(classifier):
    soft = dataclasses.replace(classifier, card=build_card(temperature=2.0))
    before, after = (x.probabilities(IMAGES) for x in (classifier, soft))
    odds = np.log(before[:, 0] / before[:, 1])
    np.testing.assert_allclose(np.log(after[:, 0] / after[:, 1]), odds / 2, rtol=1e-3)


def test_it_comes_back_from_a_pickle(classifier):
    again = pickle.loads(pickle.dumps(classifier))  # noqa: S301
    assert again.card == classifier.card
    np.testing.assert_array_equal(again.probabilities(IMAGES), classifier.probabilities(IMAGES))


def test_threads_that_share_it_get_equal_answers(classifier):
    expected, found = classifier.probabilities(IMAGES), {}
    start = threading.Barrier(4)

    def ask(number: int) -> None:
        start.wait()
        found[number] = [classifier.probabilities(IMAGES) for _ in range(5)]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for answers in found.values():
        for answer in answers:
            np.testing.assert_array_equal(answer, expected)


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork"
)
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_it_answers_in_a_forked_process(classifier):
    expected = classifier.probabilities(IMAGES)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        found = pool.map_async(classifier.probabilities, [IMAGES]).get(timeout=60)
    np.testing.assert_array_equal(found[0], expected)


def test_a_folder_stands_for_its_classifier(classifier, save_keras, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_keras("shipped", build_card(threshold=0.25))
    assert as_classifier(classifier) is classifier
    assert as_classifier(tmp_path / "shipped").card.threshold == 0.25
    assert load_model("./shipped").card.threshold == 0.25
    assert load_model("shipped").card == load_model().card != load_model("./shipped").card


def test_a_keras_model_is_refused_and_told_its_own_way():
    with pytest.raises(UserError, match=r"Received: Functional\. Use a Keras model's own predict"):
        as_classifier(build_keras())  # pyright: ignore[reportArgumentType]
