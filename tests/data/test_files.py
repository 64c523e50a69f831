import pytest

from crackclf.data.files import check_result_path, write_whole
from crackclf.errors import UserError


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = write_whole(tmp_path / "a.json", "old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("crackclf.data.files.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


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
