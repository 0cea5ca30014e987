"""The parts of a table for people. A number knows the runs it was computed from, or the publication it was read in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from benchmark.core.escaping import one_line
from benchmark.core.record import Record
from benchmark.report.tidy.stats import ALPHA, estimate


@dataclass(frozen=True)
class Cell:
    """Text of one cell. A text with a digit and neither runs nor a source raises ValueError."""

    text: str
    runs: tuple[str, ...] = ()
    source: str = ""
    """For a number of somebody else: where it was read."""
    bold: bool = False
    empty: bool = False
    """Whether its text says why there is no number."""

    @property
    def gap(self) -> bool:
        """Whether no number stands there: the page shows that."""
        return self.empty or not (self.runs or self.source)

    def __post_init__(self) -> None:
        if any(letter.isdigit() for letter in self.text) and not self.runs and not self.source:
            raise ValueError(f"'{self.text}': a number needs the runs it was computed from")


@dataclass(frozen=True)
class Line:
    """One row: its name, its cells by column, and all its runs, failed ones too."""

    label: str
    cells: dict[str, Cell]
    runs: tuple[str, ...]


@dataclass(frozen=True)
class Summary:
    """One table for people: a heading, its lines and footnotes. group: which runs may be compared (groups.group_of)."""

    heading: str
    lines: list[Line]
    footnotes: list[str]
    group: str
    first: str = "method"
    """Heading of the column of row names."""

    @property
    def headings(self) -> dict[str, str]:
        """What each column of the lines is headed with: its own name on one line, and no two alike."""
        found: dict[str, str] = {}
        for name in dict.fromkeys(name for line in self.lines for name in line.cells):
            shown = one_line(name)
            while shown in {self.first, "runs", *found.values()}:
                shown += " (domain)"
            found[name] = shown
        return found

    @property
    def cells(self) -> pd.DataFrame:
        """All cells as plain text: row names, then the columns, then run ids."""
        headings = self.headings
        rows = [
            {self.first: one_line(line.label)}
            | {headings[name]: one_line(cell.text) for name, cell in line.cells.items()}
            | {"runs": " ".join(line.runs)}
            for line in self.lines
        ]
        return pd.DataFrame(rows)


def spread(values: Mapping[str, float], why: "Cell | str", digits: int = 1, *, bold: bool = False) -> Cell:
    """mean ± sample standard deviation of values by run id; one value has no spread. why: the cell, or its text, for no
    value."""
    if not values:
        return why if isinstance(why, Cell) else Cell(why)
    found = estimate([*values.values()])
    sd = "" if found.sd is None else f" ± {found.sd:.{digits}f}"
    return Cell(f"{found.mean:.{digits}f}{sd}", tuple(values), bold=bold)


def interval(low: float | None, high: float | None) -> str:
    """[low, high], or a dash where there is none."""
    return "–" if low is None or high is None else f"[{low:.1f}, {high:.1f}]"


def p_text(p: float) -> str:
    """A p-value as tables print it; with a digit more where three would hide on which side of the level it lies."""
    return "< 0.001" if p < 0.001 else f"{p:.4f}" if f"{p:.3f}" == f"{ALPHA:.3f}" else f"{p:.3f}"


def why_empty(runs: Sequence[Record]) -> Cell:
    """Why a row has no number: not run, failed or diverged, or the data is missing; it leads to these runs."""
    ended = dict.fromkeys(record.status for record in runs if record.accuracy is None)
    if not runs:
        return Cell("not run")
    return Cell("data missing" if any(record.accuracy for record in runs) else ", ".join(ended), ids(runs), empty=True)


def count(runs: Sequence[Record], good: Sequence[Record]) -> Cell:
    """n, and of how many where some have no number."""
    text = str(len(good)) if len(good) == len(runs) else f"{len(good)} of {len(runs)}"
    return Cell(text, ids(runs)) if runs else Cell("not run")


def several_devices(rows: Mapping[str, Sequence[Record]]) -> list[str]:
    """A footnote where rows were made on several devices; empty where all were made on one."""
    made: dict[str, dict[str, None]] = {}
    for row, runs in rows.items():
        for run in runs:
            if run.accuracy:
                made.setdefault(run.ran.device_name, {})[row] = None
    if len(made) < 2:
        return []
    most = max(made, key=lambda name: len(made[name]))
    told = "; ".join(f"{', '.join(names)} on {name}" for name, names in made.items() if name != most)
    why = "rounding differs there and training amplifies it, so one seed on two devices may be as two seeds"
    return [f"not made on one device: {told}; the most on {most}: {why}"]


def ids(runs: Sequence[Record]) -> tuple[str, ...]:
    return tuple(record.run_id for record in runs)
