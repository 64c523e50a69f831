import numpy as np
import pytest
from PIL import Image

from crackclf.errors import UserError
from crackclf.images.decode import read_image
from patches import cut_patches


@pytest.fixture
def photo(tmp_path):
    """A photo of 90 by 60 pixels, its mask cracked in patch (0, 1) and a scrap in (1, 2)."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    mask = np.zeros((60, 90), np.uint8)
    mask[10:20, 35:50] = 255
    mask[59, 60] = 255
    for folder, array in (("images", pixels), ("masks", mask)):
        (tmp_path / folder).mkdir()
        Image.fromarray(array).save(tmp_path / folder / "deck.png")
    return tmp_path, pixels


def test_patches_are_labelled_by_the_mask_and_scraps_are_left_out(photo):
    folder, pixels = photo
    made = cut_patches(folder / "images", folder / "masks", folder / "patches", grid=2)
    names = {name: {p.name for p in (made / name).iterdir()} for name in ("crack", "no_crack")}
    assert names["crack"] == {"deck-0-1.png"}
    assert names["no_crack"] == {"deck-0-0.png", "deck-0-2.png", "deck-1-0.png", "deck-1-1.png"}
    np.testing.assert_array_equal(read_image(made / "crack/deck-0-1.png"), pixels[:30, 30:60])


def test_what_is_there_already_is_left_alone(photo):
    folder, _ = photo
    with pytest.raises(UserError, match="already exists"):
        cut_patches(folder / "images", folder / "masks", folder / "masks", grid=2)


def test_a_photo_without_a_fitting_mask_is_named_and_leaves_nothing(photo):
    folder, _ = photo
    Image.new("L", (10, 10)).save(folder / "masks" / "deck.png")
    with pytest.raises(UserError, match=r"deck\.png: expected the photo's size \(60, 90\)"):
        cut_patches(folder / "images", folder / "masks", folder / "patches", grid=2)
    (folder / "masks" / "deck.png").unlink()
    with pytest.raises(UserError, match=r"deck\.png: has no mask in"):
        cut_patches(folder / "images", folder / "masks", folder / "patches", grid=2)
    with pytest.raises(UserError, match="nowhere: no such folder"):
        cut_patches(folder / "nowhere", folder / "masks", folder / "patches", grid=2)
    assert {path.name for path in folder.iterdir()} == {"images", "masks"}
