"""Pictures of accuracies: in each domain, against cost, and as ranks. Readable at the width of one column."""

from collections.abc import Mapping, Sequence
from math import ceil, floor, log10
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from benchmark.core.record import Record
from benchmark.report.figures import layout, palette
from benchmark.report.tidy.groups import by_row
from benchmark.report.tidy.rows import own_seconds, where
from benchmark.report.tidy.stats import estimate
from benchmark.report.tidy.targets import columns, measures, reached


def span(values: Sequence[float]) -> tuple[float, float, str]:
    """The ends of the line through a mean, and its pattern: solid for the 95 % interval, of three values or more;
    dotted for the range, which is all that two can show."""
    found = estimate(values)
    if found.n < 3 or found.low is None or found.high is None:
        return min(values), max(values), ":"
    return found.low, found.high, "-"


LINES = {"-": "solid lines: 95 % intervals", ":": "dotted: ranges"}


def by_domain(records: Sequence[Record], path: Path) -> Path:
    """Accuracy in each domain, the source's own last: every seed a tick, their mean a marker, with its `span`. Domains
    without data are only named."""
    done = [record for record in records if record.accuracy]
    outside, inside = columns(done)
    rows = by_row(done)
    found = {row: [reached(run, run.asked.recipe.selection) for run in runs] for row, runs in rows.items()}
    there = {target for seeds in found.values() for seed in seeds for target in seed}
    targets = [target for target in (*outside, *inside) if target in there]
    absent = [target for target in (*outside, *inside) if target not in there]
    patterns: set[str] = set()
    with mpl.rc_context(palette.STYLE), sns.axes_style("whitegrid"):
        names = [layout.wrapped(target, 1) + "\n(in-domain)" * (target in inside) for target in targets]
        each = max([0.22 + 0.085 * len(rows), *(layout.height(name) + 0.06 for name in names)])
        figure = Figure(figsize=(palette.WIDTH, 0.6 + len(targets) * each))
        axes = figure.subplots()
        for i, (row, seeds) in enumerate(found.items()):
            look, shift = palette.marked(row), 0.8 * ((i + 0.5) / len(rows) - 0.5)
            for at, target in enumerate(targets):
                values = [seed[target] for seed in seeds if target in seed]
                if values:
                    low, high, pattern = span(values)
                    patterns.add(pattern if len(values) > 1 else "")
                    y, colour = at + shift, look["color"]
                    axes.plot(values, [y] * len(values), "|", color=colour, markersize=5, markeredgewidth=0.7)
                    axes.plot([low, high], [y, y], pattern, color=colour, linewidth=0.9)
                    axes.plot(sum(values) / len(values), y, markersize=3, markeredgewidth=0.8, **look)
        axes.set_yticks(range(len(targets)), names)
        axes.set_ylim(len(targets) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        for i in range(1, len(targets)):
            axes.axhline(i - 0.5, color="0.8", linewidth=0.6)
        lines = "; ".join(text for pattern, text in LINES.items() if pattern in patterns)
        below = ["ticks: seeds; markers: their mean", lines, f"no data: {', '.join(absent)}" if absent else ""]
        label = "\n".join(["accuracy (%)", *(layout.wrapped(text, 2.3) for text in below if text)])
        axes.set_xlabel(label)
        figure.set_figheight(figure.get_figheight() + layout.height(label))
        layout.legend(figure, list(rows))
        return palette.save(figure, path)


def front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Names of the (cost, accuracy) points that no other one beats in both, cheapest first."""
    kept: list[str] = []
    for name in sorted(points, key=lambda name: (points[name][0], -points[name][1])):
        if not kept or points[name][1] > points[kept[-1]][1]:
            kept.append(name)
    return kept


def costs(records: Sequence[Record]) -> pd.DataFrame:
    """Each run's mean over the shifted domains beside its price: row, accuracy, passes, and seconds of training, which
    are left out where the runs were made on different machines or shared a GPU. Empty where nothing was measured."""
    frame = pd.DataFrame(
        {"row": row, "accuracy": measures(run)["mean"], "passes": run.throughput.passes_per_image}
        | {"seconds": own_seconds(run), "machine": where(run)}
        for row, runs in by_row(records).items()
        for run in runs
        if run.accuracy and run.throughput and measures(run)
    )
    comparable = frame.empty or (frame["machine"].nunique() == 1 and frame["seconds"].notna().all())
    return frame if comparable else frame.drop(columns="seconds")


PRICES = {"passes": "passes per image", "seconds": "seconds of training"}


def against_cost(records: Sequence[Record], path: Path) -> Path:
    """Mean over the shifted domains, with its `span` and every seed, against passes and seconds; a grey line is the
    Pareto front."""
    frame = costs(records)
    means = frame.groupby("row", sort=False).mean(numeric_only=True)
    prices = [price for price in PRICES if price in frame]
    with mpl.rc_context(palette.STYLE), sns.axes_style("whitegrid"):
        figure = Figure(figsize=(palette.WIDTH, 2.3))
        grid = figure.subplots(1, len(prices), sharey=True, squeeze=False)[0]
        for axes, price in zip(grid, prices, strict=True):
            best = front({str(row): (point[price], point["accuracy"]) for row, point in means.iterrows()})
            axes.plot(
                means.loc[best, price], means.loc[best, "accuracy"], color="0.6", drawstyle="steps-post", zorder=1
            )
            for row, seeds in frame.groupby("row", sort=False):
                look, point = palette.marked(str(row)), means.loc[row]
                low, high, pattern = span(list(seeds["accuracy"]))
                axes.plot(seeds[price], seeds["accuracy"], linestyle="", markersize=2.5, alpha=0.4, zorder=2, **look)
                axes.plot([point[price]] * 2, [low, high], pattern, color=look["color"], linewidth=0.8, zorder=2)
                axes.plot(point[price], point["accuracy"], markersize=5, markeredgewidth=0.9, zorder=3, **look)
            axes.set(xscale="log", xlabel=PRICES[price])
            low, high = frame[price].min(), frame[price].max()
            if low == high:  # of which ticks would make an axis without a length
                axes.set_xlim(low / 2, high * 2)
            axes.margins(x=0.12)
            ticks = _ticks(low, high, 1.05)
            axes.set_xticks(list(ticks), list(ticks.values()))
            axes.xaxis.set_minor_locator(NullLocator())
        grid[0].set_ylabel("mean accuracy in\nshifted domains (%)")
        layout.legend(figure, [str(row) for row in means.index])
        return palette.save(figure, path)


def _ticks(low: float, high: float, inches: float) -> dict[float, str]:
    """Labels by place for a logarithmic axis from low to high: as many of 1, 2, 5, 10, 20, … as fit, or the ends where
    there are fewer than two of those."""
    powers, scale = range(floor(log10(low)), ceil(log10(high)) + 1), inches / (log10(high / low) or 1)
    found: list[float] = []
    for steps in ((1, 2, 5), (1, 3), (1,)):
        found = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
        widths = [layout.width(_number(tick)) + 0.06 for tick in found]
        if all(scale * log10(found[i + 1] / found[i]) >= sum(widths[i : i + 2]) / 2 for i in range(len(found) - 1)):
            break
    else:
        found = found[:: ceil(len(found) / 3)]
    return {tick: _number(tick) for tick in (found if len(found) > 1 else {low, high})}


def _number(value: float) -> str:
    return f"{value:.4g}" if value < 1000 else f"{value:.0f}"


def ranks(average: Mapping[str, float], difference: float, path: Path) -> Path:
    """Average ranks, 1 the best, on one line; a bar joins rows whose ranks differ by less than the critical difference
    (Demšar, JMLR 7, 2006, figure 1)."""
    rows = sorted(average, key=lambda row: (average[row], row))
    bars = [
        (i, max(j for j, other in enumerate(rows) if average[other] - average[row] < difference))
        for i, row in enumerate(rows)
    ]
    bars = [(i, j) for i, j in bars if j > i and not any(a < i and j <= b for a, b in bars)]
    half = (len(rows) + 1) // 2
    with mpl.rc_context(palette.STYLE):
        names = {row: layout.wrapped(row, 0.95) for row in rows}
        side = 2 * layout.EDGE + max(layout.width(line) for name in names.values() for line in name.split("\n"))
        heights: dict[str, float] = {}  # of each name's line, downwards from the axis, in inches
        for those in (rows[:half], rows[: half - 1 : -1]):
            y = -0.08 * (len(bars) + 1)
            for row in those:
                heights[row] = y - layout.height(names[row]) / 2
                y -= layout.height(names[row]) + 0.03
        top, end = 0.5, max(len(rows), 1 + difference) + 0.5
        bottom = min(heights[row] - layout.height(names[row]) / 2 for row in rows) - layout.EDGE
        figure = Figure(figsize=(palette.WIDTH, top - bottom))
        palette.lay_out_no_more(figure)
        axes = layout.place(figure, side, 0, palette.WIDTH - 2 * side, top - bottom)
        axes.set(xlim=(0.4, end + 0.1), ylim=(bottom, top), yticks=[])
        axes.xaxis.tick_top()
        axes.spines[["left", "right", "bottom"]].set_visible(False)
        axes.spines["top"].set_position(("data", 0))
        axes.set_xticks(range(1, len(rows) + 1, ceil(len(rows) / 8)))
        axes.plot([1, 1 + difference], [0.26, 0.26], color="black", linewidth=1.6)
        axes.text(1, 0.32, f"critical difference {difference:.2f}", va="bottom", fontsize=6)
        for level, (i, j) in enumerate(bars):
            y = -0.08 * (level + 1)
            axes.plot([average[rows[i]] - 0.06, average[rows[j]] + 0.06], [y, y], color="black", linewidth=2)
        for row, y in heights.items():
            left = row in rows[:half]
            edge = 0.5 if left else end
            axes.plot([average[row], average[row], edge], [0, y, y], color=palette.look(row).colour, linewidth=0.9)
            axes.annotate(
                names[row], (edge, y), (-3 if left else 3, 0), textcoords="offset points",
                ha="right" if left else "left", va="center", annotation_clip=False,
            )  # fmt: skip
        return palette.save(figure, path)
