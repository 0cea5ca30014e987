"""Tables as files: tidy ones as CSV and Parquet, those for people as Markdown and LaTeX (booktabs)."""

import csv as csv_file
import io
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa
from pyarrow import parquet as arrow_parquet

from benchmark.core.escaping import from_csv, one_line, to_csv
from benchmark.core.escaping import markdown as marked
from benchmark.report.people.cells import Summary
from benchmark.report.people.summaries import DETAILS
from benchmark.report.table_texts import CAPTIONS, NOTES
from benchmark.report.tidy.frames import TEXTS


def csv(rows: pd.DataFrame) -> bytes:
    """Fractions have six significant digits. A text that a spreadsheet would calculate has an apostrophe in front."""
    safe = rows.map(lambda value: to_csv(value) if isinstance(value, str) else value)
    return safe.to_csv(index=False, float_format="%.6g", lineterminator="\n").encode()


def parquet(content: bytes) -> bytes:
    """A CSV's content, typed, without its apostrophes. Texts are text even where they are all digits, or called NA."""
    head, *rows = csv_file.reader(io.StringIO(content.decode(), newline=""))
    columns = [[cell or None for cell in column] for column in zip(*rows, strict=True)] or [[] for _ in head]
    table = pa.table({name: _typed(name, cells) for name, cells in zip(head, columns, strict=True)})
    buffer = io.BytesIO()
    arrow_parquet.write_table(table, buffer)
    return buffer.getvalue()


def _typed(name: str, cells: Sequence[str | None]) -> pa.Array:
    """A column of a CSV file as the narrowest type that takes all of its cells; an empty cell is null."""
    there = [cell for cell in cells if cell is not None]
    readings: list[tuple[Callable[[str], Any], Any]] = [(_truth, pa.bool_()), (int, pa.int64()), (int, pa.uint64())]
    readings += [] if name == "seed" else [(float, pa.float64())]
    if not there and name not in TEXTS:
        return pa.nulls(len(cells))
    for read, kind in readings if name not in TEXTS else ():
        try:
            return pa.array([None if cell is None else read(cell) for cell in cells], kind)
        except (ValueError, OverflowError):  # pyarrow's own errors are ValueErrors
            continue
    return pa.array([None if cell is None else from_csv(cell) for cell in cells], pa.string())


def _truth(cell: str) -> bool:
    if cell not in ("True", "False"):
        raise ValueError(cell)
    return cell == "True"


def same_parquet(one: bytes, other: bytes) -> bool:
    """Whether two Parquet files hold the same table; their bytes also depend on the library that wrote them. One that
    is damaged is the same as none."""
    if one == other:
        return True
    try:
        return bool(_whole(one).equals(_whole(other)))
    except (pa.ArrowException, OSError, ValueError, MemoryError):
        return False


def _whole(content: bytes) -> pa.Table:
    """The table of a Parquet file whose footer is as long as it says and names its writer. Read without pyarrow's
    threads, which may outlive the interpreter and abort it."""
    file = arrow_parquet.ParquetFile(pa.BufferReader(content), pre_buffer=False)
    about = file.metadata
    said = int.from_bytes(content[-8:-4], "little")
    if about.serialized_size != said or not about.created_by.startswith("parquet-cpp-arrow version "):
        raise ValueError(f"its footer has {about.serialized_size} bytes, not the {said} that it says")
    return file.read(use_threads=False)


def markdown(name: str, summaries: Sequence[Summary]) -> str:
    parts = [f"# {name.capitalize()}\n", NOTES[name]]
    for summary in summaries:
        parts.append(f"## {marked(summary.heading)}\n")
        parts += [marked_cells(summary).to_markdown(index=False, disable_numparse=True) + "\n"] if summary.lines else []
        parts += [f"- {marked(note)}" for note in summary.footnotes] + [""] * bool(summary.footnotes)
    parts += [] if summaries else ["Nothing to show.\n"]
    return "\n".join(parts)


def marked_cells(summary: Summary) -> pd.DataFrame:
    """The cells of a table as Markdown, bold ones marked."""
    cells, headings = summary.cells.map(marked), summary.headings
    for i, line in enumerate(summary.lines):
        for column, cell in line.cells.items():
            if cell.bold:
                cells.loc[i, headings[column]] = f"**{marked(cell.text)}**"
    cells.columns = [marked(column) for column in cells.columns]
    return cells


def latex(name: str, summaries: Sequence[Summary]) -> str:
    """booktabs tables, ready to paste; run ids stay in the other formats. The accuracy table's selection rules and
    interval, too wide beside the domains, are a table of their own."""
    parts = ["% needs \\usepackage{booktabs,graphicx}\n"]
    nth: Counter[str] = Counter()
    for summary in summaries:
        nth[summary.group] += 1
        label = summary.group if nth[summary.group] == 1 else f"{summary.group}-{nth[summary.group]}"
        if not summary.lines:
            parts += [f"% {one_line(note)}\n" for note in (summary.heading, *summary.footnotes)]
            continue
        cells, headings = summary.cells.drop(columns="runs"), summary.headings
        bold = pd.DataFrame(False, cells.index, cells.columns)
        for i, line in enumerate(summary.lines):
            bold.loc[i, [headings[column] for column, cell in line.cells.items() if cell.bold]] = True
        marks = bold.astype(object).where(~bold, "textbf:--rwrap;").where(bold, "")
        columns = [column for column in cells if name != "accuracy" or column not in DETAILS]
        parts.append(_booktabs(cells[columns], marks[columns], name, summary.heading, label))
        if len(columns) < len(cells.columns):
            columns = [summary.first, *DETAILS, columns[-1]]
            parts.append(_booktabs(cells[columns], marks[columns], "selection", summary.heading, label))
    return "\n".join(parts)


def _booktabs(cells: pd.DataFrame, marks: pd.DataFrame, name: str, heading: str, label: str) -> str:
    style = cells.style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis="columns")
    text = style.apply(lambda _: marks, axis=None).to_latex(
        hrules=True,
        position="htbp",
        position_float="centering",
        caption=f"{CAPTIONS[name]}: {escape(one_line(heading))}",
        label=f"tab:{name}-{re.sub(r'[^A-Za-z0-9_-]', '-', label)}",
        column_format="l" + "r" * (cells.shape[1] - 1),
    )
    # As wide as the text where it would be wider.
    width = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{"
    text = text.replace(r"\begin{tabular}", width + "\n" + r"\begin{tabular}")
    text = text.replace(r"\end{tabular}", r"\end{tabular}}").replace("±", r"$\pm$").replace("–", "--")
    text = text.replace("< 0.001", "$<$ 0.001")
    return re.sub(r"(?<=[\[ ])-(?=\d)", "$-$", text)  # a minus, not a hyphen


def escape(text: str) -> str:
    """Text for LaTeX."""
    return text.translate(LATEX)


LATEX = str.maketrans({sign: rf"\{sign}" for sign in "&%$#_{}"})
LATEX |= str.maketrans({"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"})
