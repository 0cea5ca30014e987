"""Run records -> tidy calibration: one row for each run and part: source validation, or a test domain."""

from collections.abc import Sequence
from typing import Literal

import pandas as pd

from benchmark.core.record import Record
from benchmark.report.tidy.rows import tidy_frame, tidy_row
from benchmark.report.tidy.targets import by_column, shifted

Quantity = Literal["ece", "nll"]
COLUMNS = "dataset protocol method source target seed ece_percent nll_nats split n_images run_id in_domain"


def calibration_rows(records: Sequence[Record]) -> pd.DataFrame:
    """Tidy: expected calibration errors in percent and mean negative log likelihoods in nats, of each run's selected
    network. split: test, or source-val, whose target is the source. Runs without any are left out; both numbers are
    empty where the network's outputs were not all finite."""
    rows = []
    for record in records:
        found, accuracy = record.calibration, record.accuracy
        if found is None or accuracy is None:
            continue
        parts = [("source-val", record.asked.source, accuracy.n_val, True, found.source_val)]
        for name, measured in found.domains.items():
            parts.append(("test", name, accuracy.domains[name].n or 0, name in accuracy.in_domain, measured))
        for split, target, n, inside, measured in parts:
            values = {"ece_percent": measured.ece, "nll_nats": measured.nll, "n_images": n}
            rows.append(tidy_row(record, target=target, split=split, in_domain=inside, **values))
    return tidy_frame(rows, COLUMNS)


def calibrated(record: Record, quantity: Quantity) -> dict[str, float]:
    """A run's values by column of the accuracy table; its source validation part as `source val`; and `mean`, over the
    columns that the mean accuracy is over. What is not known of all of its parts is absent."""
    if record.calibration is None or record.accuracy is None:
        return {}
    measured = record.calibration.domains
    found = by_column({name: getattr(measured.get(name), quantity, None) for name in record.accuracy.domains})
    over = shifted(record, record.asked.recipe.selection)
    if over and found.keys() >= over.keys():
        found["mean"] = sum(found[name] for name in over) / len(over)
    source: float | None = getattr(record.calibration.source_val, quantity)
    return found if source is None else found | {"source val": source}
