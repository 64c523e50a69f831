"""A saved model, ready to answer."""

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from crackclf.errors import UserError
from crackclf.extras import torch_room
from crackclf.saved.card import LITERT_FILE, TORCH_FILE, Card
from crackclf.saved.graph import SHARE
from crackclf.saved.store import open_model, read_graph


@dataclass(frozen=True)
class Classifier:
    """A saved model, ready to answer: its card and its graph.

    Threads may share it. It can be pickled, and outlives a fork.

    Attributes:
        card: class names, threshold, temperature and origin.
        graph: from images of shape (batch, height, width, 3) in 0..255 to logits by cell, float32
            of shape (batch, rows, columns, classes).
    """

    card: Card
    graph: Callable[[np.ndarray], np.ndarray] = dataclasses.field(repr=False)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Calibrated probabilities of patches, computed on all cores.

        Args:
            images: float or uint8 of shape (n, image_size, image_size, 3) in 0..255.

        Returns:
            float32 of shape (n, classes) in the order of `card.class_names`, rows summing to 1.
        """
        if len(images) <= SHARE:
            return self._answer(images)
        from concurrent.futures import ThreadPoolExecutor

        from crackclf.cores import cores

        parts = [images[i : i + SHARE] for i in range(0, len(images), SHARE)]
        with ThreadPoolExecutor(cores()) as pool:
            return np.concatenate(list(pool.map(self._answer, parts)))

    def _answer(self, images: np.ndarray) -> np.ndarray:
        return self.card.calibrate(self.graph(images).mean(axis=(1, 2)))


def load_model(folder: str | os.PathLike = "shipped", sha256: str | None = None) -> Classifier:
    """Loads a saved model to predict with. TensorFlow is not imported.

    The files are checked by their checksums.

    Args:
        folder: a folder written by `save_model`, or the word `shipped` for the model that comes
            with the package (a folder of that name is `./shipped`).
        sha256: checksum of the folder's `card.json`, from the model's maker. Another model is
            refused.

    Returns:
        A `Classifier`.

    Raises:
        UserError: when the folder is not a saved model, or a file differs from its checksum.

    Example:

    ```python
    classifier = load_model("saved_models/first")
    print(classifier.card.class_names)
    ```
    """
    card, paths = open_model(folder, sha256)
    if TORCH_FILE in paths:
        return Classifier(card, torch_room().TorchGraph(paths[TORCH_FILE].read_bytes()))
    return Classifier(card, read_graph(card, paths[LITERT_FILE]))


def from_keras(model: Any, card: Card) -> Classifier:
    """A `Classifier` of a Keras model that is not saved.

    Args:
        model: a `keras.Model` from images of shape (batch, image_size, image_size, 3) in 0..255
            to probabilities of shape (batch, classes).
        card: its card; `cell_size` is filled in here.

    Raises:
        UserError: when the model cannot be converted to LiteRT.
    """
    from crackclf.saved.convert import convert_model

    graph, cell_size = convert_model(model)
    return Classifier(dataclasses.replace(card, cell_size=cell_size), graph)


def as_classifier(model: Classifier | str | os.PathLike) -> Classifier:
    """A `Classifier` as it is, or the one that a folder's name stands for.

    Args:
        model: a `Classifier`, the folder of a saved model, or the word `shipped`.

    Raises:
        UserError: when it is neither, or `load_model` refuses it.
    """
    if isinstance(model, Classifier):
        return model
    if isinstance(model, str | os.PathLike):
        return load_model(model)
    raise UserError(
        "expected a Classifier from load_model, or the folder of a saved model. Received: "
        f"{type(model).__name__}. Use a Keras model's own predict, or save it first (save_run, "
        "save_model)."
    )
