"""What is wrong with a data folder: its files and its labels."""

import dataclasses
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from threadpoolctl import threadpool_limits

from crackclf.data import TooFewError, load_folds
from crackclf.errors import counted, notice
from crackclf.features import cache_features
from crackclf.files import format_table, user_path, writing
from crackclf.folders import group_alike, is_split, is_uneven, scan_folder
from crackclf.images import read_image
from crackclf.model import build_model
from crackclf.plots import plot_images
from crackclf.saving import SHIPPED_ORIGIN, read_learnt
from crackclf.splits import SUBSETS

_IMAGE_SIZE = 128  # Smaller than for training, and faster.
_FOLDS = 5
_SHOWN = 48
# Inverse strength of the penalty of the logistic regression, for one image. Of 331 labels of
# SDNET2018 that were wrong it finds 216 (870 images named), a head trained by Keras 165 (820).
_C = 3.0
_Groups = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Suspicion:
    """An image whose label may be wrong, with the probability (0..1) of its label."""

    file: str
    label: str
    probability: float


@dataclass(frozen=True)
class Audit:
    """What `audit` found. Names of files are their paths below the directory.

    `counts` are the images that can be trained on, by class; `problems` says of the other files why
    not. `sizes` and `modes` count images by "width x height" and by Pillow's mode. EXIF turns the
    images in `turned`, which most loaders ignore. Those in `blank` have one colour. `near_copies`
    are groups that look alike and are not all byte-identical. Groups of copies or near-copies in
    more than one class are `contradictions`, in more than one of train, validation and test
    `leaks`. `suspicious` are images whose label is less probable than not, the least probable
    first.
    """

    directory: str
    counts: Mapping[str, int]
    problems: Mapping[str, str]
    sizes: Mapping[str, int]
    modes: Mapping[str, int]
    turned: tuple[str, ...]
    blank: tuple[str, ...]
    copies: _Groups
    near_copies: _Groups
    contradictions: _Groups
    leaks: _Groups
    suspicious: tuple[Suspicion, ...] = ()

    @property
    def findings(self) -> list[str]:
        """One line for each kind of problem; empty when the folder is clean."""
        lines = []
        if self.problems:
            lines.append(f"{counted(len(self.problems), 'file')} that cannot be used")
        for groups, what in (
            (self.copies, "byte-identical files"),
            (self.near_copies, "images that look alike"),
            (self.contradictions, "copies or look-alikes in more than one class"),
            (self.leaks, "copies or look-alikes in more than one of the three sets"),
        ):
            if groups:
                total = f"{sum(map(len, groups)):,} in all"
                lines.append(f"{counted(len(groups), 'group')} of {what}, {total}")
        for counts, what in ((self.sizes, "sizes of images"), (self.modes, "kinds of pixels")):
            if len(counts) > 1:
                common = [f"{n:,} of {name}" for name, n in Counter(counts).most_common(4)]
                more = f" and {len(counts) - 4} more" if len(counts) > 4 else ""
                lines.append(f"{len(counts)} {what}: {', '.join(common)}{more}")
        if self.turned:
            lines.append(f"{counted(len(self.turned), 'image')} turned by EXIF")
        if self.blank:
            lines.append(f"{counted(len(self.blank), 'image')} of one colour")
        if is_uneven([*self.counts.values()]):
            lines.append("one class has more than three times as many images as another")
        if self.suspicious:
            images = counted(len(self.suspicious), "image")
            lines.append(f"{images} that may have a wrong label, the least probable label first")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """The audit as a dictionary for JSON."""
        return dataclasses.asdict(self) | {"findings": self.findings}

    def to_csv(self) -> str:
        """A table of the files to look at as CSV text: a row for each file and finding."""
        return format_table(("file", "finding", "probability"), self.rows())

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows of `to_csv`: of a group of copies or look-alikes all files but the first."""
        for name, problem in self.problems.items():
            yield {"file": name, "finding": problem}
        for name in self.blank:
            yield {"file": name, "finding": "shows one colour only"}
        for finding, groups in (("is a copy of", self.copies), ("looks like", self.near_copies)):
            for first, *others in groups:
                yield from ({"file": name, "finding": f"{finding} {first}"} for name in others)
        for where, groups in (("set", self.leaks), ("class", self.contradictions)):
            for name in sum(groups, ()):
                yield {"file": name, "finding": f"is, or looks like, an image of another {where}"}
        for item in self.suspicious:
            finding = f"does not look like {item.label}"
            yield {"file": item.file, "finding": finding, "probability": item.probability}

    def __str__(self) -> str:
        counts = ", ".join(f"{n:,} {name}" for name, n in self.counts.items())
        return "\n- ".join([f"{self.directory}: {counts}", *(self.findings or ["clean"])])


def audit(directory: str | os.PathLike) -> Audit:
    """Checks a data folder: its files, and its labels by the features of a frozen base.

    The folder has a folder per class, or is split into train, validation and test. It is not
    changed. A `UserError` says when it is not of this form or a class is empty.
    """
    found = _check_files(user_path(directory))
    try:
        return dataclasses.replace(found, suspicious=_check_labels(found))
    except TooFewError:
        notice(
            f"labels are not checked. Checking them needs {_FOLDS} images of each class that are "
            "not copies of one another"
        )
        return found


def _check_files(directory: Path) -> Audit:
    parts = [directory / subset for subset in SUBSETS] if is_split(directory) else [directory]
    images, problems = [], {}
    for part in parts:
        files, class_names = scan_folder(part)
        for file in files:
            name = str(file.path.relative_to(directory))
            if file.problem:
                problems[name] = file.problem
            else:
                images.append((name, class_names[file.label], part.name, file))
    columns: Any = zip(*images, strict=True) if images else [()] * 4
    names, classes, subsets, found = columns
    digests, alike = [x.digest for x in found], group_alike(found).tolist()

    def gather(keys: Sequence[object], other: Sequence[object] = names) -> _Groups:
        """Groups of names with equal keys, in which the other keys differ."""
        groups = defaultdict(list)
        for index, key in enumerate(keys):
            groups[key].append(index)
        mixed = (group for group in groups.values() if len({other[i] for i in group}) > 1)
        return tuple(tuple(names[i] for i in group) for group in mixed)

    return Audit(
        directory=str(directory),
        counts=dict(Counter(classes)),
        problems=problems,
        sizes=dict(Counter(f"{x.width} x {x.height}" for x in found)),
        modes=dict(Counter(x.mode for x in found)),
        turned=tuple(name for name, x in zip(names, found, strict=True) if not x.upright),
        blank=tuple(name for name, x in zip(names, found, strict=True) if x.blank),
        copies=gather(digests),
        near_copies=gather(alike, digests),
        contradictions=gather(alike, classes),
        leaks=gather(alike, subsets),
    )


def _check_labels(found: Audit) -> tuple[Suspicion, ...]:
    """Images whose label is less probable than not, by cross-validation.

    As in confident learning (Northcutt, Jiang & Chuang 2021, JAIR 70:1373).
    """
    directory = Path(found.directory)
    folds, data = load_folds(
        directory, _FOLDS, _IMAGE_SIZE, group_look_alikes=True, skip_unreadable=True
    )
    model = build_model(_IMAGE_SIZE, classes=len(data.class_names))
    features = cache_features(model, data, subsets=["train"])["train"][:, 0].astype(np.float32)
    is_shipped = model.weights_origin.startswith(SHIPPED_ORIGIN)
    if is_shipped and (seen := len(read_learnt().intersection(data.digests["train"]))):
        some = f"{counted(seen, 'image')} of this folder: the base that checks labels was trained"
        notice(f"{some} on them, so wrong labels among them may be missed")
    names, labels = data.files["train"], data.labels["train"]
    fold_of = {file: fold for fold, part in enumerate(folds) for file in part.files["test"]}
    split = PredefinedSplit([fold_of[file] for file in names])
    # A strong penalty, which keeps a classifier from learning the wrong labels themselves.
    penalty = _C / (len(names) * (1 - 1 / _FOLDS))
    classifier = LogisticRegression(C=penalty, class_weight="balanced", max_iter=1000)
    with threadpool_limits(1):  # Several threads are 2.7 times as slow: they wait.
        how: Any = {"cv": split, "method": "predict_proba"}
        answers: Any = cross_val_predict(classifier, features, labels, **how)
    own = answers[range(len(names)), labels].tolist()
    return tuple(
        Suspicion(str(names[i].relative_to(directory)), data.class_names[labels[i]], own[i])
        for i in np.argsort(own, kind="stable")
        if own[i] < 0.5
    )


def copy_findings(found: Audit, folder: str | os.PathLike) -> bool:
    """Copies the files of `Audit.to_csv` into a new folder; returns whether there were any.

    The table is `findings.csv`; `suspicious.png` shows the most suspicious labels. Without any such
    file no folder is made.
    """
    names = {row["file"] for row in found.rows()}
    if not names:
        return False
    with writing(folder) as draft:
        for name in names:
            source, target = Path(found.directory, name), draft / name
            target.parent.mkdir(parents=True, exist_ok=True)
            # What cannot be read is in the table only.
            if source.is_file() and os.access(source, os.R_OK):
                shutil.copy2(source, target)
        (draft / "findings.csv").write_text(found.to_csv(), encoding="utf-8")
        if shown := found.suspicious[:_SHOWN]:
            images = [read_image(Path(found.directory, item.file)) for item in shown]
            titles = [f"{item.file}\n{item.label} {item.probability:.2f}" for item in shown]
            plot_images(images, titles).savefig(draft / "suspicious.png", dpi=120)
    return True
