"""A small network learns from a large one: the recipe of the model that ships."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from crackclf.errors import UserError
from crackclf.models.backbones import BACKBONES
from crackclf.models.bases import build_backbone, build_narrow_base

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


def mirror_average(weights: Sequence[np.ndarray], image_size: int) -> keras.Model:
    """The student as it ships: it looks at an image and three mirrored ones and takes the mean.

    Args:
        weights: of the narrow base and of the head behind it, in Keras' order, as
            `crackclf.training.student` writes them.
        image_size: height and width of the model's input in pixels; need not be that of the
            training.

    Returns:
        A model from images in 0..255 to probabilities of shape (batch, 2).
    """
    base = build_narrow_base(image_size)
    base.set_weights(weights[:-2])
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
    head.set_weights(weights[-2:])
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


def label_views(teacher: keras.Model, views: tf.data.Dataset, n: int, folder: Path) -> None:
    """Lets the teacher see each view once and stores what it says.

    The folder then holds `images.npy`, uint8 of shape (n, `TEACHER_SIZE`, `TEACHER_SIZE`, 3);
    `features.npy`, the teacher's feature maps, float16 of shape (n, side, side, 1280); and
    `logits.npy`, what its head says of each cell of that map alone, float32 of shape (n, side,
    side, 2): their mean is what it says of the view.

    Args:
        teacher: from `build_teacher`.
        views: n views of the size of its input, from `read_views`.
        n: their number.
        folder: where the arrays go; complete ones are left as they are.
    """
    if folder.exists():
        return
    size, side = teacher.input_shape[1], teacher.input_shape[1] // 32
    shapes = {
        "images": ((n, size, size, 3), np.uint8),
        "features": ((n, side, side, 1280), np.float16),
        "logits": ((n, side, side, 2), np.float32),
    }
    building = folder.with_name(f"{folder.name}.tmp")
    building.mkdir(parents=True, exist_ok=True)
    arrays = {
        name: np.lib.format.open_memmap(building / f"{name}.npy", "w+", dtype, shape)
        for name, (shape, dtype) in shapes.items()
    }
    *_, pooling, _, head = teacher.layers
    look = keras.Model(teacher.input, pooling.input)
    kernel, bias = head.get_weights()
    with tqdm(total=n, desc="Asking the teacher", unit=" views") as bar:
        for batch, _ in views.batch(BATCH_SIZE).prefetch(2):
            at = np.s_[bar.n : bar.n + len(batch)]
            arrays["images"][at] = images = np.round(batch.numpy())
            arrays["features"][at] = features = look.predict_on_batch(images)
            arrays["logits"][at] = features @ kernel + bias
            bar.update(len(batch))
    for array in arrays.values():
        array.flush()
    building.rename(folder)


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
