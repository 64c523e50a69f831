"""One whole photo: where its cracks are, and whether it shows any."""

import math
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from crackclf.calibration import choose_region_threshold
from crackclf.errors import UserError
from crackclf.images import naming, to_rgb
from crackclf.listing import Picture, Source, list_pictures
from crackclf.photos.maps import Region, find_regions, map_cracks
from crackclf.photos.overlay import draw_cracks
from crackclf.photos.records import SIZES, Scale, add_sizes
from crackclf.photos.trace import Crack, trace_cracks
from crackclf.prediction import Classifier, as_classifier


@dataclass(frozen=True)
class PhotoInfo:
    """What a camera wrote into a photo; None where it wrote nothing that can be understood.

    `taken` is the local time (ISO 8601), `camera` maker and model. `latitude` and `longitude` are
    degrees, north and east positive (WGS 84), `altitude` metres above sea level, `focal_length`
    millimetres, as of a camera with 35 mm film.
    """

    taken: str | None = None
    camera: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    altitude: float | None = None
    focal_length: float | None = None


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
            "regions": [to_record(region) for region in self.regions],
            "cracks": [to_record(crack) for crack in self.cracks],
            "area_px": area,
            "area_share": round(area / (self.width * self.height), 6),
        }
        return add_sizes(record, Scale(mm_per_pixel))

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
        image, info = to_rgb(source), photo_info(source)
        probability = map_cracks(image, classifier)
    regions = find_regions(probability, image.size, region_threshold)
    found = Inspection(
        file=picture.name,
        verdict=classifier.card.positive_class if regions else classifier.card.negative_class,
        probability=probability,
        regions=regions,
        cracks=trace_cracks(image, probability, regions),
        region_threshold=region_threshold,
        width=image.width,
        height=image.height,
        info=info,
    )
    return found, image


def photo_info(image: Image.Image) -> PhotoInfo:
    """Reads the EXIF of an image."""
    found: dict[str, Any] = {}
    with suppress(Exception):  # Damaged EXIF may raise nearly anything when a tag is read.
        exif = image.getexif()
        details, gps = exif.get_ifd(IFD.Exif), exif.get_ifd(IFD.GPSInfo)
        taken = details.get(Base.DateTimeOriginal) or exif.get(Base.DateTime)
        with suppress(ValueError):
            found["taken"] = datetime.strptime(_text(taken), "%Y:%m:%d %H:%M:%S").isoformat()
        maker, model = _text(exif.get(Base.Make)), _text(exif.get(Base.Model))
        camera = model if model.lower().startswith(maker.lower()) else f"{maker} {model}".strip()
        # Cameras write a focal length of 0 when they do not know it.
        focal_length = _number(details.get(Base.FocalLengthIn35mmFilm)) or None
        found |= {"camera": camera or None, "focal_length": focal_length}
        altitude = _number(gps.get(GPS.GPSAltitude))
        if altitude is not None and gps.get(GPS.GPSAltitudeRef) in (1, b"\1"):
            altitude = -altitude  # Below the sea.
        found["altitude"] = altitude
        latitude = _degrees(gps, GPS.GPSLatitude, "S", 90)
        longitude = _degrees(gps, GPS.GPSLongitude, "W", 180)
        if latitude is not None and longitude is not None:
            found |= {"latitude": latitude, "longitude": longitude}
    return PhotoInfo(**found)


def _text(value: Any) -> str:
    text = value.split("\0")[0] if isinstance(value, str) else ""
    return "".join(letter for letter in text if letter.isprintable()).strip()


def _number(value: Any) -> float | None:
    with suppress(TypeError, ValueError, ZeroDivisionError):
        number = float(value)
        return round(number, 7) if math.isfinite(number) else None


def _degrees(gps: dict, tag: int, negative: str, limit: int) -> float | None:
    with suppress(KeyError, TypeError, ValueError, ZeroDivisionError):
        degrees, minutes, seconds = map(float, gps[tag])
        value = degrees + minutes / 60 + seconds / 3600
        sign = -1 if _text(gps.get(tag - 1)).upper() == negative else 1  # Its tag is before.
        return sign * round(value, 7) if 0 <= value <= limit else None


def measure_sound_peaks(
    photos: Sequence[str | os.PathLike], classifier: Classifier
) -> tuple[float, ...]:
    """The highest probability of a crack on each of some photos of sound surfaces."""
    from tqdm import tqdm

    files = tqdm(photos, "Measuring sound photos", unit=" photos")
    maps = (map_cracks(Picture(str(x), Path(x)).read(), classifier) for x in files)
    return tuple(round(float(probability.max()), 6) for probability in maps)
