"""Image files of any common format and mode as RGB pixels. Whatever is wrong with one is a ValueError or OSError, which
`readers.decoding` turns into a message that names it."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from benchmark.errors import UsageError
from benchmark.readers import decoding, open_image
from benchmark.rng import key
from benchmark.spec import Images

Filter = Literal["bilinear", "bicubic", "lanczos"]
Fit = Literal["squash", "crop"]
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that are opened; Pillow knows others that run programs."""
IGNORED = {"thumbs.db", "desktop.ini"}
"""What file managers leave behind, beside hidden files."""


def shown(path: Path | str) -> str:
    """A path as it can be printed in one line on any terminal."""
    return text if (text := str(path)).isprintable() else ascii(text)


def entries(folder: Path, root: Path) -> list[Path]:
    """What a folder holds, ordered by name, but hidden files and what file managers leave behind.

    Raises UsageError for a link that leads out of `root`.
    """
    found = [path for path in folder.iterdir() if path.name[0] != "." and path.name.lower() not in IGNORED]
    for path in found:
        if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
            raise UsageError(f"{shown(path)}: a link that leads out of {root}; put a copy in its place")
    return sorted(found, key=lambda path: plain_name(path.name))


def plain_name(name: str) -> str:
    """A name as equal on all systems: some store accents apart from their letters."""
    return unicodedata.normalize("NFC", name)


def in_val(share: float, *name: object) -> bool:
    """Whether the image of this name is of the validation part: its hash decides, and no other image has a say."""
    parts = [str(part).encode("utf-8", "surrogateescape").hex() for part in name]
    return key("split", *parts) < share * 2**63


def rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as RGB, turned as its EXIF entry says.

    Grey levels become three equal channels, those of 16 bits are divided by 257 and rounded, transparent pixels lie on
    white, CMYK is converted by Pillow without colour profiles, and of an animation the first frame is taken. Raises
    ValueError for modes whose range is unknown (32-bit integers and floats).
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        levels = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((levels + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels are of mode {image.mode}, whose range is unknown; store them as 8 or 16 bits")
    if image.has_transparency_data:
        colour = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", colour.size, "white"), colour).convert("RGB")
    return image.convert("RGB")


def resized(image: Image.Image, size: int, how: Filter, fit: Fit) -> NDArray[np.uint8]:
    """An RGB image as uint8 [size,size,3], or as it is where size is 0. Pillow's filters smooth when they shrink.

    squash: both sides are scaled to `size`. crop: the largest square in the middle is.
    """
    if size and image.size != (size, size):
        method = Image.Resampling[how.upper()]
        image = ImageOps.fit(image, (size, size), method) if fit == "crop" else image.resize((size, size), method)
    return np.asarray(image)


def opened(path: Path) -> Image.Image:
    """An image file, of which only the header is read yet. Raises ValueError where it is no image or far too large."""
    try:
        return open_image(path, FORMATS)
    except UnidentifiedImageError:
        raise ValueError(f"it is not an image of a known format ({', '.join(FORMATS)})") from None


def shape(path: Path, fix: str) -> tuple[int, int]:
    """Width and height as they will be decoded, from the header alone. Raises UsageError, which ends with `fix`."""
    with decoding(shown(path), fix), opened(path) as image:
        turned = image.getexif().get(0x0112, 1) >= 5
        return (image.height, image.width) if turned else (image.width, image.height)


def read(
    files: Sequence[tuple[Path, int]], origin: str, *, size: int, how: Filter = "bilinear", fit: Fit = "squash"
) -> Images:
    """The images of these files and labels, each decoded into its place. size 0: that of the first, equal for all.

    Raises UsageError naming the file that cannot be decoded; origin: where to get a fresh copy.
    """
    y = torch.tensor([label for _, label in files], dtype=torch.int64)
    if not files:
        return Images(torch.empty(0, 3, size, size, dtype=torch.uint8), y)
    width, height = (size, size) if size else shape(files[0][0], origin)
    x = torch.empty(len(files), 3, height, width, dtype=torch.uint8)
    pixels: NDArray[Any] = x.numpy()
    for index, (path, _) in enumerate(files):
        with decoding(shown(path), origin), opened(path) as image:
            found = resized(rgb(image), size, how, fit)
            if found.shape != (height, width, 3):
                raise ValueError(f"it is {found.shape[1]}x{found.shape[0]}, and the others are {width}x{height}")
            pixels[index] = found.transpose(2, 0, 1)
    return Images(x, y)
