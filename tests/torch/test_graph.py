import json
import multiprocessing
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from conftest import build_card
from crackclf.errors import UserError
from crackclf.prediction.classifier import load_model
from crackclf.prediction.predict import predict
from crackclf.saved.store import load_keras_model, save_model
from crackclf.torch import TorchGraph, build_resnet18, load_resnet18
from crackclf.torch.pytorch import torch

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), np.uint8)
CARD = build_card(image_size=64, backbone="resnet18-torch")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_resnet18(weights=None).eval()


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    return save_model(model, tmp_path_factory.mktemp("models") / "twin", CARD)


@pytest.fixture
def spoilt(saved, tmp_path):
    """A copy to be changed."""
    return shutil.copytree(saved, tmp_path / "twin")


def ask(model) -> np.ndarray:
    with torch.inference_mode():
        return model(torch.from_numpy(IMAGES).permute(0, 3, 1, 2).float()).numpy()


def test_a_saved_folder_answers_as_the_network_did(model, saved):
    assert {path.name for path in saved.iterdir()} == {"card.json", "model.pt"}
    again = load_model(saved)
    assert "torch" in again.card.versions
    assert set(again.card.sha256) == {"model.pt"}
    assert (again.card.cell_size, again.card.fingerprint) == (0, again.card.sha256["model.pt"])
    expected = CARD.calibrate(ask(model))
    assert expected.std(axis=0).min() > 1e-4
    for images in (IMAGES, IMAGES.astype(np.float32)):
        np.testing.assert_allclose(again.probabilities(images), expected, atol=1e-5)
    assert [p.probability for p in predict(IMAGES, again)] == pytest.approx(
        expected[:, 1].tolist(), abs=1e-5
    )


def test_a_graph_gives_the_logits_of_whole_patches(model, saved):
    graph = TorchGraph((saved / "model.pt").read_bytes())
    found = graph(IMAGES)
    assert (found.shape, found.dtype) == ((20, 1, 1, 2), np.float32)
    np.testing.assert_allclose(found[:, 0, 0], ask(model), atol=1e-4)


def test_it_comes_back_from_a_pickle_and_threads_may_share_it(saved):
    classifier = pickle.loads(pickle.dumps(load_model(saved)))  # noqa: S301
    expected = classifier.graph(IMAGES[:8])
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(classifier.graph, [IMAGES[:8]] * 8):
            np.testing.assert_array_equal(found, expected)


def test_a_folder_of_the_first_version_needs_no_conversion(saved, spoilt):
    card = json.loads((spoilt / "card.json").read_text())
    card["sha256"] = card["sha256"]["model.pt"]
    del card["cell_size"]
    (spoilt / "card.json").write_text(json.dumps(card))
    expected, found = (load_model(x).probabilities(IMAGES[:2]) for x in (saved, spoilt))
    np.testing.assert_array_equal(found, expected)


def test_it_is_no_keras_model(saved):
    with pytest.raises(UserError, match=r"twin: expected a model in Keras\. Received: one in PyT"):
        load_keras_model(saved)


def test_a_damaged_state_dict_is_named(spoilt):
    path = spoilt / "model.pt"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"model\.pt: is damaged or was exchanged"):
        load_model(spoilt)
    with pytest.raises(UserError, match=r"model\.pt: cannot be loaded"):
        load_resnet18(path)
    with pytest.raises(UserError, match=r"model\.pt: cannot be loaded"):
        TorchGraph(path.read_bytes())


def test_it_answers_without_tensorflow_and_in_a_forked_process(saved):
    code = """
import multiprocessing, sys
sys.modules["tensorflow"] = sys.modules["keras"] = None
import numpy as np, crackclf
classifier, images = crackclf.load_model(sys.argv[1]), np.full((20, 64, 64, 3), 90, np.uint8)
expected = classifier.probabilities(images)
with multiprocessing.get_context("fork").Pool(1) as pool:
    [found] = pool.map_async(classifier.probabilities, [images]).get(timeout=60)
np.testing.assert_allclose(found, expected, atol=1e-6)
"""
    if "fork" not in multiprocessing.get_all_start_methods():
        code = code[: code.index("with")]
    subprocess.run([sys.executable, "-c", code, saved], check=True)
