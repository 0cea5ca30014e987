"""Ctrl-C, SIGTERM, and workers that die or hang, as the terminal and the cluster send them."""

import errno
import os
import signal
import time
from pathlib import Path

import pytest

from benchmark.runs.engines import spawn, workers
from benchmark.runs.store import Store
from benchmark.training import signals
from tests.faults.harness import call, plugin, results, start, words

PROMPT = 15
"""Seconds for what takes under five on a machine that does nothing else; a stuck process takes far longer."""
SLOW = ["--seeds", "0", "--steps", "40", "--checkpoint-seconds", "1000"]
SLOW_STEP = "os.path.exists({go!r}) or time.sleep(0.1); open({steps!r}, 'a').write('.')"
TELLS = """if rng.step == 5:
            {first}
            try:
                open({told!r}, 'x')
                os.kill({pid}, {number})
            except FileExistsError:
                pass"""
"""A second signal would end the tests at once, so only the first process that comes here sends one."""


@pytest.fixture
def tell(tmp_path: Path) -> Path:
    """A file in which the method `slow` counts its steps. They are slow until there is a file `go`."""
    steps = tmp_path / "steps"
    plugin(tmp_path, "slow", SLOW_STEP.format(go=str(tmp_path / "go"), steps=str(steps)))
    return steps


def telling(folder: Path, number: int, first: str = "pass") -> Path:
    """The method `slow` once more: in another process, its sixth step sends a signal to this one, after `first`. The
    file `told` says when."""
    slow = SLOW_STEP.format(go=str(folder / "go"), steps=str(folder / "steps"))
    tells = TELLS.format(first=first, told=str(folder / "told"), pid=os.getpid(), number=number)
    return plugin(folder, "slow", f"{slow}\n        {tells}")


@pytest.fixture
def _signalled(monkeypatch: pytest.MonkeyPatch) -> None:
    """That this process was asked to end is forgotten with the test; a program would have ended."""
    monkeypatch.setattr(signals, "_asked", None)


def wait_for(condition: object, seconds: float = 200) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


def test_the_first_signal_keeps_the_present_step(tmp_path: Path, tell: Path) -> None:
    command = words(tmp_path, tmp_path / "out", "--methods", "slow", *SLOW, plugins=[tmp_path / "slow.py"])
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        before = tell.stat().st_size if tell.exists() else 0
        process = start(command, tmp_path / f"log{code}")
        wait_for(lambda before=before: tell.exists() and tell.stat().st_size >= before + 5)
        began = time.monotonic()
        os.kill(process.pid or 0, number)
        process.join(60)
        assert process.exitcode == code
        assert time.monotonic() - began < PROMPT
        assert "the same command goes on from here" in (tmp_path / f"log{code}").read_text()
    assert tell.stat().st_size < 40
    (tmp_path / "go").touch()
    again = start(command, tmp_path / "log")
    again.join()
    assert again.exitcode == 0
    assert tell.stat().st_size == 40  # no step was done twice
    (record,) = Store(tmp_path / "out").read_all()
    assert record.ran.resumed == 2
    whole = start(words(tmp_path, tmp_path / "whole", *command[command.index("--methods"):],
                        plugins=[tmp_path / "slow.py"]), tmp_path / "log")  # fmt: skip
    whole.join()
    assert results(tmp_path / "whole") == results(tmp_path / "out")


@pytest.mark.usefixtures("_signalled")
@pytest.mark.parametrize(("flag", "whole"), [("--nproc=2", False), ("--nproc=2", True), ("--timeout=300", True)])
def test_a_run_in_other_processes_keeps_its_steps_too(tmp_path: Path, flag: str, whole: bool) -> None:
    """Whether a terminal signals the command alone or timeout and Slurm all of its processes. --timeout asks for a
    worker, as --jobs does for several runs."""
    slow = telling(tmp_path, signal.SIGTERM, f"os.kill(os.getpid(), {signal.SIGTERM:d})" if whole else "pass")
    command = words(tmp_path, tmp_path / "out", "--methods", "slow", *SLOW, flag, plugins=[slow])
    ended = call(command)
    assert ended.code == 143, ended.err
    assert [*(tmp_path / "out" / "runs").glob(".partial-*/checkpoint.pt")]
    if flag == "--timeout=300":
        (tmp_path / "go").touch()
        assert call(command).code == 0
        (record,) = Store(tmp_path / "out").read_all()
        assert record.ran.resumed == 1
        assert (tmp_path / "steps").stat().st_size == 40  # no step was done twice


def test_a_step_that_hangs_does_not_hold_up_ctrl_c_and_a_second_one_ends_at_once(tmp_path: Path) -> None:
    hang = "[time.sleep(0.1) for _ in range(10_000)]"  # a signal just before one long sleep would wait for its end
    path = plugin(tmp_path, "hanging", f"open({str(tmp_path / 'there')!r}, 'w'); {hang}")
    command = words(tmp_path, tmp_path / "out", "--methods", "hanging", *SLOW, plugins=[path])
    for times, least, most, codes in ((1, 2.9, PROMPT, {130}), (2, 0, PROMPT - 5, {-signal.SIGINT})):
        (tmp_path / "there").unlink(missing_ok=True)
        log = tmp_path / f"log{times}"
        process = start(command, log)
        wait_for((tmp_path / "there").exists)
        began = time.monotonic()
        for _ in range(times):
            os.kill(process.pid or 0, signal.SIGINT)
            wait_for(lambda log=log: b"stopping: " in log.read_bytes())  # two at once would be one
        process.join(60)
        assert process.exitcode in codes
        assert least <= time.monotonic() - began < most


@pytest.mark.usefixtures("_signalled")
def test_workers_that_die_or_hang_cost_their_own_runs_and_ctrl_c_ends_them_all(tmp_path: Path) -> None:
    """One call with a run that is killed once, one that hangs, one that is slow and is interrupted."""
    once = tmp_path / "once"
    dying = plugin(tmp_path, "dying", f"if rng.step == 2 and not os.path.exists({str(once)!r}): "
                   f"open({str(once)!r}, 'w'); os.kill(os.getpid(), 9)")  # fmt: skip
    hanging = plugin(tmp_path, "hanging", "time.sleep(1000)")
    slow = telling(tmp_path, signal.SIGINT)  # it begins in the worker that has ended the first run
    more = ["--seeds", "0", "--steps", "200", "--jobs", "2", "--checkpoint-seconds", "0"]
    command = words(tmp_path, tmp_path / "out", "--methods", "dying", "hanging", "slow", *more,
                    plugins=[dying, hanging, slow])  # fmt: skip
    ended = call(command)
    assert ended.code == 130, ended.err
    assert time.time() - (tmp_path / "told").stat().st_mtime < PROMPT
    assert list((tmp_path / "out" / "runs").glob(".partial-*/checkpoint.pt"))
    assert "toyset/same dying seed 0: its worker process died (exit code -9)" in ended.out + ended.err
    (record,) = [record for record in Store(tmp_path / "out").read_all() if record.asked.method == "dying"]
    assert record.status == "done"
    assert record.ran.resumed == 1
    assert "its worker process died (exit code -9)" in record.warnings[0]


def test_a_run_that_hangs_is_ended_and_says_so(tmp_path: Path) -> None:
    hanging = plugin(tmp_path, "hanging", "time.sleep(1000)")
    assert (
        call(words(tmp_path, tmp_path / "out", "--methods", "hanging", *SLOW, "--timeout", "1", plugins=[hanging])).code
        == 1
    )
    (record,) = Store(tmp_path / "out").read_all()
    assert (record.status, record.error) == ("failed", "it took longer than --timeout 1 seconds and was ended")
    assert record.ran.seconds >= 1
    assert "hanging, seed 0: failed" in (tmp_path / "out" / "tables" / "accuracy.md").read_text()


@pytest.mark.parametrize("before", [set(), {signal.SIGINT}])
def test_a_worker_that_cannot_be_started_leaves_signals_as_they_were(
    before: set[signal.Signals], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(spawn.CONTEXT.Process, "start", refuse)
    old = signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        with pytest.raises(OSError, match="temporarily"):
            workers.Worker((), 1)
        assert signal.pthread_sigmask(signal.SIG_BLOCK, set()) == before
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
