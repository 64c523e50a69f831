"""Trains the model that ships with crackclf, from folders of real patches and a drawn sample.

    python recipes/concrete.py OUT --metu DIR --sdnet DIR --uav DIR --leave-out uav
    python recipes/concrete.py OUT --metu DIR --sdnet DIR --uav DIR

A teacher (an ImageNet MobileNetV2) is fine-tuned, and its answers to augmented views of the images
are stored. A narrower MobileNetV2, the student, learns from these answers and from the labels, from
scratch. Drone photos are in the last stage of its training only. The first command leaves them out
of that, too, and measures on them. The second makes OUT/shipped, the model folder, whose card shows
both results and a baseline. Either command can be interrupted and run again. It takes the extra
`torch`. `recipes/sound.py` then adds to the card what `crackclf inspect` needs.
"""

import dataclasses
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import keras
import numpy as np
import tensorflow as tf
import typer

import teacher
from card import render_card, render_table, split_table
from crackclf.data.datasets import Datasets
from crackclf.data.folders import find_positive
from crackclf.data.loading import load_datasets
from crackclf.errors import UserError, notice
from crackclf.files import check_new_folder, write_whole
from crackclf.models.classifier import build_model
from crackclf.prediction.classifier import Classifier, from_keras, load_model
from crackclf.sample.write import write_sample
from crackclf.saved.card import Card
from crackclf.saved.store import save_model
from crackclf.training.fit import train
from measure import PHOTO, blank_card, calibrate, measure, one_hot
from patches import cut_patches
from views import draw_schedule, read_views

IMAGE_SIZE = 160
SHIPPED_SIZE = 192  # Chosen on the validation photos of SDNET2018 from 160, 192 and 224.
TEACHER_SHARE = {"metu": 0.42, "sdnet": 0.50, "sample": 0.08}
STUDENT_SHARE = {"metu": 0.30, "sdnet": 0.53, "uav": 0.05, "sample": 0.12}
SAMPLE = 3000
TEACHER_VIEWS, STORED_VIEWS = 72_000, 32_000
BATCH_SIZE = 32
# Of the student: the maximal learning rate, and the number of batches by their size in pixels.
# Those of 96 pixels are crops.
TRUNK = (2e-3, {96: 3000, 160: 12_000})
LAST_STAGE = (5e-4, {160: 1000})


def main(
    out: Annotated[Path, typer.Argument(help="Folder for all that the recipe makes.")],
    metu: Annotated[Path, typer.Option(help="METU patches: Negative/ and Positive/.")],
    sdnet: Annotated[Path, typer.Option(help="SDNET2018 patches: crack/ and no_crack/.")],
    uav: Annotated[Path, typer.Option(help="Drone photos: images/ and masks/.")],
    leave_out: Annotated[str, typer.Option(help="uav: train without the drone photos.")] = "",
    seed: Annotated[int, typer.Option(help="Of everything drawn at random.")] = 0,
    scale: Annotated[float, typer.Option(help="Share of the training, to try it out.")] = 1.0,
) -> None:
    """Trains the model that ships with crackclf."""
    if leave_out not in ("", "uav"):
        raise UserError(f"--leave-out must be uav or absent. Received: {leave_out}.")
    if find_spec("torchvision") is None:
        raise UserError("the student is trained in PyTorch: pip install 'crackclf[torch]'")
    if not leave_out and not (out / "unseen.md").exists():
        raise UserError(
            f"{out}: the card also shows figures of a model that never saw the drone photos. Run "
            "the same with --leave-out uav first; most of the training is shared."
        )
    folder = check_new_folder(out / ("shipped-without-uav" if leave_out else "shipped"))
    out.mkdir(parents=True, exist_ok=True)
    check_same_run(out / "run.json", metu, sdnet, uav, seed, scale)
    grids = {"uav": 2} | ({"uav-9": 3, "uav-16": 4} if leave_out else {})
    for name, grid in grids.items():
        if not (out / name).exists():
            cut_patches(uav / "images", uav / "masks", out / name, grid)
    if not (out / "sample").exists():
        write_sample(out / "sample", SAMPLE, seed=7 + seed)
    folders = {"metu": metu, "sdnet": sdnet, "sample": out / "sample"}
    folders |= {name: out / name for name in grids}
    sets = {
        name: load_datasets(images, IMAGE_SIZE, 32, 0.1, 0.2, seed, PHOTO[name])
        for name, images in folders.items()
    }
    for key, data in sets.items():
        notice(f"{key}: {data.counts}")

    large = train_teacher(out, sets, seed, int(TEACHER_VIEWS * scale))
    of_set, is_cracked = store_views(out, sets, large, seed, int(STORED_VIEWS * scale))
    rows = np.flatnonzero(of_set != "uav")
    trunk = train_student(out, "trunk", is_cracked, rows, TRUNK, seed + 2, scale)
    if not leave_out:
        rows = np.arange(len(of_set))
    last = folder.name.replace("shipped", "student")
    checkpoint = train_student(out, last, is_cracked, rows, LAST_STAGE, seed + 3, scale, trunk)
    with np.load(checkpoint.with_suffix(".npz")) as weights:
        small = teacher.build_student(list(weights.values()), SHIPPED_SIZE)

    card = dataclasses.replace(blank_card(SHIPPED_SIZE), mirrored=True)
    student = calibrate(from_keras(small, card), sets)
    models = {
        "shipped": student,
        "teacher": from_keras(large, blank_card(teacher.TEACHER_SIZE)),
        "baseline": train_baseline(out / "baseline", metu, seed),
    }
    measured = {name: measure(model, sets, leave_out) for name, model in models.items()}
    table = render_table(measured)
    card = dataclasses.replace(
        student.card,
        data_fingerprint="".join(data.fingerprint[:16] for data in sets.values()),
        metrics={name: report.to_dict() for name, (report, _) in measured["shipped"].items()},
    )
    if leave_out:
        lines = [line for line in table.splitlines() if line.startswith("| drone")]
        write_whole(out / "unseen.md", "\n".join(lines) + "\n")
    save_model(small, folder, card, files={"split.csv": split_table(sets, leave_out)})
    unseen = (out / "unseen.md").read_text(encoding="utf-8")
    saved = load_model(folder).card
    text = render_card(saved, small.count_params(), table, unseen, measured["shipped"], sets)
    write_whole(folder / "MODEL_CARD.md", text)
    print(f"{table}\n\nSaved in {folder}")


def check_same_run(file: Path, *arguments: object) -> None:
    """Refuses to resume a run of other images or another seed."""
    text = json.dumps([str(argument) for argument in arguments]) + "\n"
    if file.exists() and file.read_text(encoding="utf-8") != text:
        raise UserError(f"{file.parent}: holds a run with other arguments. Name another folder.")
    write_whole(file, text)


def train_teacher(out: Path, sets: dict[str, Datasets], seed: int, n: int) -> keras.Model:
    """Trains the teacher on n views of the sets in `TEACHER_SHARE`."""
    keras.utils.set_random_seed(seed)
    files = [file for name in TEACHER_SHARE for file in sets[name].files["train"]]
    labels = tf.constant(np.concatenate([one_hot(sets[name], "train") for name in TEACHER_SHARE]))
    sizes = [len(sets[name].files["train"]) for name in TEACHER_SHARE]
    schedule = draw_schedule(sizes, list(TEACHER_SHARE.values()), n, seed)

    def views(start: int) -> tf.data.Dataset:
        read = read_views(files, schedule, teacher.TEACHER_SIZE, seed, start)
        return read.map(lambda view, index: (view, labels[index]))

    return teacher.fit_resumable(
        lambda: teacher.build_teacher("imagenet", n // teacher.BATCH_SIZE),
        views,
        n,
        epochs=6,
        checkpoint=out / "teacher.keras",
    )


def store_views(
    out: Path, sets: dict[str, Datasets], large: keras.Model, seed: int, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Stores n views with the teacher's answers; returns the set and the class of each."""
    files = [file for name in STUDENT_SHARE for file in sets[name].files["train"]]
    sizes = [len(sets[name].files["train"]) for name in STUDENT_SHARE]
    schedule = draw_schedule(sizes, list(STUDENT_SHARE.values()), n, seed + 1)
    views = read_views(files, schedule, teacher.TEACHER_SIZE, seed + 1, start=0)
    teacher.label_views(large, views, n, out / "views")
    labels = np.concatenate([one_hot(sets[name], "train") for name in STUDENT_SHARE])
    return np.repeat(list(STUDENT_SHARE), sizes)[schedule], labels[schedule][:, 0] == 1


def train_student(
    out: Path,
    name: str,
    is_cracked: np.ndarray,
    rows: np.ndarray,
    plan: tuple[float, dict[int, int]],
    seed: int,
    scale: float,
    start: Path | None = None,
) -> Path:
    """Trains the student on the stored views in the given rows; returns its checkpoint."""
    checkpoint = out / f"{name}.pt"
    if checkpoint.with_suffix(".npz").exists():  # Written last.
        return checkpoint
    learning_rate, batches = plan
    sizes = np.repeat(list(batches), [max(1, int(n * scale)) for n in batches.values()])
    schedule = rows[draw_schedule([len(rows)], [1.0], len(sizes) * BATCH_SIZE, seed)]
    np.savez(
        out / f"{name}.plan.npz",
        is_cracked=is_cracked,
        schedule=schedule.reshape(-1, BATCH_SIZE),
        sizes=sizes,
        seed=seed,
    )
    run_student(out / "views", out / f"{name}.plan.npz", checkpoint, learning_rate, start)
    return checkpoint


def run_student(
    views: Path, plan: Path, checkpoint: Path, learning_rate: float, start: Path | None
) -> None:
    """Runs `student.py` in a process of its own."""
    script = Path(__file__).with_name("student.py")
    command = [sys.executable, script, views, plan, checkpoint]
    command += ["--learning-rate", str(learning_rate)]
    subprocess.run(command + (["--start", start] if start else []), check=True)


def train_baseline(folder: Path, metu: Path, seed: int) -> Classifier:
    """Trains the usual way: a head on a frozen ImageNet base, on METU alone."""
    if not folder.exists():
        keras.utils.set_random_seed(seed)
        data = load_datasets(metu, IMAGE_SIZE, 32, 0.1, 0.2, seed)
        model = build_model(IMAGE_SIZE)
        train(model, data, callbacks=[], epochs=3)
        positive = find_positive(data.class_names)
        origin = getattr(model, "weights_origin", "")
        names = (data.class_names[0], data.class_names[1])
        save_model(model, folder, Card(names, positive, IMAGE_SIZE, "mobilenetv2", origin))
    return load_model(folder)


if __name__ == "__main__":
    try:
        typer.run(main)
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
