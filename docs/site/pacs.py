"""Tables of PACS beside its comparison: trials behind the length of the runs, SADA's forms, AugMix with new seeds."""

from collections.abc import Callable, Sequence
from functools import cache
from statistics import fmean

from scipy import stats

from benchmark.core.recipe import Selection
from benchmark.core.record import Record
from benchmark.report.people.cells import interval, p_text
from benchmark.report.people.comparison_tables import told
from benchmark.report.tidy import comparisons, groups, targets
from benchmark.report.tidy.campaigns import campaigns
from benchmark.report.tidy.stats import ALPHA, Seeds, compare_pairs
from benchmark.runs.records import Records
from docs.site import study
from docs.site.published import PUBLISHED, markdown, over_seeds, records

CLEAN = "clean_statistics"
"""docs/findings/clean_statistics.py: RandConv, tested with BatchNorm statistics of source images."""
FORMS = (
    "ERM",
    "augmix",
    *(f"{views}, {weight}" for views in study.WEIGHED for weight in (0.025, 10)),
)
SOURCE, TARGETS = "photo", ("art_painting", "cartoon", "sketch")
"""What the forms train on, and what they are tested on."""
LOOK, MOST = 10, 14
"""The planned seeds were looked at before the first of these; the second is the first that was not planned."""
TAKEN = "100 0.02"
"""Steps and rate of the comparison."""
CHANGES = [change for change in study.CHANGES if {*change[1:]} <= {*FORMS}]
"""Those of the study whose forms were run here."""


@cache
def beside() -> dict[str, list[Record]]:
    """Runs on PACS that are no part of its comparison: the trials of a length, the study of BatchNorm's statistics, and
    SADA's forms."""
    found: dict[str, list[Record]] = {"lengths": [], "statistics": [], "forms": []}
    for record in Records(PUBLISHED / "pacs").read_all():
        alone = record.asked.method in SHOWN
        trial = alone and record.asked.recipe.evaluations > 1
        found["lengths" if trial else "statistics" if alone else "forms"].append(record)
    return found


def lengths() -> str:
    """Accuracy of ERM in its source's validation part after the last step, by length and rate, and its mean over the
    sources against that of the published runs, seed by seed; the differences are one family."""
    lines, means = dict[str, dict[str, str]](), dict[str, Seeds]()
    sources = sorted({run.asked.source for run in beside()["lengths"]})
    trials = groups.grouped(beside()["lengths"], lambda run: (run.asked.recipe.steps, run.asked.recipe.lr))
    for (steps, rate), runs in sorted(trials.items()):
        reached = {source: in_domain([run for run in runs if run.asked.source == source], "last") for source in sources}
        every = set.intersection(*({*seeds} for seeds in reached.values()))
        name = f"{steps} {rate:g}"
        means[name] = {seed: fmean(seeds[seed] for seeds in reached.values()) for seed in every}
        lines[name] = {"steps": str(steps), "rate": f"{rate:g}"}
        lines[name] |= {source: over_seeds(seeds) for source, seeds in reached.items()}
        lines[name] |= {"mean": over_seeds(means[name]), "n": str(max(map(len, reached.values())))}
    pairs = {pair.row: told(pair) for pair in compare_pairs(means, [(name, TAKEN) for name in means if name != TAKEN])}
    for name, line in lines.items():
        pair = pairs.get(name, {})
        line |= {"minus those taken": pair.get("difference", "–")}
        line |= {"95 %, all at once": pair.get("95 %, all at once", "–")}
    return markdown([*lines.values()])


@cache
def by_form() -> dict[str, list[Record]]:
    """The runs from that source by form."""
    every = (*records("pacs", "100 steps"), *beside()["forms"])
    found = groups.grouped((each for each in every if each.asked.source == SOURCE), study.form)
    return {name: found[name] for name in FORMS}


def forms() -> str:
    """Forms from one source, and their mean over the targets against ERM's, seed by seed; the table is one family."""
    return study.compared(by_form(), {name: name for name in (*TARGETS, "mean")}, "mean", "ERM", "minus ERM")


def changes() -> str:
    """What one change does to the mean over the targets."""
    return study.changed(CHANGES, {"mean": comparisons.seeds_of(by_form(), "mean")})


def statistics() -> str:
    """RandConv with BatchNorm statistics of its views and of source images, beside ERM: accuracy on the source and, as
    a mean, on the targets. All on one processor; differences are one family."""
    runs = groups.by_row(beside()["statistics"])
    lines, means = [], dict[tuple[str, str], Seeds]()
    for source in sorted({record.asked.source for record in runs[CLEAN]}):
        there = {row: [record for record in runs[row] if record.asked.source == source] for row in SHOWN}
        means |= {(source, row): values for row, values in comparisons.seeds_of(there, "mean").items()}
        lines.append(
            {"from": source}
            | {f"source, {SHOWN[row]}": over_seeds(in_domain(found)) for row, found in there.items()}
            | {f"targets, {SHOWN[row]}": over_seeds(means[source, row]) for row in there}
            | {"n": str(len(there[CLEAN]))}
        )
    named = {" ".join(key): values for key, values in means.items()}
    pairs = compare_pairs(named, [(f"{line['from']} {CLEAN}", f"{line['from']} randconv") for line in lines])
    for line, pair in zip(lines, map(told, pairs), strict=True):
        line |= {"targets, change": pair["difference"], "95 %, all at once": pair["95 %, all at once"]}
    return markdown(lines)


def in_domain(runs: Sequence[Record], rule: Selection | None = None) -> Seeds:
    """Percent in the source domain by seed, under a selection rule; None is the recipe's own."""
    return {r.asked.seed: targets.reached(r, rule or r.asked.recipe.selection)[r.asked.source] for r in runs}


def again() -> str:
    """AugMix minus ERM over the sources with seeds that were planned for it: those before the look, those after it, and
    all, with an interval for two looks and a test that does not take differences for normal."""
    (campaign,) = campaigns(records("pacs", "100 steps", folder="pacs_again"))
    over = campaign.over("mean")
    gains = {seed: over["augmix"][seed] - over["erm"][seed] for seed in sorted(over["augmix"])}
    lines = []
    for name, part in (("before the look", range(LOOK)), ("after it", range(LOOK, MOST)), ("all", range(MOST))):
        values = [gain for seed, gain in gains.items() if seed in part]
        test = stats.ttest_1samp(values, 0.0)
        low, high = test.confidence_interval(1 - ALPHA / 2)
        lines.append(
            {"seeds": name, "AugMix minus ERM, each": ", ".join(f"{gain:+.1f}" for gain in values)}
            | {
                "mean": f"{fmean(values):+.1f}",
                "97.5 %": interval(float(low), float(high)),
                "p": p_text(float(test.pvalue)),
            }
            | {"p, ranks": p_text(float(stats.wilcoxon(values).pvalue))}
        )
    return markdown(lines)


SHOWN = {"erm": "ERM", "randconv": "RandConv", CLEAN: "RandConv, source statistics"}
TABLES: dict[str, Callable[[], str]] = {
    "pacs-lengths": lengths,
    "pacs-forms": forms,
    "pacs-changes": changes,
    "pacs-statistics": statistics,
    "pacs-again-seeds": again,
}
