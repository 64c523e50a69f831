"""Trains the model that ships with crackclf, from folders of real patches and a drawn sample.

    python recipes/concrete.py OUT --metu DIR --sdnet DIR --uav DIR --leave-out uav
    python recipes/concrete.py OUT --metu DIR --sdnet DIR --uav DIR

A teacher (ImageNet MobileNetV2) is fine-tuned and looks at stored views of the images, and a
narrower MobileNetV2 learns from it and from the labels, all of its layers from scratch. Drone
photos come in at its last stage only; the first command leaves them out there, too, and measures
on them. The second makes OUT/shipped, the model folder, whose card states both and the baseline.
Broken off and started again, either goes on. It takes the extra `torch`. `recipes/sound.py` then
adds to the card what `crackclf inspect` needs.
"""

import dataclasses
import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import keras
import numpy as np
import tensorflow as tf
import typer
from card import compare, describe, split_table

from crackclf.data.datasets import Datasets, load_datasets
from crackclf.data.folders import find_positive
from crackclf.data.patches import cut_patches
from crackclf.data.sample import write_sample
from crackclf.data.splits import SUBSETS
from crackclf.errors import UserError, notice
from crackclf.evaluation.calibration import choose_threshold, fit_temperature
from crackclf.evaluation.intervals import group_intervals
from crackclf.evaluation.metrics import Report, evaluate
from crackclf.inference.predict import predict
from crackclf.models.card import Card
from crackclf.models.classifier import build_model
from crackclf.models.saving import (
    Classifier,
    apply_temperature,
    check_new_folder,
    load_model,
    save_model,
)
from crackclf.training import distillation
from crackclf.training.fit import train
from crackclf.training.views import draw_schedule, read_views

IMAGE_SIZE = 160
SHIPPED_SIZE = 192  # By the validation photos of SDNET2018, among 160, 192 and 224.
CLASS_NAMES = ("crack", "no_crack")
# By which part of a file's name a photo's patches are held together.
PHOTO = {"metu": None, "sdnet": r"_(\d+)-", "sample": None}
PHOTO |= dict.fromkeys(("uav", "uav-9", "uav-16"), r"(.+)-\d+-\d+")
TEACHER_SHARE = {"metu": 0.42, "sdnet": 0.50, "sample": 0.08}
STUDENT_SHARE = {"metu": 0.30, "sdnet": 0.53, "uav": 0.05, "sample": 0.12}
SAMPLE = 3000
TEACHER_VIEWS, STORED_VIEWS = 72_000, 32_000
BATCH_SIZE = 32
# Of the student: highest learning rate, and number of batches by the size in pixels at which it
# sees them, those of 96 pixels being crops.
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
        raise UserError("the student is taught in PyTorch: pip install 'crackclf[torch]'")
    if not leave_out and not (out / "unseen.md").exists():
        raise UserError(
            f"{out}: the card also states what a model that never saw the drone photos makes of "
            "them. Run the same with --leave-out uav first; most of the training serves both."
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

    teacher = train_teacher(out, sets, seed, int(TEACHER_VIEWS * scale))
    of_set, is_cracked = store_views(out, sets, teacher, seed, int(STORED_VIEWS * scale))
    rows = np.flatnonzero(of_set != "uav")
    trunk = train_student(out, "trunk", is_cracked, rows, TRUNK, seed + 2, scale)
    if not leave_out:
        rows = np.arange(len(of_set))
    last = folder.name.replace("shipped", "student")
    student = train_student(out, last, is_cracked, rows, LAST_STAGE, seed + 3, scale, trunk)
    baseline = train_baseline(out / "baseline", metu, seed)

    model = distillation.mirror_average(
        list(np.load(student.with_suffix(".npz")).values()), SHIPPED_SIZE
    )
    classifier = calibrate(model, sets)
    reports = {
        "shipped": measure(classifier, sets, leave_out),
        "teacher": measure(
            Classifier(teacher, blank_card(distillation.TEACHER_SIZE)), sets, leave_out
        ),
        "baseline": measure(baseline, sets, leave_out),
    }
    table = compare(reports)
    card = dataclasses.replace(
        classifier.card,
        data_fingerprint="".join(data.fingerprint[:16] for data in sets.values()),
        metrics={name: report.to_dict() for name, (report, _) in reports["shipped"].items()},
    )
    if leave_out:
        unseen = "\n".join(line for line in table.splitlines() if line.startswith("| drone"))
        (out / "unseen.md").write_text(unseen + "\n", encoding="utf-8")
    saved = save_model(model, folder, card, files={"split.csv": split_table(sets, leave_out)})
    unseen = (out / "unseen.md").read_text(encoding="utf-8")
    text = describe(saved, table, unseen, reports["shipped"], sets)
    (folder / "MODEL_CARD.md").write_text(text, encoding="utf-8")
    print(f"{table}\n\nSaved in {folder}")


def check_same_run(file: Path, *arguments: object) -> None:
    """Refuses to go on with what was made from other images or by another seed."""
    said = json.dumps([str(argument) for argument in arguments]) + "\n"
    if file.exists() and file.read_text(encoding="utf-8") != said:
        raise UserError(f"{file.parent}: holds a run with other arguments. Name another folder.")
    file.write_text(said, encoding="utf-8")


def train_teacher(out: Path, sets: dict[str, Datasets], seed: int, n: int) -> keras.Model:
    """The teacher, from the sets that it may see."""
    keras.utils.set_random_seed(seed)
    files = [file for name in TEACHER_SHARE for file in sets[name].files["train"]]
    labels = tf.constant(np.concatenate([one_hot(sets[name], "train") for name in TEACHER_SHARE]))
    sizes = [len(sets[name].files["train"]) for name in TEACHER_SHARE]
    schedule = draw_schedule(sizes, list(TEACHER_SHARE.values()), n, seed)

    def views(start: int) -> tf.data.Dataset:
        read = read_views(files, schedule, distillation.TEACHER_SIZE, seed, start)
        return read.map(lambda view, index: (view, labels[index]))

    return distillation.fit_resumable(
        lambda: distillation.build_teacher("imagenet", n // distillation.BATCH_SIZE),
        views,
        n,
        epochs=6,
        checkpoint=out / "teacher.keras",
    )


def store_views(
    out: Path, sets: dict[str, Datasets], teacher: keras.Model, seed: int, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Stores views with the teacher's answers; from which set each is, and whether cracked."""
    files = [file for name in STUDENT_SHARE for file in sets[name].files["train"]]
    sizes = [len(sets[name].files["train"]) for name in STUDENT_SHARE]
    schedule = draw_schedule(sizes, list(STUDENT_SHARE.values()), n, seed + 1)
    views = read_views(files, schedule, distillation.TEACHER_SIZE, seed + 1, start=0)
    distillation.label_views(teacher, views, n, out / "views")
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
    """Teaches the student the stored views in the given rows; its checkpoint."""
    learning_rate, batches = plan
    sizes = np.repeat(list(batches), [max(1, int(n * scale)) for n in batches.values()])
    schedule = rows[draw_schedule([len(rows)], [1.0], len(sizes) * BATCH_SIZE, seed)]
    lessons, checkpoint = out / f"{name}.lessons.npz", out / f"{name}.pt"
    np.savez(
        lessons,
        is_cracked=is_cracked,
        schedule=schedule.reshape(-1, BATCH_SIZE),
        sizes=sizes,
        seed=seed,
    )
    teach(out / "views", lessons, checkpoint, learning_rate, start)
    return checkpoint


def teach(
    views: Path, lessons: Path, checkpoint: Path, learning_rate: float, start: Path | None
) -> None:
    """Runs `crackclf.training.student`."""
    command = [sys.executable, "-m", "crackclf.training.student", views, lessons, checkpoint]
    command += ["--learning-rate", str(learning_rate)]
    subprocess.run(command + (["--start", start] if start else []), check=True)


def train_baseline(folder: Path, metu: Path, seed: int) -> Classifier:
    """What one would do without this recipe: a head on a frozen ImageNet base, from METU alone."""
    if folder.exists():
        return load_model(folder)
    keras.utils.set_random_seed(seed)
    data = load_datasets(metu, IMAGE_SIZE, 32, 0.1, 0.2, seed)
    model = build_model(IMAGE_SIZE)
    train(model, data, callbacks=[], epochs=3)
    positive = find_positive(data.class_names)
    card = Card(
        (data.class_names[0], data.class_names[1]),
        positive,
        IMAGE_SIZE,
        "mobilenetv2",
        getattr(model, "weights_origin", ""),
    )
    return save_model(model, folder, card)


def calibrate(model: keras.Model, sets: dict[str, Datasets]) -> Classifier:
    """Adds temperature and threshold, chosen on validation images.

    The temperature by SDNET2018 alone: METU, told apart almost without error, would only say that
    the model may be certain. The threshold by both, for it must not pay for one with the other.
    """
    names = ("metu", "sdnet")
    files = [file for name in names for file in sets[name].files["validation"]]
    labels = np.concatenate([one_hot(sets[name], "validation") for name in names]).argmax(axis=1)
    of_set = np.repeat(names, [len(sets[name].files["validation"]) for name in names])
    scores = crack_scores(Classifier(model, blank_card(SHIPPED_SIZE)), files)
    probabilities = np.stack([scores, 1 - scores], axis=1)
    hard = of_set == "sdnet"
    temperature = fit_temperature(labels[hard], probabilities[hard])
    scaled = apply_temperature(probabilities, temperature)
    threshold = choose_threshold(labels == 0, scaled[:, 0], of_set)
    card = dataclasses.replace(
        blank_card(SHIPPED_SIZE), temperature=temperature, threshold=threshold
    )
    return Classifier(model, card)


def measure(
    classifier: Classifier, sets: dict[str, Datasets], leave_out: str
) -> dict[str, tuple[Report, dict[str, tuple[float, float]]]]:
    """Reports by set, on its test images or, of a set left out, on all, with intervals."""
    reports = {}
    for name, data in sets.items():
        subsets = SUBSETS if leave_out and name.startswith("uav") else ("test",)
        files = [file for subset in subsets for file in data.files[subset]]
        labels = np.concatenate([one_hot(data, subset) for subset in subsets]).argmax(axis=1)
        scores = crack_scores(classifier, files)
        report = evaluate(
            labels,
            np.stack([scores, 1 - scores], axis=1),
            CLASS_NAMES,
            [f"{name}/{file.parent.name}/{file.name}" for file in files],
            threshold=classifier.card.threshold,
        )
        pattern = PHOTO[name]
        photos = [re.search(pattern, file.name)[1] if pattern else file.name for file in files]  # type: ignore[index]
        reports[name] = (
            report,
            group_intervals(labels == 0, scores, photos, classifier.card.threshold),
        )
    return reports


def blank_card(image_size: int) -> Card:
    """A card without temperature and with the threshold at one half."""
    return Card(
        CLASS_NAMES,
        "crack",
        image_size,
        backbone="mobilenetv2",
        weights_origin="trained from scratch by recipes/concrete.py",
    )


def crack_scores(classifier: Classifier, files: list[Path]) -> np.ndarray:
    """Probabilities of a crack, by the way that `crackclf predict` takes."""
    predictions = predict(files, classifier)
    failed = [prediction.error for prediction in predictions if prediction.error]
    if failed:
        raise UserError(failed[0])
    return np.array([prediction.probability for prediction in predictions])


def one_hot(data: Datasets, subset: str) -> np.ndarray:
    """The labels of a set in the order of `CLASS_NAMES`."""
    positive = data.class_names.index(find_positive(data.class_names))
    return np.eye(2, dtype=np.float32)[(data.labels[subset] != positive).astype(int)]


if __name__ == "__main__":
    try:
        typer.run(main)
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
