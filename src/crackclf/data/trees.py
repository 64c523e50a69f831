"""A split as a tree of links that a person can look at and Keras can read."""

import itertools
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from crackclf.files import SPLITS, cache_folder, prune_cache, writing
from crackclf.folders import ImageFile, digest_of
from crackclf.images import read_image

_KEPT = 8  # Splits of a data folder.


def lay_out(
    directory: Path, images: Mapping[str, Sequence[ImageFile]], class_names: Sequence[str]
) -> Path:
    """Lays a split out as links under the data folder's cache; an equal one is used again.

    A file that Keras' loader skips, or decodes otherwise than `read_image`, stands there as an
    8-bit RGB PNG instead of a link. A number before each name keeps names apart and in order.
    """
    places = {}
    for subset, part in images.items():
        for i, x in enumerate(part):
            # A disk takes names of 255 bytes, and TensorFlow those in UTF-8.
            stem = x.path.stem.encode(errors="replace")[:200].decode(errors="ignore")
            name = f"{i:06}-{stem}{x.path.suffix if x.plain else '.png'}"
            places[f"{subset}/{class_names[x.label]}/{name}"] = x
    rows = "\n".join(f"{place} {image.digest}" for place, image in places.items())
    folder = cache_folder(directory).resolve() / SPLITS
    tree = folder / digest_of(rows.encode())[:12]
    if tree.exists():
        os.utime(tree)
        return tree
    try:
        with writing(tree) as draft:
            for subset, name in itertools.product(images, class_names):
                (draft / subset / name).mkdir(parents=True)
            for place, image in places.items():
                _place(image, draft / place)
    except OSError:
        if not tree.exists():  # Else another process was faster, with the same links.
            raise
    prune_cache(folder, _KEPT)
    return tree


def _place(image: ImageFile, place: Path) -> None:
    if not image.plain:
        Image.fromarray(read_image(image.path)).save(place)
        return
    source = image.path.parent.resolve() / image.path.name
    # A relative link lets the data folder move. Windows allows symbolic links to some users only,
    # and some disks have no links at all.
    try:
        place.symlink_to(os.path.relpath(source, place.parent))
    except (OSError, ValueError):
        try:
            place.hardlink_to(source)
        except OSError:
            shutil.copyfile(source, place)
