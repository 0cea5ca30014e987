"""Names that people choose (domains, methods, fields of plugins) never replace a table's own."""

import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from benchmark import registry
from benchmark.core.errors import UsageError
from benchmark.core.record import Record
from benchmark.report import table_files, terminal
from benchmark.report.people.accuracy_table import lines, notes
from benchmark.report.people.summaries import summarise
from benchmark.report.tidy.comparisons import difference_rows
from benchmark.report.tidy.groups import by_row
from benchmark.report.tidy.overlap import operations
from benchmark.report.tidy.rows import accuracy_rows
from benchmark.report.tidy.targets import HEADINGS, column, measures
from benchmark.runs.job import Job
from tests.handmade import record, scored

VALUES = {"mean": 90.0, "worst": 40.0, "n": 80.0, "method": 70.0, "runs": 60.0, "source val": 50.0}
"""Accuracies by names of domains; their mean is 65, and the worst 40."""


def cells(made: list[Record]) -> list[dict[str, str]]:
    """The lines of the one Markdown table of accuracies, by heading; no heading stands twice."""
    text = table_files.markdown("accuracy", summarise(made, {})["accuracy"])
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    assert len(set(rows[0])) == len(rows[0])
    assert {len(row) for row in rows} == {len(rows[0])}
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


def test_domains_called_like_columns_have_columns_of_their_own() -> None:
    made = [scored(record("erm", 0), VALUES | {"paper": 95.0, "same": 10.0}, ("same", "paper"))]
    (erm,) = cells(made)
    assert (erm["mean"], erm["worst"], erm["n (seeds)"], erm["method"], erm["source val"]) == (
        "65.0", "40.0", "1", "erm", "95.0",
    )  # fmt: skip
    assert erm["runs"] == made[0].run_id
    named = {name: erm["n" if name == "n" else f"{name} (domain)"] for name in VALUES}
    assert named == {name: f"{value:.1f}" for name, value in VALUES.items()}
    assert (erm["paper (domain) (in-domain)"], erm["same (in-domain)"]) == ("95.0", "10.0")
    assert set(accuracy_rows(made)["target"]) == {*VALUES, "paper", "same"}  # as they are called


def test_domains_called_like_measures_are_compared_beside_them() -> None:
    made = [scored(record("erm", s), {"mean": 10.0 + s, "b": 30.0}) for s in range(2)]
    made += [scored(record("augmix", s), {"mean": 50.0 + 2 * s, "b": 30.0}) for s in range(2)]
    rows = difference_rows(made)
    rows = rows[rows["versus"] == "erm"]
    found = dict(zip(rows["target"], rows["difference"], strict=True))
    assert found == pytest.approx({"mean": 20.25, "worst": 19.5, "mean (domain)": 40.5, "b": 0.0})


ODD = [*sorted(HEADINGS), "n", "n (seeds)", "a", "mean (domain)", "a (in-domain)"]


@given(st.lists(st.sampled_from(ODD), max_size=9, min_size=1, unique=True))
@settings(max_examples=40, deadline=None)
def test_any_names_together_leave_every_number_in_its_place(names: list[str]) -> None:
    values = {name: 30.0 + 5 * i for i, name in enumerate(names)}
    made = scored(record("erm", 0), values)
    assert len({column(name) for name in names}) == len(names)
    found = measures(made)
    assert found["mean"] == pytest.approx(sum(values.values()) / len(values))
    assert found["worst"] == min(values.values())
    (erm,) = cells([made])
    assert erm["mean"] == f"{found['mean']:.1f}"
    assert sorted(float(erm[column(name)]) for name in names) == sorted(values.values())


def test_every_heading_of_the_accuracy_table_is_known_to_be_taken() -> None:
    made = scored(record("augmix", 0, settings={"ops": "all"}), {"fog/1": 50.0, "contrast/1": 60.0})
    gud = record("gud", 0, dataset="digits", source="mnist", network="digits_convnet")
    printed = scored(gud, dict.fromkeys(("svhn", "mnist_m", "syn", "usps"), 55.0))
    for one, domains in ((made, {"fog", "contrast"}), (printed, {"svhn", "mnist_m", "syn", "usps"})):
        (line,) = lines(by_row([one]))
        assert line.cells.keys() - domains - {"n"} <= HEADINGS


def test_rows_may_be_called_like_headings_on_a_terminal_too() -> None:
    values = {f"d{i}": 50.0 + i for i in range(12)} | {"[red]": 1.0}
    made = [scored(record(name, 0), values) for name in ("accuracy", "erm")]
    jobs = [Job(asked=one.asked, command="", session="", out=Path(), data_dir=None, keep=True) for one in made]
    out = io.StringIO()
    assert terminal.show_results(jobs, made, Path("index.html"), Console(file=out, width=120)) == 0
    assert "[red]" in out.getvalue()
    assert out.getvalue().count("accuracy") >= 2


def test_only_severities_make_a_corruption() -> None:
    values = {"contrast": 90.0, "fog": 50.0}
    rows = by_row([scored(record("augmix", 0, settings={"ops": "all"}), values)])
    assert "overlap-free mean" not in lines(rows)[0].cells  # somebody's own domain, called contrast
    assert not any("trains with" in note for note in notes(rows))


def test_what_a_method_trains_with_is_its_own_word() -> None:
    odd = record("mine", 0, settings={"ops": "fast", "all_ops": 3, "base": "x"})  # fields of a plugin
    assert operations(odd) == ()
    assert operations(odd.model_copy(update={"operations": ("contrast",)})) == ("contrast",)
    assert operations(record("augmix", 0, settings={"ops": ["gone"]})) == ()  # of another version
    for name in registry.names("method"):
        assert isinstance(registry.make("method", name, {}).operations(), tuple)


@pytest.mark.parametrize("name", ["a[b=1]", "a:b", "a,b", "a b"])
def test_a_method_is_not_called_like_a_row_or_a_setting(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.py"
    path.write_text("from benchmark import method\n@method.frozen()\nclass Method(method.Method): ...\n")
    registry.load_plugins([path])
    try:
        with pytest.raises(UsageError, match="is not a name for a method"):
            registry.names("method")
    finally:
        registry.load_plugins([])


def test_a_mean_without_a_shifted_target_says_so() -> None:
    inside = by_row([scored(record("erm", 0), {"a": 50.0, "b": 60.0}, ("a", "b"))])
    assert lines(inside)[0].cells["mean"].text == "55.0"
    assert any("no target but the source's own domains" in note for note in notes(inside))
    missing = by_row([scored(record("erm", 0), {"a": 50.0, "b": None}, ("a",))])
    assert lines(missing)[0].cells["mean"].text == "data missing"  # and not the source's own 50
    assert not any("no target but" in note for note in notes(missing))
