"""Train, validation and test sets: which image is in which, and as batches of `tf.data`."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crackclf.data.folders import ImageFile
from crackclf.data.trees import link_tree, read_tree
from crackclf.files import format_table

if TYPE_CHECKING:
    import tensorflow as tf


@dataclass(frozen=True)
class Datasets:
    """The train, validation and test sets of one data folder.

    `train`, `validation` and `test` are made when first used: batches of (float32 images in 0..255,
    one-hot labels). `train` is shuffled anew each epoch, the others are in the order of `images`.

    Attributes:
        images: the images of "train", "validation" and "test", in order of class and name.
        class_names: the sorted names of the class folders.
        image_size: height and width in pixels to which images are resized.
        batch_size: images per batch.
        seed: of the shuffling.
        skipped: files left out, each with the reason.
        directory: the data folder.
    """

    images: Mapping[str, tuple[ImageFile, ...]]
    class_names: tuple[str, ...]
    image_size: int
    batch_size: int
    seed: int
    skipped: Mapping[Path, str]
    directory: Path

    @cached_property
    def split(self) -> Path:
        """The folder of links from which the sets are read; made when first asked for."""
        return link_tree(self.directory, self.images, self.class_names)

    @cached_property
    def train(self) -> "tf.data.Dataset":
        """Batches to train on."""
        return self._read("train")

    @cached_property
    def validation(self) -> "tf.data.Dataset":
        """Batches to watch the training on."""
        return self._read("validation")

    @cached_property
    def test(self) -> "tf.data.Dataset":
        """Batches to test the trained model on."""
        return self._read("test")

    @cached_property
    def files(self) -> dict[str, tuple[Path, ...]]:
        """The paths of the images, by subset."""
        return {name: tuple(x.path for x in images) for name, images in self.images.items()}

    @cached_property
    def labels(self) -> dict[str, np.ndarray]:
        """The class indices of the images, int of shape (n,), by subset."""
        return {name: np.array([x.label for x in images]) for name, images in self.images.items()}

    @cached_property
    def digests(self) -> dict[str, tuple[str, ...]]:
        """The digests of the images' files, by subset."""
        return {name: tuple(x.digest for x in images) for name, images in self.images.items()}

    @property
    def patch_size(self) -> int:
        """The images' own side in pixels before resizing: the median over the training set."""
        return int(np.median([image.side for image in self.images["train"]]))

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
            f"{subset} {self.class_names[image.label]} {image.digest}"
            for subset, images in self.images.items()
            for image in images
        )
        return hashlib.sha256("\n".join(rows).encode()).hexdigest()

    def split_table(self) -> str:
        """The split as CSV text: subset, class, digest and path of every file."""
        rows = (
            {
                "subset": subset,
                "class": self.class_names[image.label],
                "digest": image.digest,
                "file": image.path,
            }
            for subset, images in self.images.items()
            for image in images
        )
        return format_table(("subset", "class", "digest", "file"), rows)

    def __repr__(self) -> str:
        counts = [
            f"{subset}: " + ", ".join(f"{n} {name}" for name, n in of_class.items())
            for subset, of_class in self.counts.items()
        ]
        skipped = f"; {len(self.skipped)} files left out" if self.skipped else ""
        size = f"images of {self.image_size} pixels in batches of {self.batch_size}"
        return f"Datasets({'; '.join(counts)}; {size}{skipped})"

    def _read(self, subset: str) -> "tf.data.Dataset":
        return read_tree(
            self.split / subset,
            self.images[subset],
            self.class_names,
            self.image_size,
            self.batch_size,
            self.seed,
        )
