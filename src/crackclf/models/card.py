"""The card: what must be known about a saved model to use it rightly."""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crackclf.errors import UserError


@dataclass(frozen=True)
class Card:
    """Travels with a model as `card.json`.

    Attributes:
        class_names: in the order of the model's outputs.
        positive_class: the one that means cracked.
        image_size: height and width of the model's input in pixels.
        backbone: name of the base.
        weights_origin: where the base's weights came from before training.
        threshold: a patch is called cracked when its probability is at least this, in 0..1.
        temperature: by which logits are divided to calibrate probabilities; 1 changes nothing.
        patch_size: side of the squares, in pixels of the photos they were cut from, that it was
            trained on before they were resized; 0 when nobody knows.
        sound_peaks: the highest probability of a crack on each of some photos of sound surfaces
            that it was not trained on; see `choose_region_threshold`.
        data_fingerprint: of the data set and its split; see `Datasets.fingerprint`.
        metrics: figures by subset, as `Report.to_dict` gives them.
        versions: of the packages that trained it.
        sha256: of `model.keras`.
    """

    class_names: tuple[str, str]
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
    sha256: str = ""

    def to_json(self) -> str:
        """The card as indented JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def read(cls, path: Path) -> "Card":
        """Reads and checks a `card.json`.

        Args:
            path: the file.

        Raises:
            UserError: when it is missing, not JSON, or its fields are not what they must be.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: is not valid JSON ({error}).") from None
        try:
            lists = {"class_names": (), "sound_peaks": ()} | values
            tuples = {name: tuple(lists[name]) for name in ("class_names", "sound_peaks")}
            card = cls(**values | tuples)
            card._check()
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise UserError(f"{path}: is not a crackclf model card ({error}).") from None
        return card

    def _check(self) -> None:
        rules = {
            "class_names": len(self.class_names) == 2
            and all(isinstance(name, str) for name in self.class_names),
            "positive_class": self.positive_class in self.class_names,
            "image_size": type(self.image_size) is int and self.image_size > 0,
            "backbone": isinstance(self.backbone, str),
            "threshold": _is_number(self.threshold) and 0 <= self.threshold <= 1,
            "temperature": _is_number(self.temperature) and 0 < self.temperature < math.inf,
            "patch_size": type(self.patch_size) is int and self.patch_size >= 0,
            "sound_peaks": all(_is_number(peak) and 0 <= peak <= 1 for peak in self.sound_peaks),
            "metrics": isinstance(self.metrics, Mapping),
            "sha256": isinstance(self.sha256, str),
        }
        for name, holds in rules.items():
            if not holds:
                raise ValueError(f"{name}: {getattr(self, name)!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
