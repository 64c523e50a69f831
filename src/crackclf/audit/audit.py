"""What is wrong with a data folder: its files and its labels."""

import dataclasses
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from tqdm import tqdm

from crackclf.audit.files import Files, audit_files
from crackclf.data.folders import is_uneven
from crackclf.data.loading import TooFewError, load_folds
from crackclf.errors import counted, notice
from crackclf.files import building, format_table, user_path, write_whole
from crackclf.models.classifier import build_model
from crackclf.training.fit import predict_features, train

_IMAGE_SIZE = 128  # Smaller than for training, and faster.
_FOLDS = 5
_IMPROBABLE = 0.5


@dataclass(frozen=True)
class Suspicion:
    """An image whose label may be wrong.

    Attributes:
        file: relative to the directory.
        label: its class.
        probability: of that class, by a model that has not seen the image, in 0..1.
    """

    file: str
    label: str
    probability: float


@dataclass(frozen=True)
class Audit:
    """What `audit` found.

    Attributes:
        directory: the data folder.
        files: what the files alone show.
        suspicious: images whose label is less probable than not, the least probable first.
    """

    directory: str
    files: Files
    suspicious: tuple[Suspicion, ...]

    @property
    def findings(self) -> list[str]:
        """One line for each kind of problem; empty when the folder is clean."""
        return list(self._find())

    def to_dict(self) -> dict[str, Any]:
        """The audit as a dictionary for JSON."""
        return dataclasses.asdict(self) | {"findings": self.findings}

    def __str__(self) -> str:
        counts = ", ".join(f"{n:,} {name}" for name, n in self.files.counts.items())
        lines = [f"{self.directory}: {counts}"]
        return "\n".join([*lines, *(f"- {finding}" for finding in self.findings or ["clean"])])

    def _find(self) -> Iterator[str]:
        files = self.files
        if files.problems:
            yield f"{counted(len(files.problems), 'file')} that cannot be used"
        if files.copies:
            total = sum(map(len, files.copies))
            yield f"{counted(len(files.copies), 'group')} of byte-identical files, {total:,} in all"
        if files.near_copies:
            total = sum(map(len, files.near_copies))
            groups = counted(len(files.near_copies), "group")
            yield f"{groups} of images that look alike, {total:,} in all"
        if files.contradictions:
            groups = counted(len(files.contradictions), "group")
            yield f"{groups} of copies or look-alikes in more than one class"
        if files.leaks:
            groups = counted(len(files.leaks), "group")
            yield f"{groups} of copies or look-alikes in more than one of the three sets"
        if len(files.sizes) > 1:
            yield f"{counted(len(files.sizes), 'size')} of images: {_list_common(files.sizes)}"
        if len(files.modes) > 1:
            yield f"{counted(len(files.modes), 'kind')} of pixels: {_list_common(files.modes)}"
        if files.turned:
            yield f"{counted(len(files.turned), 'image')} turned by EXIF"
        if is_uneven([*files.counts.values()]):
            yield "one class has more than three times as many images as another"
        if self.suspicious:
            images = counted(len(self.suspicious), "image")
            yield f"{images} that may have a wrong label, the least probable label first"


def audit(directory: str | os.PathLike) -> Audit:
    """Checks a data folder: its files, and its labels by the features of a frozen base.

    Nothing is moved, changed or deleted.

    Args:
        directory: a folder with a folder per class, or one split into train, validation and test.

    Returns:
        An `Audit`.

    Raises:
        UserError: when the folder is not of this form, or one class is empty.

    Example:

    ```python
    print(audit("data/metu"))
    ```
    """
    files = audit_files(directory)
    try:
        suspicious = _judge_labels(user_path(directory), files)
    except TooFewError:
        notice(
            f"labels are not checked. Checking them needs {_FOLDS} images of each class that are "
            "not copies of one another"
        )
        suspicious = []
    return Audit(str(directory), files, tuple(suspicious))


def _judge_labels(directory: Path, files: Files) -> list[Suspicion]:
    """Images whose label is less probable than not, by cross-validation.

    As in confident learning (Northcutt, Jiang & Chuang 2021, JAIR 70:1373).
    """
    # Copies are judged together. A group of near-copies includes the copies of its members.
    copies = enumerate([*files.copies, *files.near_copies])
    groups = {directory / name: number for number, group in copies for name in group}
    parts, _ = load_folds(directory, _FOLDS, _IMAGE_SIZE, skip_unreadable=True, groups=groups)
    found = []
    model = build_model(_IMAGE_SIZE, classes=len(parts[0].class_names))
    start, settings = model.get_weights(), model.optimizer.get_config()
    for data in tqdm(parts, "Checking labels", unit=" folds"):
        model.set_weights(start)
        model.compile(keras.optimizers.Adam.from_config(settings), model.loss)
        train(model, data, [], views=0, verbose=0)
        labels = data.labels["test"]
        own = predict_features(model, data)[np.arange(len(labels)), labels]
        for file, label, probability in zip(data.files["test"], labels, own, strict=True):
            if probability < _IMPROBABLE:
                name = str(file.relative_to(directory))
                found.append(Suspicion(name, data.class_names[label], float(probability)))
    return sorted(found, key=lambda item: item.probability)


def copy_odd(found: Audit, folder: str | os.PathLike) -> bool:
    """Copies the files to look at into a new folder, with a table of the reasons.

    These are files that cannot be trained on, all copies but the first of each group, pictures
    that are in two classes or in more than one set, and those that look more like another
    class. The originals stay.

    Args:
        found: from `audit`.
        folder: the folder to make; must not exist.

    Returns:
        Whether there was anything to copy; else no folder is made.

    Raises:
        OSError: when it cannot be written.
    """
    files = found.files
    reasons = dict(files.problems)
    for groups, reason in (
        ([group[1:] for group in files.copies], "is a copy"),
        ([group[1:] for group in files.near_copies], "looks like another"),
        (files.leaks, "is in more than one set"),
        (files.contradictions, "is in more than one class"),
    ):
        reasons |= {name: reason for group in groups for name in group}
    reasons |= {item.file: f"does not look like {item.label}" for item in found.suspicious}
    if not reasons:
        return False
    rows = ({"file": name, "reason": reason} for name, reason in reasons.items())
    with building(folder) as draft:
        for name in reasons:
            source, target = Path(found.directory) / name, draft / name
            target.parent.mkdir(parents=True, exist_ok=True)
            # Pipes and devices cannot be copied; they are in the table only.
            if source.is_file() and os.access(source, os.R_OK):
                shutil.copy2(source, target)
        write_whole(draft / "reasons.csv", format_table(("file", "reason"), rows))
    return True


def _list_common(counts: Mapping[str, int]) -> str:
    common = sorted(counts.items(), key=lambda item: -item[1])
    listed = ", ".join(f"{n:,} of {name}" for name, n in common[:4])
    return listed + (f" and {len(common) - 4} more" if len(common) > 4 else "")
