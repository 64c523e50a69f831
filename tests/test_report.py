"""The report of an inspection as a person sees it: in a browser."""

import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest

from conftest import draw_blot
from crackclf.inference.batch import inspect_photos

pytestmark = pytest.mark.browser
DARK, LIGHT = "a<b>&amp;'\".png", "z & <i>bright.png"


@pytest.fixture
def report(inspector, tmp_path) -> Path:
    (tmp_path / "site").mkdir()
    draw_blot((30, 20, 80, 60)).save(tmp_path / "site" / DARK)
    draw_blot().save(tmp_path / "site" / LIGHT)
    (tmp_path / "site" / "broken.png").write_bytes(b"")
    inspect_photos([tmp_path / "site"], inspector, tmp_path / "out", mm_per_pixel=20)
    return tmp_path / "out" / "report.html"


def browse(page: Path, script: str = "") -> str:
    """What the page looks like once its script, and perhaps another, has run."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium here")
    page.write_text(page.read_text() + f"<script>{script}</script>" * bool(script))
    return subprocess.run(
        [
            *(chromium, "--headless", "--no-sandbox", f"--user-data-dir={page.parent}/chromium"),
            *("--disable-gpu", "--dump-dom", page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    ).stdout


def rows_of(dom: str) -> list[list[str]]:
    """The cells of the table's rows, as HTML."""
    body = dom[dom.index("<tbody>") : dom.index("</tbody>")]
    return [re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL) for row in body.split("<tr")[1:]]


def test_a_browser_shows_a_row_a_photo_the_most_probable_first(report):
    rows = rows_of(browse(report))
    assert [unescape(row[1]) for row in rows] == [DARK, LIGHT, "broken.png"]
    assert "<" not in "".join(row[1] for row in rows)
    assert [row[2] for row in rows][:2] == ["Positive", "Negative"]
    assert "is empty" in rows[2][2]
    assert float(rows[0][3]) > 0.95 > 0.05 > float(rows[1][3])
    assert [row[4] for row in rows] == ["1", "0", ""]
    # 50 x 40 pixels of 2 x 2 cm.
    assert float(rows[0][5]) == pytest.approx(0.8, rel=0.05)
    outline = re.findall(r'<path d="M([^"]+)Z" class="outline">', rows[0][0])
    assert len(outline) == 1
    corners = [tuple(map(float, point.split())) for point in outline[0].split("L")]
    assert min(corners)[0] == pytest.approx(30, abs=3)
    assert max(corners)[0] == pytest.approx(80, abs=3)
    assert "<path" not in rows[1][0]
    assert [row[0].count("<image") for row in rows] == [2, 2, 0]


def test_rows_can_be_sorted_filtered_and_looked_into(report):
    dom = browse(
        report,
        """
        document.querySelectorAll("th")[1].click()
        document.querySelectorAll("th")[1].click()
        const filter = document.getElementById("filter")
        filter.value = "T"
        filter.oninput()
        document.querySelector("tr.photo").click()
        """,
    )
    # Backwards by name. The broken one's T is in its error.
    assert [unescape(row[1]) for row in rows_of(dom)] == [LIGHT, "broken.png"]
    assert "2 of 3" in dom
    dialog = dom[dom.index("<dialog") : dom.index("</dialog>")]
    assert dialog.startswith('<dialog open="">')
    assert unescape(re.search(r'id="name">(.*?)</strong>', dialog)[1]) == LIGHT
    assert "90 pixels" in dialog
