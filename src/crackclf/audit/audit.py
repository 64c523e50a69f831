"""What is wrong with a data folder: its files and its labels."""

import csv
import dataclasses
import io
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crackclf.audit.files import Files, audit_files
from crackclf.audit.labels import label_probabilities
from crackclf.data.datasets import load_datasets
from crackclf.data.splits import SUBSETS
from crackclf.errors import UserError, notice
from crackclf.features.cache import cache_features
from crackclf.files import building
from crackclf.models.classifier import build_model

_IMAGE_SIZE = 128  # Smaller than for training, and faster.
_IMPROBABLE = 0.5
_LOPSIDED = 3


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
        suspicious: images whose label is less probable than the other class, the least probable
            first.
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
            yield f"{len(files.problems):,} files cannot be trained on"
        if files.copies:
            total = sum(map(len, files.copies))
            yield f"{len(files.copies):,} groups of byte-identical files, {total:,} in all"
        if files.near_copies:
            total = sum(map(len, files.near_copies))
            yield f"{len(files.near_copies):,} groups of images that look alike, {total:,} in all"
        if files.contradictions:
            yield f"{len(files.contradictions):,} of these groups are in both classes"
        if files.leaks:
            yield f"{len(files.leaks):,} of these groups are in more than one of the three sets"
        if len(files.sizes) > 1:
            yield f"images of {len(files.sizes):,} sizes: {_list_common(files.sizes)}"
        if len(files.modes) > 1:
            yield f"images of {len(files.modes):,} kinds: {_list_common(files.modes)}"
        if files.turned:
            yield f"{len(files.turned):,} images that EXIF turns"
        if max(files.counts.values()) > _LOPSIDED * min(files.counts.values()):
            yield f"one class has more than {_LOPSIDED} times as many images as the other"
        if self.suspicious:
            yield (
                f"{len(self.suspicious):,} images look more like the other class; look at the "
                "first of them for wrong labels"
            )


def audit(directory: str | os.PathLike) -> Audit:
    """Checks a data folder: its files, and its labels by the features of a frozen base.

    Nothing is moved, changed or deleted.

    Args:
        directory: a folder with two class folders, or one split into train, validation and test.

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
    data = load_datasets(directory, _IMAGE_SIZE, skip_unreadable=True)
    features = cache_features(build_model(_IMAGE_SIZE), data)
    paths = [path for subset in SUBSETS for path in data.files[subset]]
    names = [str(path.relative_to(directory)) for path in paths]
    labels = np.concatenate([data.labels[subset] for subset in SUBSETS])
    # Copies are judged together. A group of near-copies includes the copies of its members.
    copies = enumerate([*files.copies, *files.near_copies])
    group_of = {name: str(number) for number, group in copies for name in group}
    groups = [group_of.get(name, name) for name in names]
    stacked = np.concatenate([features[subset][:, 0] for subset in SUBSETS])
    try:
        own = label_probabilities(stacked, labels, groups)
    except UserError as error:
        notice(f"the labels are not judged: {error}")
        own = np.ones(len(labels))
    suspicious = [
        Suspicion(names[i], data.class_names[labels[i]], float(own[i]))
        for i in np.argsort(own, kind="stable")
        if own[i] < _IMPROBABLE
    ]
    return Audit(str(directory), files, tuple(suspicious))


def copy_odd(found: Audit, folder: str | os.PathLike) -> None:
    """Copies the files to look at into a new folder, with a table of the reasons.

    These are files that cannot be trained on, all copies but the first of each group, pictures
    that are in both classes or in more than one set, and those that look more like the other
    class. The originals stay.

    Args:
        found: from `audit`.
        folder: the folder to make; must not exist.

    Raises:
        OSError: when it cannot be written.
    """
    files = found.files
    reasons = dict(files.problems)
    for groups, reason in (
        ([group[1:] for group in files.copies], "is a copy"),
        ([group[1:] for group in files.near_copies], "looks like another"),
        (files.leaks, "is in more than one set"),
        (files.contradictions, "is in both classes"),
    ):
        reasons |= {name: reason for group in groups for name in group}
    reasons |= {item.file: f"does not look like {item.label}" for item in found.suspicious}
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerows([("file", "reason"), *reasons.items()])
    with building(folder) as draft:
        for name in reasons:
            source, target = Path(found.directory) / name, draft / name
            target.parent.mkdir(parents=True, exist_ok=True)
            # Pipes and devices cannot be copied; they are in the table only.
            if source.is_file() and os.access(source, os.R_OK):
                shutil.copy2(source, target)
        (draft / "reasons.csv").write_text(table.getvalue(), encoding="utf-8")


def _list_common(counts: Mapping[str, int]) -> str:
    common = sorted(counts.items(), key=lambda item: -item[1])
    listed = ", ".join(f"{n:,} of {name}" for name, n in common[:4])
    return listed + (f" and {len(common) - 4} more" if len(common) > 4 else "")
