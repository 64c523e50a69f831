import numpy as np

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
