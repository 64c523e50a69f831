"""Trains the teachers and the student, in PyTorch alone. `recipes/concrete.py` starts it.

    python recipes/school.py OUT --metu DIR --sdnet DIR --uav DIR [--leave-out]

It writes `OUT/student.npz` or `OUT/student-left-out.npz`, the student's weights for Keras, and
`OUT/teachers.npz`, the teachers' probabilities on the test images. Interrupted and started again it
goes on.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

import fitting
import student
import teacher
from crackclf.cores import cores
from crackclf.errors import notice
from crackclf.files import writing
from sets import Sets, read_sets
from views import Views, draw_schedule

# Of each teacher: the variant of EfficientNet-Lite, and the number of views by size in pixels.
TEACHERS = {"lite2": (2, {192: 32_000, 224: 16_000, 256: 6_000})}
TEACHER_SHARE = {"metu": 0.2, "sdnet": 0.5, "drawn": 0.3}
VIEWS, VIEW_SIZE, TEST_SIZE = 60_000, 224, 224
# Of each set: its share of the student's views, and the weight of its labels against the teachers'
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
# Those of 96 pixels are crops.
TRUNK = (2e-3, {96: 3000, 160: 12_000})
LAST_STAGE = (5e-4, {160: 1000})


def main(
    out: Annotated[Path, typer.Argument(help="Folder for all that the recipe makes.")],
    metu: Annotated[Path, typer.Option(help="METU patches: Negative/ and Positive/.")],
    sdnet: Annotated[Path, typer.Option(help="SDNET2018 patches: crack/ and no_crack/.")],
    uav: Annotated[Path, typer.Option(help="Drone photos: images/ and masks/.")],
    leave_out: Annotated[bool, typer.Option(help="Leave out what the last stage adds.")] = False,
    seed: Annotated[int, typer.Option(help="Of everything drawn at random.")] = 0,
    scale: Annotated[float, typer.Option(help="Share of the training, to try it out.")] = 1.0,
) -> None:
    """Trains the teachers and the student."""
    torch.set_num_threads(cores())
    sets = read_sets(out, metu, sdnet, uav, seed, scale)
    for name, items in sets.train.items():
        notice(f"{name}: {len(items)} images")
    teachers = [train_teacher(out, name, sets, seed, scale) for name in TEACHERS]
    if not (out / "teachers.npz").exists():
        scores = {
            name: teacher.answer(teachers, [x.path for x in items], TEST_SIZE)
            for name, items in (sets.test | sets.elsewhere).items()
        }
        with writing(out / "teachers.npz") as file:
            np.savez(file, **scores)
    shares = {name: share for name, (share, _) in STUDENT_SETS.items()}
    views = Views(sets.train, shares, int(VIEWS * scale), VIEW_SIZE, seed + 100)
    teacher.label(teachers, views, out / "views")
    of_set = np.load(out / "views" / "of_set.npy")
    rows = np.flatnonzero(~np.isin(np.array(list(STUDENT_SETS))[of_set], LAST))
    trunk = train_student(out, "trunk", rows, TRUNK, seed + 2, scale)
    rows = rows if leave_out else np.arange(len(of_set))
    name = "student-left-out" if leave_out else "student"
    train_student(out, name, rows, LAST_STAGE, seed + 3, scale, trunk)


def train_teacher(out: Path, name: str, sets: Sets, seed: int, scale: float) -> teacher.Teacher:
    """Trains a teacher, or loads it when it is trained."""
    variant, plan = TEACHERS[name]
    seed, checkpoint = seed + list(TEACHERS).index(name), out / f"{name}.pt"
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
    start: Path | None = None,
) -> Path:
    """Trains the student on the stored views in the given rows; returns its checkpoint.

    Its weights for Keras are written beside the checkpoint, as npz.
    """
    checkpoint = out / f"{name}.pt"
    if checkpoint.with_suffix(".npz").exists():  # Written last.
        return checkpoint
    learning_rate, counts = plan
    sizes = np.repeat(list(counts), [max(1, int(n * scale)) for n in counts.values()])
    schedule = rows[draw_schedule([len(rows)], [1.0], len(sizes) * BATCH_SIZE, seed)]
    torch.manual_seed(seed)
    net = student.Student()
    if start is not None:
        fitting.load(net, start)
    label_shares = np.array([share for _, share in STUDENT_SETS.values()])
    label_shares = label_shares[np.load(out / "views" / "of_set.npy")]
    schedule = schedule.reshape(-1, BATCH_SIZE)
    batches = student.Batches(out / "views", label_shares, schedule, sizes, seed)
    student.train(net, batches, learning_rate, checkpoint)
    with writing(checkpoint.with_suffix(".npz")) as file:
        np.savez(file, *student.to_keras(net))
    return checkpoint


if __name__ == "__main__":
    typer.run(main)
