"""A saved model that travels: for Ray, Spark, Beam, or whatever runs functions elsewhere."""

import dataclasses
import json
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf
from PIL import Image

from crackclf.data.exif import PhotoInfo
from crackclf.data.images import decode_photo
from crackclf.errors import UserError
from crackclf.evaluation.calibration import choose_region_threshold
from crackclf.inference.batch import describe
from crackclf.inference.inspection import FALSE_ALARMS, inspect_photo
from crackclf.inference.predict import predict
from crackclf.inference.report import COLUMNS, add_areas, check_scale
from crackclf.models.saving import Classifier, load_model, model_folder

_MODEL_FILES = ("card.json", "model.keras", "model.pt")
_Decoded = tuple[Image.Image, PhotoInfo] | UserError


class CarriedModel(ABC):
    """What `Predictor` and `Inspector` share: they pickle the model's own files, not the model.

    The first call in a process unpacks these into a temporary folder, where `load_model` checks
    them as it checks any.

    Attributes:
        card: the model's card.
        columns: what a call returns: Arrow's names of the types by the names of the columns.
        images: how many images to give to a call.
        answer: the column that says what an image shows.
    """

    columns: ClassVar[Mapping[str, str]]
    images: ClassVar[int]
    answer: ClassVar[str]

    def __init__(self, model: str | os.PathLike = "shipped"):
        self.card = load_model(model).card
        paths = map(model_folder(model).joinpath, _MODEL_FILES)
        self._files = tuple((path.name, path.read_bytes()) for path in paths if path.is_file())

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Answers for the images of a batch.

        Args:
            batch: columns, as arrays by name or as a data frame: `path`, what an image is called;
                `bytes`, the content of its file; and, where reading may have failed, `error`, why
                it did, empty where it did not.

        Returns:
            A row for each image, in order: object arrays by the names of `columns`. Of an image
            that cannot be read, there is its `file` and `error`, and None in the other columns.
        """
        files = [str(path) for path in batch["path"]]
        errors = batch["error"] if "error" in batch else [""] * len(files)
        images = map(_decode, batch["bytes"], errors)
        rows = self._answer(images, _load(self._files))
        for file, row in zip(files, rows, strict=True):
            row["file"] = file
            row["error"] = f"{file}: {row['error']}" if "error" in row else ""
        columns = {name: np.empty(len(rows), dtype=object) for name in self.columns}
        for name, column in columns.items():
            column[:] = [row.get(name) for row in rows]
        return columns

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the answers."""
        return {"model": self.card.sha256}

    @abstractmethod
    def _answer(self, images: Iterator[_Decoded], classifier: Classifier) -> list[dict[str, Any]]:
        """A row for each; only its `error` when it could not be decoded."""


class Predictor(CarriedModel):
    """Predicts image files, given as bytes, wherever it was pickled to.

    Args:
        model: see `load_model`.

    Raises:
        UserError: likewise.

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

    def _answer(self, images: Iterator[_Decoded], classifier: Classifier) -> list[dict[str, Any]]:
        size = (self.card.image_size, self.card.image_size)
        # Resized at once, as `predict` resizes files: several photos would take much memory.
        resized = [
            x if isinstance(x, UserError) else tf.image.resize(np.asarray(x[0]), size).numpy()
            for x in images
        ]
        pixels = [x for x in resized if not isinstance(x, UserError)]
        _ = classifier.fast  # Built but once, and then used by `predict`: many more will come.
        said = iter(predict(np.stack(pixels), classifier) if pixels else ())
        rows = []
        for x in resized:
            if isinstance(x, UserError):
                rows.append({"error": str(x)})
            else:
                prediction = next(said)
                rows.append({"label": prediction.label, "probability": prediction.probability})
        return rows


class Inspector(CarriedModel):
    """Inspects whole photos, given as bytes, wherever it was pickled to.

    A call returns the columns of the `photos.csv` of `inspect_photos`, and in `regions_json` the
    regions as its `inspection.json` has them.

    Args:
        model: see `load_model`.
        region_threshold: see `inspect_photo`.
        mm_per_pixel: see `inspect_photos`.

    Raises:
        UserError: see `load_model` and `inspect_photo`.

    Example:

    ```python
    inspector = Inspector(mm_per_pixel=0.4)
    inspector({"path": ["bridge.jpg"], "bytes": [Path("bridge.jpg").read_bytes()]})
    ```
    """

    columns: ClassVar[Mapping[str, str]] = {
        **{name: "string" for name in COLUMNS},
        **{name: "int64" for name in ("regions", "width", "height")},
        **{name: "double" for name in ("probability", "area_px", "area_share", "area_m2")},
        **{name: "double" for name in ("latitude", "longitude", "altitude")},
        "regions_json": "string",
    }
    images: ClassVar[int] = 1
    answer: ClassVar[str] = "verdict"

    def __init__(
        self,
        model: str | os.PathLike = "shipped",
        region_threshold: float | None = None,
        mm_per_pixel: float | None = None,
    ):
        super().__init__(model)
        if region_threshold is None:
            region_threshold = choose_region_threshold(self.card.sound_peaks, FALSE_ALARMS)
        check_scale(mm_per_pixel)
        self.region_threshold, self.mm_per_pixel = region_threshold, mm_per_pixel

    @property
    def settings(self) -> dict[str, Any]:
        """See `CarriedModel`."""
        own = {"region_threshold": self.region_threshold, "mm_per_pixel": self.mm_per_pixel}
        return super().settings | own

    def _answer(self, images: Iterator[_Decoded], classifier: Classifier) -> list[dict[str, Any]]:
        return [
            {"error": str(x)} if isinstance(x, UserError) else self._inspect(*x, classifier)
            for x in images
        ]

    def _inspect(
        self, image: Image.Image, info: PhotoInfo, classifier: Classifier
    ) -> dict[str, Any]:
        found = inspect_photo(image, classifier, self.region_threshold)
        row = describe(dataclasses.replace(found, info=info))
        add_areas(row, self.mm_per_pixel)
        regions = row["regions"]
        return row | {"regions": len(regions), "regions_json": json.dumps(regions)}


@lru_cache(maxsize=1)
def _load(files: tuple[tuple[str, bytes], ...]) -> Classifier:
    # Once in a process, however often Spark or Ray unpickles the same predictor in it.
    with tempfile.TemporaryDirectory(prefix="crackclf-") as folder:
        for name, content in files:
            (Path(folder) / name).write_bytes(content)
        return load_model(folder)


def _decode(content: bytes | None, error: str) -> _Decoded:
    try:
        if error or content is None:
            raise UserError(error or "there are no bytes of it")
        return decode_photo(bytes(content))
    except UserError as problem:
        return problem
