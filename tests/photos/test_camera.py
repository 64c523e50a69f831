import io

import pytest
from PIL import Image
from PIL.ExifTags import Base

from conftest import make_exif
from crackclf.photos.camera import NoPhotoError, check_photo, photo_info

SIZE = (80, 60)
XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description {} /></x:xmpmeta>'


def stored(details=None, base=None, size=SIZE, xmp="") -> Image.Image:
    """A JPEG with EXIF and an XMP description, opened again."""
    file, options = io.BytesIO(), {"xmp": XMP.format(xmp).encode()} if xmp else {}
    exif = make_exif(base, {Base.FocalLengthIn35mmFilm: 24} | (details or {}))
    Image.new("RGB", size).save(file, "JPEG", exif=exif, **options)
    return Image.open(file)


def taken_at(width: int, height: int) -> dict:
    return {Base.ExifImageWidth: width, Base.ExifImageHeight: height}


@pytest.mark.parametrize(
    ("photo", "reason"),
    [
        (stored(taken_at(800, 600)), None),  # Made smaller as a whole.
        (stored(taken_at(600, 800)), None),  # And turned.
        (stored(taken_at(804, 600)), None),  # And rounded.
        (stored(taken_at(0, 0)), None),
        (stored(taken_at(800, 450)), "cropped"),
        (stored(xmp='crs:HasCrop="True"'), "cropped"),
        (stored({Base.DigitalZoomRatio: 2.0}), "digital zoom"),
        (stored({Base.DigitalZoomRatio: 1.0}), None),
        (stored({Base.DigitalZoomRatio: 0.0}), None),  # Not used, as EXIF has it.
        (stored({Base.CustomRendered: 6}), "panorama"),
        (stored(xmp='GPano:ProjectionType="equirectangular"'), "panorama"),
    ],
)
def test_what_keeps_a_focal_length_from_giving_the_scale_is_told(photo, reason):
    found = photo_info(photo)
    assert found.focal_length == 24
    assert (found.no_scale is None) == (reason is None)
    assert reason is None or reason in found.no_scale


@pytest.mark.parametrize("unset", ["0000:00:00 00:00:00", "    :  :     :  :  ", ""])
def test_the_time_is_the_first_that_is_one(unset):
    times = {Base.DateTimeOriginal: unset, Base.DateTimeDigitized: "2026:05:01 10:11:12"}
    assert photo_info(stored(times)).taken == "2026-05-01T10:11:12"
    changed = {Base.DateTime: "2026:05:02 10:11:12"}
    assert photo_info(stored({Base.DateTimeOriginal: unset}, changed)).taken[:10] == "2026-05-02"


@pytest.mark.parametrize(
    "xmp", ['drone-dji:ImageSource="InfraredCamera"', 'Camera:BandName="LWIR"']
)
def test_a_thermal_picture_is_no_photo(xmp):
    with pytest.raises(NoPhotoError, match="is a thermal picture"):
        check_photo(stored(xmp=xmp))


def test_a_thermal_picture_of_flir_is_known_by_its_segment():
    content = io.BytesIO()
    Image.new("RGB", SIZE).save(content, "JPEG")
    start, rest = content.getvalue()[:2], content.getvalue()[2:]
    segment = b"\xff\xe1\x00\x0aFLIR\0\1\0\0"
    with pytest.raises(NoPhotoError, match="is a thermal picture"):
        check_photo(Image.open(io.BytesIO(start + segment + rest)))


def test_a_photo_of_the_same_drone_is_one():
    check_photo(stored(xmp='drone-dji:ImageSource="WideCamera"'))
    check_photo(Image.new("RGB", SIZE))
