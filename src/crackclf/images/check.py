"""Whether an image file can be trained on, and what it looks like."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from crackclf.errors import UserError
from crackclf.images.decode import FORMATS, open_image, opening, read_content, to_rgb
from crackclf.images.exif import turn_of

# What `keras.utils.image_dataset_from_directory` reads; it skips every other file silently.
_KERAS_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png")
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


@dataclass(frozen=True)
class ImageCheck:
    """What a full decode of one file found.

    Attributes:
        digest: BLAKE2b digest of the file's bytes, 32 hexadecimal digits.
        plain: whether TensorFlow decodes it to the same picture as `read_image`, which holds
            for 8-bit grey and RGB without transparency and EXIF rotation.
        problem: why it cannot be trained on and what to do about it; empty when it can.
        width: in pixels, as stored; 0 when it cannot be decoded.
        height: in pixels, as stored; 0 when it cannot be decoded.
        mode: Pillow's name for its kind of pixels, e.g. "RGB" or "L".
        upright: whether EXIF leaves it as it is stored.
        look: what it looks like, 64 hexadecimal digits: the signs of 256 differences between
            neighbours in a picture of 17 x 16 (a difference hash). Pictures that look alike have
            looks that differ in few bits.
    """

    digest: str
    plain: bool
    problem: str
    width: int = 0
    height: int = 0
    mode: str = ""
    upright: bool = True
    look: str = ""


def check_image(path: str | os.PathLike) -> ImageCheck:
    """Decodes a file completely. Damage is reported in the `ImageCheck`, not raised."""
    path = Path(path)
    try:
        content = read_content(path)
    except UserError as error:
        return ImageCheck("", False, str(error))
    except OSError as error:
        return ImageCheck("", False, f"cannot be read: {error.strerror or error}")
    digest = digest_of(content)
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        return ImageCheck(
            digest, False, "is not an image (by its name); move it out of the class folder"
        )
    try:
        with opening(content) as image:
            picture = to_rgb(image)
            if image.format not in FORMATS[suffix]:
                problem = f"holds {image.format} data under the suffix {suffix}; rename it"
                return ImageCheck(digest, False, problem)
            upright = turn_of(image) is None
            if image.format == "PNG":
                _check_png(content)
            # A GIF's grey frame may be one of many, of which we read the first; of a BMP TensorFlow
            # refuses what Pillow reads.
            plain = (
                image.mode in ("L", "RGB")
                and image.format in ("JPEG", "MPO", "PNG")
                and suffix in _KERAS_SUFFIXES
                and not image.has_transparency_data
                and upright
            )
            return ImageCheck(digest, plain, "", *image.size, image.mode, upright, _look(picture))
    except UserError as error:
        return ImageCheck(digest, False, str(error))


def digest_of(content: bytes) -> str:
    """Tells a file's content from any other: BLAKE2b, 32 hexadecimal digits."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _check_png(content: bytes) -> None:
    # TensorFlow refuses a PNG with a wrong checksum or end, and names no file; load() lets it pass.
    try:
        open_image(content).verify()
        content.rindex(_PNG_END)
    except Exception:
        raise UserError(
            "is damaged (a checksum is wrong, or the end missing); copy it again from its source"
        ) from None


def _look(image: Image.Image) -> str:
    small = np.asarray(image.convert("L").resize((17, 16), Image.Resampling.BOX))
    return np.packbits(small[:, 1:] > small[:, :-1]).tobytes().hex()
