"""Decoding that the datasets share. Anything wrong with a file becomes one UsageError naming file, cause and fix."""

import bz2
import importlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmark.core.errors import MissingDataError, UsageError
from benchmark.core.escaping import one_line
from benchmark.core.images import Images
from benchmark.core.regular_files import require

Array: TypeAlias = NDArray[Any]
Resize = Literal["bilinear", "lanczos", "resize36_crop32"]
USPS_LIMIT = 2**26


def data_folder(root: Path | None, dataset: str, *, can_fetch: bool = True) -> Path:
    """The folder given with --data-dir. Raises UsageError where it was not given, is not there, or is empty and
    `benchmark.data fetch` can fill it."""
    if root is None:
        raise UsageError(f"dataset '{dataset}' reads files: name their folder with --data-dir DIR")
    if not root.is_dir():
        raise UsageError(f"--data-dir {root}: {'not a folder' if root.exists() else 'no such folder'}; check the path")
    try:
        empty = not any(root.iterdir())
    except OSError as problem:
        raise UsageError(f"--data-dir {root}: cannot be read ({problem.strerror})") from problem
    if can_fetch and empty:
        raise UsageError(
            f"--data-dir {root}: an empty folder; docs/datasets/{dataset}.md says which files go there, and "
            f"`python -m benchmark.data fetch {dataset} --data-dir {root}` fetches them"
        )
    return root


def find(root: Path, domain: str, choices: Sequence[Sequence[str]], origin: str) -> list[Path]:
    """The files and folders of the first choice that is all there. Else raises MissingDataError naming them all."""
    sets = [[root / name for name in names] for names in choices]
    for paths in sets:
        if all(path.exists() for path in paths):
            return paths
    wanted = "; or ".join(" and ".join(map(str, paths)) for paths in sets)
    command = f"python -m benchmark.data fetch {domain.partition('/')[0]} --data-dir {root}"
    raise MissingDataError(
        f"{domain} is missing. Put its files here: {wanted}. They come from {origin}; `{command}` gets them"
    )


@contextmanager
def decoding(where: Path | str, origin: str) -> Iterator[None]:
    """Turns whatever a damaged file makes a decoder raise into a UsageError."""
    try:
        yield
    except UsageError:
        raise
    except Exception as cause:  # damaged bytes can make a decoder raise anything
        reason = one_line(" ".join(f"{type(cause).__name__}: {cause}".removeprefix("ValueError: ").split()))
        raise UsageError(
            f"{one_line(where)} cannot be read: {reason}. Replace it by a fresh copy from {origin}"
        ) from cause


def read_label_list(content: bytes, classes: int) -> list[tuple[str, int]]:
    """Lines 'file label' as pairs; a byte-order mark and blank lines at the end are read over.

    Raises ValueError for any other line, for a label not in 0..classes-1, and for a file that is named twice.
    """
    found: dict[str, int] = {}
    for number, line in enumerate(content.decode("utf-8-sig").rstrip().splitlines(), start=1):
        row = line.split()
        if len(row) != 2 or not row[1].isdecimal() or int(row[1]) >= classes:
            raise ValueError(f"line {number} is '{' '.join(row)}', not a file and a label in 0..{classes - 1}")
        if row[0] in found:
            raise ValueError(f"line {number} names {row[0]}, as a line before it does")
        found[row[0]] = int(row[1])
    return list(found.items())


def read_idx(path: Path, shape: tuple[int, ...], top: int) -> Array:
    """An IDX file's bytes, by torchvision. Raises ValueError for another type or shape, or a value over top."""
    require(path)
    size = 4 + 4 * len(shape) + math.prod(shape)
    if path.stat().st_size > 8 * size:
        raise ValueError(f"it has {path.stat().st_size:,} bytes, not {size:,}")
    read = importlib.import_module("torchvision.datasets.mnist").read_sn3_pascalvincent_tensor  # slow to import
    array: Array = read(str(path), strict=False).numpy()
    most = array.max(initial=0)
    if array.dtype != np.uint8 or array.shape != shape or most > top:
        raise ValueError(f"it holds {array.dtype} {array.shape} up to {most}, not {shape} bytes up to {top}")
    return array


def read_usps(path: Path) -> tuple[Array, Array]:
    """USPS in libsvm's format, 'label 1:value ... 256:value', as images uint8 [N,16,16] and labels, which count from 0
    here and from 1 there.

    The arithmetic is torchvision's, which takes any values by position; here values must lie in -1..1 as the published
    ones do, and not all in 0..1, as in a scaled copy. Else raises ValueError.
    """
    require(path)
    with bz2.open(path) as packed:
        text = packed.read(USPS_LIMIT + 1)
    if len(text) > USPS_LIMIT:
        raise ValueError(f"it unpacks to more than {USPS_LIMIT} bytes")
    rows = [line.split() for line in text.decode("ascii").splitlines() if line.strip()]
    order, values = [str(n) for n in range(1, 257)], []
    for number, (_, *pairs) in enumerate(rows, start=1):
        if [pair.partition(":")[0] for pair in pairs] != order:
            raise ValueError(f"line {number} does not hold the values 1 to 256 in their order")
        values.append([pair.partition(":")[2] for pair in pairs])
    if not values:
        raise ValueError("it holds no images")
    grey = np.asarray(values, np.float32).reshape(-1, 16, 16)
    low, high = grey.min(), grey.max()
    if not -1 <= low <= high <= 1 or low >= 0:
        raise ValueError(f"its values lie in {low:g}..{high:g}, not in -1..1 as those of the published file")
    labels = [int(row[0]) - 1 for row in rows]
    return ((grey + 1) / 2 * 255).astype(np.uint8), np.array(labels)


def read_mat(path: Path) -> tuple[Array, Array]:
    """X and y of a MATLAB file in the layout of SVHN as images uint8 [N,32,32,3] and labels int64 [N], label 10 made 0.

    Raises ValueError where a variable is missing or has another shape or type, or a label is no whole number.
    """
    import scipy.io  # noqa: PLC0415 - slow to import, and few runs need it

    require(path)
    stored = scipy.io.loadmat(path, variable_names=["X", "y"])
    if not {"X", "y"} <= stored.keys():
        raise ValueError("it does not hold the variables X and y")
    x, y = (np.asarray(stored[name]) for name in ("X", "y"))
    y = y.reshape(-1)
    if x.dtype != np.uint8 or x.ndim != 4 or x.shape != (32, 32, 3, len(y)):
        raise ValueError(f"X is {x.dtype} {x.shape} with {len(y)} labels, not uint8 (32, 32, 3, number of labels)")
    if y.dtype.kind not in "iuf" or not (np.isfinite(y) & (y == np.floor(y))).all():
        raise ValueError(f"y holds {y.dtype} values that are no whole numbers")
    if (y == 0).any() and (y == 10).any():
        raise ValueError("y holds both 0 and 10, which both stand for the digit 0")
    labels = y.astype(np.int64)
    return x.transpose(3, 0, 1, 2), np.where(labels == 10, 0, labels)


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
    if y.dtype.kind not in "iu":
        raise ValueError(f"its labels are {y.dtype}, not whole numbers")
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
