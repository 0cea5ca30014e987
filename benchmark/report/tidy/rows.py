"""Run records -> tidy tables: one row for each run, target and selection rule, or run and band, or run."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from benchmark.core.devices import on_gpu
from benchmark.core.outcome import Throughput
from benchmark.core.recipe import Selection
from benchmark.core.record import Record
from benchmark.core.timing import SHARES
from benchmark.report.tidy.groups import EARLIER, describe_group, name_of, shared, table
from benchmark.report.tidy.stats import DIGITS
from benchmark.runs import machine
from benchmark.sensitivity.map import SensitivityMap, band_target_correlation, summaries

Maps = Mapping[str, SensitivityMap]
"""Sensitivity maps by run id."""


def accuracy_rows(records: Sequence[Record]) -> pd.DataFrame:
    """Tidy accuracies: one row for each run, target and selection rule; runs and domains without a number say why."""
    rows = []
    for record in records:
        if record.accuracy is None:
            rows.append(tidy_row(record, target="", accuracy=None, selection="", n_images=None))
            continue
        for target, domain in record.accuracy.domains.items():
            for rule, value in _or_gap(domain.accuracy):
                status = "data missing" if domain.missing else record.status
                row = tidy_row(record, target=target, accuracy=value, selection=rule, n_images=domain.n)
                rows.append(
                    row
                    | {
                        "status": status,
                        "in_domain": target in record.accuracy.in_domain,
                        "headline": rule == record.asked.recipe.selection,
                    }
                )
    return tidy_frame(
        rows, "dataset protocol method source target seed accuracy selection n_images run_id in_domain headline"
    ).astype({"n_images": "Int64"})


BY_RUN = {
    "area_above_clean_error": "area_above_clean_error_rate",
    "half_maximum_radius": "half_maximum_radius_cycles_per_image",
}
"""Summaries of a map that are no error rate of a band, and the columns of their own that they have."""


def sensitivity_rows(records: Sequence[Record], maps: Maps) -> pd.DataFrame:
    """Tidy sensitivities, recomputed from the raw maps: one row for each run and band, error rates in [0,1]. What
    belongs to the whole map stands on each row of the run."""
    rows = []
    for record in records:
        if record.sensitivity is None:
            continue
        found = summaries(maps[record.run_id])
        about = {column: found.pop(name) for name, column in BY_RUN.items()}
        for band, value in found.items():
            spread = record.sensitivity.mean_standard_error if band == "mean" else None
            row = tidy_row(record, band=band, error_rate=value, n_images=record.sensitivity.n_images)
            rows.append(row | {"standard_error": spread} | about)
    columns = "dataset protocol method source seed band error_rate run_id n_images standard_error"
    return tidy_frame(rows, f"{columns} {' '.join(BY_RUN.values())}")


def correlation_rows(accuracy: pd.DataFrame, sensitivity: pd.DataFrame) -> pd.DataFrame:
    """SADA's claim: over the methods, does sensitivity in a band go with error in a target? One row for each, and for
    the two summaries of BY_RUN.

    accuracy, sensitivity: what accuracy_rows and sensitivity_rows give."""
    accuracy = accuracy[accuracy["headline"].eq(True) & accuracy["variant"].eq("")]
    runs = sensitivity.drop_duplicates("run_id")
    more = [runs.assign(band=name, error_rate=runs[column]) for name, column in BY_RUN.items()]
    sensitivity = pd.concat([sensitivity, *more]) if len(runs) else sensitivity
    parts = [
        band_target_correlation(*_points(part, sensitivity), over="runs").assign(over="methods", group=group)
        for group, part in accuracy.groupby("group")
        if part["run_id"].isin(sensitivity["run_id"]).any()
    ]
    columns = "dataset protocol source target band over n pearson pearson_p spearman spearman_p group"
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns.split())


def _points(accuracy: pd.DataFrame, sensitivity: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Maps and accuracies as band_target_correlation takes them, with one run of each method in each target: its means
    over seeds, which it would take itself. Means that differ by rounding alone are equal here, or they would have two
    ranks there; rounded in that function, every record would be of other code."""
    by = ["dataset", "protocol", "source", "target", "method"]
    both = accuracy.merge(sensitivity[["run_id", "band", "error_rate"]], on="run_id")
    means = both.groupby([*by, "band"], as_index=False)[["error_rate", "accuracy"]].mean().round(DIGITS)
    means["run_id"] = means[by].agg("/".join, axis=1)
    return means, means[["run_id", *by, "accuracy"]].drop_duplicates("run_id")


def _beside(record: Record) -> tuple[str, str, str, int]:
    """What a run and the ERM share that its speed is compared with, whichever of them a search chose before."""
    asked = {name: value for name, value in shared(record).items() if name != "chosen"}
    return name_of(asked), where(record), record.ran.session, record.asked.seed


def throughput_rows(records: Sequence[Record]) -> pd.DataFrame:
    """Costs: one row for each run. relative_to_erm compares with ERM of the same seed, recipe and machine that ran in
    the same call of benchmark.run: of another day the ratio would measure what else the machine did, as it would of
    runs that shared a GPU."""
    reference = {
        _beside(r): r.throughput.images_per_second
        for r in records
        if r.throughput and (r.asked.row == "erm" or r.asked.row.startswith(f"erm[{EARLIER}")) and not shares_gpu(r)
    }
    rows = []
    for record in records:
        cost = record.throughput
        if cost is None:
            continue
        shared = shares_gpu(record)
        erm = reference.get(_beside(record))
        low, high = (None, None) if shared else cost.steady_iqr
        rows.append(
            tidy_row(
                record,
                train_images_per_second=cost.images_per_second,
                **{f"{share}_share": cost.shares[share] for share in SHARES},
                relative_to_erm=cost.images_per_second / erm if erm and not shared else None,
                setup_seconds=cost.setup_seconds,
                peak_memory_mib=cost.peak_memory_mib,
                passes_per_image=cost.passes_per_image,
                machine=where(record),
                steady_images_per_second=None if shared else cost.steady_images_per_second,
                steady_q25=low,
                steady_q75=high,
                train_seconds=cost.train_seconds,
                parameters=cost.parameters,
                **({} if shared else _floor(cost)),
                replayed=cost.replayed,
                sharing=sharing(record),
            )
        )
    promised = "dataset protocol method device train_images_per_second augment_share relative_to_erm setup_seconds"
    more = "peak_memory_mib passes_per_image run_id source seed machine attack_share expand_share data_wait_share"
    last = "forward_backward_share steady_images_per_second steady_q25 steady_q75 train_seconds parameters"
    floor = "floor_images_per_second of_floor gflops of_matrix_rate matrix_gflops copy_gib_per_second"
    return tidy_frame(rows, f"{promised} {more} {last} {floor} replayed sharing")


def sharing(record: Record) -> int:
    """Runs at a time on the machine while this one ran, itself included; 1 in records that do not say."""
    return int(record.ran.machine.get("sharing", 1))


def shares_gpu(record: Record) -> bool:
    """Whether other runs used its GPU: the clock of a step there is that of all of them."""
    return sharing(record) > 1 and on_gpu(record.asked.device)


def own_seconds(record: Record) -> float | None:
    """Seconds of set-up and training; None where they were not measured, or are those of other runs on its GPU too."""
    cost = record.throughput
    return None if cost is None or shares_gpu(record) else cost.setup_seconds + cost.train_seconds


def _floor(cost: Throughput) -> dict[str, float]:
    """What the run could have cost at best, and how near it came; set-up is left out of both shares."""
    floor = cost.floor
    if floor is None:
        return {}
    rate = cost.images_per_second * (cost.setup_seconds + cost.train_seconds) / cost.train_seconds
    gflops = rate * floor.gflop_per_image
    return {
        "floor_images_per_second": floor.images_per_second,
        "of_floor": rate / floor.images_per_second,
        "gflops": gflops,
        "of_matrix_rate": gflops / floor.matrix_gflops,
        "matrix_gflops": floor.matrix_gflops,
        "copy_gib_per_second": floor.copy_gib_per_second,
    }


def _or_gap(accuracy: dict[Selection, float] | None) -> list[tuple[str, float | None]]:
    return [*accuracy.items()] if accuracy else [("", None)]


def tidy_row(record: Record, **values: Any) -> dict[str, Any]:
    common = {
        "seed": record.asked.seed,
        "run_id": record.run_id,
        "steps": record.steps,
        "fingerprint": record.asked.fingerprint,
        "status": record.status,
        "code": record.ran.code,
    }
    return describe_group(record) | common | values


def tidy_frame(rows: list[dict[str, Any]], columns: str) -> pd.DataFrame:
    """The promised columns first, in their order; then what every row carries."""
    order = f"{columns} variant budget steps fingerprint status group code"
    return table(rows, order, "dataset protocol group source method variant seed")


def where(record: Record) -> str:
    return machine.comparable(record.ran.machine, record.ran.device_name)
