import numpy as np
import pytest
from PIL import Image, ImageFilter

from crackclf.photos.quality import describe_quality, measure_blur
from drawn_concrete.concrete import photograph, surface


@pytest.fixture(scope="module")
def wall() -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(photograph(rng, surface(rng, (600, 800))))


def test_a_good_photo_has_nothing_wrong(wall):
    assert describe_quality(wall) == ""


@pytest.mark.parametrize(("radius", "least"), [(3, 4), (8, 8)])
def test_of_a_blurred_photo_it_tells_how_small_a_thing_can_be_seen(wall, radius, least):
    blurred = wall.filter(ImageFilter.GaussianBlur(radius))
    assert measure_blur(blurred.convert("L")) == least
    assert f"is blurred: nothing under about {least} pixels" in describe_quality(blurred)


def test_a_photo_is_too_dark_or_overexposed(wall):
    assert "is too dark" in describe_quality(wall.point(lambda level: level * 0.15))
    assert "is overexposed" in describe_quality(wall.point(lambda level: min(255, level * 2)))


def test_half_a_file_in_grey_is_told(wall):
    half = wall.copy()
    half.paste((128, 128, 128), (0, 300, 800, 600))
    assert "shows nothing in 50% of its rows" in describe_quality(half)
