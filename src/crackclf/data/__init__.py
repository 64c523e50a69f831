"""Folders of images become leak-free train, validation and test sets, read by Keras."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crackclf.data.trees import lay_out
from crackclf.errors import (
    UserError,
    check_at_least,
    check_image_size,
    counted,
    learning,
    notice,
    show,
)
from crackclf.files import format_table, user_path
from crackclf.folders import ImageFile, group_alike, is_split, merge_classes, read_folder
from crackclf.splits import SUBSETS, connect, split_groups

if TYPE_CHECKING:
    import tensorflow as tf

_SHARE = 0.2
# Endings of names that programs give to augmented copies: Roboflow's, and words for what was done.
_AUGMENTED = re.compile(
    r"((_(jpe?g|png))?\.rf\.[0-9a-f]{8,}|[-_ ]([hv]?_?flip(ped)?(_?(lr|ud|[hv]))?|mirror(ed)?|"
    r"rot(at(ed|ion))?_?-?\d*|aug(mented)?[-_]?\d*|(bright|dark|nois|blur|shear|zoom|crop)\w*))+$",
    re.IGNORECASE,
)
_COPIES = 64  # Of one source at most: names with one stem for all images tell of no source.
_LEAST = 20  # Images of a class to validate or test on: a share of few images is next to none.


class TooFewError(UserError):
    """A class has too few images that are independent of one another."""


@dataclass(frozen=True, eq=False)
class Datasets:
    """The train, validation and test sets of one data folder.

    Attributes:
        directory: the data folder.
        class_names: the sorted names of the class folders.
        image_size: height and width in pixels to which images are resized.
        batch_size: images per batch.
        seed: of the shuffling.
        skipped: files left out, each with the reason.
        images: the images of "train", "validation" and "test", in order of class and name.
        whole: for a fold, all images of the folder, whose features are cached once for all folds.
    """

    directory: Path
    class_names: tuple[str, ...]
    image_size: int
    batch_size: int
    seed: int
    skipped: Mapping[Path, str]
    images: Mapping[str, tuple[ImageFile, ...]]
    whole: "Datasets | None" = None

    @cached_property
    def files(self) -> dict[str, tuple[Path, ...]]:
        """The paths of the images, by subset."""
        return {subset: tuple(x.path for x in images) for subset, images in self.images.items()}

    @cached_property
    def labels(self) -> dict[str, np.ndarray]:
        """The class indices of the images, int of shape (n,), by subset."""
        return {name: np.array([x.label for x in part], int) for name, part in self.images.items()}

    @cached_property
    def digests(self) -> dict[str, tuple[str, ...]]:
        """The digests of the images' files, by subset."""
        return {subset: tuple(x.digest for x in images) for subset, images in self.images.items()}

    @cached_property
    def counts(self) -> dict[str, dict[str, int]]:
        """Number of images by subset and class name."""
        return {
            subset: {name: int((labels == i).sum()) for i, name in enumerate(self.class_names)}
            for subset, labels in self.labels.items()
        }

    @cached_property
    def patch_size(self) -> int:
        """The images' own side in pixels: the median over the training set."""
        return int(np.median([min(x.width, x.height) for x in self.images["train"]]))

    @cached_property
    def fingerprint(self) -> str:
        """A digest of every file's content, class and subset; the same for equal data."""
        names = self.class_names
        rows = sorted(f"{subset} {names[x.label]} {x.digest}" for subset, x in self._pairs())
        return hashlib.sha256("\n".join(rows).encode()).hexdigest()

    @cached_property
    def train(self) -> "tf.data.Dataset":
        """Batches to train on, shuffled anew each epoch.

        Each is float32 images (n, height, width, 3) in 0..255 and one-hot labels (n, classes).
        """
        return self.read("train", shuffle=True)

    @cached_property
    def validation(self) -> "tf.data.Dataset":
        """The same to watch the training on, in the order of `files`."""
        return self.read("validation")

    @cached_property
    def test(self) -> "tf.data.Dataset":
        """The same to test the trained model on, in the order of `files`."""
        return self.read("test")

    @cached_property
    def split(self) -> Path:
        """The folder of links from which the sets are read; made when first used."""
        return lay_out(self.directory, self.images, self.class_names)

    def read(self, subset: str, shuffle: bool = False) -> "tf.data.Dataset":
        """Reads a subset batch by batch, in the order of `files` unless it is to be shuffled."""
        with learning():
            import keras
            import tensorflow as tf
        folder = self.split / subset
        dataset: Any = keras.utils.image_dataset_from_directory(
            folder,
            label_mode="categorical",
            class_names=list(self.class_names),
            batch_size=self.batch_size,
            image_size=(self.image_size, self.image_size),
            shuffle=shuffle,
            seed=self.seed,
            verbose=False,
        )
        if len(dataset.file_paths) != len(self.images[subset]):
            raise UserError(f"{folder}: holds other files than the split; delete {folder.parent}.")
        return dataset.prefetch(tf.data.AUTOTUNE)

    def split_table(self) -> str:
        """The split as CSV text: subset, class, digest and path of every file."""
        columns, names = ("subset", "class", "digest", "file"), self.class_names
        rows = ((name, names[x.label], x.digest, x.path) for name, x in self._pairs())
        return format_table(columns, (dict(zip(columns, row, strict=True)) for row in rows))

    def _pairs(self) -> Iterator[tuple[str, ImageFile]]:
        return ((subset, image) for subset, images in self.images.items() for image in images)

    def __repr__(self) -> str:
        size = f"{self.image_size} pixels, batches of {self.batch_size}"
        return f"Datasets({self.counts}, {size}, {len(self.skipped)} files left out)"


def load_datasets(
    directory: str | os.PathLike,
    image_size: int = 160,
    batch_size: int = 32,
    validation_split: float = _SHARE,
    test_split: float = _SHARE,
    seed: int = 0,
    group_by: str | None = None,
    group_look_alikes: bool = False,
    skip_unreadable: bool = False,
    positive: str | None = None,
) -> Datasets:
    r"""Loads a folder of images as train, validation and test sets.

    The split is stratified by class and depends on the files and the seed only. Byte-identical
    files, and files with the same match of `group_by`, stay in one set. A folder that already holds
    `train/`, `validation/` and `test/` is used as it is; a notice names sets that share images.

    Args:
        directory: a folder with one sub-folder per class of JPEG, PNG, BMP, GIF, TIFF or WebP.
        image_size: height and width of the resized images in pixels.
        batch_size: images per batch.
        validation_split: share of the images for validation, between 0 and 1.
        test_split: share of the images for testing, between 0 and 1.
        seed: seed of the split and of the shuffling, 0 or more.
        group_by: regular expression searched in each file name. Its first group, or all of its
            match, is the file's group, e.g. `r"(\d+)-"` for the photo number in `7001-115.jpg`.
        group_look_alikes: keep images that look alike in one set, also mirrored or turned ones.
        skip_unreadable: leave out files that cannot be read, and list them, instead of raising.
        positive: several class folders that become one class of this name, such as "a,b".

    Returns:
        The `Datasets`: `train`, `validation` and `test` are `tf.data.Dataset`s; `class_names`,
        `files`, `labels`, `counts` and `digests` say what is in them; `split` is the folder of
        links from which Keras reads them; `read` reads one anew.

    Raises:
        UserError: when the folder, a file in it or an argument cannot be used.

    Examples:
        >>> data = load_datasets("data/metu", seed=1)
        >>> print(data.counts)
    """
    sizes = image_size, batch_size, seed
    data, images, subset_of = _read(directory, skip_unreadable, positive, *sizes)
    groups = find_groups(images, group_by, group_look_alikes)
    shares = validation_split, test_split
    received = f"Received: validation_split={validation_split}, test_split={test_split}."
    if not subset_of[0]:
        fractions, labels = (1 - sum(shares), *shares), np.array([image.label for image in images])
        if min(fractions) > 0:
            subset_of = np.array(SUBSETS)[split_groups(labels, groups, fractions, seed, _LEAST)]
        if any(len(set(subset_of[labels == label])) < 3 for label in set(labels)):
            needed = "each set needs a share above 0 and an independent image of each class"
            raise UserError(f"{directory}: {needed}. {received} Add images or change the shares.")
    elif shares != (_SHARE, _SHARE):
        raise UserError(f"{directory}: is split already; leave the shares out. {received}")
    for first, second in combinations(SUBSETS, 2):
        leaked = (subset_of == second) & np.isin(groups, groups[subset_of == first])
        if leaked.any():  # Only in a folder that was split before.
            notice(
                f"{leaked.sum()} images of {second} are copies of images of {first}, or in one "
                f"group with them, e.g. {images[int(leaked.argmax())].path}. Figures of {second} "
                "will be too good"
            )
    data = _deal(data, images, subset_of)
    _ = data.split  # A person may open it before anything is read.
    return data


def load_folds(
    directory: str | os.PathLike,
    folds: int = 5,
    image_size: int = 160,
    batch_size: int = 32,
    seed: int = 0,
    group_by: str | None = None,
    group_look_alikes: bool = False,
    skip_unreadable: bool = False,
    positive: str | None = None,
) -> tuple[tuple[Datasets, ...], Datasets]:
    r"""Loads a folder of images for cross-validation.

    The folds are stratified by class. Byte-identical files, and files with the same match of
    `group_by`, stay in one fold. Each fold is the test set of one `Datasets` and the validation
    set of the one before it.

    Args:
        directory: a folder with one sub-folder of images per class. Sets made before are joined.
        folds: number of folds, 3 or more.
        image_size: height and width of the resized images in pixels.
        batch_size: images per batch.
        seed: seed of the folds and of the shuffling, 0 or more.
        group_by: regular expression searched in each file name. Its first group, or all of its
            match, is the file's group, e.g. `r"(\d+)-"` for the photo number in `7001-115.jpg`.
        group_look_alikes: keep images that look alike in one fold, also mirrored or turned ones.
        skip_unreadable: leave out files that cannot be read, and list them, instead of raising.
        positive: several class folders that become one class of this name, such as "a,b".

    Returns:
        A `Datasets` for each fold; and one with all images in its training set.

    Raises:
        TooFewError: a `UserError`, when a class has too few independent images for the folds.
        UserError: when the folder, a file in it or an argument cannot be used.

    Examples:
        >>> folds, everything = load_folds("data/metu", folds=5)
    """
    check_at_least(3, folds=folds)
    data, images, _ = _read(directory, skip_unreadable, positive, image_size, batch_size, seed)
    keys = find_groups(images, group_by, group_look_alikes)
    labels = np.array([image.label for image in images])
    fold_of = split_groups(labels, keys, [1 / folds] * folds, seed)
    for label, name in enumerate(data.class_names):
        if len(np.unique(fold_of[labels == label])) < folds:
            raise TooFewError(
                f"{data.directory / name}: has {len(np.unique(keys[labels == label]))} independent "
                f"images, too few for {folds} folds. Add images, or ask for fewer folds."
            )
    roles = np.array(["test", "validation"] + ["train"] * (folds - 2))
    whole = _deal(data, images, np.full(len(images), "train"))
    data = replace(data, whole=whole)
    return tuple(_deal(data, images, roles[(fold_of - i) % folds]) for i in range(folds)), whole


def find_groups(
    images: Sequence[ImageFile], group_by: str | None, look_alikes: bool = False
) -> np.ndarray:
    """Numbers the groups of images that stay together: copies, and images of the same key."""
    shared = [[image.digest for image in images]]
    if look_alikes:
        shared.append(group_alike(images).tolist())
    if group_by is None:
        return connect(*shared, _find_sources(images))
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        raise UserError(f"group_by={group_by!r} is not a regular expression: {error}.") from None
    keys = []
    for image in images:
        if not (match := pattern.search(image.path.name)):
            problem = "matches nothing in this file's name; every file needs a group"
            raise UserError(f"{image.path}: group_by={group_by!r} {problem}.")
        keys.append((pattern.groups and match[1]) or match[0])
    return connect(*shared, keys)


def _find_sources(images: Sequence[ImageFile]) -> list[str]:
    """The path of each image, or, by its name, of the image that it is an augmented copy of."""
    paths = [str(image.path) for image in images]
    sources = [str(image.path.with_name(_AUGMENTED.sub("", image.path.stem))) for image in images]
    counts = Counter(sources)
    keys = [x if 1 < counts[x] <= _COPIES else path for x, path in zip(sources, paths, strict=True)]
    if kept := [path for key, path in zip(keys, paths, strict=True) if key != path]:
        notice(
            f"{counted(len(kept), 'image')}, e.g. {show(kept[0])}, stay in one set with their "
            "source: names mark copies (flipped, turned, .rf.). Use --group-by for other names"
        )
    return keys


def _read(
    directory: str | os.PathLike, skip: bool, positive: str | None, *sizes: int
) -> tuple[Datasets, list[ImageFile], np.ndarray]:
    """Empty sets, all images, and the subset of each ("" in a folder that is not split)."""
    image_size, batch_size, seed = check_image_size(sizes[0]), *sizes[1:]
    check_at_least(1, batch_size=batch_size)
    check_at_least(0, seed=seed)
    directory = user_path(directory)
    subsets = SUBSETS if is_split(directory) else ("",)
    parts = [read_folder(directory / subset, skip) for subset in subsets]
    images, names, skipped = zip(*parts, strict=True)
    if any(found != names[0] for found in names):
        raise UserError(f"{directory}: expected the same classes in each set. Received: {names}.")
    class_of = merge_classes(names[0], positive)
    classes = sorted({*class_of})
    files = [replace(x, label=classes.index(class_of[x.label])) for part in images for x in part]
    label_of = {image.digest: image.label for image in files}
    if wrong := [image for image in files if image.label != label_of[image.digest]]:
        notice(
            f"{counted(len(wrong), 'image')}, e.g. {show(wrong[0].path)}, are in both classes as "
            "byte-identical files, so one label is wrong. `crackclf audit` lists them"
        )
    left_out = {path: problem for part in skipped for path, problem in part.items()}
    data = Datasets(directory, tuple(classes), image_size, batch_size, seed, left_out, images={})
    return data, files, np.repeat(subsets, [*map(len, images)])


def _deal(data: Datasets, images: Sequence[ImageFile], subset_of: np.ndarray) -> Datasets:
    # Class by class, as Keras lists their links.
    dealt = sorted(zip(subset_of, images, strict=True), key=lambda pair: pair[1].label)
    return replace(data, images={k: tuple(x for at, x in dealt if at == k) for k in SUBSETS})
