"""Fetching a file from servers that misbehave."""

import random
import threading
from pathlib import Path

import pytest

import crackclf
from crackclf.data import fetch
from crackclf.data.fetch import RemoteFile
from crackclf.errors import UserError
from misbehaving import (
    Server,
    announce,
    another_range,
    answer,
    chunked,
    chunked_and_cut,
    cut,
    dribble,
    endless,
    hang_up,
    ignore_range,
    no_length,
    refuse_range,
    serve,
)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(fetch, "WAIT", 0)
    with Server(random.Random(0).randbytes(235_520)) as server:
        yield server


@pytest.mark.parametrize("behaviour", [serve, dribble, no_length, chunked])
def test_a_file_is_fetched_whole(behaviour, server, tmp_path):
    server.does(behaviour)
    fetch.fetch(server.file, tmp_path / "part")
    assert not server.file.mismatch(tmp_path / "part")
    assert [agent for *_, agent in server.requests] == [f"crackclf/{crackclf.__version__}"]


@pytest.mark.parametrize("behaviour", [serve, dribble, announce(1 << 40, True)])
def test_a_part_file_is_resumed(behaviour, server, tmp_path, capsys):
    (tmp_path / "part").write_bytes(server.body[:70_000])
    server.does(behaviour)
    fetch.fetch(server.file, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == server.body
    assert server.asked() == ["bytes=70000-"]
    assert "30%" in capsys.readouterr().err


@pytest.mark.parametrize("behaviour", [ignore_range, another_range, refuse_range, no_length])
def test_a_download_that_cannot_be_resumed_starts_again(behaviour, server, tmp_path):
    (tmp_path / "part").write_bytes(b"x" * 70_000)
    server.does(behaviour)
    fetch.fetch(server.file, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == server.body


def test_a_part_file_too_long_starts_again_and_a_full_one_is_not_requested(server, tmp_path):
    (tmp_path / "part").write_bytes(server.body + b"x")
    fetch.fetch(server.file, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == server.body
    fetch.fetch(server.file, tmp_path / "part")
    assert server.asked() == [None]


def test_broken_connections_are_retried(server, tmp_path):
    server.does(answer(500), cut(50_000), answer(429), hang_up, chunked_and_cut, cut(50_001), serve)
    (tmp_path / "part").write_bytes(server.body[:10])
    with pytest.raises(UserError, match="50,001 bytes are kept"):
        fetch.fetch(server.file, tmp_path / "part")
    fetch.fetch(server.file, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == server.body
    ends = [10, 10, 50_000, 50_000, 50_000, 5000, 50_001]  # The chunked one started again.
    assert server.asked() == [f"bytes={end}-" for end in ends]


def test_retries_go_on_while_there_is_progress(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "PROGRESS", 10_000)
    server.does(*[cut(end) for end in range(10_000, 230_000, 10_000)], serve)
    fetch.fetch(server.file, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == server.body
    assert len(server.requests) == 23


@pytest.mark.parametrize(
    "behaviour",
    [cut(60_000), lambda handler, body, start: serve(handler, body, 0, end=60_000), answer(503)],
    ids=["stuck at a byte", "always from the start", "busy"],
)
def test_retries_end_without_progress(behaviour, server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "PROGRESS", 10_000)
    server.does(behaviour)
    with pytest.raises(UserError, match=f"^{server.url}: "):
        fetch.fetch(server.file, tmp_path / "part")
    assert len(server.requests) <= 7


def test_a_silent_server_times_out(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "TIMEOUT", 0.02)
    done = threading.Event()

    def silent(handler, body, start):
        serve(handler, body, start, end=start + 1000)
        done.wait(10)

    server.does(silent)
    with pytest.raises(UserError, match=r"timed out.*6,000 bytes are kept"):
        fetch.fetch(server.file, tmp_path / "part")
    done.set()


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (announce(0), "another file.*announces 0"),
        (announce(1234), "another file: expected 256,000 bytes, it announces 1,234"),
        (announce(1 << 40), "another file"),
        (answer(206, Content_Range="bytes 50000-99/99"), "another file"),
        (answer(403), "answered 403 Forbidden"),
        (answer(404), "answered 404 Not Found"),
        (answer(302, Location="file:///etc/passwd"), "answered 302"),
        (answer(302, Location="http://127.0.0.1:1/"), "cannot be reached"),
    ],
)
def test_a_refusal_ends_at_once_and_keeps_the_part_file(behaviour, words, server, tmp_path):
    server.body = server.body.ljust(256_000)
    remote = RemoteFile(server.url, 256_000, "")
    (tmp_path / "part").write_bytes(server.body[:50_000])
    server.does(behaviour)
    with pytest.raises(UserError, match=rf"^{server.url}: .*{words}.*50,000 bytes are kept in "):
        fetch.fetch(remote, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == server.body[:50_000]
    assert len(server.requests) == 1


def test_no_more_bytes_are_read_than_the_file_has(server, tmp_path):
    server.does(endless)
    fetch.fetch(server.file, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == server.body


def test_a_redirection_keeps_the_range(server, tmp_path):
    (tmp_path / "part").write_bytes(server.body[:99])
    server.does(answer(302, Location="/elsewhere"), serve)
    fetch.fetch(server.file, tmp_path / "part")
    assert [request[:2] for request in server.requests] == [
        ("/metu.rar", "bytes=99-"),
        ("/elsewhere", "bytes=99-"),
    ]
    assert (tmp_path / "part").read_bytes() == server.body


def test_no_network_ends_at_once(server, tmp_path):
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(UserError, match=r"cannot be reached.*Nothing was downloaded"):
        fetch.fetch(server.file, tmp_path / "part")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_named(server, tmp_path):
    (tmp_path / "part").symlink_to("/dev/full")
    with pytest.raises(UserError, match=rf"^{tmp_path}/part: No space left on device after"):
        fetch.fetch(server.file, tmp_path / "part")


@pytest.mark.parametrize(
    "behaviour",
    [
        answer(302, Location="/metu.rar"),
        answer(403, "\x1b[2J Saved in model"),
        answer(206, Content_Range="bytes " + "9" * 5000 + "-9/9"),
        answer(200, **{f"X_{number}": "x" for number in range(200)}),
        answer(200, X="x" * 100_000),
        answer(200, Content_Length="-1"),
        answer(200, Content_Length="9" * 5000),
    ],
    ids=["loop", "forged", "long range", "many headers", "long header", "negative", "long number"],
)
def test_a_server_that_means_ill_is_left(behaviour, server, tmp_path):
    server.does(behaviour)
    (tmp_path / "part").write_bytes(server.body[:50_000])
    with pytest.raises(UserError, match=rf"^{server.url}: .*bytes are kept in ") as refused:
        fetch.fetch(server.file, tmp_path / "part")
    assert str(refused.value).isprintable()
    assert "Saved" not in str(refused.value)
    assert len(server.requests) <= 30
