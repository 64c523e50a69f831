import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crackclf.errors import UserError
from sets import cut_frames, cut_sound, draw_jointed, draw_sample, read_frames, read_sdnet

_COLUMNS = 18


def save(path: Path, colour: tuple[int, ...], side: int = 256) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), colour).save(path)


@pytest.fixture
def sdnet(tmp_path):
    """Some patches of four photos, and one photo of 234 squares, of which two are cracked."""
    folder = tmp_path / "sdnet"
    for photo in ("D_7025", "P_001", "W_1", "W_2"):
        for number, name in enumerate(("crack", "no_crack", "crack")):
            save(folder / name / f"{photo}-{number + 1}.jpg", (9, 9, 9), 32)
    for number in range(1, 13 * _COLUMNS + 1):
        name = "crack" if number in (40, 120) else "no_crack"
        save(folder / name / f"P_777-{number}.jpg", (200, 0, 0) if name == "crack" else (0, 200, 0))
    return folder


def test_a_photo_is_on_one_side_and_a_whole_one_is_no_training_patch(sdnet):
    sets = read_sdnet(sdnet)
    photos = {name: {item.photo for item in items} for name, items in sets.items()}
    assert photos == {
        "train": {"W_1", "W_2"},
        "validation": {"D_7025"},
        "test": {"P_001"},
        "whole": {"P_777"},
    }
    assert sum(item.is_cracked for item in sets["whole"]) == 2


def test_a_name_that_says_no_photo_is_refused(sdnet):
    save(sdnet / "crack" / "mine.jpg", (0, 0, 0))
    with pytest.raises(UserError, match=r"mine\.jpg: expected crack/ and no_crack/ with names as"):
        read_sdnet(sdnet)


def test_sound_views_of_a_whole_photo_touch_no_cracked_square(sdnet, tmp_path, monkeypatch):
    monkeypatch.setattr("sets._SOUND_VIEWS", 20)
    squares = read_sdnet(sdnet)["whole"]
    items = cut_sound(squares, tmp_path / "sound", seed=0)
    assert len(items) == 20
    assert {item.photo for item in items} == {"P_777"}
    for item in items:
        pixels = np.asarray(Image.open(item.path))
        assert pixels.shape == (256, 256, 3)
        assert pixels[..., 0].max() < 40
    assert cut_sound(squares, tmp_path / "sound", seed=1) == items  # They are there already.


@pytest.fixture
def uav(tmp_path):
    mask = np.zeros((64, 96), np.uint8)
    mask[:32, :32] = 255
    mask[40, 40] = 255  # Too little to be a crack, too much to be none.
    for name, pixels in (("images", np.full((64, 96, 3), 99, np.uint8)), ("masks", mask)):
        (tmp_path / "uav" / name).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "uav" / name / "a-1.png")
    return tmp_path / "uav"


def test_frames_are_cut_and_labelled_by_their_masks(uav, tmp_path):
    items = cut_frames(read_frames(uav), tmp_path / "patches")
    assert {item.photo for item in items} == {"a-1"}
    assert [item.path.name for item in items if item.is_cracked] == ["a-1-0-0.png"]
    assert [item.path.name for item in items if not item.is_cracked] == [
        *("a-1-0-1.png", "a-1-0-2.png", "a-1-1-0.png", "a-1-1-2.png")
    ]


def test_a_frame_needs_a_mask_of_its_size(uav, tmp_path):
    save(uav / "masks" / "a-1.png", (0, 0, 0), 32)
    with pytest.raises(UserError, match=r"masks/a-1\.png: expected the size of"):
        cut_frames(read_frames(uav), tmp_path / "patches")
    assert not (tmp_path / "patches").exists()
    (uav / "masks" / "a-1.png").unlink()
    with pytest.raises(UserError, match=r"a-1\.png: has no mask in"):
        read_frames(uav)


def test_drawn_sets_are_made_once_and_joints_are_of_every_kind(tmp_path):
    sample = draw_sample(tmp_path / "drawn", 4)
    assert sorted(item.is_cracked for item in sample) == [False, False, True, True]
    jointed = draw_jointed(tmp_path / "jointed", 12)
    assert not any(item.is_cracked for item in jointed)
    kinds = {re.sub(r"-\d+", "", item.path.stem) for item in jointed}
    assert {"setts", "bricks", "paving", "kerb"} < kinds
    before = jointed[0].path.read_bytes()
    assert draw_jointed(tmp_path / "jointed", 12) == jointed
    assert jointed[0].path.read_bytes() == before
