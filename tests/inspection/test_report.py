"""The report of an inspection as a person sees it: in a browser."""

import re
from html import unescape

import pytest
from PIL.ExifTags import Base

from conftest import draw_blot, make_exif
from crackclf.inspection.folder import inspect_photos

pytestmark = pytest.mark.browser
DARK, LIGHT = "a<b>&amp;'\".png", "z & <i>bright.png"


@pytest.fixture
def show(browser, inspector, tmp_path):
    """Inspects photos, given by name, and opens the report."""

    def open_report(photos):
        (tmp_path / "site").mkdir()
        for name, photo in photos.items():
            photo.save(tmp_path / "site" / name)
        (tmp_path / "site" / "broken.png").write_bytes(b"")
        inspect_photos([tmp_path / "site"], inspector, tmp_path / "out", mm_per_pixel=20)
        page = browser.new_page(viewport={"width": 1200, "height": 800})
        page.goto((tmp_path / "out" / "report.html").as_uri())
        return page

    return open_report


@pytest.fixture
def report(show):
    return show({DARK: draw_blot((30, 20, 80, 60)), LIGHT: draw_blot()})


def rows_of(page) -> list[list[str]]:
    """The cells of the table's rows, as HTML."""
    rows = page.locator("tbody tr").all()
    return [[cell.inner_html() for cell in row.locator("td").all()] for row in rows]


def test_a_browser_shows_a_row_a_photo_the_most_probable_first(report):
    report.locator(".small svg").nth(1).wait_for()
    rows = rows_of(report)
    assert [unescape(row[1]) for row in rows] == [DARK, LIGHT, "broken.png"]
    assert "<" not in "".join(row[1] for row in rows)
    assert [row[2] for row in rows][:2] == ["Positive", "Negative"]
    assert "is empty" in rows[2][2]
    assert float(rows[0][3]) > 0.95 > 0.05 > float(rows[1][3])
    assert [row[4] for row in rows] == ["0", "0", ""]
    outline = re.findall(r'<path d="M([^"]+)Z" class="outline">', rows[0][0])
    assert len(outline) == 1
    corners = [tuple(map(float, point.split())) for point in outline[0].split("L")]
    assert min(corners)[0] == pytest.approx(30, abs=3)
    assert max(corners)[0] == pytest.approx(80, abs=3)
    assert "<path" not in rows[1][0]
    assert [row[0].count("<image") for row in rows] == [2, 2, 0]


def test_rows_can_be_sorted_filtered_and_looked_into(report):
    head = report.locator("th", has_text="File")
    head.click()
    head.click()
    report.get_by_label("Filter").fill("T")
    # Backwards by name. The broken one's T is in its error.
    assert [unescape(row[1]) for row in rows_of(report)] == [LIGHT, "broken.png"]
    assert report.locator("#count").inner_text() == "2 of 3"
    report.locator("tr.photo").first.click()
    dialog = report.get_by_role("dialog")
    assert dialog.locator("#name").inner_text() == LIGHT
    assert "90 pixels" in dialog.inner_text()
    assert dialog.locator("image").count() == 2


def test_cracks_are_drawn_numbered_and_told_with_a_close_up_on_screen_and_in_print(show):
    photo = draw_blot((20, 60, 380, 78), (400, 300))
    photo.paste((10, 10, 10), (100, 200, 300, 214))
    page = show({"two.png": photo, "none.png": draw_blot(size=(400, 300))})
    assert "2 cracks were traced" in page.locator("body").inner_text()
    assert [row[4] for row in rows_of(page)] == ["2", "0", ""]
    assert rows_of(page)[0][1] == "two.png"  # The longest cracks come first.
    page.locator("tr.photo").first.click()
    dialog = page.get_by_role("dialog")
    assert dialog.locator("svg text").all_text_contents() == ["1", "2"]
    assert dialog.locator("svg .line").count() > 20
    rows = [row.locator("td").all_inner_texts() for row in dialog.locator(".cracks tr").all()[1:]]
    assert [row[0] for row in rows] == ["1", "2"]
    assert float(rows[0][2].replace(",", "")) == pytest.approx(360 * 20, rel=0.1)
    assert float(rows[1][4]) == pytest.approx(14 * 20, rel=0.1)
    assert rows[0][-1] == ""  # Room for notes.
    assert dialog.locator(".cracks img").count() == 2
    link = dialog.get_by_text("original photo")
    assert link.get_attribute("href") == "../site/two.png"
    page.keyboard.press("Escape")
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#print section").count() == 1
    assert page.locator("#print .cracks td").first.is_visible()
    assert not page.locator("#filter").is_visible()


def test_the_pictures_of_many_photos_are_shown_once_they_are_near_or_printed(show):
    page = show({f"{i:02}.png": draw_blot((30, 20, 80 + i % 9, 60)) for i in range(60)})
    pictures = page.locator(".small svg")
    pictures.first.wait_for()
    assert 5 <= pictures.count() < 40
    last = page.locator("tr.photo").last
    last.scroll_into_view_if_needed()
    last.locator("svg").wait_for()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert pictures.count() == 60


def test_script_in_a_name_or_in_exif_is_not_run(browser, inspector, tmp_path):
    (tmp_path / "site").mkdir()
    exif = make_exif({Base.Make: "<img src=x onerror=alert(1)>", Base.Model: "</script><script>"})
    name = "<img src=x onerror=alert(2)></script><script>alert(3)<.jpg".replace("/", ":")
    draw_blot((30, 20, 80, 60)).save(tmp_path / "site" / name, exif=exif)
    inspect_photos([tmp_path / "site"], inspector, tmp_path / "out")
    page, said = browser.new_page(), []
    page.on("dialog", lambda dialog: said.append(dialog.message) or dialog.dismiss())
    page.goto((tmp_path / "out" / "report.html").as_uri())
    page.locator("tr.photo").first.click()
    assert "<img src=x" in page.get_by_role("dialog").inner_text()
    assert page.locator("img").count() == 0
    assert said == []
    page.close()
