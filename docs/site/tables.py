"""`make published`: fills the tables of README.md and docs/ from the records of results/published.

A document says where a table goes by two comments, `<!-- table NAME -->` and `<!-- end -->`. What is between them is
written here and nowhere else; tests/test_readme.py holds the documents against the records.
"""

import json
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd

from benchmark import registry, reproduce, scaling
from benchmark.core.record import Record
from benchmark.report.people.cells import interval, p_text
from benchmark.report.people.summaries import DETAILS, summarise
from benchmark.report.table_files import marked_cells
from benchmark.report.tidy import comparisons, groups
from benchmark.report.tidy.campaigns import campaigns
from benchmark.report.tidy.paper import paper_rows, published_numbers
from benchmark.report.tidy.rows import sensitivity_rows, throughput_rows
from benchmark.report.tidy.stats import Seeds, settles
from benchmark.runs.records import Records
from docs.site import budget, pacs, study
from docs.site.published import PUBLISHED, ROOT, everything, markdown, over_seeds, records

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PLACE = re.compile(r"(<!-- table (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def accuracy(dataset: str, length: str, *, rows: Callable[[str], bool] = lambda row: True) -> str:
    """Accuracy, the gain in its mean over ERM, and cost. rows: which rows are shown, by name."""
    shown = summarise([r for r in records(dataset, length) if rows(r.asked.row)], {})
    (found,) = shown["accuracy"]
    cells = marked_cells(found).drop(columns=["worst", *DETAILS, "runs"])
    cost = pd.concat(table.cells for table in shown["throughput"]).set_index("method")  # one for each machine
    assert cost.index.is_unique, "a row was made on two machines: it has no one speed"
    gains = summarise(records(dataset, length), {})["differences"][0].cells.query("versus == 'erm'").set_index("method")
    for title, column in (
        ("minus ERM", gains["difference"]),
        ("95 %, all at once", gains["95 %, all at once"]),
        ("passes", cost["passes/image"]),
        ("images/s, ERM = 1", cost["relative to ERM"]),
    ):
        if set(column) != {"–"}:
            cells.insert(len(cells.columns) - 1, title, [column.get(method, "–") for method in cells["method"]])
    return markdown(cells)


def beside_paper(dataset: str, length: str, paper: str) -> str:
    """What rows reach in each target beside what one paper prints."""
    rows = paper_rows(records(dataset, length))
    lines: dict[str, dict[str, str]] = {}
    for row in rows[rows["paper"].str.startswith(paper)].to_dict("records"):
        method, target = row["method"], row["target"]
        cells = lines.setdefault(method, {"method": method})
        cells |= {target: f"{row['accuracy']:.1f}", f"{target}, printed": f"{row['published']:.1f}"}
    return markdown([*lines.values()])


def strict() -> str:
    """Rows as their authors ran them, beside what is printed: the figures that `benchmark.reproduce` has runs for."""
    found = reproduce.figures(everything(), published_numbers(), registry.names("method"))
    lines = [
        {
            "method": figure.method,
            "target": figure.target,
            "ours": f"{figure.ours.mean:.1f}" + (f" ± {figure.ours.sd:.1f}" if figure.ours.sd is not None else ""),
            "95 %": interval(figure.ours.low, figure.ours.high),
            "printed": f"{figure.published:.1f}",
            "difference": f"{figure.ours.mean - figure.published:+.1f}",
            "band": f"± {figure.band:.1f}",
            "verdict": figure.verdict,
            "n": str(figure.ours.n),
        }
        for figure in found
        if figure.ours
    ]
    return markdown(lines)


def versus(dataset: str, length: str, keep: Callable[[str, str], bool]) -> str:
    """Differences of the mean. keep: which pairs of a row and what it is compared with."""
    (shown,) = summarise(records(dataset, length), {})["differences"]
    lines = [line for line in shown.lines if keep(line.label, line.cells["versus"].text)]
    return markdown(replace(shown, lines=lines).cells.drop(columns=["more seeds to settle", "runs"]))


def claims() -> str:
    """Gains over ERM that Holm's test finds in the mean over the targets, and whether each one's interval leaves 0 out
    and the networks of the last step gain, too."""
    lines = []
    means: dict[str, tuple[Mapping[str, Seeds], Mapping[str, Seeds]]] = {}
    for folder, title in PACS.items():  # its networks were tested once, after the last step
        (campaign,) = campaigns(records("pacs", "100 steps", folder=folder))
        means[title] = campaign.over("mean"), campaign.over("mean")
    for title, dataset, length in FROM_ONE_SOURCE:
        rows = groups.by_row(records(dataset, length))
        means[title] = comparisons.seeds_of(rows, "mean"), comparisons.seeds_of(rows, "mean", "last")
    for title, (headline, last) in means.items():
        judged = comparisons.pairs(headline, last)
        gains = [(pair, p_last) for pair, p_last in judged if pair.versus == "erm" and pair.difference.mean > 0]
        for pair, p_last in sorted(gains, key=lambda found: -found[0].difference.mean):
            n, p = pair.difference.n, pair.p_holm
            if p is not None and p_last is not None and pair.interval and settles(p, n):
                low, high = pair.interval
                one = title in PACS.values()
                holds = low > 0 and settles(p_last, n)
                lines.append(
                    {"targets": title, "method": pair.row, "minus ERM": f"{pair.difference.mean:+.1f}"}
                    | {"95 %, all at once": interval(low, high), "p (Holm)": p_text(p)}
                    | {"p, last step": "–" if one else p_text(p_last)}
                    | {"holds by all three": "one test" if one else "yes" if holds else "no"}
                )
    return markdown(lines)


def sources(runs: Sequence[Record]) -> str:
    """What rows reach over all sources."""
    (shown,) = summarise(runs, {})["sources"]
    return markdown(marked_cells(shown).drop(columns=["mean, 95 %", "runs"]))


def map_and_cost(dataset: str, length: str) -> str:
    """Sensitivity maps and cost over all sources: means within a seed that was run from each, then over seeds."""
    runs = records(dataset, length)
    maps, speed = sensitivity_rows(runs, Records(PUBLISHED).maps(runs)), throughput_rows(runs)
    (campaign,) = campaigns(runs)
    lines = []
    for row in campaign.rows:
        ids = [run.run_id for members in campaign.complete(row).values() for run in members]
        errors = maps[maps["run_id"].isin(ids)].pivot_table("error_rate", "seed", "band")
        cells = [over_seeds(errors[band].to_dict(), 2) for band in BANDS]
        passes, relative = speed[speed["run_id"].isin(ids)][["passes_per_image", "relative_to_erm"]].mean()
        beside_erm = "–" if math.isnan(relative) else f"{relative:.2f}"  # none was run beside ERM
        lines.append([row, *cells, f"{passes:.2f}", beside_erm, len(errors)])
    named = [f"error, {name}" for name in BANDS.values()]
    return markdown(pd.DataFrame(lines, columns=["method", *named, "passes", "images/s, ERM = 1", "n"]))


PACS = {"": "PACS", "pacs_again": "PACS, new seeds"}
"""What the comparisons over the sources of PACS are called, by folder of results/published."""
FROM_ONE_SOURCE = (("MNIST-M, USPS", "digits", "10000 steps"), ("embedded digits", "minidigits", "200 steps"))
BANDS = {"clean_error": "no wave", "low": "low", "mid": "mid", "high": "high", "mean": "all waves"}


def parity() -> str:
    """What `pytest --parity-log` kept: the tests of each part, and how far ours was from what they hold it against."""
    lines: list[dict[str, str]] = []
    for test in json.loads((PUBLISHED / "parity.json").read_text(encoding="utf-8"))["tests"]:
        part = next(name for place, name in PARTS.items() if place in test["file"])
        cases = f"{test['passed']} of {test['passed'] + test['skipped'] + test['failed']}"
        apart = "–" if test["largest"] is None else f"{test['largest']:.0e}" if test["largest"] else "0"
        lines.append(
            {"part": part, "test": re.sub("^test_|parity_|_parity", "", test["test"]).replace("_", " ")}
            | {"held against": "the released code's numbers" if test["recorded"] else "its formulas and rules"}
            | {"cases passed": cases, "largest difference": apart}
        )
    order = [*PARTS.values()]
    lines.sort(key=lambda each: order.index(each["part"]))
    return markdown(lines)


PARTS = {
    "test_augmix": "AugMix",
    "test_augmax": "AugMax",
    "test_dual_norm": "AugMax's norms",
    "test_gud": "GUD",
    "test_mada": "M-ADA",
    "test_randconv": "RandConv",
    "test_sada": "SADA",
    "test_sensitivity": "sensitivity map",
}
"""Parts of the suite by a piece of their test file's name."""


def is_variant(row: str) -> bool:
    return "[" in row and row != "sada[weight_map=none]"


def speed() -> str:
    """The newest file of `make perf`: ours beside its peers."""
    rows = []
    for info in (timed["extra_info"] for timed in measured("[0-9]*.json")[-1]["benchmarks"]):
        (_, ours), *peers = info["rates"].items()
        for peer, rate in peers:
            least = info["targets"].get(peer)
            cells = [spell(ours), peer, spell(rate), f"{ours / rate:.2f}", f"{least:g}" if least else ""]
            rows.append([info["title"], *cells])
    columns = ["what", "ours, per second", "peer", "peer, per second", "ratio", "asked for"]
    return markdown(pd.DataFrame(rows, columns=columns))


def measured(pattern: str) -> list[dict[str, Any]]:
    """What the files of results/published/perf of such a name and of the newest day hold, oldest first."""
    by_age = {tuple(map(int, re.findall(r"\d+", path.stem))): path for path in (PUBLISHED / "perf").glob(pattern)}
    day = max(by_age)[:3]
    return [json.loads(by_age[age].read_text(encoding="utf-8")) for age in sorted(by_age) if age[:3] == day]


def gpu_lines() -> list[dict[str, str]]:
    """The rows of the tables that `make gpu` made on the newest day: of each target those of the last call that came to
    it, since one call may do some stages alone. Two races may have one title."""
    found: list[dict[str, str]] = []
    for table in measured("gpu-*.json"):
        again = {line["target"] for line in table["lines"] if line["verdict"] != "skipped"}
        known = {line["target"] for line in found} - again
        found = [line for line in found if line["target"] not in again]
        found += [line for line in table["lines"] if line["target"] not in known]
    return found


def gpu_targets() -> str:
    """The targets, and the steps that have none; not that a kernel beats its peer, which `kernels_on_gpu` shows."""
    columns = ["target", "figure", "goal", "verdict"]
    shown = (
        line for line in gpu_lines() if line["target"].startswith("step of") or line["goal"] not in ("", ">= 1.00")
    )
    lines = [[line[name] for name in columns] for line in shown]
    return markdown(pd.DataFrame(lines, columns=columns))


def seconds_on_gpu() -> str:
    """Seconds of a run of the full length, alone on the card, by method and precision."""
    cells: dict[str, dict[str, str]] = {}
    for line in gpu_lines():
        if told := re.fullmatch(r"one run of 10,000 steps, (\w+), seconds: (.+)", line["target"]):
            cells.setdefault(told[2], {"method": told[2]})[f"{told[1]}, seconds"] = line["figure"]
    return markdown([*cells.values()])


def kernels_on_gpu() -> str:
    """Rates of the kernels, each peer's being 1."""
    cells: list[dict[str, str]] = []
    for line in gpu_lines():
        title, _, peer = line["target"].rpartition(", beside ")
        if peer == "eager":  # the first peer of each race; two races may have one title
            cells.append({"kernel": title})
        if peer in ("eager", "torch.compile", "a copy of as many bytes"):
            cells[-1][peer] = line["figure"]
    return markdown(pd.DataFrame(cells).fillna("–"))


def spell(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


TABLES: dict[str, Callable[[], str]] = {
    "pacs": lambda: sources(records("pacs", "100 steps")),
    "pacs-again": lambda: sources(records("pacs", "100 steps", folder="pacs_again")),
    "pacs-map": partial(map_and_cost, "pacs", "100 steps"),
    "digits": partial(accuracy, "digits", "10000 steps"),
    "digits-paper": partial(beside_paper, "digits", "10000 steps", "He et al., Towards Combating"),
    "strict": strict,
    "claims": claims,
    "parity": parity,
    "field": partial(accuracy, "minidigits", "200 steps", rows=lambda row: not is_variant(row)),
    "quirks": partial(versus, "minidigits", "200 steps", lambda row, other: row.startswith(f"{other}[")),
    **study.TABLES,
    **pacs.TABLES,
    **budget.TABLES,
    "speed": speed,
    "gpu": gpu_targets,
    "gpu-seconds": seconds_on_gpu,
    "gpu-kernels": kernels_on_gpu,
    "scaling": lambda: scaling.report(scaling.Args(out=PUBLISHED)).rstrip(),
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
