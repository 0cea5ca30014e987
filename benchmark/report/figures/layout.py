"""Where the parts of a figure go: names wrapped at their printed width, a legend that fits, panels in a grid.

Figures are palette.WIDTH wide and as high as what is on them. Lengths are in inches.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import text_to_path

from benchmark.report.figures import palette

LEFT, RIGHT, GAP, EDGE = 0.62, 0.16, 0.2, 0.05
"""Beside the panels of a grid: axis and tick labels, half a tick label, between two panels; at every edge of a page."""
TICKS, LABEL = 0.2, 0.16
"""Heights of tick labels and of an axis label."""
ACROSS = 3


def width(text: str, size: float = 7) -> float:
    """Printed width of one line in the type size of that many points."""
    points: float = text_to_path.get_text_width_height_descent(text, FontProperties(size=size), ismath=False)[0]
    return points / 72


def height(text: str, size: float = 7) -> float:
    """Printed height of all lines of a text."""
    return 1.25 * size / 72 * (text.count("\n") + 1)


def counted(seeds: Sequence[tuple[str, int]], inches: float) -> list[str]:
    """Names of rows, wrapped; each with its number of seeds where rows differ in it."""
    several = len({n for _, n in seeds}) > 1
    return [wrapped(f"{name}, n = {n}" if several else name, inches) for name, n in seeds]


def wrapped(text: str, inches: float, size: float = 7) -> str:
    """The text on lines of at most `inches`, broken at a space or after `,` or `[`; if a word is too wide for a line,
    after `=` and then `_` too, and in the last resort anywhere."""
    text, words = " ".join(text.split()), [""]
    for marks in (r" ,\[", r" ,\[=", r" ,\[=_"):
        words = re.findall(f"[^{marks}]*[{marks}]?", text)
        if all(width(word.strip(), size) <= inches for word in words):
            break
    lines = [""]
    for word in words:
        if lines[-1] and width(lines[-1] + word.rstrip(), size) > inches:
            lines.append("")
        for part in [word] if width(word.strip(), size) <= inches else word:
            if lines[-1] and width((lines[-1] + part).rstrip(), size) > inches:
                lines.append("")
            lines[-1] += part
    return "\n".join(line.strip() for line in lines)


def legend(figure: Figure, rows: Sequence[str], place: str = "lower", columns: int = 4) -> None:
    """The names of the rows with their looks at the figure's lower or upper edge."""
    keys(figure, {row: {"markersize": 4, **palette.marked(row)} for row in rows}, place, columns)


def keys(figure: Figure, looks: Mapping[str, Mapping[str, Any]], place: str = "lower", columns: int = 4) -> None:
    """Names with the looks of their markers at the figure's lower or upper edge, in that many columns or as many as
    fit; the figure grows by their height."""
    handles = [
        Line2D([], [], linestyle="none", label=wrapped(name, palette.WIDTH - 0.5), **look)
        for name, look in looks.items()
    ]
    found = figure.legend(  # type: ignore[call-overload]
        handles=handles, loc=f"outside {place} center", ncols=columns, frameon=False, handletextpad=0.1
    )
    box = found.get_window_extent()
    if columns > 1 and box.width > figure.bbox.width - 2 * EDGE * figure.dpi:
        found.remove()
        keys(figure, looks, place, columns - 1)
    else:
        figure.set_figheight(figure.get_figheight() + box.height / figure.dpi)


def grid(
    titles: Mapping[str, str], ratio: float, across: str, down: str, note: str, bar: float = 0.0
) -> tuple[Figure, list[Axes], Axes | None]:
    """A panel for each row, `ratio` times as high as wide, at most ACROSS beside each other, all with the same axes.

    titles: by row, what stands above its panel below the name. across, down: what the axes show; note: a text at the
    foot. bar: the height of a colour bar with its labels, 0 for none.

    Returns the figure, the panels, and the axes of the colour bar.
    """
    n = min(ACROSS, len(titles))
    wide = (palette.WIDTH - LEFT - RIGHT - (n - 1) * GAP) / n
    texts = [wrapped(name, wide + GAP - 0.04) + f"\n{more}" * bool(more) for name, more in titles.items()]
    heads = [max(height(text) for text in texts[i : i + n]) + 0.13 for i in range(0, len(texts), n)]
    foot = EDGE + height(note, 6)
    low = foot + bar + LABEL + TICKS + 0.02
    figure = Figure(figsize=(palette.WIDTH, sum(heads) + len(heads) * wide * ratio + low))
    palette.lay_out_no_more(figure)
    panels: list[Axes] = []
    for i, text in enumerate(texts):
        row, column = divmod(i, n)
        top = figure.get_figheight() - sum(heads[: row + 1]) - row * wide * ratio
        left = LEFT + column * (wide + GAP)
        axes = place(figure, left, top - wide * ratio, wide, wide * ratio, panels[0] if panels else None)
        axes.set_title(text, fontsize=7, pad=5)  # above the tick labels too
        axes.tick_params(labelleft=column == 0, labelbottom=i + n >= len(texts), length=2.5, pad=2)
        panels.append(axes)
    middle, panel_block = LEFT + (palette.WIDTH - LEFT - RIGHT) / 2, figure.get_figheight() + low - heads[0]
    _write(figure, middle, low - TICKS, across)
    _write(figure, EDGE, panel_block / 2, down, ha="left", va="center", rotation=90)
    _write(figure, palette.WIDTH / 2, foot, note, fontsize=6)
    thick = 0.07
    bars = place(figure, LEFT, foot + bar - thick - 0.03, palette.WIDTH - LEFT - RIGHT, thick) if bar else None
    return figure, panels, bars


def place(figure: Figure, left: float, bottom: float, wide: float, high: float, same: Axes | None = None) -> Axes:
    """Axes at this place; same: axes whose limits and ticks they share."""
    across, down = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / down, wide / across, high / down), sharex=same, sharey=same)


def _write(figure: Figure, left: float, bottom: float, text: str, **how: Any) -> None:
    across, down = figure.get_size_inches()
    style: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": 7, "linespacing": 1.15, **how}
    figure.text(left / across, bottom / down, text, **style)
