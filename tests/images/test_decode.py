import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import save_noise
from crackclf.errors import UserError
from crackclf.images.check import check_image
from crackclf.images.decode import read_image


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
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png") == 255).all()


def test_a_colour_marked_as_transparent_is_not_plain(tmp_path: Path):
    Image.new("RGB", (4, 4), "black").save(tmp_path / "a.png", transparency=(0, 0, 0))
    assert (read_image(tmp_path / "a.png") == 255).all()
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


def test_tiff_and_webp_can_be_read_but_not_trained_on(tmp_path: Path):
    for suffix in (".tif", ".webp"):
        path = save_noise(tmp_path / f"a{suffix}", 1)
        assert read_image(path).shape == (40, 40, 3)
        assert "convert it to PNG or JPEG" in check_image(path).problem


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
