import os
import struct
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import save_noise
from crackclf.errors import UserError
from crackclf.images import memory
from crackclf.images.check import check_image
from crackclf.images.decode import read_image, to_rgb


def test_an_rgb_png_comes_back_as_it_was(tmp_path: Path):
    path = save_noise(tmp_path / "a.png", 0, (31, 17))
    pixels = read_image(path)
    assert pixels.shape == (17, 31, 3)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, np.asarray(Image.open(path)))


def test_sixteen_bit_grey_is_scaled_and_not_clipped(tmp_path: Path):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    pixels = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(pixels[..., 0], np.arange(256).reshape(16, 16))


def test_transparency_is_laid_over_white(tmp_path: Path):
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.putpixel((0, 0), (9, 9, 9, 255))
    image.save(tmp_path / "a.png")
    pixels = read_image(tmp_path / "a.png")
    assert (pixels[1:] == 255).all()
    assert (pixels[0, 0] == 9).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_a_fully_transparent_picture_is_said_to_be_one(tmp_path: Path, mode):
    Image.new(mode, (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a\.png: is fully transparent"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
@pytest.mark.parametrize("colour", [False, True])
def test_fewer_bits_in_a_file_of_sixteen_are_refused_and_not_read_as_black(tmp_path, bits, colour):
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 2**bits, (16, 16)).astype(np.uint16)
    if colour:
        write_deep_png(tmp_path / "a.png", np.stack([grey] * 3, axis=-1))
    else:
        Image.fromarray(grey).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a\.png: holds pixels of 16 bits, the brightest"):
        read_image(tmp_path / "a.png")
    assert "8 to 14 bits" in check_image(tmp_path / "a.png").problem


def test_sixteen_bits_of_colour_are_read(tmp_path: Path):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    write_deep_png(tmp_path / "a.png", np.stack([ramp] * 3, axis=-1))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[..., 0].ravel(), np.arange(256))


def write_deep_png(path: Path, pixels: np.ndarray) -> None:
    """16-bit RGB, which Pillow reads and does not write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        sum_ = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + sum_

    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def test_pixels_outside_sixteen_bits_are_refused():
    for value in (-5, 70_000):
        with pytest.raises(UserError, match=r"not in 0\.\.65535"):
            to_rgb(Image.new("I", (4, 4), value))


def test_a_colour_marked_as_transparent_is_not_plain(tmp_path: Path):
    image = Image.new("RGB", (4, 4), "black")
    image.putpixel((3, 3), (9, 9, 9))
    image.save(tmp_path / "a.png", transparency=(0, 0, 0))
    assert (read_image(tmp_path / "a.png")[:3] == 255).all()
    assert not check_image(tmp_path / "a.png").plain


def test_cmyk_and_grey_become_rgb(tmp_path: Path):
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "red.jpg")
    red = read_image(tmp_path / "red.jpg")[0, 0]
    assert red[0] > 200
    assert red[1:].max() < 60
    Image.new("L", (4, 4), 77).save(tmp_path / "grey.png")
    assert (read_image(tmp_path / "grey.png") == 77).all()


def test_exif_orientation_is_applied(tmp_path: Path):
    image = Image.new("RGB", (8, 4))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (8, 4, 3)
    assert not check_image(tmp_path / "a.jpg").plain


@pytest.mark.parametrize("suffix", [".tif", ".webp", ".jfif", ".jpe"])
def test_what_tensorflow_does_not_read_is_no_problem_but_not_plain(tmp_path: Path, suffix):
    path = save_noise(tmp_path / "a.jpg", 1).rename(tmp_path / f"a{suffix}")
    if suffix in (".tif", ".webp"):
        path = save_noise(tmp_path / f"a{suffix}", 1)
    assert read_image(path).shape == (40, 40, 3)
    found = check_image(path)
    assert not found.problem
    assert not found.plain


def test_a_heic_photo_is_read_or_the_remedy_named(tmp_path: Path, monkeypatch):
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pillow_heif", None)
        with pytest.raises(UserError, match=r"a\.heic: .*pip install 'crackclf\[heic\]'"):
            read_image(tmp_path / "a.heic")
    heif = pytest.importorskip("pillow_heif")
    pixels = np.asarray(Image.open(save_noise(tmp_path / "a.png", 0)).convert("RGB"))
    heif.from_pillow(Image.fromarray(pixels)).save(tmp_path / "a.heic", quality=-1, chroma=444)
    assert np.abs(read_image(tmp_path / "a.heic").astype(int) - pixels).mean() < 2


def test_several_pictures_in_a_file_are_said_and_the_first_is_read(tmp_path: Path, capsys):
    frames = [Image.new("RGB", (8, 8), (value, 0, 0)) for value in (200, 100)]
    for name in ("a.gif", "b.tif", "c.webp", "d.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        assert read_image(tmp_path / name)[0, 0, 0] > 150
        assert f"{name}: holds several pictures" in capsys.readouterr().err


def test_an_odd_value_in_its_exif_does_not_keep_a_photo_from_being_turned(tmp_path: Path):
    tags = b"II*\0\x08\0\0\0" + struct.pack("<H", 2)
    tags += struct.pack("<HHIHH", 274, 3, 1, 6, 0) + struct.pack("<HHII", 282, 10, 1, 38) + bytes(4)
    tags += struct.pack("<ii", -1, 0)
    content = save_noise(tmp_path / "a.jpg", 0, (60, 40)).read_bytes()
    segment = b"\xff\xe1" + struct.pack(">H", 8 + len(tags)) + b"Exif\0\0" + tags
    (tmp_path / "a.jpg").write_bytes(content[:2] + segment + content[2:])
    assert read_image(tmp_path / "a.jpg").shape == (60, 40, 3)
    assert not check_image(tmp_path / "a.jpg").problem


def test_memory_is_counted_before_decoding_and_shared_by_threads(tmp_path: Path, monkeypatch):
    path = save_noise(tmp_path / "a.png", 0, (100, 100))
    monkeypatch.setattr("crackclf.images.memory._MEMORY", 39_999)
    with pytest.raises(UserError, match=r"a\.png: would take .* to decode"):
        read_image(path)
    assert "to decode" in check_image(path).problem


def test_threads_wait_for_memory_and_get_it_back(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("crackclf.images.memory._MEMORY", 50_000)
    monkeypatch.setattr("crackclf.images.decode.BUDGET", type(memory.BUDGET)())
    paths = [save_noise(tmp_path / f"{i}.png", i, (100, 100)) for i in range(6)]
    with ThreadPoolExecutor(4) as pool:
        assert [x.shape for x in pool.map(read_image, paths)] == 6 * [(100, 100, 3)]


def test_what_pillow_cannot_do_with_one_file_is_its_error(tmp_path: Path, monkeypatch):
    path = save_noise(tmp_path / "a.png", 0, mode="L")
    for error, words in ((MemoryError(), "more memory"), (RuntimeError("odd"), r"\(odd\)")):

        def fail(*_, error=error):
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(Image.Image, "convert", fail)
            with pytest.raises(UserError, match=rf"a\.png: .*{words}"):
                read_image(path)


def test_a_jpeg_of_very_many_scans_is_refused(tmp_path: Path, monkeypatch):
    path = tmp_path / "a.jpg"
    Image.new("RGB", (64, 64)).save(path, progressive=True)
    whole = path.read_bytes()
    scan = whole[whole.rindex(b"\xff\xda") : -2]
    path.write_bytes(whole[:-2] + 300 * scan + whole[-2:])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5_000)
    with pytest.raises(UserError, match=r"a\.jpg: is a JPEG of 3\d\d scans"):
        read_image(path)


def test_a_truncated_jpeg_is_found_and_named(tmp_path: Path):
    path = save_noise(tmp_path / "cut.jpg", 2, (64, 64))
    path.write_bytes(path.read_bytes()[:-200])
    assert "truncated" in check_image(path).problem
    with pytest.raises(UserError, match=r"cut\.jpg.*truncated"):
        read_image(path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.jpg", b"", "0 bytes"),
        ("text.jpg", b"hello", "not a JPEG"),
        ("page.jpg", b"\n<!DOCTYPE html><html>", "is a web page"),
        ("big.jpg", b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        ("raw.dng", b"II*\0", "not an image"),
        ("notes.txt", b"hello", "not an image"),
    ],
)
def test_a_file_that_is_no_image_is_reported(tmp_path: Path, name, content, words):
    (tmp_path / name).write_bytes(content)
    assert words in check_image(tmp_path / name).problem


def test_a_suffix_that_lies_is_reported(tmp_path: Path):
    path = save_noise(tmp_path / "a.png", 0)
    lying = path.rename(tmp_path / "a.jpg")
    assert "holds PNG data" in check_image(lying).problem


def test_a_bomb_is_refused_without_decoding_it(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    path = save_noise(tmp_path / "a.png", 0)
    assert "too many pixels" in check_image(path).problem
    with pytest.raises(UserError, match="too many pixels"):
        read_image(path)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"gone\.jpg"):
        read_image(tmp_path / "gone.jpg")
    assert "cannot be read" in check_image(tmp_path / "gone.jpg").problem


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "huge"])
def test_pipes_devices_and_huge_files_are_refused_before_they_are_read(tmp_path: Path, kind):
    path = tmp_path / "odd.jpg"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate(2**30 + 1)  # A hole: takes no room on the disk.
    words = r"limit 1,073,741,824" if kind == "huge" else "is not a file but a folder, pipe or dev"
    assert words in check_image(path).problem
    with pytest.raises(UserError, match=rf"odd\.jpg: .*{words}"):
        read_image(path)


def test_a_png_that_only_pillow_would_read_is_called_damaged(tmp_path: Path):
    path = save_noise(tmp_path / "a.png", 0)
    whole = path.read_bytes()
    assert not check_image(path).problem
    path.write_bytes(whole[:-1] + b"x")
    assert "is damaged (a checksum is wrong" in check_image(path).problem
