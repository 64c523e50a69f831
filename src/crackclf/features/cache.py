"""Features of a frozen base on disk: computed once, block by block, each with its digest."""

import hashlib
import json
import math
import shutil
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path

import keras
import numpy as np
from tqdm import tqdm

import crackclf
from crackclf.data.datasets import Datasets
from crackclf.data.splits import SUBSETS
from crackclf.errors import UserError, notice
from crackclf.features.extract import Job, Mapper, Pass, compute_here
from crackclf.models.parts import digest_model, split_model

_BLOCK = 8  # Images whose features are computed, written and digested together.


def cache_features(
    model: keras.Model,
    data: Datasets,
    views: int = 0,
    seed: int = 0,
    subsets: Sequence[str] = SUBSETS,
    mapper: Mapper = compute_here,
) -> dict[str, np.ndarray]:
    """Runs the frozen base once over every image and over augmented views of the training images.

    The features are kept in the data folder's cache. What is there already is checked and
    used again, whatever the head; what an interrupted pass left undone is done.

    Args:
        model: from `build_model`, its base frozen, or all but its last blocks.
        data: from `load_datasets`, at the model's image size.
        views: augmented views of each training image, 0 or more.
        seed: of the augmentation.
        subsets: the sets whose features are wanted.
        mapper: has them computed, `compute_on_cluster` of `crackclf.ray.features` elsewhere.

    Returns:
        By subset, float16 of shape (n, 1 + views, ...), memory-mapped, in the order of
        `data.files`: of each image as it is, then, of training images, of its augmented views;
        the rest of the shape is that of the frozen half's output.

    Raises:
        UserError: when the base is not frozen or the features cannot be written.

    Example:

    ```python
    features = cache_features(model, data, views=2)["train"]
    ```
    """
    check_views(views)
    augmentation, frozen, _ = split_model(model)
    folder = data.split.parents[1] / "features"
    base, change = digest_model(frozen), digest_model(augmentation)
    stores = {}
    for subset in subsets:
        drawn_views = views if subset == "train" else 0
        drawn = [change, views, seed] if drawn_views else []
        key = [crackclf.__version__, data.image_size, base, drawn, data.digests[subset]]
        name = hashlib.blake2b(json.dumps(key).encode(), digest_size=8).hexdigest()
        shape = (len(data.files[subset]), 1 + drawn_views, *frozen.output_shape[1:])
        stores[subset] = _Store(folder / f"{subset}-{name}", shape)
    missing = {subset: store.missing() for subset, store in stores.items()}
    if any(missing.values()):
        _make_room(folder, sum(stores[x].block_bytes * len(missing[x]) for x in subsets))
        try:
            jobs = _list_jobs(stores, missing, data)
            compute = Pass(frozen, augmentation if views else None, seed)
            _fill(stores, jobs, mapper(jobs, compute))
        except OSError as error:
            for subset in subsets:
                if missing[subset]:
                    stores[subset].remove()
            raise UserError(
                f"{folder}: the features could not be written ({error.strerror}) and were removed "
                "again. Make room, or train without cache_features."
            ) from error
    return {subset: store.read() for subset, store in stores.items()}


def check_views(views: int, cached: bool = True) -> None:
    """Refuses a number of views below 0, or views where nothing is cached."""
    if views < 0:
        raise UserError(f"views must be 0 or more. Received: {views}.")
    if views and not cached:
        raise UserError(
            "views are kept among the cached features; without the cache every epoch draws new "
            f"ones. Give cache_features or leave out views. Received: views={views}."
        )


def _make_room(folder: Path, size: int) -> None:
    folder.mkdir(exist_ok=True)
    free = shutil.disk_usage(folder).free
    if size > free:
        raise UserError(
            f"{folder}: the features need {size / 1e6:,.0f} MB, the disk has {free / 1e6:,.0f} MB "
            "left. Make room, ask for fewer views, or train without cache_features."
        )
    notice(f"{folder}: takes {size / 1e6:,.0f} MB of features, which later runs use again")


def _fill(
    stores: "dict[str, _Store]", jobs: Sequence[Job], results: Generator[tuple[Job, np.ndarray]]
) -> None:
    total = sum(len(job.files) * job.variants for job in jobs)
    with closing(results), tqdm(total=total, desc="Features", unit=" images") as bar:
        for job, features in results:
            stores[job.subset].write(job.block, features)
            bar.update(features.shape[0] * features.shape[1])


def _list_jobs(
    stores: "dict[str, _Store]", missing: dict[str, list[int]], data: Datasets
) -> list[Job]:
    jobs = []
    for subset, blocks in missing.items():
        for block in blocks:
            part = data.files[subset][block * _BLOCK : (block + 1) * _BLOCK]
            jobs.append(Job(subset, block, tuple(map(str, part)), stores[subset].shape[1]))
    return jobs


class _Store:
    """A file of features and a journal of the digests of its blocks.

    A block counts only where the journal has its digest and its bytes agree: a kill or a flipped
    bit costs the blocks it hit and no more.
    """

    def __init__(self, path: Path, shape: tuple[int, ...]):
        self.path, self.journal = path.with_suffix(".f16"), path.with_suffix(".digests")
        self.shape = shape
        self.block_bytes = _BLOCK * math.prod(shape[1:]) * 2

    def missing(self) -> list[int]:
        """The blocks still to be computed."""
        blocks = range(-(-self.shape[0] // _BLOCK))
        if not (self.path.exists() and self.journal.exists()):
            return list(blocks)
        lines = self.journal.read_text(errors="replace").splitlines()
        said = {number: digest for number, _, digest in (line.partition(",") for line in lines)}
        with self.path.open("rb") as file:
            return [b for b in blocks if said.get(str(b)) != _digest(file.read(self.block_bytes))]

    def write(self, block: int, features: np.ndarray) -> None:
        """Writes a block, then its digest."""
        content = features.astype(np.float16).tobytes()
        self.path.touch()
        with self.path.open("r+b") as file:
            file.seek(block * self.block_bytes)
            file.write(content)
        with self.journal.open("a") as journal:
            journal.write(f"\n{block},{_digest(content)}\n")

    def read(self) -> np.ndarray:
        """The features, memory-mapped."""
        return np.memmap(self.path, np.float16, "r", shape=self.shape)

    def remove(self) -> None:
        """Leaves nothing behind."""
        self.path.unlink(missing_ok=True)
        self.journal.unlink(missing_ok=True)


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
