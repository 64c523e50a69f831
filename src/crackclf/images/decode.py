"""An image file becomes pixels."""

import io
import os
import stat
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from crackclf.errors import UserError
from crackclf.images.exif import PhotoInfo, photo_info, turn_of

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
# Pillow reads a phone's multi-picture JPEG (MPO) with its JPEG reader.
_READERS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP")
_MAX_BYTES = 2**30


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
    """Decodes an image file to a Pillow image, with what its EXIF says of the photo.

    Args:
        path: a JPEG, PNG, BMP, GIF (first frame), TIFF or WebP file.

    Returns:
        The RGB image, without another copy of its pixels, and its `PhotoInfo`.

    Raises:
        UserError: when the file is missing, damaged or in another format.
    """
    try:
        return decode_photo(read_content(path))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None


def decode_photo(content: bytes) -> tuple[Image.Image, PhotoInfo]:
    """Decodes the bytes of an image file as `read_photo` does; a `UserError` names no file."""
    with open_image(content) as image:
        return to_rgb(image), photo_info(image)


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


def open_image(content: bytes) -> Image.Image:
    """Opens an image by its header; a `UserError` when it is of no known format."""
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


def load_pixels(image: Image.Image) -> None:
    """Decodes an image to its last byte; a `UserError` when it is damaged."""
    try:
        # Only load() decodes to the last byte: verify() passes a truncated JPEG.
        image.load()
    except Exception as error:
        raise UserError(
            f"is damaged or truncated ({error}); copy it again from its source"
        ) from None


def to_rgb(image: Image.Image) -> Image.Image:
    """Any image of Pillow as RGB of 8 bits, upright; a `UserError` when it is damaged."""
    load_pixels(image)
    # By the tag alone: ImageOps.exif_transpose also writes the EXIF anew, which odd values break.
    if (turn := turn_of(image)) is not None:
        image = image.transpose(turn)
        # Its EXIF and XMP would have it turned again.
        image.info = {key: x for key, x in image.info.items() if key == "transparency"}
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
