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
# Of each set: its share of the student's views, and the weight of its labels against the teacher's
# answers. Those of SDNET2018 are noisy; those of drawn scenes are exact.
STUDENT_SETS = {
    "metu": (0.18, 0.8),
    "sdnet": (0.42, 0.3),
    "drawn": (0.28, 0.7),
    "drone": (0.05, 0.7),
    "squares": (0.02, 0.3),
    "sound": (0.05, 0.3),
}
LAST = ("drone", "squares", "sound")  # What the last stage alone sees.
BATCH_SIZE = 32
# Of the student: the maximal learning rate, and the number of batches by their size in pixels.
TRUNK = (2e-4, {160: 4000})
LAST_STAGE = (1e-4, {160: 500})


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
    shares = {name: share for name, (share, _) in STUDENT_SETS.items()}
    views = Views(sets.train, shares, int(VIEWS * scale), VIEW_SIZE, seed + 100)
    teacher.label(large, views, out / "views")
    of_set = np.load(out / "views" / "of_set.npy")
    rows = np.flatnonzero(~np.isin(np.array(list(STUDENT_SETS))[of_set], LAST))
    trunk = train_student(out, "trunk", rows, TRUNK, seed + 2, scale, out / "start.npz")
    rows = rows if leave_out else np.arange(len(of_set))
    name = "student-left-out" if leave_out else "student"
    train_student(out, name, rows, LAST_STAGE, seed + 3, scale, trunk)
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


def train_student(
    out: Path,
    name: str,
    rows: np.ndarray,
    plan: tuple[float, dict[int, int]],
    seed: int,
    scale: float,
    start: Path,
) -> Path:
    """Trains the student from other weights for Keras on, on the stored views in the given rows.

    Returns:
        The file of its own weights for Keras.
    """
    checkpoint, weights = out / f"{name}.pt", out / f"{name}.npz"
    if weights.exists():
        return weights
    learning_rate, counts = plan
    sizes = np.repeat(list(counts), [max(1, int(n * scale)) for n in counts.values()])
    schedule = rows[draw_schedule([len(rows)], [1.0], len(sizes) * BATCH_SIZE, seed)]
    net = student.Student()
    with np.load(start) as arrays:
        student.from_keras(net, list(arrays.values()))
    label_shares = np.array([share for _, share in STUDENT_SETS.values()])
    label_shares = label_shares[np.load(out / "views" / "of_set.npy")]
    schedule = schedule.reshape(-1, BATCH_SIZE)
    batches = student.Batches(out / "views", label_shares, schedule, sizes, seed)
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
