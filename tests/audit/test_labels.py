import numpy as np
import pytest

from crackclf.audit.labels import label_probabilities
from crackclf.errors import UserError


def test_labels_that_were_swapped_are_the_least_probable():
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    features = rng.normal(size=(200, 30)) + labels[:, None]
    swapped = labels.copy()
    wrong = rng.choice(200, 8, replace=False)
    swapped[wrong] = 1 - labels[wrong]
    own = label_probabilities(features, swapped, range(200))
    assert set(np.argsort(own)[:8]) == set(wrong)
    assert (own[wrong] < 0.5).all()


def test_copies_in_one_fold_do_not_confirm_each_other():
    rng = np.random.default_rng(0)
    labels = np.arange(100) % 2
    features = rng.normal(size=(100, 400))
    features, labels = np.repeat(features, 3, axis=0), np.repeat(labels, 3)
    apart = label_probabilities(features, labels, range(300))
    together = label_probabilities(features, labels, np.repeat(np.arange(100), 3))
    # The labels are random: only a copy can predict them.
    assert (apart > 0.5).mean() > 0.9
    assert (together > 0.5).mean() < 0.7


def test_too_few_images_are_not_judged():
    labels = np.arange(20) % 2
    with pytest.raises(UserError, match=r"at least 5 images of each class .* Received: 4"):
        label_probabilities(np.zeros((20, 3)), labels, np.arange(20) // 5)
