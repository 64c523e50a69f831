"""The report of an inspection as a person sees it: in a browser."""

import re

import pytest
from PIL.ExifTags import Base

from conftest import add_grain, draw_blot, make_exif
from crackclf.photos.folder import inspect_photos

pytestmark = pytest.mark.extras
NAME = "a<b>&amp;'\".jpg"


@pytest.fixture
def show(browser, inspector, tmp_path):
    """Inspects photos and opens their report."""

    def open_report(paths, **settings):
        inspect_photos(paths, inspector, tmp_path / "out", **settings)
        page = browser.new_page(viewport={"width": 1200, "height": 800})
        page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
        page.goto((tmp_path / "out" / "report.html").as_uri())
        return page

    return open_report


@pytest.fixture
def report(show, tmp_path):
    """The open report of a photo with two cracks, a sound one and a broken one."""
    (tmp_path / "site").mkdir()
    photo = draw_blot((20, 60, 380, 78), (400, 300))
    photo.paste((10, 10, 10), (100, 200, 300, 214))
    exif = make_exif({Base.Make: "<img src=x onerror=alert(1)>", Base.Model: "</script><script>"})
    add_grain(photo).save(tmp_path / "site" / NAME, exif=exif)
    draw_blot().save(tmp_path / "site" / "bright.png")
    (tmp_path / "site" / "broken.png").write_bytes(b"")
    return show([tmp_path / "site"], mm_per_pixel=20)


def rows_of(page) -> list[list[str]]:
    """The cells of the table's rows, as text."""
    rows = page.locator("tbody tr").all()
    return [[cell.inner_text() for cell in row.locator("td").all()] for row in rows]


def test_a_browser_shows_a_row_a_photo_which_can_be_sorted_and_filtered(report):
    report.locator(".small svg").nth(1).wait_for()
    cracked, sound, broken = rows_of(report)
    assert (cracked[1:3], cracked[4]) == ([NAME, "Positive"], "2")
    assert (sound[1:3], sound[4]) == (["bright.png", "Negative"], "0")
    shares = [float(row[3].split()[0]) for row in (cracked, sound)]
    assert shares[0] > 95 > 5 > shares[1]
    assert cracked[3].endswith(" % (50.0 %)")  # The threshold that it had.
    assert "is empty" in broken[2]
    assert report.locator(".small .outline").count() == 2
    report.locator("th", has_text="File").click()
    assert [row[1] for row in rows_of(report)] == [NAME, "bright.png", "broken.png"]
    report.get_by_label("Filter").fill("br")
    assert [row[1] for row in rows_of(report)] == ["bright.png", "broken.png"]
    assert report.locator("#count").inner_text() == "2 of 3"


def test_cracks_are_drawn_and_listed_with_a_close_up_on_screen_and_in_print(report):
    report.locator("tr.photo").first.click()
    dialog = report.get_by_role("dialog")
    assert "<img src=x" in dialog.inner_text()
    assert dialog.locator("svg text").all_text_contents() == ["1", "2"]
    assert dialog.locator("svg .line").count() > 20
    rows = [row.locator("td").all_inner_texts() for row in dialog.locator(".cracks tr").all()[1:]]
    assert [row[0] for row in rows] == ["1", "2"]
    assert float(rows[0][2].replace(",", "")) == pytest.approx(360 * 20, rel=0.1)
    assert dialog.locator(".cracks .close image").count() == 2
    assert dialog.locator(".cracks .close .line").count() >= 2
    link = dialog.get_by_text("original photo").get_attribute("href")
    assert re.fullmatch(r"\.\./site/a%3Cb.*jpg", link)
    report.keyboard.press("Escape")
    report.emulate_media(media="print")
    report.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert report.locator("#print section").count() == 1
    assert report.locator("#print .cracks td").first.is_visible()
    assert not report.locator("#filter").is_visible()


def test_the_summary_says_what_was_found_and_what_was_not_measured(report):
    totals, missing, check = report.locator("#preface p").all_inner_texts()
    found = "A program looked for cracks in 3 photos. It found some in 1, and none in 1. In all: "
    assert re.match(
        found + r"2 cracks, 1\d,\d{3} mm long, up to 3\d\d\.\d mm wide \(between", totals
    )
    assert "1 photo (unreadable, or no photo of a surface); 1 photo (blurred, dark" in missing
    assert check.startswith("A person must check")
    threshold, _, scale, model = report.locator("#method p").all_inner_texts()
    assert "rises above 50.0 %. At most 10.0 % of the photos" in threshold
    assert "like the 19 on which" in threshold
    assert scale.startswith("The interval of a largest width holds the true one in 90 of 100")
    assert scale.endswith("1 pixel = 20 mm.")
    assert "Model 000000000000, crackclf " in model


def test_where_only_some_scales_are_known_the_notes_are_in_pixels(show, tmp_path):
    paths = [tmp_path / "known.jpg", tmp_path / "not.jpg"]
    exif = make_exif(details={Base.FocalLengthIn35mmFilm: 24})
    for path, options in zip(paths, ({"exif": exif}, {}), strict=True):
        add_grain(draw_blot((20, 60, 380, 78), (400, 300))).save(path, **options)
    page = show(paths, region_threshold=0.7, distance=0.5)
    totals, missing, _ = page.locator("#preface p").all_inner_texts()
    assert re.search(r"2 cracks, \d+ px long, up to 1[78]\.\d px wide", totals)
    assert "1 photo (of unknown scale: sizes in pixels)" in missing
    threshold, _, scale, _ = page.locator("#method p").all_inner_texts()
    assert "70.0 %. It was chosen by hand" in threshold
    assert "1 pixel = 1.8 mm. That is for a distance of 0.5 m and the focal lengths" in scale
    assert scale.endswith("The scale of 1 photo is not known: sizes are in pixels.")
    assert [row[5] for row in rows_of(page)][1] == ""  # Not known in millimetres.


def test_a_heading_stands_above_and_stays_when_photos_are_added(show, tmp_path):
    add_grain(draw_blot((20, 60, 380, 78), (400, 300))).save(tmp_path / "a.png")
    add_grain(draw_blot((20, 90, 380, 98), (400, 300))).save(tmp_path / "b.png")
    show([tmp_path / "a.png"], heading={"title": "Bridge <12>", "client": "City", "inspector": ""})
    page = show([tmp_path / "b.png"], heading={"inspector": "A. Maillart"})
    assert page.title() == page.locator("h1").inner_text() == "Bridge <12>"
    told = page.locator("#heading").inner_text()
    assert re.fullmatch(r"For City · Inspected by A\. Maillart · \d{4}-\d\d-\d\d", told)
