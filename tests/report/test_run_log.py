"""The log of runs, with a clock that a test moves: a line every half minute, levels, and who hears of it."""

import io
import logging
import time
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from benchmark import run
from benchmark.report import run_log
from benchmark.report.people.summaries import summarise
from benchmark.runs import shared
from tests import toy
from tests.handmade import record
from tests.making import Clock
from tests.report.test_terminal import job


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, logger="benchmark")
    return caplog


def log_of(clock: Clock, jobs: list[Any]) -> run_log.RunLog:
    return run_log.RunLog(run_log.kinds_of(jobs), clock)


def test_a_line_every_half_minute_says_where_the_runs_are(lines: pytest.LogCaptureFixture) -> None:
    clock, jobs = Clock(), [job(seed) for seed in range(3)]
    log = log_of(clock, jobs)
    clock.now = 40.0
    log.tick()  # nothing goes on
    assert lines.messages == []
    log.started(jobs[0])
    log.tick()
    log.progressed(jobs[0], "setting up", 0.0)
    log.progressed(jobs[0], "training", 0.25)
    lines.clear()
    clock.now = 69.0
    log.tick()
    assert lines.messages == []
    clock.now = 80.0
    log.tick()
    log.tick()  # once only
    steps = jobs[0].asked.recipe.steps
    assert lines.messages == [
        f"0 of 3 done, 0:01:20 gone, about 0:07:20 left | {run_log.name(jobs[0])}: training, "
        f"step {round(steps / 4)} of {steps} (25 %)"
    ]  # 40 s for a quarter: 120 s more, and twice 160 s
    clock.now = 200.0
    log.ended(jobs[0], record("erm", 0))
    lines.clear()
    log.started(jobs[1])
    log.tick()
    assert "1 of 3 done, 0:03:20 gone, about 0:05:20 left | " in lines.messages[-1]  # 160 s each


def test_a_run_taken_up_near_its_end_tells_nothing_of_whole_ones() -> None:
    """Its loading, its map and its floor would count a hundred times."""
    clock, jobs = Clock(), [job(seed) for seed in range(3)]
    log = log_of(clock, jobs)
    log.started(jobs[0])
    log.progressed(jobs[0], "training", 0.99)
    clock.now = 20.0
    log.ended(jobs[0], record("erm", 0))
    assert log.rest() is None
    log.started(jobs[1])
    log.progressed(jobs[1], "training", 0.0)
    clock.now = 620.0
    log.ended(jobs[1], record("erm", 1))
    assert log.rest() == pytest.approx(600)


def test_what_an_earlier_call_did_makes_a_run_no_faster() -> None:
    clock, jobs = Clock(), [job(seed) for seed in range(2)]
    log = log_of(clock, jobs)
    log.started(jobs[0])
    clock.now = 10.0
    log.progressed(jobs[0], "training", 0.5)  # taken up
    assert log.rest() is None
    clock.now = 40.0
    log.progressed(jobs[0], "training", 0.75)  # a quarter in 40 s
    assert log.rest() == pytest.approx(40 + 160)
    clock.now = 80.0
    log.ended(jobs[0], record("erm", 0))
    assert log.rest() == pytest.approx(160)
    log.started(jobs[1])
    log.progressed(jobs[1], "training", 0.25)
    clock.now = 81.0
    assert log.rest() == pytest.approx(0.75 * 160 - 1)


def test_no_time_is_guessed_where_nothing_alike_was_seen(lines: pytest.LogCaptureFixture) -> None:
    clock, (first, other) = Clock(), [job(seed) for seed in range(2)]
    log = run_log.RunLog({first.asked.run_id: "erm", other.asked.run_id: "sada"}, clock)
    log.started(first)
    log.progressed(first, "setting up", 0.0)
    clock.now = 31.0
    log.progressed(first, "training", 0.5)
    log.tick()
    assert "left" not in lines.messages[-1]
    assert log.rest() is None
    log.ended(first, record("erm", 0))
    assert log.rest() is None


def test_what_comes_after_the_last_step_is_not_guessed_either() -> None:
    clock, (first, again) = Clock(), [job(seed) for seed in range(2)]
    log = log_of(clock, [first, again])
    log.started(first)
    log.progressed(first, "setting up", 0.0)
    clock.now = 100.0
    log.progressed(first, "mapping sensitivity", 1.0)
    assert log.rest() is None
    clock.now = 300.0
    log.ended(first, record("erm", 0))
    log.started(again)
    log.progressed(again, "setting up", 0.0)
    clock.now = 400.0
    log.progressed(again, "mapping sensitivity", 1.0)
    assert log.rest() == pytest.approx(200)


def test_the_clock_is_looked_at_as_long_as_runs_go_on(
    lines: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_log, "LOOK", 0.001)
    clock, (first,) = Clock(), [job(0)]
    with log_of(clock, [first]) as log:
        log.started(first)
        lines.clear()
        clock.now = 1000.0
        for _ in range(1000):
            if lines.messages:
                break
            time.sleep(0.005)
    assert lines.messages[0].startswith("0 of 1 done, 0:16:40 gone")


def test_other_budgets_are_told_in_their_own_unit() -> None:
    one = job(0)
    timed = one.asked.model_copy(update={"budget": "time", "seconds": 20.0})
    one.asked = timed
    assert run_log.where(one, "training", 0.5) == "training, 10 of 20 s (50 %)"
    one.asked = timed.model_copy(update={"budget": "passes"})
    assert run_log.where(one, "training", 1.0).startswith("training, pass ")


@pytest.mark.parametrize(("level", "shown"), [(logging.ERROR, "e"), (logging.INFO, "iwe"), (logging.DEBUG, "diwe")])
def test_what_is_printed_depends_on_the_level_and_nothing_is_left_behind(level: int, shown: str) -> None:
    logger, root = logging.getLogger("benchmark.data.cache"), logging.getLogger()
    before = (run_log.LOGGER.level, run_log.LOGGER.handlers[:], root.handlers[:], root.level)
    out = io.StringIO()
    with run_log.shown(Console(file=out, width=20), level):
        for one in ("debug", "info", "warning", "error"):
            getattr(logger, one)(one[0])
    assert out.getvalue().split() == list(shown)
    assert (run_log.LOGGER.level, run_log.LOGGER.handlers[:], root.handlers[:], root.level) == before


def test_a_run_that_another_process_does_tells_nothing_of_the_time_left() -> None:
    jobs, clock = [job(seed) for seed in range(3)], Clock()
    log = run_log.RunLog(dict.fromkeys((each.asked.run_id for each in jobs), "erm"), clock)
    log.started(jobs[0])
    log.ended(jobs[0], None)
    log.started(jobs[1])
    clock.now = 100.0
    log.ended(jobs[1], record("erm", 1))
    log.started(jobs[2])
    assert log.rest() == 100.0


@pytest.mark.usefixtures("without_pictures")
def test_quiet_and_verbose(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--methods", "erm", "--steps", "2", "--evaluations", "1", "--sensitivity-images", "0", "--device", "cpu"]
    words += ["--out", str(tmp_path)]
    words += ["--seeds", "1", "2"]
    shared._load.cache_clear()  # an earlier test may have loaded the data already
    assert run.main([*words, "-v"]) == 0
    shown = capsys.readouterr()
    assert "minidigits/uci erm seed 1: run " in shown.out
    assert "loaded minidigits, source uci" in shown.out
    assert run.main([*words, "-q"]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("everything on one page: ")
    assert (shown.out.count("\n"), shown.err) == (1, "")
    assert run.main([*words, "-q", "-v"]) == 2
    assert "give one of them" in capsys.readouterr().err


def test_runs_at_a_time_divide_the_time_left() -> None:
    """Two of four runs are half way after 100 s: 100 s more of each, and 200 s for each of the others."""
    clock, jobs = Clock(), [job(seed) for seed in range(4)]
    log = log_of(clock, jobs)
    for each in jobs[:2]:
        log.started(each)
        log.progressed(each, "setting up", 0.0)
        log.progressed(each, "training", 0.5)
    clock.now = 100.0
    assert log.rest() == pytest.approx((2 * 100 + 2 * 200) / 2)


def test_only_seeds_of_one_row_from_one_source_take_as_long() -> None:
    def kind(**changes: Any) -> str:
        (found,) = run_log.kinds_of([SimpleNamespace(asked=toy.asked(**changes))]).values()  # type: ignore[list-item]
        return found

    others = [kind(method="sada"), kind(variant="k=3"), kind(source="other"), kind(dataset="digits")]
    assert len({kind(), *others}) == 5
    assert kind(seed=1) == kind()


@pytest.mark.parametrize(("rule", "shifted"), [("source-val", 50.0), ("last", 49.0)])
def test_the_line_of_a_run_has_the_numbers_of_its_table(rule: str, shifted: float) -> None:
    made = record("erm", 0, 50.0, selection=rule)
    assert run_log.outcome(made).startswith(f"shifted {shifted}, same 90.0 %; ")
    (table,) = summarise([made], {})["accuracy"]
    assert table.lines[0].cells["shifted"].text == f"{shifted}"
