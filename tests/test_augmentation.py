import keras
import numpy as np
import pytest

from crackclf.augmentation import build_augmentation
from crackclf.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)


def test_images_change_in_training_only_and_stay_in_range():
    augmentation = build_augmentation()
    np.testing.assert_array_equal(augmentation(IMAGES, training=False), IMAGES)
    changed = np.asarray(augmentation(IMAGES, training=True))
    assert changed.shape == IMAGES.shape
    assert changed.dtype == np.float32
    assert np.abs(changed - IMAGES).mean() > 1
    assert changed.min() >= 0
    assert changed.max() <= 255


def test_more_strength_changes_the_light_more():
    def change(strength: float) -> float:
        keras.utils.set_random_seed(0)
        grey = np.full_like(IMAGES, 128)  # Flips and rotations leave it as it is.
        return float(np.abs(build_augmentation(strength)(grey, training=True) - grey).mean())

    assert change(0.5) < change(1.0) < change(2.0)


def test_a_strength_of_zero_changes_nothing():
    changed = build_augmentation(0)(IMAGES, training=True)
    np.testing.assert_allclose(changed, IMAGES, atol=1e-3)


@pytest.mark.parametrize("strength", [-1, 6, float("nan")])
def test_a_strength_out_of_range_is_refused(strength):
    with pytest.raises(UserError, match="from 0 to 5"):
        build_augmentation(strength)
