"""Downloads and archives of METU: bad bytes, kills, full disks, hostile archives."""

import hashlib
import io
import random
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tarfile
import warnings
import zipfile
import zlib
from pathlib import Path

import pytest

from conftest import run
from crackclf.data import archives, fetch, metu
from crackclf.data.fetch import RemoteFile
from crackclf.data.metu import download_metu
from crackclf.errors import UserError
from misbehaving import Server, answer, cut, serve, wrong_bytes

IMAGES = {
    f"{name}/{i:05}.jpg": random.Random(f"{name}{i}").randbytes(9000)
    for name in ("Negative", "Positive")
    for i in range(1, 13)
}


def as_tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def as_rar(files: dict[str, bytes]) -> bytes:
    """A RAR 4 archive of stored members: marker, main header, files with CRCs, end."""

    def block(kind: int, flags: int, body: bytes, data: bytes = b"") -> bytes:
        header = struct.pack("<BHH", kind, flags, 7 + len(body)) + body
        return struct.pack("<H", zlib.crc32(header) & 0xFFFF) + header + data

    blocks = [b"Rar!\x1a\x07\x00", block(0x73, 0, bytes(6))]
    for name, data in files.items():
        size, date = len(data), 40 << 25 | 1 << 21 | 1 << 16  # 2020-01-01
        head = (size, size, 2, zlib.crc32(data), date, 20, 0x30, len(name), 0x20)
        body = struct.pack("<IIBIIBBHI", *head) + name.replace("/", "\\").encode()
        blocks.append(block(0x74, 0x8000, body, data))
    return b"".join([*blocks, block(0x7B, 0x4000, b"")])


def as_zip(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as zipped:
        for name, data in files.items():
            zipped.writestr(name, data)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def read(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture
def server(monkeypatch):
    """Serves a tar instead of a RAR: any Unix unpacks it, as the `tool` of these tests."""
    monkeypatch.setattr(fetch, "WAIT", 0)
    with Server(as_tar(IMAGES)) as server:
        monkeypatch.setattr(metu, "METU", server.file)
        monkeypatch.setattr(metu, "IMAGES", len(IMAGES))
        yield server


@pytest.fixture
def path(tmp_path, monkeypatch):
    """An empty folder that is all of PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def script(path: Path, name: str, text: str) -> None:
    (path / name).write_text(f"#!/bin/sh\nexport PATH=/usr/bin:/bin\n{text}\n")
    (path / name).chmod(0o755)


UNTAR = 'exec tar -xf "$3" -C "$4"'  # $3 and $4: unrar's archive and folder.


@pytest.fixture
def tool(path):
    script(path, "unrar", UNTAR)


# From the address to the folder


def test_the_known_file_is_fetched_over_tls_from_the_page_it_belongs_to():
    assert metu.METU.url.startswith("https://data.mendeley.com/public-files/")
    assert len(bytes.fromhex(metu.METU.sha256)) == 32


def test_a_download_makes_the_folder_and_leaves_nothing_else(
    server, tool, tmp_path, monkeypatch, capsys
):
    assert run(monkeypatch, "download", tmp_path / "data" / "metu") == 0
    assert read(tmp_path / "data") == {f"metu/{name}": data for name, data in IMAGES.items()}
    assert names(tmp_path / "data") == ["metu"]
    assert capsys.readouterr().out == f"{tmp_path}/data/metu: 12 Negative, 12 Positive\n"


@pytest.mark.parametrize("kind", ["file", "folder", "empty folder", "broken link"])
def test_what_exists_is_not_overwritten(kind, server, tool, tmp_path, monkeypatch, capsys):
    target = tmp_path / "metu"
    if kind == "broken link":
        target.symlink_to("nowhere")
    elif kind == "file":
        target.write_text("mine")
    else:
        target.mkdir()
        if kind == "folder":
            (target / "mine").write_text("mine")
    before = read(tmp_path)
    assert run(monkeypatch, "download", target) == 2
    assert f"Error: {target}: already exists" in capsys.readouterr().err
    assert read(tmp_path) == before
    assert not server.requests


def test_wrong_bytes_are_removed_and_reported(server, tool, tmp_path):
    server.does(wrong_bytes)
    words = rf"expected the SHA-256 digest {server.file.sha256}, received .*removed.*--archive FILE"
    with pytest.raises(UserError, match=words):
        download_metu(tmp_path / "metu")
    assert names(tmp_path) == ["bin"]
    server.does(serve)
    assert read(download_metu(tmp_path / "metu")) == IMAGES


def test_a_failed_download_says_how_to_do_without(server, tool, tmp_path, monkeypatch, capsys):
    server.does(cut(1000), answer(404))
    assert run(monkeypatch, "download", tmp_path / "metu") == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith(f"Error: {server.url}: the server answered 404")
    assert f"1,000 bytes are kept in {tmp_path}/metu.rar.part" in message
    assert "https://doi.org/10.17632/5y9wdsg2zt.2 and pass the file: --archive FILE" in message
    assert names(tmp_path) == ["bin", "metu.rar.part"]


def test_ctrl_c_keeps_what_came(server, tool, tmp_path, monkeypatch, capsys):
    def interrupt(seconds):
        raise KeyboardInterrupt

    server.does(cut(70_000), serve)
    with monkeypatch.context() as patch:
        patch.setattr("time.sleep", interrupt)  # While it waits to connect again.
        assert run(monkeypatch, "download", tmp_path / "metu") == 130
    assert "Run the same command again to go on" in capsys.readouterr().err
    assert (tmp_path / "metu.rar.part").read_bytes() == server.body[:70_000]
    assert run(monkeypatch, "download", tmp_path / "metu") == 0
    assert server.asked() == [None, "bytes=70000-"]
    assert read(tmp_path / "metu") == IMAGES


def test_a_disk_too_small_is_reported_before_the_download(server, tool, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=len(server.body))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match=r"expected 1 MB of free disk space. Received: 0 MB"):
        download_metu(tmp_path / "metu")
    assert not server.requests


def test_a_second_download_at_the_same_time_is_refused(server, tool, tmp_path):
    def second(handler, body, start):
        try:
            download_metu(tmp_path / "metu")
        except UserError as error:
            refused.append(str(error))
        serve(handler, body, start)

    refused = []
    server.does(second, serve)
    download_metu(tmp_path / "metu")
    assert refused == [f"{tmp_path}/metu: another crackclf is downloading it."]
    assert read(tmp_path / "metu") == IMAGES


# Programs that unpack a RAR


def test_without_a_program_nothing_is_downloaded(server, path, tmp_path):
    with pytest.raises(UserError, match=r"Expected one of unrar, .*apt install libarchive-tools"):
        download_metu(tmp_path / "metu")
    assert not server.requests


def test_when_one_program_fails_the_next_is_tried(server, path, tmp_path):
    script(path, "unrar", 'touch "$4/half"; echo broken >&2; exit 3')
    script(path, "7z", "echo Unsupported Method; exit 2")
    script(path, "unar", "exit 0")  # It has unpacked nothing.
    with pytest.raises(UserError) as caught:
        download_metu(tmp_path / "metu")
    for words in (
        f"{tmp_path}/metu.rar.part: no program on this machine",
        "unrar, after 1 of 24 files: broken; 7z, after 0 of 24 files: Unsupported Method; unar",
        "apt install libarchive-tools",
        "what was downloaded is kept",
    ):
        assert words in str(caught.value)
    assert names(tmp_path) == ["bin", "metu.rar.part"]

    script(path, "bsdtar", 'exec tar "$1" "$2" "$3" "$4" "$5"')
    assert read(download_metu(tmp_path / "metu")) == IMAGES
    assert len(server.requests) == 1


@pytest.mark.parametrize("make", ["ln -s /etc/passwd", "mkfifo"])
def test_what_is_not_plain_is_refused_even_from_the_known_rar(make, server, path, tmp_path):
    script(path, "unrar", f'tar -xf "$3" -C "$4"; {make} "$4/Positive/x.jpg"')
    with pytest.raises(UserError, match=r"Positive/x.jpg: expected plain files"):
        download_metu(tmp_path / "metu")
    assert names(tmp_path) == ["bin", "metu.rar.part"]


@pytest.mark.parametrize("name", archives.TOOLS)
@pytest.mark.parametrize("wrap", ["", "Concrete Crack Images/"])
def test_installed_programs_unpack_a_real_rar(name, wrap, path, server, tmp_path, monkeypatch):
    real = shutil.which(name, path="/usr/local/bin:/usr/bin:/bin")
    if not real:
        pytest.skip(f"no {name} here")
    (path / name).symlink_to(real)
    rar = tmp_path / "metu rar.part"
    rar.write_bytes(as_rar({wrap + name: data for name, data in IMAGES.items()}))
    remote = RemoteFile("", rar.stat().st_size, hashlib.sha256(rar.read_bytes()).hexdigest())
    monkeypatch.setattr(metu, "METU", remote)
    try:
        download_metu(tmp_path / "metu", archive=rar)
    except UserError as error:
        if name in {"7z", "7zz"} and "Cannot open" in str(error):
            pytest.skip(f"{name} was built without its RAR codec")
        raise
    assert read(tmp_path / "metu") == IMAGES
    assert rar.exists()


# Archives that a user has


def test_the_rar_may_have_been_downloaded_before(server, tool, tmp_path, monkeypatch, capsys):
    rar = tmp_path / "mine.rar"
    rar.write_bytes(server.body)
    assert run(monkeypatch, "download", tmp_path / "metu", "--archive", rar) == 0
    assert read(tmp_path / "metu") == IMAGES
    assert rar.read_bytes() == server.body
    rar.write_bytes(server.body[:-1])
    assert run(monkeypatch, "download", tmp_path / "new", "--archive", rar) == 2
    assert f"Error: {rar}: is neither METU's RAR (expected 235" in capsys.readouterr().err
    assert run(monkeypatch, "download", tmp_path / "new", "--archive", tmp_path / "none") == 2
    assert names(tmp_path) == ["bin", "metu", "mine.rar"]
    assert not server.requests


def test_mendeleys_zip_holds_the_rar(server, tool, tmp_path):
    name = "5y9wdsg2zt-2/Concrete Crack Images for Classification.rar"
    mine = as_zip(tmp_path / "mine.zip", {name: server.body}, zipfile.ZIP_DEFLATED)
    assert read(download_metu(tmp_path / "metu", archive=mine)) == IMAGES
    wrong = as_zip(tmp_path / "wrong.zip", {name: server.body[::-1]})
    with pytest.raises(UserError, match=r"wrong.zip: Concrete.*rar: .*SHA-256"):
        download_metu(tmp_path / "new", archive=wrong)


@pytest.mark.parametrize("wrap", ["", "wrapped/"])
def test_a_zip_of_the_folders_is_accepted(wrap, path, tmp_path):
    files = {wrap + name: data for name, data in IMAGES.items()}
    junk = {f"__MACOSX/{name}": b"x" for name in files} | {f"{wrap}Readme.txt": b"x"}
    mine = as_zip(tmp_path / "mine.zip", files | junk)
    before = mine.read_bytes()
    assert download_metu(tmp_path / "metu", archive=mine) == tmp_path / "metu"
    assert read(tmp_path / "metu") == IMAGES
    assert mine.read_bytes() == before


def member(name, data=b"x", mode=0, method=zipfile.ZIP_STORED):
    info = zipfile.ZipInfo("x")
    info.filename, info.external_attr, info.compress_type = name, mode << 16, method
    return info, data


def write_members(path, members):
    with zipfile.ZipFile(path, "w") as zipped, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of names that are there twice.
        for info, data in members:
            zipped.writestr(info, data)
    return path


HARMLESS = {
    "up": [member("Positive/../../up.jpg")],
    "up and down": [member("..\\up.jpg")],
    "absolute": [member("/crackclf-absolute.jpg")],
    "drive": [member("C:/x.jpg")],
    "stream": [member("Positive/x.jpg:y")],
    "link": [member("Positive/x.jpg", b"/etc/passwd", stat.S_IFLNK | 0o777)],
    "link to follow": [
        member("Positive/x", b"/", stat.S_IFLNK | 0o777),
        member("Positive/../Positive/y"),
    ],
    "device": [member("Positive/x.jpg", mode=stat.S_IFCHR | 0o666)],
    "pipe": [member("Positive/x.jpg", mode=stat.S_IFIFO | 0o666)],
    "twice": [member("Positive/x.jpg"), member("Positive/x.jpg")],
    "twice but for case": [member("Positive/x.jpg"), member("positive/X.JPG")],
}


@pytest.mark.parametrize("kind", HARMLESS)
def test_a_hostile_zip_writes_plain_files_and_only_into_the_folder(kind, path, tmp_path):
    images = [member(name, data) for name, data in IMAGES.items()]
    mine = write_members(tmp_path / "mine.zip", images + HARMLESS[kind])
    outside = set(tmp_path.parent.iterdir())
    download_metu(tmp_path / "metu", archive=mine)
    assert read(tmp_path / "metu").items() >= IMAGES.items()
    assert names(tmp_path / "metu") == ["Negative", "Positive"]
    assert archives.count_plain(tmp_path / "metu") == len(read(tmp_path / "metu"))
    assert names(tmp_path) == ["bin", "metu", "mine.zip"]
    assert set(tmp_path.parent.iterdir()) == outside
    assert not Path("/crackclf-absolute.jpg").exists()


USELESS = {
    "file as folder": ([member("Positive"), member("Positive/x.jpg")], "damaged.*Positive"),
    "memory bomb": ([member("x", bytes(9000), method=zipfile.ZIP_LZMA)], "stored or deflated"),
    "one class": ([member("Negative/x.jpg")], "Received: Negative$"),
    "empty class": (
        [member("Negative/x.jpg"), member("Positive/", b"")],
        "Received: Negative, Positive$",
    ),
    "no images": (
        [member("Negative", b"x"), member("Positive", b"x")],
        "Received: Negative, Positive$",
    ),
    "two of each": (
        [member(f"{a}/{b}/x") for a in "ab" for b in metu.CLASS_NAMES],
        "Received: a, b$",
    ),
    "another rar": ([member("x.rar")], "neither METU's RAR"),
    "nothing": ([], "Received: nothing$"),
}


@pytest.mark.parametrize("kind", USELESS)
def test_a_useless_zip_is_refused_and_leaves_nothing(kind, path, tmp_path):
    members, words = USELESS[kind]
    mine = write_members(tmp_path / "mine.zip", members)
    with pytest.raises(UserError, match=rf"mine.zip: .*{words}"):
        download_metu(tmp_path / "metu", archive=mine)
    assert names(tmp_path) == ["bin", "mine.zip"]


def test_a_zip_that_is_too_large_is_refused(path, tmp_path, monkeypatch):
    mine = as_zip(tmp_path / "mine.zip", IMAGES | {"0": bytes(1 << 20)}, zipfile.ZIP_DEFLATED)
    for limit in ("MOST_BYTES", "MOST_MEMBERS"):
        with monkeypatch.context() as patch:
            patch.setattr(archives, limit, 20)
            with pytest.raises(UserError, match=r"at most .* Received: 25 and 1,264,576"):
                download_metu(tmp_path / "metu", archive=mine)


def patched(mine: Path, offset: int, value: bytes) -> None:
    """Overwrites bytes of the first member's entry in the central directory, or of the data."""
    data = bytearray(mine.read_bytes())
    start = data.index(b"PK\1\2") + offset if offset < 100 else offset
    data[start : start + len(value)] = value
    mine.write_bytes(data)


@pytest.mark.parametrize(
    ("offset", "value", "words"),
    [
        (8, b"\1", "is encrypted"),
        (8, b"\x20", "damaged"),  # Patch data, which zipfile does not know.
        (16, b"\0\0\0\0", "damaged.*Bad CRC-32"),
        (24, b"\x0a\0\0\0", "damaged"),  # Says it has 10 bytes; it has 9,000.
        (42, b"\xff\xff\xff\x0f", "damaged"),  # Begins beyond the end.
        (1000, b"\0\0\0\0", "damaged.*Bad CRC-32"),
    ],
)
def test_a_damaged_zip_is_refused(offset, value, words, path, tmp_path):
    mine = as_zip(tmp_path / "mine.zip", IMAGES)
    patched(mine, offset, value)
    with pytest.raises(UserError, match=rf"mine.zip: .*{words}"):
        download_metu(tmp_path / "metu", archive=mine)
    assert names(tmp_path) == ["bin", "mine.zip"]


def test_any_damage_to_a_zip_ends_in_one_message(path, tmp_path):
    whole = as_zip(tmp_path / "whole.zip", IMAGES, zipfile.ZIP_DEFLATED).read_bytes()
    rng, mine, messages = random.Random(0), tmp_path / "mine.zip", []
    for i in range(60):
        data = bytearray(whole[: rng.randrange(len(whole))] if i % 3 == 0 else whole)
        for _ in range(rng.randrange(1, 4)):
            # One in three is in the headers at the end, where damage matters most.
            span = min(len(data), 2000) if i % 3 == 1 else len(data)
            data[-rng.randrange(1, span + 1)] = rng.randrange(256)
        mine.write_bytes(data)
        try:
            shutil.rmtree(download_metu(tmp_path / "metu", archive=mine))
        except UserError as error:
            messages.append(str(error))
    assert len(messages) > 40
    assert all(str(mine) in message for message in messages)
    assert names(tmp_path) == ["bin", "mine.zip", "whole.zip"]


# Kills and full disks


def start(server: Server, target: Path) -> subprocess.Popen:
    source = (
        "from crackclf.data import fetch, metu; from crackclf.data.fetch import RemoteFile; "
        f"fetch.WAIT, metu.IMAGES, metu.METU = 0, {len(IMAGES)}, "
        f"{server.file!r}; metu.download_metu({str(target)!r})"
    )
    return subprocess.Popen([sys.executable, "-c", source], stderr=subprocess.DEVNULL)


def test_a_download_killed_at_any_byte_or_while_unpacking_is_resumed(server, path, tmp_path):
    target, processes = tmp_path / "metu", []

    def kill_after(end):
        def behave(handler, body, start):
            serve(handler, body, start, end=end)
            processes[-1].kill()
            processes[-1].wait()

        return behave

    ends = sorted(random.Random(1).sample(range(len(server.body)), 3))
    server.does(*map(kill_after, ends), serve)
    script(path, "unrar", 'tar -xf "$3" -C "$4" Negative; kill -9 $PPID')
    for _ in range(4):
        processes.append(start(server, target))
        assert processes[-1].wait() == -signal.SIGKILL
        assert not target.exists()
    assert (tmp_path / "metu.rar.part").read_bytes() == server.body
    assert len(list(tmp_path.glob(".metu.tmp/*/metu/unrar/Negative/*.jpg"))) == 12

    script(path, "unrar", UNTAR)
    assert start(server, target).wait() == 0
    assert read(target) == IMAGES
    assert names(tmp_path) == ["bin", "metu"]
    assert len(server.requests) == 4


def test_a_full_disk_loses_no_download(small_disk, server, tool, tmp_path, monkeypatch):
    for module in (archives, metu):  # As if another program fills the disk meanwhile.
        monkeypatch.setattr(module, "check_space", lambda *_: None)
    target, hog = small_disk / "metu", small_disk / "hog"
    hog.write_bytes(bytes(900_000))
    with pytest.raises(UserError, match=r"metu.rar.part: No space left on device after .* kept"):
        download_metu(target)
    assert 0 < (small_disk / "metu.rar.part").stat().st_size < len(server.body)

    hog.write_bytes(bytes(700_000))
    with pytest.raises(UserError, match=r"unrar, after .*No space left on device"):
        download_metu(target)
    mine = as_zip(tmp_path / "mine.zip", IMAGES)
    with pytest.raises(UserError, match=r"No space left on device.*was not made"):
        download_metu(target, archive=mine)
    assert names(small_disk) == ["hog", "metu.rar.part"]

    hog.unlink()
    download_metu(target)
    assert read(target) == IMAGES
    assert names(small_disk) == ["metu"]
    assert server.asked()[1].startswith("bytes=")
    assert len(server.requests) == 2
