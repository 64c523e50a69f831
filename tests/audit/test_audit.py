import csv
import json
import os
import shutil

import pytest
from PIL import Image

from conftest import run
from crackclf.audit import audit
from crackclf.audit.files import audit_files
from crackclf.audit.page import render_audit
from crackclf.data.loading import TooFewError, load_folds
from crackclf.files import write_whole


@pytest.fixture
def images(sample, tmp_path, monkeypatch):
    """A copy of the sample, in which nothing is wrong, where no weights can be downloaded."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CRACKCLF_WEIGHTS_DIR", "")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    return shutil.copytree(sample, tmp_path / "images", ignore=shutil.ignore_patterns(".crackclf"))


def test_the_audit_reports_every_problem_and_moves_nothing(images, monkeypatch, capsys, tmp_path):
    negative, positive = (sorted((images / x).iterdir()) for x in ("Negative", "Positive"))
    shutil.copy(negative[0], images / "Negative" / "copy<b>.jpg")
    shutil.copy(positive[0], images / "Negative" / "wrong.jpg")
    Image.open(positive[1]).resize((90, 90)).save(images / "Positive" / "small.jpg")
    (images / "Negative" / "broken.jpg").write_bytes(b"")
    before = {path: path.read_bytes() for path in images.glob("*/*.jpg")}
    # Copying these would not end.
    os.mkfifo(images / "Negative" / "pipe.jpg")
    (images / "Positive" / "device.jpg").symlink_to("/dev/zero")
    options = ["--json", "a.json", "--html", "a.html", "--quarantine", "odd"]
    assert run(monkeypatch, "audit", images, *options) == 1
    said = capsys.readouterr().out
    for finding in (
        "3 files that cannot be used",
        "2 groups of byte-identical files, 4 in all",
        "1 group of images that look alike",
        "1 group of copies or look-alikes in more than one class",
        "2 sizes of images: ",
    ):
        assert finding in said
    assert {path: path.read_bytes() for path in before} == before

    found = json.loads((tmp_path / "a.json").read_text())
    assert found["files"]["contradictions"] == [
        ["Negative/wrong.jpg", f"Positive/{positive[0].name}"]
    ]
    page = (tmp_path / "a.html").read_text()
    assert "copy<b>" not in page
    assert page.count("<img src='data:image/jpeg;base64,") >= 8
    rows = dict(csv.reader((tmp_path / "odd" / "reasons.csv").open()))
    assert rows["Negative/wrong.jpg"] in (
        "is in more than one class",
        "does not look like Negative",
    )
    assert (tmp_path / "odd" / "Negative" / "broken.jpg").exists()
    assert f"Negative/{negative[0].name}" not in rows
    for name in ("Negative/pipe.jpg", "Positive/device.jpg"):
        assert "is not a file but" in rows[name]
        assert not (tmp_path / "odd" / name).exists()


def test_a_copy_and_a_near_copy_of_an_image_are_judged_together(images, monkeypatch):
    first = min((images / "Negative").iterdir())
    shutil.copy(first, images / "Negative" / "copy.jpg")
    Image.open(first).resize((90, 90)).save(images / "Negative" / "near.jpg")
    together = {first.name, "copy.jpg", "near.jpg"}
    seen = []

    def look(*arguments, **settings):
        folds = load_folds(*arguments, **settings)
        tested = [
            [x.name for x in data.files["test"] if "Neg" in x.parent.name] for data in folds[0]
        ]
        seen.extend(together & {*names} for names in tested)
        raise TooFewError("seen enough")  # Which ends it before a model is trained.

    monkeypatch.setattr(audit, "load_folds", look)
    audit.audit(images)
    assert sorted(map(len, seen)) == [0, 0, 0, 0, 3]


def test_labels_that_were_swapped_are_suspicious(images):
    swapped = [min((images / name).iterdir()) for name in ("Negative", "Positive")]
    for file, to in zip(swapped, ("Positive", "Negative"), strict=True):
        file.rename(images / to / f"swapped-{file.name}")
    suspicious = [item.file for item in audit.audit(images).suspicious]
    # Some of the sample are hard, with joints that look like cracks.
    assert sum("swapped" in file for file in suspicious[:6]) == 2


def test_labels_of_few_images_are_not_judged(images, capsys):
    for file in sorted((images / "Negative").iterdir())[4:]:
        file.unlink()
    assert audit.audit(images).suspicious == ()
    assert "labels are not checked" in capsys.readouterr().err


def test_a_quarantine_folder_that_exists_is_refused_before_anything_is_checked(
    images, monkeypatch, capsys, tmp_path
):
    (tmp_path / "odd").mkdir()
    assert run(monkeypatch, "audit", images, "--quarantine", "odd") == 2
    assert capsys.readouterr().err.startswith("Error: odd: already exists.")
    assert not (images / ".crackclf").exists()


def test_a_clean_folder_has_nothing_to_quarantine(make_folder, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = audit.Audit("images", audit_files(make_folder({"a": 2, "crack": 2})), ())
    monkeypatch.setattr(audit, "audit", lambda _: found)
    assert run(monkeypatch, "audit", "images", "--quarantine", "odd") == 0
    assert "no files to look at, so odd was not made" in capsys.readouterr().err
    assert not (tmp_path / "odd").exists()


def test_copies_are_reported_where_too_few_images_are_left_to_judge(make_folder, capsys):
    folder = make_folder({"Negative": 6, "Positive": 1})
    for number in range(5):
        shutil.copy(folder / "Positive" / "000.png", folder / "Positive" / f"copy{number}.png")
    found = audit.audit(folder)
    assert "1 group of byte-identical files, 6 in all" in found.findings
    said = capsys.readouterr().err
    assert "labels are not checked" in said
    assert "share" not in said
    assert "fewer folds" not in said


def test_a_full_disk_is_named_and_leaves_the_earlier_page(
    make_folder, monkeypatch, small_disk, capsys
):
    found = audit.Audit("images", audit_files(make_folder({"a": 2, "crack": 2})), ())
    monkeypatch.setattr(audit, "audit", lambda _: found)
    asked = ("audit", "images", "--html", small_disk / "a.html")
    assert run(monkeypatch, *asked) == 0
    before = (small_disk / "a.html").read_bytes()
    (small_disk / "hog").write_bytes(bytes(shutil.disk_usage(small_disk).free))
    assert run(monkeypatch, *asked) == 2
    assert f"{small_disk}/a.html: No space left on device" in capsys.readouterr().err
    assert (small_disk / "a.html").read_bytes() == before
    assert {x.name for x in small_disk.iterdir()} == {"a.html", "hog"}


@pytest.mark.browser
def test_a_name_with_script_or_without_letters_does_nothing_in_a_browser(
    browser, make_folder, tmp_path
):
    folder = make_folder({"Negative": 3, "crack": 3})
    for name in ("'onerror='alert(1)<script>alert(2)<", os.fsdecode(b"stra\xdfe")):
        shutil.copy(folder / "crack" / "000.png", folder / "crack" / f"{name}.png")
    (folder / "crack" / "<img src=x onerror=alert(3)>.png").write_bytes(b"")
    found = audit.Audit(str(folder), audit_files(folder), ())
    write_whole(tmp_path / "a.html", render_audit(found))
    page, said = browser.new_page(), []
    page.on("dialog", lambda dialog: said.append(dialog.message) or dialog.dismiss())
    page.goto((tmp_path / "a.html").as_uri())
    page.get_by_text("stra\\xdfe.png").first.wait_for()
    assert page.locator("script").count() == 0
    assert page.locator("figure img").count() == 3
    assert said == []
    page.close()
