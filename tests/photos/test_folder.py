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

import crackclf.photos
from conftest import add_grain, draw_blot, make_exif
from crackclf.errors import UserError
from crackclf.photos.folder import inspect_photos

BLOT = (30, 20, 80, 60)
LINE, LARGE = (20, 60, 380, 78), (400, 300)
TABLES = ("photos.csv", "cracks.csv", "inspection.json", "cracks.coco.json")
SCHEMA = Path(crackclf.photos.__file__).with_name("inspection.schema.json")


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


def result_of(out: Path) -> dict:
    return json.loads((out / "inspection.json").read_text())


def table(path: Path) -> list[dict]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def failing(inspector, calls: int, error: type[BaseException]):
    """The inspector, whose network raises an error when it is called once more."""
    answers = iter(range(calls))

    def graph(images):
        if next(answers, None) is None:
            raise error
        return inspector.graph(images)

    return dataclasses.replace(inspector, graph=graph)


def test_each_photo_gets_a_row_and_an_overlay_and_a_broken_one_does_not_stop_the_others(
    site, inspector, tmp_path
):
    cracked, sound, broken = photos = inspect_photos([site], inspector, tmp_path / "out")
    assert [cracked["verdict"], sound["verdict"]] == ["Positive", "Negative"]
    assert (cracked["file"], cracked["regions"]) == (str(site / "a.png"), 1)
    assert (sound["regions"], sound["area_px"]) == (0, 0)
    assert {name for name, value in broken.items() if value is not None} == {"file", "error"}
    assert "c.jpg: is empty" in broken["error"]
    rows = table(tmp_path / "out" / "photos.csv")
    assert [row["file"] for row in rows] == [photo["file"] for photo in photos]
    assert [row["verdict"] for row in rows] == ["Positive", "Negative", ""]
    assert float(rows[0]["probability"]) == cracked["probability"]
    names = {name for name in contents(tmp_path / "out") if not name.startswith(".")}
    overlays = {photo["overlay"] for photo in photos if not photo["error"]}
    assert names == overlays | {"report.html", *TABLES}
    assert all(re.fullmatch(r"overlays/[ab]-[0-9a-f]{8}\.jpg", name) for name in overlays)


def test_every_crack_has_a_row_a_number_and_a_polygon_of_coco(inspector, tmp_path):
    photo = draw_blot(LINE, LARGE)
    photo.paste((10, 10, 10), (100, 200, 300, 214))
    add_grain(photo).save(tmp_path / "two.png")
    draw_blot(size=LARGE).save(tmp_path / "none.png")
    (tmp_path / "broken.png").write_bytes(b"")
    paths = [tmp_path / f"{name}.png" for name in ("none", "broken", "two")]
    *_, photo = inspect_photos(paths, inspector, tmp_path / "out", mm_per_pixel=0.5)
    rows = table(tmp_path / "out" / "cracks.csv")
    assert [(row["file"], row["crack"]) for row in rows] == [(photo["file"], x) for x in "12"]
    first, second = (float(row["length_mm"]) for row in rows)
    assert photo["length_mm"] == pytest.approx(first + second)
    assert first > second
    assert float(rows[1]["top"]) == pytest.approx(207, abs=4)
    coco = json.loads((tmp_path / "out" / "cracks.coco.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == [str(paths[0]), str(paths[2])]
    first, second = coco["annotations"]
    assert first["image_id"] == second["image_id"] == coco["images"][1]["id"]
    assert coco["categories"] == [{"id": first["category_id"], "name": "Positive"}]
    (polygon,) = first["segmentation"]
    picture = Image.new("1", LARGE)
    ImageDraw.Draw(picture).polygon(polygon, fill=1)
    covered = np.asarray(picture)
    assert covered[62:76, 60:340].mean() > 0.95
    assert covered.sum() == pytest.approx(first["area"], rel=0.1)


def test_a_photo_that_is_done_is_not_done_again_unless_it_has_changed(site, inspector, tmp_path):
    first = inspect_photos([site], inspector, tmp_path / "out")
    before = contents(tmp_path / "out")
    done = failing(inspector, 0, AssertionError)
    assert inspect_photos([site], done, tmp_path / "out") == first
    assert contents(tmp_path / "out") == before
    row, *_ = inspect_photos([site], done, tmp_path / "out", mm_per_pixel=20)
    assert row["area_m2"] == pytest.approx(row["area_px"] * 20**2 / 1e6, abs=1e-6)
    draw_blot().save(site / "a.png")
    assert inspect_photos([site], inspector, tmp_path / "out")[0]["verdict"] == "Negative"
    assert len(result_of(tmp_path / "out")["photos"]) == 3


def test_after_an_interruption_it_goes_on_with_what_is_missing(inspector, tmp_path):
    files = [tmp_path / f"{name}.png" for name in "abc"]
    for file, box in zip(files, (BLOT, (), (10, 10, 50, 70)), strict=True):
        draw_blot(box).save(file)
    inspect_photos(files[:1], inspector, tmp_path / "out")
    last = contents(tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        inspect_photos(files, failing(inspector, 1, KeyboardInterrupt), tmp_path / "out")
    now = contents(tmp_path / "out")
    assert {name: now[name] for name in last} == last  # The last report is whole.
    rest = failing(inspector, 1, AssertionError)  # Of three photos, two are done.
    photos = inspect_photos(files, rest, tmp_path / "out")
    assert [photo["verdict"] for photo in photos] == ["Positive", "Negative", "Positive"]
    inspect_photos(files, inspector, tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_two_at_once_into_one_folder_leave_what_one_leaves(site, inspector, tmp_path):
    alone = inspect_photos([site], inspector, tmp_path / "alone")
    with ThreadPoolExecutor(2) as pool:
        work = [pool.submit(inspect_photos, [site], inspector, tmp_path / "out") for _ in range(2)]
    assert [run.result() for run in work] == [alone, alone]
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")


def test_a_report_that_cannot_be_written_leaves_the_earlier_one(
    site, inspector, tmp_path, monkeypatch
):
    def full(*_):
        raise OSError(28, "No space left on device")

    inspect_photos([site], inspector, tmp_path / "out")
    before = contents(tmp_path / "out")
    draw_blot(LINE, LARGE).save(tmp_path / "more.png")
    monkeypatch.setattr("crackclf.photos.folder.format_table", full)
    with pytest.raises(OSError, match="No space left"):
        inspect_photos([tmp_path / "more.png"], inspector, tmp_path / "out")
    after = contents(tmp_path / "out")
    assert {name: after[name] for name in before} == before
    assert not any(name.startswith(".crackclf-") for name in after)


def test_other_photos_are_added_to_those_of_an_earlier_call(site, inspector, tmp_path):
    inspect_photos([site], inspector, tmp_path / "out")
    draw_blot(LINE, LARGE).save(tmp_path / "more.png")
    more = [tmp_path / "more.png", tmp_path / "more.png"]  # Counted once.
    rows = inspect_photos(more, inspector, tmp_path / "out", mm_per_pixel=2)
    assert [row["file"] for row in rows] == [str(tmp_path / "more.png")]
    expected = [*(str(site / x) for x in ("a.png", "east/b.jpg", "east/c.jpg")), rows[0]["file"]]
    photos = result_of(tmp_path / "out")["photos"]
    assert [photo["file"] for photo in photos] == expected
    assert photos[2]["error"]  # What could not be read stays listed.
    assert [row["file"] for row in table(tmp_path / "out" / "photos.csv")] == expected


def test_exif_gives_each_photo_its_position_and_a_distance_its_scale(inspector, tmp_path):
    place = {
        **{GPS.GPSLatitudeRef: "S", GPS.GPSLatitude: (33.0, 30.0, 0.0), GPS.GPSAltitude: 40.5},
        **{GPS.GPSLongitudeRef: "E", GPS.GPSLongitude: (151.0, 15.0, 0.0)},
    }
    exif = make_exif(details={Base.FocalLengthIn35mmFilm: 24}, gps=place)
    paths = [tmp_path / "known.jpg", tmp_path / "not.jpg"]
    for path, options in zip(paths, ({"exif": exif}, {}), strict=True):
        draw_blot(LINE, LARGE).save(path, **options)
    rows = inspect_photos(paths, inspector, tmp_path / "out", distance=0.5, width_classes=(5, 50))
    assert rows[0]["length_mm"] == pytest.approx(rows[0]["length_px"] * 1.80278, rel=1e-4)
    assert (rows[1]["mm_per_pixel"], rows[1]["length_mm"]) == (None, None)
    cracks = table(tmp_path / "out" / "cracks.csv")
    assert [row["width_class"] for row in cracks] == ["5 to 50 mm", ""]
    row = table(tmp_path / "out" / "photos.csv")[0]
    assert (row["longitude"], row["latitude"], row["altitude"]) == ("151.25", "-33.5", "40.5")


def test_impossible_settings_are_refused_and_nothing_is_changed(site, inspector, tmp_path):
    for settings in ({"mm_per_pixel": 0}, {"false_alarms": 0.01}, {"region_threshold": 1.5}):
        with pytest.raises(UserError, match="Received: "):
            inspect_photos([site], inspector, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_each_photo_keeps_its_scale_its_threshold_and_its_model(site, inspector, tmp_path):
    first, *_ = inspect_photos([site], inspector, tmp_path / "out", mm_per_pixel=2)
    draw_blot(LINE, LARGE).save(tmp_path / "more.png")
    card = dataclasses.replace(inspector.card, sha256={"model.keras": "1" * 64})
    other = dataclasses.replace(inspector, card=card)
    more = {"mm_per_pixel": 0.5, "region_threshold": 0.9}
    inspect_photos([tmp_path / "more.png"], other, tmp_path / "out", **more)
    before, _, _, after = result_of(tmp_path / "out")["photos"]
    kept = ("mm_per_pixel", "region_threshold", "model")
    assert [before[name] for name in kept] == [2, 0.5, "0" * 64]
    assert [after[name] for name in kept] == [0.5, 0.9, "1" * 64]
    assert before["area_m2"] == first["area_m2"]
    again, *_ = inspect_photos([site], inspector, tmp_path / "out")  # Without a scale.
    assert again["mm_per_pixel"] == 2


def test_a_photo_that_is_there_twice_counts_once(site, inspector, tmp_path, capsys, monkeypatch):
    inspect_photos([site], inspector, tmp_path / "out")
    shutil.copy(site / "a.png", site / "a (1).png")
    monkeypatch.chdir(tmp_path)
    rows = inspect_photos(["site", tmp_path / "site" / "a.png"], inspector, tmp_path / "out")
    assert [Path(row["file"]).name for row in rows] == ["a.png", "b.jpg", "c.jpg"]
    assert "photos that are there twice count once" in capsys.readouterr().err
    (site / "a.png").rename(site / "moved.png")
    (site / "a (1).png").unlink()
    inspect_photos(["site"], inspector, tmp_path / "out")
    names = [Path(photo["file"]).name for photo in result_of(tmp_path / "out")["photos"]]
    assert sorted(set(names)) == ["b.jpg", "c.jpg", "moved.png"]


def test_cracks_that_a_reader_calls_wrong_no_longer_count(inspector, tmp_path):
    photo = draw_blot(LINE, LARGE)
    photo.paste((10, 10, 10), (100, 200, 300, 214))
    photo.save(tmp_path / "two.png")
    out, table_file = tmp_path / "out", tmp_path / "reviewed.csv"
    (row,) = inspect_photos([tmp_path / "two.png"], inspector, out)
    assert row["cracks"] == 2
    marks = [("file", "crack", "review", "remark"), (row["file"], 1, "wrong", "a cable, taut")]
    with table_file.open("w", newline="") as file:
        csv.writer(file).writerows(marks)
    assert inspect_photos([], inspector, out, reviewed=table_file) == []
    (row,) = table(out / "photos.csv")
    assert row["cracks"] == "1"
    assert [x["review"] for x in table(out / "cracks.csv")] == ["wrong", ""]
    assert len(json.loads((out / "cracks.coco.json").read_text())["annotations"]) == 1
    (row,) = inspect_photos([tmp_path / "two.png"], inspector, out)  # It is kept.
    assert row["cracks"] == 1
    table_file.write_text("file,crack,review,remark\nother.png,1,wrong,\n")
    with pytest.raises(UserError, match=r"other\.png: .* does not hold it"):
        inspect_photos([], inspector, out, reviewed=table_file)
    table_file.write_text("mine")
    with pytest.raises(UserError, match=r"reviewed\.csv: expected the table that report"):
        inspect_photos([], inspector, out, reviewed=table_file)


def test_a_table_gives_each_photo_its_scale(site, inspector, tmp_path, capsys):
    (tmp_path / "scales.csv").write_text(f"file,mm_per_pixel\na.png,2\n{site / 'none.png'},3\n")
    rows = inspect_photos([site], inspector, tmp_path / "out", scale_file=tmp_path / "scales.csv")
    assert [row["mm_per_pixel"] for row in rows] == [2, None, None]
    assert "b.jpg: is not in the scale file" in capsys.readouterr().err
    (tmp_path / "scales.csv").write_text("a.png;2\n")
    with pytest.raises(UserError, match=r"scales\.csv: expected a CSV file with the columns file"):
        inspect_photos([site], inspector, tmp_path / "x", scale_file=tmp_path / "scales.csv")


@pytest.mark.parametrize("content", [("mine.txt", "mine"), ("settings.json", '{"mine": 1}')])
def test_a_folder_with_other_files_is_refused_and_left_as_it_is(content, site, inspector, tmp_path):
    (name, text), out = content, tmp_path / "out"
    out.mkdir()
    (out / name).write_text(text)
    for path in (out, out / name):
        with pytest.raises(UserError, match=r"not written by crackclf\. Name another folder"):
            inspect_photos([site], inspector, path)
    assert contents(out) == {name: text.encode()}


@pytest.mark.parametrize("name", ["a<b>&'\"c.png", "</script><b>x.png", "<!--photos-->.png"])
def test_a_file_name_cannot_break_out_of_the_report(name, inspector, tmp_path):
    path = tmp_path / name  # One of them lies in a folder called "<".
    path.parent.mkdir(exist_ok=True)
    camera = {Base.Make: "</script><script>alert(1)</script>"}
    draw_blot(BLOT).save(path, exif=make_exif(camera))
    inspect_photos([path], inspector, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert name not in page
    assert page.count("<script") == page.count("</script>") == 4
    assert set(re.findall(r"https?:[^\"'\s]*", page)) == {"http://www.w3.org/2000/svg"}
    _, facts, pictures = re.findall(r'<script type="application/json">(.*?)</script>', page)
    assert json.loads(facts)["file"] == str(path)
    assert json.loads(pictures).keys() == {"preview", "heat", "crops", "original"}
    assert table(tmp_path / "out" / "photos.csv")[0]["file"] == str(path)


def test_inspection_json_is_as_its_schema_describes(site, inspector, tmp_path):
    jsonschema = pytest.importorskip("jsonschema")
    check = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    draw_blot(LINE, LARGE).save(site / "line.png")
    for scale in (None, 0.4):
        inspect_photos([site], inspector, tmp_path / "out", mm_per_pixel=scale)
        result = result_of(tmp_path / "out")
        check.validate(result)
    result["photos"][0]["regions"][0]["box"].pop()
    assert not check.is_valid(result)


def test_pictures_of_an_inspection_are_not_inspected(inspector, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw_blot(BLOT).save("one.png")
    for out in ("inspection", "inspection", "other"):
        assert [photo["file"] for photo in inspect_photos(["."], inspector, out)] == ["one.png"]


def test_photos_of_any_name_are_inspected(inspector, tmp_path):
    (tmp_path / "site").mkdir()
    names = ["n" * 240, "裂" * 80, "\U0001f6a7" * 62, "a\nb", "b\\x", os.fsdecode(b"\xff")]
    for number, name in enumerate(names):
        draw_blot(BLOT, (120 + number, 90)).save(tmp_path / "site" / f"{name}.png")
    rows = inspect_photos([tmp_path / "site"], inspector, tmp_path / "out")
    assert [row["verdict"] for row in rows] == 6 * ["Positive"]
    overlays = [tmp_path / "out" / row["overlay"] for row in rows]
    assert all(x.is_file() and x.parent.name == "overlays" for x in overlays)
    assert not any("\n" in row["file"] for row in rows)
