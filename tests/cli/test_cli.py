import csv
import inspect
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from PIL import Image

from conftest import build_card, run
from crackclf import __version__
from crackclf.cli import app
from crackclf.errors import UserError
from crackclf.training.settings import TrainSettings


def crackclf(*arguments, cwd=None, env=None) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "crackclf.cli", *map(str, arguments)],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def saved(save_keras, tmp_path):
    return save_keras(tmp_path / "model", build_card())


def test_a_first_round_from_nothing_to_predictions(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "sample", "data/s", "--count", 40, "--seed", 1) == 0
    # As a user starts it; the others in this process, which has TensorFlow loaded.
    small = ["--epochs", 1, "--image-size", 32, "--views", 1, "--weights", "random"]
    trained = crackclf("train", "data/s", *small, "--out", "models/a", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert "Saved in models/a" in trained.stdout
    assert "Curves: validation loss was lowest" in trained.stdout

    assert run(monkeypatch, "evaluate", "models/a", "data/s", "--json", "a.json") == 0
    assert "were in this model's training" in capsys.readouterr().err
    figures = json.loads((tmp_path / "a.json").read_text())
    assert figures["n"] == 40
    assert figures["class_names"] == ["Negative", "Positive"]
    assert sum(map(sum, figures["confusion_matrix"])) == 40

    arguments = ("predict", "data/s/Positive", "--model", "models/a", "--csv", "a.csv")
    assert run(monkeypatch, *arguments) == 0
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    assert len(rows) == 20
    assert {row["label"] for row in rows} <= {"Negative", "Positive"}


def test_a_mistake_ends_in_one_message_and_status_2(tmp_path):
    result = crackclf("train", tmp_path / "nowhere")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith(f"Error: {tmp_path}/nowhere: no such folder")


def test_a_truncated_image_is_named_and_nothing_is_lost(make_folder, tmp_path, monkeypatch, capsys):
    folder = make_folder({"Negative": 5, "Positive": 5})
    cut = folder / "Negative" / "000.png"
    cut.write_bytes(cut.read_bytes()[:-500])
    before = {path: path.read_bytes() for path in folder.glob("*/*.png")}
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "train", folder, "--weights", "random") == 2
    assert f"{cut}: is damaged or truncated" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.glob("*/*.png")} == before
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "nowhere"),
        ("train", "folder", "--image-size", "16", "--weights", "random"),
        ("train", "folder", "--weights", "nowhere.h5"),
        ("train", "folder", "--positive", "Third", "--weights", "random"),
        ("train", "folder", "--epochs", "many"),
        ("evaluate", "nowhere", "folder"),
        ("evaluate", "folder", "folder"),
        ("evaluate", "model", "nowhere"),
        ("evaluate", "model", "folder", "--json", "nowhere/a.json"),
        ("evaluate", "model", "folder", "--json", "notes.txt"),
        ("predict", "nowhere.jpg", "--model", "model"),
        ("predict", "notes.txt", "--model", "model"),
        ("predict", "folder", "--model", "folder"),
        ("predict", "folder", "--model", "model", "--csv", "notes.txt"),
        ("sample", "folder"),
        ("sample", "new", "--count", "1"),
        ("download", "folder"),
        ("download", "new", "--archive", "notes.txt"),
        ("fly",),
    ],
)
def test_every_mistake_exits_with_2_and_costs_nothing(
    arguments, make_folder, saved, tmp_path, monkeypatch, capsys
):
    make_folder({"Negative": 5, "Positive": 5}, "folder")
    (tmp_path / "notes.txt").write_text("my own notes")
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("[!.]*.*") if path.is_file()}
    assert run(monkeypatch, *arguments) == 2
    assert capsys.readouterr().err
    after = {path: path.read_bytes() for path in tmp_path.rglob("[!.]*.*") if path.is_file()}
    assert before.items() <= after.items()


def test_a_training_is_repeated_from_its_settings_and_with_another_seed(
    sample, tmp_path, monkeypatch, capsys
):
    asked = []

    def train_folder(directory, out, mapper, **settings):
        asked.append(settings)
        raise UserError("asked")

    monkeypatch.setattr("crackclf.training.run.train_folder", train_folder)
    settings = TrainSettings(epochs=3, weights="random", skip_unreadable=True)
    (tmp_path / "settings.json").write_text(settings.to_json())
    arguments = ("train", sample, "--settings", tmp_path / "settings.json")
    assert run(monkeypatch, *arguments) == 2
    assert run(monkeypatch, *arguments, "--seed", 0, "--epochs", 10) == 2
    assert run(monkeypatch, "train", sample) == 2
    assert asked == [
        settings.to_dict(),
        settings.to_dict() | {"epochs": 10},
        TrainSettings().to_dict(),
    ]
    assert run(monkeypatch, "train", sample, "--settings", tmp_path / "none.json") == 2
    assert "none.json: cannot be read" in capsys.readouterr().err


def test_help_says_what_each_setting_is(monkeypatch, capsys):
    assert run(monkeypatch, "train", "--help") == 0
    words = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert [x for x in ("─ Data ", "─ Model ", "─ Training ", "─ Answers ") if x not in words] == []
    for name in TrainSettings().to_dict():
        assert f"--{name.replace('_', '-')}" in words
        assert TrainSettings.help(name)[:30] in words


def test_predictions_go_on_past_a_broken_image(make_folder, saved, tmp_path, monkeypatch, capsys):
    folder = make_folder({"Negative": 2, "Positive": 2})
    (folder / "Negative" / "broken.jpg").write_bytes(b"x")
    table = tmp_path / "a.csv"
    assert run(monkeypatch, "predict", folder, "--model", saved, "--csv", table) == 2
    rows = list(csv.DictReader(table.open()))
    assert len(rows) == 5
    assert [bool(row["label"]) for row in rows] == [True, True, False, True, True]
    said = capsys.readouterr().err
    assert "1 of 5 images could not be read" in said
    assert "crackclf: Positive: a probability of 0.5000 or more" in said


def test_the_shipped_model_answers_without_training(sample, tmp_path, monkeypatch, capsys):
    table = tmp_path / "cracks.csv"
    files = sorted((sample / "Positive").iterdir())[:3]
    assert run(monkeypatch, "predict", *files, "--csv", table) == 0
    rows = list(csv.DictReader(table.open()))
    assert [row["file"] for row in rows] == [str(file) for file in files]
    assert {row["label"] for row in rows} <= {"crack", "no_crack"}

    assert run(monkeypatch, "evaluate", "shipped", sample, "--json", tmp_path / "a.json") == 0
    assert json.loads((tmp_path / "a.json").read_text())["positive_class"] == "crack"
    monkeypatch.chdir(tmp_path)  # where there is no folder of that name
    capsys.readouterr()
    assert run(monkeypatch, "evaluate", "./shipped", sample) == 2
    assert "no such folder" in capsys.readouterr().err


def test_evaluate_takes_folders_of_other_names(make_folder, saved, tmp_path, monkeypatch):
    folder = make_folder({"bad": 3, "good": 4})
    result = tmp_path / "a.json"
    assert run(monkeypatch, "evaluate", saved, folder, "--json", result) == 2
    for _ in range(2):  # the second replaces the first's result
        arguments = ("evaluate", saved, folder, "--positive", "bad", "--json", result)
        assert run(monkeypatch, *arguments) == 0
    figures = json.loads(result.read_text())
    assert sum(figures["confusion_matrix"][1]) == 3
    assert figures["positive_class"] == "Positive"


@pytest.mark.parametrize("command", [x.callback for x in app.registered_commands])
def test_help_teaches_by_two_examples_and_fits_80_columns(command, monkeypatch, capsys):
    name = command.__name__
    monkeypatch.setenv("COLUMNS", "80")
    assert run(monkeypatch, name, "--help") == 0
    shown = [line.strip() for line in capsys.readouterr().out.splitlines()]
    said = [line.strip().replace("\\[", "[") for line in inspect.getdoc(command).splitlines()]
    assert [line for line in said if line not in shown] == []  # None is broken in two.
    assert sum(x.split()[:2] == ["crackclf", name] for x in shown[shown.index("Examples:") :]) >= 2


def test_the_version_is_told(monkeypatch, capsys):
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"crackclf {__version__}\n"


def test_ctrl_c_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("crackclf.training.run.train_folder", interrupted)
    assert run(monkeypatch, "train", tmp_path) == 130
    assert "Run the same command again to go on" in capsys.readouterr().err


@pytest.mark.parametrize("language", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}, {"HOME": ""}])
def test_odd_names_odd_languages_and_no_home_end_no_command(tmp_path, language):
    for name in ("裂缝.png", os.fsdecode(b"stra\xdfe.png"), "a\n0.9999  crack  b.png"):
        Image.new("RGB", (32, 32), "grey").save(tmp_path / "p.png")
        (tmp_path / "p.png").rename(tmp_path / name)
    done = crackclf("predict", ".", cwd=tmp_path, env=os.environ | language)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3
    assert "a\\n0.9999  crack  b.png" in done.stdout


def test_a_home_in_an_option_is_the_home(make_folder, saved, tmp_path, monkeypatch):
    folder = make_folder({"Negative": 1, "Positive": 1})
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    assert run(monkeypatch, "predict", folder, "--model", saved, "--csv=~/a.csv") == 0
    assert run(monkeypatch, "evaluate", saved, folder, "--json=~/a.json") == 0
    assert run(monkeypatch, "sample", "~/drawn", "--count", 2) == 0
    assert {x.name for x in (tmp_path / "home").iterdir()} == {"a.csv", "a.json", "drawn"}
    assert not (tmp_path / "~").exists()


def test_a_full_folder_for_temporary_files_is_named(monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("crackclf.prediction.classifier.load_model", full)
    assert run(monkeypatch, "predict", __file__) == 2
    said = capsys.readouterr().err
    assert f"Error: {tempfile.gettempdir()}, for temporary files (TMPDIR names another" in said


@pytest.mark.parametrize("command", ["evaluate", "audit"])
def test_results_go_to_files_and_not_over_devices(command, make_folder, saved, monkeypatch, capsys):
    folder = make_folder({"Negative": 1, "Positive": 1})
    asked = [saved, folder] if command == "evaluate" else [folder]
    assert run(monkeypatch, command, *asked, "--json", "/dev/null") == 2
    assert "received a device" in capsys.readouterr().err
    assert Path("/dev/null").is_char_device()
