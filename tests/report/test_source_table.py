"""What several sources give together, from records made by hand: numbers, gaps, files, trace, page and figure."""

import csv
import io
import re
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from rich.console import Console
from scipy import stats

from benchmark import tables
from benchmark.core.record import Record
from benchmark.report import page, terminal
from benchmark.report.all_tables import render
from benchmark.report.figures import all_figures, source_means
from benchmark.report.people.cells import Summary
from benchmark.report.people.summaries import summarise
from benchmark.report.people.verdict import over_sources
from benchmark.report.provenance import trace
from benchmark.report.tidy.campaigns import campaigns, source_rows
from benchmark.report.tidy.groups import campaign_of, group_of
from tests.handmade import ended, error_map, failed, fill, record, scored

DOMAINS = ("art", "photo", "sketch9")
PRINTS = {source: str(i) * 16 for i, source in enumerate(DOMAINS)}


def run(method: str, source: str, seed: int, first: float, second: float, **changes: object) -> Record:
    """A run from one source with these accuracies in the two others."""
    made = record(method, seed, dataset="pacs", source=source, **({"fingerprint": PRINTS[source]} | changes))  # type: ignore[arg-type]
    others = [name for name in DOMAINS if name != source]
    return scored(made, {source: 99.0} | dict(zip(others, (first, second), strict=True)), [source])


def level(method: str, seed: int, mean: float) -> list[Record]:
    """A seed from all three sources with this mean over them: 10 less from the first, 10 more from the last."""
    steps = zip(DOMAINS, (-10, 0, 10), strict=True)
    return [run(method, source, seed, mean + by - 5, mean + by + 5) for source, by in steps]


ERM = [*level("erm", 0, 50.0), *level("erm", 1, 54.0)]
AUGMIX = [*level("augmix", 0, 60.0), *level("augmix", 1, 66.0)]
HOLES = [
    *level("gud", 0, 40.0),
    run("gud", "art", 1, 80.0, 90.0),
    failed("gud", 1, dataset="pacs", source="photo", fingerprint=PRINTS["photo"]),
    run("mada", "art", 0, 30.0, 40.0),
    run("mada", "photo", 0, 30.0, 40.0),
]
RUNS = [*ERM, *AUGMIX, *HOLES]


def rendered(made: list[Record]) -> dict[str, bytes]:
    return render(made, {one.run_id: error_map(one) for one in made if one.sensitivity})


def shown(made: list[Record]) -> Summary:
    (summary,) = summarise(made, {})["sources"]
    return summary


def lines(made: list[Record]) -> dict[str, dict[str, str]]:
    return {line.label: {name: cell.text for name, cell in line.cells.items()} for line in shown(made).lines}


def test_numbers_by_hand() -> None:
    third = [*level("erm", 2, 52.0), *level("augmix", 2, 63.5)]
    found = lines([*RUNS, *third, *level("prime", 0, 41.0), *level("prime", 1, 44.0)])
    assert list(found) == ["erm", "augmix", "prime", "gud", "mada"]  # ERM, then the best first, then what has no mean
    half = stats.t.ppf(0.975, 2) * 2 / 3**0.5
    assert found["erm"] == {
        "from art": "42.0 ± 2.0", "from photo": "52.0 ± 2.0", "from sketch9": "62.0 ± 2.0",
        "mean": "52.0 ± 2.0", "worst": "47.0 ± 2.0", "minus ERM": "–", "95 %, all at once": "–", "p (Holm)": "–",
        "mean, 95 %": f"[{52 - half:.1f}, {52 + half:.1f}]", "n": "3",
    }  # fmt: skip
    test = stats.ttest_1samp([10.0, 12.0, 11.5], 0)
    low, high = test.confidence_interval(0.95)  # prime and gud have two seeds and one in common: they are in no family
    assert found["augmix"] | {"mean": "63.2 ± 3.0", "minus ERM": "+11.2", "p (Holm)": f"{test.pvalue:.3f}"} == (
        found["augmix"] | {"95 %, all at once": f"[{low:.1f}, {high:.1f}]"}
    )
    assert (found["prime"]["minus ERM"], found["prime"]["95 %, all at once"], found["prime"]["p (Holm)"]) == (
        "-9.5", "–", "–",
    )  # fmt: skip


def test_only_a_seed_from_every_source_counts() -> None:
    found = lines(RUNS)
    assert {name: found["gud"][name] for name in ("from art", "from photo", "mean", "worst", "minus ERM", "n")} == {
        "from art": "57.5 ± 38.9",  # of both seeds, as in the accuracy table: 30 and 85
        "from photo": "40.0",
        "mean": "40.0",  # of seed 0 alone
        "worst": "35.0",
        "minus ERM": "-10.0",
        "n": "1 of 2",
    }
    assert found["mada"] == dict.fromkeys(found["mada"], "–") | {
        "from art": "35.0", "from photo": "35.0", "from sketch9": "not run", "mean": "not run from sketch9",
        "n": "0 of 1",
    }  # fmt: skip
    assert shown(RUNS).footnotes == [
        "gud: mean and worst over the sources leave out seed 1 (failed from photo; not run from sketch9)",
        "mada: mean and worst over the sources leave out seed 0 (not run from sketch9); seed 1 (not run from "
        "any source)",
        "gud: over its seeds erm has 50.0",
    ]


def test_seeds_that_never_meet_are_said_to_be_so() -> None:
    apart = [run("gud", source, seed, 40.0, 50.0) for seed, source in enumerate(DOMAINS)]
    found = lines([*ERM, *apart])["gud"]
    assert (found["mean"], found["n"]) == ("no seed from every source", "0 of 3")


def test_the_worst_is_a_mean_of_worst_targets_and_missing_data_is_named() -> None:
    made = [run("erm", "art", 0, 20.0, 90.0), run("erm", "photo", 0, 80.0, 60.0), run("erm", "sketch9", 0, 10.0, 30.0)]
    made[0] = scored(made[0], {"photo": 20.0, "sketch9": None, "art": 99.0}, ["art"])
    found = lines(made)["erm"]
    assert (found["mean"], found["worst"], found["mean, 95 %"]) == ("36.7", "30.0", "–")  # 20, 70, 20; 20, 60, 10
    assert "minus ERM" in found
    assert shown(made).footnotes == ["from art: without sketch9, whose data is missing"]
    none = [scored(one, dict.fromkeys(DOMAINS), [one.asked.source]) for one in made]
    assert lines(none)["erm"]["mean"] == "data missing from every source"
    alone = [scored(one, {one.asked.source: 99.0}, [one.asked.source]) for one in made]
    assert len([n for n in shown(alone).footnotes if "no target but the source's own domains" in n]) == 3


def test_the_heading_has_no_single_source_and_no_data() -> None:
    heading = shown(RUNS).heading
    assert heading.startswith("pacs, 3 sources, protocol common: mini_convnet, ")
    assert heading.endswith("selection source-val")
    accuracy = summarise(RUNS, {})["accuracy"][0].heading
    assert accuracy == f"{heading.replace('3 sources', 'source art')}; data {PRINTS['art']}"


def test_without_erm_there_is_no_difference_to_it() -> None:
    assert "minus ERM" not in lines(AUGMIX)["augmix"]
    partly = lines([*AUGMIX, ERM[0]])
    assert list(partly) == ["erm", "augmix"]
    assert partly["erm"]["mean"] == "not run from photo, sketch9"
    assert "minus ERM" not in partly["augmix"]


def test_one_source_gives_nothing_and_changes_no_file(tmp_path: Path) -> None:
    alone = [one for one in RUNS if one.asked.source == "art"]
    assert (campaigns(alone), len(source_rows(alone)), summarise(alone, {})["sources"]) == ([], 0, [])
    assert not [name for name in rendered(alone) if name.startswith("sources")]
    text = page.render(alone, {}, {one.run_id: [] for one in alone}, [])
    assert "sources.csv" not in text
    assert " from art" not in text
    left = tmp_path / "tables" / "sources.md"
    store = fill(tmp_path, alone)
    left.parent.mkdir()
    left.write_text("of runs that are gone")
    tables.write(store, store.read_all())
    assert not left.exists()


def test_what_differs_in_more_than_the_source_is_no_campaign() -> None:
    longer = [run("erm", "photo", 0, 50.0, 60.0, steps=9)]
    assert campaigns([ERM[0], *longer]) == []
    assert campaign_of(ERM[0]) == campaign_of(ERM[1]) != campaign_of(longer[0])
    assert group_of(ERM[0]) != group_of(ERM[1])
    pooled = [
        scored(record("erm", 0, dataset="pacs", source=s), dict.fromkeys(DOMAINS, 5.0))
        for s in ("art+sketch9", "art+photo")
    ]
    one, two = campaigns([*ERM, *pooled])
    assert [[*one.sources], [*two.sources]] == [[*DOMAINS], ["art+photo", "art+sketch9"]]
    assert two.key == f"{one.key}-2"


def test_of_two_states_of_the_data_that_with_more_rows_counts() -> None:
    stray = run("erm", "art", 0, 1.0, 1.0, fingerprint="f" * 16)
    for made in ([stray, *RUNS], [*RUNS, stray]):
        assert lines(made) == lines(RUNS)
        assert shown(made).footnotes[-1] == f"from art: runs on other data are left out (data {'f' * 16})"


@pytest.mark.parametrize(("n", "bold"), [(4, False), (5, True)])
def test_the_best_is_bold_from_five_complete_seeds_on(n: int, bold: bool) -> None:
    noise = (0.0, 1.0, 0.3, 0.7, 0.5)
    made = [r for s in range(5) for r in level("erm", s, 50.0 + noise[s])]
    made += [r for s in range(5) for r in level("augmix", s, 60.0 - noise[s])]
    made = made if n == 5 else made[:-1]  # the last seed lacks a source
    marked = {f"{ln.label} {name}" for ln in shown(made).lines for name, cell in ln.cells.items() if cell.bold}
    over = {"augmix mean", "augmix worst"} if bold else set()
    assert marked == over | {f"augmix from {s}" for s in DOMAINS[: 3 if bold else 2]}


def test_the_tidy_rows_have_a_line_for_each_row_and_seed() -> None:
    files = rendered(RUNS)
    found = list(csv.DictReader(io.StringIO(files["sources.csv"].decode())))
    assert [(r["method"], r["seed"], r["mean"], r["worst"], r["lacks"]) for r in found] == [
        ("augmix", "0", "60", "55", ""),
        ("augmix", "1", "66", "61", ""),
        ("erm", "0", "50", "45", ""),
        ("erm", "1", "54", "49", ""),
        ("gud", "0", "40", "35", ""),
        ("gud", "1", "", "", "photo, sketch9"),
        ("mada", "0", "", "", "sketch9"),
    ]
    assert {r["sources"] for r in found} == {"art, photo, sketch9"}
    assert found[2]["run_ids"].split() == [one.run_id for one in ERM[:3]]
    kept = pd.read_parquet(io.BytesIO(files["sources.parquet"]))
    assert kept["mean"].dropna().tolist() == source_rows(RUNS)["mean"].dropna().tolist()
    assert kept["sources"].tolist() == source_rows(RUNS)["sources"].tolist()


def test_the_files_are_written_and_checked(tmp_path: Path) -> None:
    store = fill(tmp_path, RUNS)
    tables.write(store, store.read_all())
    folder = tmp_path / "tables"
    assert tables.check(store) == []
    assert {path.suffix for path in folder.glob("sources.*")} == {".csv", ".parquet", ".md", ".tex"}
    text = (folder / "sources.tex").read_text(encoding="utf-8")
    assert text.count(r"\begin{table}") == 1  # all columns in one
    assert "mean, 95 \\%" in text
    (folder / "sources.md").write_text("edited")
    assert tables.check(store) == ["sources.md"]


def test_trace_leads_from_a_cell_without_a_number_to_the_runs_that_failed(tmp_path: Path) -> None:
    good, bad = record("erm", 0), failed("gud", 0)
    text = trace(fill(tmp_path, [good, bad]), "accuracy:gud:mean")
    assert f"gud, mean: failed  <- {bad.run_id}" in text


def test_trace_leads_from_a_mean_to_the_runs_of_all_sources(tmp_path: Path) -> None:
    store = fill(tmp_path, RUNS)
    text = trace(store, "sources:augmix:mean")
    assert f"augmix, mean: 63.0 ± 4.2  <- {' '.join(one.run_id for one in AUGMIX)}" in text
    assert ERM[0].run_id not in text
    difference = trace(store, "sources:augmix:minus ERM")
    assert all(one.run_id in difference for one in [*ERM, *AUGMIX])
    partial = trace(store, "sources:gud:mean").partition("made by")[0]
    assert [one.run_id in partial for one in HOLES[:4]] == [True, True, True, False]
    back = trace(store, AUGMIX[0].run_id)
    assert "  sources.csv: lines 2" in back
    assert "sources.md: pacs, 3 sources" in back


def test_a_difference_to_erm_is_of_the_seeds_that_both_have() -> None:
    more = level("augmix", 2, 80.0)
    (line,) = (line for line in shown([*ERM, *AUGMIX, *more]).lines if line.label == "augmix")
    assert line.cells["minus ERM"].text == "+11.0"
    assert set(line.cells["minus ERM"].runs) == {one.run_id for one in [*ERM, *AUGMIX]}
    assert {one.run_id for one in more} < set(line.cells["mean"].runs)


def test_a_state_of_the_data_on_which_all_failed_does_not_count() -> None:
    lost = [failed(method, 0, dataset="pacs", source="art", fingerprint="f" * 16) for method in ("gud", "mada", "sada")]
    (campaign,) = campaigns([*ERM, *AUGMIX, *lost])
    assert {one.run_id for one in campaign.left_out} == {one.run_id for one in lost}
    assert campaign.means == {"erm": 52.0, "augmix": 63.0}


def with_last(run: Record, value: float) -> Record:
    """The run, whose last network has this accuracy in every domain."""
    assert run.accuracy is not None
    domains = {
        name: domain.model_copy(update={"accuracy": {**domain.accuracy, "last": value}}) if domain.accuracy else domain
        for name, domain in run.accuracy.domains.items()
    }
    return run.model_copy(update={"accuracy": run.accuracy.model_copy(update={"domains": domains})})


def test_the_verdict_is_over_all_sources() -> None:
    (campaign,) = campaigns(RUNS)
    found = over_sources(campaign)
    assert found.answer == "Undecided: augmix is 11.0 points ahead of ERM, but 2 seeds are too few for a claim."
    assert (
        "the highest mean over all pairs of source and target, 63.0 %, 11.0 points above ERM's 52.0 %"
        in (found.reasons[0])
    )
    assert found.reasons[1].startswith("What would decide it: 5 new seeds of every row from every source, in a folder")
    assert found.reasons[-1] == "Not judged, without a seed from every source: mada."
    noise = (0.0, 1.0, 0.3, 0.7, 0.5)
    five = [r for s in range(5) for r in (*level("erm", s, 50.0), *level("augmix", s, 60.0 - noise[s]))]
    (campaign,) = campaigns(five)
    assert over_sources(campaign).answer == "Use augmix: it is better than the other row."
    assert not any(reason.startswith("At the last step") for reason in over_sources(campaign).reasons)
    (campaign,) = campaigns([with_last(run, 55.0 - run.asked.seed) for run in five])
    assert "At the last step augmix is not shown to differ from ERM." in over_sources(campaign).reasons
    (campaign,) = campaigns([*ERM, AUGMIX[0]])
    assert over_sources(campaign).answer == (
        "Only ERM has a seed from every source: there is nothing to compare it with."
    )
    (campaign,) = campaigns([ERM[0], AUGMIX[1]])
    assert over_sources(campaign).answer == "No method has been tested from every source with one seed yet."


def written(folder: Path, monkeypatch: pytest.MonkeyPatch, made: list[Record]) -> str:
    """The page, with the figures of campaigns alone."""
    monkeypatch.setattr(all_figures, "_draw", lambda *_: [])
    store = fill(folder, made)
    return tables.write_all(store)[1].read_text(encoding="utf-8")


def test_the_page_begins_with_the_campaign_and_its_sources_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = written(tmp_path, monkeypatch, RUNS)
    assert re.findall(r"<h2>(pacs: .*?),", text) == [
        "pacs: over its 3 sources", "pacs: trained on art", "pacs: trained on photo", "pacs: trained on sketch9",
    ]  # fmt: skip
    top, first, second, *_ = text.split("<article")
    assert 'href="figures/sources_pacs_common.png"' in top
    assert "pacs: over its 3 sources, protocol common, 8 steps" in top
    assert "trained on one domain and tested in the others, from each of art, photo and sketch9 in turn" in first
    assert first.count("<table>") == first.count('data-table="sources"') == 1
    assert "63.0 ± 4.2" in first
    assert ">mean, 95 %<" in first
    assert 'class="more' not in first  # no column is folded where no button unfolds it
    assert 'class="run"' not in first  # runs and commands stand with their sources
    assert "that repeat these runs" not in first
    assert "erm from art, seed 0" in second
    assert text.count('class="run"') == len(RUNS)
    assert tables.main(["--out", str(tmp_path), "--check"]) == 0


def test_a_campaign_that_compares_nothing_yet_stands_below_what_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = written(tmp_path, monkeypatch, [*ERM, AUGMIX[0]])
    found = re.findall(r"<h2>pacs: (.*?),", text)
    assert found[:2] == ["trained on art", "over its 3 sources"]


def test_the_figure_shows_each_source_and_their_mean(saved: list[Figure]) -> None:
    (campaign,) = campaigns([*RUNS, *level("augmix", 2, 63.0)])
    source_means.over_sources(campaign, Path())
    (figure,) = saved
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "erm, n = 2", "augmix, n = 3", "gud, n = 1", "mada, n = 0",
    ]  # fmt: skip
    points = [
        (line.get_marker(), round(float(np.asarray(line.get_xdata())[0]), 1), int(np.asarray(line.get_ydata())[0]))
        for line in axes.lines
        if line.get_marker() != "None"
    ]
    assert points[:4] == [("o", 42.0, 0), ("s", 52.0, 0), ("^", 62.0, 0), ("D", 52.0, 0)]
    assert points[-2:] == [("o", 35.0, 3), ("s", 35.0, 3)]  # no mean where no seed has every source
    styles = {line.get_linestyle() for line in axes.lines if line.get_marker() == "None"}
    assert styles == {"-", ":"}
    assert axes.get_xlabel().replace("\n", " ").endswith("solid lines: 95 % intervals; dotted: ranges")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "from art", "from photo", "from sketch9", "mean over the sources",
    ]  # fmt: skip


@pytest.mark.usefixtures("saved")
def test_the_picture_says_its_means_in_words_and_is_named_by_what_sets_it_apart(tmp_path: Path) -> None:
    store = fill(tmp_path, RUNS)
    longer = [run("erm", source, 0, 50.0, 60.0, steps=9) for source in DOMAINS]
    found = all_figures._over_sources(store, [*RUNS, *longer])
    assert {one.group for one in found} == {campaign.key for campaign in campaigns([*RUNS, *longer])}
    assert "Means over all: erm 52.0, augmix 63.0, gud 40.0." in {one.alt.partition(". ")[2] for one in found}
    stems = all_figures._stems({"a": RUNS[0], "b": longer[0]}, over_sources=True)
    assert [*stems.values()] == ["pacs_common_8_steps", "pacs_common_9_steps"]


def test_the_terminal_ends_with_it_in_short(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=160)
    jobs = [mock.Mock(asked=one.asked, **{"lacks.return_value": ""}) for one in RUNS]
    terminal.show_results(jobs, RUNS, tmp_path / "index.html", console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    _, _, last = text.partition("pacs, 3 sources")
    assert text.index("pacs, source sketch9") < text.index("pacs, 3 sources")
    assert ("63.0 ± 4.2" in last, "minus ERM" in last, "from photo " in last.partition("gud: ")[0]) == (
        True,
        True,
        False,
    )
    assert "seed 1 (failed from photo; not run from sketch9)" in " ".join(last.split())


@pytest.mark.parametrize("seeds", [2, 5])
@pytest.mark.parametrize(("old", "new"), ["ab", "ba"])
def test_the_state_with_all_targets_counts_then_what_ended_last(seeds: int, old: str, new: str) -> None:
    """Data that was missing is there now: whatever the hashes, the mean is over what it says."""

    def state(mark: str, far: float | None, when: str, n: int) -> list[Record]:
        runs = [run("erm", "art", seed, 40.0, 40.0, fingerprint=mark * 16) for seed in range(n)]
        runs += [run("erm", "photo", seed, 60.0, 60.0, fingerprint=mark * 16) for seed in range(n)]
        reached = {"art": 50.0, "photo": 50.0, "sketch9": far}
        return [ended(scored(r, reached | {r.asked.source: 99.0}, [r.asked.source]), when) for r in runs]

    (campaign,) = campaigns([*state(old, None, "2026-01-01", seeds), *state(new, 30.0, "2026-01-02", 2)])
    assert campaign.means == {"erm": 40.0}
    assert {one.asked.fingerprint for one in campaign.left_out} == {old * 16}
    (campaign,) = campaigns([*state(old, 70.0, "2026-01-01", 2), *state(new, 30.0, "2026-01-02", 2)])
    assert campaign.means == {"erm": 40.0}


def test_two_folders_of_images_are_two_campaigns() -> None:
    def folder(one: str, two: str, value: float) -> list[Record]:
        pairs = [(one, two, PRINTS["art"]), (two, one, PRINTS["photo"])]
        return [scored(record("erm", 0, dataset="folder", source=source, fingerprint=data), {source: 99.0, far: value},
                       [source]) for source, far, data in pairs]  # fmt: skip

    lost = failed("gud", 0, dataset="folder", source="day", fingerprint="f" * 16)
    made = [*folder("clay", "ink", 50.0), *folder("day", "night", 70.0), lost]
    found = campaigns(made)
    assert {campaign.place: campaign.means["erm"] for campaign in found} == {
        "2 sources (clay, ink)": 50.0,
        "2 sources (day, night)": 70.0,
    }
    (with_lost,) = [campaign for campaign in found if campaign.left_out]
    assert with_lost.left_out == [lost]
    assert [*with_lost.sources] == ["day", "night"]
    headings = [table.heading for table in summarise(made, {})["sources"]]
    assert len({*headings}) == 2
    more = scored(
        record("erm", 0, dataset="folder", source="clay", fingerprint="e" * 16),
        dict.fromkeys(["clay", "ink", "mud"], 5.0),
    )
    (alone,) = campaigns([*folder("clay", "ink", 50.0), more])  # a domain was added since, and one source run anew
    assert alone.left_out == [more]
    away = [scored(record("erm", 0, source=source), {"far": 5.0}) for source in ("a", "b")]
    (alone,) = campaigns(away)  # no source is a test domain
    assert alone.means == {"erm": 5.0}
    (alone,) = campaigns(folder("clay", "ink", 50.0))
    assert alone.place == "2 sources"


def test_pools_are_told_from_single_sources_and_from_each_other() -> None:
    pools = [
        scored(
            record("erm", 0, dataset="pacs", source=s, sensitivity_images=n),
            dict.fromkeys(DOMAINS, 5.0),
            s.split("+"),
        )
        for s in ("art+photo", "art+sketch9")
        for n in (0, 64)
    ]
    made = [*ERM, *pools]
    headings = [table.heading for table in summarise(made, {})["sources"]]
    assert len({*headings}) == 3
    assert sum("2 pools of 2 domains" in heading for heading in headings) == 2
    titles = re.findall(r"<h2[^>]*>(.*?)</h2>", page.render(made, {}, {one.run_id: [] for one in made}, []))
    assert len({*titles}) == len(titles)


def test_of_two_states_with_as_many_rows_that_with_more_runs_counts() -> None:
    stray = run("erm", "art", 0, 1.0, 1.0, fingerprint="f" * 16)
    for made in ([stray, *ERM], [*ERM, stray]):
        (campaign,) = campaigns(made)
        assert campaign.left_out == [stray]
