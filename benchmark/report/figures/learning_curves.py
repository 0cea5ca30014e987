"""Pictures of training: learning curves, and what each method does to the same eight images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator
from PIL import Image

from benchmark.core.record import Record
from benchmark.report.figures import layout, palette
from benchmark.report.tidy.groups import by_row
from benchmark.report.tidy.targets import by_column
from benchmark.training.artifacts import strips as _strips

Curve = Sequence[Mapping[str, Any]]
"""The points of one run: step, val and test, the accuracies in percent."""


def has_line(curve: Curve) -> bool:
    """Whether there are two points to draw a line between."""
    return len(curve) > 1


def lines_of(curve: Curve, domains: Sequence[str], inside: Sequence[str]) -> dict[str, list[float]]:
    """A run's steps and accuracies: `step`, `source` (validation part), and `targets`, the mean over the columns
    (targets.by_column) that are not the source, or over all where the run has no other. NaN where none was tested.

    domains: all that the run has, tested or missing; inside: those that are the source itself."""
    names = [name for name in domains if name not in inside] or domains
    wholes = [[*by_column({name: point["test"].get(name) for name in names}).values()] for point in curve]
    return {
        "step": [point["step"] for point in curve],
        "source": [point["val"] for point in curve],
        "targets": [sum(whole) / len(whole) if whole else float("nan") for whole in wholes],
    }


def learning_curves(records: Sequence[Record], curves: Mapping[str, Curve], path: Path) -> Path:
    """A panel for each row: its seeds thin, their mean thick, the targets solid and the source dashed; ERM's means in
    grey in every panel. Runs that were evaluated once have no line and are left out. The mean is taken evaluation by
    evaluation, steps too, which differ under some budgets."""
    found = {
        row: [
            lines_of(curves[r.run_id], [*r.accuracy.domains], r.accuracy.in_domain)
            for r in runs
            if r.accuracy and has_line(curves[r.run_id])
        ]
        for row, runs in by_row(records).items()
    }
    found = {row: lines for row, lines in found.items() if lines}
    with mpl.rc_context(palette.STYLE), sns.axes_style("whitegrid"):
        titles = dict.fromkeys(found, "")
        note = f"solid: mean of the shifted domains; dashed: source validation{'; grey: ERM' * ('erm' in found)}"
        figure, panels, _ = layout.grid(titles, 0.75, "training step", "accuracy (%)", note)
        for axes, (row, lines) in zip(panels, found.items(), strict=True):
            colour = palette.look(row).colour
            if row != "erm" and "erm" in found:
                _draw(axes, _mean(found["erm"]), "0.65", 0.9)
            for one in lines:
                _draw(axes, one, colour, 0.4, alpha=0.6)
            _draw(axes, _mean(lines), colour, 1.3)
            axes.title.set_color(colour)
        panels[0].xaxis.set_major_locator(MaxNLocator(3 if len(found) > 1 else 6))
        panels[0].xaxis.set_major_formatter(EngFormatter(sep=""))  # 10k, as 10000 would run into the next panel's 0
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
    size = min(strip.shape[1::-1] for strip in shown.values())  # packed runs have smaller ones
    shown = {row: np.asarray(Image.fromarray(strip).resize(size, Image.Resampling.BOX)) for row, strip in shown.items()}
    return strip_sheet(shown, {row: palette.look(row).colour for row in sheets}, path)


def strip_sheet(shown: Mapping[str, np.ndarray[Any, Any]], colours: Mapping[str, str], path: Path) -> Path:
    """Strips of images (uint8 [H,W,3], all of one size) below each other, their names beside them; a name without a
    colour is black."""
    (high_px, wide_px), *others = {strip.shape[:2] for strip in shown.values()}
    assert not others
    with mpl.rc_context(palette.STYLE):
        left = 0.26 * palette.WIDTH
        wide = palette.WIDTH - left - 0.02
        image = wide * high_px / wide_px
        names = {row: layout.wrapped(row, left - 2 * layout.EDGE, 6) for row in shown}
        high = {row: max(image, layout.height(name, 6)) + 0.02 for row, name in names.items()}
        figure = Figure(figsize=(palette.WIDTH, top := sum(high.values())))
        palette.lay_out_no_more(figure)
        for row, strip in shown.items():
            top -= high[row]
            axes = layout.place(figure, left, top + (high[row] - image) / 2, wide, image)
            axes.imshow(strip, interpolation="nearest", aspect="auto")
            axes.set_axis_off()
            axes.text(-layout.EDGE / wide, 0.5, names[row], fontsize=6, ha="right", va="center",
                      color=colours.get(row, "black"), transform=axes.transAxes)  # fmt: skip
        return palette.save(figure, path)
