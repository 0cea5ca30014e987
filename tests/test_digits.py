"""digits: every reader on small files in the exact on-disk formats, every kind of damage, and the real files."""

import bz2
import importlib
import io
import os
import pickle
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from torch import Tensor

from benchmark import archives, data, readers, safe_pickle, sources
from benchmark.data import MissingDataError
from benchmark.errors import UsageError

digits: Any = importlib.import_module("benchmark.datasets.digits")
Dataset: Any = digits.Dataset

MNIST = [name for remote in sources.MNIST for name in remote.places]
TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = MNIST
SVHN, SYN, USPS, TAR, PICKLE = (
    "test_32x32.mat",
    "synth_test_32x32.mat",
    "usps.t.bz2",
    "mnist_m_test.tar",
    "keras_mnistm.pkl",
)
PNGS, PNG_LABELS = digits.PNG_FOLDER, digits.PNG_LABELS
random = np.random.Generator(np.random.PCG64(0))
COLOUR = random.integers(0, 256, (12, 32, 32, 3)).astype(np.uint8)
QUARTERS = random.integers(0, 5, (5, 16, 16))
LABELS = [3, 0, 9, 1, 4, 7, 5, 8, 2, 6, 0, 1]


def idx(array: np.ndarray[Any, Any]) -> bytes:
    """The IDX format of unsigned bytes: 0, 0, 8, rank, big-endian sizes, values."""
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def tone(index: int) -> int:
    """The grey of MNIST image `index` of the fixture, a different one for its neighbours."""
    return index * 37 % 251


def flat_images(count: int) -> np.ndarray[Any, Any]:
    tones = (np.arange(count) * 37 % 251).astype(np.uint8)
    return np.broadcast_to(tones[:, None, None], (count, 28, 28))


def mat(images: np.ndarray[Any, Any], labels: list[int]) -> bytes:
    file: Any = io.BytesIO()
    scipy.io.savemat(file, {"X": images.transpose(1, 2, 3, 0), "y": np.array(labels, np.uint8)[:, None]})
    return bytes(file.getvalue())


def png(image: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def usps_text(images: np.ndarray[Any, Any], labels: list[int]) -> bytes:
    """The libsvm format of images with the levels 0..4, for -1, -0.5, 0, 0.5 and 1."""
    rows = [
        f"{label + 1} " + " ".join(f"{i}:{value / 2 - 1}" for i, value in enumerate(image.ravel(), start=1))
        for image, label in zip(images, labels, strict=True)
    ]
    return bz2.compress("\n".join(rows).encode() + b"\n")


def tar_of(files: dict[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.type, member.linkname = len(content), kind, "target"
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def png_files() -> dict[str, bytes]:
    """MNIST-M's folder; the list's order is not that of the names."""
    names = [f"{index:08d}.png" for index in (2, 0, 1)]
    rows = "".join(f"{name} {label}\n" for name, label in zip(names, LABELS, strict=False))
    return {f"{PNGS}/{name}": png(COLOUR[i]) for i, name in enumerate(names)} | {PNG_LABELS: rows.encode()}


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All files of the dataset, MNIST at full length and of flat images, the others small."""
    root = tmp_path_factory.mktemp("digits")
    put(root, TRAIN_IMAGES, idx(flat_images(60_000)))
    put(root, TRAIN_LABELS, idx((np.arange(60_000) % 10).astype(np.uint8)))
    put(root, TEST_IMAGES, idx(flat_images(10_000)))
    put(root, TEST_LABELS, idx((np.arange(10_000) % 7).astype(np.uint8)))
    put(root, USPS, usps_text(QUARTERS, LABELS[:5]))
    put(root, SVHN, mat(COLOUR, [label or 10 for label in LABELS]))
    put(root, SYN, mat(COLOUR, LABELS))
    for name, content in png_files().items():
        put(root, name, content)
    return root


@pytest.fixture
def folder(stored: Path, tmp_path: Path) -> Path:
    """A copy of `stored`, made of links, in which a test may replace files."""
    for file in stored.rglob("*"):
        if file.is_file():
            link = tmp_path / file.relative_to(stored)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file)
    return tmp_path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resizes many images by repeating a corner: for MNIST's flat ones the same, without the seconds it takes."""
    real = readers.resize

    def resize(images: Any, how: Any) -> Any:
        return np.broadcast_to(images[:, :1, :1], (len(images), 32, 32)) if len(images) > 9_000 else real(images, how)

    monkeypatch.setattr(readers, "resize", resize)


def put(root: Path, name: str, content: bytes) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    return path


def channels_first(images: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


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


def test_test_part_of_mnist(stored: Path) -> None:
    test = Dataset().load("mnist", "test", stored)
    assert test.y.tolist() == [i % 7 for i in range(10_000)]
    assert (test.x == test.x[:, :1, :1, :1]).all()


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


# Pickles


plain_arrays = hnp.arrays(
    st.one_of(hnp.integer_dtypes(), hnp.unsigned_integer_dtypes(), hnp.floating_dtypes(), hnp.boolean_dtypes()),
    hnp.array_shapes(min_dims=0, max_dims=3, max_side=4),
)
containers = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner), st.tuples(inner, inner)),
    max_leaves=5,
)


@given(plain_arrays, containers, st.integers(0, 5), st.booleans())
@settings(max_examples=100, deadline=None)
def test_pickled_arrays_and_containers_come_back(
    tmp_path_factory: pytest.TempPathFactory, array: Any, value: Any, protocol: int, fortran: bool
) -> None:
    array = np.asfortranarray(array) if fortran and array.ndim else array
    path = tmp_path_factory.getbasetemp() / "value.pkl"
    path.write_bytes(pickle.dumps({"array": array, "value": value}, protocol=protocol))
    back = safe_pickle.unpickle(path)
    assert back["value"] == value
    assert np.asarray(back["array"]).shape == array.shape
    np.testing.assert_array_equal(np.asarray(back["array"]), array)


class Call:
    """Pickles as a call of `function` when it is loaded."""

    def __init__(self, function: Any, *args: Any):
        self.reduced = function, args

    def __reduce__(self) -> Any:
        return self.reduced


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("place", ["alone", "in a dictionary", "in an array"])
def test_a_pickle_that_runs_code_is_refused(folder: Path, protocol: int, place: str) -> None:
    proof = folder / "it-ran"
    attack: Any = Call(os.mkdir, str(proof))
    if place == "in a dictionary":
        attack = {b"test": np.zeros(3, np.uint8), "more": attack}
    elif place == "in an array":
        attack = np.array([attack, attack], dtype=object)
    path = put(folder, PICKLE, pickle.dumps(attack, protocol=protocol))
    with pytest.raises(UsageError, match=r"keras_mnistm.pkl cannot be read: UnpicklingError: it (asks for|holds)"):
        Dataset(mnist_m="pickle10k").load("mnist_m", "test", folder)
    assert not proof.exists()
    pickle.loads(path.read_bytes())  # the attack is a real one
    assert proof.exists()


@pytest.mark.parametrize("name", ["builtins.eval", "numpy.load", "numpy.core.multiarray.scalar", "benchmark.run.main"])
def test_no_name_but_those_of_arrays_is_known(name: str, tmp_path: Path) -> None:
    module, _, function = name.rpartition(".")
    path = put(tmp_path, "x.pkl", f"c{module}\n{function}\n.".encode())
    with pytest.raises(pickle.UnpicklingError, match="refused"):
        safe_pickle.unpickle(path)


@pytest.mark.parametrize("array", [np.array([None, 1]), np.zeros(2, [("a", "O")]), np.zeros(2, [("a", "i4")])])
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_arrays_of_objects_are_refused(array: Any, protocol: int, tmp_path: Path) -> None:
    path = put(tmp_path, "x.pkl", pickle.dumps(array, protocol=protocol))
    with pytest.raises(pickle.UnpicklingError, match="numbers and texts"):
        safe_pickle.unpickle(path)


# Archives


@pytest.mark.parametrize("name", ["../outside.png", "/etc/outside.png", f"{PNGS}/../../../outside.png"])
def test_names_that_leave_the_archive_are_refused(tmp_path: Path, name: str) -> None:
    put(tmp_path, TAR, tar_of(png_files() | {name: b"x"}))
    with pytest.raises(UsageError, match=r"mnist_m_test.tar cannot be read: .* leads out of the archive"):
        Dataset().load("mnist_m", "test", tmp_path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_in_an_archive_are_refused(tmp_path: Path, kind: bytes) -> None:
    put(tmp_path, TAR, tar_of({f"{PNGS}/00000000.png": b""}, kind))
    with pytest.raises(UsageError, match="is not a plain file"):
        Dataset().load("mnist_m", "test", tmp_path)


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, TAR, tar_of(png_files()))
    monkeypatch.setattr(archives, "MEMORY_LIMIT", 1000)
    with pytest.raises(UsageError, match="unpacks to more than 1000 bytes"):
        Dataset().load("mnist_m", "test", tmp_path)


# Damage: file, its new bytes, and what the message must say besides the file's name

WRONG_LABELS = [*LABELS[:11], 11]
DAMAGE: dict[str, tuple[str, str, Callable[[bytes], bytes], str]] = {
    "mnist images truncated": ("mnist", TRAIN_IMAGES, lambda old: old[:100_000], "cannot be read"),
    "mnist images empty": ("mnist", TRAIN_IMAGES, lambda _: b"", "cannot be read"),
    "mnist images no idx": ("mnist", TRAIN_IMAGES, lambda _: b"<html>404</html>", "cannot be read"),
    "mnist images too few": ("mnist", TRAIN_IMAGES, lambda _: idx(flat_images(100)), r"\(100, 28, 28\)"),
    "mnist images of the test": ("mnist", TRAIN_IMAGES, lambda _: idx(flat_images(10_000)), r"not \(60000, 28, 28\)"),
    "mnist labels truncated": ("mnist", TRAIN_LABELS, lambda old: old[:-1], "cannot be read"),
    "mnist labels wrong": ("mnist", TRAIN_LABELS, lambda old: old[:-1] + b"\x0a", "up to 10, not .* up to 9"),
    "usps truncated": ("usps", USPS, lambda old: old[:-40], "EOFError"),
    "usps empty": ("usps", USPS, lambda _: bz2.compress(b""), "cannot be read"),
    "usps not bz2": ("usps", USPS, lambda _: b"<html>", "OSError"),
    "usps wrong size": ("usps", USPS, lambda _: usps_text(QUARTERS[:, :15], LABELS[:5]), "cannot be read"),
    "usps wrong label": ("usps", USPS, lambda _: usps_text(QUARTERS, [0, 1, 2, 3, 10]), "image 4 has label 10"),
    "usps in 0..1": (
        "usps",
        USPS,
        lambda _: usps_of(lambda value: value / 2 + 0.5),
        "values lie in 0..1, not in -1..1",
    ),
    "usps in 0..255": ("usps", USPS, lambda _: usps_of(lambda value: 255 * (value / 2 + 0.5)), "values lie in 0..255"),
    "usps in 0..2": ("usps", USPS, lambda _: usps_of(lambda value: value + 1), "values lie in 0..2"),
    "usps in -2..2": ("usps", USPS, lambda _: usps_of(lambda value: 2 * value), "values lie in -2..2"),
    "usps not numbers": ("usps", USPS, lambda _: usps_of(lambda value: value * np.nan), "values lie in nan..nan"),
    "usps unordered": (
        "usps",
        USPS,
        lambda old: bz2.compress(bz2.decompress(old).replace(b" 1:", b" 300:")),
        "line 1 does not hold the values 1 to 256",
    ),
    "usps counted from 0": ("usps", USPS, lambda _: usps_text(QUARTERS, [-1, 1, 2, 3, 4]), "image 0 has label -1"),
    "usps fractions": (
        "usps",
        USPS,
        lambda _: bz2.compress(b"1.5 " + bz2.decompress(usps_text(QUARTERS, LABELS[:5])).partition(b" ")[2]),
        "invalid literal for int",
    ),
    "svhn truncated": ("svhn", SVHN, lambda old: old[:-100], "cannot be read"),
    "svhn empty": ("svhn", SVHN, lambda _: b"", "cannot be read"),
    "svhn no images": ("svhn", SVHN, lambda _: mat(COLOUR[:0], []), "cannot be read"),
    "svhn wrong size": ("svhn", SVHN, lambda _: mat(COLOUR[:, :28], LABELS), r"X is uint8 \(28, 32, 3, 12\)"),
    "svhn not bytes": ("svhn", SVHN, lambda _: mat(COLOUR / 255, LABELS), "X is float64"),
    "svhn labels too few": ("svhn", SVHN, lambda _: mat(COLOUR, LABELS[:-1]), "with 11 labels"),
    "svhn wrong label": ("svhn", SVHN, lambda _: mat(COLOUR, WRONG_LABELS), "image 11 has label 11; allowed: 0..9"),
    "svhn fractions": (
        "svhn",
        SVHN,
        lambda _: mat_of(np.array(LABELS) + 0.5),
        "float64 values that are no whole numbers",
    ),
    "svhn not numbers": ("svhn", SVHN, lambda _: mat_of(np.full(12, np.nan)), "no whole numbers"),
    "svhn texts": ("svhn", SVHN, lambda _: mat_of(np.array(["3"] * 12)), "cannot be read"),
    "svhn negative": ("svhn", SVHN, lambda _: mat_of(np.array([-1, *LABELS[1:]])), "image 0 has label -1"),
    "svhn two zeros": ("svhn", SVHN, lambda _: mat_of(np.array([10, *LABELS[1:]])), "both 0 and 10"),
    "svhn label from above": (
        "svhn",
        SVHN,
        lambda _: mat_of(np.array([2**40, *LABELS[1:]])),
        "image 0 has label 1099511",
    ),
    "syn wrong label": ("syn", SYN, lambda _: mat(COLOUR, WRONG_LABELS), "image 11 has label 11; allowed: 0..9"),
    "png truncated": ("mnist_m", f"{PNGS}/00000001.png", lambda old: old[:200], "cannot be read"),
    "png empty": ("mnist_m", f"{PNGS}/00000001.png", lambda _: b"", "UnidentifiedImageError"),
    "png not an image": ("mnist_m", f"{PNGS}/00000001.png", lambda _: b"<html>", "UnidentifiedImageError"),
    "png wrong size": ("mnist_m", f"{PNGS}/00000001.png", lambda _: png(COLOUR[0, :28]), "a 32x28 image of mode RGB"),
    "png grey": ("mnist_m", f"{PNGS}/00000001.png", lambda _: png(COLOUR[0, ..., 0]), "mode L, not 32x32 RGB"),
    "png not listed": ("mnist_m", f"{PNGS}/00000009.png", lambda _: png(COLOUR[0]), "names 3 images, .* the 4 there"),
    "png list truncated": ("mnist_m", PNG_LABELS, lambda old: old[:-20], "cannot be read"),
    "png list empty": ("mnist_m", PNG_LABELS, lambda _: b"", "names 0 images"),
    "png list mislabelled": (
        "mnist_m",
        PNG_LABELS,
        lambda old: old.replace(b" 9", b" 10"),
        "line 3 is '00000001.png 10'",
    ),
    "png list doubled": (
        "mnist_m",
        PNG_LABELS,
        lambda old: old + old[:15],
        "line 4 names 00000002.png, as a line before",
    ),
    "png list blank line": ("mnist_m", PNG_LABELS, lambda old: old.replace(b"\n", b"\n\n", 1), "line 2 is ''"),
    "png list negative": ("mnist_m", PNG_LABELS, lambda old: old.replace(b" 9", b" -9"), "line 3 is '00000001.png -9'"),
    "mnist far too long": ("mnist", TRAIN_LABELS, lambda old: old * 9, "it has 540,072 bytes, not 60,008"),
    "png list not text": ("mnist_m", PNG_LABELS, lambda _: b"\xff\xfe", "UnicodeDecodeError"),
}


def usps_of(change: Callable[[Any], Any]) -> bytes:
    """USPS's text with other values, whose range is still 0 to 4 quarters of something."""
    assert QUARTERS.min() == 0
    assert QUARTERS.max() == 4
    rows = [
        f"{label + 1} " + " ".join(f"{i}:{change(value / 2 - 1)}" for i, value in enumerate(image.ravel(), start=1))
        for image, label in zip(QUARTERS, LABELS, strict=False)
    ]
    return bz2.compress("\n".join(rows).encode())


def mat_of(labels: np.ndarray[Any, Any]) -> bytes:
    file: Any = io.BytesIO()
    scipy.io.savemat(file, {"X": COLOUR.transpose(1, 2, 3, 0), "y": labels[:, None]})
    return bytes(file.getvalue())


@pytest.mark.parametrize(
    "change",
    [lambda old: b"\xef\xbb\xbf" + old, lambda old: old.replace(b"\n", b"\r\n"), lambda old: old.replace(b" ", b"\t"),
     lambda old: old + b"\n\n"],
)  # fmt: skip
def test_a_list_that_an_editor_wrote_is_read(folder: Path, change: Callable[[bytes], bytes]) -> None:
    put(folder, PNG_LABELS, change(png_files()[PNG_LABELS]))
    assert Dataset().load("mnist_m", "test", folder).y.tolist() == LABELS[:3]


@pytest.mark.parametrize("name", [TRAIN_LABELS, SVHN, USPS, PICKLE, TAR])
def test_pipes_and_devices_are_not_waited_for(folder: Path, name: str) -> None:
    made = Dataset(mnist_m="pickle10k") if name == PICKLE else Dataset()
    (folder / PNG_LABELS).unlink()  # so that the archive is looked for
    domain = {TRAIN_LABELS: "mnist", SVHN: "svhn", USPS: "usps"}.get(name, "mnist_m")
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        (folder / name).unlink(missing_ok=True)
        make(folder / name)
        with pytest.raises(UsageError, match=r"cannot be read: it is a (pipe|device), not a plain file"):
            made.load(domain, "train" if domain == "mnist" else "test", folder)


def test_a_pickle_does_not_fill_the_memory(tmp_path: Path) -> None:
    path = put(tmp_path, "x.pkl", b"c__builtin__\nbytes\n(I1000000000000\ntR.")
    with pytest.raises(TypeError):
        safe_pickle.unpickle(path)
    assert safe_pickle.unpickle(pickle.dumps({"a": b""}, protocol=2)) == {"a": b""}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_files_are_usage_errors(folder: Path, case: str) -> None:
    domain, name, damage, cause = DAMAGE[case]
    path = folder / name
    put(folder, name, damage(path.read_bytes() if path.exists() else b""))
    named = folder / (PNG_LABELS if case == "png not listed" else name)
    fix = "Replace it by a fresh copy from http"
    with pytest.raises(UsageError, match=rf"^{named} cannot be read: .*{fix}") as raised:
        Dataset().load(domain, "train" if domain == "mnist" else "test", folder)
    assert not isinstance(raised.value, MissingDataError)
    raised.match(cause)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (tar_of(png_files())[:2000], "ReadError"),
        (b"", "ReadError"),
        (tar_of({"other/file": b"x"}), "KeyError"),
    ],
)
def test_damaged_archives_are_usage_errors(tmp_path: Path, content: bytes, cause: str) -> None:
    put(tmp_path, TAR, content)
    with pytest.raises(UsageError, match=rf"mnist_m_test.tar.* cannot be read: {cause}.*fresh copy from http"):
        Dataset().load("mnist_m", "test", tmp_path)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "EOFError"),
        (pickle.dumps({b"test": np.zeros((3, 28, 28, 3), np.uint8)}), r"not uint8 \(10000, 28, 28, 3\)"),
        (pickle.dumps({b"test": np.zeros((10_000, 28, 28, 3), np.float16)}), "float16"),
        (pickle.dumps({b"train": 0}), "KeyError"),
        (pickle.dumps({b"test": np.zeros((10_000, 28, 28, 3), np.uint8)})[:5000], "UnpicklingError|EOFError"),
    ],
)
def test_damaged_pickles_are_usage_errors(folder: Path, content: bytes, cause: str) -> None:
    put(folder, PICKLE, content)
    with pytest.raises(UsageError, match=rf"keras_mnistm.pkl cannot be read: .*({cause}).*fresh copy from http"):
        Dataset(mnist_m="pickle10k").load("mnist_m", "test", folder)


@pytest.mark.parametrize("side", [8_193, 10_000, 30_000, 2_000_000_000])
def test_an_image_that_would_fill_the_memory_is_refused_unread(folder: Path, side: int) -> None:
    header = b"IHDR" + side.to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    bomb = png(COLOUR[0])[:12] + header + zlib.crc32(header).to_bytes(4, "big") + png(COLOUR[0])[33:]
    put(folder, f"{PNGS}/00000001.png", bomb)
    with pytest.raises(UsageError, match=r"00000001.png cannot be read: it is an image of .*more than 67108864 pixels"):
        Dataset().load("mnist_m", "test", folder)


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
    here = data.fingerprint({domain: Dataset().load(domain, "test", stored) for domain in ("svhn", "mnist_m")})
    script = """
import sys
from pathlib import Path
from benchmark import data
from benchmark.datasets.digits import Dataset
parts = {domain: Dataset().load(domain, "test", Path(sys.argv[1])) for domain in ("svhn", "mnist_m")}
print(data.fingerprint(parts))
"""
    there = subprocess.run([sys.executable, "-c", script, str(stored)], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == here


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
