"""A whole photo: where its cracks are, and whether it shows any."""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from crackclf.errors import UserError
from crackclf.evaluation.calibration import choose_region_threshold
from crackclf.images.decode import read_photo
from crackclf.images.exif import PhotoInfo
from crackclf.images.listing import Picture, Source, list_pictures
from crackclf.inspection import records
from crackclf.inspection.maps import map_cracks
from crackclf.inspection.overlay import draw_cracks, lay_heat
from crackclf.inspection.regions import Region, find_regions
from crackclf.inspection.trace import Crack, trace_cracks
from crackclf.prediction.classifier import Classifier, as_classifier


@dataclass(frozen=True)
class Inspection:
    """What was found on one photo, EXIF orientation applied.

    Attributes:
        file: its path; empty when it is no file.
        verdict: the class that it is called as a whole: the cracked one when there is a region.
        probability: map of the probability of a crack, float32 of shape (rows, columns): of each
            cell of the photo, whether there is one in it or next to it.
        stride: (x, y) distance of neighbouring cells in pixels of the photo.
        affine: (a, b, c, d, e, f): the centre of the cell in a row and column is at x = a * column
            + b * row + c, y = d * column + e * row + f, in pixels from the upper left corner.
        regions: cracked regions, the most probable first.
        cracks: those that can be traced in the regions, the longest first.
        region_threshold: probability above which its peak must be.
        width: of the photo in pixels.
        height: of the photo in pixels.
        info: when, where and with what it was taken.
    """

    file: str
    verdict: str
    probability: np.ndarray
    stride: tuple[float, float]
    affine: tuple[float, float, float, float, float, float]
    regions: tuple[Region, ...]
    cracks: tuple[Crack, ...]
    region_threshold: float
    width: int
    height: int
    info: PhotoInfo

    def to_dict(self, mm_per_pixel: float | None = None) -> dict[str, Any]:
        """All but the map, ready for JSON, as in the `inspection.json` of `inspect_photos`.

        Args:
            mm_per_pixel: millimetres on the surface for a pixel of the photo, to give lengths,
                widths and areas on the surface as well.

        Raises:
            UserError: when the scale is not above 0.
        """
        scale = records.Scale(mm_per_pixel)
        area = round(sum(region.area for region in self.regions), 1)
        record = {
            "file": self.file,
            "verdict": self.verdict,
            "probability": round(float(self.probability.max()), 6),
            "width": self.width,
            "height": self.height,
            **dataclasses.asdict(self.info),
            "regions": [
                {
                    "probability": round(region.probability, 6),
                    "area": region.area,
                    "box": region.box,
                    "polygons": region.polygons,
                }
                for region in self.regions
            ],
            "cracks": [records.to_record(crack) for crack in self.cracks],
            "area_px": area,
            "area_share": round(area / (self.width * self.height), 6),
        }
        return records.add_sizes(record, scale)

    def to_row(self, mm_per_pixel: float | None = None) -> dict[str, Any]:
        """The values of a row of `photos.csv` by its columns; None where nothing is known.

        Args:
            mm_per_pixel: as for `to_dict`.
        """
        return records.to_row(self.to_dict(mm_per_pixel))

    def to_geojson(self, mm_per_pixel: float | None = None) -> dict[str, Any] | None:
        """A GeoJSON feature: the point where the photo was taken; None when it does not say.

        Args:
            mm_per_pixel: as for `to_dict`.
        """
        return records.to_feature(self.to_row(mm_per_pixel))

    def draw_overlay(
        self, photo: Image.Image | np.ndarray | None = None, longest: int = 2000
    ) -> Image.Image:
        """Draws the photo as it is, and beside it with its cracks, coloured by width.

        Regions are outlined; in one without a line, no crack could be traced.

        Args:
            photo: what was inspected; read again from `file` when None.
            longest: longer side of each of the two in pixels, if the photo is larger.

        Returns:
            An RGB image.

        Raises:
            UserError: when there is neither photo nor file, or the file is no longer that photo.

        Example:

        ```python
        inspect_photo("bridge.jpg").draw_overlay().save("bridge-cracks.jpg")
        ```
        """
        return draw_cracks(self._read(photo), self.cracks, self.regions, longest)

    def draw_heat(
        self, photo: Image.Image | np.ndarray | None = None, longest: int = 2000
    ) -> Image.Image:
        """Lays the map of probabilities over the photo: the brighter, the more probable a crack.

        Args:
            photo: as for `draw_overlay`.
            longest: longer side of the picture in pixels, if the photo is larger.

        Raises:
            UserError: as `draw_overlay`.
        """
        return lay_heat(self._read(photo), self.probability, longest)

    def _read(self, photo: Image.Image | np.ndarray | None) -> Image.Image:
        if photo is None:
            if not self.file:
                raise UserError("the photo was not a file; pass it as photo=.")
            photo, _ = read_photo(self.file)
        elif isinstance(photo, np.ndarray):
            photo = Image.fromarray(photo)
        if photo.size != (self.width, self.height):
            raise UserError(
                f"{self.file}: expected the photo that was inspected, {self.width} x "
                f"{self.height} pixels. Received: {photo.size}."
            )
        return photo


def inspect_photo(
    photo: Source,
    classifier: Classifier | str | os.PathLike = "shipped",
    region_threshold: float | None = None,
) -> Inspection:
    """Looks for cracks all over a photo, on all cores.

    Args:
        photo: a file, an image of Pillow, or an RGB array of shape (height, width, 3) in 0..255.
        classifier: from `load_model`, or the folder of a saved model.
        region_threshold: probability above which the peak of a region must be; by default the one
            at which one sound photo in ten is called cracked, by the model's card.

    Returns:
        An `Inspection`.

    Raises:
        UserError: when there is not one photo, it cannot be read, or the model's card does not say
            what it makes of sound photos and no threshold is given.

    Example:

    ```python
    inspection = inspect_photo("bridge.jpg")
    print(inspection.verdict, [(crack.length, crack.max_width) for crack in inspection.cracks])
    ```
    """
    pictures = list_pictures(photo)
    if len(pictures) != 1:
        raise UserError(f"expected one photo to inspect. Received: {len(pictures)} images.")
    card = (classifier := as_classifier(classifier)).card
    if region_threshold is None:
        region_threshold = choose_region_threshold(card.sound_peaks)
    with pictures[0].opened() as (image, info):
        probability = map_cracks(image, classifier)
        regions = find_regions(probability, image.size, region_threshold)
        cracks = trace_cracks(image, probability, regions)
    rows, columns = probability.shape
    stride = (image.width / columns, image.height / rows)
    return Inspection(
        file=pictures[0].name if isinstance(pictures[0].source, Path) else "",
        verdict=card.positive_class if regions else card.negative_class,
        probability=probability,
        stride=stride,
        affine=(stride[0], 0, stride[0] / 2, 0, stride[1], stride[1] / 2),
        regions=regions,
        cracks=cracks,
        region_threshold=region_threshold,
        width=image.width,
        height=image.height,
        info=info,
    )


def measure_sound_peaks(
    photos: Sequence[str | os.PathLike], classifier: Classifier
) -> tuple[float, ...]:
    """The highest probability of a crack on each of some photos that show none.

    Args:
        photos: files of photos of sound surfaces, such as those to be inspected.
        classifier: from `load_model`.

    Returns:
        A probability for each, for `choose_region_threshold`.

    Raises:
        UserError: when one cannot be read.
    """
    from tqdm import tqdm

    peaks = []
    for path in tqdm(photos, "Measuring sound photos", unit=" photos"):
        with Picture(str(path), Path(path)).opened() as (image, _):
            peaks.append(round(float(map_cracks(image, classifier).max()), 6))
    return tuple(peaks)
