"""Folders of images become leak-free train, validation and test sets for `tf.data`."""

import csv
import hashlib
import io
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crackclf.data.folders import ImageFile, is_split, read_folder, report_skipped
from crackclf.data.splits import SUBSETS, connect, split_groups
from crackclf.data.trees import link_tree, read_tree, tree_name
from crackclf.errors import UserError, notice

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class Datasets:
    """The three sets of one data folder, with what `tf.data` forgets about them.

    Attributes:
        train: batches of (float32 images in 0..255, one-hot labels), shuffled anew each epoch.
        validation: likewise, in the order of `files["validation"]`.
        test: likewise, in the order of `files["test"]`.
        class_names: the sorted names of the two class folders.
        files: for each of "train", "validation" and "test", its files in order of class and
            name.
        labels: for each, the class indices of those files.
        digests: for each, the digests of those files.
        image_size: height and width of the images in pixels.
        batch_size: images per batch.
        patch_size: the images' own side in pixels before they were resized, the median over the
            training set.
        skipped: files left out, each with the reason.
        split: the folder of links from which the sets are read.
    """

    train: "tf.data.Dataset" = field(repr=False)
    validation: "tf.data.Dataset" = field(repr=False)
    test: "tf.data.Dataset" = field(repr=False)
    class_names: tuple[str, ...]
    files: Mapping[str, tuple[Path, ...]] = field(repr=False)
    labels: Mapping[str, np.ndarray] = field(repr=False)
    digests: Mapping[str, tuple[str, ...]] = field(repr=False)
    image_size: int
    batch_size: int
    patch_size: int
    skipped: Mapping[Path, str] = field(repr=False)
    split: Path

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Number of images by subset and class name."""
        return {
            subset: {
                name: int((labels == index).sum()) for index, name in enumerate(self.class_names)
            }
            for subset, labels in self.labels.items()
        }

    @property
    def fingerprint(self) -> str:
        """Digest of every file's content, class and subset: equal data, equal fingerprint."""
        rows = sorted(
            f"{subset} {self.class_names[label]} {digest}"
            for subset in SUBSETS
            for label, digest in zip(self.labels[subset], self.digests[subset], strict=True)
        )
        return hashlib.sha256("\n".join(rows).encode()).hexdigest()

    def split_table(self) -> str:
        """The split as CSV text: subset, class, digest and path of every file."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["subset", "class", "digest", "file"])
        for subset in SUBSETS:
            for label, digest, path in zip(
                self.labels[subset], self.digests[subset], self.files[subset], strict=True
            ):
                writer.writerow([subset, self.class_names[label], digest, path])
        return text.getvalue()


def load_datasets(
    directory: str | os.PathLike,
    image_size: int = 160,
    batch_size: int = 32,
    validation_split: float = 0.2,
    test_split: float = 0.2,
    seed: int = 0,
    group_by: str | None = None,
    skip_unreadable: bool = False,
) -> Datasets:
    r"""Loads a folder of images as train, validation and test sets.

    The split is stratified by class, the same for the same seed, and leak-free: byte-identical
    files, and files that share a `group_by` key, land in one subset. It is laid out as a folder
    of links (`Datasets.split`), read by `keras.utils.image_dataset_from_directory`, which
    prefetches. A folder that already holds `train/`, `validation/` and `test/` is used as it is.

    Args:
        directory: a folder with two sub-folders of JPEG, PNG, BMP or GIF images, one per class.
        image_size: height and width in pixels to which images are resized (bilinear).
        batch_size: images per batch.
        validation_split: share of the images for validation, between 0 and 1.
        test_split: share of the images for testing, between 0 and 1.
        seed: of the split and of the shuffling.
        group_by: regular expression searched in each file's name; its first group (or the
            whole match) is the key that holds files together, e.g. the photo number in
            `7001-115.jpg` with `r"(\d+)-"`.
        skip_unreadable: leave out files that cannot be read, and list them, instead of raising.

    Returns:
        A `Datasets`.

    Raises:
        UserError: when the folder, a file in it or an argument cannot be used.

    Example:

    ```python
    data = load_datasets("data/metu", seed=1)
    print(data.counts)
    ```
    """
    directory = Path(directory)
    for name, value in {"image_size": image_size, "batch_size": batch_size}.items():
        if value < 1:
            raise UserError(f"{name} must be at least 1. Received: {value}.")
    if is_split(directory):
        parts = [read_folder(directory / subset, skip_unreadable) for subset in SUBSETS]
        if len({tuple(names) for _, names, _ in parts}) > 1:
            raise UserError(
                f"{directory}: train, validation and test must hold the same class folders. "
                f"Received: {[names for _, names, _ in parts]}."
            )
        images = {subset: part[0] for subset, part in zip(SUBSETS, parts, strict=True)}
        class_names = parts[0][1]
        skipped = {path: problem for part in parts for path, problem in part[2].items()}
        _warn_of_leaks(directory, images)
    else:
        listed, class_names, skipped = read_folder(directory, skip_unreadable)
        images = _split(
            directory, listed, class_names, (validation_split, test_split), seed, group_by
        )
    report_skipped(skipped)
    # The order in which Keras will list the tree.
    images = {
        subset: sorted(images[subset], key=lambda image: (image.label, tree_name(image)))
        for subset in SUBSETS
    }
    tree = link_tree(directory, images, class_names)
    sets = {
        subset: read_tree(tree / subset, images[subset], class_names, image_size, batch_size, seed)
        for subset in SUBSETS
    }
    return Datasets(
        **sets,
        class_names=tuple(class_names),
        files={subset: tuple(image.path for image in images[subset]) for subset in SUBSETS},
        labels={subset: np.array([image.label for image in images[subset]]) for subset in SUBSETS},
        digests={subset: tuple(image.digest for image in images[subset]) for subset in SUBSETS},
        image_size=image_size,
        batch_size=batch_size,
        patch_size=int(np.median([image.side for image in images["train"]])),
        skipped=skipped,
        split=tree,
    )


def _split(
    directory: Path,
    images: Sequence[ImageFile],
    class_names: Sequence[str],
    held_out: tuple[float, float],
    seed: int,
    group_by: str | None,
) -> dict[str, list[ImageFile]]:
    fractions = (1 - sum(held_out), *held_out)
    if min(fractions) <= 0:
        raise UserError(
            "validation_split and test_split must be above 0 and leave something to train on. "
            f"Received: validation_split={held_out[0]}, test_split={held_out[1]}."
        )
    keys: list[list[str]] = [[image.digest for image in images]]
    if group_by is not None:
        keys.append([_group_key(group_by, image.path) for image in images])
    labels = np.array([image.label for image in images])
    subset_of = split_groups(labels, connect(*keys), fractions, seed)
    split: dict[str, list[ImageFile]] = {subset: [] for subset in SUBSETS}
    for image, index in zip(images, subset_of, strict=True):
        split[SUBSETS[index]].append(image)
    for subset in SUBSETS:
        missing = set(range(len(class_names))) - {image.label for image in split[subset]}
        if missing:
            raise UserError(
                f"{directory}: too few independent images of class "
                f"{class_names[missing.pop()]!r} to give {subset} one of them at "
                f"validation_split={held_out[0]}, test_split={held_out[1]}. Add images or raise "
                "the share."
            )
    return split


def _group_key(pattern: str, path: Path) -> str:
    try:
        match = re.search(pattern, path.name)
    except re.error as error:
        raise UserError(f"group_by={pattern!r} is not a regular expression: {error}.") from None
    if match is None:
        raise UserError(
            f"{path}: group_by={pattern!r} matches nothing in this file's name; every file needs "
            "a group."
        )
    return (match[1] if match.re.groups else None) or match[0]


def _warn_of_leaks(directory: Path, images: Mapping[str, Sequence[ImageFile]]) -> None:
    seen = {image.digest for subset in SUBSETS[:2] for image in images[subset]}
    leaked = [image.path for image in images["test"] if image.digest in seen]
    if leaked:
        notice(
            f"{directory}: {len(leaked)} test images also stand, byte for byte, in train or "
            f"validation (the first: {leaked[0]}), so test figures will be too good."
        )
