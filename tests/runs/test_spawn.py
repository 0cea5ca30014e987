"""Processes that are started here: what reaches them, and that none outlives the one that started it."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from benchmark.runs.engines import spawn
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
