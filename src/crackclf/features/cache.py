"""Features of a frozen base, computed once for each image and kept on disk."""

import hashlib
import json
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
from crackclf.features.store import Features, Store
from crackclf.files import cache_folder
from crackclf.models.parts import digest_model, split_model

_BLOCK = 8  # Images whose features are computed and written together.
_LARGE = 1e7  # Bytes that the user is told of.


def cache_features(
    model: keras.Model,
    data: Datasets,
    views: int = 0,
    subsets: Sequence[str] = SUBSETS,
    mapper: Mapper = compute_here,
) -> dict[str, Features]:
    """Runs the frozen base once over every image, or over augmented views of the training images.

    The features are kept in the data folder's cache, for each image on its own: another head,
    split or seed uses them again. What an interrupted pass left undone is done.

    Args:
        model: from `build_model`, its base frozen, or all but its last blocks.
        data: from `load_datasets`, at the model's image size.
        views: augmented views of each training image, which stand in its place; 0 for the image
            as it is. A view depends on the image and its number alone.
        subsets: the sets whose features are wanted.
        mapper: has them computed, `compute_on_cluster` of `crackclf.ray.features` elsewhere.

    Returns:
        By subset `Features`, float16 of shape (n, max(1, views), ...), or (n, 1, ...) of images
        that are not trained on, in the order of `data.files`; the rest of the shape is that of
        the frozen half's output.

    Raises:
        UserError: when the base is not frozen or the features cannot be written.

    Example:

    ```python
    features = cache_features(model, data, views=2)["train"][:, 0]
    ```
    """
    if views < 0:
        raise UserError(f"views must be 0 or more. Received: {views}.")
    augmentation, frozen, _ = split_model(model)
    folder = cache_folder(data.directory) / "features"
    folder.mkdir(exist_ok=True)
    about = [crackclf.__version__, data.image_size, digest_model(frozen)]
    name = hashlib.blake2b(json.dumps(about).encode(), digest_size=8).hexdigest()
    store = Store(folder / name, frozen.output_shape[1:])
    change = digest_model(augmentation)

    def find() -> dict[str, np.ndarray]:
        rows = {}
        for subset in subsets:
            wanted = range(1, views + 1) if views and subset == "train" else (0,)
            keys = [
                _key(digest, view, change) for digest in data.digests[subset] for view in wanted
            ]
            rows[subset] = store.find(keys).reshape(-1, len(wanted))
        return rows

    if any((rows < 0).any() for rows in find().values()):
        with store.lock:  # Another process may be doing it, and then it is done.
            jobs = _list_jobs(find(), data, views)
            _make_room(folder, store.row_bytes * sum(len(x.files) * len(x.views) for x in jobs))
            before = store.size()
            try:
                results = mapper(jobs, Pass(frozen, augmentation if views else None))
                _fill(store, change, results, sum(len(x.files) * len(x.views) for x in jobs))
            except OSError as error:
                store.cut(before)
                raise UserError(
                    f"{folder}: the features could not be written ({error.strerror}) and were "
                    "removed again. Make room, or train without cache_features."
                ) from error
    return {subset: store.read(rows) for subset, rows in find().items()}


def _key(digest: str, view: int, change: str) -> str:
    """Names a row: an image as it is, or one of its views by an augmentation."""
    return f"{digest}-{change}-{view}" if view else digest


def _list_jobs(rows: dict[str, np.ndarray], data: Datasets, views: int) -> list[Job]:
    """The images without a row, of equal images one, with the numbers of the views they lack."""
    lacking: dict[str, tuple[str, set[int]]] = {}
    for subset, of_subset in rows.items():
        first = 1 if views and subset == "train" else 0
        images = zip(data.files[subset], data.digests[subset], of_subset, strict=True)
        for file, digest, found in images:
            if (found < 0).any():
                _, numbers = lacking.setdefault(digest, (str(file), set()))
                numbers.update((first + np.flatnonzero(found < 0)).tolist())
    alike: dict[tuple[int, ...], list[str]] = {}
    for digest, (_, numbers) in lacking.items():
        alike.setdefault(tuple(sorted(numbers)), []).append(digest)
    parts = [
        (digests[i : i + _BLOCK], numbers)
        for numbers, digests in alike.items()
        for i in range(0, len(digests), _BLOCK)
    ]
    return [Job(tuple(lacking[x][0] for x in part), tuple(part), views) for part, views in parts]


def _make_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise UserError(
            f"{folder}: the features need {_size(size)}, the disk has {_size(free)} left. Make "
            "room, ask for fewer views, or train without cache_features."
        )
    if size > _LARGE:
        notice(f"{folder}: {_size(size)} of features are kept there for later runs")


def _size(n: int) -> str:
    return f"{n / 1e6:,.0f} MB" if n >= 1e7 else f"{n / 1e3:,.0f} kB"


def _fill(
    store: Store, change: str, results: Generator[tuple[Job, np.ndarray]], total: int
) -> None:
    with closing(results), tqdm(total=total, desc="Features", unit=" images") as bar:
        for job, features in results:
            keys = [_key(digest, view, change) for digest in job.digests for view in job.views]
            store.append(keys, features.reshape(len(keys), *features.shape[2:]))
            bar.update(len(keys))
