import dataclasses
import json
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import GPS, Base

from conftest import draw_blot, make_exif, save_noise
from crackclf.errors import UserError
from crackclf.images.decode import read_photo
from crackclf.images.exif import PhotoInfo
from crackclf.inspection.photo import inspect_photo, measure_sound_peaks
from crackclf.inspection.records import COLUMNS
from crackclf.prediction.predict import predict
from several import CRACKED, JOINT, SEVERAL, SPALLED

BLOT = (240, 60, 320, 140)
LINE = (80, 100, 360, 118)


def test_a_blot_is_found_where_it_is(inspector):
    found = inspect_photo(draw_blot(BLOT, (400, 300)), inspector)
    assert found.verdict == "Positive"
    assert (found.width, found.height) == (400, 300)
    (region,) = found.regions
    assert region.box == pytest.approx(BLOT, abs=10)
    assert region.area == pytest.approx(80 * 80, rel=0.1)
    assert region.probability == found.probability.max() > 0.95


def test_the_affine_maps_cells_to_pixels(inspector):
    card = dataclasses.replace(inspector.card, patch_size=64)
    coarse = dataclasses.replace(inspector, card=card)
    found = inspect_photo(draw_blot(BLOT, (400, 300)), coarse)
    assert found.stride == (2, 2)
    a, b, c, d, e, f = found.affine
    row, column = np.argwhere(found.probability > 0.5).mean(axis=0)
    assert a * column + b * row + c == pytest.approx(280, abs=2)
    assert d * column + e * row + f == pytest.approx(100, abs=2)
    assert (c, f) == (1, 1)
    # A photo smaller than a patch is made as large; the cells need not stay square.
    found = inspect_photo(draw_blot(size=(16, 8)), inspector)
    assert found.probability.shape == (32, 32)
    assert found.stride == (0.5, 0.25)
    assert found.affine == (0.5, 0, 0.25, 0, 0.25, 0.125)


def test_a_bright_photo_is_sound(inspector):
    found = inspect_photo(draw_blot(), inspector)
    assert (found.verdict, found.regions) == ("Negative", ())
    assert found.probability.max() < 0.05


def test_the_threshold_of_a_region_is_what_the_card_has_seen_on_sound_photos(inspector):
    peaks = tuple(np.linspace(0.05, 0.95, 9))
    card = dataclasses.replace(inspector.card, sound_peaks=peaks)
    strict = dataclasses.replace(inspector, card=card)
    grey = Image.new("RGB", (60, 60), (110, 110, 110))
    assert inspect_photo(grey, strict).region_threshold == peaks[-1]
    assert inspect_photo(grey, strict).verdict == "Negative"
    assert inspect_photo(grey, strict, region_threshold=0.8).verdict == "Positive"


def test_array_image_and_file_get_the_same_answer(inspector, tmp_path):
    photo = draw_blot((30, 20, 80, 60))
    photo.save(tmp_path / "a.png")
    by_image = inspect_photo(photo, inspector)
    for other in (np.asarray(photo), tmp_path / "a.png", str(tmp_path / "a.png")):
        found = inspect_photo(other, inspector)
        np.testing.assert_array_equal(found.probability, by_image.probability)
        assert found.regions == by_image.regions
        assert found.file == ("" if isinstance(other, np.ndarray) else str(tmp_path / "a.png"))


def test_a_photo_taken_upright_is_inspected_upright(inspector, tmp_path):
    # Stored on its side: what is at the left goes to the top.
    exif = make_exif({Base.Orientation: 6, Base.Model: "FC3582"})
    draw_blot((8, 20, 48, 60)).save(tmp_path / "a.jpg", exif=exif)
    found = inspect_photo(tmp_path / "a.jpg", inspector)
    assert (found.width, found.height) == (90, 120)
    assert found.probability.shape == (120, 90)
    (region,) = found.regions
    assert region.box == pytest.approx((30, 8, 70, 48), abs=8)
    assert found.info == PhotoInfo(camera="FC3582")
    assert found.draw_overlay().size == (90 + 8 + 90, 120)


def test_a_model_that_answers_for_patches_only_comes_to_the_same_verdict(inspector):
    card = dataclasses.replace(inspector.card, cell_size=0)
    patches = dataclasses.replace(
        inspector, card=card, graph=lambda x: inspector.graph(x).mean((1, 2), keepdims=True)
    )
    found = inspect_photo(draw_blot((60, 30, 140, 110), (240, 180)), patches)
    (region,) = found.regions
    assert region.box == pytest.approx((60, 30, 140, 110), abs=20)


def test_without_sound_photos_nobody_knows_the_threshold(classifier):
    with pytest.raises(UserError, match="at least 9 photos"):
        inspect_photo(draw_blot(), classifier)
    assert inspect_photo(draw_blot((30, 20, 80, 60)), classifier, 0.5).verdict == "Positive"


@pytest.mark.parametrize(
    ("name", "mode", "size"),
    [
        ("grey.jpg", "L", (60, 40)),
        ("print.jpg", "CMYK", (60, 40)),
        ("deep.png", "I;16", (60, 40)),
        ("icon.png", "RGB", (5, 5)),
        ("panorama.png", "RGB", (800, 40)),
    ],
)
def test_photos_of_every_kind_are_inspected(name, mode, size, inspector, tmp_path):
    for value, verdict in ((20, "Positive"), (230, "Negative")):
        if mode == "I;16":
            photo = Image.fromarray(np.full(size[::-1], 257 * value, np.uint16))
            photo.putpixel((0, 0), 65535)  # All dark, it would be taken for one of fewer bits.
        else:
            photo = Image.new("L", size, value).convert("RGB").convert(mode)
        photo.save(tmp_path / name)
        found = inspect_photo(tmp_path / name, inspector)
        assert found.verdict == verdict
        assert (found.width, found.height) == size
        assert np.isfinite(found.probability).all()


def save_huge_header(path):
    """A PNG of a few bytes that claims 20,000 x 10,000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", 20_000, 10_000, 8, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


def save_cut(path):
    save_noise(path, 0, (64, 64))
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize(
    ("name", "save", "words"),
    [("cut.jpg", save_cut, "truncated"), ("bomb.png", save_huge_header, "too many pixels")],
)
def test_a_photo_that_cannot_be_read_is_refused_by_name(name, save, words, inspector, tmp_path):
    save(tmp_path / name)
    with pytest.raises(UserError, match=rf"{name}: .*{words}"):
        inspect_photo(tmp_path / name, inspector)


@pytest.mark.parametrize(
    "array",
    [np.zeros((40, 40), np.uint8), np.full((40, 40, 3), 0.5), np.zeros((40, 40, 4), np.uint8)],
)
def test_an_array_of_another_form_is_refused(array, inspector):
    with pytest.raises(UserError, match="Received: "):
        inspect_photo(array, inspector)


def test_sound_peaks_are_the_highest_probabilities_on_sound_photos(inspector, tmp_path):
    files = []
    for i, value in enumerate((230, 140, 110)):
        Image.new("RGB", (60, 40), (value,) * 3).save(tmp_path / f"{i}.png")
        files.append(tmp_path / f"{i}.png")
    peaks = measure_sound_peaks(files, inspector)
    expected = [inspect_photo(file, inspector).probability.max() for file in files]
    assert peaks == pytest.approx(expected, abs=1e-6)
    assert peaks[0] < peaks[1] < peaks[2]


def test_the_overlay_shows_the_photo_untouched_and_beside_it_the_cracks(inspector):
    photo = draw_blot(LINE, (400, 300))
    overlay = inspect_photo(photo, inspector).draw_overlay(photo)
    assert (overlay.mode, overlay.size) == ("RGB", (400, 608))
    plain, drawn = (np.asarray(overlay.crop(x)) for x in ((0, 0, 400, 300), (0, 308, 400, 608)))
    np.testing.assert_array_equal(plain, np.asarray(photo))
    difference = np.abs(drawn.astype(int) - plain).max(axis=2)
    assert difference[108:111, 120:320].max(axis=0).min() > 100  # The crack has a line.
    assert difference[200:250].max() == 0
    high = photo.transpose(Image.Transpose.ROTATE_90)
    assert inspect_photo(high, inspector).draw_overlay(high).size == (608, 400)


def test_the_heat_is_where_the_region_is_and_not_far_from_it(inspector):
    photo = draw_blot(BLOT, (400, 300))
    heat = inspect_photo(photo, inspector).draw_heat(photo)
    assert (heat.mode, heat.size) == ("RGB", (400, 300))
    difference = np.abs(np.asarray(heat).astype(int) - np.asarray(photo)).max(axis=2)
    assert difference[70:130, 250:310].min() > 20
    far = np.ones((300, 400), bool)
    far[0:200, 180:380] = False
    assert difference[far].max() == 0


@pytest.mark.parametrize(("longest", "size"), [(100, (100, 158)), (1, (10, 1)), (999, (400, 608))])
def test_the_overlay_is_at_most_as_large_as_asked_for(longest, size, inspector):
    photo = draw_blot(BLOT, (400, 300))
    found = inspect_photo(photo, inspector)
    assert found.draw_overlay(photo, longest).size == size
    assert photo.size == (400, 300)


def test_the_overlay_of_a_file_is_drawn_from_the_file(inspector, tmp_path):
    draw_blot((30, 20, 80, 60)).save(tmp_path / "a.png")
    found = inspect_photo(tmp_path / "a.png", inspector)
    expected = found.draw_overlay(Image.open(tmp_path / "a.png"))
    np.testing.assert_array_equal(np.asarray(found.draw_overlay()), np.asarray(expected))


def test_an_overlay_needs_the_photo_that_was_inspected(inspector):
    found = inspect_photo(draw_blot(), inspector)
    with pytest.raises(UserError, match="pass it as photo="):
        found.draw_overlay()
    with pytest.raises(UserError, match=r"120 x 90 pixels. Received: .*90, 120"):
        found.draw_overlay(draw_blot(size=(90, 120)))


def test_a_photo_that_was_read_is_not_turned_again(inspector, tmp_path):
    exif = make_exif({Base.Orientation: 6})
    draw_blot((10, 10, 60, 40)).save(tmp_path / "turned.jpg", exif=exif)
    image, _ = read_photo(tmp_path / "turned.jpg")
    found = inspect_photo(image, inspector)
    assert (found.width, found.height) == image.size == (90, 120)


def test_an_image_as_opened_is_inspected_as_its_file_is(inspector, tmp_path):
    blot = draw_blot((10, 10, 60, 40))
    blot.save(tmp_path / "turned.jpg", exif=make_exif({Base.Orientation: 6}))
    by_file = inspect_photo(tmp_path / "turned.jpg", inspector)
    by_image = inspect_photo(Image.open(tmp_path / "turned.jpg"), inspector)
    assert (by_image.width, by_image.height) == (90, 120)
    assert by_image.regions == by_file.regions
    found = by_image.draw_overlay(np.asarray(read_photo(tmp_path / "turned.jpg")[0]))
    assert found.size == (90 + 8 + 90, 120)


def test_an_array_of_no_pixels_is_refused(inspector):
    with pytest.raises(UserError, match=r"shape \(0, 5, 3\)"):
        inspect_photo(np.zeros((0, 5, 3), np.uint8), inspector)


def test_several_photos_are_refused(inspector, tmp_path):
    for name in "ab":
        draw_blot().save(tmp_path / f"{name}.png")
    with pytest.raises(UserError, match=r"one photo to inspect\. Received: 2 images"):
        inspect_photo(tmp_path, inspector)


def test_the_model_may_be_named_by_its_folder():
    assert inspect_photo(draw_blot()).verdict in ("crack", "no_crack")
    with pytest.raises(UserError, match="no such folder"):
        inspect_photo(draw_blot(), "nowhere")


PLACE = {
    GPS.GPSLatitudeRef: "S",
    GPS.GPSLatitude: (33.0, 30.0, 0.0),
    GPS.GPSLongitudeRef: "E",
    GPS.GPSLongitude: (151.0, 15.0, 0.0),
}


def test_an_inspection_is_told_as_json_row_and_feature(inspector, tmp_path):
    draw_blot((30, 20, 80, 60)).save(tmp_path / "a.jpg", exif=make_exif(gps=PLACE))
    found = inspect_photo(tmp_path / "a.jpg", inspector)
    record = found.to_dict()
    assert json.loads(json.dumps(record))["regions"][0]["area"] == found.regions[0].area
    assert record["area_px"] == found.regions[0].area
    assert record["area_share"] == pytest.approx(record["area_px"] / (120 * 90), abs=1e-5)
    row = found.to_row()
    assert tuple(row) == COLUMNS
    assert (row["regions"], row["verdict"], row["file"]) == (1, "Positive", found.file)
    assert (row["area_m2"], row["taken"], row["error"]) == (None, None, "")
    feature = found.to_geojson()
    assert feature["geometry"] == {"type": "Point", "coordinates": [151.25, -33.5]}
    assert feature["properties"]["cracks"] == 0
    assert inspect_photo(draw_blot(), inspector).to_geojson() is None


def test_with_a_scale_an_inspection_has_areas_in_square_metres(inspector):
    found = inspect_photo(draw_blot((30, 20, 80, 60)), inspector)
    area = found.regions[0].area * 20**2 / 1e6
    record = found.to_dict(mm_per_pixel=20)
    assert record["area_m2"] == pytest.approx(area, abs=1e-6)
    assert record["regions"][0]["area_m2"] == pytest.approx(area, abs=1e-6)
    left, top, right, bottom = found.regions[0].box
    expected = [20 * (right - left), 20 * (bottom - top)]
    assert record["regions"][0]["box_mm"] == pytest.approx(expected, abs=0.1)
    assert found.to_row(20)["area_m2"] == record["area_m2"]
    with pytest.raises(UserError, match="mm_per_pixel must be above 0"):
        found.to_row(0)


def test_the_cracks_in_the_regions_are_traced_and_measured(inspector):
    found = inspect_photo(draw_blot(LINE, (400, 300)), inspector)
    (crack,) = found.cracks
    assert crack.length == pytest.approx(280, rel=0.1)
    assert crack.mean_width == pytest.approx(18, abs=1)
    (told,) = json.loads(json.dumps(found.to_dict(mm_per_pixel=0.5)))["cracks"]
    assert (told["length_px"], told["max_width_px"]) == (crack.length, crack.max_width)
    assert told["length_mm"] == pytest.approx(crack.length / 2, abs=1e-3)
    assert told["mean_width_mm"] == pytest.approx(crack.mean_width / 2, abs=1e-3)
    assert told["width_error_mm"] == 0.25
    row = found.to_row(0.5)
    assert (row["cracks"], row["length_mm"], row["max_width_px"]) == (
        1,
        told["length_mm"],
        crack.max_width,
    )
    assert found.to_row()["length_mm"] is None
    # A blot has no line, and its region stays.
    blot = inspect_photo(draw_blot(BLOT, (400, 300)), inspector)
    assert (blot.cracks, len(blot.regions), blot.to_row()["max_width_px"]) == ((), 1, None)


ALONE = """
import sys
sys.modules["tensorflow"] = sys.modules["keras"] = None
import numpy as np
from crackclf import inspect_photo
photo = np.random.default_rng(0).integers(90, 170, (500, 700, 3), np.uint8)
found = inspect_photo(photo)
found.draw_overlay(photo)
found.to_row()
assert not {"matplotlib", "sklearn", "scipy", "pandas"} & set(sys.modules) or found.regions
print(found.verdict)
"""


def test_a_photo_is_inspected_where_tensorflow_and_keras_cannot_be_imported():
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("crack", "no_crack")


def test_of_three_classes_the_regions_are_those_of_the_cracked_one():
    photo = Image.new("RGB", (400, 300), JOINT)
    photo.paste(SPALLED, (20, 20, 160, 280))
    sound = inspect_photo(photo, SEVERAL)
    assert (sound.verdict, sound.regions) == ("not cracked", ())
    photo.paste(CRACKED, BLOT)
    found = inspect_photo(photo, SEVERAL)
    (region,) = found.regions
    assert region.box == pytest.approx(BLOT, abs=10)
    assert found.to_dict()["verdict"] == found.to_row()["verdict"] == "cracked"


@pytest.mark.parametrize("level", [110, 130, 150])
def test_a_map_is_calibrated_as_the_prediction_of_a_patch_is(level):
    # So grey that all three classes have a share.
    photo = Image.new("RGB", (64, 64), (level, level, level))
    [said] = predict(photo, SEVERAL)
    assert inspect_photo(photo, SEVERAL).probability == pytest.approx(said.probability, abs=1e-5)
