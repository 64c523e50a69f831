"""Fitting a compiled model."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from crackclf.data.datasets import Datasets
from crackclf.data.folders import is_uneven
from crackclf.data.splits import SUBSETS
from crackclf.errors import UserError
from crackclf.features.cache import cache_features as read_features
from crackclf.features.store import Features
from crackclf.models.parts import split_model
from crackclf.models.unfreezing import unfreeze
from crackclf.training.resume import Backup

_LARGE, _MANY = 256, 1024  # Images to a batch.
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
            folder's cache, and train the rest on them. This is many times as fast. Each epoch
            uses one of a few augmented variants of each image. False runs the base in every
            epoch, on newly augmented images.
        views: augmented variants of each training image in the cache. 0 for the image as it is.
            None for 1 to 8, about 6,000 variants in all.
        class_weights: weight of an image in the training loss. `"balanced"`: each class has the
            same weight, n / (classes * n of the class) for an image. `"none"`: each image has
            the same weight. `"auto"`: balanced if one class has more than three times as many
            training images as another. Validation loss is not weighted.
        verbose: `"auto"` or 1 for a progress bar per epoch, 2 for a line, 0 for silence.

    Returns:
        Keras' `History`.

    Raises:
        UserError: when sizes or classes do not fit, the features cannot be cached, or the loss
            becomes NaN or infinite.

    Example:

    ```python
    history = train(model, data, build_callbacks("logs/first"))
    ```
    """
    _check_fit(model, data)
    watched = len(data.images["validation"]) > 0
    if not cache_features:
        training, validation = data.train, data.validation if watched else None
    else:
        features = read_features(model, data, count_views(data, views), SUBSETS[:2])
        training = _batches(features["train"], data, "train")
        validation = _batches(features["validation"], data, "validation") if watched else None
        model = split_model(model).head
    backup = next((x for x in callbacks if isinstance(x, Backup)), None)
    first_epoch = backup.first_epoch(epochs) if backup else 0
    for _ in range(first_epoch):
        iter(training)  # Each pass draws another order; the next one is the one that is due.
    weights = weigh_classes(data, class_weights)
    history = model.fit(
        # Of a set that is not repeated, Keras starts more passes than it finishes.
        training.repeat(),
        steps_per_epoch=len(training),
        validation_data=validation,
        epochs=epochs,
        initial_epoch=first_epoch,
        callbacks=list(callbacks),
        class_weight=None if weights is None else dict(enumerate(weights)),
        verbose=verbose,  # pyright: ignore[reportArgumentType]
        shuffle=False,  # The set shuffles itself; Keras warns when asked to do it.
    )
    if not np.isfinite(history.history.get("loss", [0])).all():
        raise UserError("the training loss is NaN or infinite. Try a smaller learning rate.")
    return history


def fine_tune(
    model: keras.Model,
    data: Datasets,
    callbacks: Sequence[keras.callbacks.Callback],
    epochs: int = 10,
    blocks: int = 1,
    learning_rate: float = 1e-5,
    cache_features: bool = True,
    views: int | None = None,
    class_weights: str = "auto",
    verbose: int | str = "auto",
) -> keras.callbacks.History:
    """Trains the last blocks of the base together with the head, at a small learning rate.

    This is the second stage of transfer learning. BatchNormalization stays frozen.

    Args:
        model: from `build_model`, with a trained head; changed in place.
        data: from `load_datasets`, with the model's image size.
        callbacks: from `build_callbacks`, with a log_dir of their own.
        epochs: most passes over the training set.
        blocks: number of blocks at the end of the base to train.
        learning_rate: learning rate of the new optimizer. A hundredth of the head's keeps what
            the base has learnt.
        cache_features: run the blocks that stay frozen once, keep their features in the data
            folder's cache, and train the rest on them. False runs them in every epoch.
        views: augmented variants of each training image in the cache. 0 for the image as it is.
            None for 1 to 8, about 6,000 variants in all.
        class_weights: weight of an image in the training loss. `"balanced"`: each class has the
            same weight. `"none"`: each image has the same weight. `"auto"`: balanced if one class
            has more than three times as many training images as another.
        verbose: `"auto"` or 1 for a progress bar per epoch, 2 for a line, 0 for silence.

    Returns:
        Keras' `History` of this stage.

    Raises:
        UserError: when the base has fewer blocks, sizes or classes do not fit, the features
            cannot be cached, or the loss becomes NaN or infinite.

    Example:

    ```python
    fine_tune(model, data, build_callbacks("logs/first-tuned"), blocks=2)
    ```
    """
    unfreeze(model, blocks, learning_rate)
    return train(model, data, callbacks, epochs, cache_features, views, class_weights, verbose)


def count_views(data: Datasets, views: int | None) -> int:
    """How many variants of each training image are cached when `views` are asked for.

    When none is asked for, many of few images and one of many: that many take seconds.
    """
    few = _VARIANTS // len(data.images["train"])
    return min(max(few, 1), _MOST_VIEWS) if views is None else views


def weigh_classes(data: Datasets, class_weights: str) -> list[float] | None:
    """By what an error on an image of each class counts in training; None when all count alike.

    Args:
        data: whose training set is counted.
        class_weights: "balanced", "none" or "auto".
    """
    counts = [n for n in data.counts["train"].values()]
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

    Example:

    ```python
    probabilities = predict_features(model, data, "validation")
    ```
    """
    features = read_features(model, data, subsets=(subset,))[subset][:, 0]
    head = split_model(model).head
    # Not by `predict`, which would trace each new head, and TensorFlow warn of it.
    parts = [features[i : i + _MANY] for i in range(0, len(features), _MANY)]
    return np.concatenate([np.asarray(head(part, training=False)) for part in parts])


def _check_fit(model: keras.Model, data: Datasets) -> None:
    if model.input_shape[1] != data.image_size:
        raise UserError(
            f"expected images of {model.input_shape[1]} pixels, the model's image_size. Received: "
            f"{data.image_size}. Give build_model and load_datasets the same image_size."
        )
    if model.output_shape[-1] != len(data.class_names):
        raise UserError(
            f"expected {model.output_shape[-1]} classes, as many as the model has. Received: "
            f"{len(data.class_names)}. Build the model with classes={len(data.class_names)}."
        )


def _batches(features: Features, data: Datasets, subset: str) -> tf.data.Dataset:
    """Batches of features and one-hot labels; for training shuffled, each image in any variant."""
    labels = np.eye(len(data.class_names), dtype=np.float32)[data.labels[subset]]
    n, variants, *shape = features.shape
    rows = tf.data.Dataset.range(n)
    if subset == "train":
        batch_size, rows = data.batch_size, rows.shuffle(n, data.seed)
    else:
        # Nothing is learnt from these, and a step costs more than what is computed in it.
        batch_size = max(data.batch_size, _LARGE)

    def read(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # Drawn from the batch itself, so that a training that goes on draws what it would have.
        variant = np.random.default_rng([data.seed, *batch]).integers(variants, size=len(batch))
        return features[batch, variant].astype(np.float32), labels[batch]

    def look_up(batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        x, y = tf.numpy_function(read, [batch], (tf.float32, tf.float32))
        return tf.ensure_shape(x, (None, *shape)), tf.ensure_shape(y, (None, labels.shape[1]))

    return rows.batch(batch_size).map(look_up).prefetch(tf.data.AUTOTUNE)
