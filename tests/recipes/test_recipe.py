import dataclasses
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import concrete
import teacher
from conftest import build_small
from crackclf.errors import UserError
from crackclf.extras import torch_room
from crackclf.models.backbones import BACKBONES
from crackclf.models.bases import build_narrow_base
from crackclf.prediction.classifier import load_model


@pytest.fixture
def recipe(monkeypatch):
    """The recipe on small pictures and for a few steps."""
    monkeypatch.setattr(concrete, "IMAGE_SIZE", 32)
    monkeypatch.setattr(concrete, "BATCH_SIZE", 8)
    monkeypatch.setattr(concrete, "TRUNK", (1e-3, {32: 1, 64: 1}))
    monkeypatch.setattr(concrete, "LAST_STAGE", (1e-3, {64: 1}))
    monkeypatch.setattr(concrete, "SHIPPED_SIZE", 64)
    monkeypatch.setattr(concrete, "SAMPLE", 20)
    monkeypatch.setattr(teacher, "TEACHER_SIZE", 64)
    if find_spec("torchvision") is None:
        monkeypatch.setattr(concrete, "find_spec", lambda name: True)
        train_student = without_torch
    else:
        torch_room()  # It makes PyTorch work beside TensorFlow.
        from student import main as train_student
    # In this process; test_student.py starts another one, which takes seconds.
    monkeypatch.setattr(concrete, "run_student", train_student)
    return concrete


def without_torch(views, plan, checkpoint, learning_rate, start):
    """Stands in for the training where PyTorch is missing: random weights."""
    with np.load(plan) as file:
        assert file["schedule"].shape == (len(file["sizes"]), 8)
        assert file["schedule"].max() < len(file["is_cracked"])
        assert len(file["is_cracked"]) == len(np.load(views / "logits.npy"))
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


def build_small_teacher(weights, steps):
    """Stands in for the teacher: it is quickly built, trained and converted."""
    inputs = keras.Input((64, 64, 3))
    x = keras.layers.Conv2D(1280, 32, strides=32)(keras.layers.Rescaling(1 / 255)(inputs))
    x = keras.layers.Dropout(0.2)(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))
    model.compile("adam", "categorical_crossentropy")
    return model


def test_two_commands_make_a_model_and_its_card(recipe, folders, tmp_path, monkeypatch):
    monkeypatch.setattr(teacher, "build_teacher", build_small_teacher)
    monkeypatch.setattr(recipe, "build_model", build_small)
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
    assert made.card.fingerprint in text
    assert made.card.mirrored
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
    def offline(**_):
        raise Exception("URL fetch failure")

    monkeypatch.setenv("CRACKCLF_WEIGHTS_DIR", "")
    row = dataclasses.replace(BACKBONES["mobilenetv2"], application=offline)
    monkeypatch.setitem(BACKBONES, "mobilenetv2", row)
    with pytest.raises(UserError, match="starts from ImageNet weights"):
        recipe.main(tmp_path / "out", **folders, leave_out="uav", scale=0.002)
