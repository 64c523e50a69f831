import json
import shutil

import keras
import pytest

from crackclf.errors import UserError
from crackclf.training import compare as comparison
from crackclf.training.compare import compare

SETTINGS = {"epochs": 1, "image_size": 32, "augmentation": False}


@pytest.fixture
def images(sample, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(sample, tmp_path / "images", ignore=shutil.ignore_patterns(".crackclf"))
    return tmp_path / "images"


def test_backbones_are_compared_and_done_ones_not_trained_again(
    images, tmp_path, weights_folder, monkeypatch, capfd
):
    monkeypatch.setenv("CRACKCLF_WEIGHTS_DIR", str(weights_folder))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    # One without weights is named, and the others go on.
    first = compare(images, ["resnet50", "mobilenetv2"], "out", **SETTINGS)
    assert [entry.backbone for entry in first.entries] == ["mobilenetv2"]
    assert "resnet50.weights.h5" in first.missing["resnet50"]
    assert "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5" in str(first)
    model = tmp_path / "out-mobilenetv2" / "model.keras"
    written = model.stat().st_mtime_ns
    capfd.readouterr()

    tap = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    tap.save_weights(tmp_path / "vgg16.weights.h5")
    monkeypatch.setenv("CRACKCLF_WEIGHTS_DIR", str(tmp_path))
    both = compare(images, ["mobilenetv2", "vgg16-block4"], "out", **SETTINGS)
    assert both.entries[0] == first.entries[0]
    assert model.stat().st_mtime_ns == written
    entry = both.entries[1]
    assert entry.seconds > 0
    assert entry.images_per_second > 0
    assert entry.peak_mb > 100
    assert len(entry.wrong) == round((1 - entry.accuracy) * entry.n)
    assert len(both.pairs) == 1
    assert list((tmp_path / "logs" / "out-vgg16-block4" / "train").glob("events*"))
    kept = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert kept == json.loads(json.dumps(both.to_dict()))
    assert (tmp_path / "out" / "accuracy_cost.png").stat().st_size > 5_000

    with pytest.raises(UserError, match=r"a comparison with other settings: epochs \(1, now 2\)"):
        compare(images, ["mobilenetv2"], "out", **SETTINGS | {"epochs": 2})


def test_an_unknown_backbone_is_said_before_anything_is_trained(images):
    with pytest.raises(UserError, match="backbones must be among mobilenetv2"):
        compare(images, ["vgg16", "vgg61"], "out")
    assert not comparison.Path("out").exists()


def test_a_folder_that_is_no_comparison_is_left_alone(images, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="exists and is no comparison"):
        compare(images, ["mobilenetv2"], "out", **SETTINGS)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
