import shutil
import struct

import pytest

from conftest import save_noise
from crackclf import folders
from crackclf.errors import UserError
from crackclf.folders import check_image, find_positive, is_split, read_folder


def test_images_come_in_order_of_class_and_name(make_folder):
    folder = make_folder({"b": 1, "crack": 1, "a": 2})
    (folder / "LICENSE.txt").write_text("CC BY 4.0")
    (folder / "a" / "Thumbs.db").write_bytes(b"x")  # As what else systems leave, no image.
    save_noise(folder / "@eaDir" / "000.png", 0)
    images, names, skipped = read_folder(folder)
    assert names == ["a", "b", "crack"]
    assert [f"{x.label}/{x.path.name}" for x in images] == [
        "0/000.png",
        "0/001.png",
        "1/000.png",
        "2/000.png",
    ]
    assert skipped == {}
    assert not is_split(folder)


def test_the_second_reading_decodes_only_what_changed(make_folder, monkeypatch):
    folder = make_folder({"Negative": 2, "Positive": 2})
    before = read_folder(folder)[0]
    decoded = []
    check = folders.check_image
    monkeypatch.setattr(folders, "check_image", lambda *x: decoded.append(x[0]) or check(*x))
    assert read_folder(folder)[0] == before
    assert decoded == []
    changed = save_noise(folder / "Positive" / "001.png", seed=99, size=(50, 50))
    assert read_folder(folder)[0][3].digest != before[3].digest
    assert decoded == [changed]


def test_bad_files_stand_in_one_error_or_are_left_out_on_request(make_folder):
    folder = make_folder({"Negative": 3, "Positive": 3})
    (folder / "Negative" / "000.png").write_bytes(b"")
    (folder / "Positive" / "notes.txt").write_text("x")
    (folder / "Positive" / "gone.jpg").symlink_to("nowhere.jpg")
    with pytest.raises(UserError) as caught:
        read_folder(folder)
    for words in ("000.png: is empty", "notes.txt: is not an image", "gone.jpg: cannot be read"):
        assert words in str(caught.value)
    assert "--skip-unreadable" in str(caught.value)
    images, _, skipped = read_folder(folder, skip_unreadable=True)
    assert len(images) == 5
    assert sorted(path.name for path in skipped) == ["000.png", "gone.jpg", "notes.txt"]


def parts(folder):
    """As SDNET2018 is laid out: decks and pavements, each with two classes."""
    for part in ("D", "P"):
        for name in ("Negative", "Positive"):
            shutil.copytree(folder / name, folder / part / f"{name[0]}{part}")
    shutil.rmtree(folder / "Negative")
    shutil.rmtree(folder / "Positive")


def rename(**names):
    return lambda folder: [(folder / a).rename(folder / b) for a, b in names.items()]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (shutil.rmtree, "no such folder"),
        (lambda folder: [shutil.rmtree(folder), folder.write_text("x")], "is a file"),
        (lambda folder: shutil.rmtree(folder / "Negative"), r"Received: \['Positive'\]"),
        (lambda folder: [x.unlink() for x in folder.glob("N*/*")], "Negative: holds no image"),
        (parts, "point at .*D; else gather the images of each class"),
        (rename(Negative="train", Positive="val"), "must hold all of train, validation, test"),
    ],
)
def test_a_folder_of_another_form_gets_one_error_with_the_remedy(make_folder, spoil, words):
    folder = make_folder({"Negative": 2, "Positive": 2})
    spoil(folder)
    with pytest.raises(UserError, match=words) as caught:
        read_folder(folder)
    assert str(folder) in str(caught.value)


def test_the_cracked_class_is_known_by_name_or_must_be_named():
    assert find_positive(["Negative", "Positive"]) == "Positive"
    assert find_positive(["crack", "no_crack"]) == "crack"
    assert find_positive(["bad", "good"], "bad") == "bad"
    for cracked, *sound in (
        ("Hairline cracks", "no crack", "uncracked"),
        ("cracking", "crack_free", "noncrack"),
        ("A_CRACKED", "not-cracked", "without cracks"),
        ("crack_positive", "crack_negative", "crack none"),
    ):
        assert find_positive([*sound, cracked]) == cracked
    with pytest.raises(UserError, match="--positive hairline_crack,wide_crack"):
        find_positive(["hairline_crack", "sound", "wide_crack"])
    for positive in (None, "worse"):
        with pytest.raises(UserError, match=f"--positive.*Received: {positive!r}"):
            find_positive(["bad", "good"], positive)


def test_a_file_that_is_no_image_or_damaged_is_reported(tmp_path):
    (tmp_path / "page.jpg").write_bytes(b"\n<!DOCTYPE html><html>")
    assert "is a web page" in check_image(tmp_path / "page.jpg").problem
    cut = save_noise(tmp_path / "cut.jpg", 2, (64, 64))
    cut.write_bytes(cut.read_bytes()[:-200])
    assert "truncated" in check_image(cut).problem
    lying = save_noise(tmp_path / "a.png", 0).rename(tmp_path / "lying.jpg")
    assert "holds PNG data" in check_image(lying).problem
    wrong = save_noise(tmp_path / "wrong.png", 0)
    content = wrong.read_bytes()
    at = content.index(b"IDAT") - 4
    [size] = struct.unpack(">I", content[at : at + 4])
    end = at + 8 + size
    wrong.write_bytes(content[:end] + bytes(4) + content[end + 4 :])
    assert "is damaged" in check_image(wrong).problem  # Pillow alone would read it.
