"""digits: pickles that run code, archives that lead out, and every kind of damage, each refused by name."""

import bz2
import io
import os
import pickle
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from benchmark.core.errors import MissingDataError, UsageError
from benchmark.data import archives, safe_pickle
from tests.datasets.digits_files import (
    COLOUR,
    LABELS,
    PICKLE,
    PNG_LABELS,
    PNGS,
    QUARTERS,
    SVHN,
    SYN,
    TAR,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    USPS,
    Dataset,
    flat_images,
    idx,
    mat,
    png,
    png_files,
    put,
    tar_of,
    usps_text,
)  # fmt: skip

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
