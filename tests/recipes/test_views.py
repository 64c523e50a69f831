import numpy as np
import tensorflow as tf
from PIL import Image

from views import augment, draw_schedule, read_views


def test_every_file_of_a_set_is_drawn_once_before_any_is_drawn_again():
    schedule = draw_schedule([5, 40], [0.5, 0.5], 400, seed=0)
    first = [index for index in schedule if index < 5]
    second = [index for index in schedule if index >= 5]
    assert abs(len(first) - 200) < 50
    for start in range(0, len(first) - 5, 5):
        assert sorted(first[start : start + 5]) == [0, 1, 2, 3, 4]
    assert sorted(second[:40]) == list(range(5, 45))


def test_a_set_of_no_share_gives_no_view():
    assert draw_schedule([3, 4], [0.0, 1.0], 20, seed=0).min() >= 3


def test_reading_from_a_later_start_gives_the_same_views(tmp_path):
    files = []
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (50, 60, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        files.append(tmp_path / f"{i}.png")
    schedule = draw_schedule([3], [1.0], 10, seed=1)
    whole = list(read_views(files, schedule, 32, seed=4, start=0))
    rest = list(read_views(files, schedule, 32, seed=4, start=6))
    assert [int(index) for _, index in whole] == schedule.tolist()
    for (view, _), (again, _) in zip(whole[6:], rest, strict=True):
        np.testing.assert_array_equal(view, again)
    assert not np.array_equal(whole[0][0], next(iter(read_views(files, schedule, 32, 5, 0)))[0])


def test_a_view_keeps_size_and_range_and_shows_the_same_surface():
    image = tf.constant(np.full((227, 256, 3), 128, np.uint8))
    views = np.stack([augment(image, tf.constant([7, i]), 48) for i in range(40)])
    assert views.shape == (40, 48, 48, 3)
    assert views.dtype == np.float32
    assert views.min() >= 0
    assert views.max() <= 255
    assert 100 < views.mean() < 156
    assert views.mean(axis=(1, 2, 3)).std() > 5
