"""An image file becomes pixels."""

import io
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from crackclf.errors import UserError, notice, show
from crackclf.extras import need
from crackclf.images.exif import PhotoInfo, photo_info, turn_of
from crackclf.images.memory import BUDGET, estimate
from crackclf.images.metadata import check_metadata

# Between this many pixels and twice as many, where it refuses, Pillow would warn of each image.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # Of odd EXIF.

# Formats by the suffixes that name them. Pillow may try no other: its further readers are
# rarely needed here and some of them run foreign programs.
FORMATS = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), ("JPEG", "MPO")),
    ".png": ("PNG",),
    ".bmp": ("BMP",),
    ".gif": ("GIF",),
    **dict.fromkeys((".tif", ".tiff"), ("TIFF",)),
    ".webp": ("WEBP",),
    **dict.fromkeys((".heic", ".heif"), ("HEIF",)),
}
# Pillow reads a phone's multi-picture JPEG (MPO) with its JPEG reader.
_READERS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP")
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_MAX_BYTES = 2**30
_STRIP = 2**22  # Pixels converted at a time.
_SCANS = 20  # Of a progressive JPEG of the most pixels; fewer pixels may have more.
_DEEP = 64  # Of 255: a picture of 16 bits no brighter than this is one of 8 to 14 bits.


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Decodes an image file to 8-bit RGB.

    EXIF orientation is applied, 16-bit grey is scaled to 8 bits, transparency is laid over
    white, and palette, grey and CMYK pictures are converted.

    Args:
        path: a JPEG, PNG, BMP, GIF, TIFF or WebP file, with `pip install 'crackclf[heic]'` also
            HEIC. Of a file with several pictures the first is read.

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
        path: a JPEG, PNG, BMP, GIF, TIFF, WebP or HEIC file.

    Returns:
        The RGB image, without another copy of its pixels, and its `PhotoInfo`.

    Raises:
        UserError: when the file is missing, damaged or in another format.
    """
    with naming(path), decoding(read_content(path), path) as found:
        return found


@contextmanager
def decoding(
    content: bytes, name: str | os.PathLike = "a picture"
) -> Iterator[tuple[Image.Image, PhotoInfo]]:
    """Decodes the bytes of an image file, and counts its memory until the block ends.

    Threads that decode at once wait for each other where the memory would not do for all.

    Args:
        content: of the file.
        name: what it is called in a notice.

    Yields:
        The RGB image, upright, and its `PhotoInfo`.

    Raises:
        UserError: when it is damaged, in another format or too large.
    """
    with opening(content) as image:
        if image.format not in FORMATS[".jpg"] and getattr(image, "is_animated", False):
            notice(f"{show(name)}: holds several pictures. The first is used")
        rgb = to_rgb(image)
        info = photo_info(image)  # For which Pillow decodes a PNG.
        if rgb is not image:
            image.close()  # What it was decoded to is large, and needed no more.
        yield rgb, info


@contextmanager
def opening(content: bytes) -> Iterator[Image.Image]:
    """Opens an image by its header, and counts the memory it will take until the block ends."""
    with open_image(content) as image, BUDGET.holding(estimate(image)):
        yield image


@contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """Has errors in the block name the file, whatever a library raises for it."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{show(path)}: {error}") from None
    except OSError as error:
        raise UserError(f"{show(path)}: {error.strerror or error}") from None
    except MemoryError:
        raise UserError(f"{show(path)}: takes more memory than there is; make it smaller") from None


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
    check_metadata(content)
    readers = _READERS
    if content[4:8] == b"ftyp" and content[8:12] in _HEIF:
        need("pillow_heif", "heic").register_heif_opener()
        readers = ("HEIF",)
    try:
        image = Image.open(io.BytesIO(content), formats=readers)
    except Image.DecompressionBombError:
        raise UserError(
            f"has too many pixels (limit {_most_pixels():,}); make it smaller"
        ) from None
    # Pillow's readers raise nearly anything on hostile bytes, struct.error included.
    except Exception:
        raise UserError(_describe(content)) from None
    scans = content.count(b"\xff\xda") if image.format in FORMATS[".jpg"] else 0
    if scans > _SCANS and scans * image.width * image.height > _SCANS * _most_pixels():
        raise UserError(f"is a JPEG of {scans:,} scans; save it anew")
    return image


def _most_pixels() -> int:
    return 2 * (Image.MAX_IMAGE_PIXELS or 0)


def _describe(content: bytes) -> str:
    """What a file is that Pillow cannot open, and what to do."""
    if content.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS and not the image itself; fetch it (git lfs pull)"
    if content[:512].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "is a web page and not an image; download the image itself"
    return "is not a JPEG, PNG, BMP, GIF, TIFF or WebP image; convert it to PNG or JPEG"


def _load(image: Image.Image) -> None:
    is_deep = ";16" in str(getattr(image, "tile", "")) or image.mode.startswith("I")
    try:
        # Only load() decodes to the last byte: verify() passes a truncated JPEG.
        image.load()
    except MemoryError:
        raise
    except Exception as error:
        raise UserError(
            f"is damaged or truncated ({error}); copy it again from its source"
        ) from None
    if is_deep:
        _check_depth(image)


def _check_depth(image: Image.Image) -> None:
    """Refuses a picture of 16 bits that is as dark as one of 8 to 14 bits would be."""
    ends = np.array(image.getextrema()).reshape(-1, 2)  # Of one band, or of each.
    low, high = int(ends.min()), int(ends.max())
    most = 65535 if image.mode.startswith("I") else 255
    if low < 0 or high > most:
        raise UserError(
            f"holds pixels from {low} to {high}, not in 0..{most}; convert it to 8 bits"
        )
    if high < _DEEP * most / 255:
        raise UserError(
            f"holds pixels of 16 bits, the brightest of them {high} of {most}: it was written by a "
            "camera of 8 to 14 bits, or is nearly black. Convert it to 8 bits"
        )


def to_rgb(image: Image.Image) -> Image.Image:
    """Any image of Pillow as RGB of 8 bits, upright; a `UserError` when that cannot be."""
    try:
        return _to_rgb(image)
    except UserError:
        raise
    except MemoryError:
        raise UserError("takes more memory than there is; make it smaller") from None
    except Exception as error:  # Whatever a reader or converter of Pillow makes of odd bytes.
        raise UserError(f"cannot be converted to RGB ({error}); save it anew") from None


def _to_rgb(image: Image.Image) -> Image.Image:
    _load(image)
    if image.mode == "F":
        raise UserError("holds floating-point pixels of unknown range; convert it to 8-bit PNG")
    # By the tag alone: ImageOps.exif_transpose also writes the EXIF anew, which odd values break.
    if (turn := turn_of(image)) is not None:
        image = image.transpose(turn)
        # Its EXIF and XMP would have it turned again.
        image.info = {key: x for key, x in image.info.items() if key == "transparency"}
    # Pillow would copy an image that is RGB already, and a photo is large.
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    result, opaque = Image.new("RGB", image.size), not image.has_transparency_data
    rows = max(1, _STRIP // image.width)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        strip, is_seen = _convert(image.crop(box))
        opaque = opaque or is_seen
        result.paste(strip, box)
    if not opaque:
        raise UserError("is fully transparent, so there is nothing to see; save it without alpha")
    return result


def _convert(image: Image.Image) -> tuple[Image.Image, bool]:
    """A loaded image as RGB of 8 bits, and whether there is anything to see in it."""
    if image.mode.startswith("I"):
        # Pillow's own convert("RGB") clips 16-bit grey at 255 instead of scaling it.
        grey = (np.asarray(image) // 257).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB"), True
    if not image.has_transparency_data:
        return image.convert("RGB"), True
    image = image.convert("RGBA")
    is_seen = image.getextrema()[3][1] > 0  # type: ignore[index]
    laid = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return laid.convert("RGB"), is_seen
