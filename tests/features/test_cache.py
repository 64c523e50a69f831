import errno
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from PIL import Image

from conftest import build_small
from crackclf.data.loading import load_datasets
from crackclf.data.splits import SUBSETS
from crackclf.errors import UserError
from crackclf.features import cache as feature_cache
from crackclf.features import extract as feature_pass
from crackclf.features.cache import cache_features
from crackclf.features.store import Store
from crackclf.images.decode import read_image
from crackclf.images.resize import resize
from crackclf.models.augmentation import build_augmentation
from crackclf.models.classifier import build_model
from crackclf.models.parts import split_model
from crackclf.training.callbacks import build_callbacks
from crackclf.training.fit import predict_features, train


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
    folder = data.directory / ".crackclf" / "features"
    return sorted(folder.glob("*.f16")) + sorted(folder.glob("*.digests"))


def distinct(data, *subsets):
    """How many images there are, equal ones counted once."""
    return len({digest for subset in subsets for digest in data.digests[subset]})


def test_features_are_those_of_the_images_in_the_order_of_the_files(data, tiny):
    model = build_model(32, tiny, weights="random")
    features = cache_features(model, data)
    frozen = split_model(model).frozen
    for subset in ("validation", "test"):
        expected = frozen.predict(read(data, subset)[0], verbose=0)
        assert features[subset].shape == (len(expected), 1, 64)
        np.testing.assert_allclose(features[subset][:, 0], expected, rtol=2e-3, atol=2e-3)
    assert len(features["train"]) == len(data.files["train"])
    predicted = split_model(model).head.predict(features["test"][:, 0].astype(float), verbose=0)
    np.testing.assert_allclose(
        predicted, model.predict(read(data, "test")[0], verbose=0), atol=1e-3
    )
    np.testing.assert_allclose(predict_features(model, data), predicted, atol=1e-6)


def test_another_head_costs_no_second_pass(model, data, passes):
    first = cache_features(model, data)
    n = distinct(data, *SUBSETS)
    assert sum(passes) == n
    other = build_small(dropout=0.5)
    second = cache_features(other, data)
    assert sum(passes) == n
    np.testing.assert_array_equal(first["train"][:], second["train"][:])


def test_another_split_or_seed_costs_no_second_pass(model, data, passes):
    images = data.files["train"][0].parents[1]
    cache_features(model, data)
    n = sum(passes)
    other = load_datasets(images, image_size=32, seed=1, validation_split=0.3)
    features = cache_features(model, other)
    assert sum(passes) == n
    frozen = split_model(model).frozen
    expected = frozen.predict(read(other, "validation")[0], verbose=0)
    np.testing.assert_allclose(features["validation"][:, 0], expected, rtol=2e-3, atol=2e-3)


def test_new_images_alone_are_computed(model, data, passes):
    images = data.files["train"][0].parents[1]
    cache_features(model, data)
    passes.clear()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(images / "Negative" / f"new-{number}.png")
    cache_features(model, load_datasets(images, image_size=32))
    assert sum(passes) == 3


def test_another_base_size_or_augmentation_is_another_pass(model, data, passes):
    cache_features(model, data, views=1)
    counts = [sum(passes)]

    def computed(*arguments, **settings):
        cache_features(*arguments, **settings)
        counts.append(sum(passes))
        return counts[-1] - counts[-2]

    assert computed(model, data, views=1) == 0
    other = build_small(augmentation=keras.layers.RandomFlip(name="augmentation"))
    assert computed(other, data, views=1) == distinct(data, "train")
    kernel = other.get_layer("base").kernel
    kernel.assign(kernel + 1e-3)
    assert computed(other, data) == distinct(data, *SUBSETS)
    larger = load_datasets(data.files["train"][0].parents[1], image_size=40)
    assert computed(build_small(40), larger) == distinct(data, *SUBSETS)


def test_views_stand_in_place_of_the_training_images_and_are_the_same_again(model, data):
    plain = cache_features(model, data)
    features = cache_features(model, data, views=2)
    views = features["train"][:]
    assert views.shape[:2] == (len(data.files["train"]), 2)
    for other in (views[:, 1], plain["train"][:, 0]):
        assert np.abs(views[:, 0] - other).max() > 1e-3
    np.testing.assert_array_equal(features["test"][:], plain["test"][:])
    for path in files(data):
        path.unlink()
    np.testing.assert_array_equal(cache_features(model, data, views=2)["train"][:], views)
    one = cache_features(model, data, views=1)["train"]
    np.testing.assert_array_equal(one[:, 0], views[:, 0])


KILLED = """
import os, signal, sys
import keras
from crackclf.data.loading import load_datasets
from crackclf.features import cache as feature_cache

append, done = feature_cache.Store.append, []

def append_and_die(store, keys, rows):
    append(store, keys, rows)
    done.append(keys)
    if len(done) == 5:
        os.kill(os.getpid(), signal.SIGKILL)

feature_cache.Store.append = append_and_die
images, model = sys.argv[1:]
data = load_datasets(images, image_size=32)
feature_cache.cache_features(keras.saving.load_model(model), data, views=1)
"""


def test_a_pass_killed_in_the_middle_goes_on_to_the_same_result(model, data, passes, tmp_path):
    model.save(tmp_path / "model.keras")
    arguments = data.files["train"][0].parents[1], tmp_path / "model.keras"
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-1000:]

    mended = {k: v[:] for k, v in cache_features(model, data, views=1).items()}
    last = (
        len(data.files["train"]) % 8
    )  # The fourth of the five blocks was the training set's last.
    assert sum(passes) == distinct(data, *SUBSETS) - (4 * 8 + last)
    for path in files(data):
        path.unlink()
    for subset, features in cache_features(model, data, views=1).items():
        np.testing.assert_array_equal(features[:], mended[subset])


def test_damaged_rows_are_computed_again_and_no_others(model, data, passes):
    whole = cache_features(model, data)["train"][:]
    passes.clear()
    [path] = (path for path in files(data) if path.suffix == ".f16")
    content = bytearray(path.read_bytes())
    content[5 * 8 * 2] ^= 1
    path.write_bytes(content[:-10])  # And the end is torn off.
    journal = path.with_suffix(".digests")
    journal.write_bytes(journal.read_bytes() + b"\n12,half of a li")
    np.testing.assert_array_equal(cache_features(model, data)["train"][:], whole)
    assert sum(passes) == 2


def test_a_full_disk_is_one_error_and_leaves_nothing_half(model, data, monkeypatch):
    def full(store, keys, rows):
        append(store, keys, rows)
        raise OSError(errno.ENOSPC, "No space left on device")

    append = Store.append
    monkeypatch.setattr(Store, "append", full)
    with pytest.raises(UserError, match="could not be written"):
        cache_features(model, data)
    assert files(data) == []


def test_a_full_disk_costs_nothing_that_was_whole_before(model, data, passes, monkeypatch):
    cache_features(model, data, subsets=("test",))
    before = [path.read_bytes() for path in files(data)]

    def full(store, keys, rows):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "append", full)
        with pytest.raises(UserError, match="could not be written"):
            cache_features(model, data)
    assert [path.read_bytes() for path in files(data)] == before
    passes.clear()
    cache_features(model, data, subsets=("test",))
    assert passes == []


def test_two_processes_share_the_work(model, data, passes):
    """The second one waits, and then finds what the first one has written."""
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: cache_features(model, data)["train"][:], range(2)))
    np.testing.assert_array_equal(*both)
    assert sum(passes) == distinct(data, *SUBSETS)


def test_a_disk_too_small_is_said_before_anything_is_computed(model, data, passes, monkeypatch):
    usage = type("Usage", (), {"free": 500})
    monkeypatch.setattr(feature_cache.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(UserError, match=r"the features need \d+ kB, the disk has \d+ kB"):
        cache_features(model, data)
    assert passes == []
    assert files(data) == []


def test_training_on_cached_features_trains_and_logs_the_whole_model(data, tiny, tmp_path, capsys):
    model = build_model(32, tiny, weights="random", learning_rate=0.01)
    validation = read(data, "validation")
    before = model.evaluate(*validation, verbose=0)[0]
    history = train(model, data, build_callbacks(tmp_path / "logs"), 4, views=0)
    assert set(history.history) == {"accuracy", "loss", "val_accuracy", "val_loss"}
    loss = model.evaluate(*validation, verbose=0)[0]
    assert loss == pytest.approx(min(history.history["val_loss"]), abs=2e-3)
    assert loss < before
    best = keras.saving.load_model(tmp_path / "logs" / "best.keras")
    assert best.input_shape == (None, 32, 32, 3)
    assert best.evaluate(*validation, verbose=0)[0] == pytest.approx(loss, abs=1e-5)
    assert (tmp_path / "logs" / "train").is_dir()
    assert "kept there for later runs" not in capsys.readouterr().err  # They are few kilobytes.


def test_an_image_that_was_changed_after_it_was_checked_is_named(model, data):
    changed = data.files["train"][3]
    Image.new("RGB", (32, 32)).save(changed)
    with pytest.raises(UserError, match=rf"{changed.name}: was changed while crackclf was at work"):
        cache_features(model, data)


def test_views_below_none_are_refused(model, data):
    with pytest.raises(UserError, match="views must be 0 or more"):
        cache_features(model, data, views=-1)


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
def test_training_sees_augmented_images_unless_told_otherwise(cached, black_and_white):
    """Where augmentation makes black of white, the classes are learnt the wrong way round."""
    data = black_and_white
    images, labels = read(data, "test")

    def learn(**settings):
        inverting = keras.layers.RandomInvert((1.0, 1.0), value_range=(0, 255), name="augmentation")
        model = build_small(augmentation=settings.pop("augmentation", inverting))
        model.optimizer.learning_rate = 0.05
        train(model, data, [], 5, cached, verbose=0, **settings)
        return model.evaluate(images, labels, verbose=0)[1]

    assert learn() < 0.2
    assert learn(augmentation=build_augmentation(0)) > 0.8
    if cached:
        assert learn(views=0) > 0.8
