"""A split as a tree of links that a person can look at and Keras can read."""

import contextlib
import functools
import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from crackclf.data.folders import ImageFile
from crackclf.data.splits import SUBSETS
from crackclf.errors import UserError, show
from crackclf.files import building, cache_folder
from crackclf.images.decode import read_image

_LONGEST = 255  # Bytes of a file's name that any disk takes.


def link_tree(
    directory: Path, images: Mapping[str, Sequence[ImageFile]], class_names: Sequence[str]
) -> Path:
    """Lays a split out as `SUBSET/CLASS/FILE` links under the data folder's cache.

    A file that TensorFlow would decode otherwise than `read_image` (rotation, transparency,
    depth) stands there as an 8-bit RGB PNG instead of a link. An equal split laid out before is
    used again.
    """
    rows = [
        f"{subset}/{class_names[image.label]}/{image.path.name} {image.digest}"
        for subset in SUBSETS
        for image in images[subset]
    ]
    key = hashlib.blake2b(
        "\n".join(rows).encode(errors="surrogateescape"), digest_size=6
    ).hexdigest()
    tree = cache_folder(directory) / "splits" / key
    if tree.exists():  # Renamed into place when complete, so it is.
        if _is_whole(tree, images, class_names):
            return tree
        shutil.rmtree(tree)  # A copy of the data folder without its links, say.
    try:
        with building(tree) as draft:
            for subset in SUBSETS:
                for name in class_names:
                    (draft / subset / name).mkdir(parents=True)
                for image in images[subset]:
                    _place(image, draft / subset / class_names[image.label])
    except OSError:
        if not tree.exists():  # Else another process was faster.
            raise
    return tree


def _is_whole(
    tree: Path, images: Mapping[str, Sequence[ImageFile]], class_names: Sequence[str]
) -> bool:
    return all(
        (tree / subset / class_names[image.label] / tree_name(image)).exists()
        for subset in SUBSETS
        for image in images[subset]
    )


def tree_name(image: ImageFile) -> str:
    """The name under which an image stands in the tree; Keras lists a class in this order."""
    name = image.path.name if image.plain else f"{image.path.name}.png"
    if show(name) == name and len(os.fsencode(name)) <= _LONGEST:
        return name
    # What Keras cannot read for its name, or a disk would not take.
    digest = hashlib.blake2b(os.fsencode(image.path.name), digest_size=16).hexdigest()
    return digest + (image.path.suffix if image.plain else ".png")


def _place(image: ImageFile, folder: Path) -> None:
    place = folder / tree_name(image)
    if not image.plain:
        with place.open("xb") as file:
            Image.fromarray(read_image(image.path)).save(file, "PNG")
        return
    # Relative, so that the data folder may move; the rename keeps the depth. Windows allows links
    # to files only to some users, hard links to all; some disks have neither.
    target = image.path.resolve()
    for link in (
        lambda: place.symlink_to(Path(_relative(image.path.parent, folder), image.path.name)),
        lambda: place.hardlink_to(target),
    ):
        with contextlib.suppress(OSError, NotImplementedError):
            link()
            return
    shutil.copyfile(target, place)


@functools.lru_cache  # Resolving each of 40,000 files anew would take most of the time.
def _relative(target: Path, start: Path) -> str:
    return os.path.relpath(target.resolve(), start.resolve())


def read_tree(
    folder: Path,
    images: Sequence[ImageFile],
    class_names: Sequence[str],
    image_size: int,
    batch_size: int,
    seed: int,
) -> Any:
    """Reads one subset of a tree as a `tf.data.Dataset` of images and one-hot labels.

    "train" is shuffled anew each epoch. The tree must hold `images`, in the order of class and
    `tree_name`, or a `UserError` says that it was changed.
    """
    import keras

    shuffle = folder.name == "train"
    dataset: Any = keras.utils.image_dataset_from_directory(
        folder,
        label_mode="categorical",
        class_names=list(class_names),
        batch_size=batch_size,
        image_size=(image_size, image_size),
        shuffle=shuffle,
        seed=seed,
        verbose=False,
    )
    found = [Path(path).parts[-2:] for path in dataset.file_paths]
    expected = [(class_names[image.label], tree_name(image)) for image in images]
    if (sorted(found) if shuffle else found) != (sorted(expected) if shuffle else expected):
        raise UserError(f"{folder}: was changed by someone; delete {folder.parent} and run again.")
    return dataset
