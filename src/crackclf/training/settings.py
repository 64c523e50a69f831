"""Everything that decides a training, said once."""

import dataclasses
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crackclf.errors import UserError, check_at_least, check_share
from crackclf.evaluation.calibration import read_aim
from crackclf.images.size import check_size

CLASS_WEIGHTS = ("auto", "balanced", "none")


_FROM_1 = ("epochs", "batch_size", "patience")
_FROM_0 = ("folds", "hidden_units", "weight_decay", "fine_tune", "seed")


def _setting(panel: str, default: Any) -> Any:
    return dataclasses.field(default=default, metadata={"panel": panel})


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    r"""Everything that decides a training, apart from the images.

    The options of `crackclf train`, the arguments of `train_folder` and `compare`, the file
    `settings.json` beside a model, and the check of a training that goes on are all read off
    this class, down to the words of `--help`.

    Attributes:
        validation_split: Share of the images kept for validation, between 0 and 1.
        test_split: Share of the images kept for the final test, between 0 and 1.
        folds: Cross-validate in so many folds: every image is tested on once, by a model trained
            on others; then one model is trained on all. 0 for one split by the shares above.
        group_by: Regular expression for what must stay on one side of the split, searched in each
            file's name, e.g. for the photo number '(\d+)-'.
        skip_unreadable: Leave out, and list, files that cannot be read, instead of stopping.
        backbone: Base of the model; `crackclf compare --help` lists them.
        weights: Of the base: imagenet, concrete, random, or a .weights.h5 or .h5 file.
        image_size: Height and width in pixels to which images are resized.
        hidden_units: Of a layer between the features and the classes; 0 for none.
        dropout: Share of the features that are left out at random in training, below 1.
        epochs: At most this many passes over the training images, in each stage.
        batch_size: Images per step.
        learning_rate: Of the head; fine-tuning takes a hundredth of it.
        weight_decay: Share, times the learning rate, by which weights shrink at each step.
        label_smoothing: Share of each label that is spread over all classes, below 1.
        patience: Epochs without a lower validation loss after which a stage ends.
        class_weights: balanced: all classes count as much; none: all images do; auto: balanced
            where one class has more than three times as many images as another.
        augmentation: Train on images that are flipped, turned and in other light.
        cache_features: Run the frozen base once over the images, keep its features, and train on
            them; or run it in every epoch, over ever new variants of the images.
        views: Augmented variants of each training image in the cache; an epoch takes one of them.
            When not given, 1 to 8, for some 6,000 variants in all.
        fine_tune: Blocks of the base, from its end, to be trained in a second stage.
        seed: Of split, shuffling, augmentation, dropout and head.
        positive: Class folder that holds the cracked images, when its name does not tell.
        threshold_for: What the threshold of the cracked class is chosen for, on the validation
            images: recall=0.98, say, to miss few, or precision=0.95 for few false alarms; the
            best balanced accuracy when not given.

    Raises:
        UserError: When a setting is out of its range.

    Example:

    ```python
    settings = TrainSettings(epochs=20, group_by=r"(\d+)-")
    train_folder("data/sdnet", **settings.to_dict())
    ```
    """

    validation_split: float = _setting("Data", 0.2)
    test_split: float = _setting("Data", 0.2)
    folds: int = _setting("Options", 0)
    group_by: str | None = _setting("Options", None)
    skip_unreadable: bool = _setting("Data", False)
    backbone: str = _setting("Options", "mobilenetv2")
    weights: str = _setting("Model", "imagenet")
    image_size: int = _setting("Model", 160)
    hidden_units: int = _setting("Model", 0)
    dropout: float = _setting("Model", 0.2)
    epochs: int = _setting("Options", 10)
    batch_size: int = _setting("Training", 32)
    learning_rate: float = _setting("Training", 1e-3)
    weight_decay: float = _setting("Training", 0.0)
    label_smoothing: float = _setting("Training", 0.0)
    patience: int = _setting("Training", 3)
    class_weights: str = _setting("Training", "auto")
    augmentation: bool = _setting("Training", True)
    cache_features: bool = _setting("Training", True)
    views: int | None = _setting("Training", None)
    fine_tune: int = _setting("Options", 0)
    seed: int = _setting("Training", 0)
    positive: str | None = _setting("Answers", None)
    threshold_for: str | None = _setting("Options", None)

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_size", check_size(self.image_size))
        object.__setattr__(self, "backbone", str(self.backbone).lower())
        weights = "random" if self.weights is None else os.fspath(self.weights)
        object.__setattr__(self, "weights", weights)
        for names, least in ((_FROM_1, 1), (_FROM_0, 0)):
            check_at_least(least, **{name: getattr(self, name) for name in names})
        if self.views is not None:
            check_at_least(1, views=self.views)
        if self.folds:
            check_at_least(3, folds=self.folds)
        check_share(dropout=self.dropout, label_smoothing=self.label_smoothing)
        if not self.learning_rate > 0:
            raise UserError(f"learning_rate must be above 0. Received: {self.learning_rate}.")
        if self.seed >= 2**32:
            raise UserError(f"seed must be from 0 to 2**32 - 1. Received: {self.seed}.")
        if self.class_weights not in CLASS_WEIGHTS:
            raise UserError(
                f"class_weights must be one of {', '.join(CLASS_WEIGHTS)}. "
                f"Received: {self.class_weights!r}."
            )
        if self.threshold_for is not None:
            read_aim(self.threshold_for)
        kept = ("folds", "hidden_units", "dropout", "fine_tune")
        if self.in_pytorch and any(getattr(self, x) != getattr(TrainSettings, x) for x in kept):
            raise UserError(
                f"{self.backbone} takes no {', '.join(kept)}. Leave them out, or choose a backbone "
                "in Keras."
            )

    @property
    def in_pytorch(self) -> bool:
        """Whether the backbone is one in PyTorch."""
        return self.backbone.endswith("-torch")

    @property
    def caches(self) -> bool:
        """Whether features are cached; those of a base in PyTorch are not."""
        return self.cache_features and not self.in_pytorch

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON can hold them."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        """The settings as indented JSON text."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    @classmethod
    def panel(cls, name: str) -> str:
        """The panel of `--help` in which a setting stands: Options for those most asked for."""
        return cls.__dataclass_fields__[name].metadata["panel"]

    @classmethod
    def help(cls, name: str) -> str:
        """What a setting is, in the words of the docstring."""
        lines = re.search(rf"^ {{8}}{name}: (.*(?:\n {{12}}.*)*)", cls.__doc__ or "", re.MULTILINE)
        return " ".join(lines[1].split()) if lines else ""

    @classmethod
    def read(cls, path: str | os.PathLike) -> "TrainSettings":
        """Reads a `settings.json`; a `UserError` when it is not one."""
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
            return cls(**values)
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        except (ValueError, TypeError) as error:
            names = ", ".join(x.name for x in dataclasses.fields(cls))
            raise UserError(
                f"{path}: is no file of training settings ({error}). Expected a JSON object of "
                f"{names}."
            ) from None


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Says which settings differ, e.g. "epochs (10, now 20)"; empty when none does."""
    return ", ".join(
        f"{name} ({one.get(name)!r}, now {value!r})"
        for name, value in other.items()
        if one.get(name) != value
    )
