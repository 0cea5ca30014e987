"""What the fault tests and `make soak` share: a grid of runs that takes a second, in a process that may be killed."""

import contextlib
import io
import multiprocessing
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from unittest import mock

from benchmark import run, tables
from benchmark.report.figures import all_figures
from benchmark.runs.engines import spawn

TOYSET = '''"""Which quadrant of a noisy image is bright."""

from benchmark import data
from tests import toy


@data.frozen()
class Dataset(data.Dataset):
    classes = ("a", "b", "c", "d")
    domains = ("shifted", "same")
    sources = ("same",)
    licence = "none"
    citation = "none"
    needs_files = False

    def load(self, domain, split, root):
        return toy.images(32, ["train", "val", "test"].index(split) + 3 * (domain == "shifted"))
'''
METHOD = '''"""A method that does one odd thing."""
import os, resource, sys, time
import torch
from benchmark import method
from torch.nn.functional import cross_entropy

@method.frozen()
class Method(method.Method):
    def loss(self, net, x, y, rng, state):
        {before}
        return cross_entropy(net(x), y)
'''
SMALL = [
    "--datasets",
    "toyset",
    "--network",
    "mini_convnet",
    "--evaluations",
    "2",
    "--sensitivity-images",
    "2",
    "--device",
    "cpu",
]
COMPARED = ("accuracy.csv", "sensitivity.csv", "differences.csv", "ranks.csv", "sensitivity_correlation.csv")
"""Tables without a clock reading in them."""


@dataclass
class Count:
    """How often something was tried, and what went wrong."""

    what: str
    tried: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join([f"{self.what}: {self.tried} tried, {self.tried - len(self.wrong)} survived", *self.wrong])


@dataclass(frozen=True)
class Ended:
    """How a call of a program ended. code: its exit code; "traceback" where it raised."""

    code: object
    out: str
    err: str

    def wrong(self, *allowed: object) -> str:
        """What is wrong with it, or an empty text: a traceback, a code that is not allowed, an error without a word."""
        if self.code not in allowed or "Traceback" in self.err or (self.code == 2 and not self.err.strip()):
            return f"exit {self.code}: {self.err[-3000:]}"
        return ""


def plugin(folder: Path, name: str, before: str = "pass") -> Path:
    """A method's file; `before`: what its loss does first."""
    path = folder / f"{name}.py"
    path.write_text(METHOD.format(before=before))
    return path


def words(folder: Path, out: Path, *more: str, plugins: Iterable[Path] = ()) -> list[str]:
    """A command line on the toy dataset."""
    toyset = folder / "toyset.py"
    toyset.write_text(TOYSET)
    return [*SMALL, "--plugin", str(toyset), *map(str, plugins), "--out", str(out), *more]


def undrawn() -> contextlib.AbstractContextManager[Any]:
    """Within, the programs of this process draw no figures: for tests that look at none."""
    return mock.patch.object(all_figures, "draw", return_value=[])


@contextlib.contextmanager
def light() -> Iterator[None]:
    """Within, this process draws no figures, and its workers are forked from a process that has imported everything:
    for tests of what is done, not of how a worker starts. tests/faults/test_scripts.py has them spawned."""
    with undrawn(), mock.patch.object(spawn, "CONTEXT", forkserver()):
        yield


def six_steps(out: Path, *more: str) -> int:
    """A short run of benchmark.run on the embedded dataset, in this process and without pictures: its exit code."""
    short = ["--seeds", "0", "--steps", "6", "--evaluations", "3", "--sensitivity-images", "0", "--device", "cpu"]
    with light():
        return run.main([*short, *more, "--out", str(out)])


def forkserver() -> ForkServerContext:
    """Processes of it are forked from one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.imported"])
    return context


def call(arguments: list[str], program: Any = "run") -> Ended:
    """Calls benchmark.run, benchmark.tables or the program of another module in this process, without pictures."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), light():
        try:
            code: object = {"run": run, "tables": tables}.get(program, program).main(arguments)
        except SystemExit as ended:
            code = ended.code
        except BaseException:  # noqa: BLE001 - what gets this far is what is looked for
            code, text = "traceback", traceback.format_exc()
            err.write(text)
    return Ended(code, out.getvalue(), err.getvalue())


def start(arguments: list[str], log: Path) -> BaseProcess:
    """The same in a process of its own, forked from one that has imported everything; what it prints goes to `log`."""
    process = forkserver().Process(target=_main, args=(arguments, log))
    process.start()
    return process


def _main(arguments: list[str], log: Path) -> None:
    # A worker's start blocks it, and may have started the server that this process is forked from.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    with undrawn():
        sys.exit(run.main(arguments))


def split(line: str) -> list[str]:
    """The words that bash makes of a command line."""
    printed = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], stdout=subprocess.PIPE, check=True).stdout
    return os.fsdecode(printed).split("\0")[:-1]


def results(out: Path) -> dict[str, bytes]:
    """What an interruption may not change: tables without clock readings, curves and maps."""
    files = [out / "tables" / name for name in COMPARED]
    files += [*out.glob("runs/[!.]*/curve.jsonl"), *out.glob("runs/[!.]*/sensitivity.npy")]
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def state(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
