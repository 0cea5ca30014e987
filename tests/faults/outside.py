"""What users do to the programs from outside: streams that take nothing, names of every kind, flags given twice, and
numbers that are none."""

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmark import compare_map, run, scaling, tables
from benchmark.corruptions import __main__ as corruptions
from tests.conftest import ROOT
from tests.faults.harness import Count, Ended, call
from tests.handmade import fill, record

STREAMS = {
    "| true; exit ${PIPESTATUS[0]}": (0, 2, 141),
    "| head -c 1 > /dev/null; exit ${PIPESTATUS[0]}": (0, 2, 141),
    "> /dev/full": (2,),
    ">&-": (0, 2),
    ">&- 2>&-": (0, 2),
    "< /dev/null > /dev/full 2> /dev/full": (2,),
}
PROGRAMS = (
    *("run --dry-run --methods erm --seeds 0", "run --list", "tables --check", "tables --help", "data list"),
    *("reproduce", "scaling --methods erm --datasets minidigits", "corruptions", "export nothing-there"),
)
NAMES = (
    "\udcff\udcfe",
    "é",
    "日本",
    "a b",
    "it's",
    "-x",
    "$HOME",
    "a\nb",
    "\x1b[31m",
    "%s",
    "=1+1",
    "{x}",
    "x" * 200,
    "~~",
)
NUMBERS = ("0", "-1", "nan", "inf", "-inf", "1e400", "1e-400", "99999999999999999999999", str(2**63), "", "one", "1_0")
FLAGS: tuple[tuple[Any, str], ...] = (
    *((run, flag) for flag in ("steps", "seeds", "jobs", "nproc", "batch-size", "evaluations", "sensitivity-images")),
    *((run, flag) for flag in ("timeout", "seconds", "checkpoint-seconds")),
    *((scaling, flag) for flag in ("seeds", "gflops", "devices")),
    *((compare_map, flag) for flag in ("epochs", "images", "seed")),
    *((corruptions, flag) for flag in ("side", "limit")),
)
LISTS = {"methods": ("erm", "augmix", "apr"), "seeds": ("0", "1", "7"), "set": ("augmix.severity=1", "augmix.lam=2")}


def streams(folder: Path, times: int, seed: int = 0) -> Count:
    """Calls programs whose output, error or encoding takes nothing or little."""
    count, draws, out = Count("streams that take nothing"), random.Random(seed), folder / "out"
    fill(out, [record("erm", 0)])
    call(["--out", str(out)], "tables")
    for _ in range(times):
        program, where = draws.choice(PROGRAMS), draws.choice([*STREAMS])
        encoding = draws.choice(["utf-8", "ascii", "latin-1", "cp1252"])
        takes_out = not program.startswith(("data", "corruptions", "export", "run --list"))
        line = f"{sys.executable} -W ignore -m benchmark.{program} {f'--out {out}' if takes_out else ''} {where}"
        given = os.environ | {"PYTHONIOENCODING": encoding}
        ended = subprocess.run(["bash", "-c", line], env=given, cwd=ROOT, capture_output=True, check=False)
        count.tried += 1
        if ended.returncode not in STREAMS[where] or b"Traceback" in ended.stderr:
            count.wrong.append(f"{line}, {encoding}: exit {ended.returncode}: {ended.stderr[-2000:]!r}")
    return count


def names(folder: Path, times: int, seed: int = 0) -> Count:
    """Stores, plugins and data below folders of every name."""
    count, draws = Count("names of folders and files"), random.Random(seed)
    for turn in range(times):
        name = draws.choice(NAMES)
        out = folder / str(turn) / name
        fill(out, [record("erm", 0)])
        count.tried += 1
        for ended in (
            call(["--out", str(out)], "tables"),
            call(["--out", str(out), "--check"], "tables"),
            call(["--out", str(out), "--data-dir", str(out), "--methods", "erm", "--dry-run"]),
        ):
            wrong = ended.wrong(0)
            count.wrong += [f"{name!a}: {wrong}"] if wrong else []
        ended = call(["--out", str(out / "new"), "--plugin", str(out / "absent.py"), "--dry-run"])
        count.wrong += [f"{name!a}: {wrong}"] if (wrong := ended.wrong(2)) else []
    return count


def repeated(folder: Path, times: int, seed: int = 0) -> Count:
    """A list flag given in pieces plans what it plans in one."""
    count, draws = Count("list flags given twice"), random.Random(seed)
    base = ["--steps", "5", "--dry-run", "--out", str(folder / "none")]
    for _ in range(times):
        once, pieces = [*base], [*base]
        given = {
            "methods": draws.sample(LISTS["methods"], 3),
            "seeds": draws.sample(LISTS["seeds"], draws.randint(1, 3)),
        }
        given["set"] = draws.sample(LISTS["set"], draws.randint(1, 2))
        for flag, values in given.items():
            once += [f"--{flag}", *values]
            for value in values:
                piece = draws.choice([[f"--{flag}", value], [f"--{flag}={value}"]])
                pieces[0:0] = piece
        count.tried += 1
        first, second = call(once), call(pieces)
        if first.code != 0 or _ids(first) != _ids(second):
            count.wrong.append(f"{pieces}: {second.code}, not the runs of {once}: {second.err}")
    return count


def numbers(folder: Path, times: int, seed: int = 0) -> Count:
    """Numbers that are too small, too large or none, for every program that takes some."""
    count, draws, out = Count("numbers of all programs"), random.Random(seed), folder / "out"
    fill(out, [record("erm", 0)])
    for _ in range(times):
        (program, flag), value = draws.choice(FLAGS), draws.choice(NUMBERS)
        more = {run: ["--methods", "erm", "--dry-run"], compare_map: ["--data-dir", str(folder)], corruptions: []}
        words = [*more.get(program, ["--methods", "erm", "--datasets", "minidigits"])]
        words += [] if program in (compare_map, corruptions) else ["--out", str(out)]
        count.tried += 1
        wrong = call([*words, f"--{flag}={value}"], program).wrong(0, 2)
        count.wrong += [f"{program.__name__} --{flag}={value}: {wrong}"] if wrong else []
    assert call(["--out", str(out)], tables).code == 0
    return count


def _ids(ended: Ended) -> list[str]:
    return sorted(line.split()[0] for line in ended.out.splitlines() if " to do " in line and line.startswith(" "))
