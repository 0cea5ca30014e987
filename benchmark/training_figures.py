"""Pictures of what happened in training: learning curves, and what each method does to the same eight images."""

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from benchmark import palette
from benchmark.contents import SHOWN
from benchmark.contents import strips as _strips
from benchmark.rows import by_row
from benchmark.spec import Record

Curve = Sequence[Mapping[str, Any]]
"""The points of one run: step, val and test, the accuracies in percent."""


def lines_of(curve: Curve, inside: Sequence[str]) -> dict[str, list[float]]:
    """A run's steps and accuracies: `step`, `source` (validation part), and `targets`, the mean over those that are not
    the source, or over all where there is no other."""
    names = [name for name in curve[0]["test"] if name not in inside] or list(curve[0]["test"])
    none = [float("nan")] * len(curve)
    return {
        "step": [point["step"] for point in curve],
        "source": [point["val"] for point in curve],
        "targets": [sum(point["test"][name] for name in names) / len(names) for point in curve] if names else none,
    }


def learning_curves(records: Sequence[Record], curves: Mapping[str, Curve], path: Path) -> Path:
    """A panel for each row: its seeds thin, their mean thick, the targets solid and the source dashed; ERM's means in
    grey in every panel. The mean is taken evaluation by evaluation, steps too, which differ under some budgets."""
    found = {
        row: [lines_of(curves[r.run_id], r.accuracy.in_domain) for r in runs if r.accuracy and curves[r.run_id]]
        for row, runs in by_row(records).items()
    }
    found = {row: lines for row, lines in found.items() if lines}
    across = min(3, len(found))
    with mpl.rc_context(palette.STYLE), sns.axes_style("whitegrid"):
        figure = Figure(figsize=(palette.WIDTH, 0.55 + 1.05 * ceil(len(found) / across)))
        grid = figure.subplots(ceil(len(found) / across), across, sharex=True, sharey=True, squeeze=False)
        for axes in list(grid.flat)[len(found) :]:
            axes.set_axis_off()
        for axes, (row, lines) in zip(grid.flat, found.items(), strict=False):
            colour = palette.look(row).colour
            if row != "erm" and "erm" in found:
                _draw(axes, _mean(found["erm"]), "0.65", 0.9)
            for one in lines:
                _draw(axes, one, colour, 0.4, alpha=0.6)
            _draw(axes, _mean(lines), colour, 1.3)
            axes.locator_params(axis="x", nbins=3)
            axes.set_title(palette.wrapped(row, 18), color=colour)
        for axes in list(grid.flat)[max(0, len(found) - across) : len(found)]:
            axes.tick_params(labelbottom=True)
        figure.supxlabel("training step", fontsize=7)
        figure.supylabel("accuracy (%)", fontsize=7)
        return palette.save(figure, path)


def _mean(lines: Sequence[Mapping[str, list[float]]]) -> dict[str, list[float]]:
    """The mean over runs; where they have not equally many points, over those that all have."""
    n = min(len(one["step"]) for one in lines)
    return {name: list(np.mean([one[name][:n] for one in lines], axis=0)) for name in lines[0]}


def _draw(axes: Any, lines: Mapping[str, list[float]], colour: str, width: float, alpha: float = 1.0) -> None:
    for name, dashes in {"targets": "-", "source": "--"}.items():
        axes.plot(lines["step"], lines[name], dashes, color=colour, linewidth=width, alpha=alpha)


def view_sheet(records: Sequence[Record], views: Mapping[str, bytes], path: Path) -> Path:
    """The source images on top, then the first view that each row makes of them, in its first seed that has a picture;
    rows that make none are left out."""
    sheets: dict[str, list[np.ndarray[Any, Any]]] = {}
    for row, runs in by_row(records).items():
        strips = [_strips(views[r.run_id]) for r in runs if r.run_id in views]
        sheets |= {row: strips[0]} if strips else {}
    shown = {"source": next(iter(sheets.values()))[0]}
    shown |= {row: strips[1] for row, strips in sheets.items() if len(strips) > 1}
    with mpl.rc_context(palette.STYLE | {"figure.constrained_layout.use": False}):
        tall = SHOWN * shown["source"].shape[0] / shown["source"].shape[1]
        figure = Figure(figsize=(palette.WIDTH, 1.06 * 0.74 * palette.WIDTH / SHOWN * tall * len(shown)))
        grid = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
        figure.subplots_adjust(left=0.26, right=0.995, top=0.995, bottom=0.005, hspace=0.06)
        for axes, (row, strip) in zip(grid, shown.items(), strict=True):
            axes.imshow(strip, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
            colour = "black" if row == "source" else palette.look(row).colour
            axes.set_ylabel(palette.wrapped(row, 17), fontsize=6, rotation=0, ha="right", va="center", color=colour)
        return palette.save(figure, path)
