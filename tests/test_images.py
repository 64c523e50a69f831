import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from conftest import make_exif, save_noise
from crackclf.errors import UserError
from crackclf.images import open_image, read_image, resize, to_rgb


def test_grey_of_sixteen_bits_is_scaled_and_a_picture_of_fewer_bits_refused(tmp_path):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    pixels = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(pixels[..., 0], np.arange(256).reshape(16, 16))
    for bits in (8, 10, 12, 14):
        Image.fromarray(ramp >> (16 - bits)).save(tmp_path / "a.png")
        with pytest.raises(UserError, match=r"a\.png: holds pixels from .* not of 16 bits"):
            read_image(tmp_path / "a.png")
    with pytest.raises(UserError, match="not of 16 bits"):
        to_rgb(Image.new("I", (4, 4), 70_000))


def test_transparent_places_get_the_colours_around_them(tmp_path):
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.putpixel((0, 0), (9, 9, 9, 255))
    image.save(tmp_path / "a.png")
    pixels = read_image(tmp_path / "a.png")
    assert (pixels == 9).all()


def test_grey_cmyk_and_turned_pictures_become_rgb_and_stand_upright(tmp_path):
    Image.new("L", (4, 4), 77).save(tmp_path / "grey.png")
    assert (read_image(tmp_path / "grey.png") == 77).all()
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "red.jpg")
    red = read_image(tmp_path / "red.jpg")[0, 0]
    assert red[0] > 200 > 60 > red[1:].max()
    stored = Image.new("RGB", (64, 32), "white")
    stored.paste("black", (0, 0, 32, 32))  # The left half: on top, once turned clockwise.
    stored.save(tmp_path / "a.jpg", exif=make_exif({274: 6}))
    pixels = read_image(tmp_path / "a.jpg")
    assert pixels.shape == (64, 32, 3)
    assert pixels[:30].max() < 60 < 200 < pixels[34:].min()


@pytest.mark.extras
def test_a_heic_photo_is_read_or_the_remedy_named(tmp_path, monkeypatch):
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pillow_heif", None)
        with pytest.raises(UserError, match=r"a\.heic: .*pip install 'crackclf\[heic\]'"):
            read_image(tmp_path / "a.heic")
    heif = pytest.importorskip("pillow_heif")
    pixels = read_image(save_noise(tmp_path / "a.png", 0))
    heif.from_pillow(Image.fromarray(pixels)).save(tmp_path / "a.heic", quality=-1, chroma=444)
    assert np.abs(read_image(tmp_path / "a.heic").astype(int) - pixels).mean() < 2


def test_a_picture_of_too_many_pixels_is_refused_by_its_header():
    head = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head
    content += struct.pack(">I", zlib.crc32(head)) + bytes(4) + b"IDAT"
    with pytest.raises(UserError, match="too many pixels"):
        open_image(content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "0 bytes"),
        (b"hello", "not a JPEG"),
        (b"\n<!DOCTYPE html><html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (None, "No such file"),
    ],
)
def test_a_file_that_is_no_image_is_named_with_the_reason(tmp_path, content, words):
    if content is not None:
        (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.jpg: .*{words}"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("size", [(160, 160), (40, 300), (97, 31)])
def test_resizing_gives_the_pixels_of_tensorflow_from_arrays_and_large_images(size):
    import tensorflow as tf

    pixels = np.random.default_rng(0).integers(0, 256, (227, 200, 3), np.uint8)
    theirs = tf.image.resize(pixels, size).numpy()
    for source in (pixels, pixels.astype(np.float32), Image.fromarray(pixels)):
        np.testing.assert_allclose(resize(source, *size), theirs, atol=1e-2)
    np.testing.assert_array_equal(resize(pixels, *size, slice(7, 20)), resize(pixels, *size)[7:20])
    large = np.tile(pixels, (10, 11, 1))
    np.testing.assert_array_equal(resize(large, *size), resize(Image.fromarray(large), *size))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK\3\4rest", "is an archive and not an image; unpack it"),
        (b"Rar!\x1a\7\1\0", "is an archive"),
        (b"%PDF-1.7\n", "is a PDF file and not an image; save its pictures"),
        (b"\0\0\0\x18ftypisom\0\0\2\0", "is a video and not an image; take frames"),
        (b"RIFF\0\0\0\0AVI LIST", "is a video"),
        (b"\x1aE\xdf\xa3", "is a video"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1", "is a raw photo"),
        (b"FUJIFILMCCD-RAW 0201", "is a raw photo"),
    ],
)
def test_what_people_take_for_an_image_is_named_for_what_it_is(content, words, tmp_path):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(UserError, match=words):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("tag", [(254, 1), (50706, b"\1\4\0\0")])
def test_the_preview_in_a_raw_photo_is_not_taken_for_it(tag, tmp_path):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[tag[0]] = tag[1]
    Image.new("RGB", (8, 8)).save(tmp_path / "a.dng", "TIFF", tiffinfo=tags)
    with pytest.raises(UserError, match=r"a\.dng: is a raw photo, of which only a small preview"):
        read_image(tmp_path / "a.dng")
