import numpy as np
import pytest
from PIL import Image, ImageDraw

from crackclf.photos.maps import Region
from crackclf.photos.trace import trace_cracks

SIZE = (400, 300)
MAP = np.full((30, 40), 0.9, np.float32)


def draw(*lines, width: float = 5, value: int = 40) -> Image.Image:
    """A rough grey surface with lines, drawn four times as large so that edges are soft."""
    layer = Image.new("L", (4 * SIZE[0], 4 * SIZE[1]))
    pen = ImageDraw.Draw(layer)
    for line in lines:
        pen.line([(4 * x, 4 * y) for x, y in line], 255, round(4 * width), "curve")
    cover = np.asarray(layer.resize(SIZE, Image.Resampling.BOX), np.float64)[..., None] / 255
    rough = np.random.default_rng(0).normal(150, 6, (SIZE[1], SIZE[0], 1))
    pixels = rough + cover * (value - rough)
    return Image.fromarray(np.repeat(pixels, 3, axis=2).clip(0, 255).astype(np.uint8))


def region(left: float = 0, top: float = 0, right: float = 400, bottom: float = 300) -> Region:
    ring = ((left, top), (right, top), (right, bottom), (left, bottom), (left, top))
    return Region(0.9, 1.0, (left, top, right, bottom), ((ring,),))


@pytest.mark.parametrize("width", [3, 8, 14])
@pytest.mark.parametrize("end", [(350, 150), (330, 270)])
def test_length_width_and_direction_of_a_line_are_measured(width, end):
    (crack,) = trace_cracks(draw([(50, 40), end], width=width), MAP, [region()])
    across, down = end[0] - 50, end[1] - 40
    assert crack.length == pytest.approx(np.hypot(across, down), rel=0.06)
    assert crack.mean_width == pytest.approx(width, abs=0.5)
    assert crack.mean_width <= crack.max_width <= width + 2
    assert crack.angle == pytest.approx(180 - np.degrees(np.arctan2(down, across)), abs=2)
    assert crack.box == pytest.approx((50, 40, *end), abs=8)
    assert crack.probability == pytest.approx(0.9)
    for x, y, wide in crack.lines[0][4:-4]:  # Its ends are blunt.
        assert abs((x - 50) * down - (y - 40) * across) / np.hypot(across, down) < 2
        assert wide is None or wide == pytest.approx(width, abs=2)


def test_a_branch_is_a_line_of_its_own_and_the_roughness_of_an_edge_is_none():
    fork = [(50, 150), (200, 150), (350, 60)], [(200, 150), (300, 250)], [(100, 150), (100, 158)]
    (crack,) = trace_cracks(draw(*fork), MAP, [region()])
    assert len(crack.lines) == 2
    expected = 150 + np.hypot(150, 90) + np.hypot(100, 100)
    assert crack.length == pytest.approx(expected, rel=0.06)


def test_where_no_dark_line_is_nothing_is_found():
    pixels = np.array(draw([(200, 0), (200, 300)], value=56))
    pixels[:, 203:] = pixels[:, 203:] * 0.4  # The edge of something as dark as the line.
    assert trace_cracks(Image.fromarray(pixels), MAP, [region()]) == ()
    assert trace_cracks(draw(), MAP, [region()]) == ()
    assert trace_cracks(draw([(50, 40), (350, 250)], value=220), MAP, [region()]) == ()
    assert trace_cracks(draw([(50, 40), (65, 50)]), MAP, [region()]) == ()  # Too short.
    assert trace_cracks(draw([(50, 40), (350, 250)]), MAP, []) == ()


def test_only_what_is_in_a_region_is_traced_and_told_in_pixels_of_the_photo():
    photo = draw([(20, 60), (380, 60)], [(20, 240), (380, 240)])
    (crack,) = trace_cracks(photo, MAP, [region(100, 200, 300, 280)])
    assert crack.box == pytest.approx((100, 240, 300, 240), abs=6)


def test_the_probability_of_a_crack_is_the_highest_along_it_and_the_longest_is_first():
    photo = draw([(20, 60), (380, 60)], [(20, 240), (180, 240)])
    probability = MAP.copy()
    probability[23:25, 5], probability[0, 0] = 0.97, 0.99
    first, second = trace_cracks(photo, probability, [region()])
    assert first.length > second.length
    assert (first.probability, second.probability) == pytest.approx((0.9, 0.97))


def test_a_line_longer_than_a_block_is_one_and_a_loop_is_parted_into_two_ways_round_it():
    photo = Image.new("RGB", (2000, 800), (150,) * 3)
    pen = ImageDraw.Draw(photo)
    pen.line([(20, 60), (1980, 240)], (40,) * 3, 5)
    pen.ellipse((100, 400, 300, 600), outline=(40,) * 3, width=5)
    line, loop = trace_cracks(photo, MAP, [region(0, 0, 2000, 800)])
    assert len(line.lines) == 1
    assert line.length == pytest.approx(np.hypot(1960, 180), rel=0.02)
    assert line.box == pytest.approx((20, 60, 1980, 240), abs=4)
    assert 2 <= len(loop.lines) <= 3
    assert loop.length == pytest.approx(2 * np.pi * 98, rel=0.05)
