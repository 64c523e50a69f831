"""Saved models: one folder each, written whole or not at all, checked when read."""

import dataclasses
import os
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crackclf.errors import UserError, notice
from crackclf.files import building, check_new_folder, user_cache, user_path
from crackclf.files import sha256 as digest_file
from crackclf.saved.card import CARD_FILE, KERAS_FILE, LITERT_FILE, TORCH_FILE, Card
from crackclf.saved.graph import Graph

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

SHIPPED = Path(__file__).parents[1] / "shipped"
_TRAINED_BY = {KERAS_FILE: ("keras", "tensorflow"), TORCH_FILE: ("torch", "torchvision")}


def save_model(
    model: "keras.Model | Any",
    folder: str | os.PathLike,
    card: Card,
    files: Mapping[str, str | bytes] | None = None,
    figures: "Mapping[str, Figure] | None" = None,
) -> Path:
    """Saves a model as a folder with its card.

    A Keras model is saved twice: as `model.keras`, to train on, and as `model.tflite`, to predict
    with. Both are read back and must give the same answers. The state dict of a `ResNet18` is
    saved as `model.pt`. The folder appears only when it is complete.

    Args:
        model: the model, from images of shape (batch, image_size, image_size, 3) in 0..255 to
            probabilities of shape (batch, classes).
        folder: the folder to make; must not exist.
        card: its card; `versions`, `cell_size` and `sha256` are filled in here.
        files: contents by file name, e.g. `{"history.csv": ...}`.
        figures: plots by name, stored as PNG.

    Returns:
        The folder.

    Raises:
        UserError: when the folder exists or cannot be written, or the model cannot be saved
            safely.

    Example:

    ```python
    card = Card(class_names=("Negative", "Positive"), positive_class="Positive", image_size=160)
    classifier = load_model(save_model(model, "saved_models/first", card))
    ```
    """
    folder = check_new_folder(folder)
    try:
        with building(folder) as draft:
            for name, content in (files or {}).items():
                (draft / name).write_bytes(
                    content.encode() if isinstance(content, str) else content
                )
            for name, figure in (figures or {}).items():
                figure.savefig(draft / f"{name}.png", dpi=120)
            name = TORCH_FILE if hasattr(model, "state_dict") else KERAS_FILE
            model.save(draft / name)
            packages = ("crackclf", *_TRAINED_BY[name], "numpy")
            versions = {package: version(package) for package in packages}
            if name == TORCH_FILE:
                type(model).load(draft / name)  # As a reader will.
            _complete(draft, name, dataclasses.replace(card, versions=versions))
    except OSError as error:
        raise UserError(f"{folder}: the model could not be saved ({error}).") from error
    return folder


def _complete(draft: Path, name: str, card: Card) -> None:
    """Adds `model.tflite` to a model's file, and the card, then reads all of it."""
    if name == KERAS_FILE:
        from crackclf.saved.convert import convert_model

        graph, cell_size = convert_model(_load_keras(draft / name, card))
        (draft / LITERT_FILE).write_bytes(graph.content)
        card = dataclasses.replace(card, cell_size=cell_size)
    sums = {x: digest_file(draft / x) for x in (name, LITERT_FILE) if (draft / x).exists()}
    card = dataclasses.replace(card, sha256=sums)
    (draft / CARD_FILE).write_text(card.to_json(), encoding="utf-8")
    open_model(draft)


def model_folder(model: str | os.PathLike = "shipped") -> Path:
    """The folder of a saved model; the word `shipped` means the one inside the package."""
    return SHIPPED if model == "shipped" else user_path(model)


def open_model(
    folder: str | os.PathLike = "shipped", sha256: str | None = None
) -> tuple[Card, dict[str, Path]]:
    """Reads a saved model's card and checks its files against it; no framework is needed.

    Args:
        folder: a saved folder, or the word `shipped`. A folder of version 0.1.0 has no
            `model.tflite`: a copy in the present form is made in the user's cache, once, and
            opened in its place.
        sha256: checksum of the folder's `card.json`, from the model's maker. Another model is
            refused.

    Returns:
        The card; and the paths of the model's files by name, `model.keras` and `model.tflite`, or
        `model.pt`.

    Raises:
        UserError: when the folder is not a saved model, or a file is missing or is not the one
            that the card, or `sha256`, describes.
    """
    folder = model_folder(folder)
    kinds = (KERAS_FILE, TORCH_FILE)
    if not (folder / CARD_FILE).is_file() or not any(
        (folder / name).is_file() for name in (*kinds, LITERT_FILE)
    ):
        found = "no such folder" if not folder.exists() else "is not a saved model"
        raise UserError(
            f"{folder}: {found}. Expected a folder with {KERAS_FILE} and {LITERT_FILE}, or "
            f"{TORCH_FILE}, and {CARD_FILE}, as `crackclf train` writes it."
        )
    if sha256 is not None and digest_file(folder / CARD_FILE) != sha256.lower():
        raise UserError(
            f"{folder / CARD_FILE}: is not the card of the model that was asked for. Expected "
            f"sha256 {sha256}. Received: {digest_file(folder / CARD_FILE)}."
        )
    card = Card.read(folder / CARD_FILE)
    paths = {name: folder / name for name in (*kinds, LITERT_FILE) if name in card.sha256}
    if not paths.keys() & set(kinds):
        raise UserError(f"{folder / CARD_FILE}: names no {KERAS_FILE} or {TORCH_FILE}.")
    for name, path in paths.items():
        if not path.is_file():
            raise UserError(
                f"{path}: is missing, though card.json names it. Copy the folder again from its "
                "source."
            )
        if digest_file(path) != card.sha256[name]:
            raise UserError(
                f"{path}: is damaged or was exchanged: its sha256 is not the one in card.json. "
                "Copy the folder again from its source."
            )
    if paths.keys() == {KERAS_FILE}:
        return open_model(_present_form(folder, card))
    return card, paths


def read_graph(card: Card, path: Path) -> Graph:
    """Reads a `model.tflite` that `open_model` has found.

    Args:
        card: its card.
        path: the file.

    Raises:
        UserError: when it is no LiteRT graph, or does not fit the card.
    """
    try:
        graph = Graph(path.read_bytes())
    except UserError as error:
        raise UserError(f"{path}: {error}.") from None
    side = -1 if card.cell_size else card.image_size
    expected, classes = (-1, side, side, 3), len(card.class_names)
    if graph.input_shape != expected or graph.output_shape[3:] != (classes,):
        raise UserError(
            f"{path}: does not fit its card: expected input {expected} and {classes} classes. "
            f"Received: {graph.input_shape} and output {graph.output_shape}."
        )
    return graph


def load_keras_model(folder: str | os.PathLike = "shipped") -> "keras.Model":
    """Loads the Keras model of a saved folder, to train it on or to take it apart.

    Args:
        folder: a folder written by `save_model`, or the word `shipped`.

    Returns:
        The `keras.Model`, from images of shape (batch, image_size, image_size, 3) in 0..255 to
        probabilities of shape (batch, classes). Its attributes `backbone` and `weights_origin`
        are the card's.

    Raises:
        UserError: when the folder is not a whole saved model in Keras, holds what could do more
            than compute, or its `model.tflite` gives other answers.

    Example:

    ```python
    model = load_keras_model("saved_models/first")
    train(model, data, build_callbacks("logs/second"))
    ```
    """
    card, paths = open_model(folder)
    if KERAS_FILE not in paths:
        raise UserError(f"{folder}: expected a model in Keras. Received: one in PyTorch.")
    model: Any = _load_keras(paths[KERAS_FILE], card)
    from crackclf.saved.convert import check_twins

    graph = read_graph(card, paths[LITERT_FILE])
    try:
        check_twins(model, graph)
    except UserError as error:
        raise UserError(f"{paths[LITERT_FILE]}: {error}") from None
    model.backbone, model.weights_origin = card.backbone, card.weights_origin
    return model


def _load_keras(path: Path, card: Card) -> "keras.Model":
    import keras

    from crackclf.saved.safety import check_keras_file

    check_keras_file(path)
    try:
        model: Any = keras.saving.load_model(path, safe_mode=True)
    except Exception as error:
        raise UserError(f"{path}: Keras cannot load it ({error}).") from None
    size, classes = card.image_size, len(card.class_names)
    expected = (None, size, size, 3)
    if model.input_shape != expected or model.output_shape != (None, classes):
        raise UserError(
            f"{path}: does not fit its card: expected input {expected} and output (None, "
            f"{classes}). Received: {model.input_shape} and {model.output_shape}."
        )
    return model


def _present_form(folder: Path, card: Card) -> Path:
    """A copy of a folder of version 0.1.0, with `model.tflite`."""
    copy = user_cache() / "models" / card.fingerprint
    if copy.exists():
        return copy
    try:
        with building(copy) as draft:
            shutil.copyfile(folder / KERAS_FILE, draft / KERAS_FILE)
            _complete(draft, KERAS_FILE, card)
    except OSError as error:
        if not copy.exists():  # Another process has made it meanwhile.
            raise UserError(f"{copy}: cannot be made ({error}). Set XDG_CACHE_HOME.") from error
    notice(
        f"{folder}: was saved by crackclf 0.1.0, without model.tflite. From now on a copy with it "
        f"is used: {copy}"
    )
    return copy
