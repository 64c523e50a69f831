import numpy as np
import pytest
import tensorflow as tf

from crackclf.data.loading import load_datasets
from crackclf.images.decode import read_image
from crackclf.images.resize import resize
from crackclf.torch import CrackDataset
from crackclf.torch.pytorch import torch


@pytest.fixture(scope="module")
def data(sample):
    return load_datasets(sample, image_size=40, batch_size=8)


def test_the_dataset_gives_the_pixels_that_predict_sees(data):
    images = CrackDataset(data, "train", augment=False)
    image, label = images[3]
    expected = resize(read_image(data.files["train"][3]), 40, 40)
    np.testing.assert_array_equal(image.permute(1, 2, 0), expected)
    assert (image.dtype, label) == (torch.float32, data.labels["train"][3])


def test_the_dataset_gives_the_pixels_that_keras_sees(data):
    images = CrackDataset(data, "test")
    assert len(images) == len(data.files["test"])
    expected, labels = next(iter(data.test))
    for i in range(len(expected)):
        image, label = images[i]
        assert image.shape == (3, 40, 40)
        assert label == int(tf.argmax(labels[i]))
        # TensorFlow's JPEG decoder is rougher than Pillow's.
        difference = np.abs(image.permute(1, 2, 0).numpy() - expected[i])
        assert difference.mean() < 2


def test_training_images_are_augmented_and_others_are_not(data):
    for subset in ("train", "validation"):
        images, plain = CrackDataset(data, subset), CrackDataset(data, subset, augment=False)
        seen = torch.stack([images[3][0] for _ in range(8)])
        changed = [(image - plain[3][0]).abs().max() > 1 for image in seen]
        assert all(changed) if subset == "train" else not any(changed)
        assert 0 <= seen.min() <= seen.max() <= 255
