"""A small network learns from a large one: the recipe of the model that ships."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from crackclf.errors import UserError
from crackclf.models.backbones import BACKBONES, build_backbone, build_narrow_base

TEACHER_SIZE = 192
BATCH_SIZE = 16  # Small batches stay in the processor's cache: faster than 64 on two cores.


def build_teacher(weights: str | os.PathLike, steps: int) -> keras.Model:
    """An ImageNet MobileNetV2 to be fine-tuned from its third block up.

    Args:
        weights: see `build_backbone`.
        steps: of the whole training, for the learning rate's schedule.

    Returns:
        A compiled model from images in 0..255 to `probabilities` of shape (batch, 2).

    Raises:
        UserError: when ImageNet weights were asked for and cannot be had.
    """
    base, origin = build_backbone("mobilenetv2", TEACHER_SIZE, weights)
    if origin.startswith("concrete"):
        raise UserError(
            "the teacher starts from ImageNet weights, which cannot be had here. Set "
            "CRACKCLF_WEIGHTS_DIR to a folder with mobilenetv2.weights.h5."
        )
    names = [layer.name for layer in base.layers]
    # The first blocks are the costliest to train and the least in need of it.
    for layer in base.layers[names.index("block_3_expand") :]:
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    inputs = keras.Input((TEACHER_SIZE, TEACHER_SIZE, 3))
    x = base(BACKBONES["mobilenetv2"].preprocessing()(inputs), training=False)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.2)(x)
    outputs = keras.layers.Dense(2, activation="softmax", name="probabilities")(x)
    teacher = keras.Model(inputs, outputs, name="teacher")
    teacher.compile(
        keras.optimizers.AdamW(_cosine(2e-4, steps), weight_decay=0.02),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
        metrics=["accuracy"],
    )
    return teacher


def build_student(image_size: int, steps: int) -> keras.Model:
    """A MobileNetV2 of random weights with two outputs: probabilities and feature map.

    Args:
        image_size: height and width of its input in pixels.
        steps: of the whole training, for the learning rate's schedule.

    Returns:
        A compiled model from images in 0..255 to `probabilities` of shape (batch, 2) and
        `features` of shape (batch, height, width, 1280).
    """
    base = build_narrow_base(image_size)
    for layer in base.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.99  # Keras' 0.999 is for runs of a million steps.
    inputs = keras.Input((image_size, image_size, 3), name="image")
    features = base(BACKBONES["mobilenetv2"].preprocessing()(inputs))
    x = keras.layers.GlobalAveragePooling2D(name="pooling")(features)
    probabilities = keras.layers.Dense(2, activation="softmax", name="probabilities")(x)
    student = keras.Model(
        inputs, {"probabilities": probabilities, "features": features}, name="student"
    )
    student.compile(
        keras.optimizers.AdamW(_cosine(1.5e-3, steps), weight_decay=0.02),
        loss={"probabilities": "categorical_crossentropy", "features": "mean_squared_error"},
        loss_weights={"probabilities": 1.0, "features": 2.0},
        metrics={"probabilities": ["accuracy"]},
    )
    return student


def mirror_average(student: keras.Model, image_size: int) -> keras.Model:
    """The student as it ships: it looks at an image and three mirrored ones and takes the mean.

    Args:
        student: from `build_student`.
        image_size: height and width of the new model's input in pixels; need not be that of
            the training.

    Returns:
        A model from images in 0..255 to probabilities of shape (batch, 2).
    """
    base = build_narrow_base(image_size)
    base.set_weights(student.get_layer("mobilenetv2").get_weights())
    pooling = keras.layers.GlobalAveragePooling2D(name="pooling")
    head = keras.layers.Dense(2, activation="softmax", name="probabilities")
    inputs = keras.Input((image_size, image_size, 3), name="image")
    upright = BACKBONES["mobilenetv2"].preprocessing()(inputs)
    views = [
        upright,
        keras.ops.flip(upright, axis=1),
        keras.ops.flip(upright, axis=2),
        keras.ops.transpose(upright, (0, 2, 1, 3)),
    ]
    answers = [head(pooling(base(view))) for view in views]
    head.set_weights(student.get_layer("probabilities").get_weights())
    return keras.Model(inputs, keras.layers.Average(name="mean")(answers), name="crackclf")


def fit_resumable(
    build: Callable[[], keras.Model],
    views: Callable[[int], tf.data.Dataset],
    n: int,
    epochs: int,
    checkpoint: Path,
) -> keras.Model:
    """Fits a model on n views, saving it whole after every epoch and going on from there.

    Args:
        build: makes the compiled model.
        views: from a number of views to pass over to a data set of (image, target).
        n: number of views in all.
        epochs: parts into which they are cut.
        checkpoint: where the model is saved, optimizer and all.

    Returns:
        The model.
    """
    if checkpoint.exists():
        model: keras.Model = keras.saving.load_model(checkpoint)  # type: ignore[assignment]
    else:
        model = build()
    done, per_epoch = int(model.optimizer.iterations), n // BATCH_SIZE // epochs
    if done < per_epoch * epochs:
        batches = views(done * BATCH_SIZE).batch(BATCH_SIZE, drop_remainder=True)
        model.fit(
            batches.prefetch(2),
            initial_epoch=done // per_epoch,
            epochs=epochs,
            steps_per_epoch=per_epoch,
            callbacks=[_SaveWhole(checkpoint)],
            verbose=2,  # pyright: ignore[reportArgumentType]
            shuffle=False,
        )
    return model


@dataclass(frozen=True)
class LabelledViews:
    """Views of images with what the teacher says of them, memory-mapped.

    Attributes:
        images: uint8 of shape (n, image_size, image_size, 3).
        probabilities: the teacher's, float32 of shape (n, 2).
        features: its feature maps, float16 of shape (n, side, side, 1280), the side being that
            of the student's own map.
    """

    images: np.ndarray
    probabilities: np.ndarray
    features: np.ndarray


def label_views(
    teacher: keras.Model, views: tf.data.Dataset, n: int, image_size: int, folder: Path
) -> LabelledViews:
    """Lets the teacher see each view once and stores what it says.

    Args:
        teacher: from `build_teacher`.
        views: n views of `TEACHER_SIZE`, from `read_views`.
        n: their number.
        image_size: height and width of the student's input in pixels.
        folder: where the arrays go; complete ones are used again.

    Returns:
        The stored views.
    """
    side = -(-image_size // 32)
    shapes = {
        "images": ((n, image_size, image_size, 3), np.uint8),
        "probabilities": ((n, 2), np.float32),
        "features": ((n, side, side, 1280), np.float16),
    }
    if not folder.exists():
        building = folder.with_name(f"{folder.name}.tmp")
        building.mkdir(parents=True, exist_ok=True)
        arrays = {
            name: np.lib.format.open_memmap(building / f"{name}.npy", "w+", dtype, shape)
            for name, (shape, dtype) in shapes.items()
        }
        pooling = teacher.layers[-3]  # Then dropout and the head.
        both = keras.Model(teacher.input, [teacher.output, pooling.input])
        with tqdm(total=n, desc="Asking the teacher", unit=" views") as bar:
            for batch, _ in views.batch(BATCH_SIZE).prefetch(2):
                at = np.s_[bar.n : bar.n + len(batch)]
                probabilities, features = both.predict_on_batch(batch)
                images = tf.round(tf.image.resize(batch, (image_size, image_size)))
                arrays["images"][at] = images.numpy()
                arrays["probabilities"][at] = probabilities
                arrays["features"][at] = tf.image.resize(features, (side, side)).numpy()
                bar.update(len(batch))
        for array in arrays.values():
            array.flush()
        building.rename(folder)
    return LabelledViews(
        **{name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in shapes}
    )


def read_labelled(
    views: LabelledViews, labels: np.ndarray, schedule: np.ndarray, seed: int, start: int
) -> tf.data.Dataset:
    """The student's lessons: stored views, turned and mirrored anew each time.

    Args:
        views: from `label_views`.
        labels: float32 of shape (n, 2), one-hot, the true class of each view's image.
        schedule: int array: the number of the view of each lesson.
        seed: of the turning.
        start: number of lessons to pass over.

    Returns:
        A data set of (image, {"probabilities", "features"}) as `build_student` takes them. The
        probabilities are the teacher's for 70 %, which knows what a crop still shows, and the
        label's for 30 %.
    """
    bits = np.random.default_rng(seed).integers(0, 2, (len(schedule), 3))
    goal = 0.7 * views.probabilities + 0.3 * labels

    def read(number: np.ndarray) -> tuple[np.ndarray, ...]:
        index, (flip, mirror, turn) = schedule[number], bits[number]
        axes = (1, 0, 2) if turn else (0, 1, 2)
        image, features = (
            array[index][:: 1 - 2 * flip, :: 1 - 2 * mirror].transpose(axes).astype(np.float32)
            for array in (views.images, views.features)
        )
        return image, goal[index].astype(np.float32), features

    def lesson(number: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        image, probabilities, features = tf.numpy_function(read, [number], [tf.float32] * 3)
        image.set_shape(views.images.shape[1:])
        probabilities.set_shape((2,))
        features.set_shape(views.features.shape[1:])
        return image, {"probabilities": probabilities, "features": features}

    return tf.data.Dataset.range(start, len(schedule)).map(lesson, tf.data.AUTOTUNE)


class _SaveWhole(keras.callbacks.Callback):
    """Saves the model beside its place, then renames: a kill costs one epoch at most."""

    def __init__(self, path: Path):
        super().__init__()
        self.path = path

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        temporary = self.path.with_name(f"partial-{self.path.name}")
        assert self.model is not None
        self.model.save(temporary)
        temporary.replace(self.path)


def _cosine(learning_rate: float, steps: int) -> Any:
    warm_up = steps // 20
    return keras.optimizers.schedules.CosineDecay(
        0.0, steps - warm_up, warmup_target=learning_rate, warmup_steps=warm_up
    )
