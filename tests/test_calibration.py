import numpy as np
import pytest

from crackclf.calibration import (
    calibrate,
    choose_classes,
    choose_region_threshold,
    fit_temperature,
    read_aim,
    softmax,
    to_logits,
)
from crackclf.errors import UserError


def test_the_temperature_undoes_overconfidence():
    rng = np.random.default_rng(0)
    honest = rng.uniform(0.05, 0.95, 4000)
    labels = (rng.uniform(size=4000) < honest).astype(int)
    honest = np.stack([1 - honest, honest], axis=1)
    overconfident = softmax(to_logits(honest), 1 / 3)
    temperature = fit_temperature(labels, overconfident)
    assert temperature == pytest.approx(3, rel=0.1)
    np.testing.assert_allclose(softmax(to_logits(overconfident), 3), honest, atol=0.01)


def test_where_nothing_is_wrong_the_temperature_stays_moderate():
    labels = np.arange(200) % 2
    sure = np.where(labels[:, None] == [0, 1], 0.99, 0.01)
    assert 0.3 < fit_temperature(labels, sure) < 1


def test_a_probability_at_the_threshold_is_positive_in_float32_too():
    probabilities = np.array([[0.7, 0.3], [0.70000001, 0.29999999]])
    assert choose_classes(probabilities, 1, 0.3).tolist() == [1, 0]
    three = np.array([[0.4, 0.35, 0.25], [0.3, 0.2, 0.5]], np.float32)
    assert choose_classes(three, 0, 0.4 - 1e-6).tolist() == [0, 2]


NAMES = ("sound", "crack")


def scored(*scores: float) -> np.ndarray:
    return np.stack([1 - np.array(scores), scores], axis=1)


def draw() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 500)
    return labels, scored(*np.clip(rng.normal(0.35 + 0.3 * labels, 0.2), 0.01, 0.99))


def recall_and_precision(labels, probabilities, found) -> tuple[float, float]:
    called = softmax(to_logits(probabilities), found.temperature)[:, 1] >= found.threshold
    return called[labels == 1].mean(), (labels[called] == 1).mean()


def test_the_threshold_is_midway_between_its_neighbours_in_log_odds():
    labels = np.repeat([0, 1], 400)
    p = np.where(labels, 0.3, 0.01)
    p[:3] = 0.3
    found = calibrate(labels, scored(*p), NAMES)
    low, high = (softmax(to_logits(scored(x)), found.temperature)[0, 1] for x in (0.01, 0.3))
    odds = [x / (1 - x) for x in (low, high)]
    assert found.threshold == pytest.approx(1 / (1 + 1 / np.sqrt(np.prod(odds))), rel=1e-4)


def test_of_several_classes_the_threshold_parts_the_cracked_one_from_all_others():
    labels = np.array([0, 0, 1, 1, 2, 2])
    said = np.array([[0.4, 0.3, 0.3], [0.35, 0.6, 0.05], *[[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]] * 2])
    found = calibrate(labels, said, ("crack", "joint", "spall"))
    called = found.apply(said)[:, 0] >= found.threshold
    np.testing.assert_array_equal(called, labels == 0)


@pytest.mark.parametrize("share", [0.5, 0.8, 0.98, 1.0])
def test_a_threshold_for_recall_reaches_it_with_few_false_alarms(share):
    labels, probabilities = draw()
    found = calibrate(labels, probabilities, NAMES, threshold_for=f"recall={share}")
    recall, _ = recall_and_precision(labels, probabilities, found)
    assert share <= recall < share + 0.01


def test_by_photo_a_recall_holds_for_other_photos_too():
    rng = np.random.default_rng(0)

    def draw_photos(number):
        photo = np.repeat(np.arange(number), 40)
        labels = rng.integers(0, 2, len(photo))
        dark = rng.normal(0, 0.12, number)[photo]  # A photo makes all of its patches harder.
        p = np.clip(rng.normal(0.35 + 0.3 * labels + dark, 0.1), 0.01, 0.99)
        return labels, scored(*p), photo

    met = []
    for groups_known in (False, True):
        found = []
        for _ in range(10):
            labels, said, photo = draw_photos(25)
            groups = photo if groups_known else None
            chosen = calibrate(labels, said, NAMES, None, "recall=0.95", groups)
            others = draw_photos(200)
            found.append(recall_and_precision(*others[:2], chosen)[0] >= 0.95)
        met.append(sum(found))
    assert met[0] < 8 <= met[1]


def test_a_threshold_for_precision_reaches_it_and_finds_many():
    labels, probabilities = draw()
    found = calibrate(labels, probabilities, NAMES, threshold_for="precision=0.9")
    recall, precision = recall_and_precision(labels, probabilities, found)
    assert precision >= 0.9
    assert 0.4 < recall < 1


def test_a_precision_out_of_reach_is_refused_with_the_best_one():
    labels = np.array([1, 0, 1, 0, 1])
    probabilities = scored(0.6, 0.9, 0.5, 0.8, 0.7)
    words = r"precision=0\.9 is out of reach .* best precision is 0\.600"
    with pytest.raises(UserError, match=words):
        calibrate(labels, probabilities, NAMES, threshold_for="precision=0.9")


@pytest.mark.parametrize("text", ["recall", "recall=", "recall=1.2", "f1=0.9", "0.98", "recall=0"])
def test_another_goal_than_recall_or_precision_is_refused(text):
    with pytest.raises(UserError, match="must be recall=NUMBER or precision=NUMBER"):
        read_aim(text)


def test_images_of_one_kind_cannot_be_calibrated_on():
    with pytest.raises(UserError, match="images of crack and of other classes"):
        calibrate(np.zeros(3, int), scored(0.1, 0.2, 0.3), NAMES)


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


@pytest.mark.parametrize("false_alarms", [0, 1, float("nan")])
def test_a_share_of_false_alarms_out_of_range_is_refused(false_alarms):
    with pytest.raises(UserError, match=f"Received: {false_alarms}"):
        choose_region_threshold([0.1] * 1000, false_alarms)
