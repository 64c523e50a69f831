"""What a file holds besides pixels, counted before Pillow goes through it.

Pillow's readers take time and memory by the number of a file's segments, and some by its square: a
JPEG of 100,000 tiny segments took 20 seconds, a GIF with 4 MB of comment 26. What is counted here
is far above what any camera writes.
"""

import struct
from collections.abc import Iterator

from crackclf.errors import UserError

_PIECES = 1_000  # Segments of a JPEG before its pixels.
_JUNK = 10_000  # Bytes between them that belong to none.
_BYTES = 2**24  # Of metadata.
_CHUNKS = 10_000  # Of a PNG or WebP, besides those of pixels.
_PIXEL_CHUNKS = 300_000
_NUMBERS = 1_000_000  # In the tags of an EXIF or TIFF directory.
_TAG_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_TAG_BYTES |= {13: 4, 16: 8, 17: 8, 18: 8}
_TEXT = {1, 2, 6, 7}  # Types that Pillow takes as they are, not number by number.
_DIRECTORIES = {0x8769, 0x8825, 0xA005}  # Tags that lead to a further directory.


def check_metadata(content: bytes) -> None:
    """Refuses an image whose metadata would cost more than any picture.

    Args:
        content: of an image file of any format.

    Raises:
        UserError: when there are more pieces of metadata than any camera writes.
    """
    try:
        if content.startswith(b"\xff\xd8"):
            directories = _walk_jpeg(content)
        elif content.startswith(b"\x89PNG\r\n\x1a\n"):
            directories = _walk_png(content)
        elif content.startswith(b"GIF8"):
            directories = _walk_gif(content)
        elif content.startswith(b"RIFF"):
            directories = _walk_riff(content)
        else:
            directories = iter([content])
        for directory in directories:
            _check_directories(directory)
    except (IndexError, struct.error):
        pass  # It ends too early: Pillow says so.


def _refuse(what: str) -> UserError:
    return UserError(f"holds {what}, more than any camera writes; save it anew as PNG or JPEG")


def _walk_jpeg(content: bytes) -> Iterator[bytes]:
    exif = []
    at, pieces, junk, size = 2, 0, 0, 0
    while (found := content.find(b"\xff", at)) >= 0:
        marker = content[found + 1]
        junk += found - at
        if marker in (0, 0xFF):
            junk += 1
            at = found + 1
        elif marker == 0xDA:
            break
        else:
            pieces += 1
            has_length = not 0xD0 <= marker <= 0xD9
            length = struct.unpack_from(">H", content, found + 2)[0] if has_length else 0
            at = found + 2 + length
            size += length
            piece = content[found + 4 : found + 10]
            if piece == b"Exif\0\0":
                exif.append(content[found + 10 : at])
            elif piece.startswith(b"MPF\0"):
                yield content[found + 8 : at]
        if pieces > _PIECES or junk > _JUNK or size > _BYTES:
            raise _refuse("too many segments before its pixels")
    yield b"".join(exif)


def _walk_png(content: bytes) -> Iterator[bytes]:
    at, kind = 8, b""
    others = pixels = 0
    while at + 8 <= len(content) and kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", content, at)
        is_pixels = kind in (b"IDAT", b"fdAT")
        pixels, others = pixels + is_pixels, others + (not is_pixels)
        if others > _CHUNKS or pixels > _PIXEL_CHUNKS:
            raise _refuse("too many chunks")
        if kind == b"eXIf":
            yield content[at + 8 : at + 8 + length]
        at += 12 + length


def _walk_riff(content: bytes) -> Iterator[bytes]:
    at = 12
    chunks = 0
    while at + 8 <= min(len(content), 8 + struct.unpack_from("<I", content, 4)[0]):
        kind, length = struct.unpack_from("<4sI", content, at)
        chunks += 1
        if chunks > _CHUNKS:
            raise _refuse("too many chunks")
        if kind == b"EXIF":
            yield content[at + 8 : at + 8 + length].removeprefix(b"Exif\0\0")
        at += 8 + length + length % 2


def _walk_gif(content: bytes) -> Iterator[bytes]:
    at = 13 + _colours(content[10])
    blocks = junk = 0
    while at < len(content) and content[at] != 0x3B:
        if content[at] == 0x2C:
            at, _ = _skip_blocks(content, at + 11 + _colours(content[at + 9]))
        elif content[at] == 0x21:
            at, count = _skip_blocks(content, at + 2)
            blocks += count
        else:
            junk += 1
            at += 1
        if blocks > 4 * _PIECES or junk > _JUNK:
            raise _refuse("too many comments and extensions")
    return iter(())


def _colours(flags: int) -> int:
    """Bytes of a table of colours."""
    return 6 << (flags & 7) if flags & 0x80 else 0


def _skip_blocks(content: bytes, at: int) -> tuple[int, int]:
    """Where a chain of blocks ends, and how many there are."""
    count = 1
    while content[at]:
        at += 1 + content[at]
        count += 1
    return at + 1, count


def _check_directories(data: bytes) -> None:
    """Counts what the tags of a TIFF, or of EXIF, say they hold."""
    if data[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return
    order, is_big = "<>"[data.startswith(b"M")], data[2:4].strip(b"\0") == b"+"
    pointer, entry = ("Q", "HHQ8s") if is_big else ("I", "HHI4s")
    left = [struct.unpack_from(order + pointer, data, 8 if is_big else 4)[0]]
    seen: set[int] = set()
    numbers = size = 0
    while left and len(seen) < len(_DIRECTORIES) + 1:
        at = left.pop()
        if at in seen:
            continue
        seen.add(at)
        (count,) = struct.unpack_from(order + ("Q" if is_big else "H"), data, at)
        at += 8 if is_big else 2
        for _ in range(min(count, 2**16)):
            if at + struct.calcsize(order + entry) > len(data):
                break
            tag, kind, n, value = struct.unpack_from(order + entry, data, at)
            at += struct.calcsize(order + entry)
            numbers += n if kind not in _TEXT else 0
            size += n * _TAG_BYTES.get(kind, 0)
            if tag in _DIRECTORIES:
                left.append(struct.unpack_from(order + pointer, value)[0])
            if numbers > _NUMBERS or size > 2 * len(data) + _BYTES:
                raise _refuse("too many values in its tags")
