import contextlib
import hashlib
import io
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from crackclf import download
from crackclf.download import download_metu
from crackclf.errors import UserError

IMAGES = {f"{name}/{i}.jpg": b"image" for name in ("Negative", "Positive") for i in range(3)}


@pytest.fixture
def rar(tmp_path, monkeypatch):
    """The archive; a tar in place of a RAR."""
    path = tmp_path / "metu.rar"
    with tarfile.open(path, "w") as tar:
        for name, content in IMAGES.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    monkeypatch.setattr(download, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setattr(download, "IMAGES", len(IMAGES))
    return path


@pytest.fixture
def server(rar, monkeypatch):
    """A server of this machine; lists the requests, and answers with its `content`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            server.requests.append(self.path)
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):  # The other side may give up.
                self.wfile.write(server.content)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.requests, server.content = [], rar.read_bytes()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(download, "URL", f"http://127.0.0.1:{server.server_port}/metu.rar")
        yield server
        server.shutdown()


@pytest.fixture
def install(tmp_path_factory, monkeypatch):
    """Makes a program `unrar` the only one on PATH: install(script)."""
    programs = tmp_path_factory.mktemp("bin")

    def write(script: str) -> None:
        (programs / "unrar").write_text(f"#!/bin/sh\nexport PATH=/usr/bin:/bin\n{script}\n")
        (programs / "unrar").chmod(0o755)
        monkeypatch.setenv("PATH", str(programs))

    return write


UNTAR = 'exec tar -x -f "$3" -C "$4"'  # It is called as unrar x -y ARCHIVE FOLDER/.


def test_a_download_is_unpacked_and_nothing_else_is_left(server, tmp_path, install):
    install(UNTAR)
    folder = download_metu(tmp_path / "data" / "metu")
    files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert {str(x.relative_to(folder)): x.read_bytes() for x in files} == IMAGES
    with pytest.raises(UserError, match="already exists"):
        download_metu(folder)


def test_what_cannot_be_unpacked_is_kept_and_not_downloaded_again(
    server, tmp_path, install, monkeypatch
):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"apt install .* brew install"):
        download_metu(tmp_path / "data" / "metu")
    assert not server.requests
    install("echo broken >&2; exit 3")
    with pytest.raises(UserError, match=r"cannot be unpacked into .* .unrar: broken"):
        download_metu(tmp_path / "data" / "metu")
    assert [path.suffix for path in (tmp_path / "data").iterdir()] == [".rar"]
    install(UNTAR)
    download_metu(tmp_path / "data" / "metu")
    assert len(server.requests) == 1


def test_other_bytes_and_no_network_are_one_error_with_the_way_by_hand(
    server, tmp_path, monkeypatch, install
):
    install(UNTAR)
    server.content = b"a web page"
    with pytest.raises(UserError, match=r"(?s)hash.*--archive FILE"):
        download_metu(tmp_path / "data" / "metu")
    monkeypatch.setattr(download, "URL", "http://127.0.0.1:9/metu.rar")
    with pytest.raises(UserError, match=r"cannot be downloaded.*--archive FILE"):
        download_metu(tmp_path / "data" / "metu")
    assert not list((tmp_path / "data").iterdir())


def test_the_rar_downloaded_before_is_taken_and_no_other_archive(rar, tmp_path, install):
    install(UNTAR)
    folder = download_metu(tmp_path / "metu", archive=rar)
    assert len(list(folder.glob("*tive/*.jpg"))) == len(IMAGES)
    assert rar.exists()
    (tmp_path / "other.zip").write_text("text")
    for name in ("other.zip", "gone.rar"):
        with pytest.raises(UserError, match=rf"{name}: is not the RAR.*Unpack another yourself"):
            download_metu(tmp_path / "a" / "metu", archive=tmp_path / name)
    assert not list((tmp_path / "a").iterdir())
