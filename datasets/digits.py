"""MNIST against SVHN, MNIST-M, SYN and USPS at 32x32, the digits benchmark of GUD, M-ADA, RandConv and SADA.

The released codes disagree about the training images and the resize filter, and two different MNIST-M test sets are in
circulation. Each choice is a field. Targets are always their whole official test part. Card: docs/datasets/digits.md.
"""

from pathlib import Path
from typing import Literal

import numpy as np

from benchmark import data
from benchmark.core.errors import UsageError
from benchmark.core.images import Images
from benchmark.core.settings import frozen
from benchmark.data import archives, image_files, readers, safe_pickle
from benchmark.data.readers import Array
from benchmark.data.remote import sources
from benchmark.data.remote.remote_file import Remote

SUBSETS = {"first10k": (0, 10_000), "offset5k": (5_000, 15_000), "all50k": (0, 50_000), "all60k": (0, 60_000)}
PNG_FOLDER, PNG_LABELS = "mnist_m/mnist_m_test", "mnist_m/mnist_m_test_labels.txt"
FILES: dict[str, tuple[tuple[Remote, ...], ...]] = {
    "mnist": (sources.MNIST,),
    "usps": ((sources.USPS_TEST,),),
    "svhn": ((sources.SVHN_TEST,),),
    "syn": ((sources.SYN_TEST,),),
    "png9001": ((sources.MNIST_M_FOLDER,), (sources.MNIST_M_TEST_TAR,)),
    "pickle10k": ((sources.MNIST_M_PICKLE, *sources.MNIST),),
}
"""By domain, or layout of MNIST-M: the sets of files that each suffice."""


@frozen()
class Dataset(data.Dataset):
    """MNIST as the source; SVHN, MNIST-M, SYN and USPS as targets. Greyscale images get three equal channels."""

    classes = tuple("0123456789")
    domains = ("svhn", "mnist_m", "syn", "usps", "mnist")
    sources = ("mnist",)
    licence = "MNIST: CC BY-SA 3.0; SVHN: non-commercial use only; SYN: CC BY 4.0; MNIST-M and USPS: not stated"
    citation = "LeCun 1998 (MNIST), Netzer 2011 (SVHN), Ganin 2016 (MNIST-M, SYN), Hull 1994 (USPS): see the card"

    subset: Literal["first10k", "offset5k", "all50k", "all60k"] = "first10k"
    """Training images of MNIST, in the original order. first10k: [0:10000] (RandConv); offset5k: [5000:15000] (GUD,
    M-ADA); all50k: [0:50000]; all60k: [0:60000] (SADA). Validation is always [50000:60000]. all60k trains on those too:
    its validation accuracy then says nothing, so only results at the last step count."""
    resize: readers.Resize = "bilinear"
    """How images that are not 32x32 are scaled, with Pillow. bilinear (RandConv), lanczos (GUD, M-ADA), or
    resize36_crop32: MNIST to 36x36, bilinear, and the middle cut out; targets bilinear to 32x32 (SADA)."""
    mnist_m: Literal["png9001", "pickle10k"] = "png9001"
    """Test set of MNIST-M. png9001: 9,001 images of 32x32 (M-ADA, SADA); pickle10k: 10,000 of 28x28 (RandConv)."""

    def reads(self, domain: str, split: data.Split, root: Path | None) -> list[Path]:
        if domain not in self.domains or (split != "test" and domain not in self.sources):
            raise UsageError(f"digits/{domain} has no {split} part; the only source domain is mnist")
        choices = FILES[self.mnist_m if domain == "mnist_m" else domain]
        names = [[place for remote in choice for place in remote.places] for choice in choices]
        return readers.find(readers.data_folder(root, "digits"), f"digits/{domain}", names, choices[0][0].origin)

    def remotes(self) -> tuple[Remote, ...]:
        layouts = ("mnist", "svhn", self.mnist_m, "syn", "usps")
        found = {remote.path: remote for layout in layouts for choice in FILES[layout] for remote in choice}
        return tuple(found.values())

    def load(self, domain: str, split: data.Split, root: Path | None = None) -> Images:
        return _load(self, domain, split, readers.data_folder(root, "digits"))


def _load(dataset: Dataset, domain: str, split: data.Split, root: Path) -> Images:
    layout, path = dataset.mnist_m if domain == "mnist_m" else domain, dataset.reads(domain, split, root)[0]
    origin = FILES[layout][0][0].origin
    with readers.decoding(path, origin):
        if layout == "mnist":
            first, last = {"train": SUBSETS[dataset.subset], "val": (50_000, 60_000), "test": (0, 10_000)}[split]
            x, y = (array[first:last] for array in mnist(root, "t10k" if split == "test" else "train"))
        elif layout == "usps":
            x, y = readers.read_usps(path)
        elif layout == "png9001":
            x, y = png_folder(root if path.is_dir() else path)
        elif layout == "pickle10k":
            x, y = pickled(path), mnist(root, "t10k")[1]
        else:
            x, y = readers.read_mat(path)
        if x.shape[1:3] != (32, 32):
            x = readers.resize(x, dataset.resize if domain == "mnist" or dataset.resize == "lanczos" else "bilinear")
        return readers.labelled(x, y, len(dataset.classes))


def mnist(root: Path, part: Literal["train", "t10k"]) -> tuple[Array, Array]:
    """Images [N,28,28] and labels [N], each file read for itself, so that an error names it."""
    found, n = [], {"train": 60_000, "t10k": 10_000}[part]
    for kind, shape, top in (("images-idx3", (n, 28, 28), 255), ("labels-idx1", (n,), 9)):
        path = root / f"MNIST/raw/{part}-{kind}-ubyte"
        with readers.decoding(path, sources.MNIST[0].origin):
            found.append(readers.read_idx(path, shape, top))
    return found[0], found[1]


def png_folder(path: Path) -> tuple[Array, Array]:
    """MNIST-M's images and labels, from the data folder or the archive."""
    files, origin = archives.read_files(path, [f"{PNG_FOLDER}/", PNG_LABELS]), sources.MNIST_M_FOLDER.origin
    with readers.decoding(path / PNG_LABELS, origin):
        rows = readers.read_label_list(files.pop(PNG_LABELS), classes=10)
        if sorted(files) != sorted(f"{PNG_FOLDER}/{name}" for name, _ in rows):
            raise ValueError(f"it names {len(rows)} images, which are not the {len(files)} there")
    images = np.empty((len(rows), 32, 32, 3), np.uint8)
    for index, (name, _) in enumerate(rows):
        with readers.decoding(path / PNG_FOLDER / name, origin):
            images[index] = image_files.read_png(files[f"{PNG_FOLDER}/{name}"], (32, 32))
    return images, np.array([label for _, label in rows])


def pickled(path: Path) -> Array:
    """MNIST-M's images of the pickle, in the order of MNIST's test set, whose labels are theirs."""
    stored = safe_pickle.unpickle(path)
    x = np.asarray(stored[b"test"] if b"test" in stored else stored["test"])
    if x.dtype != np.uint8 or x.shape != (10_000, 28, 28, 3):
        raise ValueError(f"its test images are {x.dtype} {x.shape}, not uint8 (10000, 28, 28, 3)")
    return x
