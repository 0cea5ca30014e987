"""From a run to its cells, and from a cell to its runs."""

from collections.abc import Iterable, Mapping, Sequence

from benchmark.core.errors import UsageError, did_you_mean
from benchmark.report.all_tables import render
from benchmark.report.people.cells import Line, Summary
from benchmark.report.people.summaries import summarise
from benchmark.runs.store import Store


def trace(store: Store, what: str) -> str:
    """Run to cells: the record of the run whose id begins so, the end of its traceback if it has one, the command that
    repeats it, every cell that uses it.
    Cell to runs, for 'TABLE:ROW' or 'TABLE:ROW:COLUMN': every such cell and the commands of its runs.
    A search's trials are runs of the table `search`.

    Raises UsageError where no run, more than one, or no cell is meant.
    """
    records, trials = store.read_all(), store.trials()
    known = {record.run_id: record for record in [*records, *trials]}
    maps = store.maps(records)
    lines = list(_lines(summarise(records, maps, trials)))
    if ":" in what:
        found = [(f"{w}, {c}", cell) for t, line, w in lines for c, cell in line.cells.items()
                 if what in (f"{t}:{line.label}", f"{t}:{line.label}:{c}")]  # fmt: skip
        if not found:
            table = what.partition(":")[0]
            rows = [(f"{table}:{line.label}", line.cells) for name, line, _ in lines if name == table]
            of_row = {f"{row}:{column}" for row, cells in rows for column in cells if what.startswith(f"{row}:")}
            names = of_row or {row for row, _ in rows}
            hint = did_you_mean(what, names) if names else did_you_mean(table, {name for name, _, _ in lines})
            raise UsageError(f"--trace {what}: no such {'cell' if names else 'table'}; {hint}")
        shown = [f"{where}: {cell.text}  <- {' '.join(cell.runs) or cell.source}" for where, cell in found]
        used = dict.fromkeys(run_id for _, cell in found for run_id in cell.runs)
        return "\n".join([*shown, "", "made by:", *(f"  {run_id}  {known[run_id].ran.command}" for run_id in used)])
    meant = [known[name] for name in known if name.startswith(what)] if what else []
    if len(meant) != 1:
        why = "unknown" if not meant else "ambiguous"
        raise UsageError(f"--trace {what}: {why} run id; {did_you_mean(what, known)}")
    (record,) = meant
    text = [record.model_dump_json(indent=1), ""]
    if record.status != "done":
        text += ["it ended with:", *(f"  {line}" for line in (record.error or record.status).splitlines()), ""]
    text += ["repeat it with:", f"  {record.ran.command}", "", "it appears in:"]
    for name, content in render(records, maps, trials).items():
        numbers = [str(i) for i, row in enumerate(content.splitlines(), 1) if record.run_id.encode() in row]
        text += [f"  {name}: lines {', '.join(numbers)}"] if name.endswith(".csv") and numbers else []
    for _, line, place in lines:
        cells = [f"{column} {cell.text}" for column, cell in line.cells.items() if record.run_id in cell.runs]
        text += [f"  {place}: {'; '.join(cells)}"] if cells else []
    return "\n".join(text)


def _lines(tables: Mapping[str, Sequence[Summary]]) -> Iterable[tuple[str, Line, str]]:
    """All rows of the tables for people: the table's name, the row, and where it stands in words."""
    for name, summaries in tables.items():
        for summary in summaries:
            for line in summary.lines:
                yield name, line, f"{name}.md: {summary.heading}: {line.label}"
