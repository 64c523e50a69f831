"""The drawn sample of concrete patches."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from crackclf.errors import UserError
from crackclf.sample import concrete
from crackclf.sample.clutter import CLUTTER
from crackclf.sample.joints import JOINTED
from crackclf.sample.lookalikes import LOOKALIKES
from crackclf.sample.make import distract, make_patch, make_photo
from crackclf.sample.write import write_photos, write_sample


def digests(directory: Path) -> dict[str, str]:
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*.jpg")
    }


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("seven") / "sample", count=7)


def test_an_image_depends_on_seed_class_and_number_but_not_on_count(seven, tmp_path):
    larger = digests(write_sample(tmp_path / "sample", count=9))
    assert len(larger) == 9
    assert digests(seven).items() < larger.items()


def test_the_number_of_workers_changes_no_image(seven, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert digests(write_sample(tmp_path / "sample", count=7)) == digests(seven)


def test_different_seeds_give_different_images(seven, tmp_path):
    other = digests(write_sample(tmp_path / "sample", count=2, seed=1))
    assert not set(other.values()) & set(digests(seven).values())


def test_files_are_numbered_rgb_jpegs_of_227_pixels(seven):
    assert sorted(path.name for path in seven.iterdir()) == ["Negative", "Positive"]
    assert sorted(p.name for p in (seven / "Positive").iterdir()) == [
        "00001.jpg",
        "00002.jpg",
        "00003.jpg",
    ]
    for path in seven.rglob("*.jpg"):
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (227, 227))


def test_the_odd_image_is_negative(seven):
    counts = [len(list((seven / name).iterdir())) for name in ("Negative", "Positive")]
    assert counts == [4, 3]


def test_nothing_but_the_sample_is_left_beside_it(seven):
    assert list(seven.parent.iterdir()) == [seven]


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "sample").mkdir()
    assert len(digests(write_sample(tmp_path / "sample", count=2))) == 2


@pytest.mark.parametrize("cracked", [False, True])
@pytest.mark.parametrize("size", [32, 227])
def test_a_patch_is_uint8_rgb_with_a_mask_of_its_size(cracked, size):
    image, mask = make_patch(np.random.default_rng(5), cracked, size)
    assert (image.dtype, image.shape) == (np.uint8, (size, size, 3))
    assert (mask.dtype, mask.shape) == (np.bool_, (size, size))


def test_a_patch_too_small_for_a_crack_is_refused():
    with pytest.raises(UserError, match="Received: size=31"):
        make_patch(np.random.default_rng(0), cracked=True, size=31)


def test_the_same_generator_state_gives_the_same_patch():
    first, second = (make_patch(np.random.default_rng(3), cracked=True) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_sound_patch_has_an_empty_mask():
    assert not any(make_patch(np.random.default_rng(i), cracked=False)[1].any() for i in range(10))


def test_crack_pixels_are_darker_than_their_surroundings():
    differences = []
    for seed in range(40):
        image, mask = make_patch(np.random.default_rng(seed), cracked=True)
        assert 0 < mask.sum() < 0.6 * mask.size
        grey = image.mean(axis=2)
        around = ndimage.binary_dilation(mask, iterations=12) & ~mask
        differences.append(grey[around].mean() - grey[mask].mean())
    assert np.mean(differences) > 40
    assert np.mean(np.array(differences) > 10) > 0.9


def test_a_relative_path_means_the_present_folder_in_a_later_call_too(tmp_path, monkeypatch):
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert write_sample("sample", count=2) == Path("sample")
        assert len(digests(tmp_path / name)) == 2


def test_surface_and_crack_fill_a_canvas_of_any_shape():
    rng, shape = np.random.default_rng(0), (120, 300)
    canvas = distract(rng, concrete.surface(rng, shape))
    coverage, side = concrete.crack(rng, shape, 6)
    image = concrete.photograph(rng, concrete.carve(rng, canvas, coverage, side, 6))
    assert coverage.shape == side.shape == shape
    assert image.shape == (*shape, 3)


@pytest.mark.parametrize("lookalike", LOOKALIKES + CLUTTER + JOINTED)
def test_every_lookalike_keeps_the_canvas_finite_and_changes_it(lookalike):
    changed = 0
    for seed in range(3):
        rng = np.random.default_rng(seed)
        before = concrete.surface(rng, (90, 130))
        after = lookalike(rng, before.copy())
        assert after.shape == before.shape
        assert np.isfinite(after).all()
        changed += not np.array_equal(before, after)
    assert changed


def test_a_folder_with_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match=r"Received: a folder that is not empty"):
        write_sample(tmp_path, count=2)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_a_file_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(UserError, match=r"Received: a file"):
        write_sample(tmp_path / "mine", count=2)
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_path_below_a_file_is_refused(tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(UserError, match=r"mine/sample: the sample cannot be written"):
        write_sample(tmp_path / "mine" / "sample", count=2)


@pytest.mark.parametrize(
    ("arguments", "received"),
    [({"count": 1}, "count=1"), ({"count": -3}, "count=-3"), ({"seed": -1}, "seed=-1")],
)
def test_a_number_out_of_range_is_refused(arguments, received, tmp_path):
    with pytest.raises(UserError, match=f"Received: {received}"):
        write_sample(tmp_path / "sample", **arguments)
    assert not list(tmp_path.iterdir())


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(images, *_, **__):
        next(images)
        assert list(tmp_path.rglob("*.jpg"))
        raise KeyboardInterrupt

    monkeypatch.setattr("tqdm.tqdm", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_sample(tmp_path / "sample", count=2)
    assert not list(tmp_path.iterdir())


def test_a_script_without_a_main_guard_and_standard_input_can_write(tmp_path):
    source = "from crackclf.sample.write import write_sample\nwrite_sample({!r}, count=2)\n"
    script = tmp_path / "script.py"
    script.write_text(source.format("from_script"))
    for command, text in [([script], ""), (["-"], source.format("from_input"))]:
        subprocess.run(
            [sys.executable, *command], input=text, text=True, cwd=tmp_path, check=True, timeout=60
        )
    assert len(digests(tmp_path)) == 4


@pytest.mark.parametrize("cracked", [False, True])
def test_a_photo_is_uint8_rgb_and_its_mask_shows_whether_it_is_cracked(cracked):
    for seed in range(5):
        image, mask = make_photo(np.random.default_rng(seed), cracked, (120, 200))
        assert (image.dtype, image.shape) == (np.uint8, (120, 200, 3))
        assert (mask.dtype, mask.shape) == (np.bool_, (120, 200))
        assert mask.any() == cracked


def test_the_same_generator_state_gives_the_same_photo():
    first, second, third = (
        make_photo(np.random.default_rng(seed), True, (120, 200)) for seed in (3, 3, 4)
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(first, third, strict=True))


@pytest.mark.parametrize("shape", [(31, 200), (200, 31)])
def test_a_photo_too_small_for_a_crack_is_refused(shape):
    with pytest.raises(UserError, match=rf"Received: shape=\({shape[0]}, {shape[1]}\)"):
        make_photo(np.random.default_rng(0), True, shape)


@pytest.fixture(scope="module")
def two_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("two") / "photos", count=2)


def test_photos_are_large_jpegs_beside_masks_of_the_same_names(two_photos):
    files = sorted(p.relative_to(two_photos).as_posix() for p in two_photos.rglob("*.*"))
    assert files == ["images/001.jpg", "images/002.jpg", "masks/001.png", "masks/002.png"]
    for path, kind in [(two_photos / file, file[-3:]) for file in files]:
        with Image.open(path) as image:
            assert image.format == {"jpg": "JPEG", "png": "PNG"}[kind]
            assert image.size == (2000, 1500)
            assert image.mode == "RGB" or kind == "png"


def test_odd_photos_are_sound_and_even_ones_cracked_where_their_mask_says(two_photos):
    sound, cracked = (
        np.asarray(Image.open(path).convert("L")) for path in sorted(two_photos.glob("masks/*"))
    )
    assert not sound.any()
    assert set(np.unique(cracked)) == {0, 255}
    grey = np.asarray(Image.open(two_photos / "images" / "002.jpg").convert("L"))
    assert grey[cracked > 0].mean() < grey[cracked == 0].mean() - 20
