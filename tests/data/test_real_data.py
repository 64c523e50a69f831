import numpy as np
import pytest

from crackclf.data.folders import read_folder
from crackclf.data.loading import load_datasets
from crackclf.images.decode import read_image

pytestmark = pytest.mark.real_data


def test_metus_identical_files_are_found_and_kept_on_one_side(real_data):
    images, names, _ = read_folder(real_data / "metu")
    assert names == ["Negative", "Positive"]
    _, counts = np.unique([image.digest for image in images], return_counts=True)
    assert len(images) == 10_000
    assert (counts > 1).sum() == 66 + 308
    data = load_datasets(real_data / "metu", validation_split=0.2375, test_split=0.0125)
    sides = [set(found) for found in data.digests.values()]
    assert not sides[0] & sides[1]
    assert not (sides[0] | sides[1]) & sides[2]
    assert data.counts == {
        "train": {"Negative": 3750, "Positive": 3750},
        "validation": {"Negative": 1188, "Positive": 1188},
        "test": {"Negative": 62, "Positive": 62},
    }


def test_sdnets_photos_are_kept_on_one_side(real_data):
    data = load_datasets(real_data / "sdnet2018", group_by=r"_(\d+)-")
    photos = [{path.name.split("-")[0] for path in files} for files in data.files.values()]
    assert len(photos[0] | photos[1] | photos[2]) == sum(map(len, photos)) == 115
    for name in data.class_names:
        total = sum(counts[name] for counts in data.counts.values())
        for subset, share in (("train", 0.6), ("validation", 0.2), ("test", 0.2)):
            assert data.counts[subset][name] == pytest.approx(total * share, rel=0.1)


def test_tensorflow_decodes_real_photographs_to_nearly_the_same_pixels(real_data):
    import tensorflow as tf

    for path in sorted((real_data / "metu" / "Positive").iterdir())[:200:10]:
        theirs = tf.io.decode_jpeg(tf.io.read_file(str(path)), channels=3).numpy().astype(int)
        difference = np.abs(theirs - read_image(path))
        # TensorFlow's default is libjpeg's fast transform, Pillow's the accurate one.
        assert difference.mean() < 1.5
        assert difference.max() < 8
