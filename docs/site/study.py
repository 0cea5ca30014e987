"""The tables of docs/findings/sada.md."""

from collections.abc import Callable
from functools import cache, partial

import numpy as np

from benchmark.core.record import Record
from benchmark.report.people.cells import spread
from benchmark.report.people.comparison_tables import told
from benchmark.report.tidy import comparisons, groups
from benchmark.report.tidy.stats import Seeds, compare, compare_pairs
from benchmark.runs.records import Records
from benchmark.training import artifacts
from docs.site.published import PUBLISHED, markdown, over_seeds

STUDY = Records(PUBLISHED / "mnist_m")
"""The runs of docs/plans/mnist_m.toml, which docs/findings/ is about: forms taken apart, no advice what to use."""
TARGETS = {"MNIST-M": "mnist_m", "USPS": "usps"}
WEIGHED = ("AugMix views", "attacked, batch_max", "attacked, image_max")
BEHIND = {"erm": "ERM", "augmix": "augmix", "views": "AugMix views, 10", "sada": "SADA as released"}
LOADED = {(True, True): "authors' loader", (True, False): "their jitter alone", (False, True): "their filter alone"}
PARTS = {
    "brightness=false,inverts=none": "their contrast alone",
    "contrast=false,inverts=none": "their brightness alone",
    "brightness=false": "their filter and contrast",
    "contrast=false": "their filter and brightness",
    "jitters=inverted": "their filter, jitter on its images alone",
    "jitters=others": "their filter, jitter on the others alone",
    "brightness=false,contrast=false,inverts=negative": "negative alone",
    "inverts=negative": "negative and their jitter",
}
"""Settings of docs/findings/loader_parts.py, in words."""
FORMS = {
    "loader": ["ERM", *(f"ERM, {part}" for part in LOADED.values()), "SADA as released",
               "SADA as released, authors' loader", "AugMix views, 10", "AugMix views, 10, authors' loader"],
    "sada": ["ERM", "SADA as released", *(f"{views}, {weight}" for views in WEIGHED for weight in (0.025, 10))],
    "parts": ["ERM", *(f"ERM, {name}" for name in (*LOADED.values(), *PARTS.values()))],
    "long": ["ERM", "ERM, authors' loader"],
    "augmix": ["ERM", "augmix", "augmix[ops=all]", "augmix[severity=10.0]", "augmix[jsd=false]",
               "augmix, authors' loader"],
    "randconv": ["ERM", "randconv", "randconv[views=independent]", "randconv[views=clean]"],
}  # fmt: skip
"""Rows of the study's tables."""
CHANGES = [
    ("authors' loader before ERM", "ERM, authors' loader", "ERM"),
    ("authors' loader before SADA as released", "SADA as released, authors' loader", "SADA as released"),
    ("with it, SADA as released against ERM", "SADA as released, authors' loader", "ERM, authors' loader"),
    ("with it, AugMix views and weight 10 against ERM", "AugMix views, 10, authors' loader", "ERM, authors' loader"),
    *((f"weight 0.025 to 10, {views}", f"{views}, 10", f"{views}, 0.025") for views in WEIGHED),
    *((f"attack of the AugMix views, weight {w}", f"{WEIGHED[1]}, {w}", f"{WEIGHED[0]}, {w}") for w in (0.025, 10)),
    *((f"batch_max to image_max, weight {w}", f"{WEIGHED[2]}, {w}", f"{WEIGHED[1]}, {w}") for w in (0.025, 10)),
]
"""One change each: what it is called, and the forms after and before it."""
FILTERED, INVERTED = "ERM, their filter alone", "ERM, negative alone"
PART_CHANGES = [
    ("jitter on all images", "ERM, authors' loader", FILTERED),
    ("jitter on the filtered images alone", "ERM, their filter, jitter on its images alone", FILTERED),
    ("jitter on the other images alone", "ERM, their filter, jitter on the others alone", FILTERED),
    ("jitter of brightness alone", "ERM, their filter and brightness", FILTERED),
    ("jitter of contrast alone", "ERM, their filter and contrast", FILTERED),
    ("a negative instead of the filter", INVERTED, FILTERED),
    ("a negative instead of the filter, both with jitter", "ERM, negative and their jitter", "ERM, authors' loader"),
    ("jitter and filter, against the sum of their gains", "ERM, authors' loader", f"{FILTERED} + jitter"),
    ("jitter and negative, against the sum of their gains", "ERM, negative and their jitter", f"{INVERTED} + jitter"),
]
"""The same for the parts of the loader, from the filter alone where the name does not say otherwise."""


def form(record: Record) -> str:
    """What a run of the study trains with, in words, if it is SADA's: the views of its consistency term, the term's
    weight, and the loader; the row of any other."""
    asked, given = record.asked, record.asked.settings
    if asked.method == "sada_loader":
        return f"{BEHIND[given['trains']]}, {LOADED[given['jitter'], given['inverted']]}"
    if asked.method == "loader_parts":
        return f"ERM, {PARTS[asked.variant]}"
    if asked.method != "sada":
        return "ERM" if asked.row == "erm" else asked.row
    if 0 < given["warmup"] < 1:
        return "SADA as released"
    views = "AugMix views" if given["warmup"] else f"attacked, {given['recon_norm']}"
    return f"{views}, {given['lam_warmup' if given['warmup'] else 'lam']:g}"


@cache
def by_form(length: str = "500 steps") -> dict[str, list[Record]]:
    """The study's runs of one length by form."""
    return groups.grouped((each for each in STUDY.read_all() if comparisons.length(each.asked) == length), form)


def forms(which: str, versus: str, length: str = "500 steps") -> str:
    """Forms on both targets, and MNIST-M against one of them, seed by seed; the table is one family."""
    rows = {name: by_form(length)[name] for name in FORMS[which]}
    return compared(rows, TARGETS, "mnist_m", versus, f"MNIST-M minus {versus}")


def compared(rows: dict[str, list[Record]], shown: dict[str, str], judged: str, versus: str, title: str) -> str:
    """The table of `against`."""
    return markdown(against(rows, shown, judged, versus, title))


def against(
    rows: dict[str, list[Record]],
    shown: dict[str, str],
    judged: str,
    versus: str,
    title: str,
    named: str = "what trains",
) -> list[dict[str, str]]:
    """Lines of rows with some measures (targets.measures) by their titles, and one measure of each against that of a
    row, seed by seed; they are one family. named: the heading of the rows' names."""
    seeds = {name: comparisons.seeds_of(rows, measure) for name, measure in shown.items()}
    values = comparisons.seeds_of(rows, judged)
    pairs = {pair.row: told(pair) for pair in compare(values, versus)}
    lines = []
    for row in rows:
        pair = pairs.get(row, {})
        lines.append(
            {named: row}
            | {name: over_seeds(found[row]) for name, found in seeds.items()}
            | {title: pair.get("difference", "–")}
            | {name: pair.get(name, "–") for name in ("95 %, all at once", "p (Holm)")}
            | {"n": pair.get("n", str(len(values[row])))}
        )
    return lines


def one_change(changes: list[tuple[str, str, str]]) -> str:
    """What each change does on both targets."""
    targets = {title: comparisons.seeds_of(by_form(), target) for title, target in TARGETS.items()}
    return changed(changes, {title: with_sums(seeds) for title, seeds in targets.items()})


def changed(changes: list[tuple[str, str, str]], measures: dict[str, dict[str, Seeds]]) -> str:
    """What each change does, all else equal, seed by seed; for each measure, by its title, they are one family."""
    lines: list[dict[str, str]] = [{"one change": name} for name, _, _ in changes]
    for title, seeds in measures.items():
        pairs = compare_pairs(seeds, [(after, before) for _, after, before in changes])
        for line, pair in zip(lines, map(told, pairs), strict=True):
            line |= {
                title: pair["difference"],
                f"{title}, 95 %, all at once": pair["95 %, all at once"],
                f"{title}, p (Holm)": pair["p (Holm)"],
                "n": pair["n"],
            }
    return markdown(lines)


def with_sums(seeds: dict[str, Seeds]) -> dict[str, Seeds]:
    """And what ERM would reach, seed by seed, with the gains of a part of the loader and of the jitter added up."""
    bare, jittered = seeds["ERM"], seeds["ERM, their jitter alone"]
    added = {
        f"{row} + jitter": {seed: value + jittered[seed] - bare[seed] for seed, value in seeds[row].items()}
        for row in (FILTERED, INVERTED)
    }
    return seeds | added


def brightness() -> str:
    """The mean pixel of the images in the pictures of views: mean ± sd over runs. The first strip is of the source."""
    lines = []
    for row in [*FORMS["sada"][1:], "augmix", "ERM, authors' loader"]:
        pictures = STUDY.views(by_form()[row])
        means = {run: [float(np.mean(strip)) / 255 for strip in artifacts.strips(png)] for run, png in pictures.items()}
        source = spread({run: strips[0] for run, strips in means.items()}, "", 2).text
        views = spread({run: float(np.mean(strips[1:])) for run, strips in means.items()}, "", 2).text
        lines.append({"what trains": row, "source images": source, "what is made of them": views, "n": len(means)})
    return markdown(lines)


TABLES: dict[str, Callable[[], str]] = {
    "sada-loader": partial(forms, "loader", "ERM"),
    "sada-loader-long": partial(forms, "long", "ERM", "10000 steps"),
    "sada-loader-parts": partial(forms, "parts", "ERM"),
    "sada-loader-changes": partial(one_change, PART_CHANGES),
    "sada-forms": partial(forms, "sada", "ERM"),
    "sada-changes": partial(one_change, CHANGES),
    "sada-brightness": brightness,
    "augmix-forms": partial(forms, "augmix", "augmix"),
    "randconv-forms": partial(forms, "randconv", "randconv"),
}
