import contextlib
import os
import stat
import time
from pathlib import Path

import pytest

from crackclf.errors import UserError
from crackclf.files import (
    cache_folder,
    check_new_folder,
    check_result_path,
    format_table,
    remove_drafts,
    user_path,
    write_whole,
    writing,
)


def interrupt(path: Path) -> None:
    """Writes half of a file, as Ctrl-C does."""
    with contextlib.suppress(KeyboardInterrupt), writing(path) as draft:
        draft.write_text("half")
        raise KeyboardInterrupt


def test_a_file_is_written_whole_for_everyone_to_read(tmp_path):
    before = os.umask(0o022)
    path = write_whole(tmp_path / "new" / "a.txt", "grün")
    os.umask(before)
    assert path.read_text(encoding="utf-8") == "grün"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    write_whole(path, b"\0")
    assert path.read_bytes() == b"\0"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_appears_with_all_that_is_in_it_or_not_at_all(tmp_path):
    interrupt(tmp_path / "made")
    assert not list(tmp_path.iterdir())
    interrupt(write_whole(tmp_path / "a.json", "old"))
    assert (tmp_path / "a.json").read_text() == "old"
    (tmp_path / "a.json").unlink()
    with writing(tmp_path / "made") as draft:
        (draft / "inside").mkdir(parents=True)
        (draft / "inside" / "a.txt").write_text("a")
        (draft / "link").symlink_to("nowhere")
        assert not (tmp_path / "made").exists()
    assert (tmp_path / "made" / "inside" / "a.txt").read_text() == "a"
    with pytest.raises(OSError, match="not empty"), writing(tmp_path / "made") as draft:
        draft.mkdir()
    assert list(tmp_path.iterdir()) == [tmp_path / "made"]


def test_old_drafts_are_removed_and_those_of_today_are_not(tmp_path):
    drafts = []
    for age in (90_000, 0):
        with writing(tmp_path / "a.txt") as draft:
            draft.write_text("half")
        drafts.append((tmp_path / "a.txt").rename(draft))  # As a kill leaves it.
        os.utime(draft, (time.time() - age,) * 2)
    remove_drafts(tmp_path)
    assert list(tmp_path.iterdir()) == [drafts[1]]


@pytest.mark.parametrize("denied", ["access", "mkdir"])
def test_derived_files_are_kept_in_the_data_folder_or_else_in_the_users_cache(
    tmp_path, monkeypatch, denied
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    assert cache_folder(tmp_path / "data") == tmp_path / "data" / ".crackclf"
    (tmp_path / "data" / ".crackclf").rmdir()
    if denied == "mkdir":
        (tmp_path / "data" / ".crackclf").write_text("in the way, as a read-only disk is")
    else:
        monkeypatch.setattr(os, "access", lambda *_: False)
    outside = cache_folder(tmp_path / "data")
    assert outside.is_dir()
    assert outside.parent == tmp_path / "cache" / "crackclf"


def test_results_replace_results_and_nothing_else(tmp_path):
    path = tmp_path / "result.csv"
    for content in ("", "file,label\na,b\n"):
        path.write_text(content)
        assert check_result_path(path, "file,label\n") == path
    path.write_text("my own notes")
    for wrong, words in ((path, "left alone"), (tmp_path, "left alone"), (path / "a", "not exist")):
        with pytest.raises(UserError, match=words):
            check_result_path(wrong, "file,label\n")


def test_a_home_is_put_in_for_a_tilde_where_there_is_one(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert check_new_folder("~/m") == tmp_path / "m"
    with pytest.raises(UserError, match="already exists"):
        check_new_folder("~")
    assert user_path("~copy of a.jpg") == Path("~copy of a.jpg")


def test_a_table_holds_no_formula_and_no_line_that_a_name_forged():
    rows = [{"file": Path("=1+1"), "n": 3, "more": 1}, {"file": "-2\n@"}, {"file": "\x1b[2J"}]
    assert format_table(("file", "n"), rows) == "file,n\n'=1+1,3\n'-2\\n@,\n\\x1b[2J,\n"
    assert format_table(("@class",), []) == "'@class\n"
