"""What becomes of a run's record, and how many runs share the machine."""

import os
from collections import deque
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
import torch

from benchmark import registry, run
from benchmark.core.record import Status
from benchmark.runs import execute, perform, plan
from benchmark.runs.engines import local, spawn, workers
from benchmark.runs.job import Job
from benchmark.runs.store import Store
from tests import toy
from tests.faults.harness import call, plugin, words
from tests.handmade import fill, record

ERM = ["--methods", "erm", "--steps", "4", "--seeds"]


@pytest.mark.parametrize("more", [["--timeout", "300"], []])  # in a worker, and here
def test_a_run_that_fails_the_second_time_leaves_its_record(tmp_path: Path, more: list[str]) -> None:
    """--save-weights has it run again."""
    fails = plugin(tmp_path, "fails", f"if os.path.exists({str(tmp_path / 'now')!r}): raise OSError('no network')")
    given = words(tmp_path, tmp_path / "out", "--methods", "fails", "--seeds", "0", "--steps", "4", plugins=[fails])
    assert call(given).code == 0
    (before,) = Store(tmp_path / "out").read_all()
    (tmp_path / "now").touch()
    ended = call([*given, "--save-weights", *more])
    assert ended.code == 1
    assert "again for --save-weights, it failed: OSError: no network; its earlier record is kept" in " ".join(
        ended.out.split()
    )
    assert "1 of 1 runs were to be run again for --save-weights and failed" in " ".join(ended.out.split())
    assert Store(tmp_path / "out").read_all() == [before]
    assert not list((tmp_path / "out" / "runs").glob(".partial*"))
    (tmp_path / "now").unlink()
    assert call([*given, "--save-weights"]).code == 0
    (after,) = Store(tmp_path / "out").read_all()
    assert (after.weights is not None, after.accuracy) == (True, before.accuracy)


@pytest.mark.parametrize(
    ("older", "keep", "status"), [("", False, "done"), ("other code", False, "failed"), ("other code", True, "done")]
)
def test_a_failure_stands_in_for_a_record_that_older_code_made_alone(
    older: str, keep: bool, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = record("erm", 0)
    store, job = (
        fill(tmp_path, [earlier]),
        Job(asked=earlier.asked, command="", session="", out=tmp_path, data_dir=None, keep=keep),
    )
    (before,) = store.read_all()
    monkeypatch.setattr(Job, "outdated", lambda *_: older)
    failed = perform.Outcome(perform.record_of(job, "failed", None, 0.0, error="broken"), [], {})
    with store.working(before.run_id) as folder:
        assert execute.settle(store, folder, job, before, failed).status == status
    assert [made.status for made in store.read_all()] == [status]


@pytest.mark.parametrize(("older", "again"), [("", False), ("other code", True)])
def test_a_run_that_another_process_has_done_meanwhile_is_not_done_again(
    older: str, again: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (done,) = fill(tmp_path, [record("erm", 0)]).read_all()
    job = Job(asked=done.asked, command="", session="", out=tmp_path, data_dir=None)
    monkeypatch.setattr(Job, "outdated", lambda *_: older)
    anew = done.model_copy(update={"steps": 99, "sensitivity": None})
    monkeypatch.setattr(execute, "perform", lambda *_: perform.Outcome(anew, [], {}))
    assert execute.execute(job, mock.Mock()) == (anew if again else done)
    assert Store(tmp_path).read_all() == [anew if again else done]


@pytest.mark.parametrize(
    ("status", "ended", "again"),
    [
        ("diverged", "2026-01-01T10:00:05+00:00", False),
        ("diverged", "2026-01-01T09:59:59+00:00", True),
        ("failed", "2026-01-01T10:00:05+00:00", True),
    ],
)
def test_a_run_that_has_diverged_elsewhere_since_it_was_planned_is_not_tried_again(
    status: Status, ended: str, again: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = record("erm", 0)
    ran = made.ran.model_copy(update={"ended": ended})
    (earlier,) = fill(tmp_path, [made.model_copy(update={"status": status, "accuracy": None, "ran": ran})]).read_all()
    job = Job(asked=made.asked, command="", session="2026-01-01T10:00:00+00:00", out=tmp_path, data_dir=None)
    monkeypatch.setattr(Job, "outdated", lambda *_: "")
    monkeypatch.setattr(execute, "perform", lambda *_: perform.Outcome(made, [], {}))
    found = execute.execute(job, mock.Mock())
    assert found is not None
    assert found.status == ("done" if again else status)
    assert not replace(job, launch=True).over(earlier)
    monkeypatch.setattr(Job, "outdated", lambda *_: "other code")
    assert not job.over(earlier)


def test_the_time_of_a_run_begins_with_the_run(tmp_path: Path) -> None:
    """Not with the first that its worker was given."""
    job = Job(asked=toy.asked(), command="", session="", out=tmp_path, data_dir=None)
    worker = workers.Worker.__new__(workers.Worker)
    worker.pipe, worker.since = mock.Mock(), None
    for _ in range(2):
        worker.give(job)
        assert worker.since is None
        worker.heard()
        first = worker.since
        worker.heard()
        assert worker.since == first is not None


def test_a_worker_takes_the_threads_that_are_its_share() -> None:
    before, taken, pipe = torch.get_num_threads(), list[int](), mock.Mock()
    pipe.recv.side_effect = EOFError  # there is no run for it

    def leave(code: int) -> None:
        taken.append(torch.get_num_threads())

    around = {"LOGGER": mock.Mock(), "standard_streams": mock.Mock()}
    try:
        with (
            mock.patch.multiple(workers, leave_at_once=leave, **around),
            mock.patch.object(spawn, "die_with_parent"),
        ):
            workers._work(pipe, (), before + 2, 30)
    finally:
        torch.set_num_threads(before)
    assert taken == [before + 2]


def test_a_worker_that_is_ended_once_its_run_is_stored_failed_nothing(tmp_path: Path) -> None:
    given = words(tmp_path, tmp_path / "out", *ERM, "0")
    assert call(given).code == 0
    (before,) = Store(tmp_path / "out").read_all()
    with registry.plugins([tmp_path / "toyset.py"]):
        (job,) = plan.plan(run.parse(given))
        assert workers._failed(job, mock.Mock(since=None), "it took too long") == before
    assert Store(tmp_path / "out").read_all() == [before]


@pytest.mark.parametrize("switch", ["launch", "deterministic"])
def test_a_record_lacks_a_switch_that_it_was_made_without(switch: str, tmp_path: Path) -> None:
    made = record("erm", 0)
    plain = Job(asked=made.asked, command="", session="", out=tmp_path, data_dir=None)
    assert plain.lacks(made) == ""
    job = replace(plain, launch=True) if switch == "launch" else replace(plain, deterministic=True)
    assert job.lacks(made) == f"--{switch}"
    machine = made.ran.machine | {switch: True}
    assert job.lacks(made.model_copy(update={"ran": made.ran.model_copy(update={"machine": machine})})) == ""


@pytest.mark.parametrize(("method", "phases"), [("erm", False), ("gud", True), ("mada", True)])
def test_a_budget_that_was_exceeded_is_warned_of(method: str, phases: bool) -> None:
    """And phases are named for the reason where the method has some alone; the referee asks every method for them."""
    made = record(method, 0, budget="passes")
    assert made.throughput is not None
    cost = made.throughput.model_copy(update={"passes_per_image": 1.5, "shares": {"expand": 0.01}})
    warned = perform.over_budget(made.model_copy(update={"throughput": cost}))
    assert warned == "it took 1.5 times the passes of its budget" + " (a phase that begins is ended)" * phases
    within = cost.model_copy(update={"passes_per_image": 1.0})
    assert perform.over_budget(made.model_copy(update={"throughput": within})) == ""


def test_data_that_changed_since_the_plan_end_the_run(tmp_path: Path) -> None:
    """What the toy's data are is sixteen zeros."""
    for fingerprint in ("0" * 16, "1" * 16):
        job = Job(asked=toy.asked(fingerprint=fingerprint), command="", session="", out=tmp_path, data_dir=None)
        made = perform.perform(job, tmp_path, mock.Mock(), lambda job: (toy.loaded(), ("a", "b", "c", "d"))).record
        if fingerprint == "0" * 16:
            assert (made.status, made.error) == ("done", None)
        else:
            assert made.status == "failed"
            assert f"the data changed while the benchmark ran: {'1' * 16} is {'0' * 16}" in str(made.error)


def test_a_run_that_is_left_alone_shares_the_machine_with_none(tmp_path: Path) -> None:
    assert call(words(tmp_path, tmp_path / "out", *ERM, "0")).code == 0
    assert call(words(tmp_path, tmp_path / "out", *ERM, "0", "1", "--jobs", "2")).code == 0
    assert call(words(tmp_path, tmp_path / "two", *ERM, "0", "1", "--jobs", "2")).code == 0
    alone, both = (
        [made.ran.machine.get("sharing", 1) for made in Store(tmp_path / name).read_all()] for name in ("out", "two")
    )
    assert (alone, both) == ([1, 1], [2, 2])


@pytest.mark.parametrize(("given", "count", "each"), [(4, 1, 4), (4, 2, 2), (1, 2, 1)])
def test_workers_share_the_threads_that_this_process_may_use(given: int, count: int, each: int) -> None:
    """OMP_NUM_THREADS and the cores that a scheduler allots are in torch's number, and not in the machine's."""
    before = torch.get_num_threads()
    torch.set_num_threads(given)
    try:
        with mock.patch.object(workers.Crew, "hire"):
            crew = workers.Crew(deque([mock.Mock()] * 2), count, mock.Mock(), None)
    finally:
        torch.set_num_threads(before)
    assert crew.threads == each


@pytest.mark.parametrize(("taken", "ended"), [(9.0, True), (0.5, False)])
def test_a_run_that_always_has_something_to_say_is_ended_in_time_too(
    taken: float, ended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, crew, listener = mock.Mock(seconds=taken), mock.Mock(), mock.Mock()
    worker.heard.return_value = ("training", 0.5)
    crew.busy.side_effect = [{"pipe": worker}, {}]
    monkeypatch.setattr(local, "Crew", lambda *_: crew)
    monkeypatch.setattr(local, "wait", lambda pipes, timeout: pipes)
    local._in_workers(deque(), 1, listener, timeout=1.0)
    listener.progressed.assert_called_once_with(worker.job, "training", 0.5)
    assert crew.overdue.called == ended
    assert listener.ended.mock_calls == [mock.call(worker.job, crew.overdue.return_value)] * ended


@pytest.mark.parametrize("lost", [True, False])
def test_runs_after_one_that_cost_this_process_its_gpu_have_another(
    lost: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An illegal address, say: from then on CUDA answers every call of the process with that error."""

    def synchronize() -> None:
        if lost:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(local, "on_gpu", lambda device: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", list)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", lambda states: None)
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    plugins = [
        plugin(tmp_path, "fails", "raise RuntimeError('CUDA error')"),
        plugin(
            tmp_path, "where", f"from pathlib import Path; Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))"
        ),
    ]
    given = ["--methods", "fails", "where", "--seeds", "0", "--steps", "4"]
    ended = call(words(tmp_path, tmp_path / "out", *given, plugins=plugins))
    assert ended.code == 1
    found = {each.asked.method: each.status for each in Store(tmp_path / "out").read_all()}
    assert found == {"fails": "failed", "where": "done"}
    assert ((tmp_path / "pid").read_text() == str(os.getpid())) is not lost
    assert ("this process cannot use its GPU" in " ".join(ended.out.split())) is lost
