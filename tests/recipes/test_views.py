import numpy as np
import pytest
from PIL import Image

from sets import Item
from views import Views, crop, distort, draw_schedule


def test_every_image_of_a_set_is_drawn_once_before_any_is_drawn_again():
    schedule = draw_schedule([5, 40], [0.5, 0.5], 400, seed=0)
    first = [index for index in schedule if index < 5]
    second = [index for index in schedule if index >= 5]
    assert abs(len(first) - 200) < 50
    for start in range(0, len(first) - 5, 5):
        assert sorted(first[start : start + 5]) == [0, 1, 2, 3, 4]
    assert sorted(second[:40]) == list(range(5, 45))


@pytest.fixture
def images(tmp_path):
    items = []
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 256, (50, 60, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        items.append(Item(tmp_path / f"{i}.png", i % 2 == 1, str(i)))
    return items


def test_a_view_depends_on_seed_and_number_only(images):
    shares = {"metu": 0.5, "drawn": 0.5}
    first, again = (Views({"metu": images}, shares, 12, 32, seed=4) for _ in range(2))
    other = Views({"metu": images}, shares, 12, 32, seed=5)
    for number in reversed(range(12)):
        view, is_cracked, of_set = first[number]
        assert (view.shape, view.dtype) == ((32, 32, 3), np.uint8)
        assert of_set in (0, 1)
        np.testing.assert_array_equal(view, again[number][0])
        assert (is_cracked, of_set) == again[number][1:]
    assert any(not np.array_equal(first[i][0], other[i][0]) for i in range(12))


def test_views_have_the_size_of_their_number(images):
    views = Views({"sdnet": images}, {"sdnet": 1.0}, 4, np.array([32, 32, 48, 48]), seed=0)
    assert [view.shape[0] for view, *_ in (views[i] for i in range(4))] == [32, 32, 48, 48]


def test_of_four_patches_side_by_side_one_crack_is_enough(images):
    sound = [item for item in images if not item.is_cracked]
    views = Views({"metu": sound}, {"metu": 1.0}, 40, 32, seed=0)
    assert not any(views[i][1] for i in range(40))
    cracked = [item for item in images if item.is_cracked]
    views = Views({"metu": [*sound, *cracked * 9]}, {"metu": 1.0}, 40, 32, seed=0)
    assert sum(views[i][1] for i in range(40)) > 30


def test_a_mask_says_whether_a_part_of_an_image_is_cracked():
    image = np.zeros((100, 100, 3), np.uint8)
    image[:, :30] = 255
    mask = image[..., 0] > 0
    said = []
    for seed in range(40):
        view, is_cracked = crop(np.random.default_rng(seed), image, mask, True, 32)
        assert (np.asarray(view).max() > 0) == is_cracked
        said.append(is_cracked)
    assert 0 < sum(said) < 40


def test_light_and_camera_keep_a_picture_in_range_and_what_it_shows():
    image = Image.fromarray(np.full((48, 48, 3), 128, np.uint8))
    views = np.stack([distort(np.random.default_rng(seed), image) for seed in range(60)])
    assert (views.shape, views.dtype) == ((60, 48, 48, 3), np.uint8)
    means = views.mean(axis=(1, 2, 3))
    assert means.std() > 5
    assert means.min() > 30
    assert means.max() < 225
