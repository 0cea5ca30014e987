"""Every table of a list of records, as files."""

from collections.abc import Callable, Sequence

import pandas as pd

from benchmark.core.record import Record
from benchmark.report import table_files
from benchmark.report.people.summaries import or_why, summarise
from benchmark.report.tidy.calibration import calibration_rows
from benchmark.report.tidy.campaigns import source_rows
from benchmark.report.tidy.comparisons import cost_rows, difference_rows, rank_rows
from benchmark.report.tidy.corruption_metrics import corruption_rows
from benchmark.report.tidy.groups import told_apart
from benchmark.report.tidy.paper import paper_rows
from benchmark.report.tidy.rows import Maps, accuracy_rows, correlation_rows, sensitivity_rows, throughput_rows
from benchmark.report.tidy.search_rows import search_rows

SOMETIMES = ("corruption", "calibration", "search", "sources")
"""Those that only some records give."""


def render(records: Sequence[Record], maps: Maps, trials: Sequence[Record] = ()) -> dict[str, bytes]:
    """Every table as the contents of a file, by file name. maps: sensitivity maps by run id. trials: of searches."""
    records = told_apart(records)
    accuracy, sensitivity = accuracy_rows(records), sensitivity_rows(records, maps)
    makers: dict[str, Callable[[], pd.DataFrame]] = {
        "differences": lambda: difference_rows(records),
        "calibration": lambda: calibration_rows(records),
        "ranks": lambda: rank_rows(records),
        "cost": lambda: cost_rows(records),
        "paper": lambda: paper_rows(records),
        "throughput": lambda: throughput_rows(records),
        "sensitivity_correlation": lambda: correlation_rows(accuracy, sensitivity),
        "corruption": lambda: corruption_rows(accuracy),
        "search": lambda: search_rows(records, trials),
        "sources": lambda: source_rows(records),
    }
    tidy = {"accuracy": accuracy, "sensitivity": sensitivity} | {n: or_why(make, _why) for n, make in makers.items()}
    tidy = {name: rows for name, rows in tidy.items() if name not in SOMETIMES or not rows.empty}
    files = {f"{name}.csv": table_files.csv(rows) for name, rows in tidy.items()}
    files |= {f"{name}.parquet": table_files.parquet(files[f"{name}.csv"]) for name in tidy}
    for name, summaries in summarise(records, maps, trials).items():
        if name in SOMETIMES and not summaries:
            continue
        files[f"{name}.md"] = table_files.markdown(name, summaries).encode()
        files[f"{name}.tex"] = table_files.latex(name, summaries).encode()
    return files


def _why(problem: str) -> pd.DataFrame:
    return pd.DataFrame({"cannot be made": [problem]})
