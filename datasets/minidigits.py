"""UCI handwritten digits against blended, printed and noisy ones; needs no download.

Source: the 1,797 images of scikit-learn (8x8, 17 grey levels), scaled to 32x32 by Pillow's bilinear filter and cut into
blocks in the order of the file, where neighbours tend to come from one writer. Targets: made of the held-out test block
and of files of installed packages. Draws and pixels are integers. Card: docs/datasets/minidigits.md.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from benchmark import data
from benchmark.core import rng
from benchmark.core.errors import UsageError
from benchmark.core.images import Images
from benchmark.core.settings import frozen
from benchmark.data.image_files import open_image
from benchmark.data.readers import package_file

Array: TypeAlias = NDArray[np.integer[Any]]
BLOCKS: dict[data.Split, slice] = {"train": slice(0, 1000), "val": slice(1000, 1297), "test": slice(1297, 1797)}
SIZE, SCALE = 32, 4  # printed digits are drawn SCALE times as large
FONTS = [f"DejaVu{face}{style}" for face in ("Sans", "SansMono") for style in ("", "-Oblique", "-Bold", "-BoldOblique")]
FONTS += [f"DejaVuSerif{style}" for style in ("", "-Italic", "-Bold", "-BoldItalic")]
FONTS += [f"STIXGeneral{style}" for style in ("", "Italic", "Bol", "BolIta")] + ["cmr10", "cmb10", "cmss10", "cmtt10"]


@frozen()
class Dataset(data.Dataset):
    """Digits at 32x32: 1,000 training, 297 validation and 500 test images of `uci`, and 500 of each target."""

    classes = tuple("0123456789")
    domains = ("blend", "print", "noise", "uci")
    sources = ("uci",)
    licence = "digits CC BY 4.0, photographs CC BY 2.0, fonts under free licences of their own"
    citation = "E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, UCI Machine Learning Repository 1998"
    needs_files = False

    def load(self, domain: str, split: data.Split, root: Path | None = None) -> Images:
        if domain not in self.domains or (split != "test" and domain not in self.sources):
            raise UsageError(f"minidigits/{domain} has no {split} part; the only source domain is uci")
        made = _load(domain, split)
        return Images(made.x.clone(), made.y.clone())  # the kept ones stay as they are, whoever writes into these


@cache
def _load(domain: str, split: data.Split) -> Images:
    x, y = uci(split)
    if domain == "print":
        y = np.arange(len(y)) % 10
    if domain != "uci":
        make, draws = TARGETS[domain], np.random.Generator(np.random.PCG64(rng.key("minidigits", domain)))
        x = np.stack([make(item, draws) for item in (y if domain == "print" else x)])
    return Images(torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))), torch.from_numpy(y))


def uci(split: data.Split) -> tuple[Array, Array]:
    """Images uint8 [N,32,32,3] and labels int64 [N] of one block."""
    table = np.loadtxt(package_file("sklearn", "datasets/data/digits.csv.gz"), np.int64, delimiter=",")[BLOCKS[split]]
    small = (table[:, :64] * 255 // 16).astype(np.uint8).reshape(-1, 8, 8)
    large = [np.asarray(Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BILINEAR)) for image in small]
    return np.repeat(np.stack(large)[..., None], 3, axis=3), table[:, 64].copy()


@cache
def _photographs() -> list[Array]:
    found: list[Array] = []
    for name in ("china", "flower"):
        with open_image(package_file("sklearn", f"datasets/images/{name}.jpg")) as image:
            found.append(np.asarray(image.convert("RGB"), np.int64))
    return found


def blend(digit: Array, draws: np.random.Generator) -> Array:
    """|crop - digit| with a random crop of two photographs: the recipe of MNIST-M (Ganin et al., JMLR 2016)."""
    photo = _photographs()[draws.integers(2)]
    top, left = (int(draws.integers(side - SIZE + 1)) for side in photo.shape[:2])
    out: Array = np.abs(photo[top : top + SIZE, left : left + SIZE] - digit).astype(np.uint8)
    return out


def noise(digit: Array, draws: np.random.Generator) -> Array:
    """Gaussian blur of radius 0.5 to 2 pixels, then 10 to 25 % of the blocks of 2x2 pixels turn black or white."""
    blurred = np.asarray(Image.fromarray(digit).filter(ImageFilter.GaussianBlur(int(draws.integers(5, 21)) / 10)))
    percent = draws.integers(10, 26)
    cells = draws.integers(0, 200, (SIZE // 2, SIZE // 2, 1)).repeat(2, axis=0).repeat(2, axis=1)
    return np.where(cells < 2 * percent, cells % 2 * 255, blurred).astype(np.uint8)


def printed(label: int, draws: np.random.Generator) -> Array:
    """A printed digit in the manner of SYN: font, size, place, angle, neighbours, colours, background and blur vary."""
    paper, inks = draws.integers(0, 256, 3), draws.integers(0, 256, (256, 3))
    ink = inks[(np.abs((inks - paper).sum(axis=1)) >= 240).argmax()]  # readable: 80 grey levels apart on average
    down, across = draws.integers(-40, 41, (2, 3))  # how much the paper's colour changes from edge to edge
    ramp = np.arange(SIZE)[:, None] - SIZE // 2
    ground = np.clip(paper + (down * ramp[:, None] + across * ramp) // SIZE, 0, 255)
    shape = _glyphs(label, draws)[..., None]
    mixed = (((255 - shape) * ground + shape * ink) // 255).astype(np.uint8)
    return np.asarray(Image.fromarray(mixed).filter(ImageFilter.GaussianBlur(int(draws.integers(11)) / 10)))


def _glyphs(label: int, draws: np.random.Generator) -> Array:
    """The digit about the centre, with a neighbour at each side half of the time; coverage in 0..255, [32,32]."""
    file = package_file("matplotlib", f"mpl-data/fonts/ttf/{FONTS[draws.integers(len(FONTS))]}.ttf")
    font = ImageFont.truetype(file, int(draws.integers(32, 45)) * SCALE, layout_engine=ImageFont.Layout.BASIC)
    canvas = Image.new("L", (SIZE * SCALE, SIZE * SCALE))
    pen = ImageDraw.Draw(canvas)
    left, top, right, bottom = (int(edge) for edge in pen.textbbox((0, 0), str(label), font))
    x, y = (int(draws.integers(-2, 3) + SIZE // 2) * SCALE for _ in range(2))
    step = right - left + int(draws.integers(1, 5)) * SCALE
    before, after = (str(draws.integers(10)) if draws.integers(2) else "" for _ in range(2))
    for place, text in enumerate((before, str(label), after), start=-1):
        pen.text((x - (left + right) // 2 + place * step, y - (top + bottom) // 2), text, 255, font)
    turned = canvas.rotate(int(draws.integers(-15, 16)), Image.Resampling.NEAREST)
    # Soft edges of the large drawing differ between FreeType versions: they are made hard before it is scaled down.
    return np.asarray(turned.point(lambda level: 255 * (level > 127)).reduce(SCALE), np.int64)


TARGETS: dict[str, Callable[..., Array]] = {"blend": blend, "print": printed, "noise": noise}
