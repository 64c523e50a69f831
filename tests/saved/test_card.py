import json

import numpy as np
import pytest

from conftest import build_card
from crackclf.errors import UserError
from crackclf.saved.card import Card, softmax, to_logits

LOGITS = np.array([[3.0, -1.0], [0.5, 2.5], [0.0, 0.0]])


def test_a_temperature_softens_and_keeps_the_order():
    sharp, soft = (build_card(temperature=t).calibrate(LOGITS) for t in (1.0, 2.0))
    np.testing.assert_allclose(soft.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(
        np.log(soft[:, 0] / soft[:, 1]), np.log(sharp[:, 0] / sharp[:, 1]) / 2, atol=1e-6
    )
    np.testing.assert_allclose(np.log(sharp[:, 0] / sharp[:, 1]), [4, -2, 0], atol=1e-6)


def test_calibration_answers_in_float32_for_cells_as_for_patches():
    found = build_card().calibrate(np.broadcast_to(LOGITS[0], (2, 3, 4, 2)))
    assert (found.shape, found.dtype) == ((2, 3, 4, 2), np.float32)


def test_large_logits_do_not_overflow():
    np.testing.assert_array_equal(softmax(np.array([[1e4, -1e4]])), [[1, 0]])


def test_logits_are_found_again_from_their_probabilities():
    found = to_logits(softmax(LOGITS))
    np.testing.assert_allclose(found[:, 0] - found[:, 1], LOGITS[:, 0] - LOGITS[:, 1], atol=1e-5)
    assert np.isfinite(to_logits(np.array([0.0, 1.0]))).all()


@pytest.mark.parametrize("positive", ["Negative", "Positive"])
def test_a_probability_is_named_by_the_threshold(positive):
    card = build_card(positive_class=positive, threshold=0.3)
    assert card.class_names[card.positive_index] == positive
    assert {positive, card.negative_class} == {"Negative", "Positive"}
    said = np.zeros((3, 2))
    said[:, card.positive_index] = (0.29, 0.3, 1.0)
    said[:, 1 - card.positive_index] = (0.71, 0.7, 0.0)
    assert [card.name_class(p) for p in said] == [card.negative_class, positive, positive]


def test_of_several_classes_one_is_cracked_and_the_most_probable_of_the_others_is_next():
    card = Card(("cracked", "joint", "spalled"), "cracked", 32, threshold=0.3)
    said = [[0.3, 0.1, 0.6], [0.2, 0.45, 0.35], [0.1, 0.2, 0.7]]
    assert [card.name_class(np.array(p)) for p in said] == ["cracked", "joint", "spalled"]
    assert card.negative_class == "not cracked"


def test_log_odds_are_those_of_the_positive_class_against_all_others():
    logits = np.random.default_rng(0).normal(0, 3, (4, 5, 3))
    card = Card(("a", "cracked", "c"), "cracked", 32)
    p = softmax(logits)[..., 1].astype(float)
    np.testing.assert_allclose(card.log_odds(logits), np.log(p / (1 - p)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("names", [["Positive"], ["Positive", "Positive"], []])
def test_a_card_of_fewer_than_two_classes_is_refused(names, tmp_path):
    values = json.loads(build_card().to_json()) | {"class_names": names}
    (tmp_path / "card.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match="class_names"):
        Card.read(tmp_path / "card.json")


def test_the_fingerprint_is_the_sum_of_the_file_to_learn_on():
    assert build_card().fingerprint == ""
    assert build_card(sha256={"model.tflite": "a", "model.keras": "b"}).fingerprint == "b"
    assert build_card(sha256={"model.pt": "c"}).fingerprint == "c"


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_divided_by_the_temperature_log_odds_are_those_of_calibrated_probabilities(temperature):
    logits = np.random.default_rng(0).normal(0, 2, (20, 4))
    card = Card(("a", "b", "cracked", "d"), "cracked", 32, temperature=temperature)
    p = card.calibrate(logits)[:, 2].astype(float)
    found = card.log_odds(logits) / temperature
    np.testing.assert_allclose(found, np.log(p / (1 - p)), rtol=1e-4, atol=1e-4)


def test_of_two_classes_log_odds_are_the_difference_to_the_last_bit():
    logits = np.random.default_rng(0).normal(0, 9, (50, 2)).astype(np.float32)
    card = build_card(temperature=1.7)
    np.testing.assert_array_equal(card.log_odds(logits), logits[:, 1] - logits[:, 0])


def test_a_probability_just_below_the_threshold_does_not_reach_it_in_single_precision():
    said = np.array([0.3, 0.7], np.float32)  # 0.69999999 of the positive class.
    assert build_card(threshold=0.7).name_class(said) == "Negative"
    assert build_card(threshold=float(said[1])).name_class(said) == "Positive"
