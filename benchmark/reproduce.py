"""python -m benchmark.reproduce: compares rows of the strict protocol with the numbers that papers print.

results/paper.json names the published figures to compare with. For each the report has ours, the printed one, the
difference, and a verdict. Around the printed figure lies a band: twice the printed standard deviation or, if none was
printed, `band` points. Inside, outside: our whole 95 % interval lies there. Mean inside, mean outside: our mean does,
and the interval reaches over an edge of the band, or equal seeds give none. Data missing: runs ended, without this
target's files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from benchmark import flags, protocols, registry, run
from benchmark.core.errors import UsageError, did_you_mean
from benchmark.core.record import Record, canonical_json
from benchmark.report.people.cells import interval
from benchmark.report.tidy import groups, paper
from benchmark.report.tidy.stats import LEAST_SEEDS, Estimate
from benchmark.runs.command_line import arguments, program, quoted
from benchmark.runs.ending import explained, leave
from benchmark.runs.store import Store

ALL = "all"
SEEDS = (0, 1, 2, 3, 4)
ROUNDING = 0.06
"""Points within which two printed figures are one, rounded to one decimal or to two."""
Verdict = Literal["inside", "mean inside", "mean outside", "outside", "too few seeds", "data missing", "not run"]


@dataclass(frozen=True)
class Figure:
    """One published number and ours. band: points by which the two may differ. ours: None where there is none."""

    method: str
    dataset: str
    source: str
    target: str
    published: float
    band: float
    read: tuple[str, ...]
    """Where it was read and how sure that is."""
    ours: Estimate | None
    runs: tuple[str, ...]
    seeds: int
    """Seeds that ran to the end, with or without the data of this target."""
    left_out: int = 0
    """Other runs under the strict protocol: of another recipe, settings, budget or images, or of a seed twice."""

    @property
    def place(self) -> tuple[str, str, str, str]:
        return self.method, self.dataset, self.source, self.target

    @property
    def verdict(self) -> Verdict:
        if self.ours is None:
            return "data missing" if self.seeds else "not run"
        if self.ours.n < LEAST_SEEDS:
            return "too few seeds"
        low, high = self.published - self.band, self.published + self.band
        inside = low <= self.ours.mean <= high
        if self.ours.low is None or self.ours.high is None:
            return "mean inside" if inside else "mean outside"
        if inside:
            return "inside" if low <= self.ours.low and self.ours.high <= high else "mean inside"
        return "outside" if self.ours.low > high or self.ours.high < low else "mean outside"


def figures(records: Sequence[Record], papers: paper.Papers, methods: Sequence[str]) -> list[Figure]:
    """Every published figure of these methods that the strict protocol is held against. Figures that several papers
    print, equal except for rounding, are one. Of a seed that was run twice, the run that ended last and has the target
    counts."""
    found: list[Figure] = []
    for row in papers.published:
        if not row.strict or row.method not in methods:
            continue
        place = (row.method, row.dataset, row.source)
        strict = [r for r in records if r.asked.protocol == "strict" and place_of(r) == place and r.accuracy]
        released = _of_one_data(sorted(filter(as_released, strict), key=lambda r: r.ran.ended))
        left_out = len(strict) - len({r.asked.seed for r in released})
        read = ", ".join(part for part in (row.paper, row.where, row.evidence) if part)
        for target, theirs in row.accuracy.items():
            band = 2 * row.sd[target] if target in row.sd else papers.band
            last = {r.asked.seed: r for r in released if paper.value(r, target) is not None}
            ours, used = paper.ours([last[seed] for seed in sorted(last)], target) or (None, [])
            seeds = len({r.asked.seed for r in released})
            figure = Figure(*place, target, theirs, band, (read,), ours, tuple(used), seeds, left_out)
            twin = next((f for f in found if f.place == figure.place and abs(f.published - theirs) <= ROUNDING), None)
            if twin:
                found[found.index(twin)] = replace(twin, read=(*twin.read, read))
            else:
                found.append(figure)
    return sorted(found, key=lambda f: (f.dataset, f.method, f.source, f.target != "mean", f.target, f.published))


def _of_one_data(runs: Sequence[Record]) -> list[Record]:
    """Those on the same images: of several fingerprints the one with the most targets, then the most seeds, of equal
    ones the latest."""
    last_first = groups.grouped(reversed(runs), lambda record: record.asked.fingerprint)
    kept = max(last_first.values(), key=lambda same: (_tested(same[0]), len({r.asked.seed for r in same})), default=[])
    return kept[::-1]


def _tested(record: Record) -> int:
    """In how many domains a run was tested; others lacked their images."""
    return sum(domain.missing is None for domain in record.accuracy.domains.values()) if record.accuracy else 0


def place_of(record: Record) -> tuple[str, str, str]:
    return record.asked.method, record.asked.dataset, record.asked.source


def as_released(record: Record) -> bool:
    """Whether a run under the strict protocol has all that the protocol says; the map's images move no accuracy."""
    asked = record.asked
    recipe, settings, data = protocols.recipe_for("strict", asked.method, asked.dataset)
    recipe = recipe.model_copy(update={"sensitivity_images": asked.recipe.sensitivity_images})
    return (
        (asked.recipe, asked.budget, asked.trial) == (recipe, "steps", None)
        and _same(asked.settings, registry.make("method", asked.method, settings).settings())
        and _same(asked.dataset_settings, registry.make("dataset", asked.dataset, data).settings())
    )


def _same(recorded: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Whether a record holds these settings: what is a tuple here is a list there."""
    return canonical_json(recorded) == canonical_json(settings)


def report(found: Sequence[Figure], papers: paper.Papers, *, brief: bool = False) -> str:
    """The report as text: a block for each method, dataset and source; if brief, a line for those without runs."""
    lines, unseen = [], []
    for (dataset, method, source), members in groups.grouped(found, lambda f: (f.dataset, f.method, f.source)).items():
        if brief and not members[0].seeds and not members[0].left_out:
            unseen.append(f"  {method} on {dataset}, source {source}: printed {_printed(members)}")
            continue
        lines.append(f"{method} on {dataset}, source {source}")
        lines.append(
            f"  {'target':<24} {'ours':>16} {'95 %':>14} {'printed':>7} {'difference':>10} {'band':>5}  verdict"
        )
        for f in members:
            sd = f" ± {f.ours.sd:.1f}" if f.ours and f.ours.sd is not None else ""
            ours = f"{f.ours.mean:.1f}{sd} ({f.ours.n})" if f.ours else "–"
            off = f"{f.ours.mean - f.published:+.1f}" if f.ours else "–"
            around = interval(f.ours.low, f.ours.high) if f.ours else "–"
            numbers = f"{ours:>16} {around:>14} {f.published:>7.2f} {off:>10} {f.band:>5.1f}"
            lines.append(f"  {f.target:<24} {numbers}  {f.verdict}")
        lines += [f"  read in: {text}" for text in dict.fromkeys(read for f in members for read in f.read)]
        lines += [f"  known cause: {text}" for text in papers.causes.get(f"{method}@{dataset}", [])]
        if members[0].left_out:
            lines.append(
                f"  left out: {members[0].left_out} runs with settings or images of their own, or of a seed twice"
            )
        lines.append("")
    if unseen:
        lines += ["not run (--method NAME shows all figures, and where they were read):", *unseen, ""]
    return "\n".join(lines)


def _printed(members: Sequence[Figure]) -> str:
    """The first figure, the mean if there is one, and how many more there are."""
    more = f", and {len(members) - 1} more" if len(members) > 1 else ""
    return f"{members[0].target} {members[0].published:.2f}{more}"


Args = flags.Reproduce


def commands(found: Sequence[Figure], args: Args) -> list[list[str]]:
    """Arguments of benchmark.run that make what the figures lack seeds for. What lacks data alone is not among them."""
    lacking = {(f.method, f.dataset, f.source) for f in found if (f.ours.n if f.ours else f.seeds) < len(SEEDS)}
    folder = ["--data-dir", str(args.data_dir)] if args.data_dir else []
    return [
        [
            *("--protocol", "strict", "--methods", method, "--datasets", dataset, "--sources", source),
            *("--seeds", *map(str, SEEDS), "--out", str(args.out), *folder),
        ]
        for method, dataset, source in sorted(lacking)
    ]


@explained()
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 none outside, as far as can be said, 1 some outside or a run failed, 2 bad usage, or a
    row that could not be run; 130 and 143 when stopped."""
    args: Args = arguments(Args, argv, program("reproduce"))
    papers, store = paper.published_numbers(), Store(args.out)
    printed = dict.fromkeys(p.method for p in papers.published if p.strict)
    allowed = [*printed, ALL]
    if not args.method:
        raise UsageError("--method: name at least one")
    for name in args.method:
        if name not in allowed:
            raise UsageError(f"--method {name}: no published figure under strict; {did_you_mean(name, allowed)}")
    methods = tuple(printed) if ALL in args.method else args.method
    found = figures(store.read_all(), papers, methods)
    todo = commands(found, args)
    if not args.run and not args.out.is_dir():
        raise UsageError(f"--out {args.out}: no such folder; with --run the missing runs are made there")
    worst = 0
    if args.run:
        for words in todo:
            code = run.main(words)
            if code > 2:  # Ctrl-C or SIGTERM: the next row is not begun
                return code
            worst = max(worst, code)  # 2: its images are missing, and others may be there
        found = figures(store.read_all(), papers, methods)
        todo = commands(found, args) if worst else []
    if not any(figure.seeds for figure in found):
        print(f"{args.out}: no strict run of these methods, as released, has ended there; --out names another folder\n")
    print(report(found, papers, brief=ALL in args.method))
    for words in todo:
        known = words[5] in registry.names("dataset")
        unsaid = known and not args.data_dir and registry.find("dataset", words[5]).needs_files
        more = " --data-dir DIR" if unsaid else "" if known else "  # this version has no such dataset"
        print(f"to run what is missing: {program('run')} {' '.join(map(quoted, words))}{more}")
    return worst or int(any(f.verdict == "outside" for f in found))


if __name__ == "__main__":
    leave(main)
