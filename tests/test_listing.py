import numpy as np
import pytest
from PIL import Image

from conftest import save_noise
from crackclf.errors import UserError
from crackclf.listing import find_images, list_pictures

STACK = np.random.default_rng(0).integers(0, 256, (3, 8, 6, 3), np.uint8)


def test_a_folder_is_searched_through_and_each_reason_to_leave_out_is_told_once(tmp_path, capsys):
    names = ("b/c/2.tif", "b/1.png", "a.JPG", "c.HEIC", "raw.dng")
    for name in names:
        save_noise(tmp_path / f"{name}.png", 0).rename(tmp_path / name)
    for name in ("notes.txt", "film\n.mp4"):
        (tmp_path / name).write_bytes(b"x")
    for name in (".hidden", "@eaDir", "$RECYCLE.BIN"):
        save_noise(tmp_path / name / "x.png", 0)
    assert find_images([tmp_path]) == sorted(tmp_path / name for name in names)
    [line] = capsys.readouterr().err.splitlines()
    assert "film\\n.mp4 and 1 more of" in line
    assert line.endswith("is not an image")


def test_links_are_followed_each_folder_once_and_circles_end(tmp_path, capsys):
    save_noise(tmp_path / "nas" / "flight2" / "b.png", 0)
    save_noise(tmp_path / "site" / "flight1" / "a.png", 0)
    (tmp_path / "site" / "flight2").symlink_to(tmp_path / "nas" / "flight2")
    (tmp_path / "site" / "again").symlink_to(tmp_path / "site" / "flight1")
    (tmp_path / "nas" / "flight2" / "up").symlink_to(tmp_path / "site")
    found = [str(x.relative_to(tmp_path / "site")) for x in find_images([tmp_path / "site"])]
    assert found == ["flight1/a.png", "flight2/b.png"]
    assert "is a link to a folder that is searched already" in capsys.readouterr().err


def test_several_sources_of_every_kind_are_listed_in_order_and_read(tmp_path):
    path = save_noise(tmp_path / "a.png", 0, (31, 17))
    listed = list_pictures([path, STACK, Image.fromarray(STACK[0]), tmp_path, STACK[0] / 1.0])
    assert [x.name for x in listed] == [str(path), "1", "2", "3", "4", str(path), "6"]
    assert listed[0].read().size == (31, 17)
    for picture in (listed[1], listed[4], listed[6]):
        np.testing.assert_array_equal(np.asarray(picture.read()), STACK[0])


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ([], "no image was named"),
        (["gone\x1b[2J.png"], r"gone\\x1b\[2J\.png: no such file"),
        ([7], "Received: int"),
        (STACK[..., 0], "Received: shape"),
        (STACK / 255, "multiply those in 0..1 by 255"),
        (STACK.astype(int), "int64 from 0 to 255"),
    ],
)
def test_what_is_no_image_is_refused(images, words):
    with pytest.raises(UserError, match=words):
        list_pictures(images)


def test_a_folder_without_images_and_an_unreadable_file_are_named(tmp_path):
    with pytest.raises(UserError, match=r"holds no image. Expected files ending in .jpg"):
        list_pictures(tmp_path)
    (tmp_path / "a.png").write_bytes(b"")
    [picture] = list_pictures(tmp_path)
    with pytest.raises(UserError, match=r"a\.png: is empty"):
        picture.read()


def test_an_address_is_no_path():
    for address in ("https://example.org/a.jpg", "s3://bucket/a.jpg"):
        with pytest.raises(UserError, match=f"{address}: is an address; download it"):
            find_images([address])


def test_images_are_found_by_their_content_whatever_their_names(tmp_path):
    for name in ("DSC1.HIF", "a.MPO", "b.insp", "noname", "photo.jpg_large", "clip.thm"):
        save_noise(tmp_path / f"{name}.png", 0).rename(tmp_path / name)
    found = [path.name for path in find_images([tmp_path])]
    assert found == sorted({"DSC1.HIF", "a.MPO", "b.insp", "noname", "photo.jpg_large"})


def test_a_picture_of_one_colour_is_refused(tmp_path):
    Image.new("RGB", (32, 32), (128, 128, 128)).save(tmp_path / "cap.jpg")
    for source in (tmp_path / "cap.jpg", np.zeros((32, 32, 3), np.uint8)):
        [picture] = list_pictures(source)
        with pytest.raises(UserError, match="shows one colour only, so there is nothing to see"):
            picture.read()
