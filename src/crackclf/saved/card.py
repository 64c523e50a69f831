"""The card: what must be known about a saved model to use it rightly."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from crackclf.errors import UserError, show

KERAS_FILE, LITERT_FILE, TORCH_FILE, CARD_FILE = (
    *("model.keras", "model.tflite", "model.pt"),
    "card.json",
)
_LARGEST = 2**14  # Pixels to the side of a patch.


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
        patch_size: side of the training patches before resizing, in pixels of their photos. 0
            when unknown.
        sound_peaks: the highest probability of a crack on each of some photos of sound surfaces
            that the model was not trained on. They give the threshold of regions.
        data_fingerprint: digest of the data set and its split.
        metrics: the figures of `Report.to_dict`, by subset.
        versions: of the packages that trained it.
        cell_size: side in pixels of the cells that `model.tflite` answers for. 0 for a model that
            answers for whole patches only.
        sha256: of the model's files, by name: `model.keras` and `model.tflite`, or `model.pt`.
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
    sha256: Mapping[str, str] = field(default_factory=dict)

    @property
    def positive_index(self) -> int:
        """Column of the positive class in logits and probabilities."""
        return self.class_names.index(self.positive_class)

    @property
    def negative_class(self) -> str:
        """What is not cracked: of two classes the other one, of more "not" and the class's name."""
        others = [name for name in self.class_names if name != self.positive_class]
        return others[0] if len(others) == 1 else f"not {self.positive_class}"

    @property
    def fingerprint(self) -> str:
        """Tells this model from any other: the digest of the file to learn on."""
        return next((self.sha256[x] for x in (KERAS_FILE, TORCH_FILE) if x in self.sha256), "")

    def calibrate(self, logits: np.ndarray) -> np.ndarray:
        """Probabilities from logits, by the card's temperature.

        Args:
            logits: float of shape (..., classes).

        Returns:
            float32 of the same shape, summing to 1 over the classes.
        """
        return softmax(logits, self.temperature)

    def log_odds(self, logits: np.ndarray) -> np.ndarray:
        """Log-odds of the positive class against all others together.

        Args:
            logits: float of shape (..., classes).

        Returns:
            float of shape (...). Divided by the temperature, they are calibrated.
        """
        others = np.delete(logits, self.positive_index, axis=-1)
        most = others.max(axis=-1)
        if others.shape[-1] > 1:
            powers = np.exp((others - most[..., None]) / self.temperature)
            most = most + self.temperature * np.log(powers.sum(axis=-1))
        return logits[..., self.positive_index] - most

    def name_class(self, probabilities: np.ndarray) -> str:
        """The class that an image's probabilities, of shape (classes,), stand for."""
        return self.class_names[
            int(choose_classes(probabilities, self.positive_index, self.threshold))
        ]

    def to_json(self) -> str:
        """The card as indented JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def read(cls, path: Path) -> "Card":
        """Reads and checks a `card.json`; a `UserError` when it is not one."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: is not valid JSON ({error}).") from None
        try:
            if isinstance(values.get("sha256"), str):  # Of version 0.1.0.
                name = TORCH_FILE if path.with_name(TORCH_FILE).exists() else KERAS_FILE
                values["sha256"] = {name: values["sha256"]}
            if values.get("mirrored") is False:  # Of models that could look at mirrored views, too.
                del values["mirrored"]
            lists = {"class_names": (), "sound_peaks": ()} | values
            tuples = {name: tuple(lists[name]) for name in ("class_names", "sound_peaks")}
            card = cls(**values | tuples)
            card._check()
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise UserError(f"{path}: is not a crackclf model card ({error}).") from None
        return card

    def _check(self) -> None:
        rules = {
            "class_names": len(set(self.class_names)) == len(self.class_names) >= 2
            and all(isinstance(name, str) and show(name) == name for name in self.class_names),
            "positive_class": self.positive_class in self.class_names,
            "image_size": type(self.image_size) is int and 0 < self.image_size <= _LARGEST,
            "backbone": isinstance(self.backbone, str),
            "threshold": _is_number(self.threshold) and 0 <= self.threshold <= 1,
            "temperature": _is_number(self.temperature) and 1e-3 <= self.temperature <= 1e3,
            "patch_size": type(self.patch_size) is int and 0 <= self.patch_size <= _LARGEST,
            "sound_peaks": all(_is_number(peak) and 0 <= peak <= 1 for peak in self.sound_peaks),
            "metrics": isinstance(self.metrics, Mapping),
            "cell_size": type(self.cell_size) is int and 0 <= self.cell_size <= _LARGEST,
            "sha256": isinstance(self.sha256, Mapping)
            and all(isinstance(digest, str) for digest in self.sha256.values()),
        }
        for name, holds in rules.items():
            if not holds:
                raise ValueError(f"{name}: {getattr(self, name)!r}")


def softmax(logits: np.ndarray, temperature: float | np.ndarray = 1.0) -> np.ndarray:
    """Softmax of logits divided by a temperature (Guo et al. 2017, arXiv:1706.04599).

    Args:
        logits: float of shape (..., classes).
        temperature: above 0; 1 changes nothing, more makes the answers less certain.

    Returns:
        float32 of the same shape, summing to 1 over the last axis.
    """
    scaled = np.asarray(logits, np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)


def to_logits(probabilities: np.ndarray) -> np.ndarray:
    """Logits whose softmax the probabilities are; 0 counts as 1e-7, as in Keras."""
    return np.log(np.clip(probabilities, 1e-7, 1))


def choose_classes(
    probabilities: np.ndarray, positive: int, threshold: float | np.ndarray
) -> np.ndarray:
    """The classes that probabilities stand for: the one place where a threshold is applied.

    Args:
        probabilities: float of shape (..., classes).
        positive: the positive class's column.
        threshold: from which on its probability decides, of shape () or (...).

    Returns:
        int of shape (...): the positive class, or else the most probable of the others.
    """
    # In float64: in float32 a probability just below the threshold would reach it.
    others = np.array(probabilities, np.float64)
    is_positive = others[..., positive] >= threshold
    others[..., positive] = -1
    return np.where(is_positive, positive, others.argmax(axis=-1))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
