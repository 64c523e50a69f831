import json
import os
import shutil

import pytest

from conftest import save_noise
from crackclf.data import folders
from crackclf.data.folders import find_positive, is_split, is_uneven, read_folder
from crackclf.errors import UserError
from crackclf.images.check import ImageCheck


def test_images_come_in_order_of_class_and_name(make_folder):
    images, names, skipped = read_folder(make_folder({"b": 2, "a": 2}))
    assert names == ["a", "b"]
    assert [(image.path.name, image.label) for image in images] == [
        ("000.png", 0),
        ("001.png", 0),
        ("000.png", 1),
        ("001.png", 1),
    ]
    assert skipped == {}


def test_hidden_files_and_stray_files_beside_the_classes_do_not_count(make_folder):
    folder = make_folder({"Negative": 2, "Positive": 2})
    (folder / "LICENSE.txt").write_text("CC BY 4.0")
    (folder / "Negative" / ".DS_Store").write_bytes(b"x")
    (folder / "Negative" / "Thumbs.db").write_bytes(b"x")
    assert len(read_folder(folder)[0]) == 4


def test_what_systems_and_network_disks_leave_is_no_class_and_no_image(make_folder):
    folder = make_folder({"Negative": 2, "Positive": 2})
    for name in ("@eaDir", "$RECYCLE.BIN", "lost+found", "__MACOSX", "System Volume Information"):
        (folder / name).mkdir()
        save_noise(folder / "Negative" / name / "000.png", 0)
    assert len(read_folder(folder)[0]) == 4
    assert not is_split(folder)


def test_the_second_reading_decodes_only_what_changed(make_folder, monkeypatch):
    folder = make_folder({"Negative": 2, "Positive": 2})
    before = read_folder(folder)[0]
    decoded = []
    check = folders.check_image
    monkeypatch.setattr(folders, "check_image", lambda path: decoded.append(path) or check(path))
    assert read_folder(folder)[0] == before
    assert decoded == []
    changed = save_noise(folder / "Positive" / "001.png", seed=99, size=(50, 50))
    assert read_folder(folder)[0][3].digest != before[3].digest
    assert decoded == [changed]


def test_a_file_that_could_not_be_opened_is_tried_again(make_folder, monkeypatch):
    folder = make_folder({"Negative": 2, "Positive": 2})
    denied = ImageCheck("", plain=False, problem="cannot be read: Permission denied")
    with monkeypatch.context() as patch:
        patch.setattr(folders, "check_image", lambda _: denied)
        with pytest.raises(UserError, match="Permission denied"):
            read_folder(folder)
    assert len(read_folder(folder)[0]) == 4


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", '{"Negative/000.png": 3}'])
def test_a_damaged_memory_is_not_believed(make_folder, content):
    folder = make_folder({"Negative": 2, "Positive": 2})
    before = read_folder(folder)[0]
    (folder / ".crackclf" / folders._MEMORY).write_text(content)
    assert read_folder(folder)[0] == before


def test_an_interrupted_check_keeps_what_it_had_done(make_folder, monkeypatch):
    folder = make_folder({"Negative": 3, "Positive": 3})
    check = folders.check_image

    def interrupted(path):
        if path.parent.name == "Positive":
            raise KeyboardInterrupt
        return check(path)

    monkeypatch.setattr(folders, "check_image", interrupted)
    monkeypatch.setattr(folders, "_CHUNK", 1)
    with pytest.raises(KeyboardInterrupt):
        read_folder(folder)
    assert len(json.loads((folder / ".crackclf" / folders._MEMORY).read_text())) == 3


def test_all_bad_files_stand_in_one_error_and_nothing_is_lost(make_folder):
    folder = make_folder({"Negative": 3, "Positive": 3})
    (folder / "Negative" / "000.png").write_bytes(b"")
    (folder / "Positive" / "notes.txt").write_text("x")
    with pytest.raises(UserError) as caught:
        read_folder(folder)
    assert "000.png: is empty" in str(caught.value)
    assert "notes.txt: is not an image" in str(caught.value)
    assert "--skip-unreadable" in str(caught.value)
    assert (folder / "Positive" / "notes.txt").read_text() == "x"


def test_bad_files_are_left_out_and_listed_on_request(make_folder):
    folder = make_folder({"Negative": 3, "Positive": 3})
    (folder / "Negative" / "000.png").write_bytes(b"")
    images, _, skipped = read_folder(folder, skip_unreadable=True)
    assert len(images) == 5
    assert list(skipped) == [folder / "Negative" / "000.png"]


def test_a_read_only_folder_is_remembered_in_the_users_cache(make_folder, tmp_path, monkeypatch):
    folder = make_folder({"Negative": 2, "Positive": 2})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("crackclf.files.os.access", lambda *_: False)
    read_folder(folder)
    assert not (folder / ".crackclf").exists()
    assert list((tmp_path / "cache" / "crackclf").glob(f"images-*/{folders._MEMORY}"))


def _missing(folder):
    shutil.rmtree(folder)


def _a_file(folder):
    shutil.rmtree(folder)
    folder.write_text("x")


def _one_class(folder):
    shutil.rmtree(folder / "Negative")


def _no_classes(folder):
    shutil.rmtree(folder / "Negative")
    shutil.rmtree(folder / "Positive")


def _empty_class(folder):
    shutil.rmtree(folder / "Negative")
    (folder / "Negative").mkdir()


def _archive_root(folder):
    inner = folder / "METU"
    inner.mkdir()
    for name in ("Negative", "Positive"):
        (folder / name).rename(inner / name)


def _parts(folder):
    """As SDNET2018 is laid out: decks, pavements and walls, each with two classes."""
    for part in ("D", "P"):
        for name in ("Negative", "Positive"):
            shutil.copytree(folder / name, folder / part / f"{name[0]}{part}")
    shutil.rmtree(folder / "Negative")
    shutil.rmtree(folder / "Positive")


def _forged(folder):
    (folder / "Negative").rename(folder / "crackclf: done\nNegative")


def _half_split(folder):
    (folder / "Negative").rename(folder / "train")
    (folder / "Positive").rename(folder / "test")


def _val(folder):
    (folder / "Negative").rename(folder / "train")
    (folder / "Positive").rename(folder / "val")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_missing, "no such folder"),
        (_a_file, "is a file"),
        (_one_class, r"two or more\. Received: \['Positive'\]"),
        (_no_classes, "Received: none"),
        (_empty_class, r"Negative: holds no image"),
        (_archive_root, r"Point at .*METU instead"),
        (_parts, r"point at .*D; for all of .*images, gather the images of each class, from all"),
        (_forged, r"crackclf: done\\nNegative: rename it"),
        (_half_split, "must hold all of train, validation, test"),
        (_val, r"val: rename it to .*validation"),
    ],
)
def test_a_folder_of_another_form_gets_one_error_with_the_remedy(make_folder, spoil, words):
    folder = make_folder({"Negative": 2, "Positive": 2})
    spoil(folder)
    with pytest.raises(UserError, match=words) as caught:
        read_folder(folder)
    assert str(folder) in str(caught.value)


def test_the_cracked_class_is_known_by_name_or_must_be_told():
    assert find_positive(["Negative", "Positive"]) == "Positive"
    assert find_positive(["crack", "no_crack"]) == "crack"
    assert find_positive(["bad", "good"], "bad") == "bad"
    with pytest.raises(UserError, match="--positive"):
        find_positive(["bad", "good"])
    with pytest.raises(UserError, match="'worse' is not one of"):
        find_positive(["bad", "good"], "worse")


def test_three_folders_are_three_classes(make_folder):
    images, names, _ = read_folder(make_folder({"spalled": 1, "crack": 2, "joint": 1}))
    assert names == ["crack", "joint", "spalled"]
    assert [image.label for image in images] == [0, 0, 1, 2]
    assert find_positive(names) == "crack"


def test_classes_are_uneven_from_more_than_three_to_one():
    assert not is_uneven([30, 10, 20])
    assert is_uneven([31, 10, 20])


def test_pipes_loops_and_dangling_links_are_named_and_the_others_are_read(make_folder):
    folder = make_folder({"Negative": 2, "Positive": 2})
    os.mkfifo(folder / "Positive" / "pipe.jpg")
    (folder / "Positive" / "loop.jpg").symlink_to("loop.jpg")
    (folder / "Positive" / "gone.jpg").symlink_to("nowhere.jpg")
    (folder / "Positive" / "zero.jpg").symlink_to("/dev/zero")
    images, _, skipped = read_folder(folder, skip_unreadable=True)
    assert len(images) == 4
    reasons = {path.name: reason for path, reason in skipped.items()}
    assert reasons.keys() == {"pipe.jpg", "loop.jpg", "gone.jpg", "zero.jpg"}
    assert "pipe or device" in reasons["pipe.jpg"]
    assert "symbolic links" in reasons["loop.jpg"]
