import csv
import dataclasses
import json
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from PIL.ExifTags import GPS, Base

from conftest import draw_blot, make_exif
from crackclf.errors import UserError
from crackclf.inspection import folder as module
from crackclf.inspection.folder import inspect_photos
from several import SEVERAL

BLOT = (30, 20, 80, 60)
TABLES = ("photos.csv", "cracks.csv", "inspection.json", "cracks.coco.json")
SCHEMA = Path(module.__file__).with_name("inspection.schema.json")


@pytest.fixture
def site(tmp_path):
    """A cracked photo, a sound one, and one that is broken."""
    (tmp_path / "site" / "east").mkdir(parents=True)
    draw_blot(BLOT).save(tmp_path / "site" / "a.png")
    draw_blot().save(tmp_path / "site" / "east" / "b.jpg")
    (tmp_path / "site" / "east" / "c.jpg").write_bytes(b"")
    return tmp_path / "site"


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def told(out: Path) -> list[dict]:
    return json.loads((out / "inspection.json").read_text())["photos"]


def test_every_photo_is_told_and_a_broken_one_does_not_stop_the_others(site, inspector, tmp_path):
    cracked, sound, broken = inspect_photos([site], inspector, tmp_path / "out")
    assert [cracked["verdict"], sound["verdict"]] == ["Positive", "Negative"]
    assert [cracked["error"], sound["error"]] == ["", ""]
    assert cracked["file"] == str(site / "a.png")
    assert cracked["regions"] == 1
    assert cracked["area_share"] == pytest.approx(cracked["area_px"] / (120 * 90), abs=1e-5)
    assert (sound["regions"], sound["area_px"]) == (0, 0)
    known = {name for name, value in broken.items() if value is not None}
    assert known == {"file", "error"}
    assert "c.jpg: is empty" in broken["error"]


def test_two_at_once_into_one_folder_leave_what_one_leaves(site, inspector, tmp_path):
    alone = inspect_photos([site], inspector, tmp_path / "alone")
    with ThreadPoolExecutor(2) as pool:
        work = [pool.submit(inspect_photos, [site], inspector, tmp_path / "out") for _ in range(2)]
    assert [run.result() for run in work] == [alone, alone]
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")


def test_a_folder_is_written_that_can_be_handed_on(site, inspector, tmp_path):
    photos = inspect_photos([site], inspector, tmp_path / "out")
    shown = {name for name in contents(tmp_path / "out") if not name.startswith(".")}
    overlays = {photo["overlay"] for photo in photos if not photo["error"]}
    assert shown == overlays | {"report.html", *TABLES, "settings.json"}
    assert all(re.fullmatch(r"overlays/[ab]-[0-9a-f]{8}\.jpg", name) for name in overlays)
    assert len(overlays) == 2
    result = json.loads((tmp_path / "out" / "inspection.json").read_text())
    assert [photo["file"] for photo in result["photos"]] == [photo["file"] for photo in photos]
    assert len(result["photos"][0]["regions"][0]["polygons"]) == 1
    assert result["settings"]["region_threshold"] == 0.5
    assert result["settings"]["model"] == inspector.card.fingerprint
    with Image.open(tmp_path / "out" / photos[0]["overlay"]) as overlay:
        assert overlay.size == (120, 90 + 8 + 90)


def test_the_table_has_a_row_for_every_photo(site, inspector, tmp_path):
    photos = inspect_photos([site], inspector, tmp_path / "out")
    rows = list(csv.DictReader((tmp_path / "out" / "photos.csv").open()))
    assert [row["file"] for row in rows] == [photo["file"] for photo in photos]
    assert [row["verdict"] for row in rows] == ["Positive", "Negative", ""]
    assert [row["regions"] for row in rows] == ["1", "0", ""]
    assert [bool(row["error"]) for row in rows] == [False, False, True]
    assert float(rows[0]["probability"]) == photos[0]["probability"]


def test_every_crack_has_a_row_and_a_number(inspector, tmp_path):
    photo = draw_blot((20, 60, 380, 78), (400, 300))
    photo.paste((10, 10, 10), (100, 200, 300, 214))
    photo.save(tmp_path / "two.png")
    draw_blot(size=(400, 300)).save(tmp_path / "none.png")
    paths = [tmp_path / "none.png", tmp_path / "two.png"]
    *_, photo = inspect_photos(paths, inspector, tmp_path / "out", mm_per_pixel=0.5)
    rows = list(csv.DictReader((tmp_path / "out" / "cracks.csv").open()))
    assert [(row["file"], row["crack"]) for row in rows] == [(photo["file"], x) for x in "12"]
    assert photo["cracks"] == 2
    lengths = [float(row["length_mm"]) for row in rows]
    assert lengths[0] > lengths[1]
    assert photo["length_mm"] == pytest.approx(sum(lengths))
    assert [float(row["width_error_mm"]) for row in rows] == [0.25, 0.25]
    assert float(rows[1]["top"]) == pytest.approx(207, abs=4)


def test_cracks_are_told_as_polygons_of_coco(inspector, tmp_path):
    draw_blot((20, 60, 380, 78), (400, 300)).save(tmp_path / "one.png")
    draw_blot(size=(400, 300)).save(tmp_path / "none.png")
    (tmp_path / "broken.png").write_bytes(b"")
    paths = [tmp_path / f"{name}.png" for name in ("none", "broken", "one")]
    inspect_photos(paths, inspector, tmp_path / "out")
    coco = json.loads((tmp_path / "out" / "cracks.coco.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == [str(paths[0]), str(paths[2])]
    (annotation,) = coco["annotations"]
    assert annotation["image_id"] == coco["images"][1]["id"]
    assert coco["categories"] == [{"id": annotation["category_id"], "name": "Positive"}]
    (polygon,) = annotation["segmentation"]
    picture = Image.new("1", (400, 300))
    ImageDraw.Draw(picture).polygon(polygon, fill=1)
    covered = np.asarray(picture)
    assert covered[62:76, 60:340].mean() > 0.95
    assert covered.sum() == pytest.approx(annotation["area"], rel=0.1)


def test_positions_are_given_when_the_photos_have_them_longitude_first(inspector, tmp_path):
    place = {
        GPS.GPSLatitudeRef: "S",
        GPS.GPSLatitude: (33.0, 30.0, 0.0),
        GPS.GPSLongitudeRef: "E",
        GPS.GPSLongitude: (151.0, 15.0, 0.0),
    }
    draw_blot(BLOT).save(tmp_path / "low.jpg", exif=make_exif(gps=place))
    high = make_exif(gps=place | {GPS.GPSAltitude: 40.5})
    draw_blot().save(tmp_path / "high.jpg", exif=high)
    draw_blot().save(tmp_path / "nowhere.jpg")
    paths = [tmp_path / f"{name}.jpg" for name in ("low", "high", "nowhere")]
    inspect_photos(paths, inspector, tmp_path / "out")
    found = json.loads((tmp_path / "out" / "positions.geojson").read_text())
    assert found["type"] == "FeatureCollection"
    low, high = found["features"]
    assert low["geometry"] == {"type": "Point", "coordinates": [151.25, -33.5]}
    assert high["geometry"]["coordinates"] == [151.25, -33.5, 40.5]
    assert low["properties"]["file"] == str(tmp_path / "low.jpg")
    assert low["properties"]["verdict"] != high["properties"]["verdict"]


def test_with_a_scale_areas_are_in_square_metres(site, inspector, tmp_path):
    _, sound, _ = inspect_photos([site], inspector, tmp_path / "out", mm_per_pixel=20)
    cracked = told(tmp_path / "out")[0]
    (region,) = cracked["regions"]
    assert region["area_m2"] == pytest.approx(region["area"] * 20**2 / 1e6, abs=1e-6)
    assert cracked["area_m2"] == pytest.approx(region["area_m2"], abs=1e-6)
    assert sound["area_m2"] == 0
    left, top, right, bottom = region["box"]
    assert region["box_mm"] == pytest.approx([(right - left) * 20, (bottom - top) * 20], abs=0.1)
    # Nothing has to be looked at again to be told in another scale, or in none.
    row, *_ = inspect_photos([site], inspector, tmp_path / "out")
    cracked = told(tmp_path / "out")[0]
    assert row["area_m2"] is None
    assert "area_m2" not in cracked
    assert "area_m2" not in cracked["regions"][0]


def test_what_is_done_is_not_done_again(site, inspector, tmp_path, monkeypatch):
    first = inspect_photos([site], inspector, tmp_path / "out")
    before = contents(tmp_path / "out")
    monkeypatch.setattr(module, "inspect_photo", None)
    assert json.dumps(inspect_photos([site], inspector, tmp_path / "out")) == json.dumps(first)
    assert contents(tmp_path / "out") == before


def test_after_an_interruption_it_goes_on_with_what_is_missing(inspector, tmp_path, monkeypatch):
    for name, box in (("a", BLOT), ("b", ()), ("c", (10, 10, 50, 70))):
        draw_blot(box).save(tmp_path / f"{name}.png")
    files, looked = [tmp_path / f"{name}.png" for name in "abc"], []
    inspect_photo = module.inspect_photo

    def look(photo, *arguments):
        looked.append(np.asarray(photo).mean())
        if len(looked) == 2:
            raise KeyboardInterrupt
        return inspect_photo(photo, *arguments)

    monkeypatch.setattr(module, "inspect_photo", look)
    with pytest.raises(KeyboardInterrupt):
        inspect_photos(files, inspector, tmp_path / "out")
    assert not (tmp_path / "out" / "report.html").exists()
    photos = inspect_photos(files, inspector, tmp_path / "out")
    assert looked[1:] == [looked[1], looked[1], looked[3]]  # The second twice, the first once.
    assert len(looked) == 4
    assert [photo["verdict"] for photo in photos] == ["Positive", "Negative", "Positive"]
    inspect_photos(files, inspector, tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_other_photos_are_added_to_those_of_an_earlier_call(site, inspector, tmp_path):
    inspect_photos([site], inspector, tmp_path / "out")
    draw_blot((20, 60, 380, 78), (400, 300)).save(tmp_path / "more.png")
    rows = inspect_photos([tmp_path / "more.png"], inspector, tmp_path / "out", mm_per_pixel=2)
    assert [row["file"] for row in rows] == [str(tmp_path / "more.png")]
    expected = [str(site / "a.png"), str(site / "east" / "b.jpg"), rows[0]["file"]]
    assert [photo["file"] for photo in told(tmp_path / "out")] == expected
    assert told(tmp_path / "out")[0]["area_m2"] > 0
    table = list(csv.DictReader((tmp_path / "out" / "photos.csv").open()))
    assert [row["file"] for row in table] == expected
    assert table[2]["length_mm"] == str(rows[0]["length_mm"])
    inspect_photos([site], inspector, tmp_path / "out")
    assert {photo["file"] for photo in told(tmp_path / "out")} > set(expected)


def test_a_distance_gives_each_photo_its_scale_and_widths_their_class(inspector, tmp_path):
    photo = draw_blot((20, 60, 380, 78), (400, 300))
    exif = make_exif(details={Base.FocalLengthIn35mmFilm: 24})
    photo.save(tmp_path / "known.jpg", exif=exif)
    photo.save(tmp_path / "not.jpg")
    paths = [tmp_path / "known.jpg", tmp_path / "not.jpg"]
    rows = inspect_photos(paths, inspector, tmp_path / "out", distance=0.5, width_classes=(5, 50))
    expected = 500 * np.hypot(36, 24) / 24 / 500
    assert rows[0]["mm_per_pixel"] == pytest.approx(expected, rel=1e-5)
    assert rows[0]["length_mm"] == pytest.approx(rows[0]["length_px"] * expected, rel=1e-4)
    assert (rows[1]["mm_per_pixel"], rows[1]["length_mm"]) == (None, None)
    assert rows[1]["length_px"] == rows[0]["length_px"]
    cracks = list(csv.DictReader((tmp_path / "out" / "cracks.csv").open()))
    assert [row["width_class"] for row in cracks] == ["5 to 50 mm", ""]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "a distance of 0.5 m" in page
    assert "1 name none" in page


def test_a_threshold_of_regions_may_be_given(site, classifier, tmp_path):
    with pytest.raises(UserError, match="at least 9 photos"):
        inspect_photos([site], classifier, tmp_path / "out")
    with pytest.raises(UserError, match="between 0 and 1"):
        inspect_photos([site], classifier, tmp_path / "out", region_threshold=1.5)
    rows = inspect_photos([site], classifier, tmp_path / "out", region_threshold=0.7)
    assert [row["verdict"] for row in rows[:2]] == ["Positive", "Negative"]
    result = json.loads((tmp_path / "out" / "inspection.json").read_text())
    assert result["settings"]["region_threshold"] == 0.7
    assert result["settings"]["false_alarms"] is None
    assert "chosen by hand" in (tmp_path / "out" / "report.html").read_text()


def test_a_photo_that_has_changed_is_inspected_again(inspector, tmp_path):
    draw_blot().save(tmp_path / "a.png")
    (before,) = inspect_photos([tmp_path / "a.png"], inspector, tmp_path / "out")
    draw_blot(BLOT).save(tmp_path / "a.png")
    (after,) = inspect_photos([tmp_path / "a.png"], inspector, tmp_path / "out")
    assert (before["verdict"], after["verdict"]) == ("Negative", "Positive")


def test_other_settings_are_refused_and_the_inspection_is_left_as_it_is(site, inspector, tmp_path):
    inspect_photos([site], inspector, tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(UserError, match=r"other settings \(false_alarms\).*another folder"):
        inspect_photos([site], inspector, tmp_path / "out", false_alarms=0.2)
    card = dataclasses.replace(inspector.card, sha256={"model.keras": "1" * 64}, temperature=2)
    other = dataclasses.replace(inspector, card=card)
    with pytest.raises(UserError, match=r"other settings \(model, temperature\)"):
        inspect_photos([site], other, tmp_path / "out")
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("name", ["mine.txt", "settings.json"])
def test_a_folder_with_files_of_others_is_refused_and_left_as_it_is(
    name, site, inspector, tmp_path
):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text('{"mine": 1}')
    with pytest.raises(UserError, match="Name another folder"):
        inspect_photos([site], inspector, tmp_path / "out")
    assert contents(tmp_path / "out") == {name: b'{"mine": 1}'}


def test_an_empty_folder_is_filled(site, inspector, tmp_path):
    (tmp_path / "out").mkdir()
    inspect_photos([site / "a.png"], inspector, tmp_path / "out")
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize(
    "settings",
    [
        *({"mm_per_pixel": value} for value in (0, -1, float("nan"))),
        *({"false_alarms": value} for value in (0, 0.01)),
    ],
)
def test_settings_that_cannot_be_used_are_refused_before_a_folder_is_made(
    settings, site, inspector, tmp_path
):
    with pytest.raises(UserError, match="Received: "):
        inspect_photos([site], inspector, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_copies_of_a_photo_are_all_told_each_by_its_name(inspector, tmp_path):
    for name in ("a.png", "b.png"):
        draw_blot(BLOT).save(tmp_path / name)
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    photos = inspect_photos(files, inspector, tmp_path / "out")
    assert [photo["file"] for photo in photos] == list(map(str, files))
    assert all((tmp_path / "out" / photo["overlay"]).exists() for photo in photos)


@pytest.mark.parametrize("name", ["a<b>&'\"c.png", "</script><b>x.png", "<!--notes-->.png"])
def test_a_file_name_cannot_break_out_of_the_report(name, inspector, tmp_path):
    path = tmp_path / name  # One of them lies in a folder called "<".
    path.parent.mkdir(exist_ok=True)
    camera = {Base.Make: "</script><script>alert(1)</script>"}
    draw_blot(BLOT).save(path, exif=make_exif(camera))
    (photo,) = inspect_photos([path], inspector, tmp_path / "out")
    assert photo["file"] == str(path)
    page = (tmp_path / "out" / "report.html").read_text()
    assert name not in page
    facts, pictures = re.findall(r'<script type="application/json">(.*)</script>', page)[0].split(
        '</script><script type="application/json">'
    )
    assert page.count("<script") == page.count("</script>") == 3
    assert json.loads(facts)["file"] == str(path)
    assert json.loads(pictures).keys() == {"preview", "heat", "crops", "original"}
    assert next(csv.DictReader((tmp_path / "out" / "photos.csv").open()))["file"] == str(path)


def test_the_report_needs_nothing_but_itself(site, inspector, tmp_path):
    inspect_photos([site], inspector, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert set(re.findall(r"https?:[^\"'\s]*", page)) == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in page
    assert page.count("data:image/jpeg;base64,") == page.count("data:image/png;base64,") == 2
    assert "3 photos: 1 with cracks, 1 without, 1 that could not be read" in page


@pytest.mark.parametrize("mm_per_pixel", [None, 0.4])
def test_inspection_json_is_as_its_schema_says(mm_per_pixel, site, inspector, tmp_path):
    jsonschema = pytest.importorskip("jsonschema")
    inspect_photos([site], inspector, tmp_path / "out", mm_per_pixel=mm_per_pixel)
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    result = json.loads((tmp_path / "out" / "inspection.json").read_text())
    check.validate(result)
    result["photos"][0]["regions"][0]["box"].pop()
    assert not check.is_valid(result)


def test_pictures_of_an_inspection_are_no_photos_to_inspect(inspector, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw_blot(BLOT).save("one.png")
    for out in ("inspection", "inspection", "other"):
        assert [photo["file"] for photo in inspect_photos(["."], inspector, out)] == ["one.png"]


@pytest.mark.parametrize("name", ["n" * 240 + ".png", os.fsdecode(b"\xff.png")])
def test_photos_of_any_name_are_inspected(name, inspector, tmp_path):
    draw_blot(BLOT).save(tmp_path / "a.png")
    try:
        (tmp_path / "a.png").rename(tmp_path / name)
    except OSError:
        pytest.skip("this file system does not take such a name")
    for _ in range(2):
        (photo,) = inspect_photos([tmp_path / name], inspector, tmp_path / "out")
        assert photo["verdict"] == "Positive"
        assert (tmp_path / "out" / photo["overlay"]).is_file()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"overlay": 3}'])
def test_a_damaged_part_is_made_again(content, site, inspector, tmp_path):
    inspect_photos([site], inspector, tmp_path / "out")
    before = contents(tmp_path / "out")
    for part in (tmp_path / "out" / ".parts").iterdir():
        part.write_text(content)
    inspect_photos([site], inspector, tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_a_picture_that_was_removed_is_made_again(site, inspector, tmp_path):
    inspect_photos([site], inspector, tmp_path / "out")
    before = contents(tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "overlays")
    inspect_photos([site], inspector, tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_what_is_told_is_what_the_json_holds_at_once_and_later(site, inspector, tmp_path):
    first, again = (inspect_photos([site], inspector, tmp_path / "out") for _ in range(2))
    assert first == again
    for row, photo in zip(first, told(tmp_path / "out"), strict=True):
        for name in row.keys() & photo.keys() - {"regions", "cracks"}:
            assert row[name] == photo[name]
        for name in ("regions", "cracks"):
            assert row[name] == (None if photo["error"] else len(photo[name]))


def test_settings_that_are_damaged_are_refused(site, inspector, tmp_path):
    inspect_photos([site], inspector, tmp_path / "out")
    (tmp_path / "out" / "settings.json").write_text("[]")
    with pytest.raises(UserError, match="other settings"):
        inspect_photos([site], inspector, tmp_path / "out")


def test_a_file_is_no_folder_to_write_to(site, inspector, tmp_path):
    with pytest.raises(UserError, match="was not written by crackclf"):
        inspect_photos([site], inspector, site / "a.png")


def test_a_spreadsheet_finds_no_formula_in_the_table(inspector, tmp_path):
    photo = tmp_path / "a.jpg"
    draw_blot().save(photo, exif=make_exif({Base.Model: '=HYPERLINK("http://x")'}))
    inspect_photos([photo], inspector, tmp_path / "out")
    with (tmp_path / "out" / "photos.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["camera"] == '\'=HYPERLINK("http://x")'


def test_of_three_classes_report_and_tables_speak_of_the_cracked_one(site, tmp_path):
    inspect_photos([site], SEVERAL, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "inspection.json").read_text())
    assert record["settings"]["positive_class"] == "cracked"
    assert [x.get("verdict") for x in record["photos"]] == ["cracked", "not cracked", None]
    with (tmp_path / "out" / "photos.csv").open() as file:
        assert [x["regions"] for x in csv.DictReader(file)] == ["1", "0", ""]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "3 photos: 1 with cracks, 1 without, 1 that could not be read" in page


def test_long_and_odd_names_end_no_inspection(inspector, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    names = ["裂" * 80 + ".png", "\U0001f6a7" * 62 + ".png"]
    for number, name in enumerate([*names, "a\nb.png", "b\\x.png"]):
        draw_blot(BLOT, (120 + number, 90)).save(site / "p.png")
        (site / "p.png").rename(site / name)
    rows = inspect_photos([site], inspector, tmp_path / "out")
    assert [row["error"] for row in rows] == 4 * [""]
    overlays = [tmp_path / "out" / row["overlay"] for row in rows]
    assert all(x.is_file() and x.parent.name == "overlays" for x in overlays)
    assert not any("\n" in row["file"] for row in rows)


def test_a_photo_long_and_narrow_is_its_own_error_and_names_why(inspector, tmp_path):
    draw_blot(BLOT).save(tmp_path / "a.png")
    Image.new("L", (1, 20_000_000), 128).save(tmp_path / "b.png")
    fine, narrow = inspect_photos(
        [tmp_path / "a.png", tmp_path / "b.png"], inspector, tmp_path / "o"
    )
    assert fine["verdict"] == "Positive"
    assert "b.png: is 1 x 20,000,000 pixels" in narrow["error"]
    assert "20,000,000 times as long as wide. Crop it" in narrow["error"]


def test_a_photo_for_which_the_memory_does_not_do_is_its_own_error(
    site, inspector, tmp_path, monkeypatch
):
    look = module.inspect_photo

    def starve(photo, *arguments):
        if photo.getpixel((50, 40)) == (10, 10, 10):
            raise MemoryError
        return look(photo, *arguments)

    monkeypatch.setattr(module, "inspect_photo", starve)
    starved, sound, _ = inspect_photos([site], inspector, tmp_path / "out")
    assert "a.png: takes more memory than there is" in starved["error"]
    assert sound["verdict"] == "Negative"


def test_positions_of_earlier_photos_do_not_stay(inspector, tmp_path):
    draw_blot(BLOT).save(tmp_path / "a.png")
    inspect_photos([tmp_path / "a.png"], inspector, tmp_path / "out")
    (tmp_path / "out" / "positions.geojson").write_text("{}")
    inspect_photos([tmp_path / "a.png"], inspector, tmp_path / "out")
    assert not (tmp_path / "out" / "positions.geojson").exists()
