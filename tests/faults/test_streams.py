"""Output that cannot be written: a reader that has gone, a full disk, no descriptor, another encoding, no terminal."""

import ast
import os
import pty
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from benchmark.__main__ import COMMANDS
from benchmark.runs.store import Store
from tests.conftest import ROOT
from tests.handmade import fill, record

RUN = "-m benchmark.run --methods erm --seeds 0 --steps 2 --evaluations 1 --sensitivity-images 0 --device cpu --out"


def shell(line: str, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    """Runs a line of bash in which $P is Python; 200 seconds at most."""
    given = os.environ | {"P": sys.executable, "PYTHONWARNINGS": "ignore"} | environment
    return subprocess.run(["bash", "-c", line], env=given, cwd=ROOT, capture_output=True, check=False, timeout=200)


GONE, FULL, CLOSED = "| true; exit ${PIPESTATUS[0]}", "> /dev/full", ">&- 2>&-"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with tables."""
    folder = tmp_path_factory.mktemp("streams")
    fill(folder, [record("erm", 0), record("erm", 1)])
    assert shell(f"$P -m benchmark.tables --out {folder}").returncode == 0
    return folder


@pytest.mark.parametrize(
    ("program", "where", "code", "says"),
    [
        ("tables --check --out {out}", GONE, 141, b""),
        ("data list", FULL, 2, b"standard output cannot be written: No space left on device"),
        ("compare_map --data-dir {out}", CLOSED, 2, b""),
    ],
)
def test_output_that_nobody_can_have_is_no_traceback(
    out: Path, program: str, where: str, code: int, says: bytes
) -> None:
    ended = shell(f"$P -m benchmark.{program.format(out=out)} {where}")
    assert (ended.returncode, b"Traceback" in ended.stderr) == (code, False), ended.stderr
    assert says in ended.stderr


def test_characters_that_the_encoding_lacks_are_escaped() -> None:
    ended = shell("$P -m benchmark.data list", PYTHONIOENCODING="ascii")
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout.decode("ascii")


@pytest.mark.parametrize(("where", "code"), [(GONE, 141), (CLOSED, 0)])
def test_a_run_whose_output_is_lost_writes_its_tables(tmp_path: Path, where: str, code: int) -> None:
    ended = shell(f"$P {RUN} {tmp_path}/out {where}")
    assert (ended.returncode, b"Traceback" in ended.stderr) == (code, False), ended.stderr
    assert (tmp_path / "out" / "tables" / "accuracy.csv").is_file()
    assert (tmp_path / "out" / "index.html").is_file()


def test_every_program_ends_by_the_function_that_is_tried_here() -> None:
    last = [ast.unparse(ast.parse(file.read_text()).body[-1]) for file in (ROOT / "benchmark").rglob("*.py")]
    ends = Counter(text.partition("\n    ")[2] for text in last if text.startswith("if __name__ == '__main__':"))
    assert ends == {"leave(main)": len(COMMANDS), "script()": 1}  # dg-referee's script() calls leave(main)


def test_help_ends_like_any_output() -> None:
    ended = shell("$P -m benchmark.tables --help | true; exit ${PIPESTATUS[0]}")
    assert (ended.returncode, ended.stderr) == (141, b"")


def test_a_terminal_that_is_closed_ends_no_run(tmp_path: Path) -> None:
    """The kernel sends SIGHUP to all in the terminal, and gives EIO to whoever writes there afterwards."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(ROOT)
        command = [sys.executable, *RUN.split(), str(tmp_path / "out"), "--timeout", "300", "--seeds", "0", "1"]
        os.execve(sys.executable, command, os.environ | {"TERM": "xterm"})
    shown = b""
    while b"loading" not in shown and b"%" not in shown:
        shown += os.read(terminal, 4096)
    os.close(terminal)
    end = time.monotonic() + 200
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        assert time.monotonic() < end
        time.sleep(0.1)
    assert len(Store(tmp_path / "out").read_all()) == 2
    assert (tmp_path / "out" / "index.html").is_file()


def test_paths_that_are_not_utf_8_lose_no_run(tmp_path: Path) -> None:
    folder = f"$'{tmp_path}/\\xff\\xfe o'"
    ended = shell(f"$P {RUN} {folder} --data-dir {folder}")
    assert (ended.returncode, ended.stderr) == (0, b""), ended.stderr
    (kept,) = (path for path in Path(tmp_path).iterdir())
    (found,) = Store(kept).read_all()
    assert found.status == "done"
    assert (kept / "index.html").is_file()
    again = shell(f"{found.ran.command.replace('python', '$P', 1)} --out {folder}")
    assert b"1 of 1 runs are done already" in again.stdout
