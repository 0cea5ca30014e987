"""The time left of a plan, with a clock that a test moves."""

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from benchmark.report import run_log, terminal
from benchmark.runs.job import Job
from tests import toy
from tests.handmade import record
from tests.making import Clock


def job(seed: int) -> Any:
    return SimpleNamespace(asked=toy.asked("erm", seed))


def display(clock: Clock, costs: list[float]) -> tuple[terminal.Display, list[Any]]:
    jobs = [job(seed) for seed in range(len(costs))]
    by_id = {each.asked.run_id: cost for each, cost in zip(jobs, costs, strict=True)}
    return terminal.Display(by_id, Console(file=io.StringIO(), width=120), clock), jobs


def test_the_time_left_is_what_the_runs_are_said_to_take() -> None:
    shown, _ = display(Clock(), [100.0, 50.0])
    assert shown.left() == pytest.approx(150)


def test_the_time_left_follows_what_was_seen() -> None:
    clock = Clock()
    shown, (first, _) = display(clock, [100.0, 100.0])
    with shown:
        shown.started(first)
        clock.now = 300.0
        shown.ended(first, record("erm", 0))
        assert shown.slower() == pytest.approx(310 / 110)  # three times as slow, and a twentieth of the plan is belief
        assert shown.left() == pytest.approx(100 * 310 / 110)


def test_a_run_that_another_process_left_is_all_to_do() -> None:
    """It had ended for this command when that process had it."""
    clock = Clock()
    shown, (first, _) = display(clock, [100.0, 100.0])
    with shown:
        shown.started(first)
        shown.ended(first, None)
        assert shown.left() == pytest.approx(100)
        shown.started(first)
        assert shown.left() == pytest.approx(200)
        assert not shown.spent


def test_runs_at_a_time_divide_it() -> None:
    clock = Clock()
    shown, jobs = display(clock, [100.0, 100.0])
    with shown:
        for each in jobs:
            shown.started(each)
            shown.progressed(each, "setting up", 0.0)
        clock.now = 50.0
        for each in jobs:
            shown.progressed(each, "training", 0.5 / 0.95)
        assert shown.slower() == pytest.approx(1)
        assert shown.left() == pytest.approx(50)


def test_what_an_earlier_call_did_makes_a_run_no_faster() -> None:
    clock = Clock()
    shown, (first, other) = display(clock, [100.0, 100.0])
    with shown:
        shown.started(first)
        shown.progressed(first, "training", 0.5 / 0.95)  # taken up
        assert shown.slower() == pytest.approx(1)
        clock.now = 50.0
        shown.progressed(first, "training", 0.75 / 0.95)  # a quarter of it in 50 seconds, not in 25
        assert shown.slower() == pytest.approx((10 + 50) / (10 + 25))
        clock.now = 95.0
        shown.ended(first, record("erm", 0))
        whole = 95 / (1 - 0.5 / 0.95)
        assert shown.slower() == pytest.approx((10 + whole) / (10 + 100))
        shown.started(other)
        shown.progressed(other, "mapping sensitivity", 1.0)  # taken up with all steps done
        shown.ended(other, record("erm", 1))
        assert shown.slower() == pytest.approx((10 + whole) / (10 + 100))


def test_the_line_of_a_run_says_that_the_machine_was_loaded() -> None:
    made = record("erm", 0)
    about = made.ran.machine | {"cores": 2, "load_mean": 6.0}
    busy = made.model_copy(update={"ran": made.ran.model_copy(update={"machine": about})})
    assert (
        run_log.outcome(busy) == f"{run_log.outcome(made)}; the machine was loaded: 6.0 runnable processes on 2 cores"
    )


def test_an_older_record_of_a_run_that_another_process_does_is_not_taken_for_done() -> None:
    made, out = record("erm", 0), io.StringIO()
    job = Job(asked=made.asked, command="", session="", out=Path(), data_dir=None)
    assert job.outdated(made)
    assert terminal.show_results([job], [made], Path("index.html"), Console(file=out, width=120)) == 1
    assert "1 of 1 runs are left to the process that is running them" in out.getvalue()
    kept = replace(job, keep=True)
    assert terminal.show_results([kept], [made], Path("index.html"), Console(file=out, width=120)) == 0


def test_a_plan_says_how_many_minutes_are_to_be_done_in_all() -> None:
    jobs = [SimpleNamespace(asked=toy.asked("erm", seed), sharing=1) for seed in range(3)]
    out = io.StringIO()
    seconds = {each.asked.run_id: cost for each, cost in zip(jobs, (90.0, 5400.0), strict=False)}
    terminal.show_plan(jobs, seconds, Console(file=out, width=200))  # type: ignore[arg-type]
    assert "2 of 3 runs to do; roughly 91.5 minutes, one at a time on this machine" in out.getvalue()
    shown = [line.split()[-1] for line in out.getvalue().splitlines() if " steps " in line]
    assert shown == ["s", "s", "done"]


@pytest.mark.parametrize(("network", "minutes"), [("mini_convnet", "1.0"), ("timm:resnet18", "2.0")])
def test_runs_that_take_all_cores_alone_are_no_faster_side_by_side(
    network: str, minutes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "cores", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    jobs = [SimpleNamespace(asked=toy.asked("erm", seed, network=network), sharing=2) for seed in range(2)]
    out = io.StringIO()
    terminal.show_plan(jobs, {each.asked.run_id: 60.0 for each in jobs}, Console(file=out, width=200))  # type: ignore[arg-type]
    assert f"roughly {minutes} minutes, 2 at a time" in out.getvalue()
