"""When, where and with what a photo was taken, as its EXIF says."""

import datetime
import math
from dataclasses import dataclass
from typing import Any

from PIL import ExifTags, Image

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class PhotoInfo:
    """What a camera wrote into a photo; None where it wrote nothing that can be understood.

    Attributes:
        taken: local time, ISO 8601.
        camera: maker and model.
        latitude: degrees, north positive (WGS 84).
        longitude: degrees, east positive.
        altitude: metres above sea level.
        focal_length: in millimetres, as of a camera with 35 mm film.
    """

    taken: str | None = None
    camera: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    altitude: float | None = None
    focal_length: float | None = None


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """How an image must be turned to stand upright, by its EXIF; None when it stands upright."""
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        return None  # EXIF that cannot be read is EXIF that nobody applies.


def photo_info(image: Image.Image) -> PhotoInfo:
    """Reads the EXIF of an image; EXIF that cannot be read counts as none."""
    try:
        return _read_info(image)
    except Exception:  # Hostile bytes may raise nearly anything, some only when a tag is asked for.
        return PhotoInfo()


def _read_info(image: Image.Image) -> PhotoInfo:
    exif = image.getexif()
    details = exif.get_ifd(ExifTags.IFD.Exif)
    gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    maker, model = (_text(exif.get(tag)) for tag in (ExifTags.Base.Make, ExifTags.Base.Model))
    if model.lower().startswith(maker.lower()):
        maker = ""
    latitude = _degrees(gps, ExifTags.GPS.GPSLatitude, "S", 90)
    longitude = _degrees(gps, ExifTags.GPS.GPSLongitude, "W", 180)
    known = latitude is not None and longitude is not None
    altitude = _number(gps.get(ExifTags.GPS.GPSAltitude))
    below = gps.get(ExifTags.GPS.GPSAltitudeRef) in (1, b"\1")
    taken = details.get(ExifTags.Base.DateTimeOriginal) or exif.get(ExifTags.Base.DateTime)
    return PhotoInfo(
        taken=_time(taken),
        camera=f"{maker} {model}".strip() or None,
        latitude=latitude if known else None,
        longitude=longitude if known else None,
        altitude=-altitude if altitude is not None and below else altitude,
        # 0 says that it is not known.
        focal_length=_number(details.get(ExifTags.Base.FocalLengthIn35mmFilm)) or None,
    )


def _text(value: Any) -> str:
    text = value.split("\0")[0] if isinstance(value, str) else ""
    return "".join(letter for letter in text if letter.isprintable()).strip()


def _time(value: Any) -> str | None:
    try:
        return datetime.datetime.strptime(_text(value), "%Y:%m:%d %H:%M:%S").isoformat()
    except ValueError:
        return None


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return round(number, 7) if math.isfinite(number) else None


def _degrees(gps: dict, tag: int, negative: str, most: int) -> float | None:
    try:
        parts = [_number(part) for part in gps[tag]]
    except (KeyError, TypeError):
        return None
    if len(parts) != 3 or None in parts:
        return None
    degrees = round(sum(part / 60**i for i, part in enumerate(parts)), 7)  # type: ignore[operator]
    # The letter stands in the tag before.
    sign = -1 if _text(gps.get(tag - 1)).upper() == negative else 1
    return sign * degrees if 0 <= degrees <= most else None
