import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ray")

import pyarrow.parquet
import ray
from PIL import Image

from conftest import build_card, draw_blot
from crackclf.cluster import answer_images
from crackclf.errors import UserError
from crackclf.photos.photo import inspect_photo
from crackclf.photos.records import COLUMNS, to_row
from crackclf.prediction import predict

pytestmark = pytest.mark.extras


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A cluster of one CPU, without a package of notebooks that each process takes seconds for."""
    folder = tmp_path_factory.mktemp("path")
    (folder / "rfc3987_syntax.py").write_text("raise ImportError")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        yield
        ray.shutdown()


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Twelve images in folders, one of them broken."""
    monkeypatch.chdir(tmp_path)
    Path("site/inner").mkdir(parents=True)
    for i in range(11):
        Image.new("L", (40, 32), 23 * i).save(f"site/{'inner/' * (i % 2)}{i:02}.png")
    Path("site/broken.jpg").write_bytes(b"")
    Path("site/notes.txt").write_text("no image")
    return Path("site")


def read(folder):
    rows = pyarrow.parquet.read_table(folder).to_pylist()
    return sorted(rows, key=lambda row: row["file"])


def test_an_address_that_is_none_is_refused(classifier, tmp_path):
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    assert not ray.is_initialized()  # It is the first test here.
    with pytest.raises(UserError, match=r"Ray failed.*Invalid address format"):
        answer_images([tmp_path / "a.png"], tmp_path / "out", classifier, address="10.0.0.1")


def test_each_image_of_folders_and_uris_has_one_row(cluster, site, save_keras, tmp_path):
    model = save_keras(tmp_path / "model", build_card())
    uri = (site / "inner").absolute().as_uri()
    counts = answer_images([site, uri], "out/answers", model)
    expected = {x.file: x for x in predict(site, model)}
    found = read("out/answers")
    assert [row["file"] for row in found if "://" not in row["file"]] == sorted(expected)
    assert sum("://" in row["file"] for row in found) == 5
    assert sum(counts.values()) == len(found) == 17
    assert counts[""] == 1
    for row in found:
        file = row["file"].removeprefix(f"file://{tmp_path}/")
        assert row["label"] == expected[file].label
        assert row["probability"] == pytest.approx(expected[file].probability, abs=1e-5)
        assert row["error"] == expected[file].error
    with pytest.raises(UserError, match="holds files already"):
        answer_images([site], "out/answers", model)


def test_photos_are_inspected_as_they_are_one_by_one(cluster, inspector, tmp_path):
    draw_blot((30, 20, 80, 60), (320, 240)).save(tmp_path / "cracked.png")
    draw_blot(size=(320, 240)).save(tmp_path / "sound.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    counts = answer_images([tmp_path], tmp_path / "out", inspector, True, mm_per_pixel=0.5)
    assert counts == {"Positive": 1, "Negative": 1, "": 1}
    broken, cracked, sound = read(tmp_path / "out")
    assert list(cracked) == [*COLUMNS, "regions_json", "cracks_json"]
    photo = inspect_photo(tmp_path / "cracked.png", inspector)
    record = json.loads(json.dumps(photo.to_dict(mm_per_pixel=0.5)))
    assert {name: cracked[name] for name in COLUMNS} == to_row(record)
    assert json.loads(cracked["regions_json"]) == record["regions"]
    assert json.loads(cracked["cracks_json"]) == record["cracks"]
    assert (sound["regions"], sound["error"]) == (0, "")
    assert "broken.png: is not a JPEG" in broken["error"]
    assert broken["verdict"] is None


@pytest.mark.parametrize(
    ("paths", "out", "options", "message"),
    [
        (["nowhere"], "out", {}, "nowhere: no such file or folder"),
        (["file:///nowhere"], "out", {}, "no image found"),
        (["nothing://a/b"], "out", {}, "nothing://a/b: cannot be opened"),
        (["a.png"], "full", {}, "full: holds files already"),
        (["a.png"], "out", {"mm_per_pixel": -1}, "mm_per_pixel must be above 0"),
        (["a.png"], "out", {"inspect": True}, "sound"),
    ],
)
def test_what_cannot_be_done_is_refused_before_ray_starts(
    paths, out, options, message, classifier, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ray, "init", None)
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save("a.png")
    Path("full").mkdir()
    Path("full/mine.txt").write_text("mine")
    with pytest.raises(UserError, match=message):
        answer_images(paths, out, classifier, **options)
    assert [file.name for file in Path("full").iterdir()] == ["mine.txt"]
