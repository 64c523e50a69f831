import numpy as np
import pytest
from PIL import Image

from beside_tensorflow import torch  # noqa: F401  Before the modules that need it.
from drawn import mark_centre

# isort: split
from sets import Item
from views import Views, distort, read_mask, see

pytestmark = pytest.mark.extras


@pytest.fixture
def images(tmp_path):
    items = []
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 256, (70, 60, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        items.append(Item(tmp_path / f"{i}.png", i % 2 == 1, str(i)))
    return items


def test_a_view_depends_on_seed_and_number_only(images):
    first, again = (Views({"metu": images}, {"metu": 1.0}, 12, 32, seed=4) for _ in range(2))
    other = Views({"metu": images}, {"metu": 1.0}, 12, 32, seed=5)
    for number in reversed(range(12)):
        view, mask, cracked, of_set = first[number]
        assert (view.shape, view.dtype) == ((32, 32, 3), np.uint8)
        assert (mask.shape, mask.dtype) == ((8, 8), np.int8)
        assert of_set == 0
        np.testing.assert_array_equal(view, again[number][0])
        np.testing.assert_array_equal(mask, again[number][1])
        assert cracked == again[number][2]
    assert any(not np.array_equal(first[i][0], other[i][0]) for i in range(12))


def test_sets_have_their_shares_and_every_image_comes_before_any_comes_again(images):
    sets = {"a": images[:2], "b": images[2:], "none": []}
    views = Views(sets, {"a": 0.25, "b": 0.75, "none": 0.5}, 400, 32, seed=0)
    of_set = [views[i][3] for i in range(0, 400, 4)]
    assert set(of_set) == {0, 1}
    assert 10 < of_set.count(0) < 40


def test_of_four_patches_side_by_side_one_crack_is_enough(images):
    sound = [item for item in images if not item.is_cracked]
    views = Views({"metu": sound}, {"metu": 1.0}, 40, 64, seed=0)
    assert not any(views[i][2] for i in range(40))
    assert not any(views[i][1].any() for i in range(40))
    cracked = [item for item in images if item.is_cracked]
    views = Views({"metu": cracked}, {"metu": 1.0}, 40, 64, seed=0)
    assert all(views[i][2] for i in range(40))
    assert all((views[i][1] == -1).all() for i in range(40))  # Where is not known.


def test_a_mask_says_whether_and_where_a_part_of_an_image_is_cracked(tmp_path):
    pixels = np.zeros((200, 200, 3), np.uint8)
    pixels[:, :60] = 255
    mask = mark_centre(pixels[..., 0] > 0)
    for name, content in (("image", pixels), ("mask", mask)):
        Image.fromarray(content).save(tmp_path / f"{name}.png")
    item = Item(tmp_path / "image.png", True, "a", tmp_path / "mask.png")
    seen = []
    for seed in range(40):
        image = Image.open(item.path)
        view, known, cracked = see(np.random.default_rng(seed), item, image, 64, 1.0)
        assert (np.asarray(view).max() > 0) == cracked == (known == 1).any()
        seen.append(cracked)
    assert 0 < sum(seen) < 40


def test_a_hairline_is_one_pixel_wide_in_the_mask():
    mask = np.zeros((64, 64), bool)
    mask[:, 30] = True
    found = read_mask(Image.fromarray(mark_centre(mask)), 8, (0, 0, 64, 64))
    assert (found[1:-1, 3] == 1).all()
    assert (found[:, :3] == 0).all()
    assert (found[:, 5:] == 0).all()


def test_light_and_camera_keep_a_picture_in_range_and_what_it_shows():
    image = Image.fromarray(np.full((48, 48, 3), 128, np.uint8))
    views = np.stack([distort(np.random.default_rng(seed), image) for seed in range(60)])
    assert (views.shape, views.dtype) == ((60, 48, 48, 3), np.uint8)
    means = views.mean(axis=(1, 2, 3))
    assert means.std() > 5
    assert means.min() > 30
    assert means.max() < 225
