"""Decoding shared by the datasets. Whatever is wrong with a file becomes one UsageError naming file, cause and fix."""

import io
import pickle
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmark.data import MissingDataError
from benchmark.errors import UsageError
from benchmark.spec import Images

Array: TypeAlias = NDArray[Any]
Resize = Literal["bilinear", "lanczos", "resize36_crop32"]
LIMIT = 2**30  # bytes that one archive may unpack to


def data_folder(root: Path | None, dataset: str) -> Path:
    """The folder given with --data-dir. Raises UsageError where it was not given, is not there or is empty."""
    if root is None:
        raise UsageError(f"dataset '{dataset}' reads files: name their folder with --data-dir DIR")
    if not root.is_dir():
        raise UsageError(f"--data-dir {root}: {'not a folder' if root.exists() else 'no such folder'}; check the path")
    if not any(root.iterdir()):
        raise UsageError(f"--data-dir {root}: an empty folder; docs/datasets/{dataset}.md says which files go there")
    return root


def find(root: Path, domain: str, choices: Sequence[Sequence[str]], origin: str) -> Path:
    """The first file of the first choice whose files are all there. Else raises MissingDataError naming all paths."""
    for names in choices:
        if all((root / name).exists() for name in names):
            return root / names[0]
    wanted = "; or ".join(" and ".join(str(root / name) for name in names) for names in choices)
    raise MissingDataError(f"{domain} is missing. Put its files here: {wanted}. They come from {origin}")


@contextmanager
def decoding(where: Path | str, origin: str) -> Iterator[None]:
    """Turns whatever a damaged file makes a decoder raise into a UsageError."""
    try:
        yield
    except UsageError:
        raise
    except Exception as cause:  # damaged bytes can make a decoder raise anything
        reason = " ".join(f"{type(cause).__name__}: {cause}".removeprefix("ValueError: ").split())
        raise UsageError(f"{where} cannot be read: {reason}. Replace it by a fresh copy from {origin}") from cause


def read_files(path: Path, names: Sequence[str]) -> dict[str, bytes]:
    """Contents by name of the files of a folder or tar archive that are, or lie under, one of `names`, but hidden ones.

    An archive is read in memory, nothing is unpacked. Raises ValueError for a name that leads out of the archive, a
    link, or more than LIMIT bytes.
    """

    def wanted(name: str) -> bool:
        return name.startswith(tuple(names)) and not PurePosixPath(name).name.startswith(".")

    if path.is_dir():
        files = [file for name in names for file in [path / name, *(path / name).rglob("*")] if file.is_file()]
        return {name: file.read_bytes() for file in files if wanted(name := file.relative_to(path).as_posix())}
    contents, total = {}, 0
    with tarfile.open(path) as archive:
        for member in archive:
            name, total = member.name.removeprefix("./"), total + member.size
            if name.startswith("/") or ".." in PurePosixPath(name).parts:
                raise ValueError(f"'{name}' leads out of the archive")
            if total > LIMIT:
                raise ValueError(f"it unpacks to more than {LIMIT} bytes")
            if wanted(name) and not member.isdir():
                content = archive.extractfile(member) if member.isreg() else None
                if content is None:
                    raise ValueError(f"'{name}' is not a plain file")
                contents[name] = content.read()
    return contents


def read_png(content: bytes, size: tuple[int, int]) -> Array:
    """A PNG file's pixels, uint8 [H,W,3]. Raises ValueError where it has another size (width, height) or is not RGB."""
    with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
        if (image.size, image.mode) != (size, "RGB"):
            raise ValueError(
                f"it is a {image.width}x{image.height} image of mode {image.mode}, not {size[0]}x{size[1]} RGB"
            )
        return np.asarray(image)


def read_label_list(content: bytes, classes: int) -> list[tuple[str, int]]:
    """Lines 'file label' as pairs. Raises ValueError for any other line, and for a label not in 0..classes-1."""
    rows = [line.split() for line in content.decode().splitlines()]
    for number, row in enumerate(rows, start=1):
        if len(row) != 2 or not row[1].isdecimal() or int(row[1]) >= classes:
            raise ValueError(f"line {number} is '{' '.join(row)}', not a file and a label in 0..{classes - 1}")
    return [(name, int(label)) for name, label in rows]


def read_mat(path: Path) -> tuple[Array, Array]:
    """X and y of a MATLAB file in the layout of SVHN as images uint8 [N,32,32,3] and labels int64 [N], label 10 made 0.

    Raises ValueError where a variable is missing or has another shape or type.
    """
    import scipy.io  # noqa: PLC0415 - slow to import, and few runs need it

    stored = scipy.io.loadmat(path, variable_names=["X", "y"])
    if not {"X", "y"} <= stored.keys():
        raise ValueError("it does not hold the variables X and y")
    x, y = stored["X"], stored["y"].reshape(-1)
    if x.dtype != np.uint8 or x.ndim != 4 or x.shape != (32, 32, 3, len(y)):
        raise ValueError(f"X is {x.dtype} {x.shape} with {len(y)} labels, not uint8 (32, 32, 3, number of labels)")
    labels = y.astype(np.int64)
    return x.transpose(3, 0, 1, 2), np.where(labels == 10, 0, labels)


class _Dtype:
    """Stands in for numpy.dtype, so that a pickle can describe arrays of numbers and texts but not of objects."""

    def __init__(self, code: Any):
        self.plain = np.dtype(code)
        if self.plain.kind not in "biufSU":
            raise pickle.UnpicklingError(f"it holds an array of {self.plain}; allowed: numbers and texts")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.plain = self.plain.newbyteorder(state[1])


class _Array(np.ndarray[Any, Any]):
    def __setstate__(self, state: tuple[Any, ...]) -> None:
        super().__setstate__((*state[:2], state[2].plain, *state[3:]))


class _Unpickler(pickle.Unpickler):
    """Imports nothing: the few names that a pickled array asks for stand for the methods below."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        name = f"{module_name}.{global_name}".replace("numpy._core", "numpy.core")
        known: dict[str, Any] = {"numpy.ndarray": None, "numpy.dtype": self.dtype, "_codecs.encode": self.encode}
        known |= {"numpy.core.multiarray._reconstruct": self.array, "numpy.core.numeric._frombuffer": self.view}
        known |= {"__builtin__.bytes": bytes}
        if name not in known:
            raise pickle.UnpicklingError(f"it asks for '{name}', which no array needs; refused")
        return known[name]

    def array(self, *_: Any) -> Array:
        return _Array(0)

    def view(self, raw: bytes, dtype: _Dtype, shape: tuple[int, ...], order: Literal["C", "F"]) -> Array:
        return np.frombuffer(raw, dtype.plain).reshape(shape, order=order)

    def dtype(self, code: Any, *_: Any) -> _Dtype:
        return _Dtype(code)

    def encode(self, text: str, _: str) -> bytes:  # how Python 3 writes bytes for Python 2
        return text.encode("latin1")


def unpickle(path: Path) -> Any:
    """A pickled value of arrays and plain containers, Python 2's texts as bytes. Else raises pickle.UnpicklingError."""
    with path.open("rb") as file:
        return _Unpickler(file, encoding="bytes").load()


def resize(images: Array, how: Resize) -> Array:
    """uint8 [N,H,W] or [N,H,W,3] at 32x32 by Pillow's filters; resize36_crop32: bilinear to 36x36, the middle kept."""
    side, edge = (36, 2) if how == "resize36_crop32" else (32, 0)
    method = Image.Resampling.LANCZOS if how == "lanczos" else Image.Resampling.BILINEAR
    large = np.stack([np.asarray(Image.fromarray(image).resize((side, side), method)) for image in images])
    return large[:, edge : edge + 32, edge : edge + 32]


def labelled(x: Array, y: Array, classes: int) -> Images:
    """Images of uint8 pixels [N,H,W] (made three equal channels) or [N,H,W,3]. Raises ValueError for a wrong label."""
    if not len(x) or len(x) != len(y):
        raise ValueError(f"it holds {len(x)} images and {len(y)} labels")
    wrong = np.flatnonzero((y < 0) | (y >= classes))
    if len(wrong):
        raise ValueError(f"image {wrong[0]} has label {y[wrong[0]]}; allowed: 0..{classes - 1}")
    colour = np.repeat(x[..., None], 3, axis=3) if x.ndim == 3 else x
    pixels = torch.from_numpy(np.ascontiguousarray(colour.transpose(0, 3, 1, 2)))
    return Images(pixels, torch.from_numpy(np.ascontiguousarray(y, dtype=np.int64)))


@cache
def package_file(package: str, name: str) -> Path:
    """A data file of an installed package, not imported (which takes scikit-learn a second). Else raises UsageError."""
    spec = find_spec(package)
    path = Path(spec.origin if spec and spec.origin else package).parent / name
    if not path.is_file():
        raise UsageError(f"{path} is missing; install its package again: pip install --force-reinstall {package}")
    return path
