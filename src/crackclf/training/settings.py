"""Everything that decides a training, said once."""

import dataclasses
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crackclf.errors import UserError
from crackclf.images.size import check_size


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    r"""Everything that decides a training, apart from the images.

    The options of `crackclf train`, the arguments of `train_folder` and `compare`, the file
    `settings.json` beside a model, and the check of a training that goes on are all read off
    this class, down to the words of `--help`.

    Attributes:
        epochs: At most this many passes over the training images.
        image_size: Height and width in pixels to which images are resized.
        batch_size: Images per step.
        validation_split: Share of the images kept for validation, between 0 and 1.
        test_split: Share of the images kept for the final test, between 0 and 1.
        seed: Of split, shuffling, augmentation, dropout and head.
        backbone: Base of the model; `crackclf compare --help` lists them.
        weights: Of the base: imagenet, concrete, random, or a .weights.h5 or .h5 file.
        positive: Class folder that holds the cracked images, when its name does not tell.
        group_by: Regular expression for what must stay on one side of the split, searched in each
            file's name, e.g. for the photo number '(\d+)-'.
        skip_unreadable: Leave out, and list, files that cannot be read, instead of stopping.
        cache_features: Run the frozen base once over the images, keep its features, and train on
            them; or run it in every epoch, over ever new variants of the images.
        views: Augmented variants of each training image to cache.

    Raises:
        UserError: When a setting is out of its range.

    Example:

    ```python
    settings = TrainSettings(epochs=20, group_by=r"(\d+)-")
    train_folder("data/sdnet", **settings.to_dict())
    ```
    """

    epochs: int = 10
    image_size: int = 160
    batch_size: int = 32
    validation_split: float = 0.2
    test_split: float = 0.2
    seed: int = 0
    backbone: str = "mobilenetv2"
    weights: str = "imagenet"
    positive: str | None = None
    group_by: str | None = None
    skip_unreadable: bool = False
    cache_features: bool = True
    views: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_size", check_size(self.image_size))
        object.__setattr__(self, "backbone", str(self.backbone).lower())
        weights = "random" if self.weights is None else os.fspath(self.weights)
        object.__setattr__(self, "weights", weights)
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1. Received: {getattr(self, name)}.")
        if self.views < 0:
            raise UserError(f"views must be 0 or more. Received: {self.views}.")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed must be from 0 to 2**32 - 1. Received: {self.seed}.")
        if self.views and not self.caches:
            raise UserError(
                "views are kept among the cached features; without the cache every epoch draws "
                f"new ones. Turn the cache on or leave out views. Received: views={self.views}."
            )

    @property
    def caches(self) -> bool:
        """Whether features are cached; those of a base in PyTorch are not."""
        return self.cache_features and not self.backbone.endswith("-torch")

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON can hold them."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        """The settings as indented JSON text."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

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
