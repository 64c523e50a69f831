import io
import struct

import numpy as np
import pytest
from PIL import Image

from crackclf.errors import UserError
from crackclf.images.listing import Picture
from crackclf.images.metadata import check_metadata

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))


def encode(kind: str, image: Image.Image = NOISE, **options) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def with_segments(count: int, payload: bytes) -> bytes:
    plain = encode("JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", 2 + len(payload)) + payload
    return plain[:2] + count * segment + plain[2:]


def in_gif(extension: bytes) -> bytes:
    plain = encode("GIF", NOISE.convert("P"))
    head = 13 + (6 << (plain[10] & 7))
    return plain[:head] + extension + plain[head:]


def with_chunks(count: int, kind: bytes) -> bytes:
    plain = encode("PNG")
    return plain[:33] + count * (b"\0\0\0\0" + kind + b"\0\0\0\0") + plain[33:]


def exif(entries: int, count: int, kind: int = 5) -> bytes:
    """EXIF whose entries all point at the same bytes."""
    rows = b"".join(struct.pack("<HHII", 40000 + i, kind, count, 8) for i in range(entries))
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", entries) + rows + bytes(4)


def tiff_of_numbers(count: int) -> bytes:
    return b"II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, 270, 3, count, 8) + bytes(2**12)


def in_a_circle() -> bytes:
    rows = struct.pack("<HHHII", 1, 0x8769, 4, 1, 8)
    return with_segments(1, b"Exif\0\0II*\0\x08\0\0\0" + rows + bytes(4))


@pytest.mark.parametrize(
    "content",
    [
        with_segments(100_000, b"Exif\0\0abcdef"),
        with_segments(300, bytes(65_000)),
        encode("JPEG")[:2] + bytes(20_000) + encode("JPEG")[2:],
        in_gif(b"\x21\xfe" + 20_000 * (b"\xff" + bytes(255)) + b"\0"),
        in_gif(b"\x21\xfe" + 20_000 * b"\x01a" + b"\0"),
        in_gif(20_000 * b"\x21\xfe\x01a\0"),
        encode("GIF", NOISE.convert("P"))[:-1] + 20_000 * b"x",
        with_chunks(20_000, b"teXt"),
        with_chunks(400_000, b"IDAT"),
        with_segments(1, exif(5_000, 8_000)),
        with_segments(1, exif(5_000, 60_000, 7)),
        tiff_of_numbers(2_000_000),
    ],
    ids=[
        *("segments", "large segments", "junk in a JPEG", "comment", "tiny blocks", "comments"),
        *("junk in a GIF", "chunks", "chunks of pixels", "numbers in tags", "bytes in tags"),
        "numbers of a TIFF",
    ],
)
def test_more_metadata_than_any_camera_writes_is_refused(content):
    with pytest.raises(UserError, match="more than any camera writes"):
        Picture("", content).read()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"])
def test_what_cameras_and_tools_write_passes(kind):
    tags = Image.Exif()
    tags[271], tags[306], tags[305] = "DJI", "2026:05:06 07:08:09", "tool" * 100
    tags.get_ifd(34853)[2] = (48.0, 51.0, 29.6)
    more = {} if kind in ("GIF", "BMP") else {"exif": tags, "icc_profile": bytes(200_000)}
    photo, _ = Picture("", encode(kind, **more)).read()
    assert photo.size == (60, 40)


@pytest.mark.parametrize("content", [b"\xff\xd8", b"\xff\xd8\xff", b"GIF89a", b"RIFF", b"II*\0"])
def test_what_ends_at_once_is_left_to_pillow(content):
    check_metadata(content)


def test_tags_that_lead_in_a_circle_come_to_an_end():
    Picture("", in_a_circle()).read()


def test_a_cut_file_of_each_kind_ends_in_one_error_at_most():
    for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"):
        whole = encode(kind)
        for length in range(0, len(whole), 37):
            try:
                Picture("", whole[:length]).read()
            except UserError:
                continue
