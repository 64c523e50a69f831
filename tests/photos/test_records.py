import pytest

from crackclf.errors import UserError
from crackclf.photos.records import Scale, add_sizes

CRACK = {"length_px": 100.0, "mean_width_px": 2.0, "max_width_px": 3.0}
PHOTO = {"width": 4000, "height": 3000, "focal_length": 24.0, "area_px": 0, "regions": []}
PHOTO |= {"cracks": [CRACK]}


def test_distance_and_focal_length_give_the_scale():
    # At 24 mm, a photo whose diagonal is 5,000 pixels shows 43.27 / 24 m of diagonal from 1 m.
    found = add_sizes(PHOTO, Scale(distance=3))
    assert found["mm_per_pixel"] == pytest.approx(3 * 43.2666 / 24 * 1000 / 5000, rel=1e-4)
    assert add_sizes(PHOTO, Scale(0.4))["mm_per_pixel"] == 0.4
    for photo, scale in ((PHOTO, Scale()), (PHOTO | {"focal_length": None}, Scale(distance=3))):
        found = add_sizes(photo, scale)
        assert (found["mm_per_pixel"], found["cracks"]) == (None, [CRACK])


def test_widths_fall_into_classes():
    cracks = [CRACK | {"max_width_px": width} for width in (0.2, 0.5, 2.2, 2.5, None)]
    found = add_sizes(PHOTO | {"cracks": cracks}, Scale(0.4, width_classes=(0.2, 0.4, 1)))
    names = [crack["width_class"] for crack in found["cracks"]]
    assert names == ["under 0.2 mm", "0.2 to 0.4 mm", "0.4 to 1 mm", "from 1 mm", None]


def test_an_impossible_scale_is_refused():
    for arguments, words in (
        ({"mm_per_pixel": 0}, "mm_per_pixel must be above 0"),
        ({"distance": -1}, "distance must be above 0"),
        ({"mm_per_pixel": 1, "distance": 1}, "Received: both"),
        ({"width_classes": (0.2,)}, "give mm_per_pixel or distance too"),
        ({"mm_per_pixel": 1, "width_classes": (0.4, 0.2)}, "must rise"),
        ({"mm_per_pixel": 1, "width_classes": (0, 0.2)}, "must rise"),
    ):
        with pytest.raises(UserError, match=words):
            Scale(**arguments)
