import json
import subprocess
import sys

import numpy as np
import pytest

from conftest import build_card, draw_blot, plain, run

BLOT = (30, 20, 80, 60)


@pytest.fixture
def saved(save_keras, inspector, tmp_path):
    return save_keras(tmp_path / "model", inspector.card)


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "site").mkdir()
    draw_blot(BLOT).save(tmp_path / "site" / "dark.png")
    draw_blot().save(tmp_path / "site" / "light.png")
    return tmp_path / "site"


def test_inspect_prints_a_line_a_photo_and_where_the_report_is(saved, site, monkeypatch, capsys):
    options = ("--mm-per-pixel", 0.4, "--false-alarms", 0.2, "--out", "found/may")
    assert run(monkeypatch, "inspect", "site", "--model", saved, *options) == 0
    dark, light, report = capsys.readouterr().out.splitlines()
    assert dark.split(maxsplit=3)[1:] == ["Positive", "site/dark.png", "no crack could be traced"]
    assert light.split()[1:] == ["Negative", "site/light.png"]
    assert 0 <= float(light.split()[0]) < 0.05 < 0.95 < float(dark.split()[0]) <= 1
    assert report == "found/may/report.html"
    assert (site.parent / report).is_file()
    result = json.loads((site.parent / "found/may/inspection.json").read_text())
    assert result["settings"]["mm_per_pixel"] == 0.4
    assert result["settings"]["false_alarms"] == 0.2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--width-classes", "0.2,wide"), "expected aci224r or eurocode2, or numbers"),
        (("--mm-per-pixel", "0,3"), "Write one such as 0.3"),
        (("--width-classes", "0.2,0.4"), "give mm_per_pixel, distance or scale_file"),
        (("--distance", "2", "--mm-per-pixel", "1"), "Received: both"),
        (("--sound", "site", "--region-threshold", "0.5"), "Leave out --region-threshold"),
        (("--sound", "site/light.png"), "at least 9 photos of sound surfaces"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, words, site, monkeypatch, capsys):
    assert run(monkeypatch, "inspect", "site", *options) == 2
    assert words in capsys.readouterr().err
    assert not (site.parent / "inspection").exists()


def test_a_path_that_does_not_exist_is_refused_before_anything_slow_is_imported():
    code = """
import sys
from crackclf import cli
sys.argv = ["crackclf", "inspect", "nowhere/photos"]
try:
    cli.main()
except SystemExit as exit:
    print(exit.code, {"ai_edge_litert", "matplotlib", "scipy", "tqdm", "keras"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "2 set()\n"
    assert done.stderr == "Error: nowhere/photos: no such file or folder.\n"


def test_what_is_left_out_and_what_cannot_be_read_is_named_once(saved, site, monkeypatch, capsys):
    (site / "broken.jpg").write_bytes(b"")
    (site / "notes.txt").write_text("notes")
    assert run(monkeypatch, "inspect", "site", "--model", saved) == 2
    shown = capsys.readouterr()
    assert [line.split()[-1] for line in shown.out.splitlines()][-1] == "inspection/report.html"
    assert len(shown.out.splitlines()) == 3
    assert shown.err.count("left out") == 1
    assert "broken.jpg: is empty" in shown.err
    assert shown.err.splitlines()[-1] == "Error: 1 of 3 images could not be read."
    assert (site.parent / "inspection" / "report.html").is_file()


def test_a_model_that_has_seen_no_sound_photos_needs_some(
    classifier, save_keras, site, tmp_path, monkeypatch, capsys
):
    save_keras(tmp_path / "model", build_card())
    assert run(monkeypatch, "inspect", "site", "--model", "model") == 2
    assert "--sound" in capsys.readouterr().err
    assert not (tmp_path / "inspection").exists()

    (tmp_path / "sound").mkdir()
    for i in range(9):
        plain((40, 40), (150 - i,) * 3).save(tmp_path / "sound" / f"{i:02}.png")
    assert run(monkeypatch, "inspect", "site", "--model", "model", "--sound", "sound") == 0
    settings = json.loads((tmp_path / "inspection" / "inspection.json").read_text())["settings"]
    assert settings["sound_photos"] == 9
    darkest = np.full((1, 32, 32, 3), 142, np.uint8)
    expected = classifier.probabilities(darkest)[0, 1]
    assert settings["region_threshold"] == pytest.approx(expected, abs=1e-2)
    answers = [line.split()[1] for line in capsys.readouterr().out.splitlines()[:2]]
    assert answers == ["Positive", "Negative"]


def test_ctrl_c_says_that_nothing_is_lost(saved, site, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("crackclf.photos.folder.inspect_photos", interrupt)
    assert run(monkeypatch, "inspect", "site", "--model", saved) == 130
    assert "Run the same command again" in capsys.readouterr().err


def test_sample_draws_whole_photos_when_asked_to(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("crackclf.sample.write_photos", lambda *arguments: arguments)
    options = ("--photos", "--count", 4, "--seed", 7)
    assert run(monkeypatch, "sample", tmp_path, *options) == 0
    assert capsys.readouterr().out == f"{(tmp_path, 4, 7)}\n"
