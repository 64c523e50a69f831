import numpy as np
import pytest

from threshold import choose_threshold


def test_the_threshold_is_where_balanced_accuracy_is_best():
    cracked = np.array([False] * 6 + [True] * 4)
    scores = np.array([0.1, 0.15, 0.2, 0.22, 0.25, 0.7, 0.35, 0.6, 0.8, 0.9])
    assert choose_threshold(cracked, scores, np.zeros(10)) == pytest.approx(0.3)


@pytest.mark.parametrize("scores", [[0.1, 0.2, 0.8, 0.9], [0.5, 0.5, 0.5, 0.5]])
def test_the_threshold_is_always_a_probability(scores):
    cracked = np.array([False, False, True, True])
    assert 0 <= choose_threshold(cracked, np.array(scores), np.zeros(4)) <= 1


def test_a_large_set_does_not_drown_a_small_one_in_the_threshold():
    large = np.linspace(0.01, 0.99, 100)  # Told apart at 0.2, with little loss up to 0.25.
    small = np.array([0.1, 0.24, 0.26, 0.9])  # Told apart at 0.25.
    cracked = np.concatenate([large > 0.2, [False, False, True, True]])
    of_set = np.repeat(["large", "small"], [100, 4])
    scores = np.concatenate([large, small])
    assert choose_threshold(cracked, scores, of_set) == pytest.approx(0.25, abs=0.01)
    assert choose_threshold(cracked, scores, np.zeros(104)) == pytest.approx(0.2, abs=0.01)
