import dataclasses
import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Side by side, each with a thread for every core, tests would wait for one another.
    for _name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(_name, "1")

import numpy as np
import pytest
from PIL import ExifTags, Image

_SLOW = ("test_recipe.py", "test_notebooks.py", "test_compare.py", "test_training.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests go first: begun last, they keep one core waiting for the other."""
    items.sort(key=lambda item: item.path.name not in _SLOW)


def save_noise(path: Path, seed: int, size: tuple[int, int] = (40, 40), mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], channels), np.uint8)
    Image.fromarray(pixels.squeeze(), mode=mode if mode == "CMYK" else None).save(path)
    return path


def draw_blot(box: tuple[int, ...] = (), size: tuple[int, int] = (120, 90)) -> Image.Image:
    """A bright photo, with a dark blot in a box of left, top, right, bottom."""
    photo = Image.new("RGB", size, (230, 230, 230))
    photo.putpixel((0, 0), (250, 250, 250))  # A photo of one colour shows nothing.
    if box:
        photo.paste((10, 10, 10), box)
    return photo


def plain(size: tuple[int, int], colour: Any) -> Image.Image:
    """A picture of one colour but for a pixel: one of one colour shows nothing, and is refused."""
    picture = Image.new("RGB", size, colour)
    picture.putpixel((0, 0), tuple((x + 20) % 256 for x in picture.getpixel((0, 0))))
    return picture


def add_grain(photo: Image.Image) -> Image.Image:
    """A photo with the grain that every camera adds; without, sharp and blurred look alike."""
    grain = np.random.default_rng(0).normal(0, 4, (photo.height, photo.width, 1))
    return Image.fromarray(np.clip(np.asarray(photo) + grain, 0, 255).astype(np.uint8))


class DarkPixels:
    """A network like that in the box, whose mask is where a picture is dark."""

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        n, height, width, _ = images.shape
        grey = images.reshape(n, height // 4, 4, width // 4, 4, 3).mean(axis=(2, 4, 5))
        logits = np.zeros((n, height // 32, width // 32, 2), np.float32)
        return [logits, np.where(grey < 100, 8, -8)[..., None].astype(np.float32)]


@pytest.fixture(scope="session", autouse=True)
def _box_of_dark_pixels():
    """Where a model of one's own sees cracks, the mask of dark pixels says where they are."""
    from crackclf.photos import photo
    from crackclf.prediction import Classifier
    from crackclf.saving import Card

    card = Card(("crack", "no_crack"), "crack", 192, cell_size=32, mask_stride=4, patch_size=227)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(photo, "_load_box", lambda: Classifier(card, DarkPixels()))
        yield


def make_exif(base=None, details=None, gps=None) -> Image.Exif:
    exif = Image.Exif()
    exif.update(base or {})
    exif.get_ifd(ExifTags.IFD.Exif).update(details or {})
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(gps or {})
    return exif


def run(monkeypatch, *arguments) -> int:
    """Runs a command in this process and returns its exit status."""
    from crackclf import cli

    monkeypatch.setattr(sys, "argv", ["crackclf", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return caught.value.code or 0


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a data folder of noise images: make_folder({"Negative": 3, "Positive": 3})."""

    def make(counts: dict[str, int], name: str = "images") -> Path:
        seed = 0
        for class_name, count in counts.items():
            for i in range(count):
                save_noise(tmp_path / name / class_name / f"{i:03d}.png", seed)
                seed += 1
        return tmp_path / name

    return make


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from crackclf.sample import write_sample

    return write_sample(tmp_path_factory.mktemp("data") / "sample", count=48, seed=3)


@pytest.fixture(scope="session")
def weights_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights folder with random MobileNetV2 weights, so that no test needs a network."""
    import keras

    folder = tmp_path_factory.mktemp("weights")
    keras.utils.set_random_seed(0)
    shape = (32, 32, 3)
    base = keras.applications.MobileNetV2(
        shape, include_top=False, weights=None, name="mobilenetv2"
    )
    base.save_weights(folder / "mobilenetv2.weights.h5")
    return folder


def build_keras():
    """A Keras model that calls an image cracked the darker it is; its answers are known."""
    import keras

    inputs = keras.Input((32, 32, 3))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    head = keras.layers.Dense(2, activation="softmax")
    model = keras.Model(inputs, head(x))
    head.set_weights([np.array([[0.02, -0.02]] * 3), np.array([-7.65, 7.65])])
    return model


def build_card(**changes):
    from crackclf.saving import Card

    return Card(
        ("Negative", "Positive"), **{"positive_class": "Positive", "image_size": 32} | changes
    )


def sign(folder: Path) -> None:
    """Writes the checksums of a saved model's files, as they are now, into its card."""
    from crackclf.files import sha256

    path = folder / "card.json"
    card = json.loads(path.read_text())
    sums = {name: sha256(folder / name) for name in card["sha256"]}
    path.write_text(json.dumps(card | {"sha256": sums}))


def build_small(image_size=32, augmentation=None, dropout=0.2):
    """A model as `build_model` makes them, on a base that is soon converted, always the same."""
    import keras

    from crackclf.augmentation import build_augmentation

    start = keras.initializers.GlorotUniform(seed=0)
    base = keras.layers.Conv2D(8, 5, 2, activation="relu", name="base", kernel_initializer=start)
    base.trainable = False
    inputs = keras.Input((image_size, image_size, 3))
    x = (augmentation or build_augmentation())(inputs)
    x = keras.layers.Rescaling(1 / 255)(x)
    x = keras.layers.GlobalMaxPooling2D(name="pooling")(base(x))
    outputs = keras.layers.Dense(2, activation="softmax")(keras.layers.Dropout(dropout)(x))
    model = keras.Model(inputs, outputs)
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    return model


@pytest.fixture(scope="session")
def save_keras(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """As `save_model(build_keras(), folder, card)`, but the model is converted once for all."""
    from crackclf.saving import Card, save_model

    whole = save_model(build_keras(), tmp_path_factory.mktemp("keras") / "model", build_card())
    written = Card.read(whole / "card.json")

    def save(folder: Path | str, card: Card) -> Path:
        shutil.copytree(whole, folder)
        card = dataclasses.replace(
            card, versions=written.versions, cell_size=written.cell_size, sha256=written.sha256
        )
        (Path(folder) / "card.json").write_text(card.to_json())
        return Path(folder)

    return save


@pytest.fixture(scope="module")
def tiny() -> Iterator[str]:
    """The name of a backbone that is built soon; for tests of what is the same with any."""
    from crackclf.backbones import BACKBONES
    from tiny import TINY

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "tiny", TINY)
        yield "tiny"


def from_keras(model, card):
    """A `Classifier` of a Keras model that is not saved."""
    from crackclf.conversion import convert_model
    from crackclf.prediction import Classifier

    graph, cell_size = convert_model(model)
    return Classifier(dataclasses.replace(card, cell_size=cell_size), graph)


@pytest.fixture(scope="session")
def classifier():
    """`build_keras`, as it answers once it is saved."""
    return from_keras(build_keras(), build_card())


@pytest.fixture(scope="session")
def inspector(classifier):
    """The same, by whose card a region needs a peak above 0.5."""
    card = dataclasses.replace(
        classifier.card, sound_peaks=(0.5,) * 19, sha256={"model.keras": "0" * 64}
    )
    return dataclasses.replace(classifier, card=card)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium here")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images that CRACKCLF_REAL_DATA names: metu/ and sdnet2018/."""
    folder = os.environ.get("CRACKCLF_REAL_DATA")
    if not folder:
        pytest.skip("CRACKCLF_REAL_DATA names no folder of real images")
    return Path(folder)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def poor_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk without links, as exFAT is, and with the fsync of Windows, for which a file must be
    open for writing.
    """
    sync = os.fsync

    def fsync(file: int) -> None:
        if fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        sync(file)

    def refuse(source, *_, **__) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", str(source))

    monkeypatch.setattr(os, "fsync", fsync)
    for name in ("symlink", "link"):
        monkeypatch.setattr(os, name, refuse)
