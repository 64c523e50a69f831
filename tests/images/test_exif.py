import io

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import GPS, Base
from PIL.TiffImagePlugin import IFDRational

from conftest import make_exif
from crackclf.images.decode import read_photo
from crackclf.images.exif import PhotoInfo, photo_info

NORTH_EAST = {
    GPS.GPSLatitudeRef: "N",
    GPS.GPSLatitude: (48.0, 51.0, 29.6),
    GPS.GPSLongitudeRef: "E",
    GPS.GPSLongitude: (2.0, 17.0, 40.2),
}


def info_of(base=None, details=None, gps=None) -> PhotoInfo:
    """What is read back of EXIF that went into a JPEG."""
    file = io.BytesIO()
    Image.new("RGB", (8, 4)).save(file, "JPEG", exif=make_exif(base, details, gps))
    return photo_info(Image.open(file))


def test_the_time_is_that_of_the_shot_and_not_of_the_last_change():
    changed = {Base.DateTime: "2025:12:31 23:59:59"}
    shot = {Base.DateTimeOriginal: "2024:05:06 07:08:09"}
    assert info_of(changed, shot).taken == "2024-05-06T07:08:09"
    assert info_of(changed).taken == "2025-12-31T23:59:59"


@pytest.mark.parametrize(
    ("maker", "model", "camera"),
    [
        ("DJI", "FC3582", "DJI FC3582"),
        ("Canon", "Canon EOS R5", "Canon EOS R5"),
        ("canon", "Canon EOS R5", "Canon EOS R5"),
        ("", "FC3582", "FC3582"),
        ("DJI", "", "DJI"),
        ("DJI\0left over", " FC\x1b3582\n", "DJI FC3582"),
        ("", "\0", None),
    ],
)
def test_the_camera_is_maker_and_model_and_the_maker_is_not_repeated(maker, model, camera):
    assert info_of({Base.Make: maker, Base.Model: model}).camera == camera


@pytest.mark.parametrize(("north", "sign_north"), [("N", 1), ("S", -1), ("s", -1)])
@pytest.mark.parametrize(("east", "sign_east"), [("E", 1), ("W", -1)])
def test_south_and_west_are_negative(north, sign_north, east, sign_east):
    found = info_of(gps=NORTH_EAST | {GPS.GPSLatitudeRef: north, GPS.GPSLongitudeRef: east})
    assert found.latitude == pytest.approx(sign_north * 48.858222, abs=1e-6)
    assert found.longitude == pytest.approx(sign_east * 2.294500, abs=1e-6)


@pytest.mark.parametrize(("below", "altitude"), [(b"\0", 12.5), (b"\1", -12.5), (None, 12.5)])
def test_an_altitude_below_the_sea_is_negative(below, altitude):
    reference = {} if below is None else {GPS.GPSAltitudeRef: below}
    assert info_of(gps={GPS.GPSAltitude: 12.5} | reference).altitude == altitude


def test_the_poles_and_the_date_line_are_still_places():
    edge = {GPS.GPSLatitude: (90.0, 0.0, 0.0), GPS.GPSLongitude: (180.0, 0.0, 0.0)}
    found = info_of(gps=NORTH_EAST | edge)
    assert (found.latitude, found.longitude) == (90, 180)


@pytest.mark.parametrize("tag", [GPS.GPSLatitude, GPS.GPSLongitude])
@pytest.mark.parametrize(
    "value",
    [
        None,
        (IFDRational(48, 1), IFDRational(51, 0), IFDRational(0, 1)),
        (IFDRational(0, 0), IFDRational(0, 0), IFDRational(0, 0)),
        (180.0, 0.0, 0.1),
        (48.0, 51.0),
        (48.0, 51.0, 29.6, 1.0),
        48.0,
    ],
)
def test_half_a_position_is_none(tag, value):
    gps = {key: part for key, part in (NORTH_EAST | {tag: value}).items() if part is not None}
    found = info_of(gps=gps)
    assert (found.latitude, found.longitude) == (None, None)


def test_a_nonsense_altitude_is_none():
    assert info_of(gps={GPS.GPSAltitude: IFDRational(1, 0)}).altitude is None


@pytest.mark.parametrize(
    "time", ["0000:00:00 00:00:00", "2024:13:01 00:00:00", "yesterday", "", 1234]
)
def test_a_nonsense_time_is_none(time):
    assert info_of(details={Base.DateTimeOriginal: time}).taken is None


@pytest.mark.parametrize("value", ["north", b"\0\0", ("a", "b", "c"), (None, None, None), {}, 7j])
def test_values_of_a_kind_that_no_camera_writes_are_none(value):
    photo = Image.new("RGB", (8, 4))
    base = {Base.Model: (value,), Base.DateTime: (value,), Base.Make: 7}
    gps = NORTH_EAST | {GPS.GPSLatitude: value, GPS.GPSLongitudeRef: 7, GPS.GPSAltitude: value}
    photo._exif = make_exif(base, gps=gps)
    assert photo_info(photo) == PhotoInfo()


def test_a_photo_without_exif_or_with_broken_one_says_nothing():
    assert photo_info(Image.new("RGB", (8, 4))) == PhotoInfo()
    file = io.BytesIO()
    Image.new("RGB", (8, 4)).save(file, "JPEG", exif=b"Exif\0\0neither II nor MM")
    assert photo_info(Image.open(file)) == PhotoInfo()


def test_a_photo_is_read_upright_with_what_its_camera_wrote(tmp_path):
    stored = Image.new("RGB", (64, 32), "white")
    stored.paste("black", (0, 0, 32, 32))  # The left half: on top, once turned clockwise.
    stored.save(tmp_path / "a.jpg", exif=make_exif({Base.Orientation: 6, Base.Model: "FC3582"}))
    photo, info = read_photo(tmp_path / "a.jpg")
    assert (photo.mode, photo.size) == ("RGB", (32, 64))
    pixels = np.asarray(photo)
    assert pixels[:30].max() < 60
    assert pixels[34:].min() > 200
    assert info == PhotoInfo(camera="FC3582")
