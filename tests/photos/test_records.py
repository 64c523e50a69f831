import pytest

from crackclf.errors import UserError
from crackclf.photos.records import Scale, add_sizes, list_sound

CRACK = {"length_px": 100.0, "main_length_px": 80.0, "mean_width_px": 2.0, "max_width_px": 3.0}
CRACK |= {"width_low_px": None, "width_high_px": None}
PHOTO = {
    "file": "a.jpg",
    "width": 4000,
    "height": 3000,
    "focal_length": 24.0,
    "area_px": 0,
    "regions": [],
}
PHOTO |= {"cracks": [CRACK]}


def test_distance_and_focal_length_give_the_scale():
    # At 24 mm, a photo whose diagonal is 5,000 pixels shows 43.27 / 24 m of diagonal from 1 m.
    found, doubt = Scale(distance=3).of(PHOTO)
    assert found == pytest.approx(3 * 43.2666 / 24 * 1000 / 5000, rel=1e-4)
    assert (doubt, Scale(0.4).of(PHOTO), Scale().of(PHOTO)) == ("", (0.4, ""), (None, ""))
    for what, words in (
        ({"focal_length": None}, "no focal length"),
        ({"no_scale": "was cropped"}, ""),
    ):
        found, doubt = Scale(distance=3).of(PHOTO | what)
        assert found is None
        assert words in doubt
        assert Scale(0.4).of(PHOTO | what) == (0.4, "")
    found = add_sizes(PHOTO, None)
    assert (found["mm_per_pixel"], found["cracks"]) == (None, [CRACK])


def test_a_photos_own_scale_goes_before_that_of_all():
    scale = Scale(0.4, by_file={"a.jpg": 2.0, "site/b.jpg": 3.0})
    for file, mm in (("a.jpg", 2), ("site/a.jpg", 2), ("site/b.jpg", 3), ("b.jpg", 0.4)):
        assert scale.of(PHOTO | {"file": file})[0] == mm


def test_widths_fall_into_classes():
    cracks = [CRACK | {"max_width_px": width} for width in (0.2, 0.5, 2.2, 2.5, None)]
    found = add_sizes(PHOTO | {"cracks": cracks}, 0.4, (0.2, 0.4, 1))
    names = [crack["width_class"] for crack in found["cracks"]]
    assert names == ["under 0.2 mm", "0.2 to 0.4 mm", "0.4 to 1 mm", "from 1 mm", None]


def test_an_impossible_scale_is_refused():
    for arguments, words in (
        ({"mm_per_pixel": 0}, "mm_per_pixel must be above 0"),
        ({"distance": -1}, "distance must be above 0"),
        ({"mm_per_pixel": 1, "distance": 1}, "Received: both"),
        ({"width_classes": (0.2,)}, "give mm_per_pixel, distance or scale_file"),
        ({"mm_per_pixel": 1, "width_classes": (0.4, 0.2)}, "must rise"),
        ({"mm_per_pixel": 1, "width_classes": (0, 0.2)}, "must rise"),
    ):
        with pytest.raises(UserError, match=words):
            Scale(**arguments)


def test_photos_of_which_every_crack_was_called_wrong_are_sound(tmp_path):
    table = tmp_path / "reviewed.csv"
    rows = [
        "a.jpg,1,wrong,",
        "a.jpg,2,wrong,a joint",
        "b.jpg,1,wrong,",
        "b.jpg,2,right,",
        "c.jpg,1,,",
    ]
    table.write_text("\n".join(["file,crack,review,remark", *rows]))
    assert list_sound(table) == ["a.jpg"]
