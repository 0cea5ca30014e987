"""Runs of one name whose settings differ, because a default changed between them: a row for each."""

import io
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark import results
from benchmark.core.record import Record, Trial
from benchmark.report import page
from benchmark.report.all_tables import render
from benchmark.report.figures import all_figures, palette
from benchmark.report.people.summaries import summarise
from benchmark.report.people.verdict import verdict
from benchmark.report.tidy.campaigns import campaigns
from benchmark.report.tidy.comparisons import difference_rows
from benchmark.report.tidy.groups import by_group, told_apart
from benchmark.report.tidy.rows import throughput_rows
from tests.handmade import ended, error_map, fill, record, scored

ERM = [record("erm", seed, 50.0) for seed in (0, 1)]
OLD = [record("cutout", seed, 40.0, settings={"side": 8, "p": 0.5}) for seed in (0, 1)]
NEW = [record("cutout", seed, 60.0, settings={"side": 16, "p": 0.5}) for seed in (0, 1)]
NAMES = ["cutout[default side=8]"] * 2 + ["cutout[default side=16]"] * 2


def rows(*made: Record) -> list[str]:
    return [each.asked.row for each in told_apart(made)]


def cutout(**settings: Any) -> Record:
    return record("cutout", 0, settings=settings)


def test_each_default_has_a_row_of_its_own_in_every_table() -> None:
    files = render([*ERM, *OLD, *NEW], {run.run_id: error_map(run) for run in (*ERM, *OLD, *NEW)})
    means = {line.label: line.cells["mean"].text for line in summarise([*ERM, *OLD, *NEW], {})["accuracy"][0].lines}
    assert means == {"erm": "50.0 ± 0.0", NAMES[2]: "60.0 ± 0.0", NAMES[0]: "40.0 ± 0.0"}
    for name in ("accuracy", "differences", "throughput"):
        frame = pd.read_csv(io.BytesIO(files[f"{name}.csv"]), keep_default_na=False)
        assert set(frame["variant"]) - {""} == {"default side=8", "default side=16"}, name
        assert all(label.encode() in files[f"{name}.md"] for label in set(NAMES)), name


def test_the_page_the_figures_and_python_have_the_rows_of_the_tables(tmp_path: Path) -> None:
    store = fill(tmp_path, [*ERM, *OLD, *NEW])
    with palette.collecting(tmp_path / "figures"):
        drawn = all_figures.draw(store, store.read_all())
    assert all(any(label in picture.alt for picture in drawn) for label in set(NAMES))
    text = page.write(store, store.read_all()).read_text(encoding="utf-8")
    assert all(text.count(label) > 2 for label in set(NAMES))
    assert set(results(tmp_path).accuracy["variant"]) == {"", "default side=8", "default side=16"}


def test_a_name_says_what_differs_and_nothing_else() -> None:
    assert rows(*OLD, *NEW) == NAMES
    assert rows(*OLD) == ["cutout"] * 2
    assert rows(cutout(side=8), cutout(side=8, p=0.5)) == ["cutout[no p]", "cutout[default p=0.5]"]
    assert rows(cutout(), cutout(side=8)) == ["cutout[no side]", "cutout[default side=8]"]
    long = [cutout(ops=["shear_x", "shear_y", "rotate", end]) for end in ("one", "two")]
    one, two = rows(*long)
    assert one != two
    assert max(map(len, (one, two))) < 50


def test_a_variant_that_was_asked_for_stays_in_the_name() -> None:
    asked = [record("cutout", 0, settings={"side": side, "p": 1.0}, variant="p=1.0") for side in (8, 16)]
    assert rows(*asked) == ["cutout[p=1.0,default side=8]", "cutout[p=1.0,default side=16]"]


def test_comparisons_of_other_data_and_budgets_are_not_told_apart() -> None:
    other = record("cutout", 0, settings={"side": 16, "p": 0.5}, dataset="digits")
    longer = record("cutout", 0, settings={"side": 16, "p": 0.5}, steps=99)
    assert rows(*OLD, other, longer) == ["cutout"] * 4


def drawn(seed: int, number: int, minute: int, lr: float, source: str = "same") -> Record:
    made = record("cutout", seed, trial=Trial(number=number, of=3), lr=lr, source=source)
    return ended(made, f"2026-01-01T00:{minute:02}:00+00:00")


def test_what_a_search_chose_before_is_no_second_run_of_a_seed() -> None:
    """Of a trial that failed and was tried again, or that other code made: another one wins, and the runs are new."""
    earlier, later = [drawn(seed, 1, seed, 0.1) for seed in (0, 1)], [drawn(seed, 2, 9, 0.2) for seed in (0, 1)]
    (plain,) = set(rows(*later))
    assert rows(*later, *earlier) == [plain] * 2 + ["cutout[once chosen: trial 1]"] * 2
    lines = summarise([*ERM, *earlier, *later], {})["accuracy"]
    assert {line.label: line.cells["n"].text for table in lines for line in table.lines} == {
        "erm": "2", plain: "2", "cutout[once chosen: trial 1]": "2",
    }  # fmt: skip
    assert told_apart(once := told_apart([*earlier, *later])) == once
    other = drawn(0, 1, 0, 0.15)
    names = rows(*later, *earlier, other)
    assert len({*names}) == 3
    assert all(name.startswith("cutout[once chosen: trial 1 (") for name in names[2:])
    assert told_apart(once := told_apart([*earlier, *later, other])) == once
    assert rows(*later, drawn(0, 1, 0, 0.1, source="other")) == [plain] * 3  # each source has a search of its own


def test_what_a_search_chose_before_is_in_no_comparison_with_what_it_chose_last() -> None:
    """One seed of it would leave the answer undecided, and no seed could be added."""
    erm = [record("erm", s, 50.0 + s / 10, trial=Trial(number=0, of=3)) for s in range(5)]
    now = [scored(drawn(seed, 2, 9, 0.2), {"a": 60.0 + seed**2 / 10}) for seed in range(5)]
    erm = [scored(run, {"a": 50.0 + run.asked.seed / 10}) for run in erm]
    before = scored(drawn(0, 1, 0, 0.1), {"a": 90.0})
    found = told_apart([*erm, *now, before])
    newest, old = by_group(found).values()
    assert verdict(newest).answer.startswith("Use cutout: it is better than the other row.")
    assert verdict(old).answer.startswith("Only cutout[once chosen: trial 1] has an accuracy")
    assert set(difference_rows(found)["variant"]) == {""}
    table, other = summarise(found, {})["accuracy"]
    assert [line.label for line in table.lines if line.cells["mean"].bold] == ["cutout"]
    assert (len(table.lines), other.heading) == (2, f"{table.heading}; chosen before")


def test_what_one_search_chose_before_asks_nothing_of_other_sources() -> None:
    runs = [drawn(seed, 2, 9, 0.2, source) for seed in (0, 1) for source in ("art", "photo")]
    before = [drawn(seed, 1, seed, 0.1, "art") for seed in (0, 1)]
    assert campaigns(told_apart([*runs, *before]))[0].rows.keys() == {"cutout"}
    files = render([*runs, *before], {run.run_id: error_map(run) for run in [*runs, *before]})
    assert not any(b"not run" in content or b"cannot be made" in content for content in files.values())
    every = [*runs, *before, *(drawn(seed, 1, seed, 0.1, "photo") for seed in (0, 1))]
    both = render(every, {run.run_id: error_map(run) for run in every})
    assert not any(b"cannot be made" in content for content in both.values())
    assert b"| cutout[once chosen: trial 1]" in both["sources.md"]


def test_a_speed_beside_an_erm_that_a_search_chose_before_stays() -> None:
    def one(method: str, number: int, minute: int) -> Record:
        made = record(method, 0, trial=Trial(number=number, of=3), lr=number / 10)
        return ended(made, f"2026-01-01T00:{minute:02}")

    made = [one("erm", 1, 0), one("erm", 2, 5), one("augmix", 1, 1)]
    assert throughput_rows(told_apart(made)).set_index("method")["relative_to_erm"]["augmix"] == 1.0
    tables = summarise(made, {})["throughput"]
    (line,) = (line for table in tables for line in table.lines if line.label == "augmix")
    assert line.cells["relative to ERM"].text == "1.000"
    assert not any("augmix" in note for table in tables for note in table.footnotes)


def test_sources_of_one_campaign_have_the_names_of_all() -> None:
    """Else the mean over them would be of two methods."""
    art = record("cutout", 0, settings={"side": 8}, source="art", fingerprint="1" * 16)
    photo = record("cutout", 0, settings={"side": 16}, source="photo", fingerprint="2" * 16)
    assert rows(art, photo) == ["cutout[default side=8]", "cutout[default side=16]"]


def test_what_searches_chose_from_two_sources_is_one_row() -> None:
    chosen = {"art": 8, "photo": 16}
    made = [record("cutout", 0, trial=Trial(number=1, of=3), settings={"side": side}, source=source)
            for source, side in chosen.items()]  # fmt: skip
    assert rows(*made) == ["cutout"] * 2


def test_what_was_told_apart_stays_as_it_is() -> None:
    once = told_apart([*ERM, *OLD, *NEW])
    assert told_apart(once) == once
    assert [run.run_id for run in once] == [run.run_id for run in (*ERM, *OLD, *NEW)]
    assert told_apart([]) == []
