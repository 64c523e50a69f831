"""An image file becomes pixels: decoded and resized, each in one place."""

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from crackclf.errors import UserError, need, show

# From half its limit on, Pillow warns of each image; it also warns of odd EXIF.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

# Formats by the suffixes that name them. Pillow may try no other: its further readers are
# rarely needed here, and some of them run foreign programs.
FORMATS = {
    # The last two are a phone's or a camera's several pictures in one JPEG.
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".insp"), ("JPEG", "MPO")),
    ".png": ("PNG",),
    ".bmp": ("BMP",),
    ".gif": ("GIF",),
    **dict.fromkeys((".tif", ".tiff"), ("TIFF",)),
    ".webp": ("WEBP",),
    **dict.fromkeys((".heic", ".heif", ".hif"), ("HEIF",)),
}
_RAW = "is a raw photo, of which only a small preview could be read; convert it to JPEG or TIFF"
_ARCHIVE = "is an archive and not an image; unpack it and name the folder of its images"
_VIDEO = "is a video and not an image; take frames from it, for example with ffmpeg"
# How the content of what people take for images begins.
_NO_IMAGES = {
    b"version https://git-lfs": "is a pointer of Git LFS and no image; fetch it (git lfs pull)",
    b"%PDF": "is a PDF file and not an image; save its pictures as PNG or JPEG",
    **dict.fromkeys((b"PK\3\4", b"Rar!", b"7z\xbc\xaf", b"\x1f\x8b"), _ARCHIVE),
    **dict.fromkeys((b"\x1aE\xdf\xa3", b"\0\0\1\xba"), _VIDEO),
    **dict.fromkeys((b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"IIU\0", b"FOVb"), _RAW),
}
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"II*\0", b"MM\0*")
_READERS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP")
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_MAX_PIXELS = 178_956_970  # Pillow's own limit, at which it refuses.
_STRIP = 32  # Rows resized at a time, which stay in a core's cache.
_MAX_RATIO = 200  # Longer side over shorter side.
_NEARBY = 32  # Pixels of a transparent picture that get one colour.
_ONE_COLOUR = 2  # Grey levels by which a picture of one colour may differ.
_DEEP = 64  # Of 255: a picture of 16 bits is brighter somewhere.
# By EXIF's orientations from 2 on.
_TURNS = (
    *("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM"),
    *("TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90"),
)


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Decodes an image file to 8-bit RGB.

    EXIF orientation is applied, 16-bit grey is scaled, transparent places get the colours around
    them, and palette, grey and CMYK pictures are converted. Of several pictures the first is read.

    Args:
        path: a JPEG, PNG, BMP, GIF, TIFF or WebP file; HEIC with `pip install 'crackclf[heic]'`.

    Returns:
        uint8 array of shape (height, width, 3).

    Raises:
        UserError: when the file is missing, damaged, too large or in another format.

    Examples:
        >>> pixels = read_image("wall.jpg")
    """
    with naming(path):
        return np.array(to_rgb(open_image(path)))


@contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """Names the file in each error that the block raises, as a `UserError`."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{show(path)}: {error}") from None
    except OSError as error:
        raise UserError(f"{show(path)}: {error.strerror or error}") from None
    except MemoryError:
        raise UserError(f"{show(path)}: takes more memory than there is; make it smaller") from None


def open_image(source: str | os.PathLike | bytes) -> Image.Image:
    """Opens an image file, or its content, by its header; `to_rgb` decodes it.

    What is of no known format, or too large, is a `UserError`. `naming` adds the file's name.
    """
    content = source if isinstance(source, bytes) else read_content(Path(source))
    if not content:
        raise UserError("is empty (0 bytes); copy it again from its source")
    readers = _READERS
    if content[4:8] == b"ftyp" and content[8:12] in _HEIF:
        need("pillow_heif", "heic").register_heif_opener()
        readers = ("HEIF",)
    try:
        image = Image.open(io.BytesIO(content), formats=readers)
        if max(image.size) > _MAX_RATIO * min(image.size):
            reason = f"is {image.width:,} x {image.height:,} pixels, which is no photo; crop it"
        else:
            tags = getattr(image, "tag_v2", {})  # Of a TIFF.
            if 50706 not in tags and tags.get(254) != 1:
                return image
            reason = _RAW  # A DNG, or its first picture is a smaller one.
    except Image.DecompressionBombError:
        raise UserError(f"has too many pixels (limit {_MAX_PIXELS:,}); make it smaller") from None
    except Exception:  # Pillow's readers raise nearly anything, struct.error included.
        reason = _say_what(content)
    raise UserError(reason)


def _say_what(content: bytes) -> str:
    """What a file is that is no image, and what to do."""
    if content[4:8] == b"ftyp" and content[8:12] not in (b"avif", b"avis"):
        return _RAW if content[8:11] == b"crx" else _VIDEO
    if content[:4] == b"RIFF" and content[8:11] == b"AVI":
        return _VIDEO
    if content[:512].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "is a web page and not an image; download the image itself"
    for start, reason in _NO_IMAGES.items():
        if content.startswith(start):
            return reason
    return "is not a JPEG, PNG, BMP, GIF, TIFF or WebP image; convert it to PNG or JPEG"


def begins_as_image(path: Path) -> bool:
    """Whether a file begins as an image does, whatever its name."""
    try:
        with path.open("rb") as file:
            start = file.read(12)
    except OSError:
        return False
    is_heif = start[4:8] == b"ftyp" and start[8:] in _HEIF
    return start.startswith(_SIGNATURES) or start[8:] == b"WEBP" or is_heif


def read_content(path: Path) -> bytes:
    """The bytes of an image file; a `UserError` when it is no file."""
    if path.exists() and not path.is_file():  # Reading a pipe or device would not end.
        raise UserError("is not a file but a folder, pipe or device; move it away")
    return path.read_bytes()


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """How an image must be turned to stand upright, by its EXIF; None when it stands upright."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
        return Image.Transpose[_TURNS[value - 2]] if value >= 2 else None
    except Exception:
        return None  # No viewer applies EXIF that cannot be read.


def to_rgb(image: Image.Image) -> Image.Image:
    """Decodes an image of Pillow to RGB of 8 bits, upright; damage is a `UserError`."""
    try:
        return _to_rgb(image)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # Whatever a reader or converter of Pillow raises.
        raise UserError(
            f"is damaged or truncated ({error}); copy it again or save it anew"
        ) from None


def _to_rgb(image: Image.Image) -> Image.Image:
    is_deep = ";16" in str(getattr(image, "tile", "")) or image.mode.startswith("I")
    image.load()  # Only this decodes to the last byte: verify() passes a truncated JPEG.
    if is_deep:
        # Of one band, or of each. One as dark as a picture of 8 to 14 bits would be is refused.
        ends, most = np.array(image.getextrema()), 65535 if image.mode.startswith("I") else 255
        low, high = int(ends.min()), int(ends.max())
        if low < 0 or not _DEEP * most / 255 <= high <= most:
            reason = f"which are not of 16 bits (0 to {most}) or nearly black; convert it to 8 bits"
            raise UserError(f"holds pixels from {low} to {high}, {reason}")
    if image.mode == "F":
        raise UserError("holds floating-point pixels of unknown range; convert it to 8-bit PNG")
    # By the tag alone: ImageOps.exif_transpose also writes the EXIF anew, which odd values break.
    if (turn := turn_of(image)) is not None:
        image = image.transpose(turn)
        # Its EXIF and XMP would have it turned again.
        image.info = {key: x for key, x in image.info.items() if key == "transparency"}
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getextrema()[3][1] == 0:  # type: ignore[index]
            raise UserError("is fully transparent, so there is nothing to see; save it opaque")
        return Image.alpha_composite(_continue(image), image).convert("RGB")
    if image.mode.startswith("I"):
        # Pillow's own convert("RGB") clips 16-bit grey at 255 instead of scaling it.
        return Image.fromarray((np.asarray(image) // 257).astype(np.uint8)).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def is_blank(image: Image.Image) -> bool:
    """Whether an RGB image has one colour only."""
    ends: Any = image.getextrema()
    return all(high - low <= _ONE_COLOUR for low, high in ends)


def check_seen(image: Image.Image) -> Image.Image:
    """Returns an RGB image; a `UserError` when there is nothing to see on it."""
    if is_blank(image):
        raise UserError("shows one colour only, so there is nothing to see; take it again")
    return image


def _continue(image: Image.Image) -> Image.Image:
    """An opaque background in the colours of what is seen nearby: an edge to it is no crack."""
    from scipy import ndimage

    size = -(-image.width // _NEARBY), -(-image.height // _NEARBY)
    bands = [band.convert("F") for band in image.convert("RGBa").split()]
    small = [np.asarray(band.resize(size, Image.Resampling.BOX)) for band in bands]
    seen: Any = np.stack(small, axis=-1)
    while (empty := seen[..., 3:] == 0).any():  # From where something is seen outwards.
        seen = np.where(empty, ndimage.uniform_filter(seen, 3, axes=(0, 1)), seen)
    colours = np.rint(255 * seen[..., :3] / seen[..., 3:]).astype(np.uint8)
    return Image.fromarray(colours).resize(image.size, Image.Resampling.BICUBIC).convert("RGBA")


def resize(
    pixels: np.ndarray | Image.Image, height: int, width: int, rows: slice = slice(None)
) -> np.ndarray:
    """Resizes a picture as `tf.image.resize` and Keras' loader do, to float32 (rows, width, 3).

    That is bilinear without antialiasing. `rows` says which rows of the result are wanted; of an
    image of Pillow only the needed part becomes an array.
    """
    is_array = isinstance(pixels, np.ndarray)
    full_height, full_width = pixels.shape[:2] if is_array else pixels.size[::-1]
    above, below, down = _neighbours(full_height, height, rows)
    left, right, across = _neighbours(full_width, width, slice(None))
    # For each channel apart: NumPy is slow where an axis as short as theirs is stretched.
    across = np.repeat(across[:, None], 3, axis=1)
    result = np.empty((len(above), width, 3), np.float32)
    for start in range(0, len(above), _STRIP):
        at = slice(start, start + _STRIP)
        top, bottom = above[start], below[at][-1] + 1
        band = pixels[top:bottom] if is_array else pixels.crop((0, top, full_width, bottom))
        lines = _blend(np.asarray(band), above[at] - top, below[at] - top, down[at, None, None], 0)
        result[at] = _blend(lines, left, right, across, 1)
    return result


def _blend(
    pixels: np.ndarray, first: np.ndarray, second: np.ndarray, share: np.ndarray, axis: int
) -> np.ndarray:
    # `take` with a mode is twice as fast as an index in brackets.
    result = pixels.take(first, axis, mode="clip").astype(np.float32, copy=False)
    other = pixels.take(second, axis, mode="clip").astype(np.float32, copy=False)
    other -= result
    other *= share
    result += other
    return result


def _neighbours(size: int, wanted: int, which: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each new pixel the two old ones it lies between, and how far from the first."""
    centres = (np.arange(wanted, dtype=np.float32)[which] + 0.5) * (size / wanted) - 0.5
    centres = np.clip(centres, 0, size - 1)
    first = centres.astype(np.intp)
    return first, np.minimum(first + 1, size - 1), (centres - first).astype(np.float32)
