"""Searched runs in tables: what they share one with, and what was tried for them."""

import pytest

from benchmark.core.record import Record, Trial
from benchmark.report.people.summaries import summarise
from benchmark.report.tidy.comparisons import setting
from benchmark.report.tidy.groups import group_of
from benchmark.report.tidy.search_rows import search_rows
from benchmark.runs import search
from benchmark.runs.search import SEED
from tests.handmade import ended, record


def searched(method: str, number: int, of: int | None, lr: float, decay: float = 0.0, **changes: object) -> Record:
    seed = 0 if of else SEED
    return record(method, seed, lr=lr, weight_decay=decay, trial=Trial(number=number, of=of), **changes)  # type: ignore[arg-type]


def validated(made: Record, value: float) -> Record:
    assert made.accuracy is not None
    values = {**made.accuracy.source_val, "source-val": value}
    return made.model_copy(update={"accuracy": made.accuracy.model_copy(update={"source_val": values})})


def test_rows_share_a_table_whatever_was_drawn_for_them() -> None:
    erm, other = searched("erm", 0, 4, 1e-3), searched("augmix", 3, 4, 3e-3, 1e-5, settings={"lam": 2.0})
    assert (group_of(erm), setting(erm)) == (group_of(other), setting(other))
    assert other.asked.row == "augmix"
    (table,) = summarise([erm, other], {})["accuracy"]
    assert "adam, 8 steps of 16 images, selection source-val, each method's best of 4 settings" in table.heading


def test_a_search_is_not_counted_with_the_trials_of_another_recipe() -> None:
    trials = [searched("erm", number, None, lr) for lr in (0.1, 0.01) for number in range(3)]
    frame = search_rows([searched("erm", 1, 3, 0.01)], trials)
    assert frame["trial"].tolist() == [0, 1, 2]
    assert set(frame["trials"]) == {3}
    assert frame["chosen"].tolist() == [False, True, False]
    assert frame["lr"][1] == 0.01


def test_other_sizes_of_search_and_runs_without_one_stand_apart() -> None:
    found = [searched("erm", 0, 4, 1e-3), searched("erm", 0, 8, 1e-3), record("erm", 0, lr=1e-3)]
    found += [record("erm", 0, lr=2e-3), record("erm", 0, lr=1e-3, weight_decay=1e-4)]
    assert len({group_of(one) for one in found}) == len({setting(one) for one in found}) == 5
    headings = [table.heading for table in summarise(found, {})["accuracy"]]
    assert len(set(headings)) == 5
    assert sum("decay 0.0001" in heading for heading in headings) == 1


def test_every_trial_is_listed_and_the_chosen_one_named_with_what_it_all_cost() -> None:
    trials = [
        validated(searched("augmix", number, None, lr, settings={"lam": lam, "width": 3}), value)
        for number, lr, lam, value in ((0, 1e-3, 12.0, 91.0), (1, 2e-3, 3.0, 93.0), (2, 3e-3, 4.0, 99.0))
    ]
    run = searched("augmix", 1, 2, 2e-3, settings={"lam": 3.0, "width": 3})
    rows = search_rows([run], trials)
    assert [*zip(rows["trial"], rows["source_val"], rows["chosen"], rows["settings"], strict=True)] == [
        (0, 91.0, False, "lam=12.0"),
        (1, 93.0, True, "lam=3.0"),
    ]
    assert set(rows["group"]) == {group_of(run)}
    (table,) = summarise([run], {}, trials)["search"]
    assert table.footnotes == [
        "augmix: 2 trials took 5.0 s of training; 1 run with the chosen settings 2.5 s",
    ]
    assert [line.cells["chosen"].text for line in table.lines] == ["", "chosen"]


def test_trials_that_no_run_followed_are_listed_too() -> None:
    failed = searched("erm", 0, None, 1e-3).model_copy(
        update={"status": "diverged", "accuracy": None, "throughput": None}
    )
    (table,) = summarise([record("erm", 0)], {}, [failed])["search"]
    assert table.lines[0].cells["source validation"].text == "diverged"
    assert table.footnotes == ["erm: 1 trial took 3.0 s of training; none was chosen"]


@pytest.mark.parametrize(("rule", "value"), [("source-val", 95.0), ("last", 94.0)])
def test_a_trial_has_the_score_that_it_is_chosen_by(rule: str, value: float) -> None:
    trial = searched("erm", 0, None, 1e-3, selection=rule)
    assert search_rows([], [trial])["source_val"].tolist() == [value] == [search.score(trial)]
    (table,) = summarise([record("erm", 0)], {}, [trial])["search"]
    assert table.lines[0].cells["source validation"].text == f"{value:.1f}"


def test_of_a_trial_that_was_made_again_the_last_is_shown() -> None:
    trials = [searched("erm", 0, None, lr) for lr in (0.1, 0.01, 0.001)]
    for last in trials:
        shown = search_rows([], [ended(trial, f"2026-01-0{1 + (trial is last)}") for trial in trials])
        assert shown["lr"].tolist() == [last.asked.recipe.lr]
