import numpy as np
import pytest
from PIL import Image, ImageDraw

from crackclf.photos.maps import Region
from crackclf.photos.trace import trace_cracks

SIZE = (400, 300)
MAP = np.full((30, 40), 0.9, np.float32)


def draw(*lines, width: float = 5, value: int = 40, size=SIZE) -> tuple[Image.Image, np.ndarray]:
    """A rough grey surface with soft-edged lines, and their mask at a quarter of its size."""
    layer = Image.new("L", (4 * size[0], 4 * size[1]))
    pen = ImageDraw.Draw(layer)
    for line in lines:
        pen.line([(4 * x, 4 * y) for x, y in line], 255, round(4 * width), "curve")
    return paint(layer, value, size)


def paint(layer: Image.Image, value: int, size) -> tuple[Image.Image, np.ndarray]:
    cover = np.asarray(layer.resize(size, Image.Resampling.BOX), np.float64)[..., None] / 255
    rough = np.random.default_rng(0).normal(150, 6, (size[1], size[0], 1))
    pixels = rough + cover * (value - rough)
    small = layer.resize((size[0] // 4, size[1] // 4), Image.Resampling.BOX)
    photo = Image.fromarray(np.repeat(pixels, 3, axis=2).clip(0, 255).astype(np.uint8))
    return photo, np.clip(np.asarray(small, np.float32) / 150, 0, 1)


def region(left: float = 0, top: float = 0, right: float = 400, bottom: float = 300) -> Region:
    ring = ((left, top), (right, top), (right, bottom), (left, bottom), (left, top))
    return Region(0.9, 1.0, (left, top, right, bottom), ((ring,),))


@pytest.mark.parametrize("width", [3, 8, 14])
@pytest.mark.parametrize("end", [(350, 150), (330, 270)])
def test_length_width_and_direction_of_a_line_are_measured(width, end):
    (crack,) = trace_cracks(*draw([(50, 40), end], width=width), MAP, [region()])
    across, down = end[0] - 50, end[1] - 40
    assert crack.length == pytest.approx(np.hypot(across, down), rel=0.06)
    assert crack.mean_width == pytest.approx(width, abs=0.8)
    assert crack.width_low < crack.max_width < crack.width_high
    assert crack.width_low < width < crack.width_high
    assert crack.angle == pytest.approx(180 - np.degrees(np.arctan2(down, across)), abs=2)
    assert crack.box == pytest.approx((50, 40, *end), abs=8)
    assert crack.probability == pytest.approx(0.9)
    for x, y, _ in crack.lines[0][4:-4]:  # Its ends are blunt.
        assert abs((x - 50) * down - (y - 40) * across) / np.hypot(across, down) < 1.5


def test_the_largest_width_is_that_of_a_place_as_long_as_it_is_wide_and_not_of_a_speck():
    layer = Image.new("L", (1600, 1200))
    pen = ImageDraw.Draw(layer)
    pen.line([(80, 600), (1520, 600)], 255, 20)
    pen.line([(1000, 600), (1160, 600)], 255, 64)  # 40 pixels of the photo, 16 wide.
    pen.line([(400, 570), (412, 570)], 255, 60)  # 3 pixels.
    (crack,) = trace_cracks(*paint(layer, 40, SIZE), MAP, [region()])
    assert crack.max_width == pytest.approx(16, abs=2)
    assert crack.widest == pytest.approx((270, 150), abs=20)


def test_what_is_narrower_than_the_photo_can_show_has_an_upper_limit_only():
    photo, _ = draw([(50, 40), (350, 200)], width=0.6, value=60)
    _, mask = draw([(50, 40), (350, 200)])
    (crack,) = trace_cracks(photo, mask, MAP, [region()])
    assert (crack.max_width, crack.width_low) == (None, 0)
    assert 0.6 < crack.width_high < 4


def test_a_crack_wider_than_the_network_sees_edges_for_has_the_width_of_its_mask():
    photo, mask = draw([(100, 300), (1500, 420)], width=90, size=(1600, 800))
    (crack,) = trace_cracks(photo, mask, MAP, [region(0, 0, 1600, 800)])
    assert len(crack.lines) == 1  # From its middle to its corners are no branches.
    assert crack.max_width == pytest.approx(90, rel=0.08)


def test_a_branch_is_a_line_of_its_own_and_the_roughness_of_an_edge_is_none():
    fork = [(50, 150), (200, 150), (350, 60)], [(200, 150), (300, 250)], [(100, 150), (100, 158)]
    (crack,) = trace_cracks(*draw(*fork), MAP, [region()])
    assert len(crack.lines) == 2
    main = 150 + np.hypot(150, 90)
    assert crack.main_length == pytest.approx(main, rel=0.06)
    assert crack.length == pytest.approx(main + np.hypot(100, 100), rel=0.06)


def test_where_the_mask_has_no_line_nothing_is_found():
    line = [(50, 40), (350, 250)]
    photo, mask = draw(line)
    assert trace_cracks(photo, mask * 0, MAP, [region()]) == ()
    assert trace_cracks(*draw([(50, 40), (65, 50)]), MAP, [region()]) == ()  # Too short.
    assert trace_cracks(photo, mask, MAP, []) == ()


def test_a_crack_that_lime_has_filled_has_a_length_and_no_width():
    (crack,) = trace_cracks(*draw([(50, 40), (350, 250)], value=220), MAP, [region()])
    assert crack.length == pytest.approx(np.hypot(300, 210), rel=0.06)
    assert (crack.mean_width, crack.max_width, crack.widest) == (None, None, None)


def test_only_what_is_in_a_region_is_traced_and_told_in_pixels_of_the_photo():
    drawn = draw([(20, 60), (380, 60)], [(20, 240), (380, 240)])
    (crack,) = trace_cracks(*drawn, MAP, [region(100, 200, 300, 280)])
    assert crack.box == pytest.approx((100, 240, 300, 240), abs=6)


def test_the_probability_of_a_crack_is_the_highest_along_it_and_the_longest_is_first():
    drawn = draw([(20, 60), (380, 60)], [(20, 240), (180, 240)])
    probability = MAP.copy()
    probability[23:25, 5], probability[0, 0] = 0.97, 0.99
    first, second = trace_cracks(*drawn, probability, [region()])
    assert first.length > second.length
    assert (first.probability, second.probability) == pytest.approx((0.9, 0.97))


def test_a_loop_is_parted_into_two_ways_round_it():
    layer = Image.new("L", (1600, 1200))
    ImageDraw.Draw(layer).ellipse((400, 200, 1200, 1000), outline=255, width=20)
    (loop,) = trace_cracks(*paint(layer, 40, SIZE), MAP, [region()])
    assert 2 <= len(loop.lines) <= 3
    assert loop.length == pytest.approx(2 * np.pi * 97.5, rel=0.05)
