"""What make gpu runs, stage by stage, and what it reads off each: the rows of its table."""

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

from benchmark.runs import gpus
from benchmark.runs.store import Store
from tests.conftest import DATA_DIR

Verdict = Literal["pass", "fail", "skipped", ""]
"""Empty for a figure that nothing is asked of."""
LENGTH, FULL = 650, 10_000
"""Steps: a length beyond the last phase of GUD (step 600) and of M-ADA (300), and the one that it foretells."""
SEEDS, RUNS = 5, 40
STEP_RACES = ("tests/perf/test_perf_step.py", "tests/perf/test_perf_sensitivity.py")


@dataclass(frozen=True)
class Line:
    """A row of the table. notes: what is listed below it, such as the names of failed tests."""

    target: str
    figure: str
    goal: str = ""
    verdict: Verdict = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ended:
    """How a stage's commands ended: exit codes and wall-clock seconds of those that came to an end. cut: one did not,
    so that a missed goal says nothing."""

    codes: tuple[int, ...]
    seconds: tuple[float, ...]
    cut: bool = False

    def judge(self, good: bool) -> Verdict:
        return "pass" if good else "skipped" if self.cut else "fail"


@dataclass(frozen=True)
class Stage:
    """commands: run one after another in the repository; what they keep lies in `folder`, the stage's own. limit: the
    most seconds for all of them. on_demand: run only where it is named, for nine minutes do not hold it."""

    folder: Path
    target: str
    goal: str
    limit: float
    commands: list[list[str]]
    read: "Callable[[Stage, Ended], list[Line]]"
    on_demand: bool = False

    def line(self, figure: str, verdict: Verdict, notes: tuple[str, ...] = ()) -> Line:
        """The row of the stage's own target."""
        return Line(self.target, figure, self.goal, verdict, notes)


def stages(out: Path) -> list[Stage]:
    """All of them, the most important first, each with a folder of its name in `out`."""

    def runs(name: str, words: str) -> list[str]:
        data = ["digits", "--data-dir", str(DATA_DIR)] if has_digits() else ["minidigits"]
        line = [sys.executable, "-m", "benchmark.run", "--device", "cuda", "--out", str(out / name / "out")]
        return [*line, "--datasets", *data, "--methods", *words.split()]

    def tests(name: str, words: str) -> list[str]:
        line = ["env", "OMP_NUM_THREADS=1", sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
        kept = ["--continue-on-collection-errors", "--junitxml", str(out / name / "junit.xml")]
        return [*line, *kept, *words.split()]

    def races(name: str, words: str) -> list[str]:
        plain = "--override-ini addopts=--import-mode=importlib -W default -m gpu --benchmark-quiet --benchmark-json"
        return [*tests(name, plain), str(out / name / "races.json"), *words.split()]

    def full(kind: str, minutes: int) -> Stage:
        about = f"7 methods x {SEEDS} seeds x {FULL:,} steps of digits, {kind}, minutes"
        words = f"all sada:weight_map=none --seeds 0 --jobs 1 --precision {kind} --steps {LENGTH}"
        return Stage(out / kind, about, f"<= {minutes}", 120, [runs(kind, words)], foretell)

    # Idle processes take tests from busy ones: else one gets the two longest, one after the other.
    several = f"-n {min(14, os.cpu_count() or 1, room())} --dist worksteal" if importlib.util.find_spec("xdist") else ""
    others = " ".join(f"--ignore={path}" for path in STEP_RACES)
    # Five epochs of M-ADA's autoencoders instead of twenty: whether it ends well does not hang on them.
    matrix = "all sada:weight_map=none --seeds 0 1 2 3 4 --steps 120 --set mada.wae_epochs=5"
    return [
        Stage(out / "tests", "tests marked gpu", "all pass", 240,
              [tests("tests", f"tests -m gpu --ignore tests/perf {several}")], read_tests),
        Stage(out / "matrix", "runs that end well, 8 rows x 5 seeds", f"{RUNS} of {RUNS}", 130,
              [runs("matrix", matrix)], read_matrix),
        Stage(out / "steps", "races of whole steps", "all run", 100,
              [races("steps", " ".join(STEP_RACES))], read_races),
        full("fp32", 20),
        full("tf32", 12),
        # These carry no mark: without a GPU they run in Triton's interpreter.
        Stage(out / "kernel-tests", "tests of the kernels", "all pass", 100,
              [tests("kernel-tests", f"tests/ops/test_kernels.py {several}")], read_tests),
        Stage(out / "kernels", "races of the kernels", "all run", 170,
              [races("kernels", f"tests/perf {others}")], read_races),
        *(Stage(out / f"jobs-{n}", f"four runs of ERM, 3,000 steps, --jobs {n}, start-up included, seconds", "", 60,
                [runs(f"jobs-{n}", f"erm --seeds 0 1 2 3 --steps 3000 --jobs {n}")], read_wall, on_demand=True)
          for n in (1, 2, 4)),
    ]  # fmt: skip


def room() -> int:
    """How many processes of tests the GPUs' free memory holds, at a gigabyte each: a context takes half of that."""
    return max(1, min(gpus.memory("free"), default=2**20) // 1024)


def has_digits() -> bool:
    return (DATA_DIR / "MNIST").is_dir()


def junit(path: Path) -> tuple[int, tuple[str, ...], int]:
    """How many tests passed, the names of those that did not, and how many were skipped."""
    cases = [(case, {child.tag for child in case}) for case in ElementTree.parse(path).getroot().iter("testcase")]
    failed = [f"{case.get('classname')}::{case.get('name')}" for case, tags in cases if tags & {"failure", "error"}]
    skipped = sum("skipped" in tags for _, tags in cases)
    passed = sum(not tags & {"failure", "error", "skipped"} for _, tags in cases)
    return passed, tuple(dict.fromkeys(failed)), skipped


def read_tests(stage: Stage, ended: Ended) -> list[Line]:
    passed, failed, skipped = junit(stage.folder / "junit.xml")
    good = passed > 0 and ended.codes == (0,)
    figure = f"{passed} passed, {len(failed)} failed, {skipped} skipped"
    return [stage.line(figure, "fail" if failed else ended.judge(good), failed)]


def read_matrix(stage: Stage, ended: Ended) -> list[Line]:
    records = Store(stage.folder / "out").read_all()
    done = [record for record in records if record.status == "done"]
    notes = [
        f"{r.asked.row} seed {r.asked.seed}: {(r.error or r.status).strip()[-300:]}" for r in records if r not in done
    ]
    notes += sorted({f"{r.asked.row}: {warning}" for r in done for warning in r.warnings})
    verdict = "fail" if len(done) < len(records) else ended.judge(len(done) == RUNS and ended.codes == (0,))
    wall = [Line("seconds of these runs, start-up included", f"{seconds:.0f}") for seconds in ended.seconds]
    return [stage.line(f"{len(done)} of {RUNS}", verdict, tuple(notes)), *wall]


def foretell(stage: Stage, ended: Ended) -> list[Line]:
    """Beyond the phases each step takes what the median step takes. SADA with its map trains an ERM of its own for as
    many steps, before its first.

    A record's seconds are those of its training. What else a run takes (data, sensitivity map, a part of start-up and
    of tables) is what they leave of the command's wall clock, in equal parts; the whole matrix starts once, not once
    for eight runs, so the estimate is a little high.
    """
    done = [r for r in Store(stage.folder / "out").read_all() if r.status == "done" and r.throughput is not None]
    long = {r.asked.row: r.ran.seconds for r in done}
    step = {
        r.asked.row: r.asked.recipe.batch_size / r.throughput.steady_images_per_second for r in done if r.throughput
    }
    step["sada"] = step.get("sada", 0.0) + step.get("erm", 0.0)
    whole = {row: seconds + (FULL - LENGTH) * step[row] for row, seconds in long.items()}
    seven = [row for row in whole if "[" not in row]
    rows = [
        Line(f"one run of {FULL:,} steps, {stage.folder.name}, seconds: {row}", f"{whole[row]:.0f}")
        for row in sorted(whole)
    ]
    if len(seven) < 7 or not ended.seconds:
        return [stage.line(f"{len(seven)} of 7 methods can be foretold", ended.judge(False)), *rows]
    if not has_digits():
        return [stage.line(f"no digits below {DATA_DIR}: set DATA_DIR", "skipped"), *rows]
    beside = (ended.seconds[0] - sum(long.values())) / len(long)
    minutes = SEEDS * sum(whole[row] + beside for row in seven) / 60
    rows.append(Line(f"beside the training of a run, {stage.folder.name}, seconds", f"{beside:.1f}"))
    return [stage.line(f"{minutes:.1f}", ended.judge(minutes <= float(stage.goal.split()[-1]))), *rows]


def read_races(stage: Stage, ended: Ended) -> list[Line]:
    passed, failed, skipped = junit(stage.folder / "junit.xml")
    good = passed > 0 and not skipped and ended.codes == (0,)
    figure = f"{passed} ran, {len(failed)} failed, {skipped} skipped"
    lines = [stage.line(figure, "fail" if failed else ended.judge(good), failed)]
    path = stage.folder / "races.json"  # not written, or empty, where no race came to its end
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    kept: list[dict[str, Any]] = [timed["extra_info"] for timed in json.loads(text)["benchmarks"]] if text else []
    for race in (race for race in kept if "title" in race):  # one that was cut has none
        for peer, ratio in race["times_as_fast_as"].items():
            least = race["targets"].get(peer)
            asked: tuple[str, Verdict] = (
                ("", "") if least is None else (f">= {least:.2f}", "pass" if ratio >= least else "fail")
            )
            lines.append(Line(f"{race['title']}, beside {peer}", f"{ratio:.2f}", *asked))
    return lines


def read_wall(stage: Stage, ended: Ended) -> list[Line]:
    if sum(record.status == "done" for record in Store(stage.folder / "out").read_all()) < 4:
        return [stage.line("not all runs ended well", ended.judge(False))]
    return [stage.line(f"{ended.seconds[0]:.1f}", "")]
