"""benchmark.run called from a script of the user's own, with and without a guard."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.runs.store import Store
from tests.conftest import ROOT

SCRIPT = """
import sys
sys.path.insert(0, {root!r})
from benchmark import run
from tests.faults.harness import undrawn
with undrawn():
    raise SystemExit(max(run.main(words.split()) for words in {calls!r}))
"""
WORDS = "--methods erm --steps 2 --evaluations 1 --sensitivity-images 0 --device cpu"


@pytest.mark.parametrize(
    ("calls", "from_input"),
    [(("--timeout 300 --seeds 0", "--nproc 2 --seeds 1"), False), (("--timeout 300 --seeds 0",), True)],
)
def test_workers_need_no_guard_in_the_script_that_calls(
    tmp_path: Path, calls: tuple[str, ...], from_input: bool
) -> None:
    out = tmp_path / "out"
    script = SCRIPT.format(root=str(ROOT), calls=[f"{WORDS} --out {out} {flags}" for flags in calls])
    path = tmp_path / "train.py"
    path.write_text(script)
    command = [sys.executable, "-" if from_input else str(path)]
    ended = subprocess.run(
        command, input=script if from_input else "", cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, "Traceback" in ended.stderr) == (0, False), ended.stderr
    assert [found.status for found in Store(out).read_all()] == ["done"] * len(calls)
