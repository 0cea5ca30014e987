"""The picture of what each row gains over ERM: differences within a seed, as the table of differences has them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmark.report.figures import layout, palette
from benchmark.report.tidy.stats import Pair, Seeds, compare

WIDEST = 4
"""An axis ends at most at so many times the largest gain: the interval of three seeds may be far wider."""


def over_erm(rows: Mapping[str, Seeds]) -> list[Pair]:
    """Every row against ERM, the largest gain first; empty without ERM or without a seed in common with it."""
    found = compare(rows, "erm") if "erm" in rows else []
    return sorted(found, key=lambda pair: (-pair.difference.mean, pair.row))


def limits(pairs: Sequence[Pair]) -> tuple[float, float]:
    """Where an axis ends, in points: all gains, half a point each way, and intervals as far as WIDEST allows."""
    gains = [-0.5, 0.5, *(pair.difference.mean for pair in pairs)]
    ends = [*gains, *(end for pair in pairs for end in pair.interval or ())]
    widest = WIDEST * max(1.0, *map(abs, gains))
    low, high = max(min(ends), -widest), min(max(ends), widest)
    return low - 0.04 * (high - low), high + 0.04 * (high - low)


def gains(panels: Mapping[str, Sequence[Pair]], path: Path) -> Path:
    """A panel for each comparison, by its title (empty: none), below each other: a line for each of `over_erm`, with
    its interval, which is thick where the difference is significant. An arrow: the interval goes on beyond the axis. A
    point is as wide in all panels."""
    names = [layout.counted([(pair.row, pair.difference.n) for pair in pairs], 1.15) for pairs in panels.values()]
    heights = [sum(map(_high, of)) for of in names]
    lows, highs = zip(*map(limits, panels.values()), strict=True)
    with mpl.rc_context(palette.STYLE), sns.axes_style("whitegrid"):
        figure = Figure(figsize=(palette.WIDTH, sum(heights) + 0.3 * len(heights)))
        every = figure.subplots(len(panels), height_ratios=heights, squeeze=False)[:, 0]
        for axes, (title, pairs), of in zip(every, panels.items(), names, strict=True):
            _panel(axes, pairs, of, (min(lows), max(highs)))
            axes.set_title(layout.wrapped(title, palette.WIDTH - 1.4), loc="left", fontsize=7)
            texts = (axes.get_xlabel(), axes.get_title("left"))
            figure.set_figheight(figure.get_figheight() + sum(layout.height(text) for text in texts if text))
        return palette.save(figure, path)


def _high(name: str) -> float:
    return max(0.17, layout.height(name) + 0.04)


def _panel(axes: Axes, pairs: Sequence[Pair], names: Sequence[str], ends: tuple[float, float]) -> None:
    low, high = ends
    axes.axvline(0, color="0.3", linewidth=0.8, zorder=1)
    places, bottom = [], 0.0
    for pair, name in zip(pairs, names, strict=True):
        look, y = palette.marked(pair.row), bottom + _high(name) / 2
        places.append(y)
        bottom += _high(name)
        if interval := pair.interval:
            drawn = max(interval[0], low), min(interval[1], high)
            axes.plot(drawn, [y, y], color=look["color"], linewidth=2.2 if pair.significant else 0.8, zorder=2)
            for end, beyond, arrow in ((low, interval[0] < low, "<"), (high, interval[1] > high, ">")):
                if beyond:
                    axes.plot(end, y, arrow, color=look["color"], markersize=3, clip_on=False, zorder=2)
        axes.plot(pair.difference.mean, y, markersize=4, markeredgewidth=0.8, zorder=3, **look)
    axes.set_yticks(places, names)
    axes.set_ylim(bottom, 0)
    axes.set_xlim(low, high)
    axes.grid(visible=False, axis="y")
    seeds = {pair.difference.n for pair in pairs}
    label = [f"points over ERM, n = {min(seeds)}" if len(seeds) == 1 else "points over ERM"]
    label += ["lines: 95 %, all rows at once"] if any(pair.interval for pair in pairs) else []
    label += ["thick: significant"] if any(pair.significant for pair in pairs) else []
    axes.set_xlabel(layout.wrapped("; ".join(label), 2.1))
