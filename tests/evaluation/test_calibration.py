import numpy as np
import pytest

from crackclf.errors import UserError
from crackclf.evaluation.calibration import choose_region_threshold, fit_temperature
from crackclf.saved.card import softmax, to_logits


def test_the_temperature_undoes_overconfidence():
    rng = np.random.default_rng(0)
    honest = rng.uniform(0.05, 0.95, 4000)
    labels = (rng.uniform(size=4000) < honest).astype(int)
    honest = np.stack([1 - honest, honest], axis=1)
    overconfident = softmax(to_logits(honest), 1 / 3)
    temperature = fit_temperature(labels, overconfident)
    assert temperature == pytest.approx(3, rel=0.1)
    np.testing.assert_allclose(softmax(to_logits(overconfident), 3), honest, atol=0.01)


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
