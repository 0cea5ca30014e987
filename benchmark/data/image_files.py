"""Opens image files of any common format and mode, as RGB pixels. All images of the suite come in here.

Anything wrong with a file is a ValueError or OSError; `readers.decoding` turns it into a message that names the file.
"""

import io
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from benchmark.core.errors import UsageError
from benchmark.core.escaping import one_line
from benchmark.core.images import Images
from benchmark.core.regular_files import left_behind, opened
from benchmark.core.rng import key
from benchmark.data.readers import decoding

Filter = Literal["bilinear", "bicubic", "lanczos"]
Fit = Literal["squash", "crop"]
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that are opened; Pillow knows others that run programs."""
MAX_PIXELS = 2**26
"""Of one image: 8192x8192, 200 MB decoded."""
MAX_BYTES = 2**30
"""Of one image file."""
ORIENTATION = 0x0112
TURNS = dict(zip(range(2, 9), (0, 3, 1, 5, 4, 6, 2), strict=True))
"""EXIF orientations but 1, and Pillow's numbers of the turns; from 5 on width and height are swapped."""


def entries(folder: Path, root: Path) -> list[Path]:
    """What a folder holds, ordered by name, but hidden files and what systems and file managers leave behind.

    Raises UsageError for a link that leads out of `root` or to nothing, and for a folder that cannot be read.
    """
    try:
        found = [path for path in folder.iterdir() if not left_behind(path.name)]
        for path in found:
            if path.is_symlink():
                _check_link(path, root)
    except OSError as problem:
        raise UsageError(f"{one_line(problem.filename or folder)}: cannot be read ({problem.strerror})") from problem
    return sorted(found, key=lambda path: (plain_name(path.name), path.name))


def _check_link(path: Path, root: Path) -> None:
    try:
        target = path.resolve(strict=True)
    except FileNotFoundError:
        raise UsageError(
            f"{one_line(path)}: a broken link, there is no {one_line(path.readlink())}; "
            "delete it, or put a copy in its place"
        ) from None
    except (OSError, RuntimeError):  # which one depends on Python's version
        raise UsageError(f"{one_line(path)}: a link that leads back to itself; delete it") from None
    if not target.is_relative_to(root.resolve()):
        raise UsageError(f"{one_line(path)}: a link that leads out of {root}; put a copy in its place")


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
    clear = _clear_level(image)
    image.load()
    deep = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")  # Pillow scales its levels
    if (orientation := _orientation(image)) > 1:
        image = image.transpose(Image.Transpose(TURNS[orientation]))
    if deep:
        levels = np.asarray(image).astype(np.uint32)
        grey = np.where(levels == clear, 255, (levels + 128) // 257).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels are of mode {image.mode}, whose range is unknown; store them as 8 or 16 bits")
    if image.mode == "L" and clear is not None:
        return image.point([255 if level == clear else level for level in range(256)]).convert("RGB")
    if image.has_transparency_data:
        colour = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", colour.size, "white"), colour).convert("RGB")
    return image.convert("RGB")


def _clear_level(image: Image.Image) -> int | None:
    """The transparent level of an image of grey levels, which Pillow leaves unscaled where they have 2 or 4 bits."""
    level, raw = image.info.get("transparency"), next((tile[3] for tile in getattr(image, "tile", ())), "")
    scale = {"L;2": 85, "L;4": 17}.get(raw, 1) if isinstance(raw, str) else 1
    return level * scale if isinstance(level, int) else None


def resized(image: Image.Image, size: int, how: Filter, fit: Fit) -> NDArray[np.uint8]:
    """An RGB image as uint8 [size,size,3], or as it is where size is 0. Pillow's filters smooth when they shrink.

    squash: both sides are scaled to `size`. crop: the largest square in the middle is.
    """
    if size and image.size != (size, size):
        method = Image.Resampling[how.upper()]
        image = ImageOps.fit(image, (size, size), method) if fit == "crop" else image.resize((size, size), method)
    return np.asarray(image)


@contextmanager
def open_image(file: Path | IO[bytes], formats: tuple[str, ...] = FORMATS) -> Iterator[Image.Image]:
    """An image of one of these formats, of which no more than the header is read yet. All images come in here.

    Raises OSError for other formats (Pillow runs programs for some) and where there is no such file, ValueError for
    what is no plain file and for more than MAX_PIXELS pixels, before they are decoded.
    """
    with ExitStack() as stack:
        if isinstance(file, Path):  # not opened by Pillow, which maps plain TIFF files and then mistakes turned ones
            file = stack.enter_context(opened(file, MAX_BYTES))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the check below is stricter
        try:
            image = stack.enter_context(Image.open(file, formats=formats))
        except Image.DecompressionBombError as bomb:
            raise ValueError(f"it is an image of more than {MAX_PIXELS} pixels") from bomb
        except UnidentifiedImageError:
            raise UnidentifiedImageError(f"it is not an image of a known format ({', '.join(formats)})") from None
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"it is an image of {image.width}x{image.height}, more than {MAX_PIXELS} pixels")
        yield image


def read_png(content: bytes, size: tuple[int, int]) -> NDArray[Any]:
    """A PNG file's pixels, uint8 [H,W,3]. Raises ValueError where it has another size (width, height) or is not RGB."""
    with open_image(io.BytesIO(content), formats=("PNG",)) as image:
        if (image.size, image.mode) != (size, "RGB"):
            raise ValueError(
                f"it is a {image.width}x{image.height} image of mode {image.mode}, not {size[0]}x{size[1]} RGB"
            )
        return np.asarray(image)


def shape(path: Path, fix: str) -> tuple[int, int]:
    """Width and height as they will be decoded, from the header alone. Raises UsageError, which ends with `fix`."""
    with decoding(path, fix), open_image(path) as image:
        turned = _orientation(image) >= 5
        if image.format == "TIFF":  # whose size Pillow gives as turned already
            turned ^= image.tag_v2.get(ORIENTATION) in (5, 6, 7, 8)  # type: ignore[attr-defined]
        return (image.height, image.width) if turned else (image.width, image.height)


def _orientation(image: Image.Image) -> int:
    """1 to 8, and 1 where the EXIF entry is absent, damaged or of no known value, as for every viewer."""
    try:
        found = image.getexif().get(ORIENTATION)
    except OSError:
        raise
    except Exception:  # noqa: BLE001 - damaged bytes can make it raise anything
        return 1
    return found if found in TURNS else 1


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
        with decoding(path, origin), open_image(path) as image:
            found = resized(rgb(image), size, how, fit)
            if found.shape != (height, width, 3):
                raise ValueError(f"it is {found.shape[1]}x{found.shape[0]}, and the others are {width}x{height}")
            pixels[index] = found.transpose(2, 0, 1)
    return Images(x, y)
