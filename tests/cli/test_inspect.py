import inspect
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image

from conftest import build_card, draw_blot, run
from crackclf.cli.inspect import inspect as command
from crackclf.evaluation.calibration import FALSE_ALARMS
from crackclf.sample import write as sample_module
from crackclf.saved.store import save_model

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
    assert run(monkeypatch, "inspect", "site", "--model", saved, "--out", "found/may") == 0
    dark, light, report = capsys.readouterr().out.splitlines()
    assert dark.split(maxsplit=3)[1:] == ["Positive", "site/dark.png", "no crack could be traced"]
    assert light.split()[1:] == ["Negative", "site/light.png"]
    assert 0 <= float(light.split()[0]) < 0.05 < 0.95 < float(dark.split()[0]) <= 1
    assert report == "found/may/report.html"
    assert (site.parent / report).is_file()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--width-classes", "0.2,wide"), "expected numbers such as 0.2,0.4,1"),
        (("--width-classes", "0.2,0.4"), "give mm_per_pixel or distance too"),
        (("--distance", "2", "--mm-per-pixel", "1"), "Received: both"),
    ],
)
def test_scales_and_classes_that_cannot_be_are_refused(options, words, site, monkeypatch, capsys):
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


def test_inspect_takes_a_scale_and_a_share_of_false_alarms(saved, site, monkeypatch):
    options = ("--mm-per-pixel", 0.4, "--false-alarms", 0.2)
    assert run(monkeypatch, "inspect", "site", "--model", saved, *options) == 0
    result = json.loads((site.parent / "inspection" / "inspection.json").read_text())
    assert result["settings"]["mm_per_pixel"] == 0.4
    assert result["settings"]["false_alarms"] == 0.2


def test_the_share_of_false_alarms_is_the_librarys_which_help_does_not_import():
    assert inspect.signature(command).parameters["false_alarms"].default == FALSE_ALARMS


def test_a_photo_that_cannot_be_read_ends_in_status_2_after_the_others(
    saved, site, monkeypatch, capsys
):
    (site / "broken.jpg").write_bytes(b"")
    assert run(monkeypatch, "inspect", "site", "--model", saved) == 2
    said = capsys.readouterr()
    assert [line.split()[-1] for line in said.out.splitlines()][-1] == "inspection/report.html"
    assert len(said.out.splitlines()) == 3
    assert "broken.jpg: is empty" in said.err
    assert said.err.splitlines()[-1] == "Error: 1 of 3 photos could not be read."
    assert (site.parent / "inspection" / "report.html").is_file()


def test_a_model_that_has_seen_no_sound_photos_asks_for_some(
    classifier, save_keras, site, tmp_path, monkeypatch, capsys
):
    save_keras(tmp_path / "model", build_card())
    assert run(monkeypatch, "inspect", "site", "--model", "model") == 2
    assert "--sound" in capsys.readouterr().err
    assert not (tmp_path / "inspection").exists()

    (tmp_path / "sound").mkdir()
    for i in range(9):
        Image.new("RGB", (40, 40), (150 - i,) * 3).save(tmp_path / "sound" / f"{i:02}.png")
    assert run(monkeypatch, "inspect", "site", "--model", "model", "--sound", "sound") == 0
    settings = json.loads((tmp_path / "inspection" / "inspection.json").read_text())["settings"]
    assert settings["sound_photos"] == 9
    darkest = np.full((1, 32, 32, 3), 142, np.uint8)
    expected = classifier.probabilities(darkest)[0, 1]
    assert settings["region_threshold"] == pytest.approx(expected, abs=1e-4)
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()[:2]] == [
        "Positive",
        "Negative",
    ]


def test_too_few_sound_photos_are_told_how_many_are_needed(saved, site, monkeypatch, capsys):
    options = ("--sound", site / "light.png")
    assert run(monkeypatch, "inspect", "site", "--model", saved, *options) == 2
    assert "at least 9 photos of sound surfaces" in capsys.readouterr().err


def test_a_folder_of_others_is_refused_and_left_as_it_is(saved, site, monkeypatch, capsys):
    before = sorted(path.read_bytes() for path in site.iterdir())
    assert run(monkeypatch, "inspect", "site", "--model", saved, "--out", "site") == 2
    assert "Name another folder with --out" in capsys.readouterr().err
    assert sorted(path.read_bytes() for path in site.iterdir()) == before


def test_ctrl_c_says_that_nothing_is_lost(saved, site, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("crackclf.inspection.folder.inspect_photo", interrupt)
    assert run(monkeypatch, "inspect", "site", "--model", saved) == 130
    assert "Run the same command again" in capsys.readouterr().err


@pytest.fixture(scope="module")
def pooling_model(inspector, tmp_path_factory):
    """A model of features that are pooled, as `crackclf train` makes them."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(4, 4, 4)(keras.layers.Rescaling(1 / 255)(inputs))
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))
    return save_model(model, tmp_path_factory.mktemp("models") / "pooling", inspector.card)


def test_explain_writes_a_picture_and_overwrites_none(pooling_model, site, monkeypatch, capsys):
    arguments = ("explain", "site", "--model", pooling_model, "--out", "why.png")
    assert run(monkeypatch, *arguments) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "why.png"
    with Image.open(site.parent / "why.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 200
    before = (site.parent / "why.png").read_bytes()
    assert run(monkeypatch, *arguments) == 2
    assert "does not exist" in capsys.readouterr().err
    assert (site.parent / "why.png").read_bytes() == before


@pytest.mark.parametrize("out", ["why.jpg", "nowhere/why.png"])
def test_explain_wants_the_name_of_a_new_png(out, pooling_model, site, monkeypatch, capsys):
    assert run(monkeypatch, "explain", "site", "--model", pooling_model, "--out", out) == 2
    assert f"{out}: expected the name of a PNG file" in capsys.readouterr().err
    assert not (site.parent / out).exists()


def test_explain_refuses_more_than_fit_into_a_picture(pooling_model, site, monkeypatch, capsys):
    paths = [site / "dark.png"] * 61
    assert run(monkeypatch, "explain", *paths, "--model", pooling_model, "--out", "why.png") == 2
    assert "at most 60 patches in one picture. Received: 61" in capsys.readouterr().err


def test_sample_draws_whole_photos_when_asked_to(monkeypatch, capsys, tmp_path):
    asked = []
    monkeypatch.setattr(sample_module, "write_photos", lambda *a: asked.append(a) or a[0])
    options = ("--photos", "--count", 4, "--seed", 7)
    assert run(monkeypatch, "sample", tmp_path / "photos", *options) == 0
    assert asked == [(tmp_path / "photos", 4, 7)]
    assert capsys.readouterr().out == f"{tmp_path / 'photos'}\n"
