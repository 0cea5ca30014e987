"""Metrics over corruptions, by hand."""

import pandas as pd
import pytest

from benchmark.core.errors import UsageError
from benchmark.core.outcome import Domain
from benchmark.corruptions import COMMON, EXTRA, GROUPS
from benchmark.report.all_tables import render
from benchmark.report.tidy import corruption_metrics
from benchmark.report.tidy.corruption_metrics import (
    ALEXNET,
    TARGETS,
    corruption_rows,
    mce_alexnet,
    mean_accuracy_15x5,
    mean_corruption_error,
    severity5_group_mean,
)
from benchmark.report.tidy.rows import accuracy_rows
from tests import handmade


def table(**changed: float) -> dict[str, float]:
    """80 % everywhere but in the corruptions (all severities) that are named."""
    return {target: changed.get(target.partition("/")[0], 80.0) for target in TARGETS}


def test_the_plain_means() -> None:
    found = table(fog=65.0)  # one of fifteen is 15 lower
    assert mean_accuracy_15x5(found) == pytest.approx(79)
    assert mean_corruption_error(found) == pytest.approx(21)


def test_the_group_mean_is_of_severity_5_and_weighs_groups_equally() -> None:
    found = table() | {"gaussian_noise/5": 20.0, "fog/5": 0.0, "fog/4": 0.0}
    # Noise (3 of them): (20 + 80 + 80) / 3 = 60; weather (4): (0 + 3 * 80) / 4 = 60; blur and digital 80.
    assert severity5_group_mean(found) == pytest.approx(70)
    assert severity5_group_mean(table() | {"fog/4": 0.0}) == 80


def test_alexnets_mce() -> None:
    assert set(ALEXNET) == set(COMMON) == {name for names in GROUPS.values() for name in names}
    like_alexnet = {target: 100 - ALEXNET[target.partition("/")[0]] for target in TARGETS}
    assert mce_alexnet(like_alexnet) == pytest.approx(100)
    half = {target: 100 - ALEXNET[target.partition("/")[0]] / 2 for target in TARGETS}
    assert mce_alexnet(half) == pytest.approx(50)
    # Corruption by corruption: errors are averaged over severities first.
    assert mce_alexnet(like_alexnet | {"fog/1": 100.0}) == pytest.approx(100 - 100 / 5 / 15)


def test_a_partial_set_is_refused_and_extra_ones_do_not_count() -> None:
    found = table()
    with_extra = found | {f"{name}/5": 0.0 for name in EXTRA} | {"cifar10": 0.0}
    for metric in (*corruption_metrics.METRICS.values(), mce_alexnet):
        assert metric(with_extra) == metric(found)
        short = {target: value for target, value in found.items() if target not in {"fog/3", "snow/1"}}
        with pytest.raises(UsageError, match="missing: snow/1, fog/3"):
            metric(short)
    with pytest.raises(UsageError, match="and 70 more"):
        mean_corruption_error({})


def accuracies(**changed: float) -> pd.DataFrame:
    """Rows as the suite makes them, of one run of which the toy's domains are replaced by corrupted ones."""
    record = handmade.record("erm", 3)
    domains = {
        target: Domain(n=10, accuracy={"source-val": value, "last": value - 10})
        for target, value in (table(**changed) | {"spatter/1": 11.0, "clean": 95.0}).items()
    }
    assert record.accuracy is not None
    accuracy = record.accuracy.model_copy(update={"domains": domains, "in_domain": ["clean"]})
    return accuracy_rows([record.model_copy(update={"accuracy": accuracy})])


def test_rows_of_a_run() -> None:
    rows = corruption_rows(accuracies(fog=65.0))
    assert [*rows.columns] == [
        "dataset", "protocol", "method", "variant", "source", "seed", "selection", "metric", "value", "run_id",
        "missing",
    ]  # fmt: skip
    value = rows.set_index(["selection", "metric"])["value"]
    assert value["source-val", "mean_corruption_error"] == pytest.approx(21)
    assert value["last", "mean_corruption_error"] == pytest.approx(31)
    assert value["last", "severity5_group_mean"] == pytest.approx(70 - 15 / 16)
    assert set(rows["metric"]) == set(corruption_metrics.METRICS)  # AlexNet's is for ImageNet-C
    assert len(rows) == 6
    assert rows["seed"].tolist() == [3] * 6
    imagenet = corruption_rows(accuracies().assign(dataset="imagenetc"))
    assert "mce_alexnet" in set(imagenet["metric"])


def test_rows_of_other_runs() -> None:
    assert corruption_rows(accuracy_rows([handmade.record("erm", 0), handmade.failed("erm", 1)])).empty
    partial = accuracies()
    rows = corruption_rows(partial[partial["target"] != "fog/2"])
    assert rows["value"].isna().all()
    assert rows["missing"].str.endswith("missing: fog/2").all()
    absent = partial.assign(accuracy=partial["accuracy"].where(partial["target"] != "fog/2"))
    assert corruption_rows(absent)["missing"].str.endswith("missing: fog/2").all()


def test_the_table_is_written_only_where_there_is_something_in_it() -> None:
    record = handmade.record("erm", 0).model_copy(update={"sensitivity": None})
    assert "corruption.csv" not in render([record], {})
    assert record.accuracy is not None
    domains = {target: Domain(n=10, accuracy=dict.fromkeys(record.accuracy.source_val, 60.0)) for target in TARGETS}
    accuracy = record.accuracy.model_copy(update={"domains": domains, "in_domain": []})
    lines = render([record.model_copy(update={"accuracy": accuracy})], {})["corruption.csv"].decode().split("\n")
    assert len(lines) == 1 + 9 + 1
    assert lines[2].split(",")[7:9] == ["mean_corruption_error", "40"]
