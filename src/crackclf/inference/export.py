"""A saved model exported to a file for other runtimes, and checked there against Keras."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from crackclf import __version__
from crackclf.data.images import read_image
from crackclf.errors import UserError
from crackclf.inference.formats import FORMATS, Exported
from crackclf.inference.predict import resize
from crackclf.models.saving import Classifier

_BATCH = 64
_SAME = 1e-3  # Probabilities that differ by no more are the same.
_MOST_LOST = 0.01  # Share of the images that 8 bits may call otherwise than 32 did.


@dataclass(frozen=True)
class Export:
    """What the check of an exported file found.

    Attributes:
        path: the file, or folder.
        size: in bytes, of all that belongs to it.
        images: how many it was checked on.
        max_difference: of the probability of a crack from Keras', on the worst of these.
        agreement: share of them that both give the same label.
        accuracy: (Keras', the file's) share of right labels; None when nobody knows the right ones.
    """

    path: Path
    size: int
    images: int
    max_difference: float
    agreement: float
    accuracy: tuple[float, float] | None = None

    def __str__(self) -> str:
        text = (
            f"{self.path}: {self.size / 1e6:.2f} MB. On {self.images} images against Keras: same "
            f"label on {self.agreement:.2%}, probabilities differ by at most "
            f"{self.max_difference:.2g}."
        )
        if self.accuracy is None:
            return text
        return f"{text} Accuracy: Keras {self.accuracy[0]:.4f}, exported {self.accuracy[1]:.4f}."


def export_model(
    classifier: Classifier,
    path: str | os.PathLike,
    format: str,
    images: Sequence[str | os.PathLike],
    cracked: Sequence[bool] | np.ndarray | None = None,
    calibration: Sequence[str | os.PathLike] = (),
) -> Export:
    """Writes a model in another format and has that format's own runtime check it.

    The file takes `image`, uint8 RGB of shape (batch, height, width, 3) and any size, and gives
    `probabilities`, float32 of shape (batch, 2), calibrated: resizing, preprocessing, softmax and
    temperature are inside, augmentation is not. Class names, threshold and what else is needed
    travel with it as JSON under the name `crackclf`: ONNX's metadata, OpenVINO's `rt_info`, a ZIP
    behind the LiteRT model, `assets.extra/` of the SavedModel.

    Args:
        classifier: from `load_model`; a Keras model.
        path: file to write, with the format's suffix; must not exist.
        format: `"onnx"`, `"openvino"` (also writes the weights, a `.bin`), `"litert"` or
            `"saved_model"` (a folder).
        images: files of patches on which it must agree with Keras.
        cracked: whether each of these shows a crack, to measure the accuracy.
        calibration: files of other patches; when given, weights and activations are quantised to
            8 bits after training, by the ranges found on these.

    Returns:
        An `Export`.

    Raises:
        UserError: when the file cannot be written or does not agree with Keras; then there is
            none.

    Example:

    ```python
    export_model(load_model(), "crack.onnx", "onnx", sorted(Path("patches").glob("*.jpg")))
    ```
    """
    path = check_export_path(path, format)
    if not isinstance(classifier.model, keras.Model):
        raise UserError(
            "only Keras models can be exported. Received: one in PyTorch, for which there is "
            "torch.onnx.export."
        )
    about = _describe(classifier)
    building = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(building, ignore_errors=True)  # What a kill has left.
    try:
        building.mkdir()
        file = building / path.name
        ranges = [read_image(image)[None] for image in calibration]
        FORMATS[format].write(build_serving_function(classifier), file, about, ranges)
        exported = FORMATS[format].load(file)
        if exported.about != about:
            raise UserError(f"{path}: what travels with the model could not be read back.")
        size = sum(part.stat().st_size for part in building.rglob("*"))
        result = compare(exported, classifier, path, size, images, cracked)
        _check(result, bool(calibration))
        # The weights first: a file that is there is whole.
        for part in sorted(building.iterdir(), key=lambda part: part == file):
            part.rename(path.parent / part.name)
    except OSError as error:
        raise UserError(f"{path}: could not be written ({error.strerror}).") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return result


def check_export_path(path: str | os.PathLike, format: str) -> Path:
    """Refuses a format that does not exist and a file that does, before any work is done.

    Args:
        path: file to write.
        format: see `export_model`.

    Raises:
        UserError: in these cases, and when the file's suffix is not the format's.
    """
    path = Path(path)
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


def build_serving_function(classifier: Classifier) -> Any:
    """The whole of a classifier, from pixels of any size to calibrated probabilities.

    Args:
        classifier: from `load_model`; a Keras model.

    Returns:
        A `tf.function` from `image`, uint8 of shape (batch, height, width, 3), to
        `probabilities`, float32 of shape (batch, 2).
    """
    size, power = classifier.card.image_size, 1 / classifier.card.temperature
    model: Any = classifier.model

    def serve(image: Any) -> Any:
        # As `predict` resizes and `apply_temperature` calibrates.
        pixels = tf.image.resize(tf.cast(image, tf.float32), (size, size))
        scaled: Any = tf.clip_by_value(model(pixels, training=False), 1e-7, 1.0) ** power
        return {"probabilities": scaled / tf.reduce_sum(scaled, 1, keepdims=True)}

    images = tf.TensorSpec((None, None, None, 3), tf.uint8, name="image")
    return tf.function(serve, input_signature=[images])


def _describe(classifier: Classifier) -> dict[str, Any]:
    card = classifier.card
    return {
        "written_by": f"crackclf {__version__}",
        "class_names": list(card.class_names),
        "positive_class": card.positive_class,
        "threshold": card.threshold,
        "patch_size": card.patch_size,
        "image": "uint8 RGB, (batch, height, width, 3)",
        "probabilities": "float32, (batch, 2), in the order of class_names",
        "model_sha256": card.sha256,
    }


def compare(
    exported: Exported,
    classifier: Classifier,
    path: Path,
    size: int,
    images: Sequence[str | os.PathLike],
    cracked: Sequence[bool] | np.ndarray | None = None,
) -> Export:
    """Asks an exported model and Keras about the same images.

    Args:
        exported: the model, as its own runtime has loaded it.
        classifier: the same in Keras.
        path: see `Export`.
        size: likewise.
        images: see `export_model`.
        cracked: likewise.

    Returns:
        An `Export`.
    """
    card = classifier.card
    found, expected = [], []
    with tqdm(total=len(images), desc="Checking", unit=" images") as bar:
        for start in range(0, len(images), _BATCH):
            pixels = [read_image(file) for file in images[start : start + _BATCH]]
            if len({image.shape for image in pixels}) == 1:
                found += list(exported.run(np.stack(pixels)))
            else:
                found += [exported.run(image[None])[0] for image in pixels]
            resized = [resize(image, card.image_size) for image in pixels]
            expected += list(classifier.probabilities(np.stack(resized)))
            bar.update(len(pixels))
    at = card.class_names.index(card.positive_class)
    found, expected = np.array(found)[:, at], np.array(expected)[:, at]
    said, wanted = found >= card.threshold, expected >= card.threshold
    accuracy = None
    if cracked is not None:
        accuracy = (float(np.mean(wanted == cracked)), float(np.mean(said == cracked)))
    difference = float(np.abs(found - expected).max())
    return Export(path, size, len(found), difference, float(np.mean(said == wanted)), accuracy)


def _check(result: Export, quantised: bool) -> None:
    before, after = result.accuracy or (1, result.agreement)
    if not quantised and not result.max_difference <= _SAME:
        problem = f"probabilities to differ by at most {_SAME}"
    elif quantised and before - after > _MOST_LOST:
        problem = f"at most {_MOST_LOST:.0%} fewer images to be right in 8 bits"
    else:
        return
    raise UserError(f"expected {problem}; the file was removed. Received: {result}")
