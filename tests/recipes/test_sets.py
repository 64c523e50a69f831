import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drawn import CENTRE, draw_concrete, draw_jointed, draw_on_real, mark_centre, tile
from drawn_concrete.make import make_patch
from sets import cut_frames, cut_sound, read_frames, read_sdnet, read_textures, write_scenes

COLUMNS = 18


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
    for number in range(1, 13 * COLUMNS + 1):
        name = "crack" if number in (40, 120) else "no_crack"
        save(folder / name / f"P_777-{number}.jpg", (200, 0, 0) if name == "crack" else (0, 200, 0))
    changes = [("name", "relabelled"), ("P_001-1.jpg", "no_crack"), ("P_001-3.jpg", "removed")]
    with (tmp_path / "changes.csv").open("w", newline="") as file:
        csv.writer(file).writerows(changes)
    return folder, tmp_path / "changes.csv"


def test_a_photo_is_on_one_side_and_labels_are_put_right(sdnet):
    sets = read_sdnet(*sdnet)
    photos = {name: {item.photo for item in items} for name, items in sets.items()}
    assert photos == {
        "train": {"W_1", "W_2", "P_777"},
        "validation": {"D_7025"},
        "test": {"P_001"},
        "as published": {"P_001"},
        "whole": {"P_777"},
    }
    cracked = {k: {x.path.name: x.is_cracked for x in sets[k]} for k in ("test", "as published")}
    assert cracked["test"] == {"P_001-1.jpg": False, "P_001-2.jpg": False}
    assert cracked["as published"] == {f"P_001-{i}.jpg": i != 2 for i in (1, 2, 3)}


def test_sound_views_of_a_whole_photo_touch_no_cracked_square(sdnet, tmp_path):
    squares = read_sdnet(*sdnet)["whole"]
    items = cut_sound(squares, tmp_path / "sound", 20, seed=0)
    assert len(items) == 20
    assert {item.photo for item in items} == {"P_777"}
    for item in items:
        pixels = np.asarray(Image.open(item.path))
        assert pixels.shape == (256, 256, 3)
        assert pixels[..., 0].max() < 40
    assert cut_sound(squares, tmp_path / "sound", 20, seed=1) == items  # They are there already.


def test_frames_are_cut_and_labelled_by_their_masks(tmp_path):
    mask = np.zeros((64, 96), np.uint8)
    mask[:32, :32] = 255
    mask[40, 40] = 255  # Too little to be a crack, too much to be none.
    for number in (70, 71, 500):
        for name, pixels in (("images", np.full((64, 96, 3), 99, np.uint8)), ("masks", mask)):
            (tmp_path / "uav" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "uav" / name / f"a-{number}.png")
    frames = read_frames(tmp_path / "uav", tmp_path / "masks")
    subset_of = {item.photo: name for name, items in frames.items() for item in items}
    assert subset_of == {"a-70": "test", "a-71": "test", "a-500": "validation"}  # By neighbours.
    items = cut_frames(frames["validation"], tmp_path / "patches")
    assert {item.photo for item in items} == {"a-500"}
    assert [item.path.name for item in items if item.is_cracked] == ["a-500-0-0.png"]
    assert [item.path.name for item in items if not item.is_cracked] == [
        *("a-500-0-1.png", "a-500-0-2.png", "a-500-1-0.png", "a-500-1-2.png")
    ]


def test_of_each_kind_of_texture_a_quarter_is_for_the_tests(tmp_path):
    for kind in ("Bricks", "Granite"):
        for number in range(16):
            save(tmp_path / kind / f"{number:02}.png", (99, 99, 99), 32)
    sets = read_textures(tmp_path)
    assert {name: len(items) for name, items in sets.items()} == {
        "train": 20,
        "validation": 2,
        "test": 4,
    }
    assert {item.path.parent.name for item in sets["test"]} == {"Bricks"}  # They have joints.


@pytest.mark.parametrize("draw", [draw_concrete, draw_jointed, make_patch])
def test_drawn_scenes_have_a_mask_where_they_are_cracked(draw):
    for cracked in (False, True):
        image, mask = draw(np.random.default_rng(3), cracked)
        assert image.dtype == np.uint8
        assert image.shape[:2] == mask.shape
        assert mask.any() == cracked


def test_a_crack_on_a_real_surface_changes_it_only_near_the_crack(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(120, 180, (200, 200, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "sound.png")
    image, mask = draw_on_real(np.random.default_rng(1), True, [tmp_path / "sound.png"])
    changed = np.abs(image.astype(int) - pixels).max(axis=2) > 8
    assert changed[mask].mean() > 0.8
    assert changed[~mask].mean() < 0.4


def test_a_texture_is_repeated():
    texture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 48, 3), np.uint8))
    assert tile(np.random.default_rng(0), texture, 100).size == (100, 100)


def test_scenes_are_written_once_and_half_of_them_are_sound(tmp_path):
    items = write_scenes(tmp_path / "drawn", make_patch, 4, (1, 2), 0.02)
    assert [item.is_cracked for item in items] == [False, False, True, True]
    masks = [np.asarray(Image.open(item.mask)) for item in items]
    assert [bool(mask.any()) for mask in masks] == [False, False, True, True]
    before = items[0].path.read_bytes()
    assert write_scenes(tmp_path / "drawn", make_patch, 4, (3, 4), 0.02) == items
    assert items[0].path.read_bytes() == before


def test_the_centre_of_a_crack_is_marked():
    mask = np.zeros((20, 20), bool)
    mask[8:13] = True
    marked = mark_centre(mask)
    assert ((marked > 0) == mask).all()
    assert (marked[10, 4:16] == CENTRE).all()
