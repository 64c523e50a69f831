import csv
import dataclasses
import inspect
import json
import os
import subprocess
import sys
from importlib import import_module

import pytest
import typer

from conftest import build_card, plain, run
from crackclf import __version__
from crackclf.backbones import BACKBONES
from crackclf.calibration import FALSE_ALARMS
from crackclf.cli import app
from crackclf.errors import UserError
from crackclf.settings import TrainSettings

COMMANDS = {command.callback.__name__: command.callback for command in app.registered_commands}


def defaults(name: str) -> dict:
    """The default of each option of a command."""
    return {
        option.name: option.default for option in typer.main.get_command(app).commands[name].params
    }


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


@pytest.fixture
def asked(monkeypatch):
    """The settings that `train` and `compare` hand on, in place of their work."""
    asked = []

    def answer(*arguments, **settings):
        asked.append(settings)
        raise UserError("asked")

    monkeypatch.setattr("crackclf.pipeline.train_folder", answer)
    monkeypatch.setattr(import_module("crackclf.compare"), "compare", answer)
    return asked


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
    assert "were in this model's training" in capsys.readouterr().out
    figures = json.loads((tmp_path / "a.json").read_text())
    assert figures["n"] == 40
    assert figures["class_names"] == ["Negative", "Positive"]
    assert sum(map(sum, figures["confusion_matrix"])) == 40

    arguments = ("predict", "data/s/Positive", "--model", "models/a", "--csv", "a.csv")
    assert run(monkeypatch, *arguments) == 0
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    assert len(rows) == 20
    assert {row["label"] for row in rows} <= {"Negative", "Positive"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "nowhere"),
        ("train", "folder", "--image-size", "16", "--weights", "random"),
        ("train", "folder", "--weights", "nowhere.h5"),
        ("train", "folder", "--positive", "Third", "--weights", "random"),
        ("train", "folder", "--epochs", "many"),
        ("train", "folder", "--settings", "nowhere.json"),
        ("compare", "folder", "--backbones", "alexnet", "vgg16"),
        ("audit", "folder", "--quarantine", "model"),
        ("audit", "folder", "--csv", "notes.txt"),
        ("evaluate", "nowhere", "folder"),
        ("evaluate", "folder", "folder"),
        ("evaluate", "model", "nowhere"),
        ("evaluate", "model", "folder", "--json", "nowhere/a.json"),
        ("evaluate", "model", "folder", "--json", "notes.txt"),
        ("evaluate", "model", "folder", "--json", "/dev/null"),
        ("predict", "nowhere.jpg", "--model", "model"),
        ("predict", "notes.txt", "--model", "model"),
        ("predict", "folder", "--model", "folder"),
        ("predict", "folder", "--model", "model", "--csv", "notes.txt"),
        ("sample", "folder"),
        ("sample", "new", "--count", "1"),
        ("download", "folder"),
        ("download", "new", "--archive", "notes.txt"),
        ("export", "model", "--format", "word", "--out", "model.doc"),
        ("fly",),
    ],
)
def test_a_mistake_ends_in_one_message_and_status_2_and_costs_nothing(
    arguments, make_folder, saved, tmp_path, monkeypatch, capsys
):
    make_folder({"Negative": 5, "Positive": 5}, "folder")
    (tmp_path / "notes.txt").write_text("my own notes")
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("[!.]*.*") if path.is_file()}
    assert run(monkeypatch, *arguments) == 2
    assert "rror" in capsys.readouterr().err
    after = {path: path.read_bytes() for path in tmp_path.rglob("[!.]*.*") if path.is_file()}
    assert before.items() <= after.items()


@pytest.mark.parametrize("name", ["train", "compare"])
def test_options_are_settings_of_a_training_with_the_same_defaults(name):
    fields = {field.name: field for field in dataclasses.fields(TrainSettings)}
    options = {x: value for x, value in defaults(name).items() if x in fields}
    assert options == {x: fields[x].default for x in options}
    types = inspect.get_annotations(COMMANDS[name])
    assert all(types[x] == fields[x].type for x in options)
    if name == "train":
        assert options.keys() == fields.keys()


def test_a_training_is_repeated_from_its_settings_and_with_another_seed(
    sample, asked, tmp_path, monkeypatch
):
    settings = TrainSettings(epochs=3, weights="random", skip_unreadable=True)
    file = tmp_path / "settings.json"
    file.write_text(settings.to_json())
    assert run(monkeypatch, "train", sample, "--settings", file) == 2
    assert run(monkeypatch, "train", sample, "--settings", file, "--seed", 0, "--epochs", 10) == 2
    assert run(monkeypatch, "train", sample) == 2
    assert run(monkeypatch, "compare", sample, "--backbones", "vgg16", "--settings", file) == 2
    repeated = settings.to_dict()
    without_backbone = {x: value for x, value in repeated.items() if x != "backbone"}
    assert asked == [
        repeated,
        repeated | {"epochs": 10},
        TrainSettings().to_dict(),
        without_backbone,
    ]


def test_compare_takes_its_backbones_in_one_list_and_names_all(sample, monkeypatch, capsys):
    def answer(directory, backbones, *_, **__):
        raise UserError(" and ".join(backbones))

    monkeypatch.setattr(import_module("crackclf.compare"), "compare", answer)
    assert (
        run(monkeypatch, "compare", sample, "--backbones", "vgg16", "resnet50", "--epochs", 2) == 2
    )
    assert "vgg16 and resnet50" in capsys.readouterr().err
    assert run(monkeypatch, "compare", "--help") == 0
    shown = capsys.readouterr().out
    assert [name for name in BACKBONES if name not in shown] == []


def test_predictions_go_on_past_a_broken_image(make_folder, saved, tmp_path, monkeypatch, capsys):
    folder = make_folder({"Negative": 2, "Positive": 2})
    (folder / "Negative" / "broken.jpg").write_bytes(b"x")
    table = tmp_path / "a.csv"
    assert run(monkeypatch, "predict", folder, "--model", saved, "--csv", table) == 2
    rows = list(csv.DictReader(table.open()))
    assert [bool(row["label"]) for row in rows] == [True, True, False, True, True]
    notices = capsys.readouterr().err
    assert "1 of 5 images could not be read" in notices
    assert "crackclf: Positive: a probability of 0.5000 or more" in notices
    assert run(monkeypatch, "predict", folder, "--model", saved, "--csv", table) == 2  # Again.


def test_the_shipped_model_answers_without_training(sample, tmp_path, monkeypatch, capsys):
    table = tmp_path / "cracks.csv"
    files = sorted((sample / "Positive").iterdir())[:3]
    assert run(monkeypatch, "predict", *files, "--csv", table) == 0
    rows = list(csv.DictReader(table.open()))
    assert [row["file"] for row in rows] == [str(file) for file in files]
    assert {row["label"] for row in rows} <= {"crack", "no_crack"}

    assert run(monkeypatch, "evaluate", "shipped", sample, "--json", tmp_path / "a.json") == 0
    assert json.loads((tmp_path / "a.json").read_text())["positive_class"] == "crack"
    monkeypatch.chdir(tmp_path)  # Where there is no folder of that name.
    capsys.readouterr()
    assert run(monkeypatch, "evaluate", "./shipped", sample) == 2
    assert "no such folder" in capsys.readouterr().err


def test_evaluate_takes_folders_of_other_names(make_folder, saved, tmp_path, monkeypatch):
    folder = make_folder({"bad": 3, "good": 4})
    result = tmp_path / "a.json"
    assert run(monkeypatch, "evaluate", saved, folder, "--json", result) == 2
    for _ in range(2):  # The second replaces the first's result.
        arguments = ("evaluate", saved, folder, "--positive", "bad", "--json", result)
        assert run(monkeypatch, *arguments) == 0
    figures = json.loads(result.read_text())
    assert sum(figures["confusion_matrix"][1]) == 3
    assert figures["positive_class"] == "Positive"


def test_an_audit_lists_what_to_look_at_and_copies_it(make_folder, tmp_path, monkeypatch, capsys):
    folder = make_folder({"Negative": 2, "Positive": 2})
    copy = folder / "Negative" / "copy.png"
    copy.write_bytes((folder / "Negative" / "000.png").read_bytes())
    monkeypatch.chdir(tmp_path)
    results = ("--csv", "a.csv", "--json", "a.json", "--quarantine", "look")
    assert run(monkeypatch, "audit", folder, *results) == 1
    assert "1 group of byte-identical files" in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    assert "Negative/copy.png" in {row["file"] for row in rows}
    assert json.loads((tmp_path / "a.json").read_text())["findings"]
    assert (tmp_path / "look/Negative/copy.png").read_bytes() == copy.read_bytes()


@pytest.mark.parametrize("name", COMMANDS)
def test_help_teaches_by_two_examples_and_fits_80_columns(name, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert run(monkeypatch, name, "--help") == 0
    shown = [line.strip() for line in capsys.readouterr().out.splitlines()]
    doc = inspect.getdoc(COMMANDS[name])
    assert [x for x in map(str.strip, doc.splitlines()) if x not in shown] == []  # None is broken.
    assert sum(x.split()[:2] == ["crackclf", name] for x in shown[shown.index("Examples:") :]) >= 2


def test_the_version_is_shown(monkeypatch, capsys):
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"crackclf {__version__}\n"


def test_ctrl_c_says_how_to_go_on(sample, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("crackclf.pipeline.train_folder", interrupted)
    assert run(monkeypatch, "train", sample) == 130
    assert "Run the same command again to go on" in capsys.readouterr().err


def test_a_full_disk_and_a_refused_sample_end_without_a_traceback(tmp_path, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "a/model.keras")

    monkeypatch.setattr("crackclf.prediction.load_model", full)
    assert run(monkeypatch, "predict", __file__) == 2
    assert capsys.readouterr().err == "Error: a/model.keras: No space left on device.\n"
    assert run(monkeypatch, "sample", tmp_path / "new", "--count", 1) == 2
    assert capsys.readouterr().err.startswith("Error: ")


@pytest.mark.parametrize("language", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}, {"HOME": ""}])
def test_names_and_terminals_of_any_alphabet_end_no_command(tmp_path, language):
    for name in ("裂缝.png", os.fsdecode(b"stra\xdfe.png"), "a\n0.9999  crack  b.png"):
        plain((32, 32), "grey").save(tmp_path / "p.png")
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


def test_the_default_of_false_alarms_is_that_of_the_library():
    assert defaults("inspect")["false_alarms"] == FALSE_ALARMS


def test_a_cold_predict_imports_no_framework(tmp_path):
    plain((64, 64), "grey").save(tmp_path / "x.jpg")
    code = """
import sys
from crackclf import cli
sys.argv = ["crackclf", "predict", "x.jpg"]
try:
    cli.main()
except SystemExit as exit:
    heavy = "tensorflow keras sklearn scipy matplotlib h5py tqdm joblib pandas rich".split()
    print(exit.code, set(heavy) & set(sys.modules))
"""
    start = [sys.executable, "-c", code]
    done = subprocess.run(start, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 set()"
