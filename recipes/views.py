"""Augmented views of image files, in an order that an interrupted training can resume."""

import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from crackclf.images.decode import read_image


def draw_schedule(sizes: Sequence[int], weights: Sequence[float], n: int, seed: int) -> np.ndarray:
    """Draws the file of each view: sets by weight, the files of a set in turn.

    Args:
        sizes: number of files of each set; the files are numbered set after set.
        weights: each set's share of the views, summing to 1.
        n: number of views.
        seed: of the draw.

    Returns:
        int array of shape (n,): file numbers. All files of a set are drawn once before any is
        drawn again.
    """
    rng = np.random.default_rng(seed)
    which = rng.choice(len(sizes), size=n, p=weights)
    schedule = np.empty(n, dtype=np.int64)
    for index, (size, start) in enumerate(zip(sizes, np.cumsum([0, *sizes]), strict=False)):
        wanted = int((which == index).sum())
        rounds = [rng.permutation(size) for _ in range(-(-wanted // size))]
        schedule[which == index] = start + np.concatenate([np.empty(0, int), *rounds])[:wanted]
    return schedule


def read_views(
    files: Sequence[str | os.PathLike], schedule: np.ndarray, image_size: int, seed: int, start: int
) -> tf.data.Dataset:
    """Reads augmented views of files. A view depends on the seed and its number only.

    Args:
        files: image files.
        schedule: int array of shape (n,): the file number of each view.
        image_size: height and width of a view in pixels.
        seed: of the augmentation.
        start: number of views to skip.

    Returns:
        A data set of n - start pairs: view, float32 of shape (image_size, image_size, 3) in
        0..255, and file number, int64.
    """
    paths = tf.constant([os.fspath(path) for path in files])

    def read(number: tf.Tensor, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = tf.numpy_function(
            lambda path: read_image(path.decode()), [paths[index]], tf.uint8, stateful=False
        )
        image.set_shape((None, None, 3))
        return augment(image, tf.stack([seed, number]), image_size), index

    views = tf.data.Dataset.from_tensor_slices((np.arange(start, len(schedule)), schedule[start:]))
    return views.map(read, tf.data.AUTOTUNE)


def augment(image: tf.Tensor, seed: tf.Tensor, image_size: int) -> tf.Tensor:
    """Draws one view: crop, flips, quarter turn, brightness, colour, at times blur and noise.

    It is stronger than `build_augmentation`, because whole networks are trained on it and not only
    a head.

    Args:
        image: uint8 of shape (height, width, 3).
        seed: int of shape (2,).
        image_size: height and width of the view in pixels.

    Returns:
        float32 of shape (image_size, image_size, 3) in 0..255.
    """
    numbers = tf.random.stateless_uniform((16,), seed)

    def between(index: int, low: float, high: float) -> tf.Tensor:
        return low + (high - low) * numbers[index]

    shape = tf.shape(image)
    side = tf.cast(tf.cast(tf.reduce_min(shape[:2]), tf.float32) * between(0, 0.7, 1), tf.int32)
    room = tf.cast(shape[:2] - side, tf.float32)
    top, left = tf.cast(room[0] * numbers[1], tf.int32), tf.cast(room[1] * numbers[2], tf.int32)
    view = tf.image.resize(image[top : top + side, left : left + side], (image_size, image_size))
    view = tf.cond(numbers[3] < 0.5, lambda: view[::-1], lambda: view)
    view = tf.cond(numbers[4] < 0.5, lambda: view[:, ::-1], lambda: view)
    view = tf.cond(numbers[5] < 0.5, lambda: tf.transpose(view, (1, 0, 2)), lambda: view)

    grey = tf.reduce_mean(view, axis=-1, keepdims=True)
    view = grey + (view - grey) * between(6, 0.6, 1.4)
    mean = tf.reduce_mean(grey)
    view = mean + (view - mean) * between(7, 0.7, 1.3) + between(8, -40, 40)
    view *= 1 + 0.2 * (numbers[9:12] - 0.5)

    def blur() -> tf.Tensor:
        small = tf.cast(image_size * between(13, 0.4, 1), tf.int32)
        return tf.image.resize(
            tf.image.resize(view, (small, small), antialias=True), (image_size, image_size)
        )

    def noise() -> tf.Tensor:
        return view + between(15, 2, 12) * tf.random.stateless_normal(tf.shape(view), seed)

    view = tf.cond(numbers[12] < 0.25, blur, lambda: view)
    view = tf.cond(numbers[14] < 0.25, noise, lambda: view)
    return tf.ensure_shape(tf.clip_by_value(view, 0, 255), (image_size, image_size, 3))
