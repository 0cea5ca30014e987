"""Checks of every dataset, from files or from Python, before anything is trained."""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any, Literal

from benchmark.core.errors import UsageError
from benchmark.core.images import Images

_PART = r"(?=\S)[\w .()-]{1,100}(?<=\S)"
_DOMAIN = rf"{_PART}(/{_PART})?"
ALLOWED = {
    "class": (re.compile(r".{1,100}"), "up to 100 characters that can be printed"),
    "domain": (re.compile(_DOMAIN), "letters, digits, space and . _ - ( ), and one / between a column and its part"),
    "source": (re.compile(rf"{_DOMAIN}(\+{_DOMAIN})*"), "names of domains, joined by +"),
}


def check_names(owner: str, kind: Literal["class", "domain", "source"], names: Any) -> None:
    """Raises UsageError for what no table, command line or system can hold as a name, and for two names that differ
    only in how accents are stored or, except for classes ('a' and 'A' may be two), in capital letters.

    owner: the dataset, for the message.
    """
    if not isinstance(names, (list, tuple)) or not (names or kind == "source"):
        raise UsageError(f"{owner}: {names!a} is no sequence of {kind} names")
    pattern, allowed = ALLOWED[kind]
    seen: dict[str, str] = {}
    for name in names:
        plain = unicodedata.normalize("NFC", name) if isinstance(name, str) else ""
        if not pattern.fullmatch(plain) or not plain.isprintable():
            raise UsageError(f"{owner}: {name!a} is no {kind} name; allowed: {allowed}")
        key = plain if kind == "class" else plain.casefold()
        if key in seen:
            raise UsageError(f"{owner}: two {kind} names are one: {seen[key]!a} and {name!a}")
        seen[key] = name


def check_sizes(owner: str, parts: Mapping[str, Images]) -> None:
    """Raises UsageError where images differ in size between parts: training would end before anybody noticed."""
    sizes = {name: "x".join(map(str, images.x.shape[2:])) for name, images in parts.items()}
    (first, usual), *others = sizes.items()
    for other, size in others:
        if size != usual:
            raise UsageError(
                f"{owner}: images of {other} are {size}, those of {first} are {usual} (height x width); "
                "make all of one size"
            )


def check_images(images: Images, where: str, classes: int) -> None:
    """Raises UsageError for a part without images, pixels outside of [0,1] and labels that are no class."""
    if not len(images):
        raise UsageError(f"{where}: no images")
    if images.x.is_floating_point():
        outside = ~((images.x >= 0) & (images.x <= 1)).flatten(1).all(dim=1)  # not a number is outside too
        if outside.any():
            raise UsageError(f"{where}: image {int(outside.nonzero()[0])} has pixels that are not in [0,1]")
    bad = (images.y < 0) | (images.y >= classes)
    if bad.any():
        index = int(bad.nonzero()[0])
        raise UsageError(f"{where}: image {index} has label {int(images.y[index])}; allowed: 0..{classes - 1}")
