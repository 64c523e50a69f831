"""Features of a frozen base, computed once for each image and kept on disk."""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from joblib import Parallel, delayed
from tqdm import tqdm

import crackclf
from crackclf.conversion import freeze, to_litert
from crackclf.data import Datasets
from crackclf.errors import UserError, check_at_least, notice
from crackclf.files import FEATURES, cache_folder, cores, prune_cache, writing
from crackclf.litert import SHARE, Graph
from crackclf.model import digest_model, split_model
from crackclf.splits import SUBSETS

_KEPT = 8  # Arrays in the cache of a data folder. Cross-validation with fine-tuning needs 4.
_LARGE = 1e7  # Bytes; more than this is reported.


class Features:
    """Rows of a memory-mapped array of shape (any number, variants, ...), indexed like NumPy's."""

    def __init__(self, array: np.ndarray, rows: np.ndarray):
        self.array, self.rows = array, rows
        self.shape = (len(rows), *array.shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> np.ndarray:
        first, *rest = index if isinstance(index, tuple) else (index,)
        return self.array[(self.rows[first], *rest)]


def cache_features(
    model: keras.Model, data: Datasets, views: int = 0, subsets: Sequence[str] = SUBSETS
) -> dict[str, Features]:
    """Runs the frozen base once over every image, or over augmented views of the training images.

    Gives by subset float16 features of shape (n, max(1, views), ...), for other sets than "train"
    (n, 1, ...), in the order of `data.files`. They are kept in the data folder's cache for any
    head. For a fold those of the whole folder are computed, once for all folds.
    """
    check_at_least(0, views=views)
    parts = split_model(model)
    folder, base = cache_folder(data.directory) / FEATURES, digest_model(parts.frozen)
    # Kept for all subsets, as converting takes seconds, and not built when nothing is missing.
    build = cache(lambda: _build_extractor(parts.frozen))
    found = {}
    for subset in subsets:
        source, whole = (data, subset) if data.whole is None else (data.whole, "train")
        count = views if subset == "train" else 0
        about = [crackclf.__version__, source.digests[whole], data.image_size, base]
        if count:
            about += [digest_model(parts.augmentation), count, source.seed, source.batch_size]
        name = hashlib.blake2b(json.dumps(about).encode(), digest_size=12).hexdigest()
        shape = (len(source.files[whole]), max(1, count), *parts.frozen.output_shape[1:])
        if not data.files[subset]:
            found[subset] = Features(np.empty((0, *shape[1:]), np.float16), np.arange(0))
            continue
        if not (path := folder / f"{name}.npy").exists():
            _write(path, shape, _compute(source, whole, count, parts.augmentation, build()))
        os.utime(path)  # The newest are kept.
        row_of = {file: row for row, file in enumerate(source.files[whole])}
        rows = np.array([row_of[file] for file in data.files[subset]])
        found[subset] = Features(np.load(path, mmap_mode="r"), rows)
    return found


def _build_extractor(frozen: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """A model as a fast function of a batch of images, for any number of threads.

    Without a GPU it is LiteRT's, which runs MobileNetV2 several times as fast as TensorFlow.
    """
    images = tf.TensorSpec((None, *frozen.input_shape[1:]), tf.float32)
    graph = freeze(lambda x: frozen(x, training=False), images)
    if tf.config.list_physical_devices("GPU"):
        return lambda batch: graph(tf.convert_to_tensor(batch))[0].numpy()
    small = Graph(to_litert(graph))
    return lambda batch: np.concatenate(
        [small(batch[i : i + SHARE]) for i in range(0, len(batch), SHARE)]
    )


def _compute(
    data: Datasets,
    subset: str,
    views: int,
    augmentation: keras.Layer,
    extract: Callable[[np.ndarray], np.ndarray],
) -> Iterator[np.ndarray]:
    """Features of a set in the order of its files, in blocks of shape (images, variants, ...)."""
    batches, variants = data.read(subset).map(lambda images, _: images), max(1, views)
    if views:
        batches = _augment(batches, augmentation, views, data.seed)
    # In threads: each runs LiteRT or TensorFlow, which hold no lock of Python's.
    pool = Parallel(cores(), prefer="threads", return_as="generator", pre_dispatch="1.5*n_jobs")
    results: Any = pool(delayed(extract)(images) for images in batches.as_numpy_iterator())
    with tqdm(total=len(data.files[subset]) * variants, desc="Features", unit=" images") as bar:
        for block in zip(*[results] * variants, strict=True):
            bar.update(len(block) * len(block[0]))
            yield np.stack(block, axis=1)


def _augment(batches: Any, augmentation: keras.Layer, views: int, seed: int) -> Any:
    """Views of each batch, one after the other, equal whenever they are drawn again."""
    trained = [np.asarray(x) for x in augmentation.trainable_variables]
    states = [(np.asarray(x), "seed" in x.path) for x in augmentation.non_trainable_variables]

    def spread(number: tf.Tensor, images: tf.Tensor) -> tf.data.Dataset:
        numbers = tf.data.Dataset.range(number * views, (number + 1) * views)
        return numbers.map(lambda view: (view, images))

    def draw(view: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
        # In place of the generators' states, which would depend on the order of the threads.
        drawn = [
            tf.random.stateless_uniform(x.shape, tf.stack([seed + i, view]), 0, 2**31 - 1, tf.int64)
            if is_seed
            else x
            for i, (x, is_seed) in enumerate(states)
        ]
        return augmentation.stateless_call(trained, drawn, images, training=True)[0]

    return batches.enumerate().flat_map(spread).map(draw, tf.data.AUTOTUNE).prefetch(1)


def _write(path: Path, shape: tuple[int, ...], blocks: Iterator[np.ndarray]) -> None:
    """Writes blocks of features one after the other as an array file, whole or not at all."""
    path.parent.mkdir(exist_ok=True)
    if (size := 2 * math.prod(shape)) > _LARGE:
        notice(f"{path.parent}: {size / 1e6:,.0f} MB of features are kept there for later runs")
    header = {"descr": "<f2", "fortran_order": False, "shape": shape}
    try:
        # Not through a memory map: a disk that fills up would end the process without a word.
        with writing(path) as draft, draft.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for block in blocks:
                file.write(block.astype("<f2").tobytes())
    except OSError as error:
        raise UserError(
            f"{path}: the features could not be written ({error.strerror}). Make room, ask for "
            "fewer views, or train without cache_features."
        ) from error
    prune_cache(path.parent, _KEPT)
