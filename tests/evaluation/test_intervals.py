import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from crackclf.evaluation import intervals
from crackclf.evaluation.intervals import group_intervals

RNG = np.random.default_rng(0)
LABELS = np.arange(60) % 2 == 1
SCORES = np.clip(0.5 + 0.2 * (LABELS - 0.5) + 0.2 * RNG.normal(size=60), 0, 1)


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(intervals, "_DRAWS", 200)


def test_images_of_one_photo_make_no_interval_narrower():
    alone = group_intervals(LABELS, SCORES, range(60))
    low, high = alone["auroc"]
    assert low < roc_auc_score(LABELS, SCORES) < high
    copies = [np.repeat(x, 4) for x in (LABELS, SCORES, np.arange(60))]
    together = group_intervals(*copies)
    for name, interval in alone.items():
        assert together[name] == pytest.approx(interval)
    apart = group_intervals(copies[0], copies[1], range(240))["auroc"]
    assert apart[1] - apart[0] == pytest.approx((high - low) / 2, rel=0.25)


def test_the_threshold_is_that_of_the_balanced_accuracy():
    said = group_intervals(LABELS, SCORES, range(60), threshold=2)
    assert said["balanced_accuracy"] == (0.5, 0.5)
