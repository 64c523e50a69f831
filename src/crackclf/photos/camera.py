"""What a camera wrote into a photo: when, where and how it was taken, and what it shows."""

import math
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from crackclf.errors import UserError

_CROPPED = 0.01  # Share by which two aspect ratios may differ.
_PANORAMA = 6  # Of EXIF's CustomRendered, on phones.


class NoPhotoError(UserError):
    """A picture that shows no surface."""


@dataclass(frozen=True)
class PhotoInfo:
    """What a camera wrote into a photo; None where it wrote nothing that can be understood.

    `taken` is the local time (ISO 8601), `camera` maker and model. `latitude` and `longitude` are
    degrees, north and east positive (WGS 84), `altitude` metres above sea level, `focal_length`
    millimetres, as of a camera with 35 mm film. `no_scale` says why it gives no scale all the same.
    """

    taken: str | None = None
    camera: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    altitude: float | None = None
    focal_length: float | None = None
    no_scale: str | None = None


def photo_info(image: Image.Image) -> PhotoInfo:
    """Reads the EXIF of an image."""
    found: dict[str, Any] = {}
    with suppress(Exception):  # Damaged EXIF may raise nearly anything when a tag is read.
        exif = image.getexif()
        details, gps = exif.get_ifd(IFD.Exif), exif.get_ifd(IFD.GPSInfo)
        times = [details.get(Base.DateTimeOriginal), details.get(Base.DateTimeDigitized)]
        found["taken"] = next(filter(None, map(_time, [*times, exif.get(Base.DateTime)])), None)
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
        found["no_scale"] = _find_doubt(image, details)
    return PhotoInfo(**found)


def check_photo(image: Image.Image) -> None:
    """Refuses a picture of something else than light, by what its camera wrote."""
    segments = [content for _, content in getattr(image, "applist", ())]
    is_thermal = any(segment.startswith(b"FLIR\0") for segment in segments)
    if is_thermal or re.search(rb"ImageSource\W{1,3}(Infrared|Thermal)|\bLWIR\b", _xmp(image)):
        raise NoPhotoError("is a thermal picture and no photo of the surface; leave it out")


def _xmp(image: Image.Image) -> bytes:
    found = image.info.get("xmp", b"")
    return found if isinstance(found, bytes) else str(found).encode()


def _find_doubt(image: Image.Image, details: dict[int, Any]) -> str | None:
    """Why the focal length of a photo does not give its scale."""
    xmp = _xmp(image)
    if b"GPano:ProjectionType" in xmp or details.get(Base.CustomRendered) == _PANORAMA:
        return "is a panorama, whose pixels have no single scale"
    tags = (Base.ExifImageWidth, Base.ExifImageHeight)
    stored, sides = sorted(_number(details.get(x)) or 0 for x in tags), sorted(image.size)
    is_other = stored[0] > 0 and abs(stored[0] * sides[1] / (stored[1] * sides[0]) - 1) > _CROPPED
    if is_other or b'HasCrop="True"' in xmp:
        return "was cropped"
    if (_number(details.get(Base.DigitalZoomRatio)) or 1) > 1:
        return "was taken with digital zoom"
    return None


def _time(value: Any) -> str | None:
    with suppress(ValueError):
        return datetime.strptime(_text(value), "%Y:%m:%d %H:%M:%S").isoformat()
    return None


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
