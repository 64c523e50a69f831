import io
import json
import pickle
import tempfile

import numpy as np
import pytest
from PIL import Image

from conftest import draw_blot, make_exif
from crackclf.errors import UserError
from crackclf.inference import predictor as module
from crackclf.inference.batch import inspect_photos
from crackclf.inference.predict import predict
from crackclf.inference.predictor import Inspector, Predictor
from crackclf.models.saving import save_model


@pytest.fixture
def saved(inspector, tmp_path):
    save_model(inspector.model, tmp_path / "model", inspector.card)
    return tmp_path / "model"


@pytest.fixture
def files(tmp_path):
    (tmp_path / "images").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "images" / "a.png")
    (tmp_path / "images" / "b.jpg").write_bytes(b"no image")
    Image.new("CMYK", (50, 30), (0, 0, 0, 220)).save(tmp_path / "images" / "c.jpg")
    return sorted((tmp_path / "images").iterdir())


def columns(files):
    return {"path": [str(x) for x in files], "bytes": [x.read_bytes() for x in files]}


def thaw(predictor):
    return pickle.loads(pickle.dumps(predictor))  # noqa: S301


def test_each_image_gets_the_row_that_predict_gives_it(saved, files, inspector):
    found = thaw(Predictor(saved))(columns(files))
    assert list(found) == list(Predictor.columns)
    expected = predict(files, inspector)
    assert list(found["file"]) == [p.file for p in expected]
    assert list(found["label"]) == [p.label for p in expected]
    assert list(found["error"]) == [p.error for p in expected]
    assert found["probability"][1] is None
    for i in (0, 2):
        assert found["probability"][i] == pytest.approx(expected[i].probability, abs=1e-6)


def test_a_pickle_holds_the_models_files_and_no_model(saved, files):
    predictor = Predictor(saved)
    predictor(columns(files))
    homes = set()

    class Recorder(pickle.Unpickler):
        def find_class(self, module, name):
            homes.add(module)
            return super().find_class(module, name)

    thawed = Recorder(io.BytesIO(pickle.dumps(predictor))).load()
    assert {home.partition(".")[0] for home in homes} <= {"crackclf", "builtins", "copyreg"}
    assert dict(thawed._files) == {x.name: x.read_bytes() for x in saved.iterdir()}


def test_the_model_is_loaded_once_in_a_process_and_leaves_no_files(
    saved, files, tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    frozen = pickle.dumps(Predictor(saved))
    loaded = []
    load = module.load_model
    monkeypatch.setattr(module, "load_model", lambda folder: loaded.append(folder) or load(folder))
    module._load.cache_clear()
    for _ in range(2):
        pickle.loads(frozen)(columns(files))  # noqa: S301
    assert len(loaded) == 1
    assert not list(tmp_path.glob("crackclf-*"))


def test_a_model_that_was_changed_on_its_way_is_refused(saved, files):
    predictor = Predictor(saved)
    predictor._files = tuple(
        (name, content.replace(b"keras", b"kera5", 1) if name == "model.keras" else content)
        for name, content in predictor._files
    )
    with pytest.raises(UserError, match="is damaged or was exchanged"):
        thaw(predictor)(columns(files))


def test_a_folder_that_holds_no_model_is_named_at_once(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such folder"):
        Predictor(tmp_path / "nowhere")


def test_data_frames_are_batches_too(saved, files):
    pandas = pytest.importorskip("pandas")
    rows = pandas.DataFrame(Predictor(saved)(pandas.DataFrame(columns(files))))
    assert list(rows.columns) == ["file", "label", "probability", "error"]
    assert list(rows.index[rows.error != ""]) == [1]


def test_why_an_image_could_not_be_read_may_be_given_in_its_place(saved, files):
    batch = columns(files) | {"bytes": [None] * 3, "error": ["permission denied", "", ""]}
    found = Predictor(saved)(batch)
    assert found["error"][0] == f"{files[0]}: permission denied"
    assert all("no bytes" in error for error in found["error"][1:])


def test_an_inspector_gives_the_columns_of_photos_csv_and_the_regions(saved, inspector, tmp_path):
    photos = [tmp_path / "dark.jpg", tmp_path / "light.png", tmp_path / "not.png"]
    draw_blot((30, 20, 80, 60)).save(photos[0], exif=make_exif({0x0110: "Camera 1"}))
    draw_blot().save(photos[1])
    photos[2].write_bytes(b"")
    found = thaw(Inspector(saved, mm_per_pixel=2))(columns(photos))
    assert list(found) == list(Inspector.columns)
    expected = inspect_photos(photos, inspector, tmp_path / "out", mm_per_pixel=2)
    for i, photo in enumerate(expected):
        row = {name: column[i] for name, column in found.items()}
        regions = row.pop("regions_json")
        assert (row["regions"], regions and json.loads(regions)) == (
            (len(photo["regions"]), json.loads(json.dumps(photo["regions"])))
            if not photo["error"]
            else (None, None)
        )
        for name in set(row) - {"regions"}:
            assert row[name] == photo.get(name), name
    assert found["camera"][0] == "Camera 1"
    assert found["area_m2"][0] > 0


def test_an_inspector_says_at_once_what_it_cannot_work_with(classifier, saved, tmp_path):
    save_model(classifier.model, tmp_path / "plain", classifier.card)
    with pytest.raises(UserError, match="sound"):
        Inspector(tmp_path / "plain")
    with pytest.raises(UserError, match="mm_per_pixel must be above 0"):
        Inspector(saved, mm_per_pixel=0)
