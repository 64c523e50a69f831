"""One pass of images through a frozen base: on the cores of this machine, or on a Ray cluster."""

import os
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from crackclf.errors import UserError
from crackclf.models.features import build_extractor
from crackclf.models.safety import check_keras_file

_JOBS = 8  # To a block, which is what is lost when a worker of the cluster dies.


class Job(NamedTuple):
    """Some images whose features are computed together.

    Attributes:
        subset: "train", "validation" or "test".
        block: their number in it.
        links: to the images.
        variants: of each of them: itself, and augmented views.
    """

    subset: str
    block: int
    links: tuple[str, ...]
    variants: int


def compute_features(
    jobs: Sequence[Job],
    frozen: keras.Model,
    augmentation: keras.Layer,
    seed: int,
    cluster: str | None = None,
) -> Generator[tuple[Job, np.ndarray]]:
    """Computes the features of images, and of augmented views of them.

    Args:
        jobs: what there is to do.
        frozen: from `split_model`.
        augmentation: likewise.
        seed: of the augmentation.
        cluster: see `train_folder`.

    Yields:
        Each job, in no certain order, and its features, float of shape (images, variants, ...).

    Raises:
        UserError: when the cluster cannot be used.
    """
    if cluster is not None:
        yield from _compute_on_cluster(jobs, frozen, augmentation, seed, cluster)
        return
    compute = _build_pass(frozen, augmentation, seed)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            yield from zip(jobs, pool.map(compute, jobs), strict=True)
        finally:
            pool.shutdown(cancel_futures=True)


def _compute_on_cluster(
    jobs: Sequence[Job], frozen: keras.Model, augmentation: keras.Layer, seed: int, address: str
) -> Iterator[tuple[Job, np.ndarray]]:
    from crackclf.data.cluster import map_blocks, pyarrow

    table = pyarrow.table(
        {
            "job": range(len(jobs)),
            "block": [job.block for job in jobs],
            "links": [[os.fsencode(link) for link in job.links] for job in jobs],
            "variants": [job.variants for job in jobs],
        }
    )
    blocks = [table.slice(start, _JOBS) for start in range(0, len(jobs), _JOBS)]
    augmentation = keras.Sequential([keras.Input(frozen.input_shape[1:]), augmentation])
    prepare = partial(_Worker, _to_bytes(frozen), _to_bytes(augmentation), seed)
    left = set(range(len(jobs)))
    for rows in map_blocks(prepare, blocks, None if address == "local" else address):
        for row in rows.to_pylist():
            job = jobs[row["job"]]
            shape = len(job.links), job.variants, *frozen.output_shape[1:]
            yield job, np.frombuffer(row["features"], np.float16).reshape(shape)
            left.discard(row["job"])
    if left:
        raise UserError(
            f"the cluster left {len(left)} of {len(jobs)} blocks of features undone; start again "
            "with the same arguments to have them done."
        )


class _Worker:
    """What a process of the cluster does."""

    def __init__(self, frozen: bytes, augmentation: bytes, seed: int):
        self._compute = _build_pass(_from_bytes(frozen), _from_bytes(augmentation), seed)

    def __call__(self, block: Any) -> Iterator[Any]:
        from crackclf.data.cluster import pyarrow

        features = []
        for row in block.to_pylist():
            job = Job("", row["block"], tuple(map(os.fsdecode, row["links"])), row["variants"])
            try:
                features.append(self._compute(job).astype(np.float16).tobytes())
            except tf.errors.NotFoundError as error:
                raise UserError(
                    f"an image is not there ({error.message}). The data folder must be on a file "
                    "system that all machines see at the same place."
                ) from None
        yield pyarrow.table({"job": block["job"], "features": features})


def _to_bytes(model: keras.Model) -> bytes:
    with tempfile.TemporaryDirectory(prefix="crackclf-") as folder:
        model.save(path := Path(folder) / "model.keras")
        return path.read_bytes()


def _from_bytes(content: bytes) -> Any:
    with tempfile.TemporaryDirectory(prefix="crackclf-") as folder:
        (path := Path(folder) / "model.keras").write_bytes(content)
        check_keras_file(path)
        return keras.saving.load_model(path, compile=False, safe_mode=True)


def _build_pass(
    frozen: keras.Model, augmentation: keras.Layer, seed: int
) -> Callable[[Job], np.ndarray]:
    read = _build_reader(frozen.input_shape[1:3])
    extract = build_extractor(frozen)
    change = _repeatable(augmentation, seed)

    def compute(job: Job) -> np.ndarray:
        images = read(tf.constant(job.links))
        views = [change(images, job.block, view) for view in range(1, job.variants)]
        return np.stack([extract(x) for x in [images, *views]], axis=1)

    return compute


def _build_reader(size: tuple[int, int]) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function from paths to images, which it reads as `image_dataset_from_directory` does."""

    def read(link: tf.Tensor) -> tf.Tensor:
        image = tf.io.decode_image(tf.io.read_file(link), channels=3, expand_animations=False)
        return tf.image.resize(image, size)

    return tf.function(
        lambda links: tf.map_fn(read, links, fn_output_signature=tf.float32),
        input_signature=[tf.TensorSpec((None,), tf.string)],
    )


def _repeatable(augmentation: keras.Layer, seed: int) -> Callable[[tf.Tensor, int, int], tf.Tensor]:
    """The augmentation, drawing the same for the same block and view whenever it is asked."""
    states = [v for v in augmentation.variables if "seed" in v.name]
    run = tf.function(lambda images: augmentation(images, training=True))
    lock = threading.Lock()

    def change(images: tf.Tensor, block: int, view: int) -> tf.Tensor:
        drawn = np.random.default_rng((seed, block, view)).integers(2**32, size=(len(states), 2))
        with lock:  # There is one state, and a thread must find its own in it.
            for state, value in zip(states, drawn, strict=True):
                state.assign(value.astype(np.uint32))
            return run(images)

    return change
