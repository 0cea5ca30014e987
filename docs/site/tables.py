"""`make published`: fills the tables of README.md and docs/ from the records of results/published.

A document says where a table goes by two comments, `<!-- table NAME -->` and `<!-- end -->`. What is between them is
written here and nowhere else; tests/test_readme.py holds the documents against the records.
"""

import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmark.core.record import Record
from benchmark.report.people.cells import spread
from benchmark.report.people.comparison_tables import told
from benchmark.report.people.summaries import DETAILS, summarise
from benchmark.report.tidy import comparisons
from benchmark.report.tidy.groups import by_row
from benchmark.report.tidy.rows import sensitivity_rows, throughput_rows
from benchmark.report.tidy.stats import compare, compare_pairs
from benchmark.runs.records import Records
from benchmark.training import artifacts

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT / "results" / "published"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PLACE = re.compile(r"(<!-- table (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


@cache
def records(dataset: str, *lengths: str) -> tuple[Record, ...]:
    """The records of one dataset and some lengths."""
    return tuple(r for r in everything() if r.asked.dataset == dataset and comparisons.length(r) in lengths)


@cache
def everything() -> list[Record]:
    return Records(PUBLISHED).read_all()


def markdown(cells: pd.DataFrame) -> str:
    return str(cells.to_markdown(index=False, disable_numparse=True))


def accuracy(dataset: str, length: str, *, rows: Callable[[str], bool] = lambda row: True) -> str:
    """Accuracy beside cost. rows: which rows are shown, by name."""
    shown = summarise([r for r in records(dataset, length) if rows(r.asked.row)], {})
    (found,), (cost,) = shown["accuracy"], shown["throughput"]
    cells = found.cells.drop(columns=["worst", *DETAILS, "runs"])
    speed, passes = (cost.cells.set_index("method")[name] for name in ("relative to ERM", "passes/image"))
    for title, column in (("passes", passes), ("images/s, ERM = 1", speed)):
        cells.insert(len(cells.columns) - 1, title, [column[method] for method in cells["method"]])
    return markdown(cells)


def versus(dataset: str, length: str, keep: Callable[[str, str], bool]) -> str:
    """Differences of the mean. keep: which pairs of a row and what it is compared with."""
    (shown,) = summarise(records(dataset, length), {})["differences"]
    lines = [line for line in shown.lines if keep(line.label, line.cells["versus"].text)]
    return markdown(replace(shown, lines=lines).cells.drop(columns=["more seeds to settle", "runs"]))


def sources(dataset: str, length: str) -> str:
    """What rows reach over all sources."""
    (shown,) = summarise(records(dataset, length), {})["sources"]
    return markdown(shown.cells.drop(columns=["mean, 95 %", "runs"]))


def map_and_cost(dataset: str, length: str) -> str:
    """Sensitivity maps and cost over all sources: means within a seed, then over seeds."""
    runs = records(dataset, length)
    maps, speed = sensitivity_rows(runs, Records(PUBLISHED).maps(runs)), throughput_rows(runs)
    lines = []
    for row, members in by_row(runs).items():
        ids = [run.run_id for run in members]
        errors = maps[maps["run_id"].isin(ids)].pivot_table("error_rate", "seed", "band")
        cells = [over_seeds(errors[band].to_dict(), 2) for band in BANDS]
        passes, relative = speed[speed["run_id"].isin(ids)][["passes_per_image", "relative_to_erm"]].mean()
        lines.append([row, *cells, f"{passes:.2f}", f"{relative:.2f}", len(errors)])
    named = [f"error, {name}" for name in BANDS.values()]
    return markdown(pd.DataFrame(lines, columns=["method", *named, "passes", "images/s, ERM = 1", "n"]))


BANDS = {"clean_error": "no wave", "low": "low", "mid": "mid", "high": "high", "mean": "all waves"}


def is_variant(row: str) -> bool:
    return "[" in row and row != "sada[weight_map=none]"


STUDY = Records(PUBLISHED / "mnist_m")
"""The runs of docs/plans/mnist_m.toml, which docs/findings/ is about: forms taken apart, no advice what to use."""
WEIGHED = ("AugMix views", "attacked, batch_max", "attacked, image_max")
BEHIND = {"erm": "ERM", "augmix": "augmix", "views": "AugMix views, 10", "sada": "SADA as released"}
LOADED = {(True, True): "authors' loader", (True, False): "their jitter alone", (False, True): "their filter alone"}
FORMS = {
    "loader": ["ERM", *(f"ERM, {part}" for part in LOADED.values()), "SADA as released",
               "SADA as released, authors' loader", "AugMix views, 10", "AugMix views, 10, authors' loader"],
    "sada": ["ERM", "SADA as released", *(f"{views}, {weight}" for views in WEIGHED for weight in (0.025, 10))],
    "augmix": ["ERM", "augmix", "augmix[ops=all]", "augmix[severity=10.0]", "augmix[jsd=false]",
               "augmix, authors' loader"],
    "randconv": ["ERM", "randconv", "randconv[views=independent]", "randconv[views=clean]"],
}  # fmt: skip
"""Rows of the study's tables."""
CHANGES = [
    ("authors' loader before ERM", "ERM, authors' loader", "ERM"),
    ("authors' loader before SADA as released", "SADA as released, authors' loader", "SADA as released"),
    ("behind it, SADA as released against ERM", "SADA as released, authors' loader", "ERM, authors' loader"),
    ("behind it, AugMix views and weight 10 against ERM", "AugMix views, 10, authors' loader", "ERM, authors' loader"),
    *((f"weight 0.025 to 10, {views}", f"{views}, 10", f"{views}, 0.025") for views in WEIGHED),
    *((f"attack of the AugMix views, weight {w}", f"{WEIGHED[1]}, {w}", f"{WEIGHED[0]}, {w}") for w in (0.025, 10)),
    *((f"batch_max to image_max, weight {w}", f"{WEIGHED[2]}, {w}", f"{WEIGHED[1]}, {w}") for w in (0.025, 10)),
]
"""One change each: what it is called, and the forms after and before it."""


def form(record: Record) -> str:
    """What a run of the study trains with, in words, if it is SADA's: the views of its consistency term, the term's
    weight, and the loader; the row of any other."""
    asked, given = record.asked, record.asked.settings
    if asked.method == "sada_loader":
        return f"{BEHIND[given['trains']]}, {LOADED[given['jitter'], given['inverted']]}"
    if asked.method != "sada":
        return "ERM" if asked.row == "erm" else asked.row
    if 0 < given["warmup"] < 1:
        return "SADA as released"
    views = "AugMix views" if given["warmup"] else f"attacked, {given['recon_norm']}"
    return f"{views}, {given['lam_warmup' if given['warmup'] else 'lam']:g}"


@cache
def study() -> dict[str, list[Record]]:
    """The runs of the study by form."""
    found: dict[str, list[Record]] = {}
    for record in STUDY.read_all():
        found.setdefault(form(record), []).append(record)
    return found


def forms(which: str, versus: str) -> str:
    """Forms on both targets, and MNIST-M against one of them, seed by seed; the table is one family."""
    rows = {name: study()[name] for name in FORMS[which]}
    mnist_m, usps = (comparisons.seeds_of(rows, target) for target in ("mnist_m", "usps"))
    pairs = {pair.row: told(pair) for pair in compare(mnist_m, versus)}
    lines = []
    for row in rows:
        against = pairs.get(row, {})
        lines.append(
            {"what trains": row, "MNIST-M": over_seeds(mnist_m[row]), "USPS": over_seeds(usps[row])}
            | {f"MNIST-M minus {versus}": against.get("difference", "–")}
            | {name: against.get(name, "–") for name in ("95 %, all at once", "p (Holm)")}
            | {"n": len(mnist_m[row])}
        )
    return markdown(pd.DataFrame(lines))


def over_seeds(values: Mapping[Any, float], digits: int = 1) -> str:
    """Mean ± sd of values by seed."""
    return spread({str(seed): value for seed, value in values.items()}, "–", digits).text


def one_change() -> str:
    """What each of CHANGES does, all else equal, seed by seed; for each target they are one family."""
    lines: list[dict[str, str]] = [{"one change": name} for name, _, _ in CHANGES]
    for target, title in (("mnist_m", "MNIST-M"), ("usps", "USPS")):
        pairs = compare_pairs(comparisons.seeds_of(study(), target), [(after, before) for _, after, before in CHANGES])
        for line, pair in zip(lines, map(told, pairs), strict=True):
            line |= {
                title: pair["difference"],
                f"{title}, 95 %, all at once": pair["95 %, all at once"],
                "n": pair["n"],
            }
    return markdown(pd.DataFrame(lines))


def brightness() -> str:
    """The mean pixel of the images in the pictures of views: mean ± sd over runs. The first strip is of the source."""
    lines = []
    for row in [*FORMS["sada"][1:], "augmix", "ERM, authors' loader"]:
        pictures = STUDY.views(study()[row])
        means = {run: [float(np.mean(strip)) / 255 for strip in artifacts.strips(png)] for run, png in pictures.items()}
        source = spread({run: strips[0] for run, strips in means.items()}, "", 2).text
        views = spread({run: float(np.mean(strips[1:])) for run, strips in means.items()}, "", 2).text
        lines.append({"what trains": row, "source images": source, "what is made of them": views, "n": len(means)})
    return markdown(pd.DataFrame(lines))


def speed() -> str:
    """The newest file of `make perf`: ours beside its peers."""
    newest = max((PUBLISHED / "perf").glob("[0-9]*.json"))
    rows = []
    for info in (timed["extra_info"] for timed in json.loads(newest.read_text(encoding="utf-8"))["benchmarks"]):
        (_, ours), *peers = info["rates"].items()
        for peer, rate in peers:
            least = info["targets"].get(peer)
            cells = [spell(ours), peer, spell(rate), f"{ours / rate:.2f}", f"{least:g}" if least else ""]
            rows.append([info["title"], *cells])
    columns = ["what", "ours, per second", "peer", "peer, per second", "ratio", "asked for"]
    return markdown(pd.DataFrame(rows, columns=columns))


def spell(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


TABLES: dict[str, Callable[[], str]] = {
    "pacs": partial(sources, "pacs", "100 steps"),
    "pacs-map": partial(map_and_cost, "pacs", "100 steps"),
    "digits": partial(accuracy, "digits", "10000 steps"),
    "field": partial(accuracy, "minidigits", "200 steps", rows=lambda row: not is_variant(row)),
    "quirks": partial(versus, "minidigits", "200 steps", lambda row, other: row.startswith(f"{other}[")),
    "sada-loader": partial(forms, "loader", "ERM"),
    "sada-forms": partial(forms, "sada", "ERM"),
    "sada-changes": one_change,
    "sada-brightness": brightness,
    "augmix-forms": partial(forms, "augmix", "augmix"),
    "randconv-forms": partial(forms, "randconv", "randconv"),
    "speed": speed,
}
"""What makes each table, by its name in the documents."""


def filled(text: str) -> str:
    """A document with its tables as the records give them. Raises KeyError for a table of no such name."""
    return PLACE.sub(lambda place: f"{place[1]}\n{TABLES[place[2]]()}\n\n{place[3]}", text)


def main() -> int:
    for path in DOCUMENTS:
        before = path.read_text(encoding="utf-8")
        after = filled(before)
        if after != before:
            path.write_text(after, encoding="utf-8")
            print(f"{path.relative_to(ROOT)}: its tables are new")
    return 0


if __name__ == "__main__":
    sys.exit(main())
