import numpy as np
import pytest

from beside_tensorflow import torch
from crackclf.backbones import build_narrow_base

# isort: split
import fitting
import student

pytestmark = pytest.mark.extras

TARGETS = np.linspace(0.1, 0.9, 8)  # Of eight views.


@pytest.fixture
def views(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 96, 96, 3), np.uint8)
    np.save(tmp_path / "images.npy", images)
    return tmp_path


def make_batches(views, sizes: list[int], seed: int = 0) -> student.Batches:
    schedule = np.tile(np.arange(8), (len(sizes), 1))
    return student.Batches(views, TARGETS, schedule, np.array(sizes), seed)


def test_views_are_turned_and_mirrored(views):
    taken = make_batches(views, [96] * 20)
    whole = np.load(views / "images.npy")
    seen = set()
    for step in range(20):
        images, _ = taken[step]
        assert images.shape == (8, 3, 96, 96)
        pixels = (images.permute(0, 2, 3, 1).numpy() + 1) * 127.5
        np.testing.assert_allclose(pixels.mean((1, 2)), whole.mean((1, 2)), rtol=1e-4)
        seen |= {image.tobytes() for image in images.numpy()}
    assert len(seen) > 40  # Of 8 views times 8 turns.


def test_each_view_gets_its_target(views):
    _, goal = make_batches(views, [96])[0]
    np.testing.assert_allclose(goal.numpy(), np.stack([TARGETS, 1 - TARGETS], 1), rtol=1e-5)


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


def test_weights_go_to_keras_and_back():
    torch.manual_seed(0)
    net, other = student.Student(), student.Student()
    with torch.no_grad():
        net(torch.rand(2, 3, 64, 64))  # Sets the statistics of the normalisation.
    student.from_keras(other, student.to_keras(net))
    for name, value in net.state_dict().items():
        if "tracked" not in name:
            assert torch.equal(other.state_dict()[name], value), name


def test_an_answer_is_the_same_for_an_image_turned_by_180_degrees(views):
    torch.manual_seed(0)
    net, images = student.Student(), np.load(views / "images.npy")
    with torch.no_grad():
        for _ in range(30):  # Sets the statistics of the normalisation.
            net(student.to_input(torch.from_numpy(images).float(), 64))
    rows = np.array([4, 1, 0])
    found = student.answer(net, images, rows, 64)
    turned = student.answer(net, images[:, ::-1, ::-1].copy(), rows, 64)
    np.testing.assert_allclose(turned, found, rtol=1e-3, atol=1e-4)
    assert found.shape == (3,)
    assert len(set(found)) == 3


def test_keras_gives_for_an_image_what_the_student_gives_for_it_turned_by_180_degrees():
    torch.manual_seed(0)
    net = student.Student()
    image = np.random.default_rng(0).uniform(-1, 1, (2, 96, 96, 3)).astype(np.float32)
    with torch.no_grad():
        for _ in range(30):  # Sets the statistics of the normalisation.
            net(torch.from_numpy(image).permute(0, 3, 1, 2))
        net.eval()
        turned = torch.from_numpy(image[:, ::-1, ::-1].copy()).permute(0, 3, 1, 2)
        features, logits = net.features(turned), net(turned)
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
