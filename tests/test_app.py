import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("gradio")

import httpx

from conftest import build_card, draw_blot
from crackclf.app import build_page, serve
from crackclf.errors import UserError

pytestmark = [
    pytest.mark.extras,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:gradio"),
]
BLOT, SIZE = (60, 40, 160, 120), (320, 240)
JOIN, UPLOAD = "/gradio_api/queue/join", "/gradio_api/upload"


@pytest.fixture(scope="module")
def saved(save_keras, tmp_path_factory):
    card = build_card(sound_peaks=(0.5,) * 19)
    return save_keras(tmp_path_factory.mktemp("models") / "model", card)


@pytest.fixture(scope="module")
def server(saved, tmp_path_factory):
    """A served page: its port, its process and the folder of its uploads."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    uploads = tmp_path_factory.mktemp("uploads")
    script = """
import sys
sys.modules["tensorflow"] = sys.modules["keras"] = None
from crackclf.app import serve
from crackclf.prediction import load_model
serve(load_model(sys.argv[1]), int(sys.argv[2]))
"""
    with subprocess.Popen(
        [sys.executable, "-c", script, saved, str(port)],
        env=os.environ | {"GRADIO_TEMP_DIR": str(uploads)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert f"127.0.0.1:{port}" in process.stdout.readline()
        yield port, process, uploads
        process.kill()


@pytest.fixture
def web(server):
    # Whatever proxy the environment names, it is not for this machine.
    address = f"http://127.0.0.1:{server[0]}"
    with httpx.Client(base_url=address, timeout=60, trust_env=False) as client:
        yield client


@pytest.fixture
def page(browser, server):
    """The page in a browser, which fails when it reaches for another machine."""
    page = browser.new_page(viewport={"width": 1200, "height": 1000})
    others = []
    start = f"http://127.0.0.1:{server[0]}/"
    page.on(
        "request",
        lambda x: None if x.url.startswith((start, "data:", "blob:")) else others.append(x.url),
    )
    page.goto(start)
    page.get_by_role("button", name="Inspect").wait_for(timeout=60_000)
    yield page
    page.close()
    assert not others


def inspect(page, *files, scale=None):
    page.set_input_files("input[type=file]", list(files))
    for file in files:
        page.get_by_label(Path(file).name).first.wait_for(timeout=60_000)
    if scale is not None:
        page.get_by_label("Millimetres per pixel").fill(str(scale))
    page.get_by_role("button", name="Inspect").click()


def wait_for_rows(page, *texts):
    for text in texts:
        page.get_by_role("gridcell", name=text).first.wait_for(timeout=60_000)


def test_photo_and_patch_and_broken_file_are_answered_together(page, tmp_path):
    draw_blot(BLOT, SIZE).save(tmp_path / "bridge.png")
    draw_blot((2, 2, 40, 40), (40, 40)).save(tmp_path / "patch.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    inspect(page, *(tmp_path / f"{x}.png" for x in ("bridge", "patch", "broken")), scale=0.5)
    wait_for_rows(page, "bridge.png", "patch.png", "Positive", "broken.png: is not a JPEG")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the report").click()
    report = Path(download.value.path()).read_text()
    assert "bridge.png" in report
    assert '"mm_per_pixel": 0.5' in report
    assert str(tmp_path) not in report


def test_two_clicks_and_a_length_give_the_scale(page, tmp_path):
    draw_blot(BLOT, (640, 480)).save(tmp_path / "bridge.png")
    page.set_input_files("input[type=file]", [tmp_path / "bridge.png"])
    page.get_by_text("Measure the scale").click()
    page.get_by_label("A length in it").fill("50")
    photo = page.locator("[data-testid=image] img, .image-frame img, .image-container img").first
    photo.wait_for(timeout=60_000)
    box = photo.bounding_box()
    for share in (0.25, 0.75):  # 320 pixels of the photo lie between.
        photo.click(position={"x": share * box["width"], "y": box["height"] / 2})
        page.wait_for_timeout(1500)
    scale = page.get_by_label("Millimetres per pixel")
    assert float(scale.input_value()) == pytest.approx(50 / 320, rel=0.02)


def test_without_a_photo_it_asks_for_one(page):
    page.get_by_role("button", name="Inspect").click()
    page.get_by_text("Choose a photo first.").wait_for(timeout=60_000)


def test_a_page_of_another_origin_may_not_ask_it_anything(web):
    """By Gradio's own rule: a browser sends JSON to another origin only after this permission."""
    asked = {"Origin": "https://other.example", "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in web.options(JOIN, headers=asked).headers
    # What it may send without that is refused, and no answer can be read.
    answer = web.post(JOIN, content="{}", headers=asked | {"Content-Type": "text/plain"})
    assert answer.status_code == 422
    assert "access-control-allow-origin" not in answer.headers
    own = asked | {"Origin": str(web.base_url)}
    assert web.options(JOIN, headers=own).headers["access-control-allow-origin"] == own["Origin"]
    assert web.get("/", headers={"Host": "other.example"}).status_code == 400


def test_it_listens_on_this_machine_only(server):
    addresses = {
        line.split()[1]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(table).read_text().splitlines()[1:]
        if line.split()[1].endswith(f":{server[0]:04X}") and line.split()[3] == "0A"
    }
    assert addresses == {f"0100007F:{server[0]:04X}"}


def test_files_of_this_machine_and_too_large_uploads_are_refused(web):
    assert web.get(f"/gradio_api/file={Path(__file__)}").status_code == 403
    files = {"files": ("large.png", b"0" * (64 * 1024**2 + 1))}
    assert web.post(UPLOAD, files=files).status_code == 413


def test_a_taken_port_is_named_with_what_to_do(server, classifier):
    with pytest.raises(UserError, match=rf"port {server[0]} is in use.*--port"):
        serve(classifier, server[0])


def test_without_figures_of_sound_photos_a_photo_is_refused_and_a_patch_answered(
    classifier, tmp_path
):
    draw_blot(BLOT, SIZE).save(tmp_path / "bridge.png")
    draw_blot((2, 2, 40, 40), (40, 40)).save(tmp_path / "patch.png")
    page = build_page(classifier)
    run = next(x.fn for x in page.fns.values() if len(x.outputs) == 4)
    answers = run([str(tmp_path / "bridge.png"), str(tmp_path / "patch.png")], 0)
    rows, pictures, cracks, report = next(answers)
    assert "sound" in rows[0][-1]
    assert rows[1][:2] == ["patch.png", "Positive"]
    assert (len(pictures), cracks, report["visible"]) == (2, [], False)


def test_stopped_it_leaves_no_upload(server, web):
    _, process, uploads = server
    web.post(UPLOAD, files={"files": ("a.png", b"some bytes")})
    assert list(uploads.rglob("a.png"))
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert not [file for file in uploads.rglob("*") if file.is_file() and file.stat().st_size]
