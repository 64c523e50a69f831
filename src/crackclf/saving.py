"""Saved models: one folder each with a card, written whole or not at all, checked when read."""

import csv
import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crackclf.calibration import choose_classes, softmax
from crackclf.errors import UserError, learning
from crackclf.files import check_new_folder, sha256, user_path, writing

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

SHIPPED = Path(__file__).parent / "shipped"
SHIPPED_ORIGIN = "concrete, shipped with crackclf"  # Of its base, where a model begins with it.
KERAS_FILE, LITERT_FILE, CARD_FILE = "model.keras", "model.tflite", "card.json"


@dataclass(frozen=True)
class Card:
    """What must be known to use a saved model; stored beside it as `card.json`.

    Attributes:
        class_names: two or more, in the order of the model's outputs.
        positive_class: the class that means cracked. All others are sound.
        image_size: height and width of the model's input in pixels.
        backbone: name of the base.
        weights_origin: where the base's weights came from before training.
        threshold: a patch is called cracked from this probability on, in 0..1.
        temperature: logits are divided by it to calibrate probabilities. 1 changes nothing.
        patch_size: side of the training patches before resizing, in pixels. 0 when unknown.
        sound_peaks: the highest probability of a crack on each of some photos of sound surfaces
            that it was not trained on. They give the threshold of regions.
        data_fingerprint: digest of the data set and its split.
        metrics: the figures of `Report.to_dict`, by subset.
        versions: of the packages that trained it.
        cell_size: side in pixels of the cells that `model.tflite` answers for. 0: whole patches.
        mask_stride: side in pixels of the square that a pixel of its mask covers. 0: no mask.
        sha256: of `model.keras` and `model.tflite`, by file name.
    """

    class_names: tuple[str, ...]
    positive_class: str
    image_size: int
    backbone: str = ""
    weights_origin: str = ""
    threshold: float = 0.5
    temperature: float = 1.0
    patch_size: int = 0
    sound_peaks: tuple[float, ...] = ()
    data_fingerprint: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    cell_size: int = 0
    mask_stride: int = 0
    sha256: Mapping[str, str] = field(default_factory=dict)

    @property
    def positive_index(self) -> int:
        """Column of the positive class in logits and probabilities."""
        return self.class_names.index(self.positive_class)

    @property
    def negative_class(self) -> str:
        """Name of the sound class; "not" and the positive class's name when there are several."""
        others = [name for name in self.class_names if name != self.positive_class]
        return others[0] if len(others) == 1 else f"not {self.positive_class}"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of `model.keras`, which identifies the model; empty before it is saved."""
        return self.sha256.get(KERAS_FILE, "")

    def calibrate(self, logits: np.ndarray) -> np.ndarray:
        """Probabilities, float32, from logits (..., classes), by the card's temperature."""
        return softmax(logits, self.temperature)

    def log_odds(self, logits: np.ndarray) -> np.ndarray:
        """Log-odds (...) of the positive class against all others, from logits (..., classes).

        Divided by the temperature, they are calibrated.
        """
        others = np.delete(logits, self.positive_index, axis=-1) / self.temperature
        odds = self.temperature * np.logaddexp.reduce(others, axis=-1)
        return logits[..., self.positive_index] - odds

    def name_class(self, probabilities: np.ndarray) -> str:
        """The class predicted from an image's probabilities, float of shape (classes,)."""
        index = choose_classes(probabilities, self.positive_index, self.threshold)
        return self.class_names[int(index)]

    def to_json(self) -> str:
        """The card as indented JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def read(cls, path: Path) -> "Card":
        """Reads and checks a `card.json`; raises a `UserError` when it is not one."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            names, peaks = tuple(values["class_names"]), tuple(values["sound_peaks"])
            card = cls(**values | {"class_names": names, "sound_peaks": peaks})
            if not len(set(names)) == len(names) >= 2 or card.positive_class not in names:
                raise ValueError(f"class_names: {names}, positive_class: {card.positive_class!r}")
            if not (0 <= card.threshold <= 1 and card.temperature > 0):
                raise ValueError(f"{card.threshold=}, {card.temperature=}")
            return card
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(f"{path}: is not a crackclf model card ({error}).") from None


def save_model(
    model: "keras.Model",
    folder: str | os.PathLike,
    card: Card,
    files: Mapping[str, str] | None = None,
    figures: "Mapping[str, Figure] | None" = None,
) -> Path:
    """Saves a Keras model as a folder with its card.

    The model is saved twice: as `model.keras`, to train on, and as `model.tflite`, to predict
    with. Both must give the same probabilities. The folder appears only when it is complete.

    Args:
        model: from images (n, image_size, image_size, 3) in 0..255 to probabilities (n, classes).
        folder: the folder to make; must not exist.
        card: its card; `versions`, `cell_size` and `sha256` are filled in here.
        files: texts by file name, e.g. `{"history.csv": ...}`.
        figures: plots by name, stored as PNG.

    Returns:
        The folder.

    Raises:
        UserError: when the folder exists or cannot be written, Keras cannot load the model in its
            safe mode (a `Lambda` or an unregistered layer class), or LiteRT cannot run it.

    Examples:
        >>> card = Card(("Negative", "Positive"), "Positive", image_size=160)
        >>> classifier = load_model(save_model(model, "saved_models/first", card))
    """
    from importlib.metadata import version  # Slow to import, and not needed to predict.

    from crackclf.conversion import convert_model

    folder = check_new_folder(folder)
    versions = {name: version(name) for name in ("crackclf", "keras", "tensorflow", "numpy")}
    try:
        with writing(folder) as draft:
            draft.mkdir()
            model.save(draft / KERAS_FILE)
            graph, cell_size = convert_model(_load_keras(draft / KERAS_FILE, card))
            (draft / LITERT_FILE).write_bytes(graph.content)
            sums = {name: sha256(draft / name) for name in (KERAS_FILE, LITERT_FILE)}
            card = dataclasses.replace(card, versions=versions, cell_size=cell_size, sha256=sums)
            (draft / CARD_FILE).write_text(card.to_json(), encoding="utf-8")
            for name, content in (files or {}).items():
                (draft / name).write_text(content, encoding="utf-8")
            for name, figure in (figures or {}).items():
                figure.savefig(draft / f"{name}.png", dpi=120)
            open_model(draft)
    except OSError as error:
        raise UserError(f"{folder}: the model could not be saved ({error}).") from error
    return folder


def model_folder(model: str | os.PathLike = "shipped") -> Path:
    """The folder of a saved model; the word `shipped` means the one inside the package."""
    return SHIPPED if model == "shipped" else user_path(model)


def open_model(folder: str | os.PathLike = "shipped") -> tuple[Card, dict[str, Path]]:
    """Reads a saved model's card and the paths of its files, by name; checks their sums."""
    folder = model_folder(folder)
    if not (folder / CARD_FILE).is_file():
        found = "is not a saved model" if folder.exists() else "no such folder"
        expected = f"Expected a folder with {KERAS_FILE}, {LITERT_FILE} and {CARD_FILE}"
        raise UserError(f"{folder}: {found}. {expected}, as `crackclf train` writes it.")
    card = Card.read(folder / CARD_FILE)
    paths = {name: folder / name for name in (KERAS_FILE, LITERT_FILE)}
    for name, path in paths.items():
        if not path.is_file() or sha256(path) != card.sha256.get(name):
            raise UserError(
                f"{path}: is missing, damaged or exchanged (by the sha256 in {CARD_FILE}). Copy it "
                "again from its source."
            )
    return card, paths


def read_learnt(folder: str | os.PathLike = "shipped") -> set[str]:
    """Digests of the images that a model was trained or calibrated on, by its `split.csv`."""
    split = model_folder(folder) / "split.csv"
    lines = split.read_text(encoding="utf-8").splitlines() if split.exists() else ()
    return {row["digest"] for row in csv.DictReader(lines) if row["subset"] != "test"}


def load_keras_model(folder: str | os.PathLike = "shipped") -> "keras.Model":
    """Loads the Keras model of a saved folder, in Keras' safe mode, to train it on.

    Load only models from people you trust all the same: a model is a program.

    Args:
        folder: a folder written by `save_model`, or the word `shipped`.

    Returns:
        The `keras.Model`, from images (n, image_size, image_size, 3) in 0..255 to probabilities
        (n, classes). Its attributes `backbone` and `weights_origin` are the card's.

    Raises:
        UserError: when the folder is not a whole saved model, or Keras cannot load its model.

    Examples:
        >>> model = load_keras_model("saved_models/first")
        >>> train(model, data, build_callbacks("logs/second"))
    """
    card, paths = open_model(folder)
    model: Any = _load_keras(paths[KERAS_FILE], card)
    model.backbone, model.weights_origin = card.backbone, card.weights_origin
    return model


def _load_keras(path: Path, card: Card) -> "keras.Model":
    with learning():
        import keras
    try:
        model: Any = keras.saving.load_model(path, safe_mode=True)
    except Exception as error:  # Keras has no error class of its own for this.
        raise UserError(f"{path}: Keras cannot load it in its safe mode ({error}).") from None
    expected = (None, card.image_size, card.image_size, 3, None, len(card.class_names))
    found = (*model.input_shape, *model.output_shape)
    if found != expected:
        problem = f"expected input and output {expected}. Received: {found}."
        raise UserError(f"{path}: does not fit its card: {problem}")
    return model
