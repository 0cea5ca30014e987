"""Tables from results/published/pacs: the trials behind the length of the PACS runs, and SADA's forms on PACS."""

from collections.abc import Callable
from functools import cache

import pandas as pd

from benchmark.core.record import Record
from benchmark.report.tidy import comparisons
from benchmark.runs.records import Records
from docs.site import study
from docs.site.published import PUBLISHED, markdown, records

TRIALS, FORMS = "erm", ("ERM", "augmix", "AugMix views, 0.025", "AugMix views, 10")
SOURCE, TARGETS = "photo", ("art_painting", "cartoon", "sketch")
"""What the forms train on, and what they are tested on."""
CHANGES = [("weight 0.025 to 10, AugMix views", "AugMix views, 10", "AugMix views, 0.025")]
"""As in study.CHANGES."""


@cache
def beside() -> tuple[Record, ...]:
    """Runs on PACS that are no part of its comparison."""
    return tuple(Records(PUBLISHED / "pacs").read_all())


def lengths() -> str:
    """Accuracy of ERM in its source's validation part after the last step, by length and rate; one seed each."""
    cells: dict[tuple[int, float], dict[str, str]] = {}
    for record in sorted(beside(), key=lambda record: record.asked.source):
        recipe, accuracy = record.asked.recipe, record.accuracy
        if record.asked.method == TRIALS and accuracy is not None:
            line = cells.setdefault((recipe.steps, recipe.lr), {"steps": str(recipe.steps), "rate": f"{recipe.lr:g}"})
            line[record.asked.source] = f"{accuracy.source_val['last']:.1f}"
    return markdown(pd.DataFrame([cells[key] for key in sorted(cells)]))


@cache
def by_form() -> dict[str, list[Record]]:
    """The runs from that source by form."""
    found: dict[str, list[Record]] = {}
    for record in (*records("pacs", "100 steps"), *(r for r in beside() if r.asked.method != TRIALS)):
        if record.asked.source == SOURCE:
            found.setdefault(study.form(record), []).append(record)
    return {name: found[name] for name in FORMS}


def forms() -> str:
    """Forms from one source, and their mean over the targets against ERM's, seed by seed; the table is one family."""
    return study.compared(by_form(), {name: name for name in (*TARGETS, "mean")}, "mean", "ERM", "minus ERM")


def changes() -> str:
    """What one change does to the mean over the targets."""
    return study.changed(CHANGES, {"mean": comparisons.seeds_of(by_form(), "mean")})


TABLES: dict[str, Callable[[], str]] = {"pacs-lengths": lengths, "pacs-forms": forms, "pacs-changes": changes}
