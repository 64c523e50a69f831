import keras
import numpy as np
import pytest

from crackclf.models.bases import build_narrow_base
from crackclf.models.pytorch import torch
from crackclf.training import student


def sieve(images: np.ndarray) -> np.ndarray:
    """The red channel's mean over each cell: a feature map that can be foretold."""
    *_, size, _ = images.shape
    side = size // student.CELL
    cells = images[..., 0].reshape(-1, side, student.CELL, side, student.CELL)
    return cells.mean(axis=(2, 4))


@pytest.fixture
def views(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 96, 96, 3), np.uint8)
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "features.npy", np.stack([sieve(images)] * 1280, axis=-1) / 255)
    np.save(tmp_path / "logits.npy", rng.normal(size=(6, 3, 3, 2)).astype(np.float32))
    return tmp_path


def lessons(views, cracked: list[bool], sizes: list[int], seed: int = 0) -> student.Lessons:
    schedule = np.tile(np.arange(6), (len(sizes), 1))
    return student.Lessons(views, np.array(cracked), schedule, np.array(sizes), seed)


@pytest.mark.parametrize("size", [96, 32])
def test_image_and_feature_map_are_cut_and_turned_together(views, size):
    taken = lessons(views, [False] * 6, [size] * 20)
    seen = set()
    for step in range(20):
        images, features, _ = taken[step]
        assert images.shape == (6, 3, size, size)
        pixels = (images.permute(0, 2, 3, 1).numpy() + 1) * 127.5
        np.testing.assert_allclose(features[:, 7].numpy(), sieve(pixels) / 255, rtol=1e-4)
        seen |= {image.tobytes() for image in images.numpy()}
    assert len(seen) > 40  # Of 6 views times 8 turns.


def test_a_whole_view_is_made_smaller_with_its_feature_map(views):
    images, features, _ = lessons(views, [False] * 6, [64])[0]
    assert images.shape == (6, 3, 64, 64)
    assert features.shape == (6, 1280, 2, 2)


def test_the_label_counts_where_it_is_known_to_hold(views):
    cracked = [True, False] * 3
    logits = np.load(views / "logits.npy")
    taken = lessons(views, cracked, [96, 32])
    teacher = keras.ops.softmax(logits.mean(axis=(1, 2))).numpy()
    label = np.stack([cracked, ~np.array(cracked)], axis=1)
    np.testing.assert_allclose(taken[0][2], 0.7 * teacher + 0.3 * label, rtol=1e-5)
    cells = keras.ops.softmax(logits).numpy()
    for i, goal in enumerate(taken[1][2].numpy()):
        known = cells[i] if cracked[i] else 0.7 * cells[i] + [0, 0.3]
        assert np.isclose(known, goal).all(axis=-1).any()


def test_a_lesson_is_the_same_whenever_asked(views):
    first, again = lessons(views, [False] * 6, [96] * 3), lessons(views, [False] * 6, [96] * 3)
    assert not torch.equal(first[1][0], first[2][0])
    for a, b in zip(first[2], again[2], strict=True):
        assert torch.equal(a, b)


def test_a_training_broken_off_goes_on_where_it_was(views, tmp_path, monkeypatch):
    monkeypatch.setattr(student, "SAVE_EVERY", 2)
    torch.manual_seed(0)
    start = student.Student().state_dict()

    class Torn(student.Lessons):
        def __getitem__(self, step):
            if step == 3:
                raise KeyboardInterrupt
            return super().__getitem__(step)

    def fit(kind: type, checkpoint: str) -> student.Student:
        net = student.Student()
        net.load_state_dict(start)
        taken = lessons(views, [True, False] * 3, [32] * 4 + [64] * 2)
        taken.__class__ = kind
        student.fit(net, taken, 1e-3, tmp_path / checkpoint)
        return net

    whole = fit(student.Lessons, "whole.pt")
    with pytest.raises(KeyboardInterrupt):
        fit(Torn, "torn.pt")
    again = fit(student.Lessons, "torn.pt")
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


def test_keras_sees_in_an_image_what_the_student_sees_in_it_turned_by_half(tmp_path):
    torch.manual_seed(0)
    net = student.Student()
    image = np.random.default_rng(0).uniform(-1, 1, (2, 96, 96, 3)).astype(np.float32)
    with torch.no_grad():
        for _ in range(30):  # So that the statistics of the normalisation are used, too.
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
