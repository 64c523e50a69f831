"""What a careful person would want to know of a folder before training on it."""

import csv
import dataclasses
import io
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crackclf.data.audit import Files, audit_files
from crackclf.data.datasets import load_datasets
from crackclf.data.files import write_whole
from crackclf.data.splits import SUBSETS
from crackclf.errors import UserError, notice
from crackclf.evaluation.labels import label_probabilities
from crackclf.models.classifier import build_model
from crackclf.training.feature_cache import cache_features

_IMAGE_SIZE = 128  # Two thirds of the pixels at which models are trained.
_IMPROBABLE = 0.5
_LOPSIDED = 3


@dataclass(frozen=True)
class Suspicion:
    """An image whose label may be wrong.

    Attributes:
        file: relative to the directory.
        label: its class.
        probability: of that class, to a model that has not seen the image, in 0..1.
    """

    file: str
    label: str
    probability: float


@dataclass(frozen=True)
class Audit:
    """What `audit` found.

    Attributes:
        directory: what was looked at.
        files: what the files alone tell.
        suspicious: images whose own class is less probable than the other, the least probable
            first.
    """

    directory: str
    files: Files
    suspicious: tuple[Suspicion, ...]

    @property
    def findings(self) -> list[str]:
        """A sentence for each kind of thing that is amiss; none when the folder is clean."""
        return list(self._find())

    def to_dict(self) -> dict[str, Any]:
        """The audit as what JSON can hold."""
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
            yield f"images of {len(files.sizes):,} sizes: {_tell(files.sizes)}"
        if len(files.modes) > 1:
            yield f"images of {len(files.modes):,} kinds: {_tell(files.modes)}"
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
    """Looks through a data folder: its files, and then what a base makes of its images.

    Nothing is moved, changed or deleted.

    Args:
        directory: see `load_datasets`.

    Returns:
        An `Audit`.

    Raises:
        UserError: when the folder is not of this form, or one class is empty.
    """
    files = audit_files(directory)
    data = load_datasets(directory, _IMAGE_SIZE, skip_unreadable=True)
    features = cache_features(build_model(_IMAGE_SIZE), data)
    paths = [path for subset in SUBSETS for path in data.files[subset]]
    names = [str(path.relative_to(directory)) for path in paths]
    labels = np.concatenate([data.labels[subset] for subset in SUBSETS])
    # No copy may vouch for another. Of a file in both, the group of near-copies holds the other.
    copies = enumerate([*files.copies, *files.near_copies])
    group_of = {name: str(number) for number, group in copies for name in group}
    groups = [group_of.get(name, name) for name in names]
    stacked = np.concatenate([features[subset][:, 0] for subset in SUBSETS])
    try:
        own = label_probabilities(stacked, labels, groups)
    except UserError as error:
        notice(f"labels are not judged: {error}")
        own = np.ones(len(labels))
    suspicious = [
        Suspicion(names[i], data.class_names[labels[i]], float(own[i]))
        for i in np.argsort(own, kind="stable")
        if own[i] < _IMPROBABLE
    ]
    return Audit(str(directory), files, tuple(suspicious))


def copy_odd(found: Audit, folder: str | os.PathLike) -> None:
    """Copies the files that want looking at into a new folder, with a table of the reasons.

    Those that cannot be trained on, copies beside the first of each group, pictures that are in
    both classes or in more than one set, and those that look more like the other class. The
    originals stay.

    Args:
        found: from `audit`.
        folder: the folder to make; must not exist.
    """
    files, folder = found.files, Path(folder)
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
    for name in reasons:
        source, target = Path(found.directory) / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        # A pipe would be waited for, a device never end; the table names them all the same.
        if source.is_file() and os.access(source, os.R_OK):
            shutil.copy2(source, target)
    write_whole(folder / "reasons.csv", table.getvalue())


def _tell(counts: Any) -> str:
    common = sorted(counts.items(), key=lambda item: -item[1])
    told = ", ".join(f"{n:,} of {name}" for name, n in common[:4])
    return told + (f" and {len(common) - 4} more" if len(common) > 4 else "")
