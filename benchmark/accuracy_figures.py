"""Pictures of accuracies: in each domain, against the price, and as ranks. Readable at the width of one column."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from benchmark import palette
from benchmark.rows import by_row, where
from benchmark.spec import Record
from benchmark.stats import estimate
from benchmark.targets import columns, measures, reached


def interval(values: Any) -> tuple[float, float]:
    """95 % interval of the mean, as seaborn asks for it; NaN below three values, where it would fill the page."""
    found = estimate(list(values))
    none = float("nan")
    return (none, none) if found.n < 3 or found.low is None or found.high is None else (found.low, found.high)


def by_domain(records: Sequence[Record], path: Path) -> Path:
    """Accuracy in each domain, the source's own last: every seed a point, their mean a marker, with a 95 % interval.
    Domains without data are only named."""
    done = [record for record in records if record.accuracy]
    outside, inside = columns(done)
    rows = list(by_row(done))
    frame = pd.DataFrame(
        {"row": row, "target": target, "accuracy": value}
        for row, runs in by_row(done).items()
        for record in runs
        for target, value in reached(record, record.asked.recipe.selection).items()
    )
    there = set(frame["target"])
    targets = [target for target in (*outside, *inside) if target in there]
    absent = [target for target in (*outside, *inside) if target not in there]
    looks = [palette.look(row) for row in rows]
    common: dict[str, Any] = {
        "data": frame, "x": "accuracy", "y": "target", "order": targets, "hue": "row", "hue_order": rows,
        "palette": [look.colour for look in looks], "legend": False,
    }  # fmt: skip
    with mpl.rc_context(palette.STYLE), sns.axes_style("whitegrid"):
        figure = Figure(figsize=(palette.WIDTH, 0.9 + len(targets) * (0.22 + 0.085 * len(rows))))
        axes = figure.subplots()
        sns.stripplot(**common, dodge=True, jitter=False, marker="|", size=5, linewidth=0.7, ax=axes)
        seen: dict[str, Any] = {"markers": [look.marker for look in looks], "markersize": 3, "linestyle": "none"}
        seen["dodge"] = 0.8 - 0.8 / len(rows) if len(rows) > 1 else False
        sns.pointplot(**common, **seen, errorbar=interval, err_kws={"linewidth": 0.9}, ax=axes)
        means = [line for line in axes.lines if line.get_marker() not in ("", "None")]
        for line, look in zip(means, looks, strict=True):
            line.set(markerfacecolor=look.colour if look.filled else "white", markeredgewidth=0.8)
        axes.set_yticks(range(len(targets)), [f"{t}\n(in-domain)" if t in inside else t for t in targets])
        axes.set(xlabel="\n".join(["accuracy (%)", *([f"no data: {', '.join(absent)}"] if absent else [])]), ylabel="")
        for i in range(1, len(targets)):
            axes.axhline(i - 0.5, color="0.8", linewidth=0.6)
        palette.legend(figure, rows)
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
    are left out where the runs were made on different machines. Empty where nothing was measured."""
    frame = pd.DataFrame(
        {"row": row, "accuracy": measures(run)["mean"], "passes": run.throughput.passes_per_image}
        | {"seconds": run.throughput.setup_seconds + run.throughput.train_seconds, "machine": where(run)}
        for row, runs in by_row(records).items()
        for run in runs
        if run.accuracy and run.throughput and measures(run)
    )
    return frame if frame.empty or frame["machine"].nunique() == 1 else frame.drop(columns="seconds")


PRICES = {"passes": "passes per image", "seconds": "seconds of training"}


def against_cost(records: Sequence[Record], path: Path) -> Path:
    """Mean over the shifted domains, with a 95 % interval, against passes and seconds; a line is the Pareto front."""
    frame = costs(records)
    means = frame.groupby("row", sort=False).mean(numeric_only=True)
    spans = frame.groupby("row", sort=False)["accuracy"].agg(interval)
    prices = [price for price in PRICES if price in frame]
    with mpl.rc_context(palette.STYLE), sns.axes_style("whitegrid"):
        figure = Figure(figsize=(palette.WIDTH, 2.5))
        grid = figure.subplots(1, len(prices), sharey=True, squeeze=False)[0]
        for axes, price in zip(grid, prices, strict=True):
            best = front({str(row): (point[price], point["accuracy"]) for row, point in means.iterrows()})
            axes.plot(
                means.loc[best, price], means.loc[best, "accuracy"], color="0.6", drawstyle="steps-post", zorder=1
            )
            for row, point in means.iterrows():
                look = palette.marked(str(row))
                axes.plot([point[price]] * 2, spans[str(row)], color=look["color"], linewidth=0.8, zorder=2)
                axes.plot(point[price], point["accuracy"], markersize=5, markeredgewidth=0.9, zorder=3, **look)
            axes.set(xscale="log", xlabel=PRICES[price])
            _plain_log(axes)
        grid[0].set_ylabel("mean of shifted domains (%)")
        palette.legend(figure, [str(row) for row in means.index])
        return palette.save(figure, path)


def _plain_log(axes: Axes) -> None:
    """Ticks at 1, 2, 5, 10, 20, … written out."""
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.12)


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
        figure = Figure(figsize=(palette.WIDTH, 0.85 + 0.16 * half + 0.09 * len(bars)))
        axes = figure.subplots()
        axes.set(xlim=(0.4, len(rows) + 0.6), ylim=(-1.2 - 0.6 * len(bars) - half, 2.7))
        axes.xaxis.tick_top()
        axes.spines[["left", "right", "bottom"]].set_visible(False)
        axes.spines["top"].set_position(("data", 0))
        axes.set_xticks(range(1, len(rows) + 1))
        axes.set_yticks([])
        axes.plot([1, 1 + difference], [2.6, 2.6], color="black", linewidth=1.6, clip_on=False)
        axes.text(1 + difference / 2, 2.4, f"critical difference {difference:.2f}", ha="center", va="top", fontsize=6)
        for level, (i, j) in enumerate(bars):
            y = -0.6 - 0.6 * level
            axes.plot([average[rows[i]] - 0.06, average[rows[j]] + 0.06], [y, y], color="black", linewidth=2)
        for i, row in enumerate(rows):
            left, depth = i < half, i if i < half else len(rows) - 1 - i
            y, edge, colour = -1.0 - 0.6 * len(bars) - depth, 0.5 if left else len(rows) + 0.5, palette.look(row).colour
            axes.plot([average[row], average[row], edge], [0, y, y], color=colour, linewidth=0.9)
            axes.text(edge, y, f"{row} " if left else f" {row}", ha="right" if left else "left", va="center")
        return palette.save(figure, path)
