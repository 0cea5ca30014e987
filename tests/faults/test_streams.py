"""Output that cannot be written: a reader that has gone, a full disk, no descriptor, another encoding, no terminal."""

import ast
import os
import pty
import subprocess
import sys
import time
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest

from benchmark.__main__ import COMMANDS
from benchmark.data.remote import sources
from benchmark.runs.ending import leave
from benchmark.runs.store import Store
from tests.conftest import ROOT
from tests.faults.harness import call, forkserver, split, undrawn
from tests.handmade import fill, record

RUN = "--methods erm --seeds 0 --steps 2 --evaluations 1 --sensitivity-images 0 --device cpu --out"


def shell(line: str, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    """Runs a line of bash in which $P is Python; 200 seconds at most."""
    given = os.environ | {"P": sys.executable, "PYTHONWARNINGS": "ignore"} | environment
    return subprocess.run(["bash", "-c", line], env=given, cwd=ROOT, capture_output=True, check=False, timeout=200)


GONE, CLOSED, FULL = "a pipe that nobody reads", "none", "/dev/full"


def program(name: str, argv: list[str], where: str, log: Path, encoding: str = "utf-8") -> int | None:
    """The exit code of a program with standard output in `where`, one of these or a file, and standard error in `log`.

    Its process is forked from one that has imported everything, and draws no figures. A real interpreter is started by
    the tests that call `shell`.
    """
    process = forkserver().Process(target=_program, args=(name, argv, where, log, encoding))
    process.start()
    process.join(200)
    return process.exitcode


def _program(name: str, argv: list[str], where: str, log: Path, encoding: str) -> None:
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), 2)
    if where == CLOSED:
        os.close(1)
        os.close(2)
        sys.stdout = sys.stderr = None  # as an interpreter has them then
    elif where == GONE:
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, 1)
    else:
        os.dup2(os.open(where, os.O_WRONLY | os.O_CREAT), 1)
        sys.stdout.reconfigure(encoding=encoding)  # type: ignore[union-attr]
    with undrawn():
        leave(lambda: import_module(name).main(argv))  # the last line of each


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with tables."""
    folder = tmp_path_factory.mktemp("streams")
    fill(folder, [record("erm", 0), record("erm", 1)])
    assert call(["--out", str(folder)], "tables").code == 0
    return folder


@pytest.mark.parametrize(
    ("name", "words", "where", "code", "says"),
    [
        ("tables", "--check --out {out}", GONE, 141, ""),
        ("data.__main__", "list", FULL, 2, "standard output cannot be written: No space left on device"),
        ("compare_map", "--data-dir {out}", CLOSED, 2, ""),
    ],
)
def test_output_that_nobody_can_have_is_no_traceback(
    out: Path, name: str, words: str, where: str, code: int, says: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    ended = program(f"benchmark.{name}", words.format(out=out).split(), where, log)
    assert (ended, "Traceback" in log.read_text()) == (code, False), log.read_text()
    assert says in log.read_text()


def test_characters_that_the_encoding_lacks_are_escaped(tmp_path: Path) -> None:
    shown, log = tmp_path / "out", tmp_path / "log"
    assert program("benchmark.data.__main__", ["list", "--data-dir", str(tmp_path)], str(shown), log, "ascii") == 0
    assert log.read_text() == ""
    listed = shown.read_text("ascii")
    assert "digits: MNIST against SVHN" in listed
    assert sources.SVHN_TEST.hash in listed
    assert "non-commercial" in listed


def test_a_run_whose_reader_has_gone_writes_its_tables(tmp_path: Path) -> None:
    log = tmp_path / "log"
    ended = program("benchmark.run", [*RUN.split(), str(tmp_path / "out")], GONE, log)
    assert (ended, "Traceback" in log.read_text()) == (141, False), log.read_text()
    assert (tmp_path / "out" / "tables" / "accuracy.csv").is_file()
    assert (tmp_path / "out" / "index.html").is_file()


def test_a_run_without_output_writes_its_tables(tmp_path: Path) -> None:
    assert shell(f"$P -m benchmark.run {RUN} {tmp_path}/out >&- 2>&-").returncode == 0
    assert (tmp_path / "out" / "tables" / "accuracy.csv").is_file()
    assert (tmp_path / "out" / "index.html").is_file()


def test_every_program_ends_by_the_function_that_is_tried_here() -> None:
    last = [ast.unparse(ast.parse(file.read_text()).body[-1]) for file in (ROOT / "benchmark").rglob("*.py")]
    ends = Counter(text.partition("\n    ")[2] for text in last if text.startswith("if __name__ == '__main__':"))
    assert ends == {"leave(main)": len(COMMANDS), "script()": 1}  # dg-referee's script() calls leave(main)


def test_help_ends_like_any_output(tmp_path: Path) -> None:
    assert program("benchmark.tables", ["--help"], GONE, tmp_path / "log") == 141
    assert (tmp_path / "log").read_text() == ""


def test_a_terminal_that_is_closed_ends_no_run(tmp_path: Path) -> None:
    """The kernel sends SIGHUP to all in the terminal, and gives EIO to whoever writes there afterwards."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(ROOT)
        command = [
            sys.executable,
            "-m",
            "benchmark.run",
            *RUN.split(),
            str(tmp_path / "out"),
            "--timeout",
            "300",
            "--seeds",
            "0",
            "1",
        ]
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
    ended = shell(f"$P -m benchmark.run {RUN} {folder} --data-dir {folder}")
    assert (ended.returncode, ended.stderr) == (0, b""), ended.stderr
    (kept,) = (path for path in Path(tmp_path).iterdir())
    (found,) = Store(kept).read_all()
    assert found.status == "done"
    assert (kept / "index.html").is_file()
    again = call([*split(found.ran.command)[3:], "--out", os.fsdecode(kept)])
    assert "1 of 1 runs are done already" in again.out
