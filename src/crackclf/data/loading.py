"""Folders of images become leak-free train, validation and test sets."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from crackclf.data.datasets import Datasets
from crackclf.data.folders import ImageFile, is_split, read_folder, report_skipped
from crackclf.data.splits import SUBSETS, connect, split_groups
from crackclf.data.trees import tree_name
from crackclf.errors import UserError, check_at_least, notice
from crackclf.files import user_path
from crackclf.images.size import check_size

_LEAST = 20  # Images of a class to validate or test on: a share of few images is next to none.


class TooFewError(UserError):
    """A class has too few images that are independent of one another."""


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

    The split is stratified by class and depends on the files and the seed only. Byte-identical
    files, and files with the same match of `group_by`, stay in one set. The sets are folders of
    links (`Datasets.split`), read by `keras.utils.image_dataset_from_directory`. A folder that
    already holds `train/`, `validation/` and `test/` is used as it is.

    Args:
        directory: a folder with two or more sub-folders, one per class, of JPEG, PNG, BMP, GIF,
            TIFF or WebP images.
        image_size: height and width of the resized images in pixels.
        batch_size: images per batch.
        validation_split: share of the images for validation, between 0 and 1.
        test_split: share of the images for testing, between 0 and 1.
        seed: seed of the split and of the shuffling, 0 or more.
        group_by: regular expression, searched in each file name. Files with the same match stay in
            one set. The match is the first group, or all of it, e.g. `r"(\d+)-"` for the photo
            number in `7001-115.jpg`.
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
    directory = user_path(directory)
    images, class_names, skipped = _read(directory, skip_unreadable)
    if len(images) == len(SUBSETS):
        _warn_of_leaks(directory, images)
    else:
        groups = find_groups(images[""], group_by)
        images = _split(
            directory, images[""], groups, class_names, (validation_split, test_split), seed
        )
    report_skipped(skipped)
    data = _make(directory, images, class_names, image_size, batch_size, seed, skipped)
    _ = data.split  # To be looked at, whatever is done with the sets.
    return data


def load_folds(
    directory: str | os.PathLike,
    folds: int = 5,
    image_size: int = 160,
    batch_size: int = 32,
    seed: int = 0,
    group_by: str | None = None,
    skip_unreadable: bool = False,
    groups: Mapping[Path, object] | None = None,
) -> tuple[tuple[Datasets, ...], Datasets]:
    r"""Loads a folder of images for cross-validation.

    The folds are stratified by class. Byte-identical files, and files with the same match of
    `group_by`, stay in one fold. Each fold is the test set of one `Datasets` and the validation
    set of the one before it.

    Args:
        directory: a folder with two or more sub-folders of images, one per class. The sets of a
            folder that is already split are joined.
        folds: number of folds, 3 or more.
        image_size: height and width of the resized images in pixels.
        batch_size: images per batch.
        seed: seed of the folds and of the shuffling, 0 or more.
        group_by: regular expression, searched in each file name. Files with the same match stay in
            one set. The match is the first group, or all of it, e.g. `r"(\d+)-"` for the photo
            number in `7001-115.jpg`.
        skip_unreadable: leave out files that cannot be read, and list them, instead of raising.
        groups: a key by file. Files with the same key stay in one fold, too.

    Returns:
        A `Datasets` for each fold; and one with all images in its training set.

    Raises:
        TooFewError: a `UserError`, when a class has too few independent images for the folds.
        UserError: when the folder, a file in it or an argument cannot be used.

    Example:

    ```python
    folds, everything = load_folds("data/metu", folds=5)
    print(folds[0].counts)
    ```
    """
    check_at_least(3, folds=folds)
    directory = user_path(directory)
    parts, class_names, skipped = _read(directory, skip_unreadable)
    images = [image for part in parts.values() for image in part]
    keys = find_groups(images, group_by)
    if groups is not None:
        keys = connect(keys.tolist(), [groups.get(image.path, image.path) for image in images])
    labels = np.array([image.label for image in images])
    fold_of = split_groups(labels, keys, [1 / folds] * folds, seed)
    for label, name in enumerate(class_names):
        if len(np.unique(fold_of[labels == label])) < folds:
            raise TooFewError(
                f"{directory / name}: has {len(np.unique(keys[labels == label]))} independent "
                f"images, too few for {folds} folds. Add images, or ask for fewer folds."
            )
    dealt = [[x for x, at in zip(images, fold_of, strict=True) if at == k] for k in range(folds)]
    parts = [
        {
            "train": [x for k in range(2, folds) for x in dealt[(fold + k) % folds]],
            "validation": dealt[(fold + 1) % folds],
            "test": dealt[fold],
        }
        for fold in range(folds)
    ]
    whole = {"train": images, "validation": [], "test": []}
    report_skipped(skipped)
    *of_folds, everything = (
        _make(directory, part, class_names, image_size, batch_size, seed, skipped)
        for part in (*parts, whole)
    )
    return tuple(of_folds), everything


def _read(
    directory: Path, skip_unreadable: bool
) -> tuple[dict[str, list[ImageFile]], list[str], dict[Path, str]]:
    """The images by subset, of a folder that is not split all as subset ""."""
    subsets = SUBSETS if is_split(directory) else ("",)
    parts = [read_folder(directory / subset, skip_unreadable) for subset in subsets]
    if len({tuple(names) for _, names, _ in parts}) > 1:
        raise UserError(
            f"{directory}: train, validation and test must hold the same class folders. "
            f"Received: {[names for _, names, _ in parts]}."
        )
    images = {subset: part[0] for subset, part in zip(subsets, parts, strict=True)}
    skipped = {path: problem for part in parts for path, problem in part[2].items()}
    return images, parts[0][1], skipped


def _make(
    directory: Path,
    images: Mapping[str, Sequence[ImageFile]],
    class_names: Sequence[str],
    image_size: int,
    batch_size: int,
    seed: int,
    skipped: Mapping[Path, str],
) -> Datasets:
    check_at_least(1, batch_size=batch_size)
    # The order in which Keras will list the tree.
    images = {
        subset: tuple(sorted(images[subset], key=lambda image: (image.label, tree_name(image))))
        for subset in SUBSETS
    }
    return Datasets(
        images=images,
        class_names=tuple(class_names),
        image_size=check_size(image_size),
        batch_size=batch_size,
        seed=seed,
        skipped=skipped,
        directory=directory,
    )


def _split(
    directory: Path,
    images: Sequence[ImageFile],
    groups: np.ndarray,
    class_names: Sequence[str],
    held_out: tuple[float, float],
    seed: int,
) -> dict[str, list[ImageFile]]:
    fractions = (1 - sum(held_out), *held_out)
    if min(fractions) <= 0:
        raise UserError(
            "validation_split and test_split must be above 0 and leave something to train on. "
            f"Received: validation_split={held_out[0]}, test_split={held_out[1]}."
        )
    labels = np.array([image.label for image in images])
    subset_of = split_groups(labels, groups, fractions, seed, _LEAST)
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


def find_groups(images: Sequence[ImageFile], group_by: str | None) -> np.ndarray:
    """Numbers what must not be torn apart: copies, and images of the same key."""
    keys: list[list[str]] = [[image.digest for image in images]]
    if group_by is not None:
        keys.append([_group_key(group_by, image.path) for image in images])
    return connect(*keys)


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
