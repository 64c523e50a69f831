import io
import json
import pickle

import numpy as np
import pytest
from PIL import Image

from conftest import build_card, draw_blot, make_exif
from crackclf.errors import UserError
from crackclf.inspection.folder import inspect_photos
from crackclf.prediction.predict import predict
from crackclf.ray import Inspector, Predictor
from several import JOINT, SEVERAL


@pytest.fixture
def saved(save_keras, inspector, tmp_path):
    return save_keras(tmp_path / "model", inspector.card)


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


def test_a_classifier_is_carried_as_its_folder_is(saved, files, inspector):
    found, expected = Predictor(inspector)(columns(files)), Predictor(saved)(columns(files))
    assert {name: list(x) for name, x in found.items()} == {
        name: list(x) for name, x in expected.items()
    }
    assert Predictor(saved).settings == {"model": Predictor(saved).classifier.card.fingerprint}


def test_a_pickle_holds_the_graphs_bytes_and_nothing_of_a_framework(saved, files):
    predictor = Predictor(saved)
    predictor(columns(files))
    homes = set()

    class Recorder(pickle.Unpickler):
        def find_class(self, module, name):
            homes.add(module)
            return super().find_class(module, name)

    thawed = Recorder(io.BytesIO(pickle.dumps(predictor))).load()
    assert {home.partition(".")[0] for home in homes} <= {"crackclf", "builtins", "copyreg"}
    assert thawed.classifier.graph.content == (saved / "model.tflite").read_bytes()
    assert thawed.classifier.card == predictor.classifier.card


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
    written = json.loads((tmp_path / "out" / "inspection.json").read_text())["photos"]
    for i, (photo, record) in enumerate(zip(expected, written, strict=True)):
        row = {name: column[i] for name, column in found.items()}
        for name in ("regions", "cracks"):
            told = row.pop(f"{name}_json")
            assert json.loads(told or "null") == json.loads(json.dumps(record.get(name)))
        for name in row:
            assert row[name] == photo[name], name
    assert found["camera"][0] == "Camera 1"
    assert found["area_m2"][0] > 0


def test_an_inspector_says_at_once_what_it_cannot_work_with(saved, save_keras, tmp_path):
    save_keras(tmp_path / "plain", build_card())
    with pytest.raises(UserError, match="sound"):
        Inspector(tmp_path / "plain")
    with pytest.raises(UserError, match="mm_per_pixel must be above 0"):
        Inspector(saved, mm_per_pixel=0)


def test_of_three_classes_rows_have_no_more_columns_and_the_name_that_predict_gives(files):
    Image.new("RGB", (40, 40), JOINT).save(files[0])
    found = thaw(Predictor(SEVERAL))(columns(files))
    assert list(found) == ["file", "label", "probability", "error"]
    expected = predict(files, SEVERAL)
    assert list(found["label"]) == [p.label for p in expected] == ["joint", None, "cracked"]
    assert found["probability"][0] == pytest.approx(expected[0].probability)
    [verdict] = thaw(Inspector(SEVERAL))(columns(files[:1]))["verdict"]
    assert verdict == "not cracked"
