"""The recipe's Keras models: the teacher and its answers, and the student as it ships."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from crackclf.errors import UserError
from crackclf.files import building, replace_whole
from crackclf.models.backbones import BACKBONES
from crackclf.models.bases import build_backbone, build_narrow_base

TEACHER_SIZE = 192
BATCH_SIZE = 16  # Faster than 64 on two cores: a small batch stays in the processor's cache.


def build_teacher(weights: str | os.PathLike, steps: int) -> keras.Model:
    """Builds an ImageNet MobileNetV2 to fine-tune from its third block up.

    Args:
        weights: `"imagenet"` or the path of a weights file, as for `build_backbone`.
        steps: of the whole training, for the learning rate's schedule.

    Returns:
        A compiled model from images in 0..255 to `probabilities` of shape (batch, 2).

    Raises:
        UserError: when the ImageNet weights cannot be had.
    """
    base, origin = build_backbone("mobilenetv2", TEACHER_SIZE, weights)
    if origin.startswith("concrete"):
        raise UserError(
            "the teacher starts from ImageNet weights, which cannot be downloaded here. Set "
            "CRACKCLF_WEIGHTS_DIR to a folder with mobilenetv2.weights.h5."
        )
    names = [layer.name for layer in base.layers]
    # The first blocks cost the most to train and gain the least.
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


def build_student(weights: Sequence[np.ndarray], image_size: int) -> keras.Model:
    """Builds the student in Keras.

    Args:
        weights: of the narrow base and the head, in Keras' order, as `student.py` writes them.
        image_size: height and width of the model's input in pixels; may differ from that of the
            training.

    Returns:
        A model from images in 0..255 to probabilities of shape (batch, 2).
    """
    base = build_narrow_base(image_size)
    head = keras.layers.Dense(2, activation="softmax", name="probabilities")
    inputs = keras.Input((image_size, image_size, 3), name="image")
    x = base(BACKBONES["mobilenetv2"].preprocessing()(inputs), training=False)
    x = keras.layers.GlobalAveragePooling2D(name="pooling")(x)
    model = keras.Model(inputs, head(x), name="crackclf")
    base.set_weights(weights[:-2])
    head.set_weights(weights[-2:])
    return model


def fit_resumable(
    build: Callable[[], keras.Model],
    views: Callable[[int], tf.data.Dataset],
    n: int,
    epochs: int,
    checkpoint: Path,
) -> keras.Model:
    """Fits a model on n views. It is saved after every epoch, and resumed from there.

    Args:
        build: makes the compiled model.
        views: from a number of views to skip to a data set of (image, target).
        n: number of views in all.
        epochs: parts into which they are divided.
        checkpoint: where the model is saved with its optimizer.

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
    """Stores views and the teacher's answers to them.

    The folder holds `images.npy`, uint8 of shape (n, `TEACHER_SIZE`, `TEACHER_SIZE`, 3);
    `features.npy`, the teacher's feature maps, float16 of shape (n, side, side, 1280); and
    `logits.npy`, its logits by cell of the feature map, float32 of shape (n, side, side, 2), whose
    mean is the logits of the view.

    Args:
        teacher: from `build_teacher`.
        views: n views of the size of its input, from `read_views`.
        n: their number.
        folder: the folder to make; nothing is done when it exists.
    """
    if folder.exists():
        return
    size, side = teacher.input_shape[1], teacher.input_shape[1] // 32
    shapes = {
        "images": ((n, size, size, 3), np.uint8),
        "features": ((n, side, side, 1280), np.float16),
        "logits": ((n, side, side, 2), np.float32),
    }
    *_, pooling, _, head = teacher.layers
    look = keras.Model(teacher.input, pooling.input)
    kernel, bias = head.get_weights()
    with building(folder) as draft, tqdm(total=n, desc="Teacher's answers", unit=" views") as bar:
        arrays = {
            name: np.lib.format.open_memmap(draft / f"{name}.npy", "w+", dtype, shape)
            for name, (shape, dtype) in shapes.items()
        }
        for batch, _ in views.batch(BATCH_SIZE).prefetch(2):
            at = np.s_[bar.n : bar.n + len(batch)]
            arrays["images"][at] = images = np.round(batch.numpy())
            arrays["features"][at] = features = look.predict_on_batch(images)
            arrays["logits"][at] = features @ kernel + bias
            bar.update(len(batch))
        for array in arrays.values():
            array.flush()


class _SaveWhole(keras.callbacks.Callback):
    """Saves the model aside, then renames it, so that a kill loses one epoch at most."""

    def __init__(self, path: Path):
        super().__init__()
        self.path = path

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        draft = self.path.with_name(f"partial-{self.path.name}")
        assert self.model is not None
        self.model.save(draft)
        replace_whole(draft, self.path)


def _cosine(learning_rate: float, steps: int) -> Any:
    warm_up = steps // 20
    return keras.optimizers.schedules.CosineDecay(
        0.0, steps - warm_up, warmup_target=learning_rate, warmup_steps=warm_up
    )
