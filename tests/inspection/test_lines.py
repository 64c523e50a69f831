import numpy as np
import pytest
from PIL import Image, ImageDraw

from crackclf.inspection.lines import find_lines, length


def test_a_line_through_several_blocks_is_one():
    picture = Image.new("L", (2000, 300), 150)
    ImageDraw.Draw(picture).line([(20, 60), (1980, 240)], 40, 5)
    grey = np.asarray(picture)
    ((line,),) = find_lines(grey, np.ones(grey.shape, bool))
    assert length(line) == pytest.approx(np.hypot(1960, 180), rel=0.02)
    rows = np.sort(line[:, 0])
    assert (rows[0], rows[-1]) == pytest.approx((60, 240), abs=4)


def test_a_loop_is_parted_into_two_ways_round_it():
    picture = Image.new("L", (400, 400), 150)
    ImageDraw.Draw(picture).ellipse((100, 100, 300, 300), outline=40, width=5)
    grey = np.asarray(picture)
    ((first, *others),) = find_lines(grey, np.ones(grey.shape, bool))
    assert length(first) == pytest.approx(np.pi * 98, rel=0.05)
    assert sum(map(length, others)) == pytest.approx(np.pi * 98, rel=0.05)
    assert len(others) <= 2
