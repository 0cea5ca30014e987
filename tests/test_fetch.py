"""Downloads from a server on this machine: mirrors, resuming, damage, unpacking; and the commands around them."""

import gzip
import hashlib
import io
import json
import os
import socket
import stat
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from benchmark import archives, data_cli, download, fetch, registry, sources, sources_cifar_c
from benchmark.errors import UsageError
from benchmark.fetch import FetchError
from benchmark.remote import Remote, hash_of, record_path, states
from tests.conftest import ROOT
from tests.server import Site, serve

CONTENT = bytes(range(256)) * 20_000  # 5 MB: several blocks
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


@pytest.fixture
def site() -> Iterator[Site]:
    with serve(Site({"/good/file.bin": CONTENT})) as running:
        yield running


def remote(site: Site, *paths: str, **changes: Any) -> Remote:
    """The file of the fixture, by default from its good address."""
    urls = tuple(site.address + path for path in paths or ("/good/file.bin",))
    plain = Remote("sub/file.bin", "free for tests", "https://origin.example", urls, SHA256, len(CONTENT))
    return replace(plain, **changes)


def get(wanted: Remote, root: Path) -> str:
    return fetch.fetch(wanted, root, lambda done, total: None)


def names(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def part(root: Path) -> Path:
    path = root / "sub" / "file.bin.part"
    path.parent.mkdir(exist_ok=True)
    return path


# Downloads


def test_a_file_is_placed_whole_with_its_record(site: Site, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    wanted = remote(site)
    assert fetch.fetch(wanted, tmp_path, lambda done, total: seen.append((done, total))) == wanted.urls[0]
    assert (tmp_path / "sub/file.bin").read_bytes() == CONTENT
    assert names(tmp_path) == {"sub/file.bin", "sub/file.bin.source.json"}
    record = json.loads(record_path(wanted, tmp_path).read_text(encoding="utf-8"))
    assert (record["from"], record["hash"], record["licence"]) == (wanted.urls[0], SHA256, "free for tests")
    assert record["date"].startswith("20")
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert seen == sorted(seen)


def test_a_dead_mirror_gives_way_to_the_next(site: Site, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{unused.getsockname()[1]}/file.bin"
        wanted = remote(site, "/gone", "/good/file.bin")
        wanted = replace(wanted, urls=(closed, *wanted.urls))
        assert get(wanted, tmp_path) == wanted.urls[2]
    assert (tmp_path / "sub/file.bin").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("damage", "size", "message"),
    [
        (b"<html>moved</html>", len(CONTENT), f"it is 18 bytes there, not {len(CONTENT)}"),
        (CONTENT[:-1] + b"?", len(CONTENT), "does not match the known hash"),
        (b"<html>moved</html>", 0, "does not match the known hash"),
    ],
)
def test_a_mirror_with_other_bytes_is_passed_over(
    site: Site, tmp_path: Path, damage: bytes, size: int, message: str
) -> None:
    site.files["/bad"] = damage
    with pytest.raises(FetchError, match=message) as raised:
        get(remote(site, "/bad", size=size), tmp_path)
    raised.match(f"put it here: {tmp_path}/sub/file.bin. The hash of file.bin must be {SHA256}")
    raised.match("https://origin.example")
    assert "sub/file.bin" not in names(tmp_path)
    assert get(remote(site, "/bad", "/good/file.bin", size=size), tmp_path).endswith("/good/file.bin")
    assert names(tmp_path) == {"sub/file.bin", "sub/file.bin.source.json"}


def test_a_transfer_that_breaks_off_goes_on_where_it_was(site: Site, tmp_path: Path) -> None:
    site.breaks_after = 2_000_000
    get(remote(site), tmp_path)
    assert [wanted for _, wanted in site.asked] == ["", "bytes=2000000-", "bytes=4000000-"]
    assert (tmp_path / "sub/file.bin").read_bytes() == CONTENT


def test_an_interrupted_process_goes_on_where_it_was(site: Site, tmp_path: Path) -> None:
    class Interrupt(BaseException): ...

    def interrupt(done: int, total: int) -> None:
        if done > 2_000_000:
            raise Interrupt

    with pytest.raises(Interrupt):
        fetch.fetch(remote(site), tmp_path, interrupt)
    kept = part(tmp_path).stat().st_size
    assert 2_000_000 < kept < len(CONTENT)
    assert names(tmp_path) == {"sub/file.bin.part"}
    site.asked.clear()
    get(remote(site), tmp_path)
    assert site.asked == [("/good/file.bin", f"bytes={kept}-")]
    assert (tmp_path / "sub/file.bin").read_bytes() == CONTENT


def test_a_server_without_ranges_starts_again(site: Site, tmp_path: Path) -> None:
    site.ranges = False
    part(tmp_path).write_bytes(CONTENT[:1000])
    get(remote(site), tmp_path)
    assert site.asked == [("/good/file.bin", "bytes=1000-")]
    assert (tmp_path / "sub/file.bin").read_bytes() == CONTENT


def test_a_server_that_always_breaks_off_is_given_up(site: Site, tmp_path: Path) -> None:
    site.ranges, site.breaks_after = False, 2_000_000
    with pytest.raises(FetchError, match=r"file.bin: .*(IncompleteRead|broke off)"):
        get(remote(site), tmp_path)
    assert len(site.asked) <= 4


@pytest.mark.parametrize("length", [True, False])
def test_a_part_of_another_file_is_not_built_upon(site: Site, tmp_path: Path, length: bool) -> None:
    site.length = length
    part(tmp_path).write_bytes(b"x" * 1000)
    get(remote(site, size=len(CONTENT) * length), tmp_path)
    assert [wanted for _, wanted in site.asked] == ["bytes=1000-", ""]
    assert (tmp_path / "sub/file.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("longer", [0, 7])
def test_a_part_as_long_as_the_file_or_longer(site: Site, tmp_path: Path, longer: int) -> None:
    part(tmp_path).write_bytes(CONTENT + b"x" * longer)
    get(remote(site), tmp_path)
    assert len(site.asked) == (2 if longer else 0)
    assert (tmp_path / "sub/file.bin").read_bytes() == CONTENT


def test_without_a_published_hash_nothing_is_resumed_and_the_hash_found_is_kept(site: Site, tmp_path: Path) -> None:
    part(tmp_path).write_bytes(CONTENT[:1000])
    wanted = remote(site, hash="", size=0)
    get(wanted, tmp_path)
    assert site.asked == [("/good/file.bin", "")]
    (state,) = states(wanted, tmp_path)
    assert (state.status, state.found) == ("recorded", SHA256)
    (tmp_path / "sub/file.bin").write_bytes(CONTENT[1:])
    (state,) = states(wanted, tmp_path)
    assert state.status == "wrong"
    assert "as when it was fetched" in state.detail


def test_a_damaged_record_is_named(site: Site, tmp_path: Path) -> None:
    get(remote(site, hash=""), tmp_path)
    record_path(remote(site), tmp_path).write_text("{")
    with pytest.raises(UsageError, match=r"file.bin.source.json is damaged; delete it"):
        list(states(remote(site), tmp_path))


@pytest.mark.parametrize(
    "content",
    ["[]", "3", '{"files": 3}', '{"files": {"sub/file.bin": 5}}', '{"files": {"sub/file.bin": "shake_128:00"}}', "\xff",
     '{"files": {"sub/file.bin": "crc:00"}}', "[" * 100_000, None, "pipe"],
)  # fmt: skip
def test_whatever_is_in_a_record_s_place_is_one_message(site: Site, tmp_path: Path, content: str | None) -> None:
    path = record_path(remote(site), tmp_path)
    path.parent.mkdir()
    if content is None:
        path.mkdir()
    elif content == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(content.encode("latin1"))
    (tmp_path / "sub/file.bin").write_bytes(CONTENT)
    with pytest.raises(UsageError, match=r"file.bin.source.json is damaged; delete it"):
        list(states(remote(site, hash=""), tmp_path))
    if content in (None, "pipe"):
        with pytest.raises(UsageError, match=r"source.json: a (folder|pipe) is in the place of a file; move it away"):
            get(remote(site), tmp_path)


@pytest.mark.parametrize("name", ["sub/file.bin", "sub/file.bin.part", "sub"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
def test_what_is_in_a_file_s_place_is_named_and_not_written_to(
    site: Site, tmp_path: Path, name: str, kind: str
) -> None:
    path, elsewhere = tmp_path / "data" / name, tmp_path / "elsewhere"
    path.parent.mkdir(parents=True)
    elsewhere.write_text("mine")
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(elsewhere)
    if (name, kind) in (("sub", "folder"), ("sub/file.bin", "link")):
        get(remote(site), tmp_path / "data")
    else:
        with pytest.raises(UsageError, match=str(path)):
            get(remote(site), tmp_path / "data")
    assert elsewhere.read_text() == "mine"


# Servers without measure


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
        (f"200 OK\r\nContent-Length: {10**15}", bytes(2**16), 0, "1,000,000,000,000,000 bytes there; no more than"),
        ("200 OK", bytes(2**16), 0, "it goes on after 1048576 bytes"),
        ("200 OK\r\nContent-Length: -5", bytes(2**16), 0, "it goes on after 1048576 bytes"),
        ("200 OK\r\nTransfer-Encoding: chunked", b"10000\r\n" + bytes(2**16) + b"\r\n", 0, "it goes on after"),
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


def test_a_file_without_an_address_is_explained(site: Site, tmp_path: Path) -> None:
    with pytest.raises(
        FetchError, match=f"put it here: {tmp_path}/sub/file.bin. The hash of file.bin must be {SHA256}"
    ):
        get(remote(site, urls=()), tmp_path)


# Unpacking


def tarred(files: dict[str, bytes], kind: bytes = tarfile.REGTYPE, mode: Any = "w:gz") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.type, member.linkname = len(content), kind, "/etc/passwd"
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def zipped(files: dict[str, bytes], mode: int = 0) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return file.getvalue()


def twice(*names: str, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A tar archive of INSIDE but 'set/two/a', and of entries of these names, which need not be different."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", format=tarfile.GNU_FORMAT) as archive:
        for name in [*(name for name in INSIDE if name != "set/two/a"), *names]:
            member = tarfile.TarInfo(name)
            member.type, member.size = (tarfile.REGTYPE if name in INSIDE else kind), len(INSIDE.get(name, b""))
            archive.addfile(member, io.BytesIO(INSIDE.get(name, b"")))
    return file.getvalue()


INSIDE = {"set/one": b"1" * 3000, "set/two/a": b"2", "set/two/b": b"3", "other": b"4"}
UNPACKED = {"deep/set/one": f"sha256:{hashlib.sha256(INSIDE['set/one']).hexdigest()}", "deep/set/two/": ""}


def packed(site: Site, content: bytes, name: str, **changes: Any) -> Remote:
    site.files[f"/{name}"] = content
    found = f"sha256:{hashlib.sha256(content).hexdigest()}"
    plain = Remote(f"deep/{name}", "free", "https://origin.example", (f"{site.address}/{name}",), found)
    return replace(plain, **({"unpacked": UNPACKED} | changes))


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tar", "x.zip"])
def test_what_is_wanted_is_unpacked_and_the_rest_left(site: Site, tmp_path: Path, name: str) -> None:
    content = zipped(INSIDE) if name == "x.zip" else tarred(INSIDE, mode="w:gz" if name == "x.tar.gz" else "w")
    wanted = packed(site, content, name)
    get(wanted, tmp_path)
    assert names(tmp_path) == {"deep/set/one", "deep/set/two/a", "deep/set/two/b", f"deep/{name}.source.json"}
    assert (tmp_path / "deep/set/one").read_bytes() == INSIDE["set/one"]
    assert [state.status for state in states(wanted, tmp_path)] == ["right", "recorded"]
    (tmp_path / "deep/set/two/b").write_bytes(b"!")
    assert [state.status for state in states(wanted, tmp_path)] == ["right", "wrong"]
    (tmp_path / "deep/set/two/stranger").write_bytes(b"!")
    get(wanted, tmp_path)  # a folder is replaced as a whole
    assert [state.status for state in states(wanted, tmp_path)] == ["right", "recorded"]


def test_a_gz_file_becomes_its_content(site: Site, tmp_path: Path) -> None:
    get(packed(site, gzip.compress(CONTENT), "file.gz", unpacked={"deep/file": SHA256}), tmp_path)
    assert (tmp_path / "deep/file").read_bytes() == CONTENT


def test_an_archive_put_there_by_hand_is_used_and_kept(site: Site, tmp_path: Path) -> None:
    wanted = packed(site, tarred(INSIDE), "x.tar.gz")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/x.tar.gz").write_bytes(tarred(INSIDE)[:-1])
    with pytest.raises(FetchError, match="has another hash than"):
        get(wanted, tmp_path)
    (tmp_path / "deep/x.tar.gz").write_bytes(site.files["/x.tar.gz"])
    assert get(wanted, tmp_path) == str(tmp_path / "deep/x.tar.gz")
    assert site.asked == []
    assert (tmp_path / "deep/x.tar.gz").exists()
    assert (tmp_path / "deep/set/one").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tarred(INSIDE | {"../outside": b"x"}), r"'../outside' leads out of the archive"),
        (tarred(INSIDE | {"/outside": b"x"}), r"'/outside' leads out of the archive"),
        (tarred(INSIDE | {"set/two/../../../outside": b"x"}), "leads out of the archive"),
        (zipped(INSIDE | {"../outside": b"x"}), r"'../outside' leads out of the archive"),
        (zipped(INSIDE | {"C:/outside": b"x"}), "leads out of the archive"),
        (tarred(INSIDE | {"set/two/link": b""}, tarfile.SYMTYPE), "is not a plain file"),
        (tarred(INSIDE | {"set/two/link": b""}, tarfile.LNKTYPE), "is not a plain file"),
        (tarred(INSIDE | {"set/two/pipe": b""}, tarfile.FIFOTYPE), "is not a plain file"),
        (zipped(INSIDE, stat.S_IFLNK | 0o777), "is not a plain file"),
        (tarred({"set/one": b"1" * 3000}), "does not hold set/two/"),
        (tarred(INSIDE | {"set/one": b"other"}), "'set/one' in it has another hash"),
        (zipped(INSIDE | {"a\\..\\..\\outside": b"x"}), "leads out of the archive"),
        (tarred(INSIDE, kind=tarfile.CHRTYPE), "is not a plain file"),
        (twice("set/two/a", "set/two/a"), "'set/two/a' is in it twice"),
        (twice("set/two/a", "./set//two/a"), "'set/two/a' is in it twice"),
        (twice("set/two/a", "set/two/A"), "'set/two/A' and 'set/two/a' are one name on some systems"),
        (twice("set/two/caf\u00e9", "set/two/cafe\u0301"), "are one name on some systems"),
        (twice("set/two/\x1b[31m\udcff", kind=tarfile.SYMTYPE), r"'set/two/.x1b.31m.udcff' is not a plain file"),
        (tarred(INSIDE)[:60], "cannot be unpacked"),
        (b"<html>", "cannot be unpacked"),
    ],
    ids=range(20),  # an archive holds the time it was made at, and its bytes as a name would differ between processes
)
def test_wicked_and_damaged_archives_place_nothing(site: Site, tmp_path: Path, content: bytes, message: str) -> None:
    root = tmp_path / "data"
    with pytest.raises(FetchError, match=message):
        get(packed(site, content, "x.tar.gz" if content[:2] != b"PK" else "x.zip"), root)
    assert names(tmp_path) <= {"data/deep/x.tar.gz", "data/deep/x.zip"}


@pytest.mark.parametrize("make", [tarred, zipped])
def test_what_unpacks_to_too_much_is_refused(tmp_path: Path, make: Any) -> None:
    (tmp_path / "x").write_bytes(make(INSIDE))
    with pytest.raises(ValueError, match="unpacks to more than 2000 bytes"):
        archives.unpack(tmp_path / "x", {"set/two/"}, tmp_path / "out", limit=2000)  # the unwanted counts too


def test_names_that_are_not_utf8_are_unpacked_and_hashed(site: Site, tmp_path: Path) -> None:
    wanted = packed(site, twice("set/two/a", "set/two/\udcff"), "x.tar.gz", unpacked={"deep/set/two/": ""})
    get(wanted, tmp_path)
    assert (tmp_path / "deep/set/two" / os.fsdecode(b"\xff")).is_file()
    assert [state.status for state in states(wanted, tmp_path)] == ["recorded"]


@pytest.mark.parametrize(("size", "kind"), [(2**33, b"x"), (2**33, b"L"), (2**21, b"g"), (-512, b"0"), (-512, b"5")])
def test_sizes_in_a_tar_archive_are_looked_at_before_they_are_believed(tmp_path: Path, size: int, kind: bytes) -> None:
    member = tarfile.TarInfo("set/one")
    member.type, member.size = kind, size
    (tmp_path / "x.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(10**5))
    with pytest.raises((ValueError, tarfile.TarError)):
        archives.unpack(tmp_path / "x.tar", {"set/one"}, tmp_path / "out")


def test_an_archive_of_endless_entries_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "ENTRIES", 3)
    (tmp_path / "x").write_bytes(tarred(INSIDE))
    with pytest.raises(ValueError, match="or 3 files"):
        archives.unpack(tmp_path / "x", {"set/two/"}, tmp_path / "out")


@pytest.mark.parametrize("name", ["x.tar", "x.gz"])
def test_an_archive_is_a_plain_file(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match="it is a pipe"):
        archives.unpack(tmp_path / name, {"x"}, tmp_path / "out")
    with pytest.raises(ValueError, match="it is a pipe"):
        archives.read_files(tmp_path / name, ["x"])


def test_a_gz_bomb_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.gz").write_bytes(gzip.compress(bytes(10**7)))
    with pytest.raises(ValueError, match="unpacks to more than 1000000 bytes"):
        archives.unpack(tmp_path / "x.gz", {"x"}, tmp_path / "out", limit=10**6)


# The command

PLUGIN = '''"""Two files, no images."""
from benchmark import data
from benchmark.method import frozen
from benchmark.remote import Remote

@frozen()
class Dataset(data.Dataset):
    classes, domains, sources = ("a",), ("one",), ("one",)
    licence, citation = "free", "nobody"

    def remotes(self):
        return (
            Remote("first.bin", "free as air", "https://origin.example", ("{address}/first.bin",), "{first}"),
            Remote("second.bin", "free", "https://origin.example", ("{address}/second.bin",), "{second}"),
        )
'''


@pytest.fixture
def plugged(site: Site, tmp_path: Path) -> Iterator[Site]:
    """A dataset `two` whose second file the server does not have."""
    site.files |= {"/first.bin": b"first"}
    first, second = (f"sha256:{hashlib.sha256(text).hexdigest()}" for text in (b"first", b"second"))
    plugin = tmp_path / "two.py"
    plugin.write_text(PLUGIN.replace("{address}", site.address).replace("{first}", first).replace("{second}", second))
    registry.load_plugins([plugin])
    yield site
    registry.load_plugins([])


def test_fetch_says_what_it_does_and_what_is_left_to_do(
    plugged: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fetch", "two", "--data-dir", str(tmp_path / "d")]
    assert data_cli.main(words) == 1
    out, err = capsys.readouterr()
    assert "first.bin: licence: free as air; from https://origin.example" in out
    assert f"{tmp_path}/d/first.bin: right, sha256:" in out
    assert "second.bin: no address gave it:" in err
    assert "404" in err
    assert f"put it here: {tmp_path}/d/second.bin. The hash of second.bin must be sha256:" in err
    plugged.files["/second.bin"] = b"second"
    assert data_cli.main(words) == 0
    out, err = capsys.readouterr()
    assert "first.bin: there already" in out
    assert "everything is there" in out
    assert err == ""
    (tmp_path / "d/first.bin").write_bytes(b"worst")
    assert data_cli.main(words) == 0  # a damaged file is fetched again
    assert (tmp_path / "d/first.bin").read_bytes() == b"first"


def test_a_substitute_is_as_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def refuse(wanted: Remote, root: Path, progress: object) -> str:
        tried.append(wanted.path)
        raise FetchError("no network here")

    monkeypatch.setattr(fetch, "fetch", refuse)
    (tmp_path / "mnist_m_test.tar").write_bytes(b"")
    assert data_cli.main(["fetch", "digits", "--data-dir", str(tmp_path)]) == 1
    assert "mnist_m.tar.gz" not in tried
    assert "test_32x32.mat" in tried
    tried.clear()
    words = ["fetch", "digits", "--data-dir", str(tmp_path), "--set", "digits.mnist_m=pickle10k"]
    assert data_cli.main(words) == 1
    assert "keras_mnistm.pkl.gz" in tried


def test_what_no_host_offers_is_named_with_its_places(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert data_cli.main(["fetch", "pacs", "--data-dir", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    for domain in ("art_painting", "cartoon", "photo", "sketch"):
        assert f"pacs/{domain}: its images are missing. Put them here: {tmp_path}/PACS/kfold/{domain}" in said
    assert "sketchx.eecs.qmul.ac.uk" in said


def test_a_reader_that_leaves_is_no_error() -> None:
    script = "import sys; from benchmark.errors import leave; leave(lambda: print('x' * 2**20) or 0)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.parametrize("code", [0, 130])
def test_no_program_is_taken_apart_at_its_end(code: int) -> None:
    script = (
        "import atexit; from benchmark.errors import leave\n"
        "class Large:\n    def __del__(self): print('taken apart', flush=True)\n"
        "large = Large(); atexit.register(print, 'tidied'); print('last words')\n"
        f"leave(lambda: {code})"
    )
    ended = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=False)
    assert ended.returncode == code
    assert ended.stdout == b"last words\ntidied\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fetch", "digit"], "did you mean 'digits'"),
        (["verify", "digit"], "did you mean 'digits'"),
        (["fetch", "minidigits"], "'minidigits' has nothing to fetch; it needs no files"),
        (["fetch", "digits", "--set", "digits.colour=1"], "no setting 'colour'"),
        (["fetch", "digits", "--set", "pacs.x=1"], "settings of 'digits'"),
        (["verify", "--set", "digits.resize=lanczos"], "name the dataset, too"),
        (["verify", "digits", "--data-dir", "nowhere"], "--data-dir nowhere: no such folder"),
    ],
)
def test_bad_use_is_one_message(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert data_cli.main(words) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err


def test_an_interruption_is_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(fetch, "fetch", interrupt)
    assert data_cli.main(["fetch", "digits", "--data-dir", str(tmp_path)]) == 130
    assert "the same command goes on from here" in capsys.readouterr().err


def test_verify_needs_something_to_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert data_cli.main(["verify", "--data-dir", str(tmp_path)]) == 1
    assert "no dataset that can be fetched has files there" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["fetch"], ["fetcch", "digits"], ["list", "digits"]])
def test_wrong_words_exit_with_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        data_cli.main(words)
    assert raised.value.code == 2


def test_the_module_runs_and_lists(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmark.data", "list", "--data-dir", str(tmp_path)],
        capture_output=True, text=True, check=True, cwd=ROOT, env=os.environ,
    )  # fmt: skip
    assert "digits: MNIST against SVHN" in done.stdout
    assert sources.SVHN_TEST.hash in done.stdout
    assert "non-commercial" in done.stdout
    assert done.stderr == ""


# The tables of addresses

EVERY = [*sources.MNIST, *(value for module in (sources, sources_cifar_c) for value in vars(module).values())]


@pytest.mark.parametrize("entry", [entry for entry in EVERY if isinstance(entry, Remote)], ids=lambda entry: entry.path)
def test_the_tables_are_well_formed(entry: Remote) -> None:
    lengths = {"md5": 32, "sha256": 64}
    for found in (entry.hash, *entry.unpacked.values(), *entry.copies):
        kind, _, digest = found.partition(":")
        assert not found or (len(digest) == lengths[kind] and set(digest) <= set("0123456789abcdef"))
    assert all(url.startswith(("https://", "http://")) for url in entry.urls)
    assert entry.licence
    assert entry.origin.startswith("http")
    assert not any(place.startswith("/") or ".." in place for place in (entry.path, *entry.places))


def test_the_hashes_are_torchvisions(data_dir: Path) -> None:
    """MD5s that torchvision states for MNIST's unpacked files hold for the files whose SHA-256 the table has."""
    md5 = ["6bbc9ace898e44ae57da46a324031adb", "a25bea736e30d166cdddb491f175f624"]
    for entry, expected in zip(sources.MNIST[:2], md5, strict=True):
        ((place, sha256),) = entry.unpacked.items()
        if not (data_dir / place).is_file():
            pytest.skip(f"no {data_dir / place}")
        assert hash_of(data_dir / place, "sha256") == sha256
        assert hash_of(data_dir / place, "md5") == f"md5:{expected}"
