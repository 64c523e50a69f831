"""What a frozen base makes of images, on all cores."""

import tempfile
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from crackclf.cores import cores
from crackclf.errors import UserError
from crackclf.images.check import digest_of
from crackclf.images.decode import decoding, naming, read_content
from crackclf.images.resize import resize
from crackclf.saved.convert import freeze, to_litert
from crackclf.saved.graph import Graph
from crackclf.saved.safety import check_keras_file


class Job(NamedTuple):
    """Some images whose features are computed together.

    Attributes:
        files: the images.
        digests: of the files; the views of an image are drawn from its digest.
        views: the numbers of the augmented views wanted of each; 0 is the image as it is.
    """

    files: tuple[str, ...]
    digests: tuple[str, ...]
    views: tuple[int, ...]


Compute = Callable[[Job], np.ndarray]
# Has jobs done elsewhere: from jobs and what does one to each job with its features.
Mapper = Callable[[Sequence[Job], Compute], Generator[tuple[Job, np.ndarray]]]


def compute_here(jobs: Sequence[Job], compute: Compute) -> Generator[tuple[Job, np.ndarray]]:
    """Does jobs on the cores of this machine, in order; a `Mapper`."""
    with ThreadPoolExecutor(cores()) as pool:
        try:
            yield from zip(jobs, pool.map(compute, jobs), strict=True)
        finally:
            pool.shutdown(cancel_futures=True)


class Pass:
    """One pass of images through a frozen base; can be pickled.

    Args:
        frozen: from `split_model`.
        augmentation: from `split_model`; None when no views are wanted.
    """

    def __init__(self, frozen: keras.Model, augmentation: keras.Layer | None):
        self._size: tuple[int, int] = frozen.input_shape[1:3]
        self._extract, self._augmentation = build_extractor(frozen), augmentation
        if augmentation is not None:
            _ = self._draw  # Traced once, before threads share it.

    def __call__(self, job: Job) -> np.ndarray:
        """Features of a job, float32 of shape (images, views, ...)."""
        pairs = zip(job.files, job.digests, strict=True)
        images = np.stack([self._read(file, digest) for file, digest in pairs])
        seen = [self._view(images, job.digests, number) for number in job.views]
        return np.stack([self._extract(x) for x in seen], axis=1)

    def _read(self, file: str, digest: str) -> np.ndarray:
        with naming(file):
            content = read_content(file)
            if digest_of(content) != digest:
                raise UserError("was changed while crackclf was at work; start it again")
            with decoding(content, file) as (image, _):
                return resize(image, *self._size)

    def _view(self, images: np.ndarray, digests: Sequence[str], number: int) -> np.ndarray:
        return self._draw(images, digests, number) if number else images

    @cached_property
    def _draw(self) -> Callable[[np.ndarray, Sequence[str], int], np.ndarray]:
        assert self._augmentation is not None
        return _repeatable(self._augmentation)

    def __getstate__(self) -> dict[str, Any]:
        state = {name: x for name, x in vars(self).items() if name != "_draw"}
        if self._augmentation is not None:
            shape = (*self._size, 3)
            whole = keras.Sequential([keras.Input(shape), self._augmentation])
            state["_augmentation"] = _to_bytes(whole)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self._augmentation is not None:
            self._augmentation = _from_bytes(state["_augmentation"])


def build_extractor(frozen: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """The function of a model, made fast for many images and no training.

    Without a GPU the model is converted to LiteRT, which works BatchNormalization into the
    convolutions and runs MobileNetV2 several times as fast as TensorFlow, with the same result
    to float32 precision.

    Args:
        frozen: from `split_model`, or any model of images.

    Returns:
        A function from float32 images of shape (batch, height, width, 3) to features, float32, as
        the model gives them. Threads may call it at the same time.
    """
    images = tf.TensorSpec((None, *frozen.input_shape[1:]), tf.float32)
    graph = freeze(lambda x: frozen(x, training=False), images)
    if tf.config.list_physical_devices("GPU"):
        return lambda batch: graph(tf.convert_to_tensor(batch))[0].numpy()
    return Graph(to_litert(graph))


def _to_bytes(model: keras.Model) -> bytes:
    with tempfile.TemporaryDirectory(prefix="crackclf-") as folder:
        model.save(path := Path(folder) / "model.keras")
        return path.read_bytes()


def _from_bytes(content: bytes) -> Any:
    with tempfile.TemporaryDirectory(prefix="crackclf-") as folder:
        (path := Path(folder) / "model.keras").write_bytes(content)
        check_keras_file(path)
        return keras.saving.load_model(path, compile=False, safe_mode=True)


def _repeatable(
    augmentation: keras.Layer,
) -> Callable[[np.ndarray, Sequence[str], int], np.ndarray]:
    """The augmentation, drawing the same for the same image and number whenever it is asked."""
    states = [v for v in augmentation.variables if "seed" in v.name]
    lock = threading.Lock()

    def draw_one(drawn: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        image, seeds = drawn
        for number, state in enumerate(states):
            state.assign(seeds[number])
        return augmentation(image[None], training=True)[0]

    @tf.function(reduce_retracing=True)
    def draw_all(images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        signature = tf.TensorSpec(images.shape[1:], tf.float32)
        return tf.map_fn(
            draw_one, (images, seeds), parallel_iterations=1, fn_output_signature=signature
        )

    def draw(images: np.ndarray, digests: Sequence[str], number: int) -> np.ndarray:
        seeds = [
            np.random.default_rng((int(digest, 16), number)).integers(2**32, size=(len(states), 2))
            for digest in digests
        ]
        with lock:  # There is one state, and a thread must find its own in it.
            return draw_all(tf.constant(images), tf.constant(np.array(seeds, np.uint32))).numpy()

    return draw
