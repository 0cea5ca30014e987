"""Pictures of sensitivity maps, as PNG and PDF files that are equal to the byte when drawn again.

Every function takes the maps of each table row, one a seed.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from pathlib import Path
from textwrap import fill

import matplotlib as mpl
import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmark.report.figures import layout, palette
from benchmark.sensitivity.fourier import centred, radial_profile
from benchmark.sensitivity.map import SensitivityMap

Rows = Mapping[str, Sequence[SensitivityMap]]

LONGEST = 100
"""Characters of a row's or a group's name in a file name: with all that comes around them a file system takes them."""
COLOURS = "viridis"
"""Perceptually uniform, of steadily rising lightness, and without a red-green contrast."""
ACROSS, DOWN = "horizontal frequency (cycles per image)", "vertical frequency\n(cycles per image)"


def heat_maps(rows: Rows, folder: Path) -> list[Path]:
    """One picture for each row, its map the mean over seeds, all on one colour scale: sensitivity_NAME.png and .pdf.

    Returns the PNG paths. Raises ValueError where there is no map, or the maps are not of one size and radius.
    """
    top, names = _scale(rows), slugs(rows)
    return [_maps({name: maps}, top, folder / f"sensitivity_{names[name]}") for name, maps in rows.items()]


def small_multiples(rows: Rows, path: Path) -> Path:
    """All rows in one picture, each the mean over its seeds, on one colour scale. Writes PNG and PDF, returns the PNG.

    Raises ValueError where there is no map, or the maps are not of one size and radius.
    """
    return _maps(rows, _scale(rows), path)


def _maps(rows: Rows, top: float, path: Path) -> Path:
    titles = {name: f"clean error {_clean(maps):.1f} %" for name, maps in rows.items()}
    return _panels({name: centred(_mean(maps)) for name, maps in rows.items()}, titles, top, _caption(rows), path)


def side_by_side(maps: Mapping[str, Tensor], path: Path) -> Path:
    """Bare maps [31,31] of error rates in [0,1], zero in the centre, on one scale from 0 to 100 %. Writes PNG and
    PDF, returns the PNG."""
    titles = dict.fromkeys(maps, "")
    return _panels({name: 100 * found for name, found in maps.items()}, titles, 100, "", path)


def _panels(maps: Mapping[str, Tensor], titles: Mapping[str, str], top: float, note: str, path: Path) -> Path:
    """Maps in percent, zero in the centre, in one colour scale from 0 to `top`, and a bar that shows the scale."""
    with mpl.rc_context(palette.STYLE):
        figure, panels, bar = layout.grid(titles, 1, ACROSS, DOWN, note, bar=0.5)
        for axes, found in zip(panels, maps.values(), strict=True):
            half = len(found) // 2
            edge = half + 0.5
            axes.imshow(found.numpy(), vmin=0, vmax=top, cmap=COLOURS, extent=(-edge, edge, edge, -edge))
            ticks = sorted({sign * tick for tick in _steps(half, 2 if len(maps) == 1 else 1) for sign in (-1, 1)})
            axes.set(xticks=ticks, yticks=ticks)
        figure.colorbar(panels[0].images[0], cax=bar, orientation="horizontal", label="error (%)")
        return palette.save(figure, path)


def radial_profiles(rows: Rows, path: Path) -> Path:
    """Error against the radius of the frequency: a line for each row, its mean over seeds, and a band of one standard
    deviation over seeds (none for one seed). Writes PNG and PDF, returns the PNG.

    Raises ValueError where there is no map, or the maps are not of one size and radius.
    """
    _scale(rows)
    rings = len(next(iter(rows.values()))[0].error) // 2
    points = [
        {"row": name, "seed": i, "radius": r, "error": 100 * value}
        for name, maps in rows.items()
        for i, found in enumerate(maps)
        for r, value in enumerate(radial_profile(found.rate).tolist())
    ]
    looks = {name: palette.look(name) for name in rows}
    with mpl.rc_context(palette.STYLE), sns.axes_style("ticks"):
        figure = Figure(figsize=(palette.WIDTH, 2.8))
        axes = figure.subplots()
        sns.lineplot(
            pd.DataFrame(points), x="radius", y="error", hue="row", palette={name: looks[name].colour for name in rows},
            style="row", markers={name: looks[name].marker for name in rows}, dashes=False, linewidth=1,
            markersize=4, markeredgewidth=0.4, markevery=max(1, rings // 16), errorbar="sd",
            err_kws={"alpha": 0.1, "linewidth": 0}, ax=axes, legend=False,
        )  # fmt: skip
        axes.set(xlabel="radius of the frequency (cycles per image)", ylabel="error (%)", ylim=(0, None))
        axes.set_xticks(_steps(rings, 8))
        axes.grid(color="0.9", linewidth=0.6)
        layout.legend(figure, list(rows), "upper")
        for line, look in zip(axes.lines, looks.values(), strict=True):
            line.set(**{} if look.filled else {"markerfacecolor": "white", "markeredgecolor": look.colour})
        figure.supxlabel(_caption(rows, "Bands: one standard deviation."), fontsize=6)
        return palette.save(figure, path)


def slug(name: str) -> str:
    """A row's name as part of a file name; of a long one the beginning and a hash."""
    found = re.sub(r"[^A-Za-z0-9.=_-]+", "_", name).strip("_")
    return found if len(found) <= LONGEST else f"{found[: LONGEST - 13]}-{_hash(name)}"


def slugs(names: Iterable[str]) -> dict[str, str]:
    """The part of a file name for each of these, no two alike on any file system."""
    found = {name: slug(name) for name in names}
    often = Counter(text.lower() for text in found.values())
    return {name: f"{text}-{_hash(name)}" if often[text.lower()] > 1 else text for name, text in found.items()}


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:12]


def _scale(rows: Rows) -> float:
    """The upper end of the colour scale of all rows, percent: the largest error, rounded up to a multiple of ten."""
    maps = [found for group in rows.values() for found in group]
    if not maps or not all(rows.values()) or len({(len(found.error), found.radius) for found in maps}) > 1:
        raise ValueError("pictures need one map a row or more, all of one size and radius")
    return 10 * ceil(max(_mean(group).max().item() for group in rows.values()) / 10 - 1e-4) or 10


def _mean(maps: Sequence[SensitivityMap]) -> Tensor:
    return 100 * torch.stack([found.rate for found in maps]).mean(dim=0)


def _clean(maps: Sequence[SensitivityMap]) -> float:
    return 100 * sum(found.clean_error for found in maps) / len(maps)


def _steps(end: int, parts: int) -> list[int]:
    """Whole numbers from 0 to `end` in about so many equal steps."""
    return list(range(0, end + 1, max(1, end // parts)))


def _caption(rows: Rows, more: str = "") -> str:
    maps = [found for group in rows.values() for found in group]
    size, radius, grid = len(maps[0].error), maps[0].radius, maps[0].grid
    text = (
        f"Error when one wave of L2 norm {radius:g} per channel (root mean square {radius / size:g}) is added to the "
        f"pixels, which lie in [0,1]{', and the sum is cut to [0,1]' if maps[0].clamp else ''}. "
        f"{f'Measured at {grid}×{grid} frequencies, interpolated. ' if grid else ''}"
        f"Images: {_span([found.n_images for found in maps])}. Mean over seeds, n = "
        f"{_span([len(group) for group in rows.values()])}. {more}"
    )
    return fill(text, 70)


def _span(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low} to {high}"
