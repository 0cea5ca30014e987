"""Archives that are fetched: what is unpacked, and what is refused."""

import errno
import gzip
import hashlib
import io
import os
import stat
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmark.core.errors import UsageError
from benchmark.data import archives
from benchmark.data.remote.fetch import FetchError
from benchmark.data.remote.remote_file import Remote, states
from tests.data.fetching import CONTENT, SHA256, get, names
from tests.server import Site


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


@pytest.mark.parametrize("links", [True, False])
def test_a_gz_file_becomes_its_content(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    if not links:  # some disks have none
        monkeypatch.setattr(os, "link", refuse)
    get(packed(site, gzip.compress(CONTENT), "file.gz", unpacked={"deep/file": SHA256}), tmp_path)
    assert (tmp_path / "deep/file").read_bytes() == CONTENT


def test_an_archive_put_there_by_hand_is_used_and_kept(site: Site, tmp_path: Path) -> None:
    wanted = packed(site, tarred(INSIDE), "x.tar.gz")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/x.tar.gz").write_bytes(tarred(INSIDE)[:-1])
    with pytest.raises(FetchError, match="has another hash than"):
        get(wanted, tmp_path)
    assert names(tmp_path) == {"deep/x.tar.gz"}
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
    assert names(tmp_path) <= {"data/deep/x.tar.gz.part", "data/deep/x.zip.part"}


def test_an_archive_whose_unpacking_was_interrupted_is_not_taken_for_one_put_there_by_hand(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = tarred(INSIDE)
    wanted = packed(site, content, "x.tar.gz", size=len(content))

    def interrupted(*_: object) -> None:
        assert not (tmp_path / "deep/x.tar.gz").exists()  # nor would it if the process were killed here
        with pytest.raises(UsageError, match="another process is downloading it"):
            get(wanted, tmp_path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(archives, "unpack", interrupted)
        with pytest.raises(KeyboardInterrupt):
            get(wanted, tmp_path)
    assert names(tmp_path) == {"deep/x.tar.gz.part"}
    (tmp_path / "deep/.x.tar.gz.killed").mkdir()
    (tmp_path / "deep/.x.tar.gz.killed/half").touch()
    assert get(wanted, tmp_path) == wanted.urls[0]
    assert len(site.asked) == 1
    assert names(tmp_path) == {"deep/set/one", "deep/set/two/a", "deep/set/two/b", "deep/x.tar.gz.source.json"}


def test_a_folder_on_another_disk_is_filled(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The place of the files may be a link, and a rename into it then fails."""
    wanted, rename = packed(site, tarred(INSIDE), "x.tar.gz"), Path.rename

    def within_a_disk(source: Path, target: Path) -> Path:
        if ".x.tar.gz." in str(source):
            raise OSError(errno.EXDEV, "Invalid cross-device link", str(source))
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", within_a_disk)
    (tmp_path / "disk/two").mkdir(parents=True)
    (tmp_path / "disk/two/damaged").touch()
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/set").symlink_to(tmp_path / "disk")
    get(wanted, tmp_path)
    assert names(tmp_path / "disk") == {"one", "two/a", "two/b"}
    assert (tmp_path / "deep/set").is_symlink()
    assert [state.status for state in states(wanted, tmp_path)] == ["right", "recorded"]


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
    with pytest.raises(ValueError, match=f"has a header of {size} bytes"):
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
