from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest

from crackclf.inference import predict as predicting
from crackclf.inference.maps import map_cracks
from crackclf.inference.predict import predict
from crackclf.models import engines
from crackclf.models.engines import build_engine

L = keras.layers
IMAGES = np.random.default_rng(0).uniform(0, 255, (5, 32, 32, 3)).astype(np.float32)


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((32, 32, 3))
    x = L.Conv2D(8, 3, 2, activation="relu")(L.Rescaling(1 / 127.5, -1)(inputs))
    return keras.Model(inputs, L.Dense(2, activation="softmax")(L.GlobalAveragePooling2D()(x)))


@pytest.fixture(params=["openvino", "litert"])
def engine(request, model, monkeypatch):
    if request.param == "openvino":
        pytest.importorskip("openvino")
        # Where OpenVINO does its duty nothing else is asked.
        monkeypatch.setattr(engines, "build_extractor", None)
    else:
        monkeypatch.setattr(engines, "find_spec", lambda name: None)
    return build_engine(model, 2)


def test_it_says_what_keras_says_of_batches_of_any_size(engine, model):
    for images in (IMAGES, IMAGES[:1], IMAGES.astype(np.uint8)):
        np.testing.assert_allclose(engine(images), model(images, training=False), atol=1e-5)


def test_threads_may_ask_it_at_once(engine, model):
    expected = np.asarray(model(IMAGES, training=False))
    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(lambda i: engine(IMAGES[i % 5 : i % 5 + 1]), range(200)))
    for i, found in enumerate(said):
        np.testing.assert_allclose(found, expected[i % 5 : i % 5 + 1], atol=1e-5)


def test_an_engine_that_says_something_else_is_told_of_and_left_out(model, monkeypatch, capsys):
    pytest.importorskip("openvino")
    monkeypatch.setattr(engines, "_openvino", lambda model, threads: lambda x: np.ones((1, 2)))
    said = build_engine(model, 2)(IMAGES)
    np.testing.assert_allclose(said, model(IMAGES, training=False), atol=1e-5)
    assert "differs from Keras'" in capsys.readouterr().err


def test_many_images_go_through_it_and_few_do_not(inspector, monkeypatch):
    few = predict(IMAGES, inspector)
    assert "fast" not in vars(inspector)
    monkeypatch.setattr(predicting, "_MANY", len(IMAGES))
    many = predict(IMAGES, inspector)
    assert "fast" in vars(inspector)
    for one, other in zip(few, many, strict=True):
        assert one.label == other.label
        assert one.probability == pytest.approx(other.probability, abs=1e-5)


def test_photos_look_the_same_in_both(inspector, monkeypatch):
    pytest.importorskip("openvino")
    import dataclasses

    from conftest import draw_blot

    photo = draw_blot((30, 20, 80, 60))
    fast = map_cracks(photo, dataclasses.replace(inspector))
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    np.testing.assert_allclose(fast, map_cracks(photo, dataclasses.replace(inspector)), atol=1e-4)
