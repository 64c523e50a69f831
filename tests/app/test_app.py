"""The web page as its users see it, and as those see it who mean it ill."""

import importlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import pytest

pytest.importorskip("gradio")

import httpx
from filelock import FileLock
from PIL import Image

from conftest import build_card, draw_blot
from crackclf.app.answers import ask as ask_about
from crackclf.app.examples import EXAMPLES
from crackclf.app.render import render_summary
from crackclf.app.server import _clean, _remove_left, serving
from crackclf.cli.app import app as command
from crackclf.errors import UserError
from several import JOINT, SEVERAL

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:gradio")
BLOT, MEGABYTE = (30, 20, 80, 60), 2**20


@pytest.fixture(scope="module")
def address(inspector):
    with serving(inspector, 0) as address:
        yield address


@pytest.fixture(scope="module")
def web(address):
    # Whatever proxy the environment names, it is not for this machine.
    with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
        yield client


@pytest.fixture
def folder(address) -> Path:
    """Where the server has what it cannot do without."""
    return Path(os.environ["GRADIO_TEMP_DIR"])


@pytest.fixture
def page(browser, address):
    page = browser.new_page()
    page.asked = []
    page.on("request", lambda request: page.asked.append((request.method, request.url)))
    page.goto(address)
    yield page
    page.close()


def drop(page, *paths: Path) -> None:
    """Drops files, sees them arrive, clicks."""
    page.set_input_files("input[type=file]", paths)
    arrived = page.get_by_role("link", name=" B").or_(page.get_by_role("link", name="B "))
    arrived.nth(len(paths) - 1).wait_for()
    page.get_by_role("button", name="Inspect").click()


def download_report(page) -> tuple[str, str]:
    """Clicks, and takes the name and the content of what comes."""
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the report").click()
    return download.value.suggested_filename, Path(download.value.path()).read_text()


def encode(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()


def send(web: httpx.Client, name: str, content: bytes) -> str:
    """Uploads a file and returns where the server has put it."""
    [path] = web.post("/gradio_api/upload", files={"files": (name, content)}).json()
    return path


def follow(web: httpx.Client, paths: list[str], scale: object = 0) -> Iterator[str]:
    """What the page does on a click, and all that it is told."""
    session = uuid.uuid4().hex
    files = [{"path": path, "meta": {"_type": "gradio.FileData"}} for path in paths]
    body = {"data": [files, scale], "fn_index": 0, "session_hash": session}
    web.post("/gradio_api/queue/join", json=body).raise_for_status()
    with web.stream("GET", f"/gradio_api/queue/data?session_hash={session}") as messages:
        yield from messages.iter_lines()


def ask(web: httpx.Client, *paths: str, scale: object = 0) -> dict:
    """The last that the page is told."""
    [told] = [line for line in follow(web, list(paths), scale) if "process_completed" in line]
    return json.loads(told.removeprefix("data: "))["output"]


def uploads(folder: Path) -> list[Path]:
    """Files as they were uploaded; empty ones are Gradio's own."""
    return [path for path in folder.glob("*/*") if len(path.parent.name) == 64]


@pytest.mark.browser
def test_a_photo_gets_a_verdict_a_map_and_a_report(page, address, folder, tmp_path):
    draw_blot((20, 60, 380, 78), (400, 300)).save(tmp_path / "pier 7.png")
    page.get_by_label("Millimetres per pixel").fill("20")
    drop(page, tmp_path / "pier 7.png")
    page.locator(".verdict.cracked").wait_for()
    said = page.locator(".facts").inner_text()
    assert page.locator(".verdict").inner_text() == "Positive"
    assert re.search(r"Cracks traced\t1 crack, [67],\d\d\d mm long", said)
    cells = page.locator("table.cracks td").all_inner_texts()
    assert cells[0] == "1"
    page.wait_for_function("document.querySelector('table.cracks img')?.naturalWidth == 300")
    assert float(cells[4]) == pytest.approx(18 * 20, rel=0.1)
    picture = page.locator(".map img").first
    picture.wait_for()
    page.wait_for_function("document.querySelector('.map img')?.naturalWidth == 400")
    name, report = download_report(page)
    assert name == "pier 7-report.html"
    assert '"file": "pier 7.png"' in report
    assert '"verdict": "Positive"' in report
    assert str(folder) not in report
    assert {url.split("/")[2] for _, url in page.asked if url.startswith("http")} == {
        address.removeprefix("http://")
    }
    assert not uploads(folder)


@pytest.mark.browser
def test_a_patch_gets_its_probability_and_evidence_but_no_report(page, tmp_path):
    draw_blot(size=(64, 40)).save(tmp_path / "patch.png")
    drop(page, tmp_path / "patch.png")
    page.locator(".verdict.sound").wait_for()
    assert page.locator(".verdict").inner_text() == "Negative"
    assert "64 x 40 pixels" in page.locator(".facts").inner_text()
    page.wait_for_function("document.querySelector('.map img')?.naturalWidth > 300")
    assert not page.get_by_role("button", name="Download the report").is_visible()


@pytest.mark.browser
def test_several_pictures_get_a_table_each_its_map_and_all_one_report(page, folder, tmp_path):
    draw_blot((20, 60, 380, 78), (400, 300)).save(tmp_path / "pier 7.png")
    draw_blot(size=(300, 400)).save(tmp_path / "wall.png")
    draw_blot((0, 0, 50, 50), (50, 50)).save(tmp_path / "core.png")
    (tmp_path / "notes.jpg").write_text("no image")
    page.get_by_label("Millimetres per pixel").fill("2")
    drop(page, *(tmp_path / name for name in ("pier 7.png", "notes.jpg", "wall.png", "core.png")))
    page.get_by_text("4 pictures: 2 cracked, 1 not, 1 without an answer").wait_for()
    rows = [row.split("\t") for row in page.locator(".overview tr").all_inner_texts()[1:]]
    assert rows[0][:2] == ["pier 7.png", "Positive"]
    assert float(rows[0][5]) == pytest.approx(18 * 2, rel=0.1)
    assert rows[1][0] == "notes.jpg"
    assert rows[1][1].startswith("notes.jpg: is not a JPEG")
    assert rows[2][:2] == ["wall.png", "Negative"]
    assert rows[2][3:] == ["0", "0", ""]
    assert rows[3][:2] == ["core.png", "Positive"]
    assert rows[3][3:] == ["", "", ""]
    sections = page.locator("section")
    assert sections.locator("h3").all_inner_texts() == ["pier 7.png", "wall.png", "core.png"]
    assert sections.locator("table.cracks").count() == 1
    page.wait_for_function("[...document.querySelectorAll('.map img')].every(x => x.naturalWidth)")
    page.get_by_role("link", name="core.png", exact=True).click()
    assert page.evaluate("document.querySelector(':target h3').innerText") == "core.png"
    name, report = download_report(page)
    assert name == "report.html"
    assert '"file": "pier 7.png"' in report
    assert '"file": "wall.png"' in report
    assert str(folder) not in report
    assert not re.search("[0-9a-f]{64}/", report)  # Where an upload was.
    assert not uploads(folder)


def test_it_says_which_picture_of_how_many_is_looked_at(web):
    paths = [send(web, name, encode(draw_blot())) for name in ("a.png", "b.png")]
    told = [line for line in follow(web, paths) if "process_generating" in line]
    assert "Picture 1 of 2: a.png" in told[0]
    assert any("Picture 2 of 2: b.png" in line for line in told[1:])


@pytest.mark.browser
def test_an_example_is_drawn_and_answered_at_a_click(page, folder):
    for name in EXAMPLES:
        page.get_by_role("button", name=name).click()
        page.get_by_role("heading", name=f"{name}.jpg").wait_for()
        page.locator(".facts").wait_for()
        page.wait_for_function("document.querySelector('.map img')?.naturalWidth > 300")
        is_photo = page.get_by_text("Cracks traced").is_visible()
        assert is_photo == name.startswith("Photo")
        assert page.get_by_role("button", name="Download the report").is_visible() == is_photo
    assert not [path for path in folder.rglob("*.jpg") if path.stem in EXAMPLES]


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_read_and_use_it(browser, address, tmp_path, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    draw_blot((20, 60, 380, 78), (400, 300)).save(tmp_path / "pier 7.png")
    draw_blot(size=(50, 50)).save(tmp_path / "core.png")
    (tmp_path / "notes.jpg").write_text("no image")
    page = browser.new_page(color_scheme=scheme, viewport={"width": 390, "height": 800})

    def look() -> list:
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        found = axe.run(page).response["violations"]
        return [x for x in found if x["impact"] in ("serious", "critical")]

    page.goto(address)
    page.get_by_role("button", name="Inspect").wait_for()
    assert look() == []
    paths = [tmp_path / name for name in ("pier 7.png", "core.png", "notes.jpg")]
    page.set_input_files("input[type=file]", paths)
    page.get_by_label("Remove this file").nth(2).wait_for()
    assert look() == []
    page.get_by_role("button", name="Inspect").click()
    page.locator(".overview").wait_for()
    assert look() == []
    drop(page, tmp_path / "notes.jpg")
    page.get_by_text("No answer").wait_for()
    assert look() == []
    page.close()


@pytest.mark.browser
def test_what_is_no_image_is_told_so_and_the_next_one_is_answered(page, tmp_path):
    page.get_by_role("button", name="Inspect").click()
    page.get_by_text("Choose a photo or a patch first.").wait_for()
    (tmp_path / "notes.jpg").write_text("no image")
    drop(page, tmp_path / "notes.jpg")
    page.get_by_text("notes.jpg: is not a JPEG, PNG, BMP, GIF, TIFF or WebP image").wait_for()
    draw_blot(BLOT).save(tmp_path / "photo.png")
    drop(page, tmp_path / "photo.png")
    page.locator(".verdict.cracked").wait_for()


@pytest.mark.browser
def test_a_file_that_is_too_large_is_refused_before_it_is_sent(page, tmp_path):
    with (tmp_path / "large.jpg").open("wb") as file:
        file.truncate(65 * MEGABYTE)
    page.set_input_files("input[type=file]", tmp_path / "large.jpg")
    page.get_by_text("exceed the maximum allowed size of 64").wait_for()
    assert not any(method == "POST" for method, _ in page.asked)


def test_50_megabytes_are_answered_and_more_than_64_refused(web, folder):
    photo = encode(draw_blot(BLOT)).ljust(50 * MEGABYTE, b"\0")
    assert "Positive" in ask(web, send(web, "photo.png", photo))["data"][0]
    assert not uploads(folder)
    for headers in ({"Content-Length": str(65 * MEGABYTE)}, {"Transfer-Encoding": "chunked"}):
        connection = HTTPConnection(web.base_url.host, web.base_url.port)
        connection.request("POST", "/gradio_api/upload", headers=headers)
        refused = connection.getresponse()
        assert refused.status == 413
        assert b"64 MB" in refused.read()
        connection.close()


def test_ten_at_once_are_all_answered_rightly(web, folder):
    # Five users each upload one and the same file.
    photos = [(encode(draw_blot(BLOT)), "Positive"), (encode(draw_blot()), "Negative")]

    def use(user: int) -> bool:
        photo, expected = photos[user % 2]
        arrived.wait()
        path = send(web, "photo.png", photo)
        arrived.wait()
        return f"<strong>{expected}<" in ask(web, path)["data"][0]

    arrived = threading.Barrier(10)
    with ThreadPoolExecutor(10) as users:
        assert all(users.map(use, range(10)))
    assert not uploads(folder)


SERVED = """
import sys
sys.modules["tensorflow"] = sys.modules["keras"] = None
from crackclf import load_model
from crackclf.app.server import serving
with serving(load_model(), 0) as address:
    print(address, flush=True)
    sys.stdin.read()
"""


def test_it_answers_where_there_is_no_framework(tmp_path):
    server = subprocess.Popen(
        [sys.executable, "-c", SERVED],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        with httpx.Client(base_url=address, timeout=60, trust_env=False) as web:
            patch = ask(web, send(web, "patch.png", encode(draw_blot(size=(227, 227)))))
            photo = ask(web, send(web, "photo.png", encode(draw_blot(size=(900, 700)))))
        server.communicate("")
    assert "Probability of a crack" in patch["data"][0]
    assert "Cracks traced" in photo["data"][0]
    assert server.returncode == 0


@pytest.mark.parametrize(
    "path",
    [__file__, "http://localhost/photo.png", "https://huggingface.co/photo.png", "photo.png"],
)
def test_only_uploads_are_looked_at(path, web, folder):
    assert "is not here" in ask(web, path)["error"]
    assert "is not here" in ask(web, f"{folder}/../{path}")["error"]
    # Where no file belongs, Gradio would look as well.
    elsewhere = [{"path": path, "meta": {"_type": "gradio.FileData"}}]
    assert "is not here" in ask(web, scale=elsewhere)["error"]


def test_only_what_the_page_needs_is_served(web, folder):
    for path in (
        f"file={__file__}",
        f"file={folder}/../../../../../..{__file__}",
        "file=http://localhost/",
        *("info", "openapi.json", "proxy=http://localhost/", "deep_link?session_hash=x", "runs"),
    ):
        assert web.get(f"/gradio_api/{path}").status_code in (403, 404)
    for path in ("process_recording", "run/predict", "call/inspect", "component_server"):
        assert web.post(f"/gradio_api/{path}", json={}).status_code == 404


def test_what_is_old_is_removed_and_what_is_new_is_not(tmp_path):
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.html").touch()
        (tmp_path / f"{name} upload").touch()
    for name in ("old", "old upload"):
        os.utime(tmp_path / name, (time.time() - 100, time.time() - 100))
    stop = threading.Event()
    stop.set()
    _clean(tmp_path, stop, kept=50)
    assert {path.name for path in tmp_path.iterdir()} == {"new", "new upload"}


def test_a_model_that_has_seen_no_sound_photos_judges_patches_only(classifier, tmp_path):
    draw_blot(BLOT).save(tmp_path / "photo.png")
    draw_blot(size=(50, 50)).save(tmp_path / "patch.png")
    with pytest.raises(UserError, match="photos of sound surfaces"):
        ask_about(tmp_path / "photo.png", None, classifier, tmp_path)
    said = ask_about(tmp_path / "patch.png", None, classifier, tmp_path)
    assert "Negative" in render_summary([said])
    assert said.picture.is_file()


def test_where_gradio_is_missing_one_error_says_how_to_install_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "crackclf.app.page")
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(UserError, match=r"pip install 'crackclf\[app\]'"):
        importlib.import_module("crackclf.app.page")


def test_a_taken_port_is_named_with_the_remedy(address, classifier):
    port = int(address.rsplit(":", 1)[1])
    with pytest.raises(UserError, match=f"port {port} .*--port"), serving(classifier, port):
        pass


def test_stopped_it_leaves_nothing(save_keras, tmp_path, monkeypatch):
    save_keras(tmp_path / "model", build_card())
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.SIG_DFL) for number in numbers]
    said = []

    def stop(line: str, **_: bool) -> None:
        said.append(line.split()[0])
        with httpx.Client(base_url=said[0], trust_env=False) as web:
            assert send(web, "photo.jpg", b"").startswith(str(tmp_path / "temporary"))
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("builtins.print", stop)
    try:
        command(str(tmp_path / "model"), 0)
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    assert not any((tmp_path / "temporary").iterdir())
    with pytest.raises(httpx.ConnectError):
        httpx.get(said[0], trust_env=False)


def test_of_three_classes_the_page_says_the_name_and_the_probability_of_a_crack(tmp_path):
    Image.new("RGB", (40, 40), JOINT).save(tmp_path / "patch.png")
    said = render_summary([ask_about(tmp_path / "patch.png", None, SEVERAL, tmp_path)])
    assert '<div class="verdict sound"><strong>Joint</strong>' in said
    assert "Probability of a crack</th><td>0.000" in said
    draw_blot(BLOT).save(tmp_path / "photo.png")
    said = render_summary([ask_about(tmp_path / "photo.png", None, SEVERAL, tmp_path)])
    assert '<div class="verdict cracked"><strong>Cracked</strong>' in said


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://localhost:1"},
        {"Origin": "null"},
    ],
)
def test_no_other_site_may_use_it(web, folder, headers):
    before = set(folder.rglob("*"))
    files = {"files": ("photo.png", encode(draw_blot()))}
    for answer in (
        web.post("/gradio_api/upload", files=files, headers=headers),
        web.get("/", headers=headers),
    ):
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers
    assert set(folder.rglob("*")) == before


def test_it_may_be_called_localhost_and_asked_by_itself(web, address):
    port = address.rsplit(":", 1)[1]
    for host in (f"localhost:{port}", f"127.0.0.1:{port}"):
        headers = {"Host": host, "Origin": f"http://{host}"}
        assert web.get("/", headers=headers).status_code == 200


def test_a_full_folder_takes_no_more(web, folder, monkeypatch):
    monkeypatch.setattr("crackclf.app.server._FOLDER_MEGABYTES", 0)
    (folder / "result").write_bytes(b"x")
    files = {"files": ("photo.png", encode(draw_blot()))}
    assert web.post("/gradio_api/upload", files=files).status_code == 503
    monkeypatch.undo()
    assert web.post("/gradio_api/upload", files=files).status_code == 200


def test_a_full_disk_is_said_and_the_page_goes_on(web, monkeypatch):
    files = {"files": ("photo.png", encode(draw_blot()))}
    with monkeypatch.context() as patch:
        patch.setattr("crackclf.app.server._LEAST_FREE", 2**70)
        assert web.post("/gradio_api/upload", files=files).status_code == 503

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("crackclf.app.page.ask", full)
        said = ask(web, send(web, "a.png", encode(draw_blot())))["data"][0]
        assert "a.png: No space left on device" in said
    assert "Negative" in ask(web, send(web, "b.png", encode(draw_blot())))["data"][0]


def test_a_function_that_is_none_is_refused_without_a_traceback(web, capfd):
    for index in (99, -1, "x", None):
        body = {"data": [], "fn_index": index, "session_hash": "x"}
        assert 400 <= web.post("/gradio_api/queue/join", json=body).status_code < 500
    assert "Traceback" not in capfd.readouterr().err


def test_headers_and_bodies_that_come_to_no_end_are_given_up(inspector, monkeypatch):
    monkeypatch.setattr("crackclf.app.server._PATIENCE", 0.2)
    monkeypatch.setattr("crackclf.app.server._BODY_SECONDS", 0.2)
    with serving(inspector, 0) as address:
        place = ("127.0.0.1", int(address.rsplit(":", 1)[1]))
        host = f"Host: {address.removeprefix('http://')}\r\n".encode()
        begun = [
            b"GET / HT",
            b"POST /gradio_api/upload HTTP/1.1\r\nContent-Length: 9\r\n" + host + b"\r\nabc",
        ]
        for sent in begun:
            with socket.create_connection(place, timeout=30) as connection:
                connection.sendall(sent)
                while connection.recv(4096):
                    pass  # What is said before it is closed, if anything.


def test_what_a_killed_server_has_left_is_removed_and_a_running_ones_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    old = time.time() - 1000
    for name in ("crackclf-app-killed", "crackclf-app-running", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "photo.jpg").write_bytes(b"x")
    with FileLock(tmp_path / "crackclf-app-running" / ".lock"):
        for name in tmp_path.iterdir():
            os.utime(name, (old, old))
        _remove_left()
        assert {x.name for x in tmp_path.iterdir()} == {"crackclf-app-running", "other"}


def test_a_bad_picture_is_given_up_in_time_and_others_are_answered(web, monkeypatch):
    monkeypatch.setattr("crackclf.images.apart._CODE", "import time; time.sleep(60)")
    monkeypatch.setattr("crackclf.images.apart._SECONDS", 0.2)
    said = ask(web, send(web, "slow.png", encode(draw_blot())))["data"][0]
    assert "slow.png: takes more than 0.2 s to decode" in said
    monkeypatch.setattr("crackclf.images.apart._CODE", "import os; os.abort()")
    said = ask(web, send(web, "crash.png", encode(draw_blot())))["data"][0]
    assert "crash.png: cannot be decoded" in said
    monkeypatch.undo()
    assert "Negative" in ask(web, send(web, "good.png", encode(draw_blot())))["data"][0]
