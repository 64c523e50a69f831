"""Saved models: one folder each, written whole or not at all, checked when loaded."""

import dataclasses
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from crackclf.data.cores import cores
from crackclf.data.files import sha256
from crackclf.errors import UserError, notice
from crackclf.models.card import Card
from crackclf.models.safety import check_keras_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from crackclf.models.dense import DenseModel
    from crackclf.models.resnet18 import ResNet18

SHIPPED = Path(__file__).parents[1] / "shipped"
_FEW = 8  # Images.
_KERAS_FILE, _TORCH_FILE = "model.keras", "model.pt"
_VERSIONED = {
    _KERAS_FILE: ("crackclf", "keras", "tensorflow", "numpy"),
    _TORCH_FILE: ("crackclf", "torch", "torchvision", "numpy"),
}


@dataclass(frozen=True)
class Classifier:
    """A model with its card.

    Attributes:
        model: a Keras model from images of shape (batch, image_size, image_size, 3) in 0..255 to
            probabilities of shape (batch, 2) in the order of `card.class_names`; or a `ResNet18`.
        card: class names, threshold, temperature and origin.
    """

    model: "keras.Model | ResNet18"
    card: Card

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Calibrated probabilities for a batch.

        Args:
            images: float or uint8 of shape (batch, image_size, image_size, 3) in 0..255.

        Returns:
            float32 of shape (batch, 2), rows summing to 1.
        """
        if not isinstance(self.model, keras.Model):
            raw = self.model.predict_on_batch(images)
        else:
            # Building the graph takes longer than to do without it once; from the second call on
            # it pays.
            once = len(images) <= _FEW and "_graph" not in vars(self)
            call, batch = self._graph, tf.cast(images, tf.float32)
            raw = np.asarray(self.model(batch, training=False) if once else call(batch))
        return raw if self.card.temperature == 1 else apply_temperature(raw, self.card.temperature)

    @cached_property
    def fast(self) -> Callable[[np.ndarray], np.ndarray]:
        """`probabilities` in LiteRT: seconds to build, then several times as fast."""
        if not isinstance(self.model, keras.Model):
            return self.probabilities
        from crackclf.models.features import build_extractor

        # Each core its own small batches: cores that share one wait for each other.
        run, pool = build_extractor(self.model), ThreadPoolExecutor(cores())

        def probabilities(images: np.ndarray) -> np.ndarray:
            parts = [images[i : i + _FEW] for i in range(0, len(images), _FEW)]
            return apply_temperature(np.concatenate(list(pool.map(run, parts))), temperature)

        temperature = self.card.temperature
        return probabilities

    @cached_property
    def dense(self) -> "DenseModel | None":
        """The model made fully convolutional, on all cores; None when it cannot be, and told so."""
        from crackclf.models.dense import build_dense

        if isinstance(self.model, keras.Model):
            try:
                return build_dense(self.model, cores())
            except UserError:
                pass
        notice(
            "this model cannot be made fully convolutional, so photos are looked at tile by tile, "
            "which takes many times as long"
        )
        return None

    @cached_property
    def _graph(self) -> Any:
        # Keras' own predict_on_batch builds another graph for a batch of another size.
        size = self.card.image_size
        images: Any = tf.TensorSpec((None, size, size, 3), tf.float32)
        return tf.function(partial(self.model, training=False), input_signature=[images])


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Calibrates probabilities as if the logits had been divided by a temperature.

    Args:
        probabilities: float of shape (n, 2), rows summing to 1.
        temperature: above 0; 1 changes nothing, more makes them less certain.

    Returns:
        Likewise, rows summing to 1.
    """
    # Softmax of logits / T equals probabilities ** (1 / T), normalised (Guo et al. 2017,
    # arXiv:1706.04599).
    scaled = np.clip(probabilities, 1e-7, 1) ** (1 / temperature)
    return scaled / scaled.sum(axis=1, keepdims=True)


def save_model(
    model: "keras.Model | ResNet18",
    folder: str | os.PathLike,
    card: Card,
    files: Mapping[str, str | bytes] | None = None,
    figures: "Mapping[str, Figure] | None" = None,
) -> Classifier:
    """Saves a model as a folder with `card.json` and what else belongs to it.

    Keras models go into `model.keras`, the state dict of a `ResNet18` into `model.pt`.

    Everything is written under a temporary name beside the target, read back, and renamed in
    the end: a full disk or a kill leaves either the whole folder or none.

    Args:
        model: the model.
        folder: the folder to make; must not exist.
        card: its card; `versions` and `sha256` are filled in here.
        files: contents by file name, e.g. `{"history.csv": ...}`.
        figures: plots by name, stored as PNG.

    Returns:
        The `Classifier` as read back.

    Raises:
        UserError: when the folder exists or cannot be written.

    Example:

    ```python
    card = Card(class_names=("Negative", "Positive"), positive_class="Positive", image_size=160)
    save_model(model, "saved_models/first", card)
    ```
    """
    folder = check_new_folder(folder)
    building = folder.with_name(f".{folder.name}.tmp")
    try:
        shutil.rmtree(building, ignore_errors=True)  # What a kill has left.
        building.mkdir(parents=True)
        for name, content in (files or {}).items():
            data = content.encode() if isinstance(content, str) else content
            (building / name).write_bytes(data)
        for name, figure in (figures or {}).items():
            figure.savefig(building / f"{name}.png", dpi=120)
        name = _KERAS_FILE if isinstance(model, keras.Model) else _TORCH_FILE
        model.save(building / name)
        versions = {package: version(package) for package in _VERSIONED[name]}
        card = dataclasses.replace(card, versions=versions, sha256=sha256(building / name))
        (building / "card.json").write_text(card.to_json(), encoding="utf-8")
        for path in building.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        classifier = load_model(building)
        building.rename(folder)
    except OSError as error:
        raise UserError(f"{folder}: the model could not be saved ({error}).") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return classifier


def check_new_folder(folder: str | os.PathLike) -> Path:
    """Refuses a model folder that exists, before hours of training rather than after.

    Args:
        folder: where a model shall be saved.

    Returns:
        The folder.

    Raises:
        UserError: when something is there already.
    """
    folder = Path(folder)
    if folder.exists():
        raise UserError(
            f"{folder}: already exists, and crackclf overwrites no model. Choose another name or "
            "move it away."
        )
    return folder


def model_folder(model: str | os.PathLike = "shipped") -> Path:
    """The folder of a saved model; the word `shipped` means the one inside the package."""
    return SHIPPED if model == "shipped" else Path(model)


def load_model(folder: str | os.PathLike = "shipped") -> Classifier:
    """Loads a saved model after checking that it is whole.

    Args:
        folder: a folder written by `save_model`, or the word `shipped` for the model that comes
            with the package (a folder of that name is `./shipped`).

    Returns:
        A `Classifier`.

    Raises:
        UserError: when the folder is not a saved model, its `model.keras` or `model.pt` is not
            the one that the card describes, or it cannot be loaded safely.

    Example:

    ```python
    classifier = load_model("saved_models/first")
    print(classifier.card.class_names)
    ```
    """
    folder = model_folder(folder)
    path = next((x for x in map(folder.joinpath, _VERSIONED) if x.is_file()), None)
    if path is None or not (folder / "card.json").is_file():
        found = "no such folder" if not folder.exists() else "is not a saved model"
        raise UserError(
            f"{folder}: {found}. Expected a folder with {_KERAS_FILE} or {_TORCH_FILE} and "
            "card.json, as `crackclf train` writes it."
        )
    card = Card.read(folder / "card.json")
    if sha256(path) != card.sha256:
        raise UserError(
            f"{path}: is damaged or was exchanged: its sha256 is not the one in card.json. Copy "
            "the folder again from its source."
        )
    if path.name == _TORCH_FILE:
        from crackclf.models.resnet18 import load_resnet18

        return Classifier(load_resnet18(path), card)
    check_keras_file(path)
    try:
        model: Any = keras.saving.load_model(path, safe_mode=True)
    except Exception as error:
        raise UserError(f"{path}: Keras cannot load it ({error}).") from None
    expected = (None, card.image_size, card.image_size, 3)
    if model.input_shape != expected or model.output_shape != (None, 2):
        raise UserError(
            f"{path}: does not fit its card: expected input {expected} and output (None, 2). "
            f"Received: {model.input_shape} and {model.output_shape}."
        )
    return Classifier(model, card)
