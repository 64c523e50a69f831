import pytest

from crackclf.errors import UserError
from crackclf.inspection.records import Scale, add_sizes

PHOTO = {"width": 4000, "height": 3000, "focal_length": 24.0, "area_px": 0, "regions": []}
CRACK = {"length_px": 100.0, "mean_width_px": 2.0, "max_width_px": 3.0}


def test_distance_and_focal_length_give_the_scale():
    # At 24 mm, a photo whose diagonal is 5,000 pixels shows 43.27 / 24 m of diagonal from 1 m.
    scale = Scale(distance=3).of(PHOTO)
    assert scale == pytest.approx(3 * 43.2666 / 24 * 1000 / 5000, rel=1e-4)
    assert Scale(distance=3).of(PHOTO | {"focal_length": None}) is None
    assert Scale(0.4).of(PHOTO) == 0.4
    assert Scale().of(PHOTO) is None


def test_where_the_scale_is_not_known_sizes_are_in_pixels_alone():
    record = add_sizes(PHOTO | {"cracks": [CRACK], "focal_length": None}, Scale(distance=3))
    assert record["mm_per_pixel"] is None
    assert record["cracks"] == [CRACK]


@pytest.mark.parametrize(
    ("width", "name"),
    [(0.1, "under 0.2 mm"), (0.2, "0.2 to 0.4 mm"), (0.9, "0.4 to 1 mm"), (1, "from 1 mm")],
)
def test_widths_fall_into_classes(width, name):
    scale = Scale(0.4, width_classes=(0.2, 0.4, 1))
    assert scale.classify(width) == name
    crack = CRACK | {"max_width_px": width / 0.4}
    (told,) = add_sizes(PHOTO | {"cracks": [crack]}, scale)["cracks"]
    assert told["width_class"] == name


def test_a_width_that_is_not_known_is_in_no_class():
    assert Scale(1, width_classes=(1,)).classify(None) is None
    assert Scale(1).classify(2) is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"mm_per_pixel": 0}, "mm_per_pixel must be above 0"),
        ({"distance": -1}, "distance must be above 0"),
        ({"mm_per_pixel": float("nan")}, "mm_per_pixel must be above 0"),
        ({"mm_per_pixel": 1, "distance": 1}, "Received: both"),
        ({"width_classes": (0.2,)}, "give mm_per_pixel or distance too"),
        ({"mm_per_pixel": 1, "width_classes": (0.4, 0.2)}, "must rise"),
        ({"mm_per_pixel": 1, "width_classes": (0.2, 0.2)}, "must rise"),
        ({"mm_per_pixel": 1, "width_classes": (0, 0.2)}, "must rise"),
    ],
)
def test_what_cannot_be_a_scale_is_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        Scale(**arguments)
