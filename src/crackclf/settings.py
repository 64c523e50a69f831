"""The settings of a training, in one place."""

import dataclasses
import inspect
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crackclf.errors import UserError, check_at_least, check_image_size, check_share

CLASS_WEIGHTS = ("auto", "balanced", "none")


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    r"""All settings of a training, except for the images.

    They are the arguments of `train_folder` and `compare`, the options of `crackclf train`, and
    the file `settings.json` beside a model.

    Args:
        validation_split: share of the images used for validation, above 0 and below 1.
        test_split: share of the images used for the final test, above 0 and below 1.
        folds: number of folds of a cross-validation, 3 or more, in which each image is tested
            once; a last model is then trained on all images. 0 splits the images once.
        group_by: regular expression, searched in each file name. Images with the same match stay
            in the same set, e.g. `(\d+)-` for the photo number.
        group_look_alikes: whether images that look alike stay in one set, also mirrored or turned.
        skip_unreadable: whether to leave out files that cannot be read, and list them.
        backbone: base of the model, a name of `BACKBONES`.
        weights: of the base: "imagenet", "concrete", "random", None, or the path of a weights file.
        image_size: height and width of the resized images in pixels.
        hidden_units: units of a hidden layer before the softmax layer. 0 for no hidden layer.
        dropout: share of the features dropped in training, from 0 to below 1.
        epochs: most passes over the training images, in each stage.
        batch_size: images per training step.
        learning_rate: learning rate of the head. Fine-tuning uses a hundredth of it.
        weight_decay: weight decay of Adam, 0 or more.
        label_smoothing: share of each label that is spread over all classes, from 0 to below 1.
        patience: epochs without a lower validation loss after which a stage stops.
        class_weights: "balanced": each class has the same weight in the loss. "none": each image
            has. "auto": balanced if one class has more than three times as many images as another.
        augmentation: whether to flip and turn training images, and change their light.
        cache_features: whether to run the frozen base once per image and train on its features.
            Otherwise the base runs in every epoch, on newly augmented images.
        views: augmented variants of each training image in the cache; an epoch uses one of them.
            None: 1 to 8, for about 6,000 variants in all.
        fine_tune: number of blocks at the end of the base to train in a second stage.
        seed: seed of split, shuffling, augmentation, dropout and head.
        positive: class folder with the cracked images. Several, "a,b", become one class.
        threshold_for: goal of the threshold on the validation images: "recall=0.98" to miss few
            cracks, "precision=0.95" for few false alarms. None: the best balanced accuracy.

    Raises:
        UserError: when a setting is out of its range.

    Examples:
        >>> settings = TrainSettings(epochs=20, group_by=r"(\d+)-")
        >>> train_folder("data/sdnet", **settings.to_dict())
    """

    validation_split: float = 0.2
    test_split: float = 0.2
    folds: int = 0
    group_by: str | None = None
    group_look_alikes: bool = False
    skip_unreadable: bool = False
    backbone: str = "mobilenetv2"
    weights: str = "imagenet"
    image_size: int = 160
    hidden_units: int = 0
    dropout: float = 0.2
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    patience: int = 3
    class_weights: str = "auto"
    augmentation: bool = True
    cache_features: bool = True
    views: int | None = None
    fine_tune: int = 0
    seed: int = 0
    positive: str | None = None
    threshold_for: str | None = None

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        set_field(self, "image_size", check_image_size(self.image_size))
        set_field(self, "backbone", str(self.backbone).lower())
        set_field(self, "weights", "random" if self.weights is None else os.fspath(self.weights))
        check_at_least(1, epochs=self.epochs, batch_size=self.batch_size, patience=self.patience)
        check_at_least(1, views=1 if self.views is None else self.views)
        check_at_least(0, hidden_units=self.hidden_units, weight_decay=self.weight_decay)
        check_at_least(0, fine_tune=self.fine_tune, seed=self.seed)
        check_at_least(3 if self.folds else 0, folds=self.folds)
        check_share(dropout=self.dropout, label_smoothing=self.label_smoothing)
        check_class_weights(self.class_weights)
        if not self.learning_rate > 0:
            raise UserError(f"learning_rate must be above 0. Received: {self.learning_rate}.")
        if self.seed >= 2**32:
            raise UserError(f"seed must be from 0 to 2**32 - 1. Received: {self.seed}.")
        if self.threshold_for is not None:
            from crackclf.calibration import read_aim  # NumPy, which `--help` need not import.

            read_aim(self.threshold_for)

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON can hold them."""
        return dataclasses.asdict(self)

    def arguments_of(self, function: Callable) -> dict[str, Any]:
        """The settings that are arguments of a function."""
        names = inspect.signature(function).parameters
        return {name: value for name, value in vars(self).items() if name in names}

    def to_json(self) -> str:
        """The settings as indented JSON text."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    @classmethod
    def read(cls, path: str | os.PathLike) -> "TrainSettings":
        """Reads a `settings.json`; a `UserError` names the file when it is not one."""
        try:
            return cls(**json.loads(Path(path).read_text(encoding="utf-8")))
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
        except (ValueError, TypeError) as error:  # A UserError is a ValueError.
            raise UserError(
                f"{path}: is no file of training settings ({error}). Expected a JSON object with "
                f"some of {', '.join(x.name for x in dataclasses.fields(cls))}."
            ) from None


def check_class_weights(class_weights: Any) -> None:
    """Refuses anything but one of `CLASS_WEIGHTS`."""
    if class_weights not in CLASS_WEIGHTS:
        raise UserError(
            f"class_weights must be one of {', '.join(CLASS_WEIGHTS)}. Received: {class_weights!r}."
        )
