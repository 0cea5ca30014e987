"""Calibration in the tables and on the page, from records made by hand."""

import csv
import io
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmark import tables
from benchmark.core.record import Record
from benchmark.report import page
from benchmark.report.all_tables import render
from benchmark.report.people.summaries import summarise
from benchmark.report.tidy.calibration import calibrated as values
from benchmark.report.tidy.calibration import calibration_rows
from tests.conftest import ROOT
from tests.handmade import calibrated, error_map, failed, fill, record, scored

RUNS = [calibrated(record("erm", s, 50.0 + s), 10.0 + 4 * s) for s in range(2)]
RUNS += [calibrated(record("augmix", 0, 60.0), 20.0, shifted=None)]
OLD = [record("gud", s, 40.0) for s in range(2)]
MADE = [*RUNS, *OLD, calibrated(record("sada", 0, 30.0), 8.0), record("sada", 1, 30.0), failed("mada", 0)]


def rendered(made: list[Record]) -> dict[str, bytes]:
    return render(made, {run.run_id: error_map(run) for run in made if run.sensitivity})


def cells(made: list[Record]) -> tuple[list[dict[Any, Any]], list[dict[Any, Any]]]:
    """The lines of the tables of calibration errors and of likelihoods."""
    ece, nll = summarise(made, {})["calibration"]
    return ece.cells.to_dict("records"), nll.cells.to_dict("records")


def test_it_gives_the_committed_text() -> None:
    """The whole of the file, as a person reviewed it."""
    expected = (ROOT / "tests" / "expected" / "calibration.md").read_text(encoding="utf-8")
    assert rendered(MADE)["calibration.md"].decode() == expected


def test_cells() -> None:
    (erm, *_), (likelihood, *_) = cells(RUNS)
    assert erm == {
        "method": "erm", "shifted ECE %": "12.0 ± 2.8", "absent ECE %": "data missing", "mean ECE %": "12.0 ± 2.8",
        "same (in-domain) ECE %": "12.0 ± 2.8", "source val ECE %": "6.0 ± 1.4", "n": "2", "runs": erm["runs"],
    }  # fmt: skip
    assert (likelihood["mean NLL nats"], likelihood["source val NLL nats"]) == ("1.200 ± 0.283", "0.600 ± 0.141")


def test_a_row_without_a_number_says_why() -> None:
    by_row = {line["method"]: line for line in cells(MADE)[0]}
    shown = {row: (line["shifted ECE %"], line["mean ECE %"], line["n"]) for row, line in by_row.items()}
    assert shown == {
        "erm": ("12.0 ± 2.8", "12.0 ± 2.8", "2"),
        "augmix": ("–", "–", "1"),
        "gud": ("–", "–", "0 of 2"),
        "sada": ("8.0", "8.0", "1 of 2"),
        "mada": ("failed", "failed", "0 of 1"),
    }
    assert by_row["augmix"]["same (in-domain) ECE %"] == "20.0"
    assert by_row["gud"]["absent ECE %"] == "data missing"
    for summary in summarise(MADE, {})["calibration"]:
        assert summary.footnotes == [
            "the network's outputs in shifted are not all finite: augmix, seed 0. – where no other run is left",
            "made before it was measured; run again: gud, seed 0, 1; sada, seed 1. – where no other run is left",
        ]


def test_runs_from_before_it_was_measured_have_no_table(tmp_path: Path) -> None:
    assert summarise(OLD, {})["calibration"] == []
    assert not [name for name in rendered(OLD) if name.startswith("calibration")]
    assert 'data-table="calibration"' not in page.render(OLD, {}, {run.run_id: [] for run in OLD}, [])
    store = fill(tmp_path, OLD)
    before = {path: path.read_bytes() for path in store.runs.rglob("*") if path.is_file()}
    left = [tmp_path / "tables" / f"calibration.{kind}" for kind in ("csv", "parquet", "md", "tex")]
    (tmp_path / "tables").mkdir()
    for path in left:
        path.write_text("of runs that are gone")
    assert set(tables.check(store)) >= {path.name for path in left}
    tables.write(store, store.read_all())
    assert not any(path.exists() for path in left)
    assert before == {path: path.read_bytes() for path in before}


def test_each_comparison_is_looked_at_by_itself() -> None:
    elsewhere = record("erm", 0, source="shifted")
    shown = summarise([*RUNS, elsewhere], {})["calibration"]
    assert [("source same" in table.heading, "ECE" in table.heading) for table in shown] == [
        (True, True),
        (True, False),
    ]


def test_the_page_folds_both_tables_beside_the_others() -> None:
    made = RUNS[:2]
    text = page.render(made, {}, {run.run_id: [] for run in made}, [])
    assert text.count('data-table="calibration"') == 2
    assert (
        text.index(" further tables") < text.index('data-table="calibration"') < text.index('data-table="throughput"')
    )
    assert "1.200 ± 0.283" in text


def test_the_mean_is_over_the_columns_of_the_mean_accuracy() -> None:
    one = scored(
        record("erm", 0), {"fog/1": 80.0, "fog/5": 60.0, "snow/1": 50.0, "rain": None, "clean": 95.0}, ["clean"]
    )
    found = values(calibrated(one, 10.0, **{"fog/5": 30.0, "clean": 1.0}), "ece")
    assert found == {"fog": 20.0, "snow": 10.0, "clean": 1.0, "mean": 15.0, "source val": 5.0}
    assert "mean" not in values(calibrated(one, 10.0, **{"fog/5": None}), "nll")
    only = scored(record("erm", 0), {"clean": 95.0}, ["clean"])
    assert values(calibrated(only, 3.0), "ece")["mean"] == 3.0  # no other domain was asked for


def test_the_lowest_is_bold_from_five_seeds_on() -> None:
    def bold(seeds: int, *more: Record) -> set[str]:
        made = [
            calibrated(record(m, s), v + s % 2) for m, v in {"erm": 30.0, "augmix": 9.0}.items() for s in range(seeds)
        ]
        made[0] = calibrated(made[0], 33.0)
        ece, _ = summarise([*made, *more], {})["calibration"]
        return {f"{line.label} {name}" for line in ece.lines for name, cell in line.cells.items() if cell.bold}

    assert bold(4) == set()
    assert bold(5) == {"augmix shifted ECE %", "augmix mean ECE %"}
    assert bold(5, record("gud", 0)) == set()  # gud may be lower still


def test_the_tidy_rows_have_one_quantity_a_column_with_its_unit() -> None:
    files = rendered(MADE)
    found = list(csv.DictReader(io.StringIO(files["calibration.csv"].decode())))
    head = "dataset,protocol,method,source,target,seed,ece_percent,nll_nats,split,n_images,run_id,in_domain,"
    assert files["calibration.csv"].decode().startswith(head)
    assert {row["run_id"] for row in found} == {run.run_id for run in MADE if run.calibration}
    erm = [row for row in found if row["method"] == "erm" and row["seed"] == "1"]
    names = ("split", "target", "ece_percent", "nll_nats", "in_domain", "n_images")
    assert [tuple(row[name] for name in names) for row in erm] == [
        ("source-val", "same", "7", "0.7", "True", "32"),
        ("test", "shifted", "14", "1.4", "False", "32"),
        ("test", "same", "14", "1.4", "True", "32"),
    ]
    (broken,) = [row for row in found if row["method"] == "augmix" and row["target"] == "shifted"]
    assert (broken["ece_percent"], broken["nll_nats"]) == ("", "")
    kept = pd.read_parquet(io.BytesIO(files["calibration.parquet"]))
    assert kept["ece_percent"].dropna().tolist() == calibration_rows(MADE)["ece_percent"].dropna().tolist()


def test_latex_labels_its_two_tables_apart() -> None:
    text = rendered(RUNS)["calibration.tex"].decode()
    labels = [line for line in text.splitlines() if line.startswith(r"\label")]
    assert len(set(labels)) == len(labels) == 2
    assert r"mean ECE \%" in text


@pytest.mark.parametrize("name", ["mean", "n", "source val", "method", "mean ECE %"])
def test_a_domain_called_like_a_column_has_one_of_its_own(name: str) -> None:
    one = scored(record("erm", 0), {name: 50.0, "other": 70.0})
    ((line,), _) = cells([calibrated(one, 10.0, **{name: 30.0})])
    assert (line["mean ECE %"], line["source val ECE %"], line["n"], line["method"]) == ("20.0", "5.0", "1", "erm")
    assert [text for title, text in line.items() if title.startswith(name) and text == "30.0"] == ["30.0"]
