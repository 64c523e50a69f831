import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crackclf.errors import UserError
from crackclf.evaluation import intervals
from crackclf.models.bases import build_narrow_base
from crackclf.models.saving import load_model
from crackclf.training import distillation

RECIPES = Path(__file__).parents[1] / "recipes"


@pytest.fixture
def recipe(monkeypatch, weights_folder):
    """The recipe on small pictures and for a handful of steps."""
    monkeypatch.syspath_prepend(str(RECIPES))
    monkeypatch.setenv("CRACKCLF_WEIGHTS_DIR", str(weights_folder))
    import concrete

    monkeypatch.setattr(intervals, "_DRAWS", 20)
    monkeypatch.setattr(concrete, "IMAGE_SIZE", 32)
    monkeypatch.setattr(concrete, "TRUNK", (1e-3, {32: 1500, 64: 500}))
    if find_spec("torchvision") is None:
        monkeypatch.setattr(concrete, "find_spec", lambda name: True)
        monkeypatch.setattr(concrete, "teach", without_torch)
    monkeypatch.setattr(concrete, "SHIPPED_SIZE", 64)
    monkeypatch.setattr(concrete, "SAMPLE", 40)
    monkeypatch.setattr(distillation, "TEACHER_SIZE", 64)
    yield concrete
    for name in ("concrete", "card"):
        del sys.modules[name]


def without_torch(views, lessons, checkpoint, learning_rate, start):
    """What is left of teaching where there is no PyTorch: random weights."""
    with np.load(lessons) as plan:
        assert plan["schedule"].shape == (len(plan["sizes"]), 32)
        assert (
            plan["schedule"].max() < len(plan["is_cracked"]) == len(np.load(views / "logits.npy"))
        )
    head = [np.zeros((1280, 2)), np.zeros(2)]
    np.savez(checkpoint.with_suffix(".npz"), *build_narrow_base(32).get_weights(), *head)


@pytest.fixture
def folders(tmp_path):
    rng = np.random.default_rng(0)

    def save(path: Path, pixels: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)

    for i in range(12):
        for name in ("Negative", "Positive"):
            save(tmp_path / "metu" / name / f"{i}.png", rng.integers(0, 256, (32, 32, 3), np.uint8))
        for name in ("crack", "no_crack"):
            pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
            save(tmp_path / "sdnet" / name / f"D_{i}-{name}.png", pixels)
        mask = np.zeros((64, 64), np.uint8)
        mask[:32, :32] = 255
        save(tmp_path / "uav" / "masks" / f"{i}.png", mask)
        save(tmp_path / "uav" / "images" / f"{i}.png", rng.integers(0, 256, (64, 64, 3), np.uint8))
    return {name: tmp_path / name for name in ("metu", "sdnet", "uav")}


def test_two_commands_make_a_model_and_its_card(recipe, folders, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(UserError, match="with --leave-out uav first"):
        recipe.main(out, **folders, scale=0.002)
    assert not out.exists()

    recipe.main(out, **folders, leave_out="uav", scale=0.002)
    without = out / "shipped-without-uav"
    rows = [row.split(",") for row in (without / "split.csv").read_text().splitlines()[1:]]
    drone = [subset for subset, *_, file in rows if file.startswith("uav/")]
    assert set(drone) == {"test"}
    assert load_model(without).card.metrics["uav"]["n"] == len(drone)

    recipe.main(out, **folders, scale=0.002)
    made = load_model(out / "shipped")
    text = (out / "shipped" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "$" not in text
    assert made.card.sha256 in text
    for row in ("METU", "SDNET2018, unseen photos", "drawn sample"):
        assert text.count(f"| {row} | ") == 4  # Its counts, and three models' figures.
    assert text.count("| drone photos | ") == 7  # And three without having seen any.
    assert text.count("| drone photos, cut in 16 | ") == 3
    assert set(made.card.metrics) == {"metu", "sdnet", "uav", "sample"}
    assert str(tmp_path) not in (out / "shipped" / "card.json").read_text()
    assert str(tmp_path) not in (out / "shipped" / "split.csv").read_text()

    with pytest.raises(UserError, match="overwrites no model"):
        recipe.main(out, **folders, scale=0.002)


def test_without_imagenet_weights_no_teacher_is_made(recipe, folders, tmp_path, monkeypatch):
    from crackclf.models import bases

    monkeypatch.delenv("CRACKCLF_WEIGHTS_DIR")
    monkeypatch.setattr(bases, "_build", _offline)
    with pytest.raises(UserError, match="starts from ImageNet weights"):
        recipe.main(tmp_path / "out", **folders, leave_out="uav", scale=0.002)


def _offline(*_):
    raise Exception("URL fetch failure")
