"""Data that is in Python already: a mapping of domain name to torch Dataset becomes a dataset of this suite."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from PIL import Image
from torch import Tensor

from benchmark import data
from benchmark.core.errors import UsageError, did_you_mean
from benchmark.core.images import Images
from benchmark.core.settings import frozen
from benchmark.data.checks import check_names
from benchmark.data.image_files import Filter, Fit, in_val, resized, rgb


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
    part. Raises UsageError for wrong arguments, and, when it is loaded, one that names the domain and index of an item
    that is none of this.
    """
    names = _check(domains, classes, size, resize, fit, val_share, sources)

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
                i
                for i in range(_length(items, domain))
                if split == "test" or in_val(val_share, domain, i) == (split == "val")
            ]
            pixels, labels = [], []
            for index in chosen:
                where = f"{domain}, item {index}"
                try:
                    image, label = items[index]
                    labels.append(_label(label))
                except Exception as problem:  # whatever somebody else's dataset raises
                    reason = " ".join(f"{type(problem).__name__}: {problem}".split())
                    raise UsageError(f"{where}: not a pair of image and label number ({reason})") from problem
                if not 0 <= labels[-1] < len(names):
                    raise UsageError(f"{where}: label {labels[-1]}; allowed: 0..{len(names) - 1}")
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


def _check(
    domains: Any, classes: Any, size: Any, resize: Any, fit: Any, val_share: Any, sources: Sequence[str] | None
) -> tuple[str, ...]:
    """The names of the classes. Raises UsageError for an argument of from_torch that cannot be meant."""
    if not isinstance(domains, Mapping):
        raise UsageError(f"from_torch: domains is {type(domains).__name__}; give a mapping of domain name to Dataset")
    found = classes if isinstance(classes, str) else tuple(classes)
    check_names("from_torch", "class", found)
    check_names("from_torch", "domain", tuple(domains))
    if sources is not None:
        check_names("from_torch", "source", sources if isinstance(sources, str) else tuple(sources))
        unknown = next((name for source in sources for name in source.split("+") if name not in domains), None)
        if unknown is not None:
            raise UsageError(f"from_torch: source '{unknown}' is no domain; {did_you_mean(unknown, domains)}")
    if size is not None and not (type(size) is int and 1 <= size <= 4096):
        raise UsageError(f"from_torch: size={size!r}; allowed: 1 to 4096, or None")
    for name, value, allowed in (("resize", resize, get_args(Filter)), ("fit", fit, get_args(Fit))):
        if value not in allowed:
            raise UsageError(f"from_torch: {name}={value!r}; allowed: {', '.join(allowed)}")
    if not (isinstance(val_share, float) and 0 < val_share < 1):
        raise UsageError(f"from_torch: val_share={val_share!r}; allowed: between 0 and 1")
    return tuple(found)


def _length(items: Any, domain: str) -> int:
    try:
        return len(items)
    except Exception as problem:  # whatever somebody else's dataset raises
        raise UsageError(
            f"{domain}: {type(items).__name__} has no length ({problem}); give a torch Dataset with __len__ and "
            "__getitem__, such as list(dataset)"
        ) from problem


def _label(label: Any) -> int:
    """A label as a whole number. Raises TypeError or ValueError for a text, a truth value, and a fraction."""
    value = label.item() if hasattr(label, "item") else label
    if isinstance(value, (str, bytes, bool)) or int(value) != value:
        raise ValueError(f"label {value!r} is not a whole number")
    return int(value)


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
