from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from crackclf.images.decode import read_image
from crackclf.images.resize import resize


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ((227, 227), (160, 160)),
        ((160, 160), (227, 227)),
        ((50, 61), (96, 17)),
        ((7, 300), (7, 300)),
        ((1, 1), (5, 3)),
        ((5, 3), (1, 1)),
        ((1, 9), (4, 4)),
        ((1000, 3), (33, 3)),
    ],
)
def test_it_resizes_like_tensorflow(old, new):
    pixels = np.random.default_rng(0).integers(0, 256, (*old, 3), np.uint8)
    resized = resize(pixels, *new)
    assert (resized.dtype, resized.shape) == (np.float32, (*new, 3))
    np.testing.assert_allclose(resized, tf.image.resize(pixels, new), atol=1e-3)


def test_floats_and_any_number_of_channels_are_resized():
    pixels = np.random.default_rng(0).normal(size=(9, 8, 5))
    expected = tf.image.resize(pixels.astype(np.float32), (20, 4))
    np.testing.assert_allclose(resize(pixels, 20, 4), expected, atol=1e-3)


@pytest.mark.parametrize("part", [slice(0, 7), slice(50, 96), slice(95, 96)])
def test_some_rows_are_the_same_as_in_the_whole(part):
    pixels = np.random.default_rng(0).integers(0, 256, (227, 40, 3), np.uint8)
    whole = resize(pixels, 96, 96)
    np.testing.assert_array_equal(resize(pixels, 96, 96, rows=part), whole[part])


def test_an_image_of_pillow_gives_the_same_as_its_array():
    pixels = np.random.default_rng(0).integers(0, 256, (227, 40, 3), np.uint8)
    expected = resize(pixels, 96, 96, slice(30, 50))
    np.testing.assert_array_equal(resize(Image.fromarray(pixels), 96, 96, slice(30, 50)), expected)


def test_an_image_is_not_changed_when_it_is_resized_to_its_own_size():
    pixels = np.random.default_rng(0).integers(0, 256, (12, 9, 3), np.uint8)
    np.testing.assert_array_equal(resize(pixels, 12, 9), pixels)


# Models are trained on what Keras' loader reads, or on features of what `read_image` and `resize`
# give. Both must be the same pixels.


def keras_differences(folder: Path, step: int = 1) -> np.ndarray:
    """How far Keras' loader and ours differ on every step-th image, in grey levels."""
    loaded = keras.utils.image_dataset_from_directory(
        folder, image_size=(160, 160), batch_size=None, shuffle=False, verbose=False
    )
    pairs = zip(loaded.shard(step, 0), loaded.file_paths[::step], strict=True)
    return np.stack([np.abs(image - resize(read_image(x), 160, 160)) for (image, _), x in pairs])


def test_keras_reads_the_same_pixels_of_a_png(sample, tmp_path):
    for name in ("Negative", "Positive"):
        (tmp_path / name).mkdir()
        for path in sorted((sample / name).iterdir())[:6]:
            Image.open(path).save(tmp_path / name / f"{path.stem}.png")
    assert keras_differences(tmp_path).max() < 1e-3


def test_tensorflow_decodes_a_jpeg_to_the_same_pixels_by_its_accurate_transform(sample):
    for path in sample.glob("Positive/*.jpg"):
        pixels = tf.io.decode_jpeg(path.read_bytes(), 3, dct_method="INTEGER_ACCURATE")
        np.testing.assert_array_equal(read_image(path), pixels)


def test_keras_reads_nearly_the_same_pixels_of_a_jpeg_by_its_fast_transform(sample):
    differences = keras_differences(sample)
    assert differences.mean() < 1
    assert np.quantile(differences, 0.99) < 3.01


@pytest.mark.real_data
def test_keras_reads_nearly_the_same_pixels_of_real_patches(real_data):
    differences = keras_differences(real_data / "metu", step=20)
    assert differences.mean() < 1
    assert np.quantile(differences, 0.99) < 3.01
    assert differences.max() < 5
