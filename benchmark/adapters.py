"""Data that is in Python already: a mapping of domain name to torch Dataset becomes a dataset of this suite."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from benchmark import data
from benchmark.errors import UsageError
from benchmark.image_files import Filter, Fit, in_val, resized, rgb
from benchmark.method import frozen
from benchmark.spec import Images


def from_torch(
    domains: Mapping[str, Any],
    classes: Sequence[str],
    *,
    size: int | None = None,
    resize: Filter = "bilinear",
    fit: Fit = "squash",
    val_share: float = 0.1,
    sources: Sequence[str] | None = None,
) -> type[data.Dataset]:
    """The `Dataset` class of a plugin file: `Dataset = from_torch({"day": ..., "night": ...}, classes=["cat", "dog"])`.

    domains: map-style torch Datasets by domain name, whose items are (image, label), always the same for an index, so
    without random transforms; label: 0..len(classes)-1. An image is a PIL image of any mode, or a tensor [C,H,W] of one
    or three channels, uint8 or float in [0,1], not normalised; floats are rounded to 255ths. size: side of the square
    that PIL images are scaled to; None leaves them as they are, and then all must have one size, as tensors must.
    val_share: chance of each item to be of its domain's validation part, decided by a hash of domain and index.
    sources: default source domains, all by default. A target is scored on all its items, a source on its validation
    part. Raises UsageError, when it is loaded, naming the domain and index of an item that is none of this.
    """
    names = tuple(classes)

    @frozen()
    class Adapted(data.Dataset):
        """Torch Datasets as domains."""

        test_is_all = True
        needs_files = False
        licence = "yours to know"
        citation = "yours to give"

        def load(self, domain: str, split: data.Split, root: Path | None) -> Images:
            items = domains[domain]
            chosen = [
                i for i in range(len(items)) if split == "test" or in_val(val_share, domain, i) == (split == "val")
            ]
            pixels, labels = [], []
            for index in chosen:
                where = f"{domain}, item {index}"
                try:
                    image, label = items[index]
                    labels.append(int(label))
                except (TypeError, ValueError) as problem:
                    raise UsageError(f"{where}: not a pair of image and label number ({problem})") from problem
                pixels.append(_pixels(image, where, size or 0, resize, fit))
                if pixels[-1].shape != pixels[0].shape:
                    shapes = " and ".join("x".join(map(str, p.shape[1:])) for p in (pixels[0], pixels[-1]))
                    raise UsageError(f"{where}: images are of sizes {shapes}; give from_torch PIL images and a size=")
            x = torch.stack(pixels) if pixels else torch.empty(0, 3, size or 0, size or 0, dtype=torch.uint8)
            return Images(x, torch.tensor(labels, dtype=torch.int64))

    Adapted.classes, Adapted.domains = names, tuple(domains)
    Adapted.sources = tuple(sources or domains)
    Adapted.__module__ = sys._getframe(1).f_globals["__name__"]  # the registry asks it for file and summary
    return Adapted


def _pixels(image: Any, where: str, size: int, how: Filter, fit: Fit) -> Tensor:
    """An item's image as uint8 [3,H,W]."""
    if isinstance(image, Image.Image):
        try:
            return torch.from_numpy(resized(rgb(image), size, how, fit).transpose(2, 0, 1).copy())
        except ValueError as problem:
            raise UsageError(f"{where}: {problem}") from problem
    if not isinstance(image, Tensor) or image.ndim != 3 or image.shape[0] not in (1, 3):
        raise UsageError(f"{where}: the image is neither a PIL image nor a tensor [3,H,W] or [1,H,W]")
    if image.is_floating_point():
        if not ((image >= 0) & (image <= 1)).all():
            raise UsageError(f"{where}: pixels outside [0,1]; leave out Normalize, the network does it")
        image = image.mul(255).round().to(torch.uint8)
    if image.dtype != torch.uint8:
        raise UsageError(f"{where}: a tensor of {image.dtype}; allowed: uint8, or float in [0,1]")
    if size and image.shape[1:] != (size, size):
        raise UsageError(f"{where}: a tensor of {image.shape[1]}x{image.shape[2]}, not {size}x{size}; give PIL images")
    colour: Tensor = image.expand(3, -1, -1)
    return colour
