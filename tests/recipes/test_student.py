import numpy as np
import pytest

from crackclf.models.bases import build_narrow_base
from crackclf.torch.pytorch import torch

# isort: split
import fitting  # Last: pytorch.py makes PyTorch work beside TensorFlow.
import student

SHARES = np.array([0.3, 0.8] * 3)  # Of six views.


def mean_red(images: np.ndarray) -> np.ndarray:
    """The red channel's mean over each cell: a feature map that is easy to predict."""
    *_, size, _ = images.shape
    side = size // student.CELL
    cells = images[..., 0].reshape(-1, side, student.CELL, side, student.CELL)
    return cells.mean(axis=(2, 4))


@pytest.fixture
def views(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 96, 96, 3), np.uint8)
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "features.npy", np.stack([mean_red(images)] * 1280, axis=-1) / 255)
    np.save(tmp_path / "logits.npy", rng.normal(size=(6, 3, 3)).astype(np.float32))
    np.save(tmp_path / "is_cracked.npy", [True, False] * 3)
    return tmp_path


def make_batches(views, sizes: list[int], seed: int = 0) -> student.Batches:
    schedule = np.tile(np.arange(6), (len(sizes), 1))
    return student.Batches(views, SHARES, schedule, np.array(sizes), seed)


@pytest.mark.parametrize("size", [96, 32])
def test_image_and_feature_map_are_cut_and_turned_together(views, size):
    taken = make_batches(views, [size] * 20)
    seen = set()
    for step in range(20):
        images, features, _ = taken[step]
        assert images.shape == (6, 3, size, size)
        pixels = (images.permute(0, 2, 3, 1).numpy() + 1) * 127.5
        np.testing.assert_allclose(features[:, 7].numpy(), mean_red(pixels) / 255, rtol=1e-4)
        seen |= {image.tobytes() for image in images.numpy()}
    assert len(seen) > 40  # Of 6 views times 8 turns.


def test_a_whole_view_is_made_smaller_with_its_feature_map(views):
    images, features, _ = make_batches(views, [64])[0]
    assert images.shape == (6, 3, 64, 64)
    assert features.shape == (6, 1280, 2, 2)


def test_the_label_is_left_out_for_crops_of_cracked_views(views):
    cracked = np.array([True, False] * 3)
    logits = np.load(views / "logits.npy")
    taken = make_batches(views, [96, 32])
    goal = taken[0][2].numpy()[:, 0]
    said = 1 / (1 + np.exp(-logits.mean(axis=(1, 2))))
    np.testing.assert_allclose(goal, (1 - SHARES) * said + SHARES * cracked, rtol=1e-5)
    cells = 1 / (1 + np.exp(-logits))
    for i, goal in enumerate(taken[1][2].numpy()[:, 0]):
        known = cells[i] if cracked[i] else (1 - SHARES[i]) * cells[i]
        assert np.isclose(known, goal).any()


def test_a_batch_is_always_the_same(views):
    first, again = (make_batches(views, [96] * 3) for _ in range(2))
    assert not torch.equal(first[1][0], first[2][0])
    for a, b in zip(first[2], again[2], strict=True):
        assert torch.equal(a, b)


def test_an_interrupted_training_is_resumed(views, tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "SAVE_EVERY", 2)
    torch.manual_seed(0)
    start = student.Student().state_dict()

    class Interrupted(student.Batches):
        def __getitem__(self, step):
            if step == 3:
                raise KeyboardInterrupt
            return super().__getitem__(step)

    def fit(kind: type, checkpoint: str) -> student.Student:
        net = student.Student()
        net.load_state_dict(start)
        taken = make_batches(views, [32] * 4 + [64] * 2)
        taken.__class__ = kind
        student.train(net, taken, 1e-3, tmp_path / checkpoint)
        return net

    whole = fit(student.Batches, "whole.pt")
    with pytest.raises(KeyboardInterrupt):
        fit(Interrupted, "interrupted.pt")
    again = fit(student.Batches, "interrupted.pt")
    for a, b in zip(whole.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    for a, b in zip(whole.parameters(), start.values(), strict=False):
        assert a.shape != b.shape or not torch.equal(a, b)


def test_the_student_starts_from_random_weights():
    torch.manual_seed(0)
    first = student.Student().state_dict()["features.0.0.weight"]
    torch.manual_seed(1)
    second = student.Student().state_dict()["features.0.0.weight"]
    assert not torch.equal(first, second)


def test_keras_gives_for_an_image_what_the_student_gives_for_it_turned_by_180_degrees():
    torch.manual_seed(0)
    net = student.Student()
    image = np.random.default_rng(0).uniform(-1, 1, (2, 96, 96, 3)).astype(np.float32)
    with torch.no_grad():
        for _ in range(30):  # Sets the statistics of the normalisation.
            net(torch.from_numpy(image).permute(0, 3, 1, 2))
        net.eval()
        turned = torch.from_numpy(image[:, ::-1, ::-1].copy()).permute(0, 3, 1, 2)
        features, logits = net(turned)
    *base, kernel, bias = student.to_keras(net)
    narrow = build_narrow_base(96)
    narrow.set_weights(base)
    seen = narrow(image).numpy()
    np.testing.assert_allclose(
        seen[:, ::-1, ::-1], features.permute(0, 2, 3, 1).numpy(), rtol=1e-3, atol=1e-4
    )
    np.testing.assert_allclose(
        seen.mean(axis=(1, 2)) @ kernel + bias, logits.numpy(), rtol=1e-3, atol=1e-4
    )
