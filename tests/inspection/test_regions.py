import numpy as np
import pytest

from crackclf.inspection.regions import find_regions

SIZE = (400, 300)  # Of a photo whose map has cells of 10 x 10 pixels.


def plateau(*places: tuple[slice, slice], height: float = 1.0) -> np.ndarray:
    probability = np.zeros((30, 40), np.float32)
    for place in places:
        probability[place] = height
    return probability


def cone(x: float, y: float, height: float = 0.9) -> np.ndarray:
    """Falls by 0.1 in 10 pixels from a peak at (x, y)."""
    rows, columns = np.mgrid[:30, :40] * 10 + 5
    return np.maximum(height - 0.01 * np.hypot(columns - x, rows - y), 0).astype(np.float32)


def test_a_plateau_has_its_box_and_its_area():
    (region,) = find_regions(plateau(np.s_[10:20, 5:25]), SIZE, 0.6)
    assert region.box == (50, 100, 250, 200)
    assert region.area == pytest.approx(200 * 100, rel=0.01)
    assert region.probability == 1


def test_a_hole_is_not_part_of_the_area():
    probability = plateau(np.s_[10:20, 5:25])
    probability[13:17, 10:20] = 0
    (region,) = find_regions(probability, SIZE, 0.6)
    assert region.box == (50, 100, 250, 200)
    assert region.area == pytest.approx(200 * 100 - 100 * 40, rel=0.01)
    ((outer, hole),) = region.polygons
    assert np.ptp(np.array(outer), axis=0).tolist() == [200, 100]
    assert np.ptp(np.array(hole), axis=0).tolist() == [100, 40]


def test_a_region_at_the_border_is_closed_along_it():
    (region,) = find_regions(plateau(np.s_[:10, 30:]), SIZE, 0.6)
    assert region.box == (300, 0, 400, 100)
    assert (400, 0) in region.polygons[0][0]
    assert region.area == pytest.approx(100 * 100, rel=0.01)


def test_a_region_may_be_the_whole_photo():
    (region,) = find_regions(np.ones((30, 40), np.float32), SIZE, 0.6)
    assert region.box == (0, 0, 400, 300)
    assert region.area == 400 * 300


def test_cells_need_not_be_square():
    (region,) = find_regions(plateau(np.s_[10:20, 5:25]), (400, 900), 0.6)
    assert region.box == (50, 300, 250, 600)


def test_a_peak_must_be_above_the_region_threshold():
    probability = cone(205, 155)
    peak = float(probability.max())
    assert find_regions(probability, SIZE, peak) == ()
    assert len(find_regions(probability, SIZE, peak - 1e-6)) == 1


def test_a_region_reaches_out_to_one_in_two_or_to_what_its_peak_needs():
    for needed, reached in ((0.85, 0.5), (0.6, 0.5), (0.4, 0.4)):
        (region,) = find_regions(cone(205, 155), SIZE, needed)
        radius = 100 * (0.9 - reached)
        expected = (205 - radius, 155 - radius, 205 + radius, 155 + radius)
        assert region.box == pytest.approx(expected, abs=1)
        assert region.area == pytest.approx(np.pi * radius**2, rel=0.1)


def test_two_blots_are_two_regions_the_more_probable_first():
    probability = np.maximum(cone(85, 155, height=0.8), cone(305, 95, height=0.9))
    first, second = find_regions(probability, SIZE, 0.6)
    assert first.probability == pytest.approx(0.9)
    assert first.box == pytest.approx((265, 55, 345, 135), abs=1)
    assert second.probability == pytest.approx(0.8)
    assert second.box == pytest.approx((55, 125, 115, 185), abs=1)
    (only,) = find_regions(probability, SIZE, 0.85)
    assert only == first


def test_a_faint_blot_beside_a_region_does_not_become_part_of_it():
    faint, clear = np.s_[5:10, 5:10], np.s_[10:20, 10:30]  # They touch at a corner.
    probability = np.maximum(plateau(clear, height=0.9), plateau(faint, height=0.6))
    (region,) = find_regions(probability, SIZE, 0.7)
    assert region.area == pytest.approx(200 * 100, rel=0.05)
    assert region.box == pytest.approx((100, 100, 300, 200), abs=5)


def test_every_ring_is_closed_and_lies_in_the_photo():
    probability = np.random.default_rng(0).uniform(size=(30, 40)).astype(np.float32)
    regions = find_regions(probability, SIZE, 0.9)
    rings = [ring for region in regions for rings in region.polygons for ring in rings]
    assert len(regions) > 5
    assert len(rings) > len(regions)
    for ring in rings:
        assert len(ring) >= 4
        assert ring[0] == ring[-1]
        assert np.min(ring) >= 0
        assert (np.max(ring, axis=0) <= SIZE).all()
    assert sum(region.area for region in regions) < 400 * 300


def test_where_nothing_is_probable_there_is_no_region():
    assert find_regions(np.full((30, 40), 0.4, np.float32), SIZE, 0.6) == ()
