"""cifar10c and cifar100c in the exact on-disk formats, small: what is read, how it is cut, and what is refused."""

import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark import data, registry
from benchmark.core.errors import MissingDataError, UsageError
from benchmark.corruptions import COMMON, EXTRA, corrupt
from benchmark.corruptions import __main__ as program
from benchmark.data import cifar, drift
from tests.data.cifar_files import (
    TEST,
    TRAIN,
    contents10,
    make,
    picture,
    pixels,
    put,
    python2_pickle,
    tree,
    with_official,
)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """CIFAR with 500 training and 200 test images; CIFAR-100 then has 5 and 2 of each class."""
    monkeypatch.setattr(cifar, "COUNT", {"train": TRAIN, "test": TEST})
    cifar._clean.cache_clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in contents10().items():
        put(tmp_path / "cifar-10-batches-py" / name, content)
    return tmp_path


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
    found = drift.compare(registry.find("dataset", "cifar10c"), folder, 30).set_index(["corruption", "severity"])
    assert [*found.index] == [(name, s) for name in ("contrast", "saturate") for s in range(1, 6)]
    assert found["official_from_clean"]["contrast", 3] == pytest.approx(3)
    assert found["mean_abs_difference"]["contrast", 3] > found["generated_from_clean"]["contrast", 3] / 2
    clean = make().load("cifar10", "test", folder)
    same = np.concatenate([corrupt(clean.x, "contrast", s, torch.arange(TEST)).numpy() for s in range(1, 6)])
    np.save(folder / "CIFAR-10-C/contrast.npy", same.transpose(0, 2, 3, 1))
    found = drift.compare(registry.find("dataset", "cifar10c"), folder, 0).set_index(["corruption", "severity"])
    for severity in range(1, 6):
        assert found["mean_abs_difference"]["contrast", severity] == 0
        assert found["equal"]["contrast", severity] == 1
    np.save(folder / "CIFAR-10-C/labels.npy", np.zeros(5 * TEST, np.uint8))
    with pytest.raises(UsageError, match="official labels are not those"):
        drift.compare(registry.find("dataset", "cifar10c"), folder, 0)


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
