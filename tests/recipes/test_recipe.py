from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import concrete
from beside_tensorflow import torch
from conftest import build_small
from crackclf.backbones import build_narrow_base
from crackclf.errors import UserError
from crackclf.prediction import Classifier, load_model
from crackclf.saving import load_keras_model
from measure import blank_card

# isort: split
import school
import teacher

pytestmark = pytest.mark.extras


class Base(torch.nn.Module):
    """Stands in for EfficientNet-Lite."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 1280, 32, 32)

    def extract_features(self, images):
        return self.convolution(images)


def answer_by_keras(model, card) -> Classifier:
    """As `from_keras`, without the seconds of a conversion."""
    return Classifier(card, lambda images: np.log(model(images))[:, None, None])


@pytest.fixture
def recipe(monkeypatch):
    """The recipe on small pictures and for a few steps, in this process."""
    monkeypatch.setattr(teacher, "build_base", lambda variant, pretrained: (Base(), 1280))
    monkeypatch.setattr(teacher.train, "__defaults__", (0,))
    monkeypatch.setattr(teacher.label, "__defaults__", (0,))
    monkeypatch.setattr(school, "TEACHER", (2, {64: 16}))
    monkeypatch.setattr(school, "VIEWS", 40)
    monkeypatch.setattr(school, "VIEW_SIZE", 64)
    monkeypatch.setattr(school, "TEST_SIZE", 64)
    monkeypatch.setattr(school, "BATCH_SIZE", 8)
    monkeypatch.setattr(school, "TRUNK", (1e-3, {32: 1, 64: 1}))
    monkeypatch.setattr(school, "LAST_STAGE", (1e-3, {64: 1}))
    monkeypatch.setattr("sets.N_DRAWN", 36)
    monkeypatch.setattr(concrete, "SHIPPED_SIZE", 64)
    monkeypatch.setattr(concrete, "build_model", build_small)
    monkeypatch.setattr(concrete, "from_keras", answer_by_keras)
    monkeypatch.setattr(concrete, "run_school", school.main)
    monkeypatch.setattr("sets._SOUND_VIEWS", 4)
    return concrete


@pytest.fixture
def folders(tmp_path):
    rng = np.random.default_rng(0)

    def save(path: Path, side: int = 32) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)).save(path)

    for i in range(12):
        for name in ("Negative", "Positive"):
            save(tmp_path / "metu" / name / f"{i}.png")
    for photo in ("D_7012", "P_001", "W_7079", "D_7025", "W_1", "W_2"):
        for number, name in enumerate(("crack", "no_crack", "crack", "no_crack")):
            save(tmp_path / "sdnet" / name / f"{photo}-{number + 1}.jpg")
    for number in range(1, 13 * 18 + 1):
        save(tmp_path / "sdnet" / ("no_crack" if number > 3 else "crack") / f"P_777-{number}.jpg")
    for i in range(8):
        save(tmp_path / "uav" / "images" / f"{i}.png", 64)
        mask = np.zeros((64, 64), np.uint8)
        mask[:32, :32] = 255
        (tmp_path / "uav" / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / "uav" / "masks" / f"{i}.png")
    (tmp_path / "start").mkdir()
    concrete.build_student(draw_weights(), 64).save(tmp_path / "start" / "model.keras")
    (tmp_path / "start" / "card.json").write_text(blank_card(64).to_json())
    split = "subset,class,digest,file\ntrain,crack,0,uav/5-0-0.png\n"
    (tmp_path / "start" / "split.csv").write_text(split)
    return {name: tmp_path / name for name in ("metu", "sdnet", "uav", "start")}


@cache
def draw_weights() -> list[np.ndarray]:
    """Weights of a student: those of the model in the box, with another head."""
    rng = np.random.default_rng(0)
    base = load_keras_model().get_layer("mobilenetv2").get_weights()
    return [*base, rng.normal(0, 0.02, (1280, 2)).astype(np.float32), np.float32([0.1, -0.1])]


def test_two_commands_make_a_model_and_its_card(recipe, folders, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(UserError, match="with --leave-out first"):
        recipe.main(out, **folders)
    assert not out.exists()

    recipe.main(out, **folders, leave_out=True)
    assert load_model(out / "left-out").card.metrics["whole"]["n"] == 13 * 18
    trained = (out / "trunk.npz").stat().st_mtime_ns

    recipe.main(out, **folders)
    assert (out / "trunk.npz").stat().st_mtime_ns == trained  # It is shared.
    made = load_model(out / "shipped")
    text = (out / "shipped" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "$" not in text
    assert made.card.fingerprint in text
    for model in ("shipped", "baseline", "first edition", "teacher"):
        assert f"| METU | {model} | " in text
        assert f"| its decks | {model} | " in text
        assert f"| drawn joints without cracks | {model} | " in text
    for row in ("twelve whole photos of SDNET2018, by square", "all drone frames, cut in 4"):
        assert f"| {row} | shipped | " in text
    assert {"metu", "sdnet", "D", "P", "W", "drone", "drawn"} < set(made.card.metrics)
    for name in ("card.json", "split.csv", "MODEL_CARD.md"):
        assert str(tmp_path) not in (out / "shipped" / name).read_text(encoding="utf-8")

    with pytest.raises(UserError, match="overwrites nothing"):
        recipe.main(out, **folders)
    (out / "shipped").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="holds a run with other arguments"):
        recipe.main(out, **folders, seed=1)


def test_what_ships_is_the_upright_student_and_looks_once():
    weights, base = draw_weights(), build_narrow_base(64)
    base.set_weights(weights[:-2])
    rng = np.random.default_rng(0)
    model = concrete.build_student(weights, 64)
    assert [x.name for x in model.layers[-3:]] == ["mobilenetv2", "pooling", "probabilities"]
    image = rng.uniform(0, 255, (1, 64, 64, 3)).astype(np.float32)
    logits = base(image / 127.5 - 1).numpy().mean(axis=(1, 2)) @ weights[-2] + weights[-1]
    odds = np.exp(logits - logits.max())
    np.testing.assert_allclose(model(image), odds / odds.sum(), rtol=1e-4)
    answer = concrete.from_keras(model, blank_card(64)).probabilities(image)
    np.testing.assert_allclose(answer, odds / odds.sum(), rtol=1e-3)
