"""make gpu: everything that only a machine with a GPU can show, in nine minutes, and one table of it (docs/gpu.md)."""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported once a GPU is there: a machine without one may lack what they need, too
    from tests.gpu.stages import Line, Stage

BUSY = 1000
"""MiB in use on a GPU that nothing of ours runs on: a desktop takes some hundreds."""
ROOT = Path(__file__).resolve().parents[2]
LIMIT, LEAST, GRACE = 510.0, 10.0, 15.0
"""Seconds: for all stages, nine minutes less a reserve; that a stage needs to be begun; in which a stage that is cut
may still write what it has found."""
NEEDS = "make gpu needs a machine with an NVIDIA GPU and torch 2.11 or newer"


def lacking() -> str:
    """What this machine lacks, in one line; empty where it lacks nothing."""
    try:
        import torch
    except ModuleNotFoundError:
        return f"{NEEDS}; {sys.executable} has no torch"
    except (ImportError, OSError) as problem:  # a library that it loads is missing or damaged
        return f"{NEEDS}; torch cannot be imported: {' '.join(str(problem).split())}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a driver that does not answer is told of below
        there = torch.cuda.is_available()
    missing = [name for name in ("pytest", "pytest_benchmark", "hypothesis", "statsmodels") if not find_spec(name)]
    if missing:
        return f"make gpu needs {', '.join(missing)}: the extra `dev` of pyproject.toml has them"
    new = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 11)
    return "" if there and new else f"{NEEDS}; torch {torch.__version__} {'is too old' if there else 'sees none here'}"


def run(command: Sequence[str], log: Path, limit: float) -> int | None:
    """The exit code of a command, or None where it took longer than `limit` seconds and was ended."""
    given = os.environ | {"DG_REFEREE_CACHE": str(log.parents[1] / "cache")}
    with log.open("ab") as out:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out, env=given, start_new_session=True)
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
            return None
        finally:
            with suppress(ProcessLookupError):  # and all that it has started
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def take(stage: "Stage", left: float) -> "tuple[str, list[Line]]":
    """Runs a stage with that many seconds left: how it ended, in words, and its lines."""
    from tests.gpu.stages import Ended

    if left < LEAST:
        return "skipped", [stage.line("no time left", "skipped")]
    shutil.rmtree(stage.folder, ignore_errors=True)
    stage.folder.mkdir(parents=True)
    end, codes, seconds, cut = monotonic() + min(stage.limit, left), [], [], False
    for command in stage.commands:
        began = monotonic()
        code = run(command, stage.folder / "log.txt", max(1.0, end - began))
        if cut := code is None:
            break
        codes.append(code)
        seconds.append(monotonic() - began)
    ended, state = Ended(tuple(codes), tuple(seconds), cut), f"exit {'+'.join(map(str, codes))}"
    if cut:
        state = f"cut after {min(stage.limit, left):.0f} s"
    try:
        return state, [*stage.read(stage, ended), *([stage.line(state, "skipped")] if cut else [])]
    except Exception as problem:  # noqa: BLE001 - whatever a stage has left, the others are told
        why = f"{type(problem).__name__}: {problem}"
        return state, [stage.line(f"{state}, see {stage.folder}/log.txt", ended.judge(False), (why,))]


def table(lines: "Sequence[Line]") -> str:
    """The rows, and below them what each notes."""
    from tabulate import tabulate

    rows = [[line.target, line.figure, line.goal, line.verdict] for line in lines]
    notes = [f"{line.target}: {note}" for line in lines for note in line.notes]
    text = tabulate(rows, ["target", "figure", "goal", "verdict"], disable_numparse=True)
    return "\n".join([text, *([""] if notes else []), *notes])


def bench(chosen: "Sequence[Stage]", path: Path, limit: float) -> int:
    """Runs the stages, prints the table and keeps it, also when it is stopped. Returns 0 where every target was
    reached, else 1."""
    from benchmark.runs import gpus, machine
    from benchmark.runs.store import write_whole

    began, used = monotonic(), gpus.memory("used")
    told: list[dict[str, object]] = []
    lines: list[Line] = []

    def keep(**more: object) -> None:
        made = {
            "seconds": round(monotonic() - began, 1),
            "used_mib_before": used,
            "stages": told,
            "lines": [asdict(line) for line in lines],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, (json.dumps(made | more, indent=1) + "\n").encode())

    if max(used, default=0) > BUSY:
        say(f"something else holds {max(used)} MiB of a GPU here: if it computes meanwhile, ratios and times are noise")
    try:
        for number, stage in enumerate(chosen, 1):
            start = monotonic()
            say(f"[{number}/{len(chosen)}] {stage.folder.name}: {stage.target} ... ", end="")
            state, found = take(stage, limit - (start - began))
            lines += found
            told.append({"name": stage.folder.name, "state": state, "seconds": round(monotonic() - start, 1)})
            say(f"{monotonic() - start:.0f} s, {state}")
            keep()  # what ends this call loses no stage that has ended
    finally:
        say(f"\n{table(lines)}\n\n{path}")
    device = gpus.choose_device("auto")  # only now: a context here would take memory from the stages
    name, described = machine.device_name(device), machine.describe(device)
    keep(device=name, machine=described)
    versions = ", ".join(f"{kind} {described['packages'].get(kind)}" for kind in ("torch", "triton"))
    say(f"{name}, {versions}; {monotonic() - began:.0f} s")
    return 0 if all(line.verdict in ("pass", "") for line in lines) else 1


def say(text: str, end: str = "\n") -> None:
    print(text, end=end, flush=True)  # noqa: T201


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0 where every target was reached, 1 where one was not, 2 where there is no GPU or a wrong flag."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__)
    parser.add_argument(
        "--stages", nargs="+", help="only these; default: all but jobs-N. One alone may take all of the time"
    )
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds for all of them (%(default)g)")
    parser.add_argument("--out", type=Path, default=ROOT / "results/perf", help="folder of the JSON, logs and runs")
    args = parser.parse_args(argv)
    if problem := lacking():
        print(problem, file=sys.stderr)  # noqa: T201
        return 2
    from tests.gpu.stages import stages

    out = args.out.resolve()
    known = {stage.folder.name: stage for stage in stages(out / "gpu")}
    if unknown := set(args.stages or ()) - known.keys():
        parser.error(f"--stages: no such stage: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    path = out / f"gpu-{datetime.now(UTC):%Y-%m-%d-%H-%M-%S}.json"  # beside those of other calls, from any machine
    chosen = [stage for stage in known.values() if not stage.on_demand]
    if args.stages:
        chosen = [known[name] for name in known if name in args.stages]
    if len(chosen) == 1:  # it may be taken again because it met its limit
        chosen = [replace(chosen[0], limit=args.limit)]
    try:
        return bench(chosen, path, args.limit)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
