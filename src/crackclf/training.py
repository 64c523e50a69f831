"""Training of the head of a model or, after `unfreeze`, of the last blocks of its base, too."""

from collections.abc import Sequence
from typing import Any, cast

import keras
import numpy as np
import tensorflow as tf

from crackclf import features
from crackclf.data import Datasets
from crackclf.errors import UserError
from crackclf.folders import is_uneven
from crackclf.model import split_model
from crackclf.settings import check_class_weights
from crackclf.splits import SUBSETS

_LARGE, _MANY = 256, 1024  # Images to a batch of cached features.
_VARIANTS, _MOST_VIEWS = 6000, 8


def train(
    model: keras.Model,
    data: Datasets,
    callbacks: Sequence[keras.callbacks.Callback],
    epochs: int = 10,
    cache_features: bool = True,
    views: int | None = None,
    class_weights: str = "auto",
    verbose: int | str = "auto",
) -> keras.callbacks.History:
    """Trains a compiled model on augmented images, with validation after each epoch.

    Args:
        model: from `build_model`.
        data: from `load_datasets`, with the model's image size.
        callbacks: from `build_callbacks`.
        epochs: most passes over the training set.
        cache_features: run the frozen part of the base once, keep its features in the data
            folder's cache, and train the rest on them, which is many times as fast. Each epoch
            uses one of a few augmented variants of each image. False runs the base in every
            epoch, on newly augmented images.
        views: augmented variants of each training image in the cache. 0 for the image as it is.
            None for 1 to 8, about 6,000 variants in all.
        class_weights: `"balanced"`: each class has the same weight in the training loss,
            n / (classes * n of the class) for an image. `"none"`: each image has the same.
            `"auto"`: balanced if one class has more than three times as many images as another.
        verbose: `"auto"` or 1 for a progress bar per epoch, 2 for a line, 0 for silence.

    Returns:
        Keras' `History`.

    Raises:
        UserError: when sizes or classes do not fit, the features cannot be cached, or the loss
            becomes NaN or infinite.

    Examples:
        >>> history = train(model, data, build_callbacks("logs/first"))
    """
    weights = weigh_classes(data, class_weights)
    for name, expected, received in (
        ("image_size", model.input_shape[1], data.image_size),
        ("classes", model.output_shape[-1], len(data.class_names)),
    ):
        if expected != received:
            raise UserError(
                f"the model has {name}={expected}, the data sets have {received}. Build the model "
                f"with {name}={received}."
            )
    names = [name for name in SUBSETS[:2] if data.files[name]]
    if cache_features:
        found = features.cache_features(model, data, count_views(data, views), names)
        sets = [_batches(found[name], data, name) for name in names]
        model = split_model(model).head
    else:
        sets = [getattr(data, name) for name in names]
    history = model.fit(
        sets[0],
        validation_data=sets[1] if len(sets) > 1 else None,
        epochs=epochs,
        callbacks=list(callbacks),
        class_weight=None if weights is None else dict(enumerate(weights)),
        verbose=cast(Any, verbose),
        shuffle=False,  # The set shuffles itself; Keras warns when it is to do it.
    )
    if not np.isfinite(history.history.get("loss", [0])).all():
        raise UserError("the training loss is NaN or infinite. Try a smaller learning rate.")
    return history


def count_views(data: Datasets, views: int | None) -> int:
    """Number of variants of each training image that are cached; with None, about 6,000 in all."""
    few = _VARIANTS // len(data.files["train"])
    return min(max(few, 1), _MOST_VIEWS) if views is None else views


def weigh_classes(data: Datasets, class_weights: str) -> list[float] | None:
    """The weight of an image of each class in the training loss; None when all weigh the same."""
    check_class_weights(class_weights)
    counts = [*data.counts["train"].values()]
    if class_weights == "none" or (class_weights == "auto" and not is_uneven(counts)):
        return None
    return [sum(counts) / (len(counts) * n) for n in counts]


def predict_features(model: keras.Model, data: Datasets, subset: str = "test") -> np.ndarray:
    """Predicts a set from its cached features. Missing features are computed.

    Args:
        model: from `build_model`. The base, or all but its last blocks, must be frozen.
        data: from `load_datasets`, with the model's image size.
        subset: "train", "validation" or "test".

    Returns:
        Probabilities, float32 of shape (n, classes), in the order of `data.files[subset]`.

    Raises:
        UserError: when the base is not frozen or the features cannot be cached.

    Examples:
        >>> probabilities = predict_features(model, data, "validation")
    """
    found = features.cache_features(model, data, subsets=(subset,))[subset]
    head = split_model(model).head
    # Not by `predict`, which would trace each new head, and TensorFlow warn of it.
    parts = [found[i : i + _MANY, 0] for i in range(0, len(found), _MANY)]
    return np.concatenate([np.asarray(head(part, training=False)) for part in parts])


def _batches(found: features.Features, data: Datasets, subset: str) -> tf.data.Dataset:
    """Batches of features and one-hot labels; for training shuffled, each image in any variant."""
    labels = np.eye(len(data.class_names), dtype=np.float32)[data.labels[subset]]
    n, variants, *shape = found.shape
    rows, rng = tf.data.Dataset.range(n), np.random.default_rng(data.seed)
    if subset == "train":
        batch_size, rows = data.batch_size, rows.shuffle(n, data.seed)
    else:  # Nothing is learnt from these, and a step costs more than what is computed in it.
        batch_size = max(data.batch_size, _LARGE)

    def read(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        variant = rng.integers(variants, size=len(batch))
        return found[batch, variant].astype(np.float32), labels[batch]

    def look_up(batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        x, y = tf.numpy_function(read, [batch], (tf.float32, tf.float32))
        return tf.ensure_shape(x, (None, *shape)), tf.ensure_shape(y, (None, labels.shape[1]))

    return rows.batch(batch_size).map(look_up).prefetch(tf.data.AUTOTUNE)
