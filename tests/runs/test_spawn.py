"""Processes that are started here: what reaches them, and that none outlives the one that started it."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from multiprocessing import Pipe
from pathlib import Path

import pytest

from benchmark.runs.engines import spawn
from benchmark.training import signals
from tests.conftest import ROOT


def linger(said: Path) -> None:
    """A process that would stay for a minute."""
    spawn.die_with_parent()
    blocked = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    said.with_suffix(".new").write_text(f"{os.getpid()} {blocked}", encoding="utf-8")
    said.with_suffix(".new").rename(said)
    time.sleep(60)
    said.with_suffix(".outlived").touch()


SCRIPT = """
import sys, time
from pathlib import Path
from benchmark.runs.engines import spawn
from tests.runs.test_spawn import linger
spawn.start(linger, Path(sys.argv[1]))
time.sleep(60)
"""


def runs(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    return False


def test_a_process_ends_with_the_one_that_started_it_and_hears_no_ctrl_c(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path / "said")], cwd=ROOT)
    while not (tmp_path / "said").exists():
        assert parent.poll() is None
        time.sleep(0.1)
    pid, blocked = (tmp_path / "said").read_text(encoding="utf-8").split()
    assert blocked == "True"
    parent.kill()
    parent.wait()
    while runs(int(pid)):
        time.sleep(0.1)
    assert not (tmp_path / "said.outlived").exists()


def test_a_message_that_breaks_off_is_the_end_of_its_process() -> None:
    here, there = Pipe()
    os.write(there.fileno(), (100).to_bytes(4, "big") + b"half")
    there.close()
    with pytest.raises(EOFError):
        spawn.heard(here)
    here.close()


def test_the_script_of_this_process_is_hidden_only_while_another_starts() -> None:
    names = sys.modules["__main__"].__dict__
    before = {name: names[name] for name in ("__file__", "__spec__") if name in names}
    with spawn._no_script():
        assert "__file__" not in names
        assert names["__spec__"] is None
    assert {name: names[name] for name in ("__file__", "__spec__") if name in names} == before


def test_a_process_that_is_started_here_stops_for_us_and_leaves_sigterm_to_us() -> None:
    """A terminal, timeout or Slurm may send that to all processes at once."""
    before = signal.getsignal(signal.SIGTERM)

    def stopped() -> None:
        with spawn.stoppable():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
            assert not signals.asked()
            os.kill(os.getpid(), spawn.STOP)
            assert signals.asked()

    try:
        with pytest.raises(signals.StoppedError):
            stopped()
    finally:
        signal.signal(signal.SIGTERM, before)
