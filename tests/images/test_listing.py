from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import Base

from conftest import make_exif, save_noise
from crackclf.errors import UserError
from crackclf.images.exif import PhotoInfo
from crackclf.images.listing import find_images, list_pictures

STACK = np.random.default_rng(0).integers(0, 256, (3, 8, 6, 3), np.uint8)


def names(images) -> list[str]:
    return [picture.name for picture in list_pictures(images)]


def test_a_file_is_listed_by_its_path_and_read(tmp_path):
    path = save_noise(tmp_path / "a.png", 0, (31, 17))
    for image in (path, str(path), [path]):
        (picture,) = list_pictures(image)
        assert picture.name == str(path)
        np.testing.assert_array_equal(picture.pixels(), np.asarray(Image.open(path)))


def test_a_folder_is_searched_through_and_sorted_without_hidden_and_other_files(tmp_path):
    files = [save_noise(tmp_path / name, 0) for name in ("b/c/2.tif", "b/1.png", "a.JPG")]
    save_noise(tmp_path / ".hidden" / "x.png", 0)
    save_noise(tmp_path / "b" / ".x.png", 0)
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "folder.png").mkdir()
    assert find_images([tmp_path]) == sorted(files)
    assert names(tmp_path) == [str(path) for path in sorted(files)]


def test_what_is_passed_over_is_said_once_for_each_reason(tmp_path, capsys):
    for name in ("a.png", "b.jfif", "c.jpe"):
        save_noise(tmp_path / f"{name}.png", 0).rename(tmp_path / name)
    for name in ("photo.HEIC", "raw.dng", "notes.txt", "film.mp4"):
        (tmp_path / name).write_bytes(b"x")
    for name in ("@eaDir", "$RECYCLE.BIN", "lost+found", "System Volume Information"):
        save_noise(tmp_path / name / "x.png", 0)
    found = [path.name for path in find_images([tmp_path])]
    assert found == ["a.png", "b.jfif", "c.jpe", "photo.HEIC", "raw.dng"]  # Each is answered.
    [said] = capsys.readouterr().err.splitlines()
    assert "film.mp4 and 1 more of" in said
    assert said.endswith("is not an image by its name")


def test_links_are_followed_each_folder_once_and_circles_end(tmp_path, capsys):
    save_noise(tmp_path / "nas" / "flight2" / "b.png", 0)
    save_noise(tmp_path / "site" / "flight1" / "a.png", 0)
    (tmp_path / "site" / "flight2").symlink_to(tmp_path / "nas" / "flight2")
    (tmp_path / "site" / "again").symlink_to(tmp_path / "site" / "flight1")
    (tmp_path / "nas" / "flight2" / "up").symlink_to(tmp_path / "site")
    found = [str(x.relative_to(tmp_path / "site")) for x in find_images([tmp_path / "site"])]
    assert found == ["flight1/a.png", "flight2/b.png"]
    assert "is a link to a folder that is searched already" in capsys.readouterr().err


def test_a_folder_that_may_not_be_opened_is_said(tmp_path, capsys, monkeypatch):
    save_noise(tmp_path / "a.png", 0)
    (tmp_path / "closed").mkdir()
    entries = Path.iterdir

    def deny(path):
        if path.name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return entries(path)

    monkeypatch.setattr(Path, "iterdir", deny)
    assert len(find_images([tmp_path])) == 1
    assert "closed of" in (said := capsys.readouterr().err)
    assert "cannot be opened (Permission denied)" in said


def test_a_name_cannot_forge_a_line_of_output(tmp_path, capsys):
    for name in ("a\n0.01  Negative  b.png.txt", "c\x1b]0;owned\x07.txt"):
        (tmp_path / name).write_text("x")
    save_noise(tmp_path / "a.png", 0)
    find_images([tmp_path])
    [said] = capsys.readouterr().err.splitlines()
    assert "a\\n0.01  Negative" in said
    with pytest.raises(UserError) as caught:
        find_images([tmp_path / "a\x1b[2J.png"])
    assert "\x1b" not in str(caught.value)


def test_several_sources_of_every_kind_are_listed_in_order(tmp_path):
    path = save_noise(tmp_path / "a.png", 0)
    listed = list_pictures([path, STACK, Image.fromarray(STACK[0]), tmp_path, STACK[0]])
    assert [x.name for x in listed] == [str(path), "1", "2", "3", "4", str(path), "6"]
    assert names(x for x in [path, path]) == [str(path)] * 2


def test_a_file_is_opened_only_when_it_is_read(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"")
    (picture,) = list_pictures(tmp_path / "broken.jpg")
    with pytest.raises(UserError, match=r"broken\.jpg: is empty"):
        picture.pixels()


@pytest.mark.parametrize("array", [STACK, STACK[0]])
def test_an_array_of_uint8_is_one_image_or_a_stack(array):
    listed = list_pictures(array)
    assert [x.name for x in listed] == [str(i) for i in range(len(listed))]
    np.testing.assert_array_equal(
        np.stack([x.pixels() for x in listed]), array.reshape(-1, 8, 6, 3)
    )
    photo, info = listed[0].read()
    np.testing.assert_array_equal(photo, STACK[0])
    assert info == PhotoInfo()


def test_floats_in_0_to_255_are_rounded():
    (picture,) = list_pictures(STACK[0] + np.float32(0.4))
    assert picture.pixels().dtype == np.uint8
    np.testing.assert_array_equal(picture.pixels(), STACK[0])


def test_a_black_image_of_floats_is_accepted():
    assert not list_pictures(np.zeros((8, 6, 3)))[0].pixels().any()


@pytest.mark.parametrize(
    ("array", "received"),
    [
        (STACK / 255, "float64 from 0"),
        (np.full((8, 6, 3), np.nan), "float64 from nan to nan"),
        (np.where(STACK[0] > 200, np.nan, STACK[0]), "float64 from nan"),
        (STACK[0] - 300.0, "float64 from -"),
        (STACK[0] + 300.0, "float64 from 3"),
        (STACK[0] > 9, "bool from 0 to 1"),
        ((STACK[0] > 9).astype(np.uint8), "uint8 from 0 to 1"),
        (STACK[0].astype(np.int64), "int64 from"),
        (STACK[0].astype(np.uint16), "uint16 from"),
    ],
)
def test_values_that_may_not_be_in_0_to_255_are_refused(array, received):
    with pytest.raises(UserError, match=rf"multiply those in 0\.\.1 by 255\. Received: {received}"):
        list_pictures(array)


@pytest.mark.parametrize("shape", [(8, 6), (8, 6, 1), (8, 6, 4), (2, 3, 8, 6), (0, 8, 6, 3), (3,)])
def test_arrays_of_other_shapes_are_refused(shape):
    with pytest.raises(UserError, match=r"Received: shape \("):
        list_pictures(np.zeros(shape, np.uint8))


def test_an_image_of_pillow_is_turned_upright_by_its_exif_and_keeps_it(tmp_path):
    stored = Image.new("RGB", (64, 32), "white")
    stored.paste("black", (0, 0, 32, 32))  # The left half: on top, once turned clockwise.
    stored.save(tmp_path / "a.jpg", exif=make_exif({Base.Orientation: 6, Base.Model: "FC3582"}))
    (picture,) = list_pictures(Image.open(tmp_path / "a.jpg"))
    photo, info = picture.read()
    assert (picture.name, photo.mode, photo.size) == ("0", "RGB", (32, 64))
    assert info == PhotoInfo(camera="FC3582")
    pixels = picture.pixels()
    assert pixels[:30].max() < 60
    assert pixels[34:].min() > 200


def test_an_image_of_pillow_in_another_mode_becomes_rgb():
    assert (list_pictures(Image.new("L", (4, 4), 77))[0].pixels() == 77).all()
    assert (list_pictures(Image.new("RGBA", (4, 4), (0, 0, 0, 1)))[0].pixels() == 254).all()


@pytest.mark.parametrize("image", [7, None, b"wall.jpg", [7], {"a": 1}.items()])
def test_anything_else_is_refused_in_a_sentence(image):
    with pytest.raises(UserError, match=r"expected images: a path, .*\. Received: \w+\."):
        list_pictures(image)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"gone\.jpg: no such file or folder"):
        list_pictures(tmp_path / "gone.jpg")
    with pytest.raises(UserError, match=r"holds no image\. Expected files ending in"):
        list_pictures(tmp_path)
    with pytest.raises(UserError, match="no image was named"):
        list_pictures([])
