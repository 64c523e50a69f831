import keras
import numpy as np
import pytest

from crackclf.errors import UserError
from crackclf.models.augmentation import build_augmentation

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)


def test_images_change_in_training_and_stay_in_range():
    changed = np.asarray(build_augmentation()(IMAGES, training=True))
    assert changed.shape == IMAGES.shape
    assert changed.dtype == np.float32
    assert np.abs(changed - IMAGES).mean() > 1
    assert changed.min() >= 0
    assert changed.max() <= 255


def test_images_do_not_change_otherwise():
    np.testing.assert_array_equal(build_augmentation()(IMAGES, training=False), IMAGES)


def test_strength_is_how_much_the_light_changes():
    def change(strength: float) -> float:
        keras.utils.set_random_seed(0)
        light = build_augmentation(strength).layers[-2:]  # Contrast and brightness.
        changed = light[1](light[0](IMAGES.astype("float32"), training=True), training=True)
        return float(np.abs(np.asarray(changed) - IMAGES).mean())

    assert change(0.5) < change(1.0) < change(2.0)


def test_a_strength_of_nought_changes_nothing():
    changed = build_augmentation(0)(IMAGES, training=True)
    np.testing.assert_allclose(changed, IMAGES, atol=1e-3)


def test_a_strength_out_of_range_is_refused():
    with pytest.raises(UserError, match="from 0 to 5"):
        build_augmentation(-1)
