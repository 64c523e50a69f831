import numpy as np
import pytest

from crackclf.errors import UserError
from crackclf.evaluation.calibration import (
    choose_region_threshold,
    choose_threshold,
    fit_temperature,
)
from crackclf.models.saving import apply_temperature


def test_the_temperature_undoes_overconfidence():
    rng = np.random.default_rng(0)
    honest = rng.uniform(0.05, 0.95, 4000)
    labels = (rng.uniform(size=4000) < honest).astype(int)
    honest = np.stack([1 - honest, honest], axis=1)
    overconfident = apply_temperature(honest, 1 / 3)
    temperature = fit_temperature(labels, overconfident)
    assert temperature == pytest.approx(3, rel=0.1)
    np.testing.assert_allclose(apply_temperature(overconfident, 3), honest, atol=0.01)


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


@pytest.mark.parametrize(("n", "false_alarms"), [(19, 0.05), (25, 0.1), (60, 0.05), (40, 0.5)])
def test_new_sound_photos_raise_no_more_false_alarms_than_asked_for(n, false_alarms):
    peaks = np.random.default_rng(0).uniform(size=(4000, n))
    thresholds = np.array([choose_region_threshold(row, false_alarms) for row in peaks])
    assert np.isin(thresholds, peaks).all()
    # Of peaks drawn uniformly, this is the share above a threshold.
    share = np.mean(1 - thresholds)
    assert false_alarms - 1 / (n + 1) - 0.004 < share < false_alarms + 0.004


@pytest.mark.parametrize(("false_alarms", "needed"), [(0.05, 19), (0.01, 99), (0.5, 1)])
def test_too_few_sound_photos_are_refused_with_the_number_that_is_needed(false_alarms, needed):
    with pytest.raises(UserError, match=rf"at least {needed} photos.*Received: {needed - 1}\."):
        choose_region_threshold([0.1] * (needed - 1), false_alarms)
    assert choose_region_threshold([0.1] * needed, false_alarms) == 0.1


@pytest.mark.parametrize("false_alarms", [0, 1, -0.1, 5, float("nan")])
def test_a_share_of_false_alarms_out_of_range_is_refused(false_alarms):
    with pytest.raises(UserError, match=f"Received: {false_alarms}"):
        choose_region_threshold([0.1] * 1000, false_alarms)
