"""Trains the teacher and the student, in PyTorch alone.

`recipes/concrete.py` starts it, in several processes that work together, when all images are there.
It writes `OUT/student.npz` or `OUT/student-left-out.npz`, the student's weights for Keras, and
`OUT/teacher.npz`, the teacher's probabilities on the test images. Interrupted and started again it
goes on.
"""

import os
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

import fitting
import student
import teacher
from crackclf.errors import notice
from crackclf.files import writing
from sets import Sets, read_sets
from views import Views, draw_schedule

# Of the teacher: the variant of EfficientNet-Lite, and the number of views by size in pixels.
TEACHER = (2, {192: 14_000, 224: 6_000})
TEACHER_SHARE = {"metu": 0.2, "sdnet": 0.5, "drawn": 0.3}
VIEWS, VIEW_SIZE, TEST_SIZE = 32_000, 192, 224
# Of each set: its share of the student's views, its share of the batches of the last stage, and
# the weight of its labels against the answers. Labels of SDNET2018 are noisy; masks are exact.
STUDENT_SETS = {
    "metu": (0.18, 0.12, 0.8),
    "sdnet": (0.42, 0.35, 0.3),
    "drawn": (0.28, 0.28, 0.7),
    "drone": (0.05, 0.15, 0.9),
    "squares": (0.02, 0.04, 0.3),
    "sound": (0.05, 0.06, 0.7),
}
LAST = ("drone", "squares", "sound")  # What the last stage alone sees.
BATCH_SIZE = 32
# Of the student: the maximal learning rate, and the number of batches by their size in pixels.
TRUNK = (2e-4, {192: 2400})
LAST_STAGE = (1e-4, {192: 1500})


def main(
    out: Annotated[Path, typer.Argument(help="Folder for all that the recipe makes.")],
    metu: Annotated[Path, typer.Option(help="METU patches: Negative/ and Positive/.")],
    sdnet: Annotated[Path, typer.Option(help="SDNET2018 patches: crack/ and no_crack/.")],
    uav: Annotated[Path, typer.Option(help="Drone photos: images/ and masks/.")],
    leave_out: Annotated[bool, typer.Option(help="Leave out what the last stage adds.")] = False,
    seed: Annotated[int, typer.Option(help="Of everything drawn at random.")] = 0,
    scale: Annotated[float, typer.Option(help="Share of the training, to try it out.")] = 1.0,
) -> None:
    """Trains the teacher and the student."""
    torch.set_num_threads(1)
    if "RANK" in os.environ:  # Set by torchrun.
        torch.distributed.init_process_group("gloo")
    sets = read_sets(out, metu, sdnet, uav, seed, scale)
    for name, items in sets.train.items():
        notice(f"{name}: {len(items)} images")
    large = train_teacher(out / "teacher.pt", sets, seed, scale)
    shares = {name: share for name, (share, *_) in STUDENT_SETS.items()}
    views = Views(sets.train, shares, int(VIEWS * scale), VIEW_SIZE, seed + 100)
    teacher.label(large, views, out / "views")
    write_targets(out / "targets.npy", out / "views", out / "start.npz")
    held = dict.fromkeys(LAST, 0.0)
    first = shares | held
    last = {name: share for name, (_, share, _) in STUDENT_SETS.items()}
    trunk = train_student(out, "trunk", first, TRUNK, seed + 2, scale, out / "start.npz")
    name, last = ("student-left-out", last | held) if leave_out else ("student", last)
    train_student(out, name, last, LAST_STAGE, seed + 3, scale, trunk)
    if not (out / "teacher.npz").exists():
        tests = sets.test | sets.elsewhere
        # Some files are in several sets.
        files = list(dict.fromkeys(item.path for items in tests.values() for item in items))
        said = dict(zip(files, teacher.answer(large, files, TEST_SIZE), strict=True))
        scores = {k: np.array([said[x.path] for x in items]) for k, items in tests.items()}
        save(out / "teacher.npz", **scores)


def train_teacher(checkpoint: Path, sets: Sets, seed: int, scale: float) -> teacher.Teacher:
    """Trains the teacher, or loads it when it is trained."""
    variant, plan = TEACHER
    batch = teacher.BATCH_SIZE
    sizes = np.repeat(list(plan), [max(1, int(n * scale) // batch) * batch for n in plan.values()])
    torch.manual_seed(seed)
    net = teacher.Teacher(variant)
    teacher.train(net, Views(sets.train, TEACHER_SHARE, len(sizes), sizes, seed), checkpoint)
    return net


def write_targets(file: Path, views: Path, start: Path) -> None:
    """Writes the probability of a crack that the student shall give for each stored view.

    Two networks have answered: the teacher, and the student as it was. Their mean keeps what the
    student knew of surfaces that the teacher sees little of (Li and Hoiem 2016, arXiv:1606.09282).
    Of drawn views the teacher's answer counts alone: the student as it was calls joints cracked.

    Args:
        file: of the targets, float32 of shape (views,); nothing is done when it exists.
        views: folder from `teacher.label`.
        start: weights for Keras of the student as it was.
    """
    if file.exists():
        return
    of_set, is_cracked = (np.load(views / f"{name}.npy") for name in ("of_set", "is_cracked"))
    logits = np.load(views / "logits.npy").mean(axis=(1, 2))
    real = np.flatnonzero(of_set != list(STUDENT_SETS).index("drawn"))
    images = np.load(views / "images.npy", mmap_mode="r")
    logits[real] += student.answer(load_student(start), images, real, min(TRUNK[1]))
    logits[real] /= 2
    labels = np.array([share for *_, share in STUDENT_SETS.values()])[of_set]
    targets = labels * is_cracked + (1 - labels) / (1 + np.exp(-logits))
    if fitting.place()[0] == 0:
        with writing(file) as content:
            np.save(content, targets.astype(np.float32))
    fitting.gather(None)  # Nobody goes on before it is there.


def load_student(file: Path) -> student.Student:
    """The student with weights for Keras."""
    net = student.Student()
    with np.load(file) as arrays:
        student.from_keras(net, list(arrays.values()))
    return net


def train_student(
    out: Path,
    name: str,
    shares: dict[str, float],
    plan: tuple[float, dict[int, int]],
    seed: int,
    scale: float,
    start: Path,
) -> Path:
    """Trains the student from other weights for Keras on, on the stored views.

    Args:
        out: folder of the run.
        name: of the weights.
        shares: each set's share of the batches.
        plan: the maximal learning rate, and the number of batches by their size in pixels.
        seed: of everything drawn at random.
        scale: share of the training.
        start: the other weights.

    Returns:
        The file of its own weights for Keras.
    """
    checkpoint, weights = out / f"{name}.pt", out / f"{name}.npz"
    if weights.exists():
        return weights
    learning_rate, steps = plan
    sizes = np.repeat(list(steps), [max(1, int(n * scale)) for n in steps.values()])
    of_set = np.load(out / "views" / "of_set.npy")
    counts = np.bincount(of_set, minlength=len(shares))
    likely = np.array(list(shares.values())) * (counts > 0)
    views = draw_schedule(counts, likely / likely.sum(), len(sizes) * BATCH_SIZE, seed)
    schedule = np.argsort(of_set, kind="stable")[views].reshape(-1, BATCH_SIZE)
    net = load_student(start)
    targets = np.load(out / "targets.npy")
    batches = student.Batches(out / "views", targets, schedule, sizes, seed)
    student.train(net, batches, learning_rate, checkpoint)
    save(weights, *student.to_keras(net))
    fitting.gather(None)  # Nobody goes on before they are there.
    return weights


def save(file: Path, *arrays: np.ndarray, **named: np.ndarray) -> None:
    """Writes arrays into a file, once."""
    if fitting.place()[0] == 0:
        with writing(file) as content:
            np.savez(content, *arrays, **named)


if __name__ == "__main__":
    typer.run(main)
