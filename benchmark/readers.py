"""Decoding shared by the datasets. Whatever is wrong with a file becomes one UsageError naming file, cause and fix."""

import importlib
import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmark.data import MissingDataError
from benchmark.errors import UsageError
from benchmark.spec import Images

Array: TypeAlias = NDArray[Any]
Resize = Literal["bilinear", "lanczos", "resize36_crop32"]
MAX_PIXELS = 2**26  # of one image: 8192x8192, 200 MB decoded


def data_folder(root: Path | None, dataset: str, *, can_fetch: bool = True) -> Path:
    """The folder given with --data-dir. Raises UsageError where it was not given, is not there, or is empty and
    `benchmark.data fetch` can fill it."""
    if root is None:
        raise UsageError(f"dataset '{dataset}' reads files: name their folder with --data-dir DIR")
    if not root.is_dir():
        raise UsageError(f"--data-dir {root}: {'not a folder' if root.exists() else 'no such folder'}; check the path")
    if can_fetch and not any(root.iterdir()):
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
        reason = " ".join(f"{type(cause).__name__}: {cause}".removeprefix("ValueError: ").split())
        raise UsageError(f"{where} cannot be read: {reason}. Replace it by a fresh copy from {origin}") from cause


def open_image(file: Path | IO[bytes], formats: tuple[str, ...] | None = None) -> Image.Image:
    """Pillow's Image.open, which reads no more than the header. Raises ValueError for more than MAX_PIXELS pixels,
    before they are decoded, where Pillow would warn; and OSError for what is no image."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the check below is stricter
        try:
            image = Image.open(file, formats=formats)
        except Image.DecompressionBombError as bomb:
            raise ValueError(f"it is an image of more than {MAX_PIXELS} pixels") from bomb
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise ValueError(f"it is an image of {image.width}x{image.height}, more than {MAX_PIXELS} pixels")
    return image


def read_png(content: bytes, size: tuple[int, int]) -> Array:
    """A PNG file's pixels, uint8 [H,W,3]. Raises ValueError where it has another size (width, height) or is not RGB."""
    with open_image(io.BytesIO(content), formats=("PNG",)) as image:
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


def read_idx(path: Path, shape: tuple[int, ...], top: int) -> Array:
    """An IDX file's bytes, by torchvision. Raises ValueError for another type or shape, or a value over top."""
    read = importlib.import_module("torchvision.datasets.mnist").read_sn3_pascalvincent_tensor  # slow to import
    array: Array = read(str(path), strict=False).numpy()
    if array.dtype != np.uint8 or array.shape != shape or array.max() > top:
        raise ValueError(f"it holds {array.dtype} {array.shape} up to {array.max()}, not {shape} bytes up to {top}")
    return array


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
