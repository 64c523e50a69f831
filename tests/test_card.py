import json

import numpy as np
import pytest

from conftest import build_card
from crackclf.errors import UserError
from crackclf.saving import Card

LOGITS = np.random.default_rng(0).normal(0, 3, (4, 5, 3))
SEVERAL = Card(("joint", "cracked", "spalled"), "cracked", 32, threshold=0.3, temperature=1.7)


def test_log_odds_are_those_of_the_positive_class_against_all_others():
    p = SEVERAL.calibrate(LOGITS)[..., 1].astype(float)
    found = SEVERAL.log_odds(LOGITS) / SEVERAL.temperature
    np.testing.assert_allclose(found, np.log(p / (1 - p)), rtol=1e-4, atol=1e-4)
    two = build_card(temperature=1.7).log_odds(LOGITS[..., :2])
    np.testing.assert_allclose(two, LOGITS[..., 1] - LOGITS[..., 0])


@pytest.mark.parametrize("positive", ["Negative", "Positive"])
def test_the_class_is_named_by_the_threshold(positive):
    card = build_card(positive_class=positive, threshold=0.3)
    assert {positive, card.negative_class} == {"Negative", "Positive"}
    for probability, label in ((0.29, card.negative_class), (0.3, positive), (1.0, positive)):
        probabilities = np.full(2, 1 - probability)
        probabilities[card.positive_index] = probability
        assert card.name_class(probabilities) == label


def test_below_the_threshold_the_most_probable_of_the_other_classes_is_named():
    given = [[0.1, 0.3, 0.6], [0.45, 0.2, 0.35], [0.2, 0.1, 0.7]]
    assert [SEVERAL.name_class(np.array(p)) for p in given] == ["cracked", "joint", "spalled"]
    assert SEVERAL.negative_class == "not cracked"


def test_a_card_comes_back_from_its_file(tmp_path):
    card = build_card(sound_peaks=(0.1, 0.2), sha256={"model.tflite": "a", "model.keras": "b"})
    (tmp_path / "card.json").write_text(card.to_json())
    assert Card.read(tmp_path / "card.json") == card
    assert (card.fingerprint, build_card().fingerprint) == ("b", "")


@pytest.mark.parametrize(
    ("name", "value"),
    [("class_names", ["a", "a"]), ("positive_class", "Other"), ("threshold", 2), ("surprise", 1)],
)
def test_a_card_with_a_wrong_value_is_refused_by_its_name(name, value, tmp_path):
    values = json.loads(build_card().to_json()) | {name: value}
    for text in (json.dumps(values), "{", "[]"):
        (tmp_path / "card.json").write_text(text)
        reason = name if name in text else ""
        with pytest.raises(UserError, match=rf"card\.json: is not a crackclf .*{reason}"):
            Card.read(tmp_path / "card.json")
