"""python -m benchmark.data: what it says, its exit codes, and the tables of addresses and hashes."""

import hashlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from benchmark import data, registry
from benchmark.data import __main__ as data_cli
from benchmark.data.remote import fetch, sources, sources_cifar_c
from benchmark.data.remote.fetch import FetchError
from benchmark.data.remote.remote_file import Remote, hash_of
from tests.server import Site

# The command

PLUGIN = '''"""Two files, no images."""
from benchmark import data
from benchmark.core.images import Images
from benchmark.data.remote.remote_file import Remote
from benchmark.method import frozen

@frozen()
class Dataset(data.Dataset):
    classes, domains, sources = ("a",), ("one",), ("one",)
    licence, citation = "free", "nobody"

    def remotes(self):
        return (
            Remote("first.bin", "free as air", "https://origin.example", ("{address}/first.bin",), "{first}"),
            Remote("second.bin", "free", "https://origin.example", ("{address}/second.bin",), "{second}"),
        )

    def load(self, domain: str, split: data.Split, root: object) -> Images:
        raise NotImplementedError("no test loads it")
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


def test_a_dataset_with_nothing_to_fetch_names_a_command_that_reads_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "my images"
    for place in ("a/cat", "a/dog", "b/cat", "b/dog"):
        (root / place).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(root / place / "1.png")
    assert data_cli.main(["fetch", "folder", "--data-dir", str(root)]) == 2
    command = re.search(r"`python -m benchmark\.data (.*)` reads and counts", capsys.readouterr().err)
    assert command is not None
    assert shlex.split(command[1]) == ["verify", "folder", "--data-dir", str(root)]
    data_cli.main(shlex.split(command[1]))
    assert f"folder in {root}\n" in capsys.readouterr().out


def test_a_broken_dataset_of_somebody_ends_no_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> data.Layout:
        raise KeyError("classes")

    cls = registry.find("dataset", "folder")
    monkeypatch.setattr(cls, "layout", broken)
    assert data_cli.main(["list", "--data-dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "dataset 'folder' raised KeyError: 'classes'" in out
    assert "\npacs: " in out
    assert data_cli.main(["fetch", "folder", "--data-dir", str(tmp_path)]) == 2
    assert "dataset 'folder' raised KeyError: 'classes'" in capsys.readouterr().err


def test_a_dataset_without_a_licence_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(registry.find("dataset", "minidigits"), "licence")
    assert data_cli.main(["list", "--data-dir", str(tmp_path)]) == 0
    assert "licence: not stated" in capsys.readouterr().out.partition("\nminidigits: ")[2].partition("\n\n")[0]


def test_a_reader_that_leaves_is_no_error() -> None:
    script = "import sys; from benchmark.runs.ending import leave; leave(lambda: print('x' * 2**20) or 0)"
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
        "import atexit; from benchmark.runs.ending import leave\n"
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
        (["verify", "--data-dir", "nowhere"], "--data-dir nowhere: no such folder"),
        (["list", "--data-dir", __file__], "it is a file, not a folder"),
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


def test_in_an_empty_folder_all_is_missing_and_nothing_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert data_cli.main(["verify", "digits", "--data-dir", str(tmp_path)]) == 1
    assert "0 of 7 parts are there and decode, 7 missing, 0 faults" in capsys.readouterr().out


def test_verify_needs_something_to_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert data_cli.main(["verify", "--data-dir", str(tmp_path)]) == 1
    assert "no dataset that can be fetched has files there" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["fetch"], ["fetcch", "digits"], ["list", "digits"]])
def test_wrong_words_exit_with_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        data_cli.main(words)
    assert raised.value.code == 2


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
