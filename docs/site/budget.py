"""Tables from results/published/budget: the seven methods at equal passes, and each with the best of eight settings."""

from collections.abc import Callable
from functools import cache
from statistics import mean

from benchmark.core.record import Record
from benchmark.report.figures.learning_curves import lines_of
from benchmark.report.tidy import comparisons, groups, search_rows
from benchmark.runs.records import Records
from docs.site import study
from docs.site.published import PUBLISHED, markdown, records

STUDY = Records(PUBLISHED / "budget")
CURVES = ("erm", "augmix", "randconv")
"""Rows whose accuracy is shown as training goes on."""


@cache
def runs(budget: str) -> dict[str, list[Record]]:
    """The study's runs under that budget, by row; those under `steps` have the settings of a search."""
    return groups.by_row([record for record in STUDY.read_all() if record.asked.budget == budget])


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
        curves = [lines_of(curve, [found[0].asked.source]) for curve in STUDY.curves(found).values()]
        for title, name in (("targets", "targets"), ("source validation", "source")):
            cells = {f"{20 * (i + 1)} %": mean(curve[name][i] for curve in curves) for i in range(5)}
            lines.append(
                {"method": row, "steps": f"{found[0].steps:,}", "accuracy in": title}
                | {at: f"{cell:.1f}" for at, cell in cells.items()}
            )
    return markdown(lines)


def searched() -> str:
    """Each method's best of eight settings, and what the search chose."""
    found = runs("steps")
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


TABLES: dict[str, Callable[[], str]] = {
    "budget-passes": passes,
    "budget-growing": growing,
    "budget-search": searched,
}
