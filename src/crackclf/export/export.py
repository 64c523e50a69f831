"""A saved model exported to a file for another runtime, and checked there."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from crackclf import __version__
from crackclf.errors import UserError, counted
from crackclf.export.formats import FORMATS, Exported
from crackclf.files import user_path
from crackclf.images.decode import read_image
from crackclf.images.resize import resize
from crackclf.prediction.classifier import Classifier, load_model
from crackclf.saved.card import KERAS_FILE, Card, choose_classes
from crackclf.saved.store import load_keras_model, open_model

_BATCH = 64
_SAME = 1e-3  # Probabilities that differ by no more are the same.
_MOST_LOST = 0.01  # Share of the images that may be lost to 8 bits.


@dataclass(frozen=True)
class Export:
    """What the check of an exported file found.

    Attributes:
        path: the file, or folder.
        size: in bytes, of all that belongs to it.
        images: how many it was checked on.
        max_difference: of a class's probability from the saved model's, on the worst image.
        agreement: share of the images that both give the same label.
        accuracy: (the saved model's, the file's) share of right labels; None without true labels.
    """

    path: Path
    size: int
    images: int
    max_difference: float
    agreement: float
    accuracy: tuple[float, float] | None = None

    def __str__(self) -> str:
        text = (
            f"{self.path}: {self.size / 1e6:.2f} MB. Compared with the saved model on "
            f"{counted(self.images, 'image')}: the same label on {self.agreement:.2%}, "
            f"probabilities differ by at most {self.max_difference:.2g}."
        )
        if self.accuracy is None:
            return text
        return f"{text} Accuracy: model {self.accuracy[0]:.4f}, file {self.accuracy[1]:.4f}."


def export_model(
    model: str | os.PathLike,
    path: str | os.PathLike,
    format: str,
    images: Sequence[str | os.PathLike],
    labels: Sequence[int] | np.ndarray | None = None,
    calibration: Sequence[str | os.PathLike] = (),
) -> Export:
    """Writes a saved model in another format, and runs it there to check it.

    The file takes `image`, uint8 RGB of shape (batch, height, width, 3) and any size, and gives
    `probabilities`, float32 of shape (batch, classes), calibrated: resizing, preprocessing,
    softmax and temperature are inside, augmentation is not. Class names and threshold travel with
    it as JSON under the name `crackclf`: in ONNX's metadata, OpenVINO's `rt_info`, a ZIP behind the
    LiteRT model, `assets.extra/` of the SavedModel.

    Args:
        model: the folder of a saved Keras model, or the word `shipped`.
        path: file to write, with the format's suffix; must not exist.
        format: `"onnx"`, `"openvino"` (also writes the weights, a `.bin`), `"litert"` or
            `"saved_model"` (a folder).
        images: files of patches on which it must give the saved model's probabilities.
        labels: the index of each one's class in the model's, to measure the accuracy.
        calibration: files of other patches; when given, weights and activations are quantised to
            8 bits after training, by the ranges found on these.

    Returns:
        An `Export`.

    Raises:
        UserError: when the file cannot be written, or gives other probabilities; then there is
            none.

    Example:

    ```python
    export_model("shipped", "crack.onnx", "onnx", sorted(Path("patches").glob("*.jpg")))
    ```
    """
    path = check_export_path(path, format)
    card, files = open_model(model)
    if KERAS_FILE not in files:
        raise UserError(
            "only Keras models can be exported. Received: one in PyTorch, for which there is "
            "torch.onnx.export."
        )
    about = _describe(card)
    function = build_serving_function(load_keras_model(model), card)
    try:
        with tempfile.TemporaryDirectory(prefix=".crackclf-", dir=path.parent) as folder:
            draft = Path(folder) / path.name
            ranges = [read_image(image)[None] for image in calibration]
            FORMATS[format].write(function, draft, about, ranges)
            exported = FORMATS[format].load(draft)
            if exported.about != about:
                raise UserError(f"{path}: its class names and threshold could not be read back.")
            size = sum(part.stat().st_size for part in Path(folder).rglob("*"))
            result = measure(exported, load_model(model), path, size, images, labels)
            _check(result, bool(calibration))
            # The weights first: a file that is there is whole.
            for part in sorted(Path(folder).iterdir(), key=lambda part: part == draft):
                part.rename(path.parent / part.name)
    except OSError as error:
        raise UserError(f"{path}: could not be written ({error.strerror}).") from error
    return result


def check_export_path(path: str | os.PathLike, format: str) -> Path:
    """Refuses an unknown format or an existing file before any work is done.

    Args:
        path: file to write.
        format: `"onnx"`, `"openvino"`, `"litert"` or `"saved_model"`.

    Raises:
        UserError: in these cases, and when the file's suffix is not the format's.
    """
    path = user_path(path)
    if format not in FORMATS:
        raise UserError(f"expected one of the formats {', '.join(FORMATS)}. Received: {format}.")
    suffix = FORMATS[format].suffix
    if path.suffix.lower() != suffix and suffix:
        raise UserError(f"{path}: expected a name ending in {suffix} for {format}.")
    taken = [file for file in (path, path.with_suffix(".bin")) if file.exists()]
    if taken and (path in taken or suffix == ".xml"):
        raise UserError(f"{taken[0]}: already exists, and crackclf overwrites no model.")
    if not path.parent.is_dir():
        raise UserError(f"{path}: its folder {path.parent} does not exist; create it first.")
    return path


def build_serving_function(model: Any, card: Card) -> Any:
    """The whole of a classifier, from pixels of any size to calibrated probabilities.

    Args:
        model: from `load_keras_model`.
        card: its card.

    Returns:
        A `tf.function` from `image`, uint8 of shape (batch, height, width, 3), to
        `probabilities`, float32 of shape (batch, classes).
    """
    size, power = card.image_size, 1 / card.temperature

    def serve(image: Any) -> Any:
        # As `Classifier.probabilities` does it.
        x: Any = tf.image.resize(tf.cast(image, tf.float32), (size, size))
        said: Any = model(x, training=False)
        scaled: Any = tf.clip_by_value(said, 1e-7, 1.0) ** power
        return {"probabilities": scaled / tf.reduce_sum(scaled, 1, keepdims=True)}

    images = tf.TensorSpec((None, None, None, 3), tf.uint8, name="image")
    return tf.function(serve, input_signature=[images])


def _describe(card: Card) -> dict[str, Any]:
    return {
        "written_by": f"crackclf {__version__}",
        "class_names": list(card.class_names),
        "positive_class": card.positive_class,
        "threshold": card.threshold,
        "patch_size": card.patch_size,
        "image": "uint8 RGB, (batch, height, width, 3)",
        "probabilities": "float32, (batch, classes), in the order of class_names",
        "model_sha256": card.fingerprint,
    }


def measure(
    exported: Exported,
    classifier: Classifier,
    path: Path,
    size: int,
    images: Sequence[str | os.PathLike],
    labels: Sequence[int] | np.ndarray | None = None,
) -> Export:
    """Compares an exported model with the saved one on the same images.

    Args:
        exported: the model, as its own runtime has loaded it.
        classifier: the saved model.
        path: of the exported file.
        size: of it, in bytes.
        images: files of patches.
        labels: the index of each one's class in the model's, to measure the accuracy.

    Returns:
        An `Export`.
    """
    from tqdm import tqdm

    card = classifier.card
    found, expected = [], []
    with tqdm(total=len(images), desc="Checking", unit=" images") as bar:
        for start in range(0, len(images), _BATCH):
            pixels = [read_image(file) for file in images[start : start + _BATCH]]
            if len({image.shape for image in pixels}) == 1:
                found += list(exported.run(np.stack(pixels)))
            else:
                found += [exported.run(image[None])[0] for image in pixels]
            resized = [resize(image, card.image_size, card.image_size) for image in pixels]
            expected += list(classifier.probabilities(np.stack(resized)))
            bar.update(len(pixels))
    found, expected = np.array(found), np.array(expected)
    said, wanted = (
        choose_classes(x, card.positive_index, card.threshold) for x in (found, expected)
    )
    accuracy = None
    if labels is not None:
        accuracy = (float(np.mean(wanted == labels)), float(np.mean(said == labels)))
    difference = float(np.abs(found - expected).max())
    return Export(path, size, len(found), difference, float(np.mean(said == wanted)), accuracy)


def _check(result: Export, quantised: bool) -> None:
    before, after = result.accuracy or (1, result.agreement)
    if not quantised and not result.max_difference <= _SAME:
        raise UserError(
            f"{result.path}: removed, because its probabilities are not the model's. Expected a "
            f"difference of at most {_SAME}. Received: {result.max_difference:.2g}."
        )
    if quantised and before - after > _MOST_LOST:
        figure = "an accuracy" if result.accuracy else "the model's label on a share"
        raise UserError(
            f"{result.path}: removed, because 8 bits cost too much. Expected {figure} of at least "
            f"{before - _MOST_LOST:.4f}. Received: {after:.4f}. Export without int8, or give other "
            "images to quantise with."
        )
