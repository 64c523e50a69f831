"""One whole photo: where its cracks are, and whether it shows any."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from crackclf.calibration import choose_region_threshold
from crackclf.errors import UserError
from crackclf.images import check_seen, naming, to_rgb
from crackclf.listing import Picture, Source, list_pictures
from crackclf.photos.camera import PhotoInfo, check_photo, photo_info
from crackclf.photos.maps import Region, find_regions, map_cracks, map_photo
from crackclf.photos.overlay import draw_cracks
from crackclf.photos.quality import describe_quality
from crackclf.photos.records import SIZES, Scale, add_sizes
from crackclf.photos.trace import Crack, trace_cracks
from crackclf.prediction import Classifier, as_classifier, load_model

_load_box = cache(load_model)  # Its mask traces what any other model finds.


@dataclass(frozen=True)
class Inspection:
    """What was found on one photo, EXIF orientation applied.

    Attributes:
        file: its path; empty when it is no file.
        verdict: the class of the whole photo: the cracked one when there is a region.
        probability: map of the probability of a crack, float32 of shape (rows, columns) in 0..1.
        regions: cracked regions, the most probable first.
        cracks: those that can be traced in the regions, the longest first.
        region_threshold: probability above which the peak of a region must be.
        width: of the photo in pixels.
        height: of the photo in pixels.
        info: when, where and with what it was taken.
        quality: what keeps cracks from being seen on it, in words; empty when nothing does.
    """

    file: str
    verdict: str
    probability: np.ndarray
    regions: tuple[Region, ...]
    cracks: tuple[Crack, ...]
    region_threshold: float
    width: int
    height: int
    info: PhotoInfo
    quality: str = ""

    def to_dict(self, mm_per_pixel: float | None = None) -> dict[str, Any]:
        """All but the map, ready for JSON, as in the `inspection.json` of `inspect_photos`.

        Args:
            mm_per_pixel: millimetres on the surface per pixel, to have sizes in mm as well.

        Returns:
            Values by name.

        Raises:
            UserError: when the scale is not above 0.

        Examples:
            >>> print(inspect_photo("bridge.jpg").to_dict(mm_per_pixel=0.4)["cracks"])
        """

        def to_record(found: Region | Crack) -> dict[str, Any]:
            record = vars(found) | {"probability": round(found.probability, 6)}
            return {f"{key}_px" if key in SIZES else key: x for key, x in record.items()}

        area = round(sum(region.area for region in self.regions), 1)
        record = {
            "file": self.file,
            "verdict": self.verdict,
            "probability": round(float(self.probability.max()), 6),
            "width": self.width,
            "height": self.height,
            **vars(self.info),
            "quality": self.quality,
            "regions": [to_record(region) for region in self.regions],
            "cracks": [to_record(crack) for crack in self.cracks],
            "area_px": area,
            "area_share": round(area / (self.width * self.height), 6),
        }
        return add_sizes(record, Scale(mm_per_pixel).of(record)[0])

    def draw_overlay(
        self, photo: Image.Image | np.ndarray | None = None, longest: int = 2000
    ) -> Image.Image:
        """Draws the photo as it is, and beside it with its cracks, coloured by width.

        Regions are outlined. In a region without a line, no crack could be traced.

        Args:
            photo: what was inspected; read again from `file` when None.
            longest: longer side of each of the two in pixels, if the photo is larger.

        Returns:
            An RGB image.

        Raises:
            UserError: when there is neither photo nor file, or it is of another size.

        Examples:
            >>> inspect_photo("bridge.jpg").draw_overlay().save("bridge-cracks.jpg")
        """
        if photo is None and not self.file:
            raise UserError("the photo was not a file; pass it as photo=.")
        image = Picture(self.file, Path(self.file) if photo is None else photo).read()
        if image.size != (self.width, self.height):
            raise UserError(
                f"{self.file}: expected the photo that was inspected, {self.width} x "
                f"{self.height} pixels. Received: {image.size}."
            )
        return draw_cracks(image, self.cracks, self.regions, longest)


def inspect_photo(
    photo: Source,
    classifier: Classifier | str | os.PathLike = "shipped",
    region_threshold: float | None = None,
) -> Inspection:
    """Looks for cracks all over a photo, on all cores.

    Args:
        photo: a file, an image of Pillow, or an RGB array of shape (height, width, 3) in 0..255.
        classifier: from `load_model`, or the folder of a saved model.
        region_threshold: probability above which the peak of a region must be, in 0..1. By
            default the one at which one sound photo in ten is called cracked, by the model's card.

    Returns:
        An `Inspection`.

    Raises:
        UserError: when there is not one photo, it cannot be read, or the model's card does not
            hold what it answers on sound photos and no threshold is given.

    Examples:
        >>> inspection = inspect_photo("bridge.jpg")
        >>> print(inspection.verdict, [crack.max_width for crack in inspection.cracks])
    """
    pictures = list_pictures(photo)
    if len(pictures) != 1:
        raise UserError(f"expected one photo to inspect. Received: {len(pictures)} images.")
    classifier = as_classifier(classifier)
    if region_threshold is None:
        region_threshold = choose_region_threshold(classifier.card.sound_peaks)
    found, _ = inspect_picture(pictures[0], classifier, region_threshold)
    return found if isinstance(pictures[0].source, Path) else replace(found, file="")


def inspect_picture(
    picture: Picture, classifier: Classifier, region_threshold: float
) -> tuple[Inspection, Image.Image]:
    """Inspects a photo, on all cores; also returns it as an RGB image, upright."""
    source = picture.open()
    with naming(picture.name):
        check_photo(source)
        image, info = check_seen(to_rgb(source)), photo_info(source)
        probability, mask = map_photo(image, classifier)
    regions = find_regions(probability, image.size, region_threshold, mask)
    seen = mask
    if mask is None and regions:  # The model says whether, that in the box where.
        _, seen = map_photo(image, _load_box())
    found = Inspection(
        file=picture.name,
        verdict=classifier.card.positive_class if regions else classifier.card.negative_class,
        probability=probability,
        regions=regions,
        cracks=() if seen is None else trace_cracks(image, seen, probability, regions),
        region_threshold=region_threshold,
        width=image.width,
        height=image.height,
        info=info,
        quality=describe_quality(image),
    )
    return found, image


def measure_sound_peaks(
    photos: Sequence[str | os.PathLike], classifier: Classifier
) -> tuple[float, ...]:
    """The highest probability of a crack on each of some photos of sound surfaces."""
    from tqdm import tqdm

    files = tqdm(photos, "Measuring sound photos", unit=" photos")
    maps = (map_cracks(Picture(str(x), Path(x)).read(), classifier) for x in files)
    return tuple(round(float(probability.max()), 6) for probability in maps)
