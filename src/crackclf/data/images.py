"""One way to decode an image file, and one way to tell whether it can be trained on."""

import hashlib
import io
import os
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from crackclf.data.exif import ORIENTATION, PhotoInfo, photo_info
from crackclf.errors import UserError

# Between this many pixels and twice as many, where it refuses, Pillow would warn of each image.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

# Formats by the suffixes that name them. Pillow may try no other: its further readers are
# rarely needed here and some of them run foreign programs.
FORMATS = {
    ".jpg": ("JPEG", "MPO"),
    ".jpeg": ("JPEG", "MPO"),
    ".png": ("PNG",),
    ".bmp": ("BMP",),
    ".gif": ("GIF",),
    ".tif": ("TIFF",),
    ".tiff": ("TIFF",),
    ".webp": ("WEBP",),
}
# What `keras.utils.image_dataset_from_directory` reads; it skips every other file silently.
TRAINING_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png")

# Pillow reads a phone's multi-picture JPEG (MPO) with its JPEG reader.
_READERS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP")
_MAX_BYTES = 2**30
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
        height: likewise.
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


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Decodes an image file to 8-bit RGB.

    EXIF orientation is applied, 16-bit grey is scaled to 8 bits, transparency is laid over
    white, and palette, grey and CMYK pictures are converted.

    Args:
        path: a JPEG, PNG, BMP, GIF (first frame), TIFF or WebP file.

    Returns:
        uint8 array of shape (height, width, 3).

    Raises:
        UserError: when the file is missing, damaged or in another format.

    Example:

    ```python
    pixels = read_image("wall.jpg")
    ```
    """
    return np.array(read_photo(path)[0])


def read_photo(path: str | os.PathLike) -> tuple[Image.Image, PhotoInfo]:
    """Decodes an image file as `read_image` does, and says when, where and with what it was taken.

    Args:
        path: likewise.

    Returns:
        The RGB image as Pillow holds it, without another copy of its pixels, and its `PhotoInfo`.

    Raises:
        UserError: likewise.
    """
    try:
        return decode_photo(read_content(path))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None


def decode_photo(content: bytes) -> tuple[Image.Image, PhotoInfo]:
    """Decodes the bytes of an image file as `read_photo` does; a `UserError` names no file."""
    with _open(content) as image:
        return to_rgb(image), photo_info(image)


def check_image(path: str | os.PathLike) -> ImageCheck:
    """Decodes a file completely and says whether it can be trained on.

    Args:
        path: the file.

    Returns:
        An `ImageCheck`; damage is reported in it, not raised.
    """
    path = Path(path)
    try:
        content = read_content(path)
    except UserError as error:
        return ImageCheck("", False, str(error))
    except OSError as error:
        return ImageCheck("", False, f"cannot be read: {error.strerror or error}")
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        return ImageCheck(
            digest, False, "is not an image (by its name); move it out of the class folder"
        )
    if suffix not in TRAINING_SUFFIXES:
        return ImageCheck(
            digest, False, f"is a {suffix} file, which Keras cannot read; convert it to PNG or JPEG"
        )
    try:
        with _open(content) as image:
            _load(image)
            if image.format not in FORMATS[suffix]:
                problem = f"holds {image.format} data under the suffix {suffix}; rename it"
                return ImageCheck(digest, False, problem)
            upright = _upright(image)
            if image.format == "PNG":
                _check_png(content)
            # A GIF's grey frame may be one of many, of which we read the first; of a BMP TensorFlow
            # refuses what Pillow reads.
            plain = (
                image.mode in ("L", "RGB")
                and image.format not in ("GIF", "BMP")
                and not image.has_transparency_data
                and upright
            )
            return ImageCheck(digest, plain, "", *image.size, image.mode, upright, _look(image))
    except UserError as error:
        return ImageCheck(digest, False, str(error))


def read_content(path: str | os.PathLike) -> bytes:
    """The bytes of an image file; a `UserError` when it is none by its kind or size."""
    path = Path(path)
    status = path.stat()
    # A pipe would be waited for, a device never end.
    if not stat.S_ISREG(status.st_mode):
        raise UserError("is not a file but a folder, pipe or device; move it away")
    check_size(status.st_size)
    return path.read_bytes()


def check_size(size: int) -> None:
    """Refuses a file of too many bytes, before they are read."""
    if size > _MAX_BYTES:
        raise UserError(f"has {size:,} bytes (limit {_MAX_BYTES:,}); make it smaller")


def _open(content: bytes) -> Image.Image:
    if not content:
        raise UserError("is empty (0 bytes); copy it again from its source")
    try:
        return Image.open(io.BytesIO(content), formats=_READERS)
    except Image.DecompressionBombError:
        raise UserError(
            f"has too many pixels (limit {2 * (Image.MAX_IMAGE_PIXELS or 0):,}); make it smaller"
        ) from None
    # Pillow's readers raise nearly anything on hostile bytes, struct.error included.
    except Exception:
        raise UserError(
            "is not a JPEG, PNG, BMP, GIF, TIFF or WebP image; convert it to PNG or JPEG"
        ) from None


def _load(image: Image.Image) -> None:
    try:
        # Only load() decodes to the last byte: verify() passes a truncated JPEG.
        image.load()
    except Exception as error:
        raise UserError(
            f"is damaged or truncated ({error}); copy it again from its source"
        ) from None


def _check_png(content: bytes) -> None:
    # TensorFlow refuses a PNG with a wrong checksum or end, and names no file; load() lets it pass.
    try:
        _open(content).verify()
        content.rindex(_PNG_END)
    except Exception:
        raise UserError(
            "is damaged (a checksum is wrong, or the end missing); copy it again from its source"
        ) from None


def _look(image: Image.Image) -> str:
    small = np.asarray(image.convert("L").resize((17, 16), Image.Resampling.BOX))
    return np.packbits(small[:, 1:] > small[:, :-1]).tobytes().hex()


def _upright(image: Image.Image) -> bool:
    try:
        return image.getexif().get(ORIENTATION, 1) == 1
    except Exception:
        return True  # EXIF that cannot be read is EXIF that nobody applies.


def to_rgb(image: Image.Image) -> Image.Image:
    """An image as `read_image` gives it, still as Pillow holds it.

    Args:
        image: as opened by Pillow, of any mode.

    Returns:
        RGB, 8 bits, upright.

    Raises:
        UserError: when it is damaged or its pixels cannot be understood.
    """
    _load(image)
    if not _upright(image):
        image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise UserError("holds floating-point pixels of unknown range; convert it to 8-bit PNG")
    if image.mode.startswith("I"):
        # Pillow's own convert("RGB") clips 16-bit grey at 255 instead of scaling it.
        grey = np.clip(np.asarray(image, dtype=np.int64), 0, 65535) // 257
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    # Pillow would copy an image that is RGB already, and a photo is large.
    return image if image.mode == "RGB" else image.convert("RGB")
