import dataclasses
import io
import json

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import GPS, Base
from PIL.TiffImagePlugin import IFDRational

from conftest import add_grain, draw_blot, make_exif
from crackclf.errors import UserError
from crackclf.images import read_image
from crackclf.photos.camera import PhotoInfo, photo_info
from crackclf.photos.photo import inspect_photo
from crackclf.prediction import predict
from several import CRACKED, JOINT, SEVERAL, SPALLED

BLOT = (240, 60, 320, 140)
NORTH_EAST = {
    **{GPS.GPSLatitudeRef: "N", GPS.GPSLatitude: (48.0, 51.0, 29.6)},
    **{GPS.GPSLongitudeRef: "E", GPS.GPSLongitude: (2.0, 17.0, 40.2)},
}


@pytest.fixture(scope="module")
def crack(inspector):
    """A photo with one crack, and its inspection."""
    photo = add_grain(draw_blot((80, 100, 360, 118), (400, 300)))
    return photo, inspect_photo(photo, inspector)


def test_a_blot_is_found_where_it_is(inspector):
    found = inspect_photo(draw_blot(BLOT, (400, 300)), inspector)
    assert (found.verdict, found.width, found.height) == ("Positive", 400, 300)
    (region,) = found.regions
    assert region.box == pytest.approx(BLOT, abs=10)
    assert region.probability == found.probability.max() > 0.95
    assert found.cracks == ()  # A blot has no line.
    sound = inspect_photo(draw_blot(), inspector)
    assert (sound.file, sound.verdict, sound.regions) == ("", "Negative", ())


def test_the_map_is_spread_evenly_over_the_photo(inspector):
    card = dataclasses.replace(inspector.card, patch_size=64)
    coarse = dataclasses.replace(inspector, card=card)
    found = inspect_photo(draw_blot(BLOT, (400, 300)), coarse)
    places = (np.argwhere(found.probability > 0.5) + 0.5) / found.probability.shape * (300, 400)
    assert places.mean(axis=0) == pytest.approx([100, 280], abs=2)
    # A photo smaller than a patch is made as large; the cells need not stay square.
    assert inspect_photo(draw_blot(size=(16, 8)), inspector).probability.shape == (32, 32)


def test_the_threshold_of_a_region_is_from_the_cards_sound_photos(inspector):
    card = dataclasses.replace(inspector.card, sound_peaks=tuple(np.linspace(0.05, 0.95, 9)))
    strict, grey = dataclasses.replace(inspector, card=card), Image.new("RGB", (60, 60), (110,) * 3)
    grey.putpixel((0, 0), (120, 120, 120))
    found = inspect_photo(grey, strict)
    assert (found.region_threshold, found.verdict) == (0.95, "Negative")
    assert inspect_photo(grey, strict, region_threshold=0.8).verdict == "Positive"


def test_a_photo_that_is_stored_on_its_side_is_inspected_upright(inspector, tmp_path):
    exif = make_exif({Base.Orientation: 6, Base.Model: "FC3582"})
    draw_blot((8, 20, 48, 60)).save(tmp_path / "a.jpg", exif=exif)
    for photo in (tmp_path / "a.jpg", Image.open(tmp_path / "a.jpg")):
        found = inspect_photo(photo, inspector)
        assert (found.width, found.height) == (90, 120)
        assert found.regions[0].box == pytest.approx((30, 8, 70, 48), abs=8)
        assert found.info == PhotoInfo(camera="FC3582")
        assert found.draw_overlay(read_image(tmp_path / "a.jpg")).size == (90 + 8 + 90, 120)


def test_what_is_not_one_readable_photo_is_refused(inspector, tmp_path):
    for name in ("a.png", "cut.png"):
        draw_blot().save(tmp_path / name)
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:-30])
    broken = dataclasses.replace(inspector, graph=lambda x: inspector.graph(x) * np.nan)
    for photo, classifier, words in (
        (tmp_path / "cut.png", inspector, r"cut\.png: .*truncated"),
        (tmp_path, inspector, r"one photo to inspect\. Received: 2 images"),
        (np.zeros((0, 5, 3), np.uint8), inspector, r"shape \(0, 5, 3\)"),
        (draw_blot(), "nowhere", "no such folder"),
        (draw_blot(), broken, "answers are not finite"),
    ):
        with pytest.raises(UserError, match=words):
            inspect_photo(photo, classifier)


def test_the_overlay_shows_the_photo_untouched_and_beside_it_the_cracks(crack):
    photo, found = crack
    overlay = found.draw_overlay(photo)
    assert (overlay.mode, overlay.size) == ("RGB", (400, 608))
    plain, drawn = (np.asarray(overlay.crop(x)) for x in ((0, 0, 400, 300), (0, 308, 400, 608)))
    np.testing.assert_array_equal(plain, np.asarray(photo))
    difference = np.abs(drawn.astype(int) - plain).max(axis=2)
    assert difference[108:111, 120:320].max(axis=0).min() > 100  # The crack has a line.
    assert difference[200:250].max() == 0
    assert found.draw_overlay(photo, 100).size == (100, 158)
    with pytest.raises(UserError, match="pass it as photo="):
        found.draw_overlay()
    with pytest.raises(UserError, match=r"400 x 300 pixels. Received: .*90, 120"):
        found.draw_overlay(draw_blot(size=(90, 120)))


def test_an_inspection_is_json_with_its_regions_and_cracks_measured(crack):
    (line,), (region,) = crack[1].cracks, crack[1].regions
    assert line.length == pytest.approx(280, rel=0.1)
    assert line.mean_width == pytest.approx(18, abs=1)
    record = json.loads(json.dumps(crack[1].to_dict(mm_per_pixel=20)))
    assert record["area_px"] == record["regions"][0]["area"] == region.area
    assert record["area_share"] == pytest.approx(region.area / (400 * 300), abs=1e-3)
    assert record["area_m2"] == pytest.approx(region.area * 20**2 / 1e6, abs=1e-6)
    left, top, right, bottom = region.box
    assert record["regions"][0]["box_mm"] == pytest.approx(
        [20 * (right - left), 20 * (bottom - top)]
    )
    (found,) = record["cracks"]
    assert (found["length_px"], found["max_width_px"]) == (line.length, line.max_width)
    assert found["length_mm"] == pytest.approx(line.length * 20)
    assert found["width_low_mm"] < found["max_width_mm"] == pytest.approx(360, abs=20)
    assert found["width_high_mm"] > found["max_width_mm"]
    assert "area_m2" not in crack[1].to_dict()


def test_of_three_classes_the_regions_are_those_of_the_cracked_one():
    photo = Image.new("RGB", (400, 300), JOINT)
    photo.paste(SPALLED, (20, 20, 160, 280))
    sound = inspect_photo(photo, SEVERAL)
    assert (sound.verdict, sound.regions) == ("not cracked", ())
    photo.paste(CRACKED, BLOT)
    found = inspect_photo(photo, SEVERAL)
    assert found.verdict == "cracked"
    (region,) = found.regions
    assert region.box == pytest.approx(BLOT, abs=10)
    for level in (110, 130, 150):  # All three classes have a share.
        grey = Image.new("RGB", (64, 64), (level, level, level))
        grey.putpixel((0, 0), (level + 3,) * 3)
        [expected] = predict(grey, SEVERAL)
        found = inspect_photo(grey, SEVERAL).probability
        assert found == pytest.approx(expected.probability, abs=1e-3)


def info_of(base=None, details=None, gps=None) -> PhotoInfo:
    """What is read back of EXIF that went into a JPEG."""
    file = io.BytesIO()
    Image.new("RGB", (8, 4)).save(file, "JPEG", exif=make_exif(base, details, gps))
    return photo_info(Image.open(file))


def test_camera_time_and_place_are_those_of_the_shot():
    changed = {Base.DateTime: "2025:12:31 23:59:59", Base.Make: "DJI\0old", Base.Model: "FC\x1b3\n"}
    shot = {Base.DateTimeOriginal: "2024:05:06 07:08:09", Base.FocalLengthIn35mmFilm: 24}
    below = {GPS.GPSAltitude: 12.5, GPS.GPSAltitudeRef: b"\1"}
    south_west = {GPS.GPSLatitudeRef: "s", GPS.GPSLongitudeRef: "W"}
    found = info_of(changed, shot, NORTH_EAST | below | south_west)
    assert (found.taken, found.altitude, found.focal_length) == ("2024-05-06T07:08:09", -12.5, 24)
    assert (found.latitude, found.longitude) == pytest.approx((-48.858222, -2.2945), abs=1e-6)
    assert found.camera == "DJI FC3"
    assert info_of({Base.Make: "canon", Base.Model: "Canon EOS R5"}).camera == "Canon EOS R5"
    found = info_of(changed, gps=NORTH_EAST)
    assert (found.latitude, found.taken) == (pytest.approx(48.858222), "2025-12-31T23:59:59")


def test_what_exif_says_wrongly_counts_as_not_said():
    wrong = {Base.DateTimeOriginal: "2024:13:01 00:00:00", Base.FocalLengthIn35mmFilm: 0}
    for gps in (
        {GPS.GPSLatitude: (IFDRational(48, 1), IFDRational(51, 0), IFDRational(0, 1))},
        {GPS.GPSLongitude: (180.0, 0.0, 0.1)},
        {GPS.GPSLatitude: (48.0, 51.0)},
        {GPS.GPSLongitude: 48.0, GPS.GPSAltitude: IFDRational(1, 0)},
    ):
        assert info_of({}, wrong, NORTH_EAST | gps) == PhotoInfo()
    file = io.BytesIO()
    Image.new("RGB", (8, 4)).save(file, "JPEG", exif=b"Exif\0\0neither II nor MM")
    assert photo_info(Image.open(file)) == PhotoInfo()
