"""python -m tests.perf.estimates: how long runs were said to take, and how long they took, as Markdown.

Runs at the lengths of --steps, by default of every method on minidigits. Each is estimated without any record, then
done, then estimated from the records of the other lengths. Said and taken are whole runs, the map included.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from unittest.mock import Mock

from tabulate import tabulate

from benchmark.core.record import Record
from benchmark.runs import estimate, load
from benchmark.runs.args import Args
from benchmark.runs.engines.local import run_jobs
from benchmark.runs.job import Job
from benchmark.runs.plan import plan
from benchmark.runs.shared import Facts, data_facts
from benchmark.runs.store import Store

METHODS = "all", "sada:weight_map=none"
SOURCES = "a trial", "records of other lengths"
"""What an estimate is made from."""


@dataclass(frozen=True)
class Line:
    """One estimate beside the truth. by: what it was made from."""

    where: str
    row: str
    steps: int
    by: str
    said: float
    taken: float

    @property
    def ratio(self) -> float:
        return self.said / self.taken


def fresh(
    lengths: Sequence[int],
    seed: int,
    methods: Sequence[str] = METHODS,
    dataset: str = "minidigits",
    data_dir: Path | None = None,
) -> list[Line]:
    """Estimates before and after runs that are done here."""
    with tempfile.TemporaryDirectory() as name:
        plans = {
            steps: plan(
                Args(
                    methods=tuple(methods),
                    datasets=(dataset,),
                    data_dir=data_dir,
                    seeds=(seed,),
                    steps=steps,
                    out=Path(name, str(steps)),
                    device="cpu",
                )
            )
            for steps in lengths
        }
        lines, records = [], dict[int, list[Record]]()
        for steps, jobs in plans.items():
            store = Store(Path(name, str(steps)))
            store.prepare()
            for job in jobs:
                said = estimate.of_run(job.asked, facts_of(job), [], job).total
                start = perf_counter()
                run_jobs([job], 1, Mock())
                lines.append(Line(dataset, job.asked.row, steps, SOURCES[0], said, perf_counter() - start))
                record = store.read(job.asked.run_id)
                assert record is not None
                records.setdefault(steps, []).append(record)
                sys.stderr.write(f"{lines[-1]} training {record.ran.seconds:.1f} load {load.average():.1f}\n")
        taken = {(line.row, line.steps): line.taken for line in lines}
        for steps, jobs in plans.items():
            for other in (length for length in lengths if length != steps):
                for job in jobs:
                    said = estimate.of_run(job.asked, facts_of(job), records[other]).total
                    lines.append(Line(dataset, job.asked.row, steps, SOURCES[1], said, taken[job.asked.row, steps]))
    return lines


def facts_of(job: Job) -> Facts:
    asked = job.asked
    return data_facts(asked.dataset, asked.dataset_settings, asked.source, job.data_dir)


def table(lines: Sequence[Line]) -> str:
    """Markdown: a row for each method and length, a column for each source of estimates. Cells: seconds said, and how
    many times the seconds taken that is, from the lowest to the highest; medians where there are several runs."""
    groups: dict[tuple[str, str, int], list[Line]] = {}
    for line in lines:
        groups.setdefault((line.where, line.row, line.steps), []).append(line)
    rows = []
    for key, found in sorted(groups.items()):
        by = [[line for line in found if line.by == source] for source in SOURCES]
        beyond = sum(not 0.5 <= line.ratio <= 2 for line in found)
        rows.append([*key, f"{median(line.taken for line in found):.1f}", *map(cell, by), beyond or ""])
    head = ["data", "row", "steps", "taken s", *SOURCES, "beyond a factor of 2"]
    return tabulate(rows, head, tablefmt="pipe", disable_numparse=True)


def cell(lines: Sequence[Line]) -> str:
    """Empty where nothing was said from this source."""
    if not lines:
        return ""
    ratios = sorted({f"{line.ratio:.2f}" for line in lines}, key=float)
    return f"{median(line.said for line in lines):.1f} ({' to '.join(dict.fromkeys([ratios[0], ratios[-1]]))})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=[20, 150], help="lengths of the runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", nargs="+", default=METHODS, help="as of benchmark.run")
    parser.add_argument("--dataset", default="minidigits")
    parser.add_argument("--data-dir", type=Path)
    args = parser.parse_args()
    before = load.average()
    lines = fresh(args.steps, args.seed, args.methods, args.dataset, args.data_dir)
    beyond = sum(not 0.5 <= line.ratio <= 2 for line in lines)
    sys.stdout.write(f"{table(lines)}\n\n{beyond} of {len(lines)} beyond a factor of two; ")
    sys.stdout.write(f"load {before:.1f} before, {load.average():.1f} after\n")


if __name__ == "__main__":
    main()
