"""digits: every reader on small files in the exact on-disk formats, fingerprints, and the real files."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark import data
from benchmark.core.errors import MissingDataError, UsageError
from benchmark.data import readers
from tests.datasets.digits_files import (
    COLOUR,
    LABELS,
    MNIST,
    PICKLE,
    PNG_LABELS,
    PNGS,
    QUARTERS,
    SVHN,
    SYN,
    TAR,
    USPS,
    Dataset,
    channels_first,
    digits,
    flat_images,
    mat,
    png,
    png_files,
    put,
    tar_of,
    tone,
)  # fmt: skip
from tests.elsewhere import elsewhere

# The source


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("subset", "first"), [("first10k", 0), ("offset5k", 5_000)])
def test_subsets_and_validation_part(stored: Path, subset: str, first: int) -> None:
    train, val = (Dataset(subset=subset).load("mnist", split, stored) for split in ("train", "val"))
    assert train.x.shape == val.x.shape == (10_000, 3, 32, 32)
    assert train.x.dtype == torch.uint8
    assert train.y.dtype == torch.int64
    for images, start in ((train, first), (val, 50_000)):
        tones = torch.tensor([tone(start + i) for i in range(10_000)], dtype=torch.uint8)
        assert (images.x == tones[:, None, None, None]).all()
        assert images.y.tolist() == [(start + i) % 10 for i in range(10_000)]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("subset", "count"), [("all50k", 50_000), ("all60k", 60_000)])
def test_whole_training_sets(stored: Path, subset: str, count: int) -> None:
    train = Dataset(subset=subset).load("mnist", "train", stored)
    assert train.x[:, 0, 0, 0].tolist() == [tone(i) for i in range(count)]


@pytest.mark.usefixtures("quick")
def test_test_part_of_mnist(stored: Path) -> None:
    test = Dataset().load("mnist", "test", stored)
    assert test.y.tolist() == [i % 7 for i in range(10_000)]
    tones = torch.tensor([tone(i) for i in range(10_000)], dtype=torch.uint8)
    assert (test.x == tones[:, None, None, None]).all()


# Resize filters

FILTERS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "bilinear": lambda image: image.resize((32, 32), Image.Resampling.BILINEAR),
    "lanczos": lambda image: image.resize((32, 32), Image.Resampling.LANCZOS),
    "resize36_crop32": lambda image: image.resize((36, 36), Image.Resampling.BILINEAR).crop((2, 2, 34, 34)),
}


@pytest.mark.parametrize("how", FILTERS)
@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 3), (16, 16)])
def test_filters_are_pillows(how: Any, shape: tuple[int, ...]) -> None:
    images = np.random.Generator(np.random.PCG64(1)).integers(0, 256, (4, *shape)).astype(np.uint8)
    expected = [np.asarray(FILTERS[how](Image.fromarray(image))) for image in images]
    assert (readers.resize(images, how) == np.stack(expected)).all()


@pytest.mark.parametrize(("how", "targets"), [*zip(FILTERS, ("bilinear", "lanczos", "bilinear"), strict=True)])
def test_targets_are_never_cropped(stored: Path, how: str, targets: str) -> None:
    usps = Dataset(resize=how).load("usps", "test", stored)
    grey = (QUARTERS * 255 // 4).astype(np.uint8)
    expected = np.stack([np.asarray(FILTERS[targets](Image.fromarray(image))) for image in grey])
    assert (usps.x.numpy() == expected[:, None]).all()
    assert usps.y.tolist() == LABELS[:5]


# The targets


@pytest.mark.parametrize("domain", ["svhn", "syn"])
def test_mat_files(stored: Path, domain: str) -> None:
    images = Dataset().load(domain, "test", stored)
    assert torch.equal(images.x, channels_first(COLOUR))
    assert images.y.tolist() == LABELS  # SVHN's label 10 is the digit 0


def test_mnist_m_folder_and_archive_agree(stored: Path, tmp_path: Path) -> None:
    unpacked = Dataset().load("mnist_m", "test", stored)
    put(tmp_path, TAR, tar_of(png_files()))
    packed = Dataset().load("mnist_m", "test", tmp_path)
    for images in (unpacked, packed):
        assert torch.equal(images.x, channels_first(COLOUR[:3]))
        assert images.y.tolist() == LABELS[:3]


def test_hidden_files_are_no_images(folder: Path) -> None:
    put(folder, f"{PNGS}/.DS_Store", b"x")
    put(folder, f"{PNGS}/._00000000.png", b"x")
    assert len(Dataset().load("mnist_m", "test", folder)) == 3


@pytest.mark.parametrize(("protocol", "key"), [(2, b"test"), (4, b"test"), (5, "test")])
def test_mnist_m_pickle_has_mnists_labels(folder: Path, protocol: int, key: Any) -> None:
    tones = np.broadcast_to(flat_images(10_000)[..., None], (10_000, 28, 28, 3)).copy()
    put(folder, PICKLE, pickle.dumps({key: tones, b"train": tones[:3]}, protocol=protocol))
    images = Dataset(mnist_m="pickle10k").load("mnist_m", "test", folder)
    assert images.x.shape == (10_000, 3, 32, 32)
    assert images.x[:, 2, 5, 5].tolist() == [tone(i) for i in range(10_000)]
    assert images.y.tolist() == [i % 7 for i in range(10_000)]


# Absence


@pytest.mark.parametrize(
    ("domain", "names"),
    [
        ("svhn", [SVHN]),
        ("syn", [SYN]),
        ("usps", [USPS]),
        ("mnist", MNIST),
        ("mnist_m", [PNGS, PNG_LABELS, TAR]),
    ],
)
def test_absent_files_are_named(tmp_path: Path, domain: str, names: list[str]) -> None:
    put(tmp_path, "other", b"")
    with pytest.raises(MissingDataError, match=f"digits/{domain} is missing.*from http") as raised:
        Dataset().load(domain, "test", tmp_path)
    for name in names:
        raised.match(str(tmp_path / name))


def test_the_other_layout_of_mnist_m_is_not_taken_unasked(folder: Path) -> None:
    with pytest.raises(MissingDataError, match=f"{folder / PICKLE}"):
        Dataset(mnist_m="pickle10k").load("mnist_m", "test", folder)


def test_data_folder_errors(tmp_path: Path) -> None:
    file = put(tmp_path, "file", b"")
    (tmp_path / "empty").mkdir()
    for root, message in {
        None: "--data-dir DIR",
        tmp_path / "nowhere": "nowhere: no such folder",
        file: "file: not a folder",
        tmp_path / "empty": "empty: an empty folder.*docs/datasets/digits.md",
    }.items():
        with pytest.raises(UsageError, match=message) as raised:
            Dataset().load("mnist", "train", root)
        assert not isinstance(raised.value, MissingDataError)


@pytest.mark.parametrize(("domain", "split"), [("svhn", "train"), ("usps", "val"), ("uci", "test")])
def test_absent_parts_are_usage_errors(stored: Path, domain: str, split: data.Split) -> None:
    with pytest.raises(UsageError, match=f"digits/{domain} has no {split} part"):
        Dataset().load(domain, split, stored)


# Fingerprints


@pytest.mark.usefixtures("quick")
def test_the_fingerprint_changes_with_every_choice_and_byte(folder: Path) -> None:
    def fingerprint(**chosen: Any) -> str:
        loaded = data.load(Dataset(**chosen), "mnist", folder)
        assert loaded.missing == {}
        return loaded.fingerprint

    seen = [fingerprint(), fingerprint(subset="offset5k"), fingerprint(resize="lanczos")]
    rows = png_files()[PNG_LABELS]
    put(folder, PNG_LABELS, rows.replace(b" 9", b" 8"))
    seen.append(fingerprint())
    put(folder, PNG_LABELS, b"".join(reversed(rows.splitlines(keepends=True))))
    seen.append(fingerprint())
    put(folder, PNG_LABELS, rows)
    assert fingerprint() == seen[0]
    byte = COLOUR.copy()
    byte[3, 7, 5, 1] ^= 1
    put(folder, SYN, mat(byte, LABELS))
    seen.append(fingerprint())
    assert len(set(seen)) == len(seen)


@pytest.mark.usefixtures("quick")
def test_a_second_start_decodes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = data.load(Dataset(), "mnist", folder)

    def refuse(*_: Any) -> Any:
        raise AssertionError("decoded again")

    monkeypatch.setattr(digits, "_load", refuse)
    again = data.load(Dataset(), "mnist", folder)
    assert again.fingerprint == before.fingerprint
    assert all(torch.equal(again.test[domain].x, before.test[domain].x) for domain in Dataset.domains)
    put(folder, f"{PNGS}/00000001.png", png(COLOUR[5]))
    with pytest.raises(AssertionError, match="decoded again"):
        data.load(Dataset(), "mnist", folder)


def test_a_fresh_process_gives_the_same_bytes(stored: Path) -> None:
    assert elsewhere(fingerprint, stored) == fingerprint(stored)


def fingerprint(root: Path) -> str:
    return data.fingerprint({domain: Dataset().load(domain, "test", root) for domain in ("svhn", "mnist_m")})


@pytest.mark.usefixtures("quick")
def test_missing_targets_are_left_out_and_named(folder: Path) -> None:
    (folder / SVHN).unlink()
    (folder / SYN).unlink()
    loaded = data.load(Dataset(), "mnist", folder)
    assert list(loaded.test) == ["mnist_m", "usps", "mnist"]
    assert list(loaded.missing) == ["svhn", "syn"]
    assert str(folder / SVHN) in loaded.missing["svhn"]
    assert loaded.in_domain == ["mnist"]


# Real files


def need(root: Path, *names: str) -> None:
    for name in names:
        if not (root / name).exists():
            pytest.skip(f"no {root / name}")


def test_real_mnist(data_dir: Path) -> None:
    need(data_dir, *MNIST)
    import torchvision

    counts = {
        "train": [1001, 1127, 991, 1032, 980, 863, 1014, 1070, 944, 978],
        "val": [991, 1064, 990, 1030, 983, 915, 967, 1090, 1009, 961],
        "test": [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
    }
    parts = {split: Dataset().load("mnist", split, data_dir) for split in counts}
    for split, count in counts.items():
        assert parts[split].x.shape == (10_000, 3, 32, 32)
        assert parts[split].y.bincount().tolist() == count
    official = torchvision.datasets.MNIST(data_dir, train=True)
    for split, index in (("train", 0), ("train", 9_999), ("val", 50_000), ("val", 59_999)):
        image, label = official[index]
        found = parts[split][index % 10_000 : index % 10_000 + 1]
        assert (found.x[0].numpy() == np.asarray(FILTERS["bilinear"](image))).all()
        assert found.y.item() == label
    pixels = [{image.tobytes() for image in images.x[:, 0].numpy()} for images in parts.values()]
    assert len(set.union(*pixels)) == sum(map(len, pixels)) == 30_000


def test_real_usps(data_dir: Path) -> None:
    need(data_dir, USPS)
    images = Dataset().load("usps", "test", data_dir)
    assert images.x.shape == (2007, 3, 32, 32)
    assert images.y.bincount().tolist() == [359, 264, 198, 166, 200, 160, 170, 147, 166, 177]
    assert images.x.amin() == 0
    assert images.x.amax() == 255


def test_real_mnist_m(data_dir: Path) -> None:
    need(data_dir, TAR)
    images = Dataset().load("mnist_m", "test", data_dir)
    assert images.x.shape == (9001, 3, 32, 32)
    assert images.y.bincount().tolist() == [878, 1016, 933, 908, 890, 807, 856, 914, 880, 919]
    assert images.y[:3].tolist() == [7, 2, 1]
    assert not torch.equal(images.x[:, 0], images.x[:, 1])
