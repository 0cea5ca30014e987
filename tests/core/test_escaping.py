"""Texts from records on a terminal, in a spreadsheet, in Markdown and in Parquet."""

import csv
import io
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet as arrow_parquet

from benchmark import tables
from benchmark.core.errors import UsageError
from benchmark.core.escaping import from_csv, markdown, one_line, plain, to_csv
from benchmark.report import table_files
from benchmark.report.all_tables import render
from benchmark.report.people.cells import Cell, Line, Summary
from benchmark.report.people.summaries import summarise
from benchmark.report.tidy.rows import accuracy_rows
from tests.handmade import failed, fill, record, scored

ODD = [
    *("\x1b[31mred", "=1+1", "@SUM(A1)", "+1", "-1", " =1", "'quoted", "a|b", "<script>", "a\nb", "a\rb", "\x9b2J"),
    *("\u202eabc", "NA", "null", "nan", "007", "1e5", "True", "", "plain"),
]


def test_escapes_are_shown_and_not_sent() -> None:
    assert plain("\x1b[31m\x9b\x07 a\tb\nc") == r"\x1b[31m\x9b\x07" + " a\tb\nc"
    assert one_line("a\tb\nc\r") == r"a\tb\nc\r"
    assert plain("\u202eabc\ud800") == r"\u202eabc\ud800"
    assert plain("Größe 日本 é ±–") == "Größe 日本 é ±–"
    assert str(UsageError("no \x1b[2J here")) == r"no \x1b[2J here"


@given(st.text() | st.sampled_from(ODD))
def test_a_cell_of_a_csv_file_is_no_formula_and_reads_back(text: str) -> None:
    cell = to_csv(text)
    assert not cell.lstrip(" ").startswith(("=", "+", "-", "@"))
    assert from_csv(cell) == plain(text) or not cell.startswith("'")
    assert (from_csv(cell) if cell.startswith("'") else cell) == plain(text)


@given(st.text() | st.sampled_from(ODD))
def test_a_cell_of_markdown_is_one_cell(text: str) -> None:
    shown = markdown(text)
    assert "|" not in shown
    assert len(shown.splitlines()) <= 1
    assert "<script" not in shown
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in shown)


def test_texts_survive_csv_and_parquet() -> None:
    frame = pd.DataFrame({"target": ODD, "method": "007", "accuracy": [50.0 + i for i in range(len(ODD))]})
    content = table_files.csv(frame)
    cells = [row["target"] for row in csv.DictReader(io.StringIO(content.decode(), newline=""))]
    assert [from_csv(cell) for cell in cells] == [plain(text) for text in ODD]
    table = arrow_parquet.read_table(io.BytesIO(table_files.parquet(content)))
    assert table["target"].to_pylist() == [plain(text) or None for text in ODD]
    assert table.schema.field("method").type == pa.string()
    assert table.schema.field("accuracy").type == pa.int64()


@pytest.mark.parametrize(
    ("seeds", "kind"),
    [([0, 2**63 - 1], pa.int64()), ([0, 2**63], pa.uint64()), ([1, 2**64], pa.string())],
)
def test_seeds_stay_whole(seeds: list[int], kind: pa.DataType) -> None:
    content = table_files.csv(pd.DataFrame({"seed": seeds, "method": "erm"}))
    assert {row["seed"] for row in csv.DictReader(io.StringIO(content.decode()))} == set(map(str, seeds))
    table = arrow_parquet.read_table(io.BytesIO(table_files.parquet(content)))
    assert table.schema.field("seed").type == kind
    assert {int(seed) for seed in table["seed"].to_pylist()} == set(seeds)


def test_a_damaged_parquet_file_is_not_the_same() -> None:
    good = table_files.parquet(table_files.csv(accuracy_rows([record("erm", 0), record("augmix", 1)])))
    assert table_files.same_parquet(good, good)
    for start in range(0, len(good), 97):
        bad = good[:start] + bytes(60) + good[start + 60 :]
        if bad != good and start > len(good) - 200:  # the footer, which says what all else is
            assert not table_files.same_parquet(bad, good)
    for bad in (b"", good[:-1], good[:100], good + b"x", good[:-100] + bytes(92) + good[-8:]):
        assert not table_files.same_parquet(bad, good)


def test_headings_stay_apart_when_they_are_shown() -> None:
    cells = {"\x1bx": Cell("a"), r"\x1bx": Cell("b"), "runs": Cell("c"), "method": Cell("d")}
    shown = Summary("h", [Line("row", cells, ("0" * 12,))], [], "g")
    assert len(set(shown.headings.values())) == 4
    (row,) = shown.cells.to_dict("records")
    assert list(row.values()) == ["row", "a", "b", "c", "d", "0" * 12]


def test_tables_hold_odd_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = {name: 50.0 + i for i, name in enumerate(ODD) if name}
    broken = failed("augmix", 1).model_copy(update={"error": "ValueError: \x1b[2J | <script>"})
    made = [scored(record("erm", 0), values), scored(record("augmix", 0), values), broken]
    store = fill(tmp_path, made)
    made = store.read_all()
    for name, content in render(made, store.maps(made)).items():
        assert b"\x1b" not in content or name.endswith(".parquet"), name
    text = table_files.markdown("accuracy", summarise(made, {})["accuracy"])
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1
    assert "<script" not in text
    assert tables.main(["--out", str(tmp_path), "--trace", "accuracy:erm"]) == 0
    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert r"\x1b[31mred" in told
    assert tables.main(["--out", str(tmp_path), "--trace", "\x1b[2J"]) == 2
    assert "\x1b" not in capsys.readouterr().err
