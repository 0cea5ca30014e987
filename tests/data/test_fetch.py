"""Downloads from a server on this machine: mirrors, resuming, damaged transfers and records."""

import hashlib
import json
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.core.errors import UsageError
from benchmark.data.remote import fetch
from benchmark.data.remote.fetch import FetchError
from benchmark.data.remote.remote_file import Remote, record_path, states
from tests.data.fetching import CONTENT, SHA256, get, names, part, remote
from tests.server import Site


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


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (CONTENT, "right", ""),
        (b"packed anew", "copy", "the same lines, packed anew"),
        (b"neither", "wrong", f"its hash must be {SHA256}"),
    ],
)
def test_another_copy_that_circulates_is_told_from_a_damaged_file(
    content: bytes, status: str, said: str, tmp_path: Path
) -> None:
    known = {f"sha256:{hashlib.sha256(b'packed anew').hexdigest()}": "the same lines, packed anew"}
    wanted = Remote("file.bin", "free", "https://origin.example", hash=SHA256, copies=known)
    (tmp_path / "file.bin").write_bytes(content)
    (found,) = states(wanted, tmp_path)
    assert (found.status, found.detail) == (status, said)


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
        (b"<html>moved</html>", len(CONTENT), f"the server has 18 bytes, not {len(CONTENT)}"),
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


def test_what_has_come_stays_where_the_network_goes_down(site: Site, tmp_path: Path) -> None:
    part(tmp_path).write_bytes(CONTENT[:1_000_000])
    site.breaks_after = 1_500_000

    def down(done: int, total: int) -> None:
        if done >= 2_500_000:
            site.files.clear()

    with pytest.raises(FetchError, match="404"):
        fetch.fetch(remote(site), tmp_path, down)
    assert part(tmp_path).read_bytes() == CONTENT[:2_500_000]


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


def test_a_process_interrupted_while_it_hashes_keeps_what_has_come(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(fetch, "hash_of", interrupt)
        with pytest.raises(KeyboardInterrupt):
            get(remote(site), tmp_path)
    assert names(tmp_path) == {"sub/file.bin.part"}
    get(remote(site), tmp_path)
    assert len(site.asked) == 1
    assert names(tmp_path) == {"sub/file.bin", "sub/file.bin.source.json"}


def test_a_part_as_long_as_the_file_but_of_another_is_not_built_upon(site: Site, tmp_path: Path) -> None:
    part(tmp_path).write_bytes(b"x" * len(CONTENT))
    get(remote(site), tmp_path)
    assert site.asked == [("/good/file.bin", "")]
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


def test_a_damaged_file_without_a_published_hash_is_fetched_again(site: Site, tmp_path: Path) -> None:
    wanted = remote(site, hash="")
    get(wanted, tmp_path)
    (tmp_path / "sub/file.bin").write_bytes(b"damaged")
    assert [state.status for state in states(wanted, tmp_path)] == ["wrong"]
    get(wanted, tmp_path)
    assert (tmp_path / "sub/file.bin").read_bytes() == CONTENT
    assert names(tmp_path) == {"sub/file.bin", "sub/file.bin.source.json"}


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
