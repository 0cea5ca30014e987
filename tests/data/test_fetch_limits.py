"""Fetching ends in bytes and in time, whatever a server does, and two processes do not meet."""

import fcntl
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep
from types import SimpleNamespace
from typing import Any, BinaryIO

import pytest

from benchmark.core.errors import UsageError
from benchmark.data import archives
from benchmark.data.remote import download
from benchmark.data.remote.fetch import FetchError
from benchmark.data.remote.remote_file import Remote
from tests.data.fetching import CONTENT, SHA256, get, part, remote
from tests.server import Site


@pytest.fixture
def wild(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Remote]]:
    """A server that answers with whatever bytes a function sends, and what to fetch there; limits are small."""
    sends: list[Callable[[socket.socket], None]] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve_all() -> None:
        with suppress(OSError):
            while True:
                connection = listener.accept()[0]
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(2**16)
            sends[0](connection)

    threading.Thread(target=serve_all, daemon=True).start()
    for name, value in {"WINDOW": 0.4, "ANSWER": 1.0, "SLOWEST": 1000}.items():
        monkeypatch.setattr(download, name, value)
    monkeypatch.setattr(archives, "LIMIT", 2**20)

    def wanted(send: Callable[[socket.socket], None], **changes: Any) -> Remote:
        sends[:] = [send]
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/f"
        return replace(Remote("sub/file.bin", "free", "https://o.example", (url,), SHA256), **changes)

    yield wanted
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def endless(connection: socket.socket, head: str, block: bytes, pause: float) -> None:
    connection.sendall(f"HTTP/1.1 {head}\r\n\r\n".encode("latin1"))
    for _ in range(2000 if block else 0):
        connection.sendall(block)
        sleep(pause)


@pytest.mark.parametrize(
    ("head", "block", "pause", "says"),
    [
        (
            f"200 OK\r\nContent-Length: {10**15}",
            bytes(2**16),
            0,
            "the server has 1,000,000,000,000,000 bytes; the limit is",
        ),
        ("200 OK", bytes(2**16), 0, "the server sends more than 1048576 bytes"),
        ("200 OK\r\nContent-Length: -5", bytes(2**16), 0, "the server sends more than 1048576 bytes"),
        (
            "200 OK\r\nTransfer-Encoding: chunked",
            b"10000\r\n" + bytes(2**16) + b"\r\n",
            0,
            "the server sends more than",
        ),
        ("200 OK", b"x", 0.05, "too slow"),
        ("200 OK\r\nContent-Length: 9999", b"x", 0.05, "too slow"),
        ("404 \x1b]0;owned\x07\x1b[31mGone", b"", 0, r"404 .x1b\]0;owned.x07.x1b.31mGone$"),
        ("206 Partial Content", b"x", 0, "206 Partial Content"),
        ("204 No Content", b"", 0, "204 No Content"),
        ("302 Found\r\nLocation: /f", b"", 0, "leads on to other addresses more than 10 times"),
        ("302 Found\r\nLocation: /f", bytes(2**16), 0, "leads on to other addresses more than 10 times"),
        ("302 Found\r\nLocation: file:///etc/passwd", b"", 0, "No connection adapters"),
        ("200 OK\r\nX: " + "x" * 70000, b"", 0, "line"),
    ],
    ids=range(13),
)
def test_a_server_ends_in_bytes_and_in_time(
    wild: Callable[..., Remote], tmp_path: Path, head: str, block: bytes, pause: float, says: str
) -> None:
    started = monotonic()
    wanted = wild(lambda connection: endless(connection, head, block, pause))
    with pytest.raises(FetchError, match=f"(?m){says}") as raised:
        get(wanted, tmp_path)
    assert all(line.isprintable() for line in str(raised.value).split("\n"))
    assert monotonic() - started < 15
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 2**20


def test_an_answer_that_never_comes_to_its_end(wild: Callable[..., Remote], tmp_path: Path) -> None:
    def drip(connection: socket.socket) -> None:
        for letter in "HTTP/1.1 200 OK\r\nX: " + "x" * 500:
            connection.sendall(letter.encode())
            sleep(0.1)

    with pytest.raises(FetchError, match="no answer within 1 s"):
        get(wild(drip), tmp_path)


def test_a_server_that_goes_on_by_a_byte_is_given_up(wild: Callable[..., Remote], tmp_path: Path) -> None:
    asked: list[int] = []

    def one_more(connection: socket.socket) -> None:
        asked.append(1)
        have = len(asked) - 1
        ranged = f"206 Partial Content\r\nContent-Range: bytes {have}-{10**6}/{10**6}"
        head = f"HTTP/1.1 {ranged if have else '200 OK'}\r\nContent-Length: {10**6 - have}\r\n\r\nx"
        connection.sendall(head.encode())
        sleep(0.02)

    with pytest.raises(FetchError, match="too slow"):
        get(wild(one_more), tmp_path)
    assert 2 < len(asked) < 100


def test_a_full_disk_is_noticed_before(site: Site, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"needs [\d,]+ bytes there, [\d,]+ are free; make room"):
        get(remote(site, size=10**18), tmp_path)
    assert site.asked == []


@pytest.mark.parametrize("unpacked", [0, 1])
@pytest.mark.parametrize("short", [0, 1])
def test_what_is_there_already_needs_no_room(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unpacked: int, short: int
) -> None:
    """What is missing of the file, and once more its size where it is an archive."""
    size = len(CONTENT)
    wanted = remote(site, unpacked={"sub/file": ""} if unpacked else {})
    part(tmp_path).write_bytes(CONTENT[:-10])
    free = 10 + unpacked * size - short
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    told = f"needs {10 + unpacked * size:,} bytes there, {free:,} are free" if short else "cannot be unpacked"
    with pytest.raises((UsageError, FetchError), match=told) if short or unpacked else nullcontext():
        get(wanted, tmp_path)
    assert len(site.asked) == 1 - short


def test_two_processes_do_not_write_one_part(site: Site, tmp_path: Path) -> None:
    script = (
        "import fcntl, sys; f = open(sys.argv[1], 'ab'); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, part(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(UsageError, match="another process is downloading it"):
            get(remote(site), tmp_path)
        other.communicate(b"\n")
    get(remote(site), tmp_path)


def test_a_file_that_was_put_in_place_before_its_part_was_locked_is_left_alone(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part(tmp_path).write_bytes(b"whole")
    lock = fcntl.flock

    def late(file: BinaryIO, how: int) -> None:
        part(tmp_path).rename(tmp_path / "sub/file.bin")
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(UsageError, match="another process was downloading it; try again"):
        get(remote(site, hash="", size=0), tmp_path)
    assert (tmp_path / "sub/file.bin").read_bytes() == b"whole"


def test_a_file_without_an_address_is_explained(site: Site, tmp_path: Path) -> None:
    with pytest.raises(
        FetchError, match=f"put it here: {tmp_path}/sub/file.bin. The hash of file.bin must be {SHA256}"
    ):
        get(remote(site, urls=()), tmp_path)
