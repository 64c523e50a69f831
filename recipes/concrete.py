"""Trains the model that ships with crackclf, from folders of real patches and a drawn sample.

    python recipes/concrete.py OUT --metu DIR --sdnet DIR --uav DIR
    python recipes/concrete.py OUT --metu DIR --sdnet DIR --uav DIR --leave-out uav

A teacher (ImageNet MobileNetV2) is fine-tuned, looks at stored views of the images, and a
narrower MobileNetV2 learns from it and from the labels, all of its layers from scratch. Broken
off and started again, it goes on. OUT/shipped is then the model folder with its card; the second
command leaves the drone photos out of everything and measures on them, sharing the teacher, which
never sees them. The baseline stands in both cards.
"""

import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Annotated

import keras
import numpy as np
import tensorflow as tf
import typer
from card import compare, describe, photo_intervals, split_table

from crackclf.data.datasets import Datasets, load_datasets
from crackclf.data.folders import find_positive
from crackclf.data.patches import cut_patches
from crackclf.data.sample import write_sample
from crackclf.data.splits import SUBSETS
from crackclf.errors import UserError, notice
from crackclf.evaluation.calibration import choose_threshold, fit_temperature
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
SHIPPED_SIZE = 192  # By the validation photos of SDNET2018, among 160, 176, 192 and 224.
CLASS_NAMES = ("crack", "no_crack")
# By which part of a file's name a photo's patches are held together.
PHOTO = {"metu": None, "sdnet": r"_(\d+)-", "uav": r"(.+)-\d+-\d+", "sample": None}
TEACHER_SHARE = {"metu": 0.35, "sdnet": 0.55, "sample": 0.10}
STUDENT_SHARE = {"metu": 0.30, "sdnet": 0.53, "uav": 0.05, "sample": 0.12}
SAMPLE = 3000
TEACHER_VIEWS, STORED_VIEWS, LESSONS = 48_000, 40_000, 160_000


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
    name = f"shipped-without-{leave_out}" if leave_out else "shipped"
    folder = check_new_folder(out / name)
    out.mkdir(parents=True, exist_ok=True)
    check_same_run(out / "run.json", metu, sdnet, uav, seed, scale)
    if not (out / "uav").exists():
        cut_patches(uav / "images", uav / "masks", out / "uav", grid=2)
    if not (out / "sample").exists():
        write_sample(out / "sample", SAMPLE, seed=7 + seed)
    folders = {"metu": metu, "sdnet": sdnet, "uav": out / "uav", "sample": out / "sample"}
    sets = {
        name: load_datasets(folder, IMAGE_SIZE, 32, 0.1, 0.2, seed, PHOTO[name])
        for name, folder in folders.items()
    }
    for key, data in sets.items():
        notice(f"{key}: {data.counts}")

    teacher = train_teacher(out, sets, seed, int(TEACHER_VIEWS * scale))
    stored, of_set, labels = store_views(out, sets, teacher, seed, int(STORED_VIEWS * scale))
    rows = np.flatnonzero(of_set != leave_out)
    student = train_student(
        out / f"{name}.student.keras", stored, labels, rows, seed, int(LESSONS * scale)
    )
    baseline = train_baseline(out / "baseline", metu, seed)

    model = distillation.mirror_average(student, SHIPPED_SIZE)
    classifier = calibrate(model, {k: v for k, v in sets.items() if k != leave_out})
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
    saved = save_model(model, folder, card, files={"split.csv": split_table(sets, leave_out)})
    text = describe(saved, table, reports["shipped"], sets)
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
) -> tuple[distillation.LabelledViews, np.ndarray, np.ndarray]:
    """The stored views, the set that each comes from and its one-hot label."""
    files = [file for name in STUDENT_SHARE for file in sets[name].files["train"]]
    sizes = [len(sets[name].files["train"]) for name in STUDENT_SHARE]
    schedule = draw_schedule(sizes, list(STUDENT_SHARE.values()), n, seed + 1)
    views = read_views(files, schedule, distillation.TEACHER_SIZE, seed + 1, start=0)
    stored = distillation.label_views(teacher, views, n, IMAGE_SIZE, out / "views")
    labels = np.concatenate([one_hot(sets[name], "train") for name in STUDENT_SHARE])
    return stored, np.repeat(list(STUDENT_SHARE), sizes)[schedule], labels[schedule]


def train_student(
    checkpoint: Path,
    stored: distillation.LabelledViews,
    labels: np.ndarray,
    rows: np.ndarray,
    seed: int,
    n: int,
) -> keras.Model:
    """The student, from the stored views in the given rows."""
    keras.utils.set_random_seed(seed)
    schedule = rows[draw_schedule([len(rows)], [1.0], n, seed + 2)]
    return distillation.fit_resumable(
        lambda: distillation.build_student(IMAGE_SIZE, n // distillation.BATCH_SIZE),
        lambda start: distillation.read_labelled(stored, labels, schedule, seed + 2, start),
        n,
        epochs=10,
        checkpoint=checkpoint,
    )


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
    """Adds temperature and threshold, chosen on the validation images of the hard sets.

    METU's are told apart almost without error whatever the threshold, and would only say that
    the model may be certain.
    """
    hard = [sets[name] for name in ("sdnet", "uav") if name in sets]
    files = [file for data in hard for file in data.files["validation"]]
    labels = np.concatenate([one_hot(data, "validation") for data in hard]).argmax(axis=1)
    scores = crack_scores(Classifier(model, blank_card(SHIPPED_SIZE)), files)
    probabilities = np.stack([scores, 1 - scores], axis=1)
    temperature = fit_temperature(labels, probabilities)
    scaled = apply_temperature(probabilities, temperature)
    threshold = choose_threshold(labels == 0, scaled[:, 0])
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
        subsets = SUBSETS if name == leave_out else ("test",)
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
            photo_intervals(labels == 0, scores, np.array(photos), classifier.card.threshold),
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
