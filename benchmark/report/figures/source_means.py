"""The picture of a campaign: what each row reaches from every source, and over all of them."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib.figure import Figure

from benchmark.report.figures import layout, palette
from benchmark.report.figures.accuracies import LINES, span
from benchmark.report.tidy.campaigns import Campaign

SHAPES = ("o", "s", "^", "v", "P", "X", "*", "<", ">", "p")
"""One for each source; a diamond is the mean over all of them. A row is known by its name, so its own shape is free."""
SMALL: dict[str, Any] = {"markersize": 3.6, "markerfacecolor": "white", "markeredgewidth": 0.8}
LARGE: dict[str, Any] = {"marker": "D", "markersize": 4.5, "markeredgewidth": 0.8}


def over_sources(campaign: Campaign, path: Path) -> Path:
    """A line for each row, in the order of the table: a small marker for each source, the mean over its seeds, and a
    large one for the mean over all sources, of the n seeds that have them all, with its `span`."""
    shapes = {source: SHAPES[i % len(SHAPES)] for i, source in enumerate(campaign.sources)}
    means = campaign.over("mean")
    names = layout.counted([(row, len(means.get(row, {}))) for row in campaign.ordered], 1)
    high = max(0.24, *(layout.height(name) + 0.05 for name in names))
    patterns: set[str] = set()
    with mpl.rc_context(palette.STYLE), sns.axes_style("whitegrid"):
        figure = Figure(figsize=(palette.WIDTH, 0.35 + high * len(names)))
        axes = figure.subplots()
        for y, row in enumerate(campaign.ordered):
            colour, seeds = palette.look(row).colour, [*means.get(row, {}).values()]
            for source, shape in shapes.items():
                if values := campaign.reached(row, source):
                    mean = sum(values.values()) / len(values)
                    axes.plot(mean, y, shape, color=colour, zorder=4, **SMALL)
            if seeds:
                low, top, pattern = span(seeds)
                patterns.add(pattern if len(seeds) > 1 else "")
                axes.plot([low, top], [y, y], pattern, color=colour, linewidth=1.4, zorder=2)
                axes.plot(campaign.means[row], y, color=colour, zorder=3, **LARGE)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        lines = "; ".join(text for pattern, text in LINES.items() if pattern in patterns)
        label = "\n".join(["accuracy (%)", *([layout.wrapped(lines, 2.3)] if lines else [])])
        axes.set_xlabel(label)
        figure.set_figheight(figure.get_figheight() + layout.height(label))
        grey = {"color": "0.3"}
        looks = {f"from {source}": {"marker": shape, **grey, **SMALL} for source, shape in shapes.items()}
        layout.keys(figure, looks | {"mean over the sources": {**grey, **LARGE}}, columns=3)
        return palette.save(figure, path)
