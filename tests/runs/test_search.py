"""The search: what is drawn, what is chosen, and whole searches from the command to the tables."""

import shlex
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmark import comparison, registry, tables
from benchmark.core.errors import UsageError
from benchmark.core.locks import held
from benchmark.core.ranges import Choice, Range
from benchmark.core.record import Asked, Record, Trial
from benchmark.report.provenance import trace
from benchmark.report.run_log import RunLog
from benchmark.runs import search
from benchmark.runs.args import PATHS, Args
from benchmark.runs.command_line import arguments
from benchmark.runs.engines import local
from benchmark.runs.job import Job
from benchmark.runs.plan import plan
from benchmark.runs.store import Store
from tests.commands.test_sizes import folder
from tests.conftest import ROOT
from tests.faults.harness import call, plugin, words
from tests.handmade import fill, record

USUAL = Args(methods=("erm", "augmix"), seeds=(0, 1), steps=5, device="cpu")


def asked(method: str, **changes: object) -> Asked:
    (job,) = plan(replace(USUAL, methods=(method,), seeds=(0,), **changes))  # type: ignore[arg-type]
    return job.asked


def own(trial: Asked, *names: str) -> list[object]:
    return [trial.settings[name] for name in names]


def test_a_draw_stays_in_its_range_and_reaches_both_ends() -> None:
    top = 1 - 2**-53
    for found in (Range(0.1, 10.0, log=True), Range(1.0, 3.0), Range(2, 5), Range(1, 16, log=True)):
        assert (found.at(0.0), found.at(top)) == (found.low, found.high)
        assert all(found.at(i / 99) in found for i in range(99))
    assert {Range(2, 5).at(i / 8) for i in range(8)} == {2, 3, 4, 5}
    assert Range(0.1, 10.0, log=True).at(0.5) == 1.0
    assert [Choice((5, 10)).at(u) for u in (0.0, 0.49, 0.5, top)] == [5, 5, 10, 10]
    for wrong in (
        lambda: Range(2, 2),
        lambda: Range(0, 1, log=True),
        lambda: Range(0, float("inf")),
        lambda: Choice([1]),
    ):
        with pytest.raises(ValueError, match=r"range|choice"):
            wrong()


def test_trial_0_is_what_was_asked_for_and_a_longer_search_begins_with_a_shorter_one() -> None:
    row = asked("augmix")
    drawn = search.trials(row, 6)
    plain = drawn[0].model_copy(update={"seed": row.seed, "trial": None})
    assert plain.model_copy(update={"recipe": row.recipe}) == row
    assert drawn[0].recipe == row.recipe.model_copy(update={"sensitivity_images": 0})
    assert search.trials(row, 3) == drawn[:3]
    assert len({trial.run_id for trial in drawn}) == 6
    assert {trial.seed for trial in drawn} == {search.SEED}
    ranges = registry.find("method", "augmix").searched
    for trial in drawn[1:]:
        assert all(trial.settings[name] in found for name, found in ranges.items())
        assert row.recipe.lr / 10**0.5 <= trial.recipe.lr <= row.recipe.lr * 10**0.5
        assert trial.recipe.weight_decay in search.DECAYS


def test_the_draws_are_the_same_on_every_machine() -> None:
    _, trial = search.trials(asked("augmix"), 2)
    assert [trial.recipe.lr, trial.recipe.weight_decay, *own(trial, "severity", "lam")] == [
        0.000378,
        0.000128,
        9.77,
        5.48,
    ]


def test_all_methods_are_given_the_same_learning_rates_and_decays() -> None:
    rates = [
        [(trial.recipe.lr, trial.recipe.weight_decay) for trial in search.trials(asked(method), 5)]
        for method in ("erm", "augmix", "randconv", "sada")
    ]
    assert all(other == rates[0] for other in rates)
    assert len(set(rates[0])) == 5


def test_what_a_row_asks_for_is_kept_and_names_the_row() -> None:
    drawn = search.trials(asked("augmix:severity=1"), 4)
    assert {trial.settings["severity"] for trial in drawn} == {1.0}
    assert len({trial.settings["lam"] for trial in drawn}) == 4
    assert {trial.variant for trial in drawn} == {"severity=1.0"}
    assert drawn[2].row == "augmix[severity=1.0], trial 2"


def test_a_declaration_that_is_none_is_named(tmp_path: Path) -> None:
    path = plugin(tmp_path, "wide")
    path.write_text(path.read_text().replace("    def loss", "    searched = {'lam': (1, 2)}\n\n    def loss"))
    registry.load_plugins([path])
    with pytest.raises(UsageError, match=r"wide\.py: searched\['lam'\] is \(1, 2\); write"):
        search.trials(asked("wide"), 2)


def scored(value: float | None, number: int = 0, target: float = 50.0) -> Record:
    made = record("erm", search.SEED, target, trial=Trial(number=number, of=None))
    if value is None or made.accuracy is None:
        return made.model_copy(update={"status": "diverged", "accuracy": None})
    found = {**made.accuracy.source_val, "source-val": value}
    return made.model_copy(update={"accuracy": made.accuracy.model_copy(update={"source_val": found})})


@pytest.mark.parametrize(
    ("values", "chosen"),
    [([90.0, 92.0, 91.0], 1), ([90.0, 92.0, 92.0], 1), ([None, 10.0, None], 1), ([None, None], None)],
)
def test_the_best_on_source_validation_is_chosen_whatever_the_targets_say(
    values: Sequence[float | None], chosen: int | None
) -> None:
    for targets in ([50.0, 50.0, 50.0], [90.0, 1.0, 90.0], [1.0, 90.0, 1.0]):
        records = [scored(value, target=target) for value, target in zip(values, targets, strict=False)]
        assert search.choose([search.score(each) for each in records]) == chosen


def test_the_score_is_by_the_rule_that_was_asked_for() -> None:
    assert search.score(record("erm", 0, selection="last")) == 94


def test_the_choice_reads_nothing_of_a_record_but_its_status_and_source_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runs planned from two stores that differ in every target accuracy alone are the same."""
    monkeypatch.setattr(Job, "outdated", lambda *_: "")
    args = replace(USUAL, methods=("augmix",), search=3, out=tmp_path)
    rows = search.rows(plan(args), args)
    planned = []
    for name, targets in (("one", (10.0, 20.0, 30.0)), ("two", (30.0, 20.0, 10.0))):
        made = []
        for job, value, target in zip(rows[0].trials, (90.0, 95.0, 91.0), targets, strict=True):
            body = scored(value, target=target)
            made.append(body.model_copy(update={"asked": job.asked, "run_id": job.asked.run_id, "sensitivity": None}))
        jobs, problems = search.settled(rows, fill(tmp_path / name, made), args)
        assert problems == []
        planned.append([job.asked for job in jobs])
    assert planned[0] == planned[1]
    assert [(each.seed, str(each.trial), each.row) for each in planned[0]] == [
        (0, "1/3", "augmix"),
        (1, "1/3", "augmix"),
    ]
    assert planned[0][0].settings == rows[0].trials[1].asked.settings
    assert planned[0][0].recipe.sensitivity_images == 100


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_nothing_is_chosen_while_another_process_runs_a_trial(
    missing: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Job, "outdated", lambda *_: "")
    args = replace(USUAL, methods=("augmix",), search=3, out=tmp_path)
    rows = search.rows(plan(args), args)
    made = [
        scored(90.0 + number).model_copy(update={"asked": job.asked, "run_id": job.asked.run_id, "sensitivity": None})
        for number, job in enumerate(rows[0].trials)
        if number != missing
    ]
    jobs, problems = search.settled(rows, fill(tmp_path / "search", made), args)
    assert jobs == []
    why = "another process runs a trial of it; afterwards the same command goes on"
    assert problems == [f"{rows[0].name}: {why}"]


@pytest.mark.parametrize(
    ("status", "outdated", "stale", "busy", "chosen"),
    [
        ("done", "other code", "rerun", False, None),  # left to the process that is running it again
        ("done", "other code", "keep", False, 0),
        ("done", "", "rerun", True, 0),  # another process looks whether there is something to do
        ("failed", "", "rerun", True, None),
        ("failed", "", "rerun", False, 1),
        ("diverged", "", "rerun", True, 1),
    ],
)
def test_nothing_is_chosen_while_another_process_runs_a_trial_again(
    status: str, outdated: str, stale: Any, busy: bool, chosen: int | None,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Trial 0 has an earlier record, the best if it ended well."""
    args = replace(USUAL, methods=("augmix",), search=2, out=tmp_path, stale=stale, seeds=(0,))
    rows = search.rows(plan(args), args)
    first, second = rows[0].trials
    monkeypatch.setattr(Job, "outdated", lambda job, _: outdated if job is first else "")
    made = [
        scored(value if state == "done" else None).model_copy(
            update={"asked": job.asked, "run_id": job.asked.run_id, "sensitivity": None, "status": state}
        )
        for job, value, state in ((first, 99.0, status), (second, 90.0, "done"))
    ]
    store = fill(tmp_path / "search", made)
    with held(store.runs / f".lock-{first.asked.run_id}") if busy else nullcontext():
        jobs, problems = search.settled(rows, store, args)
    if chosen is None:
        assert jobs == []
        assert "another process runs a trial of it" in problems[0]
    else:
        assert problems == []
        assert [str(job.asked.trial) for job in jobs] == [f"{chosen}/2"]


def test_only_the_run_with_the_chosen_settings_keeps_its_network() -> None:
    args = replace(USUAL, methods=("erm",), search=2, save_weights=True)
    (row,) = search.rows(plan(args), args)
    assert [job.save_weights for job in row.trials] == [False, False]
    assert [search.with_settings_of(row.trials[1], job, args).save_weights for job in row.runs] == [True, True]


@pytest.mark.parametrize(
    ("status", "outdated", "left"), [("diverged", "", 1), ("diverged", "other code", 2), ("failed", "", 2)]
)
def test_a_trial_that_diverged_is_not_run_again_until_its_code_changes(
    status: str, outdated: str, left: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Job, "outdated", lambda *_: outdated)
    args = replace(USUAL, methods=("erm",), search=2, out=tmp_path)
    rows = search.rows(plan(args), args)
    first = rows[0].trials[0].asked
    changes = {"asked": first, "run_id": first.run_id, "status": status, "sensitivity": None}
    store = fill(tmp_path / "search", [scored(None).model_copy(update=changes)])
    assert len(search.untried(rows, store, "rerun")) == left
    args = replace(args, stale="keep")
    assert len(search.untried(search.rows(plan(args), args), store, "keep")) == (1 if status == "diverged" else 2)


def again(job: Job) -> Job:
    """The one job of the command that a job's record will hold."""
    (found,) = plan(arguments(Args, shlex.split(job.command)[3:], "run", paths=PATHS))
    return found


def test_the_command_of_a_trial_and_of_a_run_with_its_settings_repeat_them_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "own images", 32, 32)
    args = Args(
        methods=("erm", "randconv:lam=2.5"), datasets=("folder",), data_dir=Path("own images"), device="cpu",
        sources=("ink",), seeds=(7,), steps=5, batch_size=24, search=2,
        set=("folder.val_share=0.25", "randconv.bias=true"),
    )  # fmt: skip
    for row in search.rows(plan(args), args):
        for trial in row.trials:
            for job in (trial, search.with_settings_of(trial, row.runs[0], args)):
                assert again(job).asked == job.asked
                assert "--search" not in job.command


def test_runs_that_no_search_chose_keep_their_ids(tmp_path: Path) -> None:
    row = asked("erm")
    assert "trial" not in row.model_dump(mode="json")
    searched = row.model_copy(update={"trial": Trial(number=0, of=2)})
    assert Asked.model_validate_json(searched.model_dump_json()) == searched
    assert searched.run_id != row.run_id


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"search": 1}, "--search 1: must be 2"),
        ({"search": -3}, "--search -3: must be 2"),
        ({"search": 4, "protocol": "strict"}, "strict is each method as its authors ran it"),
        ({"search": 4, "engine": "ray"}, "--engine local"),
        ({"search": 4, "lr": 0.1}, "--search and --lr"),
        ({"search": 4, "weight_decay": 0.0}, "--search and --weight-decay"),
        ({"search": 4, "trial": "1/4"}, "--search and --trial"),
        ({"lr": 0.0}, "--lr 0: must be more than 0"),
        ({"lr": float("nan")}, "--lr nan"),
        ({"weight_decay": -1.0}, "--weight-decay -1: must be 0 or more"),
        ({"trial": "4/4"}, "--trial 4/4: write K or K/N, K below N"),
        ({"trial": "best"}, "--trial best"),
    ],
)
def test_what_a_search_leaves_no_room_for_is_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError) as refused:
        plan(replace(USUAL, **changes))  # type: ignore[arg-type]
    assert says in str(refused.value)


def test_the_seed_of_the_trials_is_not_reported() -> None:
    args = replace(USUAL, seeds=(0, search.SEED), search=2)
    with pytest.raises(UsageError, match=f"--seeds {search.SEED}: the search tries"):
        search.rows(plan(args), args)


def test_a_search_from_the_command_to_the_tables(tmp_path: Path) -> None:
    out = tmp_path / "out"
    usual = ["--steps", "4", "--seeds", "0", "--search", "3"]
    line = words(tmp_path, out, "--methods", "erm", "randconv", *usual)
    dry = call(words(tmp_path, out, "--methods", "erm", "--dry-run", *usual))
    assert dry.code == 0
    assert "3 of 3 runs to do" in dry.out
    assert dry.out.count("not yet") == 1
    assert not out.exists()
    ended = call(line)
    assert ended.code == 0, ended.err
    assert "search: 6 of 6 trials to do" in ended.out
    assert "best of 3 settings on source validation" in ended.out
    trials, runs = Store(out).trials(), Store(out).read_all()
    assert (len(trials), len(runs)) == (6, 2)
    assert all(trial.sensitivity is None and trial.weights is None for trial in trials)
    found = pd.read_csv(out / "tables" / "search.csv", keep_default_na=False)
    assert list(found["trial"]) == [0, 1, 2, 0, 1, 2]
    for run in runs:
        tried = [entry for entry in found.to_dict("records") if entry["method"] == run.asked.method]
        best = max(tried, key=lambda entry: entry["source_val"])  # of equal ones the first
        assert [entry["chosen"] for entry in tried] == [entry is best for entry in tried]
        assert (run.asked.recipe.lr, str(run.asked.trial)) == (best["lr"], f"{best['trial']}/3")
    assert set(pd.read_csv(out / "tables" / "accuracy.csv")["run_id"]) == {run.run_id for run in runs}
    page = (out / "index.html").read_text()
    assert "3 trials took" in page
    assert all(trial.run_id not in page.partition('id="environment"')[2] for trial in trials)
    assert tables.check(Store(out)) == []
    assert [trace(Store(out), "search:randconv").count(trial.run_id) for trial in trials] == [
        (7 + 1) * (trial.asked.method == "randconv")
        for trial in trials  # beside its cells, and once beside its command
    ]
    back = trace(Store(out), found["run_id"][4])
    assert back.partition("it appears in:\n")[2].startswith("  search.csv: lines 6\n  search.md: toyset")
    assert "randconv: trial 1; source validation" in back

    once_more = call(line)
    assert "search: 0 of 6 trials to do" in once_more.out
    assert "2 of 2 runs are done already" in once_more.out
    wider = call([*line[:-1], "4"])
    assert "search: 2 of 8 trials to do" in wider.out
    assert (out / "tables" / "accuracy.md").read_text().count("best of 4 settings") == 1


def test_a_row_whose_trials_all_fail_is_left_out_and_said_to_be(tmp_path: Path) -> None:
    raising = plugin(tmp_path, "raising", "raise RuntimeError('broken on purpose')")
    more = ["--methods", "erm", "raising", "--steps", "4", "--seeds", "0", "--search", "2"]
    line = words(tmp_path, tmp_path / "out", *more, plugins=[raising])
    ended = call(line)
    assert ended.code == 1
    assert "toyset/same raising: none of its 2 trials ended well, so it is not run. RuntimeError: broken" in ended.out
    assert [run.asked.method for run in Store(tmp_path / "out").read_all()] == ["erm"]
    assert "raising: 2 trials took" in (tmp_path / "out" / "tables" / "search.md").read_text()


def test_the_documented_ranges_are_those_that_the_methods_declare() -> None:
    page = (ROOT / "docs" / "search.md").read_text(encoding="utf-8")
    written = {tuple(cell.strip() for cell in line.split("|")[1:4]) for line in page.splitlines() if line[:2] == "| "}
    names = [name for name in registry.names("method") if not registry.find("method", name).experimental]
    declared = {
        (name, f"`{field}`", str(found))
        for name in names
        for field, found in registry.find("method", name).searched.items()
    }
    assert {line for line in written if line[0] not in ("method", "all")} == declared
    assert ("all", "weight decay", str(search.DECAYS)) in written


def test_trials_keep_to_the_time_that_a_run_may_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float | None] = []
    monkeypatch.setattr(local, "run_jobs", lambda todo, sharing, listener, timeout: given.append(timeout))
    args = replace(USUAL, out=tmp_path, timeout=9.0)
    todo = plan(args)
    comparison.search(comparison.Comparison(args, Store(tmp_path), {}, todo, todo, untried=todo), RunLog({}))
    assert given == [9.0]
