import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drawn_concrete import concrete
from drawn_concrete.clutter import CLUTTER
from drawn_concrete.joints import JOINTED
from drawn_concrete.lookalikes import LOOKALIKES
from drawn_concrete.make import make_patch, make_photo
from drawn_concrete.write import write_photos, write_sample


def digests(directory: Path) -> dict[str, str]:
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*.jpg")
    }


def test_a_sample_is_jpegs_by_class_that_depend_on_seed_class_and_number_only(tmp_path):
    folder = write_sample(tmp_path / "sample", count=5)
    assert sorted(digests(folder)) == [
        *(f"Negative/0000{i}.jpg" for i in (1, 2, 3)),
        *(f"Positive/0000{i}.jpg" for i in (1, 2)),
    ]
    with Image.open(folder / "Positive" / "00001.jpg") as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (227, 227))
    assert list(tmp_path.iterdir()) == [folder]
    (tmp_path / "empty").mkdir()
    assert digests(folder).items() < digests(write_sample(tmp_path / "empty", count=7)).items()
    other = digests(write_sample(tmp_path / "other", count=2, seed=1))
    assert not set(other.values()) & set(digests(folder).values())


def test_photos_stand_beside_masks_of_the_same_names(tmp_path):
    folder = write_photos(tmp_path / "photos", count=2)
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.*"))
    assert files == ["images/001.jpg", "images/002.jpg", "masks/001.png", "masks/002.png"]
    masks = [np.asarray(Image.open(folder / file)) for file in files[2:]]
    assert [sorted(np.unique(mask)) for mask in masks] == [[0], [0, 255]]
    grey = np.asarray(Image.open(folder / "images" / "002.jpg").convert("L"))
    assert grey.shape == masks[1].shape == (1500, 2000)
    assert grey[masks[1] > 0].mean() < grey[masks[1] == 0].mean() - 20


@pytest.mark.parametrize("cracked", [False, True])
def test_the_same_generator_state_gives_the_same_image_and_its_mask_shows_cracks(cracked):
    for make, size in ((make_patch, 64), (make_photo, (120, 200))):
        first, second = (make(np.random.default_rng(3), cracked, size) for _ in range(2))
        assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
        image, mask = first
        assert (image.dtype, image.shape) == (np.uint8, (*mask.shape, 3))
        assert mask.any() == cracked


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


def test_what_cannot_be_drawn_or_written_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine").write_text("mine")
    for directory, arguments, words in (
        (tmp_path, {}, "Received: a folder that is not empty"),
        (tmp_path / "mine", {}, "Received: a file"),
        (tmp_path / "new", {"count": 1}, "Received: count=1"),
        (tmp_path / "new", {"seed": -1}, "Received: seed=-1"),
    ):
        with pytest.raises(ValueError, match=words):
            write_sample(directory, **arguments)
    with pytest.raises(OSError, match="mine"):
        write_sample(tmp_path / "mine" / "sample", count=2)
    with pytest.raises(ValueError, match="Received: size=31"):
        make_patch(np.random.default_rng(0), cracked=True, size=31)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_standard_input_can_write_a_sample_and_needs_nothing_of_crackclf(tmp_path):
    source = (
        "import sys; sys.modules['crackclf'] = None; from drawn_concrete.write import write_sample;"
        "write_sample('a', count=2)"
    )
    subprocess.run([sys.executable, "-"], input=source, text=True, cwd=tmp_path, check=True)
    assert len(digests(tmp_path / "a")) == 2
