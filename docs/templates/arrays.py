"""Arrays: two domains of labelled images that lie in NumPy files, DIR/arrays/DOMAIN_PART.npz."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from benchmark import data
from benchmark.core.images import Images
from benchmark.core.recipe import Recipe, Terms
from benchmark.data import readers

ORIGIN = "https://example.org/arrays"


@data.frozen()
class Dataset(data.Dataset):
    """Photographs by day, and others by night. A file holds x, uint8 [N,H,W,3] or [N,H,W], and y, the labels [N]."""

    classes = ("cat", "dog", "fox")
    domains = ("night", "day")
    sources = ("day",)
    licence = "CC BY 4.0"
    citation = "A. Author: Title, Conference 2026"
    terms: ClassVar[Sequence[Terms]] = (
        Terms(protocol="common", recipe=Recipe(network="by_size", lr=1e-3, steps=2000)),
    )

    val: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the training images that is held out for selection: the last ones."""

    def reads(self, domain: str, split: data.Split, root: Path | None) -> list[Path]:
        folder = readers.data_folder(root, "arrays", can_fetch=False)
        path = folder / "arrays" / f"{domain}_{'test' if split == 'test' else 'train'}.npz"
        if not path.is_file():
            raise data.MissingDataError(f"arrays/{domain}: put {path} there. It is from {ORIGIN}")
        return [path]

    def load(self, domain: str, split: data.Split, root: Path | None) -> Images:
        (path,) = self.reads(domain, split, root)
        with readers.decoding(path, ORIGIN), np.load(path, allow_pickle=False) as stored:
            images = readers.labelled(stored["x"], stored["y"], len(self.classes))
        cut = len(images) - round(self.val * len(images))
        return {"train": images[:cut], "val": images[cut:], "test": images}[split]
