"""cifar10c and cifar100c in the exact on-disk formats, small: what is read, how it is cut, and what is refused."""

import io
import os
import struct
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark import cifar, data, registry
from benchmark.corruptions import COMMON, EXTRA, corrupt, drift
from benchmark.corruptions import __main__ as program
from benchmark.data import MissingDataError
from benchmark.errors import UsageError

TRAIN, TEST = 500, 200


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """CIFAR with 500 training and 200 test images; CIFAR-100 then has 5 and 2 of each class."""
    monkeypatch.setattr(cifar, "COUNT", {"train": TRAIN, "test": TEST})
    cifar._clean.cache_clear()


def make(dataset: str = "cifar10c", **settings: Any) -> Any:
    return registry.make("dataset", dataset, {"val": 100, **settings})


@cache
def pixels(n: int, seed: int) -> np.ndarray[Any, Any]:
    """Smooth images [n,32,32,3], so that a JPEG file keeps them nearly."""
    coarse = np.random.default_rng(seed).integers(40, 216, (n, 4, 4, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(tile).resize((32, 32), Image.Resampling.BILINEAR)) for tile in coarse])


def python2_pickle(x: np.ndarray[Any, Any], labels: list[int], key: bytes = b"labels") -> bytes:
    """A dictionary as Python 2's cPickle writes it under protocol 2, opcode by opcode, like the authors' files."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value if len(value) < 256 else b"T" + struct.pack("<i", len(value)) + value

    rows = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
    out = b"\x80\x02}(" + text(b"batch_label") + text(b"a batch") + text(key) + b"]("
    out += b"".join(b"K" + bytes([label]) for label in labels) + b"e" + text(b"data")
    out += b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
    out += b"(K\x01M" + struct.pack("<H", len(rows)) + b"M" + struct.pack("<H", rows.shape[1]) + b"\x86"
    out += b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R(K\x03" + text(b"|")
    out += b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89" + text(np.ascontiguousarray(rows).tobytes()) + b"tb"
    out += text(b"filenames") + b"](" + b"".join(text(b"%d.png" % n) for n in range(len(x))) + b"e"
    return out + b"u."


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def contents10() -> dict[str, bytes]:
    x, labels = pixels(TRAIN, 0), [n % 10 for n in range(TRAIN)]
    fifth = TRAIN // 5
    files = {
        f"data_batch_{n + 1}": python2_pickle(x[n * fifth : (n + 1) * fifth], labels[n * fifth : (n + 1) * fifth])
        for n in range(5)
    }
    return files | {"test_batch": python2_pickle(pixels(TEST, 1), [n % 10 for n in range(TEST)])}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in contents10().items():
        put(tmp_path / "cifar-10-batches-py" / name, content)
    return tmp_path


def with_official(folder: Path, names: tuple[str, ...] = ("fog",)) -> Path:
    """Official arrays: of each severity the clean images with that much added."""
    clean = pixels(TEST, 1)
    stacked = np.concatenate([clean + severity for severity in range(1, 6)]).astype(np.uint8)
    (folder / "CIFAR-10-C").mkdir(exist_ok=True)
    for name in names:
        np.save(folder / "CIFAR-10-C" / f"{name}.npy", stacked)
    np.save(folder / "CIFAR-10-C/labels.npy", np.tile(np.arange(TEST) % 10, 5).astype(np.uint8))
    return folder


@cache
def pictures(part: str) -> dict[str, bytes]:
    """The files of a copy of one file an image, class by class."""
    names, images = make().classes, pixels(*{"train": (TRAIN, 0), "test": (TEST, 1)}[part])
    return {f"{part}/{names[n % 10]}/{n // 10:04}.png": picture(image) for n, image in enumerate(images)}


def picture(x: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(x).save(file, "PNG", compress_level=0)
    return file.getvalue()


def tree(folder: Path, *parts: str) -> Path:
    for part in parts:
        for name, content in pictures(part).items():
            put(folder / "cifar10-jpg" / name, content)
    return folder


def test_layout() -> None:
    layout = make().layout(None)
    assert len(layout.domains) == 76
    assert layout.domains[0] == "gaussian_noise/1"
    assert layout.domains[-1] == layout.sources[0] == "cifar10"
    extra = make(corruptions="extra").layout(None).domains
    assert {name.partition("/")[0] for name in extra[:-1]} == set(EXTRA)
    assert len(extra) == 21
    assert len(make("cifar100c").classes) == 100
    assert list(make("cifar100c").classes) == sorted(make("cifar100c").classes)


def test_the_pickled_batches_in_their_order(folder: Path) -> None:
    train, val, test = (make().load("cifar10", split, folder) for split in ("train", "val", "test"))
    assert torch.equal(torch.cat([train.x, val.x]), torch.from_numpy(pixels(TRAIN, 0)).permute(0, 3, 1, 2))
    assert (len(train), len(val), len(test)) == (400, 100, TEST)
    assert torch.equal(torch.cat([train.y, val.y]), torch.arange(TRAIN) % 10)
    assert torch.equal(test.x, torch.from_numpy(pixels(TEST, 1)).permute(0, 3, 1, 2))


def test_the_archive_is_the_folder(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    packed = tmp_path_factory.mktemp("packed")
    with tarfile.open(packed / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(folder / "cifar-10-batches-py", "cifar-10-batches-py")
    for split in ("train", "val", "test"):
        ours, theirs = (make().load("cifar10", split, root) for root in (folder, packed))
        assert torch.equal(ours.x, theirs.x)
        assert torch.equal(ours.y, theirs.y)


def test_cifar100(tmp_path: Path) -> None:
    for name, n, seed in (("train", TRAIN, 0), ("test", TEST, 1)):
        labels = [k % 100 for k in range(n)]
        put(tmp_path / "cifar-100-python" / name, python2_pickle(pixels(n, seed), labels, b"fine_labels"))
    images = make("cifar100c").load("cifar100", "test", tmp_path)
    assert images.y.bincount().tolist() == [2] * 100
    assert len(make("cifar100c", limit=3).load("fog/2", "test", tmp_path)) == 3


def test_a_copy_in_pictures_is_interleaved_and_is_another_dataset(folder: Path) -> None:
    tree(folder, "train", "test")
    copy, original = (make(copy=copy).load("cifar10", "test", folder) for copy in ("jpeg", "official"))
    assert torch.equal(copy.x, original.x)  # PNG keeps the pixels, and the files are numbered within a class
    assert torch.equal(copy.y, original.y)
    assert make(copy="jpeg").settings()["copy"] == "jpeg"
    assert make(copy="jpeg", limit=20).load("cifar10", "test", folder).y.bincount().tolist() == [2] * 10
    assert make(copy="jpeg").load("cifar10", "val", folder).y.bincount().tolist() == [10] * 10
    with tarfile.open(folder / "cifar10-jpg.tar.xz", "w:xz") as archive:
        archive.add(folder / "cifar10-jpg/test", "test")
    x, y = cifar.pictures(folder / "cifar10-jpg.tar.xz", "test", make().classes)
    assert np.array_equal(x, original.x.permute(0, 2, 3, 1).numpy())
    assert y.tolist() == original.y.tolist()


def test_generated_corruptions(folder: Path) -> None:
    clean = make().load("cifar10", "test", folder)
    found = make().load("snow/4", "test", folder)
    assert torch.equal(found.x, corrupt(clean.x, "snow", 4, torch.arange(TEST)))
    assert torch.equal(found.y, clean.y)
    few = make(limit=7).load("snow/4", "test", folder)
    assert torch.equal(few.x, found.x[:7])
    assert len(make(limit=7).load("cifar10", "test", folder)) == 7


def test_official_arrays_are_cut_by_severity(folder: Path) -> None:
    with_official(folder)
    clean = make().load("cifar10", "test", folder)
    for severity in (1, 5):
        found = make(corrupted="official").load(f"fog/{severity}", "test", folder)
        assert torch.equal(found.x, clean.x + severity)
        assert torch.equal(found.y, clean.y)
    assert len(make(corrupted="official", limit=9).load("fog/2", "test", folder)) == 9
    with pytest.raises(MissingDataError, match=r"snow\.npy and .*labels\.npy.*zenodo\.org/records/2535967"):
        make(corrupted="official").load("snow/1", "test", folder)


RIGHT = np.tile(np.arange(TEST) % 10, 5)


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (np.tile(np.arange(TEST) % 100, 5), "row 10 is 10; allowed: 0..9"),
        (RIGHT - 1, "row 0 is -1; allowed"),
        (np.where(RIGHT == 3, np.nan, RIGHT), "it holds float64"),
        (RIGHT.astype(float), "it holds float64"),
        (RIGHT.astype(str), "it holds <U"),
        (RIGHT > 4, "it holds bool"),
        (RIGHT[:-1], "whole numbers"),
        (RIGHT.reshape(5, -1), "whole numbers"),
        (np.where(np.arange(5 * TEST) == 3 * TEST + 7, 8, RIGHT), "row 607 is 8, not 7"),
        (np.roll(RIGHT, 1), "row 0 is 9, not 0"),
        (np.zeros(5 * TEST, np.uint8), "row 1 is 0, not 1|200 of 200 are 0, not 20"),
    ],
)
def test_official_labels_are_those_of_the_clean_images(
    folder: Path, labels: np.ndarray[Any, Any], says: str, clean: bool
) -> None:
    with_official(folder)
    assert torch.equal(make(corrupted="official").load("fog/3", "test", folder).y, torch.arange(TEST) % 10)
    np.save(folder / "CIFAR-10-C/labels.npy", labels)
    if not clean:
        (folder / "cifar-10-batches-py/test_batch").rename(folder / "elsewhere")
    ordered = not clean and says.startswith("row 0 is 9")  # no more than a warning without the order of the clean ones
    if ordered:
        assert make(corrupted="official").warnings(folder) == [
            "labels.npy is not the published file, and its order cannot be checked without the official batches"
        ]
        return
    with pytest.raises(UsageError, match=f"labels.npy cannot be read: the official labels are not those.*({says})"):
        make(corrupted="official").load("fog/3", "test", folder)


@pytest.mark.parametrize("name", ["fog", "labels"])
def test_official_arrays_are_plain_files_of_one_array(folder: Path, name: str) -> None:
    path = with_official(folder) / f"CIFAR-10-C/{name}.npy"
    path.unlink()
    np.savez(path.with_suffix(".npz"), RIGHT)
    path.with_suffix(".npz").rename(path)
    with pytest.raises(UsageError, match="it is an archive of arrays"):
        make(corrupted="official").load("fog/1", "test", folder)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UsageError, match="it is a pipe"):
        make(corrupted="official").load("fog/1", "test", folder)


def test_a_whole_load_and_its_fingerprint(folder: Path) -> None:
    loaded = data.load(make(limit=2), "cifar10", folder)
    assert [*loaded.test] == [*make().layout(None).domains]
    assert loaded.in_domain == ["cifar10"]
    assert not loaded.missing
    assert data.load(make(limit=2, val=101), "cifar10", folder).fingerprint != loaded.fingerprint
    official = data.load(make(limit=2, corrupted="official"), "cifar10", with_official(folder))
    assert len(official.missing) == 5 * (len(COMMON) - 1)


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("cifar-10-batches-py/test_batch", b"\x80\x02}", "test_batch cannot be read: (EOF|Unpickling)"),
        ("cifar-10-batches-py/test_batch", contents10()["test_batch"][:5000], "test_batch cannot be read"),
        ("cifar-10-batches-py/test_batch", python2_pickle(pixels(9, 0), [1] * 8), "uint8 .9, 3072. for 8"),
        ("cifar-10-batches-py/test_batch", python2_pickle(pixels(9, 0), [1] * 9, b"other"), "KeyError.*labels"),
        ("cifar-10-batches-py/test_batch", python2_pickle(pixels(9, 0), [11] * 9), "label 11; allowed: 0..9"),
        ("cifar-10-batches-py/test_batch", python2_pickle(pixels(9, 0), [3] * 9), "0 images of class 'airplane'"),
        ("cifar-10-batches-py/test_batch", b"cos\nsystem\n(S'true'\ntR.", "'os.system', which no array needs; refused"),
        ("cifar-10-batches-py/test_batch", None, "test is missing.*test_batch; or .*cifar-10-python.tar.gz"),
    ],
    ids=["empty", "truncated", "fewer labels", "no labels", "label 11", "one class", "code", "missing"],
)
def test_damaged_batches(folder: Path, name: str, content: bytes | None, cause: str) -> None:
    if content is None:
        (folder / name).unlink()
    else:
        put(folder / name, content)
    with pytest.raises(UsageError, match=cause):
        make().load("cifar10", "test", folder)


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("bird/0000.png", b"no picture", r"bird/0000\.png cannot be read: UnidentifiedImageError"),
        ("bird/0000.png", picture(pixels(1, 0)[0])[:60], r"bird/0000\.png cannot be read"),
        ("bird/0000.png", picture(pixels(1, 0)[0][:20]), "it is 32x20, not 32x32"),
        ("bird/0000.png", None, "19 images of class 'bird', not 20"),
        ("bird/extra.png", picture(pixels(1, 0)[0]), "21 images of class 'bird', not 20"),
    ],
    ids=["no picture", "truncated", "size", "too few", "too many"],
)
def test_damaged_pictures(tmp_path: Path, name: str, content: bytes | None, cause: str) -> None:
    place = tree(tmp_path, "test") / "cifar10-jpg/test" / name
    if content is None:
        place.unlink()
    else:
        put(place, content)
    with pytest.raises(UsageError, match=cause):
        make(copy="jpeg").load("cifar10", "test", tmp_path)


@pytest.mark.parametrize(
    "wrong", [np.zeros((7, 32, 32, 3), np.uint8), np.zeros((5 * TEST, 32, 32, 3), np.float32)], ids=["shape", "type"]
)
def test_damaged_official_arrays(folder: Path, wrong: np.ndarray[Any, Any]) -> None:
    np.save(with_official(folder) / "CIFAR-10-C/fog.npy", wrong)
    with pytest.raises(UsageError, match=r"fog\.npy cannot be read: it holds"):
        make(corrupted="official").load("fog/1", "test", folder)
    put(folder / "CIFAR-10-C/fog.npy", b"nothing")
    with pytest.raises(UsageError, match=r"fog\.npy cannot be read"):
        make(corrupted="official").load("fog/1", "test", folder)


def test_wrong_names_and_settings(folder: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'fog/5'"):
        make().load("fog/9", "test", folder)
    with pytest.raises(UsageError, match="fog/1 has no train part"):
        make().load("fog/1", "train", folder)
    with pytest.raises(UsageError, match="val=500: there are 500 training images"):
        make(val=500).load("cifar10", "train", folder)
    with pytest.raises(UsageError, match=r"cifar10c\.limit=-1"):
        make(limit=-1)


def test_drift(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--drift", "--data-dir", str(folder)]) == 2
    assert "no official arrays to compare with" in capsys.readouterr().err
    with_official(folder, ("contrast", "saturate"))
    found = drift.compare("cifar10c", folder, 30).set_index(["corruption", "severity"])
    assert [*found.index] == [(name, s) for name in ("contrast", "saturate") for s in range(1, 6)]
    assert found["official_from_clean"]["contrast", 3] == pytest.approx(3)
    assert found["mean_abs_difference"]["contrast", 3] > found["generated_from_clean"]["contrast", 3] / 2
    clean = make().load("cifar10", "test", folder)
    same = np.concatenate([corrupt(clean.x, "contrast", s, torch.arange(TEST)).numpy() for s in range(1, 6)])
    np.save(folder / "CIFAR-10-C/contrast.npy", same.transpose(0, 2, 3, 1))
    found = drift.compare("cifar10c", folder, 0).set_index(["corruption", "severity"])
    for severity in range(1, 6):
        assert found["mean_abs_difference"]["contrast", severity] == 0
        assert found["equal"]["contrast", severity] == 1
    np.save(folder / "CIFAR-10-C/labels.npy", np.zeros(5 * TEST, np.uint8))
    with pytest.raises(UsageError, match="official labels are not those"):
        drift.compare("cifar10c", folder, 0)


def test_the_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main([]) == 0
    assert len(capsys.readouterr().out.split("\n")) == 19 + 1
    assert program.main(["--show", str(tmp_path / "sheet.png"), "--side", "8"]) == 0
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.width > 6 * 96
    assert program.main(["--show", str(tmp_path / "no/sheet.png"), "--side", "8"]) == 2
    assert program.main(["--show", str(tmp_path / "sheet.png"), "--side", "0"]) == 2
    assert program.main(["--show", str(tmp_path / "x.png"), "--image", str(put(tmp_path / "x.jpg", b"no"))]) == 2
    assert "cannot be read as a picture" in capsys.readouterr().err


def test_the_real_jpeg_copy(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (data_dir / "cifar10-jpg.tar.xz").is_file():
        pytest.skip(f"no cifar10-jpg.tar.xz in {data_dir}")
    monkeypatch.setattr(cifar, "COUNT", {"train": 50_000, "test": 10_000})
    test = make(copy="jpeg", val=5_000).load("cifar10", "test", data_dir)
    assert test.x.shape == (10_000, 3, 32, 32)
    assert test.y[:20].tolist() == [*range(10), *range(10)]
    assert 100 < test.x.float().mean() < 140
