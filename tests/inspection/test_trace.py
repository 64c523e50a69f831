import numpy as np
import pytest
from PIL import Image, ImageDraw

from crackclf.inspection.regions import Region
from crackclf.inspection.trace import trace_cracks

SIZE = (400, 300)
WHOLE = ((0.0, 0.0), (400.0, 0.0), (400.0, 300.0), (0.0, 300.0), (0.0, 0.0))
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


def region(ring=WHOLE) -> Region:
    left, top = min(x for x, _ in ring), min(y for _, y in ring)
    right, bottom = max(x for x, _ in ring), max(y for _, y in ring)
    return Region(0.9, 1.0, (left, top, right, bottom), ((ring,),))


@pytest.mark.parametrize("width", [3, 5, 8, 14])
@pytest.mark.parametrize("end", [(350, 150), (200, 280), (330, 270)])
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
    fork = [(50, 150), (200, 150), (350, 60)], [(200, 150), (300, 250)]
    (crack,) = trace_cracks(draw(*fork), MAP, [region()])
    assert len(crack.lines) == 2
    expected = 150 + np.hypot(150, 90) + np.hypot(100, 100)
    assert crack.length == pytest.approx(expected, rel=0.06)
    bump = [(50, 150), (350, 150)], [(200, 150), (200, 158)]
    (crack,) = trace_cracks(draw(*bump), MAP, [region()])
    assert len(crack.lines) == 1


def test_where_no_dark_line_is_nothing_is_found():
    assert trace_cracks(draw(), MAP, [region()]) == ()
    assert trace_cracks(draw([(50, 40), (350, 250)], value=220), MAP, [region()]) == ()
    assert trace_cracks(draw([(50, 40), (65, 50)]), MAP, [region()]) == ()  # Too short.
    assert trace_cracks(draw([(50, 40), (350, 250)]), MAP, []) == ()


def test_only_what_is_in_a_region_is_traced_and_told_in_pixels_of_the_photo():
    photo = draw([(20, 60), (380, 60)], [(20, 240), (380, 240)])
    ring = ((100.0, 200.0), (300.0, 200.0), (300.0, 280.0), (100.0, 280.0), (100.0, 200.0))
    (crack,) = trace_cracks(photo, MAP, [region(ring)])
    assert crack.box == pytest.approx((100, 240, 300, 240), abs=6)


def test_the_probability_of_a_crack_is_the_highest_along_it_and_the_longest_is_first():
    photo = draw([(20, 60), (380, 60)], [(20, 240), (180, 240)])
    probability = MAP.copy()
    probability[23:25, 5], probability[0, 0] = 0.97, 0.99
    first, second = trace_cracks(photo, probability, [region()])
    assert first.length > second.length
    assert (first.probability, second.probability) == pytest.approx((0.9, 0.97))


def test_beside_the_edge_of_a_photo_a_crack_has_its_width():
    (crack,) = trace_cracks(draw([(12, 0), (12, 300)], width=8), MAP, [region()])
    assert crack.length == pytest.approx(300, rel=0.1)
    assert crack.mean_width == pytest.approx(8, abs=0.5)


def test_the_edge_of_something_dark_is_no_crack():
    pixels = np.array(draw([(200, 0), (200, 300)], value=56))
    pixels[:, 203:] = pixels[:, 203:] * 0.4  # As dark as the line.
    assert trace_cracks(Image.fromarray(pixels), MAP, [region()]) == ()
