import os
import stat
import tempfile
import time
from pathlib import Path

import pytest

from crackclf.errors import UserError
from crackclf.files import (
    building,
    cache_folder,
    check_new_folder,
    check_result_path,
    format_table,
    remove_drafts,
    replace_whole,
    user_cache,
    user_path,
    write_whole,
    writing,
)


@pytest.fixture
def usual_umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_a_file_is_written_whole_for_everyone_to_read(tmp_path, usual_umask):
    path = write_whole(tmp_path / "a.txt", "grün")
    assert path.read_text(encoding="utf-8") == "grün"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    write_whole(path, b"\0")
    assert path.read_bytes() == b"\0"
    assert list(tmp_path.iterdir()) == [path]


def test_two_files_of_a_folder_may_be_written_at_once(tmp_path):
    with writing(tmp_path / "a") as first, writing(tmp_path / "b") as second:
        first.write(b"1")
        second.write(b"2")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"1", "b": b"2"}


def test_a_write_that_fails_leaves_the_old_file_and_names_it(tmp_path, monkeypatch):
    path = write_whole(tmp_path / "a.json", "old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("crackclf.files.os.fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: .*a\.json"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = write_whole(tmp_path / "a.json", "old")

    def write_half():
        with writing(path) as file:
            file.write(b"ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_named_by_the_file_that_should_be_in_it(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        write_whole(tmp_path / "no" / "a.json", "new")
    assert caught.value.filename == str(tmp_path / "no" / "a.json")


def test_a_file_replaces_another(tmp_path):
    old, new = write_whole(tmp_path / "old", "old"), write_whole(tmp_path / "new", "new")
    replace_whole(new, old)
    assert old.read_text() == "new"
    assert list(tmp_path.iterdir()) == [old]


def test_a_folder_appears_with_all_that_is_in_it(tmp_path, usual_umask):
    folder = tmp_path / "parent" / "made"
    with building(folder) as draft:
        (draft / "inside").mkdir()
        (draft / "inside" / "a.txt").write_text("a")
        (draft / "link").symlink_to("nowhere")
        assert not folder.exists()
    assert (folder / "inside" / "a.txt").read_text() == "a"
    assert (folder / "link").is_symlink()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert list(folder.parent.iterdir()) == [folder]


def test_a_folder_that_is_not_finished_does_not_appear(tmp_path):
    def build_half():
        with building(tmp_path / "made") as draft:
            (draft / "a.txt").write_text("a")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_half()
    assert not list(tmp_path.iterdir())


def test_a_folder_with_files_is_not_replaced_and_an_empty_one_is_filled(tmp_path):
    (tmp_path / "made").mkdir()
    with building(tmp_path / "made") as draft:
        (draft / "a.txt").write_text("a")
    with pytest.raises(OSError, match="not empty"), building(tmp_path / "made"):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["made", "a.txt"]


def test_drafts_that_a_kill_left_are_removed_an_hour_later(tmp_path):
    killed = building(tmp_path / "made")
    draft = killed.__enter__()  # Never left.
    with building(tmp_path / "made"):
        pass
    assert draft.exists()
    hours_ago = time.time() - 7200
    os.utime(draft, (hours_ago, hours_ago))
    (tmp_path / "made").rmdir()
    with building(tmp_path / "made"):
        pass
    assert list(tmp_path.iterdir()) == [tmp_path / "made"]
    with pytest.raises(FileNotFoundError):
        killed.__exit__(None, None, None)


def test_a_new_folder_is_accepted_and_one_that_exists_refused(tmp_path):
    assert check_new_folder(tmp_path / "new") == tmp_path / "new"
    with pytest.raises(UserError, match="already exists"):
        check_new_folder(tmp_path)


def test_derived_files_are_kept_in_the_data_folder_or_else_in_the_users_cache(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    assert user_cache() == tmp_path / "cache" / "crackclf"
    assert cache_folder(tmp_path / "data") == tmp_path / "data" / ".crackclf"
    monkeypatch.setattr("crackclf.files.os.access", lambda *_: False)
    outside = cache_folder(tmp_path / "data")
    assert outside.parent == user_cache()
    assert outside.is_dir()


def test_results_replace_results_and_nothing_else(tmp_path):
    path = tmp_path / "result.csv"
    assert check_result_path(path, "file,label\n") == path
    path.touch()
    check_result_path(path, "file,label\n")
    path.write_text("file,label\na,b\n")
    check_result_path(path, "file,label\n")
    path.write_text("my own notes")
    with pytest.raises(UserError, match="left alone"):
        check_result_path(path, "file,label\n")
    with pytest.raises(UserError, match="received a folder"):
        check_result_path(tmp_path, "file,label\n")
    with pytest.raises(UserError, match="does not exist"):
        check_result_path(tmp_path / "no" / "result.csv", "file,label\n")


def test_a_home_is_put_in_for_a_tilde_where_there_is_one(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/m") == tmp_path / "m"
    assert check_new_folder("~/m") == tmp_path / "m"

    def homeless(_):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert user_path("~/m") == Path("~/m")
    assert user_cache() == Path(tempfile.gettempdir()) / "crackclf"


def test_a_table_holds_no_formula_and_no_line_that_a_name_forged():
    rows = [
        {"file": Path("=1+1"), "n": 3, "more": "left out"},
        {"file": "-2\n@", "n": None},
        {"file": "\x1b[2J", "n": -0.5},
    ]
    assert format_table(("file", "n"), rows) == "file,n\n'=1+1,3\n'-2\\n@,\n\\x1b[2J,-0.5\n"
    assert format_table(("@class",), []) == "'@class\n"


def test_derived_files_go_to_the_users_cache_where_the_disk_refuses_whatever_its_rights_say(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    make = Path.mkdir

    def read_only(path, *arguments, **options):
        if path.name == ".crackclf":
            raise OSError(30, "Read-only file system")
        make(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", read_only)
    assert cache_folder(tmp_path / "data").parent == user_cache()


def test_old_drafts_of_files_are_removed_and_young_ones_are_not(tmp_path):
    killed = [writing(tmp_path / name) for name in ("old", "young")]
    killed[0].__enter__()  # Never left.
    [draft] = tmp_path.iterdir()
    os.utime(draft, (time.time() - 7200,) * 2)
    killed[1].__enter__()
    remove_drafts(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    assert not draft.exists()
