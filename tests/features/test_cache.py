import errno
import shutil
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest

from conftest import build_small
from crackclf.data.datasets import load_datasets
from crackclf.errors import UserError
from crackclf.features import cache as feature_cache
from crackclf.features import extract as feature_pass
from crackclf.features.cache import cache_features
from crackclf.images.decode import read_image
from crackclf.images.resize import resize
from crackclf.models.classifier import build_model
from crackclf.models.parts import split_model
from crackclf.training.callbacks import build_callbacks
from crackclf.training.fit import predict_features, train
from crackclf.training.run import train_folder


@pytest.fixture(scope="module")
def model():
    return build_small()


@pytest.fixture
def data(sample, tmp_path):
    """The sample with a cache of its own."""
    ignored = shutil.ignore_patterns(".crackclf")
    shutil.copytree(sample, tmp_path / "images", ignore=ignored)
    return load_datasets(tmp_path / "images", image_size=32, batch_size=8)


@pytest.fixture
def passes(monkeypatch):
    """Counts the images that go through the base."""
    seen = []
    build = feature_pass.build_extractor

    def counting(frozen):
        extract = build(frozen)

        def count(batch):
            seen.append(len(batch))
            return extract(batch)

        return count

    monkeypatch.setattr(feature_pass, "build_extractor", counting)
    return seen


def read(data, subset):
    """The images of a set as the cache reads them, and their one-hot labels."""
    images = [
        resize(read_image(path), data.image_size, data.image_size) for path in data.files[subset]
    ]
    return np.stack(images), np.eye(2)[data.labels[subset]]


def files(data):
    folder = data.split.parents[1] / "features"
    return sorted(folder.glob("*.f16")) + sorted(folder.glob("*.digests"))


def test_features_are_those_of_the_images_in_the_order_of_the_files(data):
    model = build_model(32, weights="random")
    features = cache_features(model, data)
    frozen = split_model(model).frozen
    for subset in ("validation", "test"):
        expected = frozen.predict(read(data, subset)[0], verbose=0)
        assert features[subset].shape == (len(expected), 1, 1280)
        np.testing.assert_allclose(features[subset][:, 0], expected, rtol=2e-3, atol=2e-3)
    assert len(features["train"]) == len(data.files["train"])
    predicted = split_model(model).head.predict(features["test"][:, 0].astype(float), verbose=0)
    np.testing.assert_allclose(
        predicted, model.predict(read(data, "test")[0], verbose=0), atol=1e-3
    )
    np.testing.assert_allclose(predict_features(model, data), predicted, atol=1e-6)


def test_another_head_costs_no_second_pass(model, data, passes):
    first = cache_features(model, data)
    n = sum(len(x) for x in data.files.values())
    assert sum(passes) == n
    other = build_small(dropout=0.5)
    second = cache_features(other, data)
    assert sum(passes) == n
    np.testing.assert_array_equal(first["train"], second["train"])


def test_another_base_size_augmentation_or_seed_is_another_cache(model, data, passes):
    cache_features(model, data, views=1)
    counts = [sum(passes)]

    def computed(*arguments, **settings):
        cache_features(*arguments, **settings)
        counts.append(sum(passes))
        return counts[-1] - counts[-2]

    assert computed(model, data, views=1) == 0
    train_images = 2 * len(data.files["train"])
    assert computed(model, data, views=1, seed=1) == train_images
    other = build_small(augmentation=keras.layers.RandomFlip(name="augmentation"))
    assert computed(other, data, views=1) == train_images
    kernel = other.get_layer("base").kernel
    kernel.assign(kernel + 1e-3)
    everything = sum(len(x) for x in data.files.values())
    assert computed(other, data) == everything
    larger = load_datasets(data.files["train"][0].parents[1], image_size=40)
    assert computed(build_small(40), larger) == everything


def test_views_differ_and_are_the_same_again(model, data):
    features = np.array(cache_features(model, data, views=2)["train"])
    assert features.shape[1] == 3
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(features[:, a] - features[:, b]).max() > 1e-3
    for path in files(data):
        path.unlink()
    np.testing.assert_array_equal(cache_features(model, data, views=2)["train"], features)


KILLED = """
import os, signal, sys
import keras
from crackclf.data.datasets import load_datasets
from crackclf.features import cache as feature_cache

write, written = feature_cache._Store.write, []

def write_and_die(store, block, features):
    write(store, block, features)
    written.append(block)
    if len(written) == 5:
        os.kill(os.getpid(), signal.SIGKILL)

feature_cache._BLOCK, feature_cache._Store.write = 4, write_and_die
images, model = sys.argv[1:]
data = load_datasets(images, image_size=32)
feature_cache.cache_features(keras.saving.load_model(model), data, views=1)
"""


def test_a_pass_killed_in_the_middle_goes_on_to_the_same_result(
    model, data, passes, monkeypatch, tmp_path
):
    model.save(tmp_path / "model.keras")
    arguments = data.files["train"][0].parents[1], tmp_path / "model.keras"
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-1000:]

    monkeypatch.setattr(feature_cache, "_BLOCK", 4)
    total = 2 * len(data.files["train"]) + len(data.files["validation"]) + len(data.files["test"])
    mended = {k: np.array(v) for k, v in cache_features(model, data, views=1).items()}
    assert sum(passes) == total - 5 * 4 * 2
    for path in files(data):
        path.unlink()
    for subset, features in cache_features(model, data, views=1).items():
        np.testing.assert_array_equal(features, mended[subset])


def test_a_damaged_block_is_computed_again_and_no_other(model, data, passes, monkeypatch):
    monkeypatch.setattr(feature_cache, "_BLOCK", 4)
    whole = np.array(cache_features(model, data)["train"])
    passes.clear()
    path = next(path for path in files(data) if path.name.startswith("train"))
    content = bytearray(path.read_bytes())
    content[5 * 4 * 8 * 2] ^= 1
    path.write_bytes(content[:-10])  # And the end is torn off.
    np.testing.assert_array_equal(cache_features(model, data)["train"], whole)
    last = len(whole) % 4 or 4
    assert sum(passes) == 4 + last


def test_a_full_disk_is_one_error_and_leaves_nothing_half(model, data, monkeypatch):
    def full(store, block, features):
        store.path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(feature_cache._Store, "write", full)
    with pytest.raises(UserError, match="could not be written"):
        cache_features(model, data)
    assert files(data) == []


def test_a_full_disk_costs_no_set_that_was_whole_before(model, data, passes, monkeypatch):
    cache_features(model, data, subsets=("test",))
    whole = files(data)

    def full(store, block, features):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(feature_cache._Store, "write", full)
        with pytest.raises(UserError, match="could not be written"):
            cache_features(model, data)
    assert files(data) == whole
    passes.clear()
    cache_features(model, data, subsets=("test",))
    assert passes == []


def test_a_disk_too_small_is_said_before_anything_is_computed(model, data, passes, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(feature_cache.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(UserError, match="the features need 0 MB, the disk has 0 MB"):
        cache_features(model, data)
    assert passes == []
    assert files(data) == []


def test_training_on_cached_features_trains_and_logs_the_whole_model(data, tmp_path, capsys):
    keras.utils.set_random_seed(0)
    model = build_model(32, weights="random", learning_rate=0.01)
    validation = read(data, "validation")
    before = model.evaluate(*validation, verbose=0)[0]
    history = train(model, data, build_callbacks(tmp_path / "logs"), 4, cache_features=True)
    assert set(history.history) == {"accuracy", "loss", "val_accuracy", "val_loss"}
    loss = model.evaluate(*validation, verbose=0)[0]
    assert loss == pytest.approx(min(history.history["val_loss"]), abs=2e-3)
    assert loss < before
    best = keras.saving.load_model(tmp_path / "logs" / "best.keras")
    assert best.input_shape == (None, 32, 32, 3)
    assert best.evaluate(*validation, verbose=0)[0] == pytest.approx(loss, abs=1e-5)
    assert (tmp_path / "logs" / "train").is_dir()
    assert "MB of features, which later runs use again" in capsys.readouterr().err


def test_views_below_none_are_refused(model, data):
    with pytest.raises(UserError, match="views must be 0 or more"):
        cache_features(model, data, views=-1)


def test_views_without_a_cache_are_refused_before_anything_is_written(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = data.files["train"][0].parents[1]
    with pytest.raises(UserError, match="Turn the cache on or leave out views"):
        train_folder(images, "saved_models/a", cache_features=False, views=2)
    assert not (tmp_path / "logs").exists()
