import dataclasses
import json
import shutil

import pytest

from crackclf.backbones import BACKBONES
from crackclf.compare import Comparison, compare
from crackclf.errors import UserError

SETTINGS = {"epochs": 1, "image_size": 32, "augmentation": False}


def row(name, wrong, **changes):
    figures = {"accuracy": 1 - len(wrong) / 100, "accuracy_interval": (0.5, 1.0), "auroc": 0.9}
    figures |= {"balanced_accuracy": 0.8125, "loss": 0.1, "n": 100, "parameters": 1000}
    figures |= {"megabytes": 1.5, "images_per_second": 34.0, "seconds": 12.0}
    return {"backbone": name, "wrong": [*wrong], **figures, **changes}


def test_each_pair_has_mcnemars_exact_test():
    rows = row("a", "abcdefgh"), row("b", "h"), row("c", "h")
    ab, ac, bc = Comparison(rows, {}).pairs
    p = pytest.approx(2 / 2**7)  # Seven coins on one side, of either side.
    assert ab == {"first": "a", "second": "b", "only_first": 0, "only_second": 7, "p_value": p}
    assert ac["p_value"] == p
    assert (bc["only_first"], bc["only_second"], bc["p_value"]) == (0, 0, 1.0)


def test_the_table_names_all_figures_and_what_is_missing():
    rows = row("vgg16", "ab"), row("other", "", seconds=None, caution="9 images were learnt.")
    found = Comparison(rows, {"resnet50": "No file."})
    lines = str(found).splitlines()
    assert {"accuracy", "balanced", "seconds"} < set(lines[0].split())
    assert {"0.98", "0.5", "0.8125", "1000", "12"} < set(lines[1].split())
    assert "None" not in lines[2]
    assert len({len(line) for line in lines[:3]}) == 1
    assert lines[3].endswith("McNemar's exact p = 0.5")
    assert lines[4:] == ["other: 9 images were learnt.", "resnet50: missing. No file."]
    kept = json.loads(json.dumps(found.to_dict()))
    assert kept["missing"] == {"resnet50": "No file."}
    assert kept["pairs"][0]["only_second"] == 2


@pytest.fixture
def images(sample, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(sample, tmp_path / "images", ignore=shutil.ignore_patterns(".crackclf"))


def refuse(**_):
    raise OSError("no network")


def test_backbones_are_compared_and_done_ones_not_trained_again(
    images, tmp_path, tiny, monkeypatch
):
    monkeypatch.delenv("CRACKCLF_WEIGHTS_DIR", raising=False)
    absent = dataclasses.replace(BACKBONES[tiny], application=refuse)
    for name, backbone in {"absent": absent, "twin": BACKBONES[tiny]}.items():
        monkeypatch.setitem(BACKBONES, name, backbone)
    # One without weights is named, and the others go on.
    first = compare(images, ["absent", tiny, "twin"], "out", **SETTINGS)
    assert first.missing.keys() == {"absent"}
    assert "no ImageNet weights" in first.missing["absent"]
    assert [row["backbone"] for row in first.rows] == [tiny, "twin"]
    found = first.rows[0]
    assert found["seconds"] > 0
    assert len(found["wrong"]) == round((1 - found["accuracy"]) * found["n"])
    assert (tmp_path / "logs" / "out-tiny" / "history.csv").exists()
    kept = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert kept == json.loads(json.dumps(first.to_dict()))

    model = tmp_path / "out-tiny" / "model.keras"
    written = model.stat().st_mtime_ns
    [again] = compare(images, [tiny], "out", **SETTINGS).rows
    assert again == found | {"images_per_second": again["images_per_second"]}
    assert model.stat().st_mtime_ns == written
    with pytest.raises(UserError, match=r"a model of other settings: see settings"):
        compare(images, [tiny], "out", **SETTINGS | {"epochs": 2})
    min((images / "Negative").iterdir()).unlink()
    with pytest.raises(UserError, match="a model of other images"):
        compare(images, [tiny], "out", **SETTINGS)


@pytest.mark.parametrize(
    ("backbones", "settings", "words"),
    [
        (["vgg16", "vgg61"], {}, "backbones must be among mobilenetv2"),
        ([], {}, "backbones must be"),
        (["vgg16"], {"folds": 3}, "Leave out folds"),
        (["vgg16"], {"epochs": 0}, "epochs must be 1 or more"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_trained(
    images, tmp_path, backbones, settings, words
):
    with pytest.raises(UserError, match=words):
        compare(images, backbones, "out", **settings)
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
