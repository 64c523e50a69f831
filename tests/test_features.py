import shutil

import keras
import numpy as np
import pytest
from PIL import Image

from conftest import build_small
from crackclf.augmentation import build_augmentation
from crackclf.callbacks import build_callbacks
from crackclf.data import load_datasets, load_folds
from crackclf.errors import UserError
from crackclf.features import cache_features
from crackclf.model import build_model, split_model
from crackclf.training import predict_features, train


@pytest.fixture(scope="module")
def model():
    return build_small()


@pytest.fixture
def data(sample, tmp_path):
    """The sample with a cache of its own."""
    ignored = shutil.ignore_patterns(".crackclf")
    shutil.copytree(sample, tmp_path / "images", ignore=ignored)
    return load_datasets(tmp_path / "images", image_size=32, batch_size=8)


def read(data, subset):
    """The images of a set and their one-hot labels."""
    batches = [(x.numpy(), y.numpy()) for x, y in data.read(subset)]
    return tuple(map(np.concatenate, zip(*batches, strict=True)))


def arrays(data) -> dict[str, int]:
    """When each array in the cache was last written, by name."""
    folder = data.directory / ".crackclf" / "features"
    return {path.name: path.stat().st_ino for path in folder.iterdir()}


def test_features_are_those_of_the_images_in_the_order_of_the_files(data, tiny):
    model = build_model(32, tiny, weights="random")
    features = cache_features(model, data)
    frozen, head = split_model(model)[1:]
    for subset in ("train", "validation", "test"):
        expected = frozen.predict(read(data, subset)[0], verbose=0)
        assert features[subset].shape == (len(data.files[subset]), 1, 64)
        assert features[subset][:].dtype == np.float16
        np.testing.assert_allclose(features[subset][:, 0], expected, rtol=2e-3, atol=2e-3)
    predicted = predict_features(model, data)
    np.testing.assert_allclose(
        predicted, head.predict(features["test"][:, 0].astype(float), verbose=0), atol=1e-6
    )
    np.testing.assert_allclose(
        predicted, model.predict(read(data, "test")[0], verbose=0), atol=1e-3
    )


def test_another_head_costs_no_second_pass(model, data):
    first = cache_features(model, data)["train"][:]
    before = arrays(data)
    np.testing.assert_array_equal(cache_features(build_small(dropout=0.5), data)["train"], first)
    assert arrays(data) == before


def test_another_base_image_or_augmentation_is_another_pass(model, data):
    cache_features(model, data, views=1, subsets=["train"])
    counts = [len(arrays(data))]

    def is_computed(model, data, views=1):
        cache_features(model, data, views, ["train"])
        counts.append(len(arrays(data)))
        return counts[-1] > counts[-2]

    assert not is_computed(build_small(), data)
    assert is_computed(model, data, views=2)
    flip = keras.layers.RandomFlip(name="augmentation")
    other = build_small(augmentation=flip)
    assert is_computed(other, data)
    kernel = other.get_layer("base").kernel
    kernel.assign(kernel + 1e-3)
    assert is_computed(other, data)
    Image.new("RGB", (40, 40)).save(data.directory / "Negative" / "new.png")
    assert is_computed(model, load_datasets(data.directory, image_size=32, batch_size=8))


def test_views_replace_the_training_images_and_are_the_same_again(model, data):
    plain = cache_features(model, data)
    features = cache_features(model, data, views=2)
    views = features["train"][:]
    assert views.shape[:2] == (len(data.files["train"]), 2)
    for other in (views[:, 1], plain["train"][:, 0]):
        assert np.abs(views[:, 0] - other).max() > 1e-3
    np.testing.assert_array_equal(features["test"][:], plain["test"][:])
    shutil.rmtree(data.directory / ".crackclf" / "features")
    np.testing.assert_array_equal(cache_features(model, data, views=2)["train"][:], views)


def test_folds_share_one_pass_over_the_whole_folder(model, data):
    folds, everything = load_folds(data.directory, 3, 32, batch_size=8)
    before = arrays(data) if (data.directory / ".crackclf" / "features").exists() else {}
    for fold in folds:
        features = cache_features(model, fold)
        for subset in ("train", "validation", "test"):
            frozen = split_model(model).frozen
            expected = frozen.predict(read(fold, subset)[0], verbose=0)
            np.testing.assert_allclose(features[subset][:, 0], expected, rtol=2e-3, atol=2e-3)
    cache_features(model, everything, subsets=["train"])
    assert len(arrays(data)) - len(before) == 1


def test_the_cache_keeps_the_newest_eight_arrays(data):
    model = build_small()
    for _ in range(3):
        model.get_layer("base").kernel.assign_add(np.ones((5, 5, 3, 8)))
        cache_features(model, data)
    before = arrays(data)
    assert len(before) == 8
    cache_features(model, data)
    assert arrays(data) == before


def test_a_full_disk_is_one_error_and_leaves_nothing_half_written(model, sample, small_disk):
    for folder in ("Negative", "Positive"):
        shutil.copytree(sample / folder, small_disk / "images" / folder)
    data = load_datasets(small_disk / "images", image_size=32, batch_size=8)
    cache_features(model, data, subsets=["test"])
    before = arrays(data)
    (small_disk / "hog").write_bytes(bytes(shutil.disk_usage(small_disk).free - 4096))
    with pytest.raises(UserError, match=r"\.npy: the features could not be written"):
        cache_features(model, data, views=300)
    assert arrays(data) == before


def test_views_below_none_are_refused(model, data):
    with pytest.raises(UserError, match="views must be 0 or more"):
        cache_features(model, data, views=-1)


def test_training_on_cached_features_trains_and_logs_the_whole_model(data, tiny, tmp_path):
    model = build_model(32, tiny, weights="random", learning_rate=0.01)
    validation = read(data, "validation")
    before = model.evaluate(*validation, verbose=0)[0]
    history = train(model, data, build_callbacks(tmp_path / "logs"), 4, views=0, verbose=0)
    assert set(history.history) == {"accuracy", "loss", "val_accuracy", "val_loss"}
    loss = model.evaluate(*validation, verbose=0)[0]
    assert loss == pytest.approx(min(history.history["val_loss"]), abs=2e-3)
    assert loss < before
    best = keras.saving.load_model(tmp_path / "logs" / "best.keras")
    assert best.input_shape == (None, 32, 32, 3)
    assert best.evaluate(*validation, verbose=0)[0] == pytest.approx(loss, abs=1e-5)


@pytest.fixture(scope="module")
def black_and_white(tmp_path_factory):
    """Black images are sound, white ones cracked; each a little different from the others."""
    folder = tmp_path_factory.mktemp("black and white")
    for name, level in (("Negative", 0), ("Positive", 215)):
        (folder / name).mkdir()
        for number in range(40):
            image = Image.new("RGB", (32, 32), (level, level + number, level))
            image.save(folder / name / f"{number}.png")
    return load_datasets(folder, image_size=32, batch_size=4)


@pytest.mark.parametrize("cached", [True, False])
def test_training_sees_augmented_images_unless_augmentation_is_off(cached, black_and_white):
    """Where augmentation makes black of white, the classes are learnt the wrong way round."""
    data = black_and_white
    images, labels = read(data, "test")

    def learn(augmentation, **settings):
        model = build_small(augmentation=augmentation)
        model.optimizer.learning_rate = 0.05
        train(model, data, [], 5, cached, verbose=0, **settings)
        return model.evaluate(images, labels, verbose=0)[1]

    inverting = keras.layers.RandomInvert((1.0, 1.0), value_range=(0, 255), name="augmentation")
    assert learn(inverting) < 0.2
    if cached:
        assert learn(inverting, views=0) > 0.8
    else:
        assert learn(build_augmentation(0)) > 0.8
