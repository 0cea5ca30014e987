"""Tables from results/published/budget: the seven methods at equal passes, each with the best of eight settings, and
SADA's best setting taken apart."""

from collections.abc import Callable
from functools import cache
from statistics import mean

from benchmark.core.recipe import Selection
from benchmark.core.record import Record
from benchmark.report.figures.learning_curves import lines_of
from benchmark.report.tidy import comparisons, groups, search_rows
from benchmark.runs.records import Records
from docs.site import study
from docs.site.published import PUBLISHED, markdown, records

STUDY = Records(PUBLISHED / "budget")
CURVES = ("erm", "augmix", "randconv")
"""Rows whose accuracy is shown as training goes on."""
WEIGHED, SMALL, FOUND = "sada[lam=1.8]", "sada[step_size=0.0314]", "sada[step_size=0.0314,lam=1.8]"
"""SADA with the weight that the search chose, with its smaller steps, and with both."""
START, VIEWS = "sada[num_steps=0,lam=1.8]", "sada[lam_warmup=1.8,warmup=1.0]"
"""With that weight, and of the attack its random start and brightness alone; and AugMix's views as they are."""
FASTER = " at the rate found"
CHANGES = [
    ("weight 0.025 to 1.8", WEIGHED, "sada"),
    ("weight 0.025 to 1.8, rate found", WEIGHED + FASTER, "sada" + FASTER),
    ("AugMix's views to the attack's random start", START, VIEWS),
    ("from there the ascent", WEIGHED, START),
    ("from there the ascent by steps of 0.031", FOUND, START),
    ("ascent steps 0.08 to 0.031", FOUND, WEIGHED),
    ("ascent steps 0.08 to 0.031, weight 0.025", SMALL, "sada"),
    ("rate and decay, ascent steps 0.031", FOUND + FASTER, FOUND),
    ("rate and decay, SADA's defaults", "sada" + FASTER, "sada"),
    ("rate and decay, ERM", "erm" + FASTER, "erm"),
]
"""One change each: what it is called, and the rows after and before it."""


def kind(record: Record) -> str:
    """Which part of the study a run belongs to: passes, search or parts."""
    return "passes" if record.asked.budget == "passes" else "search" if record.asked.trial else "parts"


@cache
def runs(which: str) -> dict[str, list[Record]]:
    """The runs of a part of the study by row; of `parts`, those at the rate and decay that the search found say so."""

    def name(record: Record) -> str:
        return record.asked.row + FASTER * (which == "parts" and record.asked.recipe.weight_decay > 0)

    return groups.grouped((record for record in STUDY.read_all() if kind(record) == which), name)


def against_erm(found: dict[str, list[Record]], title: str) -> dict[str, dict[str, str]]:
    """By row, ERM first, then the highest mean: the mean over the targets beside ERM's; the rows are one family."""
    values = comparisons.seeds_of(found, "mean")
    order = sorted(values, key=lambda row: (row != "erm", -mean(values[row].values())))
    rows = {row: found[row] for row in order}
    lines = study.against(rows, {title: "mean"}, "mean", "erm", "minus ERM", named="method")
    return {line["method"]: line for line in lines}


def passes() -> str:
    """Equal passes beside equal steps."""
    found = runs("passes")
    short = against_erm(groups.by_row(records("minidigits", "200 steps")), "mean, 200 steps")
    lines = [
        {name: short[row][name] for name in ("method", "mean, 200 steps")}
        | {"minus ERM, 200 steps": short[row]["minus ERM"]}
        | {"steps": f"{found[row][0].steps:,}"}
        | line
        for row, line in against_erm(found, "mean, 3,600 passes").items()
    ]
    return markdown(lines)


def growing() -> str:
    """Accuracy as training goes on: means over the seeds, of the targets and of the source's validation part."""
    lines = []
    for row in CURVES:
        found = runs("passes")[row]
        curves = [
            lines_of(curve, [*curve[0]["test"]], [found[0].asked.source]) for curve in STUDY.curves(found).values()
        ]
        for title, name in (("targets", "targets"), ("source validation", "source")):
            cells = {f"{20 * (i + 1)} %": mean(curve[name][i] for curve in curves) for i in range(5)}
            lines.append(
                {"method": row, "steps": f"{found[0].steps:,}", "accuracy in": title}
                | {at: f"{cell:.1f}" for at, cell in cells.items()}
            )
    return markdown(lines)


def searched() -> str:
    """Each method's best of eight settings, and what the search chose."""
    found = runs("search")
    chosen = {
        search.row: search for search in search_rows.searches([r for rs in found.values() for r in rs], STUDY.trials())
    }
    lines = []
    for row, line in against_erm(found, "mean").items():
        trials = chosen[row].trials
        (best,) = (trial for trial in trials if chosen[row].chosen(trial))
        recipe, settings = best.asked.recipe, chosen[row].settings(best)
        named = f"trial {best.asked.trial.number}" if best.asked.trial else ""
        rate = f"lr {recipe.lr:.2g}, decay {recipe.weight_decay:.2g}"
        lines.append({"method": row, "chosen": ", ".join(filter(None, (named, rate, settings)))} | line)
    return markdown(lines)


def parts() -> str:
    """Forms of SADA at the protocol's rate, and beside it at the rate and decay found."""
    found = runs("parts")
    usual = against_erm({row: found[row] for row in found if FASTER not in row}, "mean")
    faster = against_erm({row.removesuffix(FASTER): found[row] for row in found if FASTER in row}, "mean")
    shown = ("mean", "minus ERM", "95 %, all at once", "p (Holm)")
    kept = {row: {f"{name}, rate found": line[name] for name in shown} for row, line in faster.items()}
    return markdown(
        [{**{k: v for k, v in line.items() if k != "n"}, **kept[row], "n": line["n"]} for row, line in usual.items()]
    )


def parts_changed() -> str:
    """What each change does, with the selected networks and with those of the last step."""
    rules: dict[str, Selection] = {"selected": "source-val", "last step": "last"}
    return study.changed(
        CHANGES, {title: comparisons.seeds_of(runs("parts"), "mean", rule) for title, rule in rules.items()}
    )


TABLES: dict[str, Callable[[], str]] = {
    "budget-passes": passes,
    "budget-growing": growing,
    "budget-search": searched,
    "budget-parts": parts,
    "budget-changes": parts_changed,
}
