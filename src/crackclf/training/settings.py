"""The settings of a training, in one place."""

import dataclasses
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crackclf.errors import UserError, check_at_least, check_share
from crackclf.images.size import check_size

CLASS_WEIGHTS = ("auto", "balanced", "none")


_FROM_1 = ("epochs", "batch_size", "patience")
_FROM_0 = ("folds", "hidden_units", "weight_decay", "fine_tune", "seed")


def _setting(panel: str, default: Any) -> Any:
    return dataclasses.field(default=default, metadata={"panel": panel})


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    r"""All settings of a training, except for the images.

    The options of `crackclf train`, the arguments of `train_folder` and `compare`, and the file
    `settings.json` beside a model are made from this class.

    Attributes:
        validation_split: Share of the images used for validation, between 0 and 1.
        test_split: Share of the images used for the final test, between 0 and 1.
        folds: Number of folds of a cross-validation. Each image is tested once, by a model that
            was not trained on it. A last model is trained on all images. 0 splits the images once.
        group_by: Regular expression, searched in each file name. Images with the same match stay
            in the same set, e.g. '(\d+)-' for the photo number.
        skip_unreadable: Leave out files that cannot be read, and list them.
        backbone: Base of the model. `crackclf compare --help` lists all names.
        weights: Weights of the base: imagenet, concrete, random, or a .weights.h5 or .h5 file.
        image_size: Height and width of the resized images in pixels.
        hidden_units: Units of a hidden layer before the softmax layer. 0 for no hidden layer.
        dropout: Share of the features dropped in training, from 0 to below 1.
        epochs: Most passes over the training images, in each stage.
        batch_size: Images per training step.
        learning_rate: Learning rate of the head. Fine-tuning uses a hundredth of it.
        weight_decay: Weight decay of Adam, 0 or more.
        label_smoothing: Share of each label that is spread over all classes, from 0 to below 1.
        patience: Epochs without a lower validation loss until a stage stops.
        class_weights: Weight of an image in the loss. balanced: each class has the same weight.
            none: each image has the same weight. auto: balanced if one class has more than three
            times as many images as another.
        augmentation: Flip and turn the training images, and change their light.
        cache_features: Run the frozen base once per image and train on the cached features.
            Otherwise the base runs in every epoch, on newly augmented images.
        views: Augmented variants of each training image in the cache. An epoch uses one of them.
            By default 1 to 8, for about 6,000 variants in all.
        fine_tune: Number of blocks at the end of the base to train in a second stage.
        seed: Seed of split, shuffling, augmentation, dropout and head.
        positive: Class folder with the cracked images, if its name does not tell.
        threshold_for: Goal of the threshold on the validation images: recall=0.98 to miss few
            cracks, precision=0.95 for few false alarms. By default the best balanced accuracy.

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
            from crackclf.evaluation.calibration import read_aim  # `--help` needs no NumPy.

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
