"""Tidy tables for programs: a row for each run with all that became of it, and columns of the types of their values."""

from collections.abc import Sequence

import pandas as pd

from benchmark.core.record import Record
from benchmark.report.tidy.groups import describe_group, table
from benchmark.report.tidy.targets import measures

RUN_COLUMNS = (
    "run_id status error dataset source protocol method variant seed budget steps device mean_accuracy worst_accuracy "
    "source_val_accuracy seconds resumed warnings ended command fingerprint code group"
)
WHOLE = {"seed", "steps", "n_images", "parameters", "sharing", "resumed"}
TRUTH = {"in_domain", "headline"}
TEXTS = {
    *("dataset", "protocol", "method", "variant", "source", "target", "versus", "budget", "device", "length"),
    *("run_id", "run_ids", "group", "setting", "code", "fingerprint", "machine", "note", "selection", "band", "metric"),
    *("settings", "status", "split", "name", "paper", "where", "backbone", "evidence", "over", "sources", "lacks"),
    *("error", "warnings", "ended", "command"),
}
"""Columns that hold texts, whatever the texts look like."""


def run_rows(records: Sequence[Record]) -> pd.DataFrame:
    """One row for each run. Accuracies are percent under its own selection rule: mean and worst over the shifted
    domains, and that of the source validation part; seconds are those of the whole run."""
    rows = []
    for record in records:
        reached = measures(record) if record.accuracy else {}
        val = record.accuracy.source_val if record.accuracy else {}
        rows.append(
            describe_group(record)
            | {
                "run_id": record.run_id,
                "status": record.status,
                "error": record.error,
                "seed": record.asked.seed,
                "steps": record.steps,
                "mean_accuracy": reached.get("mean"),
                "worst_accuracy": reached.get("worst"),
                "source_val_accuracy": val.get(record.asked.recipe.selection),
                "seconds": record.ran.seconds,
                "resumed": record.ran.resumed,
                "warnings": "\n".join(record.warnings),
                "ended": record.ran.ended,
                "command": record.ran.command,
                "fingerprint": record.asked.fingerprint,
                "code": record.ran.code,
            }
        )
    return table(rows, RUN_COLUMNS, "dataset protocol group source method variant seed")


def typed(frame: pd.DataFrame) -> pd.DataFrame:
    """The same table, also where it is empty, with float64 for measurements (missing: NaN), Int64 for counts, boolean
    for yes or no (both missing: NA), and texts as they are (missing: None)."""
    kinds = {name: "Int64" if name in WHOLE else "boolean" if name in TRUTH else "float64" for name in frame.columns}
    texts = {name: "object" for name in frame.columns if name in TEXTS}
    out = frame.astype(kinds | texts)
    for name in texts:
        out[name] = out[name].where(out[name].notna(), None)
    return out
