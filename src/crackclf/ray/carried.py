"""A saved model that can be pickled, for Ray, Spark, Beam or whatever runs functions elsewhere."""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from crackclf.errors import UserError
from crackclf.evaluation.calibration import choose_region_threshold
from crackclf.images.decode import open_image
from crackclf.images.listing import Picture
from crackclf.inspection.photo import inspect_photo
from crackclf.inspection.records import COLUMNS, Scale
from crackclf.prediction.classifier import Classifier, as_classifier
from crackclf.prediction.predict import ask


class CarriedModel(ABC):
    """What `Predictor` and `Inspector` share.

    Attributes:
        classifier: the model, which is pickled with it.
        columns: Arrow's types of what a call returns, by the names of the columns.
        images: how many images to give to a call.
        answer: the column that says what an image shows.
    """

    columns: ClassVar[Mapping[str, str]]
    images: ClassVar[int]
    answer: ClassVar[str]

    def __init__(self, model: Classifier | str | os.PathLike = "shipped"):
        self.classifier = as_classifier(model)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Answers for the images of a batch.

        Args:
            batch: columns, as arrays by name or as a data frame: `path`, the name of an image;
                `bytes`, the content of its file; and, where reading may have failed, `error`, why
                it did, empty where it did not.

        Returns:
            A row for each image, in order: object arrays by the names of `columns`. An image that
            cannot be read has its `file` and `error`, and None in the other columns.
        """
        files = [str(path) for path in batch["path"]]
        errors = batch["error"] if "error" in batch else [""] * len(files)
        contents = [
            UserError(error or "there are no bytes of it")
            if error or content is None
            else bytes(content)
            for content, error in zip(batch["bytes"], errors, strict=True)
        ]
        rows = self._answer(contents)
        for file, row in zip(files, rows, strict=True):
            row["file"] = file
            row["error"] = f"{file}: {row['error']}" if row.get("error") else ""
        columns = {name: np.empty(len(rows), dtype=object) for name in self.columns}
        for name, column in columns.items():
            column[:] = [row.get(name) for row in rows]
        return columns

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the answers."""
        return {"model": self.classifier.card.fingerprint}

    @abstractmethod
    def _answer(self, contents: Sequence[bytes | UserError]) -> list[dict[str, Any]]:
        """A row for each content of a file; only its `error` where it cannot be read."""


class Predictor(CarriedModel):
    """Predicts image files, given as bytes, wherever it was pickled to.

    Args:
        model: from `load_model`, or the folder of a saved model.

    Raises:
        UserError: when the folder is not a whole saved model.

    Example:

    ```python
    predictor = pickle.loads(pickle.dumps(Predictor("saved_models/first")))
    predictor({"path": ["wall.jpg"], "bytes": [Path("wall.jpg").read_bytes()]})
    ```
    """

    columns: ClassVar[Mapping[str, str]] = {
        "file": "string",
        "label": "string",
        "probability": "double",
        "error": "string",
    }
    images: ClassVar[int] = 16
    answer: ClassVar[str] = "label"

    def _answer(self, contents: Sequence[bytes | UserError]) -> list[dict[str, Any]]:
        card, rows = self.classifier.card, []
        pictures = [Picture("", x) for x in contents if isinstance(x, bytes)]
        answers = iter(ask(pictures, self.classifier))
        for content in contents:
            said = next(answers) if isinstance(content, bytes) else content
            if isinstance(said, UserError):
                rows.append({"error": str(said)})
            else:
                score = float(said[card.positive_index])
                rows.append({"label": card.name_class(said), "probability": score})
        return rows


class Inspector(CarriedModel):
    """Inspects whole photos, given as bytes, wherever it was pickled to.

    A call returns the columns of the `photos.csv` of `inspect_photos`, and in `regions_json` and
    `cracks_json` the regions and cracks as its `inspection.json` has them.

    Args:
        model: from `load_model`, or the folder of a saved model.
        region_threshold: probability above which the peak of a region must be; by default the one
            at which one sound photo in ten is called cracked, by the model's card.
        mm_per_pixel: millimetres on the surface for a pixel of the photos, when known.

    Raises:
        UserError: when the folder is not a whole saved model, the scale is not above 0, or there
            is no threshold and the card does not give one.

    Example:

    ```python
    inspector = Inspector(mm_per_pixel=0.4)
    inspector({"path": ["bridge.jpg"], "bytes": [Path("bridge.jpg").read_bytes()]})
    ```
    """

    columns: ClassVar[Mapping[str, str]] = {
        **{name: "string" for name in COLUMNS},
        **{name: "int64" for name in ("cracks", "regions", "width", "height")},
        **{name: "double" for name in ("probability", "area_px", "area_share", "area_m2")},
        **{name: "double" for name in ("length_px", "max_width_px", "length_mm", "max_width_mm")},
        "mm_per_pixel": "double",
        **{name: "double" for name in ("latitude", "longitude", "altitude")},
        "regions_json": "string",
        "cracks_json": "string",
    }
    images: ClassVar[int] = 1
    answer: ClassVar[str] = "verdict"

    def __init__(
        self,
        model: Classifier | str | os.PathLike = "shipped",
        region_threshold: float | None = None,
        mm_per_pixel: float | None = None,
    ):
        super().__init__(model)
        if region_threshold is None:
            region_threshold = choose_region_threshold(self.classifier.card.sound_peaks)
        Scale(mm_per_pixel)  # Refuses what cannot be.
        self.region_threshold, self.mm_per_pixel = region_threshold, mm_per_pixel

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the answers."""
        own = {"region_threshold": self.region_threshold, "mm_per_pixel": self.mm_per_pixel}
        return super().settings | own

    def _answer(self, contents: Sequence[bytes | UserError]) -> list[dict[str, Any]]:
        return [self._inspect(content) for content in contents]

    def _inspect(self, content: bytes | UserError) -> dict[str, Any]:
        if isinstance(content, UserError):
            return {"error": str(content)}
        try:
            found = inspect_photo(open_image(content), self.classifier, self.region_threshold)
        except UserError as error:
            return {"error": str(error)}
        record = found.to_dict(self.mm_per_pixel)
        told = {f"{name}_json": json.dumps(record[name]) for name in ("regions", "cracks")}
        return found.to_row(self.mm_per_pixel) | told
