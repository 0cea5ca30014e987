"""The cache of decoded images: what it keeps, when it is not used, and that nobody can be hurt by it."""

import os
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from benchmark import data, registry
from benchmark.core.errors import UsageError
from benchmark.core.images import Images
from benchmark.core.settings import frozen
from benchmark.data import __main__ as data_cli
from benchmark.data import cache as decoded
from benchmark.data.remote.remote_file import hash_of
from benchmark.runs import shared
from tests.elsewhere import elsewhere


@frozen()
class Dataset(data.Dataset):
    """Images of one colour; a file holds the tones and labels of its domain, a byte each in turn."""

    classes = ("a", "b", "c")
    domains = ("one", "two")
    sources = ("one",)
    licence = citation = ""
    brighter: int = 0
    """Added to every tone."""

    decoded_parts: ClassVar[list[str]] = []

    def reads(self, domain: str, split: data.Split, root: Path | None) -> list[Path]:
        assert root is not None
        return [root / domain]

    def load(self, domain: str, split: data.Split, root: Path | None) -> Images:
        assert root is not None
        if not (root / domain).is_file():
            raise data.MissingDataError(f"{domain} is missing")
        self.decoded_parts.append(f"{domain}/{split}")
        pairs = torch.tensor(list((root / domain).read_bytes()), dtype=torch.uint8).view(-1, 2)
        x = (pairs[:, 0] + self.brighter)[:, None, None, None].expand(-1, 3, 4, 4)
        return Images(x.contiguous(), pairs[:, 1].long())


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DG_REFEREE_CACHE", str(tmp_path / "cache"))
    Dataset.decoded_parts.clear()
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "one").write_bytes(bytes([10, 0, 20, 1, 30, 2]))
    (folder / "two").write_bytes(bytes([40, 1, 50, 0]))
    return folder


def load(root: Path, **settings: Any) -> data.Loaded:
    return data.load(Dataset(**settings), "one", root)


def kept(cache: Path, name: str = "one-test") -> Path:
    (found,) = cache.glob(f"*-{name}-*")
    return found


def test_a_part_is_decoded_once(root: Path, cache: Path) -> None:
    first = load(root)
    assert Dataset.decoded_parts == ["one/train", "one/val", "one/test", "two/test"]
    second = load(root)
    assert len(Dataset.decoded_parts) == 4
    assert first.fingerprint == second.fingerprint
    for images in (first.test["two"], second.test["two"]):
        assert images.x[:, 2, 3, 1].tolist() == [40, 50]
        assert images.y.tolist() == [1, 0]
    assert len(list(cache.iterdir())) == 4


def test_pixels_are_not_hashed_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load(root).fingerprint

    def refuse(images: Images) -> str:
        raise AssertionError("hashed again")

    monkeypatch.setattr(decoded, "digest", refuse)
    assert load(root).fingerprint == before


def touch(root: Path, cache: Path) -> None:
    os.utime(root / "one", ns=(1, 1))


def lengthen(root: Path, cache: Path) -> None:
    status = (root / "one").stat()
    (root / "one").write_bytes(bytes([10, 0, 20, 1]))
    os.utime(root / "one", ns=(status.st_atime_ns, status.st_mtime_ns))


def truncate(root: Path, cache: Path) -> None:
    for file in cache.iterdir():
        os.truncate(file, file.stat().st_size - 1)


def empty(root: Path, cache: Path) -> None:
    for file in cache.iterdir():
        file.write_bytes(b"")


def scribble(root: Path, cache: Path) -> None:
    for file in cache.iterdir():
        file.write_bytes(b"\x40" + file.read_bytes()[1:])


def mislabel(root: Path, cache: Path) -> None:
    for file in cache.iterdir():
        content = file.read_bytes()
        labels = 8 + int.from_bytes(content[:8], "little")
        file.write_bytes(content[:labels] + b"\x02" + content[labels + 1 :])


@pytest.mark.parametrize("change", [touch, lengthen, truncate, empty, scribble, mislabel])
def test_what_no_longer_fits_is_made_again(root: Path, cache: Path, change: Callable[[Path, Path], None]) -> None:
    load(root)
    before = len(list(cache.iterdir()))
    change(root, cache)
    again = load(root)
    assert len(Dataset.decoded_parts) > 4
    assert again.test["one"].y[0] == 0
    assert len(list(cache.iterdir())) == before  # the old files are replaced, not left
    Dataset.decoded_parts.clear()
    assert load(root).fingerprint == again.fingerprint
    assert Dataset.decoded_parts == []


def test_settings_and_data_folders_do_not_share(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for name in ("one", "two"):
        (other / name).write_bytes(bytes([60, 0]))
    tones = [load(root).test["one"].x[0, 0, 0, 0], load(root, brighter=5).test["one"].x[0, 0, 0, 0]]
    tones += [load(other).test["one"].x[0, 0, 0, 0], load(root).test["one"].x[0, 0, 0, 0]]
    assert [int(tone) for tone in tones] == [10, 15, 60, 10]
    assert len(Dataset.decoded_parts) == 12


@pytest.mark.parametrize("readers", ["benchmark.data.readers", "benchmark.readers"])  # where it stands, and stood
@pytest.mark.filterwarnings("ignore::benchmark.moved.MovedWarning")
def test_the_code_of_a_dataset_and_of_what_it_imports_counts(
    readers: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = tmp_path / "plug.py"
    text = (
        f"from benchmark import data\nfrom {readers} import labelled\nfrom benchmark.method import frozen\n"
        "@frozen()\nclass Dataset(data.Dataset):\n    classes = domains = sources = ('a',)\n"
    )
    hashes = []
    for extra in ("", "# changed\n"):
        plugin.write_text(text + extra)
        registry.load_plugins([plugin])
        hashes.append(decoded._source_hash(registry.find("dataset", "plug").__module__))
    real = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        return real(path) + (b"\n# changed" if path.name == "errors.py" else b"")  # imported by readers alone

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    decoded._source_hash.cache_clear()
    hashes.append(decoded._source_hash(registry.find("dataset", "plug").__module__))
    decoded._source_hash.cache_clear()
    registry.load_plugins([])
    assert len(set(hashes)) == 3


def test_the_code_of_a_module_that_is_imported_from_its_package_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As every dataset imports what decodes its images."""
    plugin = tmp_path / "plug.py"
    plugin.write_text(
        "from benchmark.data import Dataset as Base, image_files\nfrom benchmark.method import frozen\n"
        "@frozen()\nclass Dataset(Base):\n    classes = domains = sources = ('a',)\n"
    )
    registry.load_plugins([plugin])
    real, hashes = Path.read_bytes, []
    for changed in ("", "image_files.py"):
        monkeypatch.setattr(
            Path, "read_bytes", lambda path, changed=changed: real(path) + b"#" * (path.name == changed)
        )
        decoded._source_hash.cache_clear()
        hashes.append(decoded._source_hash(registry.find("dataset", "plug").__module__))
    decoded._source_hash.cache_clear()
    assert hashes[0] != hashes[1]


def test_the_code_is_what_this_process_imported_whatever_was_edited_since(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what older code decoded would lie in the cache as if the edited code had."""
    name = registry.find("dataset", "minidigits").__module__
    before, real = decoded._source_hash(name), Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: real(path) + b"#" * (path.name == "minidigits.py"))
    shared.forget()
    assert decoded._source_hash(name) == before


@pytest.mark.parametrize("package", ["pillow", "numpy", "scipy", "torchvision"])
def test_what_another_version_of_a_decoder_made_is_made_again(
    package: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(root)
    now = decoded._versions()
    with monkeypatch.context() as upgraded:
        upgraded.setattr(decoded, "_versions", lambda: now | {package: f"{now[package]}.post1"})
        load(root)
        assert len(Dataset.decoded_parts) == 8
        load(root)
    assert len(Dataset.decoded_parts) == 8


def test_images_may_be_written_to_and_the_file_stays(root: Path, cache: Path) -> None:
    load(root)
    before = kept(cache).read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images = load(root).test["one"]
        images.x.add_(1)
        images.x.numpy()[0] = 99
        images.y.add_(1)
        assert images.unit().amax() <= 1
    assert kept(cache).read_bytes() == before
    assert load(root).test["one"].x[0, 0, 0, 0] == 10


def test_a_folder_that_cannot_be_written_costs_a_warning(root: Path, tmp_path: Path, cache: Path) -> None:
    cache.write_bytes(b"a file, not a folder")
    with pytest.warns(RuntimeWarning, match=r"cannot be written.*DG_REFEREE_CACHE"):
        found = load(root)
    assert found.test["two"].y.tolist() == [1, 0]


def test_a_full_disk_costs_a_warning(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def save(tensors: Any, name: str, header: Any) -> None:
        Path(name).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(decoded, "save_file", save)
    with pytest.warns(RuntimeWarning, match="No space left on device"):
        load(root)
    assert list(cache.iterdir()) == []


def test_writers_at_the_same_time_do_no_harm(root: Path, cache: Path) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(load(root).fingerprint)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert len(list(cache.iterdir())) == 4


def test_a_dataset_that_reads_no_files_is_not_kept(cache: Path) -> None:
    data.load(registry.make("dataset", "minidigits", {}), "uci", None)
    assert not cache.exists()


def test_missing_files_stay_missing(root: Path) -> None:
    load(root)
    (root / "two").unlink()
    assert load(root).missing == {"two": "two is missing"}


def test_a_label_out_of_range_is_refused_from_the_cache_too(root: Path) -> None:
    (root / "one").write_bytes(bytes([10, 3]))
    for _ in range(2):
        with pytest.raises(UsageError, match=r"one/train: image 0 has label 3; allowed: 0\.\.2"):
            load(root)
    assert Dataset.decoded_parts == ["one/train"]


def test_the_default_place_is_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DG_REFEREE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert decoded.folder().name == "dg-referee"


def test_clear_cache_deletes_its_own_files_only(root: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load(root)
    (cache / "notes.txt").write_text("mine")
    (cache / ".half.partial").write_bytes(b"x")
    assert data_cli.main(["clear-cache"]) == 0
    assert "deleted 5 files" in capsys.readouterr().out
    assert [file.name for file in cache.iterdir()] == ["notes.txt"]
    load(root)
    assert len(Dataset.decoded_parts) == 8


def test_a_file_in_the_place_of_the_cache_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("DG_REFEREE_CACHE", str(tmp_path / "file"))
    assert data_cli.main(["clear-cache"]) == 2
    assert "the cache has to be a folder" in capsys.readouterr().err


# Fingerprints


def test_fingerprints_are_equal_in_another_process_and_with_or_without_the_cache(root: Path, cache: Path) -> None:
    here = load(root).fingerprint
    assert elsewhere(loaded, root, [cache, cache / "fresh"]) == [(here, 0), (here, 4)]


def loaded(root: Path, caches: list[Path]) -> list[tuple[str, int]]:
    """The fingerprint with each cache in turn, and how many parts had been decoded by then."""
    found = []
    for cache in caches:
        os.environ["DG_REFEREE_CACHE"] = str(cache)
        found.append((load(root).fingerprint, len(Dataset.decoded_parts)))
    return found


def test_fingerprints_change_with_every_byte_label_order_split_and_setting(root: Path) -> None:
    seen = [load(root).fingerprint, load(root, brighter=1).fingerprint]
    pairs = [(10, 0), (20, 1), (30, 2)]
    for changed in ([(11, 0), *pairs[1:]], [(10, 1), *pairs[1:]], pairs[::-1], pairs[:2]):
        (root / "one").write_bytes(bytes(value for pair in changed for value in pair))
        seen.append(load(root).fingerprint)
    (root / "two").unlink()
    seen.append(load(root).fingerprint)
    assert len(set(seen)) == len(seen)
    images = Images(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64))
    names = [data.fingerprint({name: images}) for name in ("train/one", "val/one", "train/two")]
    assert len(set(names)) == 3  # the split counts
    shapes = [(2, 3, 4, 4), (2, 3, 2, 8), (2, 3, 8, 2)]
    assert len({decoded.digest(Images(images.x.reshape(shape), images.y)) for shape in shapes}) == 3


# verify

PLUGIN = '''"""The tests' dataset, found by name."""
from tests.data.test_cache import Dataset as Base
from benchmark.method import frozen
from benchmark.data.remote.remote_file import Remote, hash_of

@frozen()
class Dataset(Base):
    def remotes(self):
        return (
            Remote("one", "free", "https://origin.example", hash="{one}"),
            Remote("two", "free", "https://origin.example"),
        )
'''


@pytest.fixture
def plain(root: Path, tmp_path: Path) -> Iterator[str]:
    """Name of the dataset as a plugin, with a published hash of the first file."""
    plugin = tmp_path / "plain.py"
    plugin.write_text(PLUGIN.replace("{one}", hash_of(root / "one", "md5")))
    registry.load_plugins([plugin])
    yield "plain"
    registry.load_plugins([])


def verify(plain: str, root: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = data_cli.main(["verify", plain, "--data-dir", str(root)])
    return code, capsys.readouterr().out


def test_verify_hashes_decodes_and_counts(plain: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = verify(plain, root, capsys)
    assert code == 0
    assert "right     one  md5:" in out
    assert "unknown   two  sha256:" in out
    assert "decoded   one/train: 3 images of 4x4, by class 1 1 1" in out
    assert "two/test: 2 images of 4x4, by class 1 1 0" in out
    fingerprint = data.load(registry.make("dataset", plain, {}), "one", root).fingerprint
    assert f"fingerprint with source one: {fingerprint}" in out
    assert "the cache agrees" not in out
    assert "the cache agrees" in verify(plain, root, capsys)[1]  # loading it filled the cache


def test_verify_finds_wrong_missing_and_damaged_files(
    plain: str, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "two").unlink()
    code, out = verify(plain, root, capsys)
    assert code == 0  # a run would leave its column empty
    assert "missing   two/test: two is missing" in out
    (root / "one").write_bytes(bytes([10, 0, 20, 7]))
    code, out = verify(plain, root, capsys)
    assert code == 1
    assert "wrong     one  md5:" in out
    assert "its hash must be md5:" in out
    assert "/one/train: image 1 has label 7; allowed: 0..2" in out
    (root / "one").unlink()
    assert verify(plain, root, capsys)[0] == 1  # nothing at all


def test_verify_ignores_the_cache_and_says_where_it_differs(
    plain: str, root: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data.load(registry.make("dataset", plain, {}), "one", root)
    file = kept(cache, "two-test")
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    code, out = verify(plain, root, capsys)
    assert code == 1
    assert out.count("the cache disagrees") == 1
    assert out.count("the cache agrees") == 3


def test_verify_without_a_name_takes_what_is_there(plain: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert data_cli.main(["verify", "--data-dir", str(root)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"plain in {root}\n")
    assert "digits" not in out
