"""index.html: what it says, in which order, that it escapes, and that it repeats."""

import calendar
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats

import benchmark
from benchmark import tables
from benchmark.core.record import Record
from benchmark.report import facts, page
from benchmark.report.figures import palette
from benchmark.report.figures.all_figures import draw
from benchmark.report.people.verdict import verdict
from benchmark.runs.store import Store
from benchmark.training.artifacts import picture
from tests.conftest import ROOT
from tests.handmade import failed, record, scored
from tests.report.pages import NASTY, fill, runs


class Parsed(HTMLParser):
    """Tags with their attributes, and the text outside scripts and styles."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.inside = "", ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        self.text += data if self.inside not in ("script", "style") else ""


@pytest.fixture(scope="module")
def parsed(store: Store) -> Parsed:
    return Parsed((store.out / "index.html").read_text(encoding="utf-8"))


def test_every_run_stands_on_the_page_with_its_command_and_every_row_leads_to_runs(parsed: Parsed) -> None:
    ids = {about["id"] for tag, about in parsed.tags if tag == "details" and about.get("class") == "run"}
    assert ids == {f"run-{run.run_id}" for run in runs()}
    for run in runs():
        assert run.ran.command in parsed.text
    rows = [str(about["data-runs"]).split() for tag, about in parsed.tags if "data-runs" in about]
    assert len(rows) > 10
    assert {f"run-{run_id}" for row in rows for run_id in row} == ids


def test_nothing_shown_is_read_as_markup(parsed: Parsed) -> None:
    assert [about for tag, about in parsed.tags if any(name.startswith("on") for name in about)] == []
    assert sum(tag == "script" for tag, _ in parsed.tags) == 1
    assert "62710561" not in parsed.text
    found = parsed.text.count(NASTY)
    assert found > 8  # names of a method, a domain and a dataset, a warning and an error
    assert all(str(about.get("src", "data:")).startswith("data:") for _, about in parsed.tags)


def test_the_owners_note_stands_first_as_text(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (tmp_path / "note.txt").write_text("A <b>study</b>\nof `sada`.\n \nNo advice.\n", encoding="utf-8")
    text = page.write(store, []).read_text(encoding="utf-8")
    said = "<p>A &lt;b&gt;study&lt;/b&gt; of <code>sada</code>.</p>\n<p>No advice.</p>"
    assert said in text
    assert text.index(said) < text.index('<div class="top">')


@pytest.mark.parametrize("wrong", ["a folder", "65,537 bytes"])
def test_a_note_that_cannot_be_read_says_so_on_the_page(tmp_path: Path, wrong: str) -> None:
    if wrong == "a folder":
        (tmp_path / "note.txt").mkdir()
    else:
        (tmp_path / "note.txt").write_bytes(b"a" * (64 * 1024 + 1))
    text = page.write(Store(tmp_path), []).read_text(encoding="utf-8")
    assert f"<p>note.txt cannot be read: it {'is' if wrong == 'a folder' else 'has'} {wrong}" in text


def test_nothing_is_loaded_from_anywhere(store: Store, parsed: Parsed) -> None:
    text = (store.out / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"(https?:)?//[a-z]", re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", text))
    assert not re.search(r"@import|url\(", text)
    policy = [about["content"] for _, about in parsed.tags if about.get("http-equiv") == "Content-Security-Policy"]
    assert len(policy) == 1
    assert str(policy[0]).startswith("default-src 'none'")


def test_pictures_have_words_and_gaps_have_reasons(parsed: Parsed) -> None:
    pictures = [about for tag, about in parsed.tags if tag == "img"]
    assert len(pictures) > 6
    assert all(about["alt"] for about in pictures)
    assert "put absent.mat there" in parsed.text
    assert "broken on purpose" in parsed.text
    assert "failed" in parsed.text
    assert re.search(r"1 of them did not end well", parsed.text)


def test_links_lead_to_files_beside_the_page_and_to_parts_of_it(store: Store, parsed: Parsed) -> None:
    ids = Counter(about["id"] for _, about in parsed.tags if "id" in about)
    assert set(ids.values()) == {1}
    links = [str(about["href"]) for tag, about in parsed.tags if tag == "a"]
    assert {link for link in links if link.startswith("#") and link[1:] not in ids} == set()
    files = {link for link in links if not link.startswith("#")}
    assert {file for file in files if not (store.out / file).is_file()} == set()
    assert {f"runs/{run.run_id}/record.json" for run in runs()} < files
    figures = [file for file in files if file.startswith("figures/")]
    assert len(figures) == sum(tag == "img" for tag, _ in parsed.tags)
    tables = [str(about["data-table"]) for _, about in parsed.tags if "data-table" in about]
    assert {f"tables/{name}.csv" for name in tables} == files - {*figures} - {f for f in files if f.startswith("runs/")}


@pytest.fixture
def blank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are files without a picture, where a test looks at none: drawing takes most of a page's time."""

    def save(figure: Figure, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        for kind in ("png", "pdf"):
            path.with_name(f"{path.name}.{kind}").write_bytes(picture(np.zeros((1, 1, 3), np.uint8)))
        return path.with_name(f"{path.name}.png")

    monkeypatch.setattr(palette, "save", save)


def several(method: str, n: int, dataset: str = "minidigits") -> list[Record]:
    return [record(method, seed, dataset=dataset) for seed in range(n)]


def test_a_comparison_weighs_what_was_trained_for_it_and_one_row_compares_nothing() -> None:
    one = record("erm", 0)
    batch = one.asked.recipe.batch_size
    assert page.weight([one]) == (False, 8 * batch * 3.0)
    assert page.weight([one.model_copy(update={"throughput": None})]) == (False, 8.0 * batch)
    assert page.weight([one, record("gud", 0)]) == (True, 2 * 8 * batch * 3.0)
    assert page.weight([*several("erm", 9), failed("gud", 0)])[0] is False


@pytest.mark.usefixtures("blank")
def test_the_heaviest_comparison_is_on_top_and_those_of_one_row_are_last(tmp_path: Path) -> None:
    light = [record(method, 0, dataset="a_light") for method in ("erm", "augmix")]
    heavy = [run for method in ("erm", "augmix") for run in several(method, 2, "b_heavy")]
    store = fill(tmp_path, [*light, *several("erm", 9, "a_lonely"), *heavy])
    text = page.write(store, store.read_all()).read_text(encoding="utf-8")
    assert re.findall(r"<h2>(\w+): trained on", text) == ["b_heavy", "a_light", "a_lonely"]
    top = Parsed(text[: text.index("<article")])
    assert "b_heavy: trained on same, protocol" in top.text
    assert verdict(heavy).answer in top.text
    assert top.text.count(verdict(light).answer) == 1  # beside its link
    charts = [str(about["href"]) for tag, about in top.tags if tag == "a" and "figures/" in str(about["href"])]
    assert [chart.startswith("figures/cost_b_heavy") for chart in charts] == [True]
    assert text.count(f'href="{charts[0]}"') == 1  # the comparison itself does not show it again
    first, *others = text.split("<article")[1:4]
    assert first.count('<details class="part" open>') == 1
    assert all('<details class="part" open>' not in other for other in others)
    assert all(other.index('data-table="accuracy"') > other.index("figures/cost_") for other in others)


def test_what_is_not_the_answer_is_folded_and_counted(store: Store) -> None:
    parts = (store.out / "index.html").read_text(encoding="utf-8").split('<article id="group-')[1:]
    assert len(parts) == 2
    for part in (part.partition("</article>")[0] for part in parts):
        answer, _, folded = part.partition("<details")
        assert ('class="verdict"' in answer, "<figure" in answer, "<table" in answer) == (True, False, False)
        summary = re.findall("<summary>(.*?)</summary>", folded)[0]
        said = {what: int(n) for n, what in re.findall(r"(\d+) (further figure|further table|run)", summary)}
        assert said == {
            "further figure": folded.count("<figure>") - summary.startswith("Chart"),
            "further table": folded.count("data-table=") - 1,
            "run": folded.count('class="run"'),
        }
    assert ["Chart and" in part for part in parts] == [False, True]  # the first one's is on top of the page


def test_backticks_are_code_and_nothing_else_is_markup() -> None:
    assert facts.coded("a `b` c `d`") == "a <code>b</code> c <code>d</code>"
    assert facts.coded("one ` alone, <b>") == "one ` alone, &lt;b&gt;"
    assert facts.coded("`<b>`\x1b") == "<code>&lt;b&gt;</code>\\x1b"


def test_the_citation_says_what_the_citation_file_says(parsed: Parsed) -> None:
    lines = (ROOT / "CITATION.cff").read_text(encoding="utf-8").splitlines()
    given = {name: value.strip('"') for name, _, value in (line.partition(": ") for line in lines)}
    text = (page.TEMPLATES / "citation.bib").read_text(encoding="utf-8")
    shown = dict(re.findall(r"^  (\w+) += \{?(.*?)\}?,?$", text, re.MULTILINE))
    date = given["date-released"]
    assert shown == {
        "author": f"{{{given['  - name']}}}",
        "title": given["title"],
        "version": given["version"],
        "date": date,
        "year": date[:4],
        "month": calendar.month_abbr[int(date[5:7])].lower(),
        "license": given["license"],
    }
    assert given["version"] == benchmark.__version__
    assert text.strip() in parsed.text


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    contents = []
    for _ in range(2):
        small = fill(tmp_path, [record("erm", 0), record("augmix", 0)])
        page.write(small, small.read_all())
        files = [tmp_path / "index.html", *(tmp_path / "figures").rglob("*.*")]
        contents.append({path: path.read_bytes() for path in files if path.is_file()})
        shutil.rmtree(tmp_path / "figures")
    assert len(contents[0]) > 14
    assert contents[0] == contents[1]


@pytest.mark.usefixtures("blank")
def test_rows_without_a_seed_in_common_have_a_page_too(tmp_path: Path) -> None:
    fill(tmp_path, [record("erm", 0), record("augmix", 1, accuracy=60.0)])
    assert tables.main(["--out", str(tmp_path)]) == 0
    assert "60.0 %, with no seed in common to compare it by." in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_runs_that_all_failed_have_a_page_too(tmp_path: Path) -> None:
    lonely = fill(tmp_path, [failed("gud", 0)])
    assert draw(lonely, lonely.read_all()) == []
    assert tables.main(["--out", str(tmp_path)]) == 0
    assert "No run of this comparison has an accuracy in a shifted domain." in (tmp_path / "index.html").read_text(
        encoding="utf-8"
    )


# --- the verdict


def seeds(method: str, *values: float, passes: float = 3.0) -> list[Record]:
    made = [record(method, seed, value) for seed, value in enumerate(values)]
    return [
        run.model_copy(update={"throughput": run.throughput.model_copy(update={"passes_per_image": passes})})
        for run in made
        if run.throughput
    ]


ERM = seeds("erm", 50.0, 51.0, 49.0, 50.5, 49.5, passes=1.0)


def test_a_row_that_beats_all_is_named_with_its_evidence_and_price() -> None:
    values = [60.0, 62.0, 59.5, 60.0, 61.0]
    found = verdict([*ERM, *seeds("augmix", *values), *seeds("gud", 50.2, 50.9, 49.3, 50.1, 49.6)])
    assert found.answer == "Use augmix: it is better than each of the other 2 rows."
    test = stats.ttest_rel(values, [50.0, 51.0, 49.0, 50.5, 49.5])
    low, high = test.confidence_interval(0.975)  # of two rows at once
    assert f"10.5 points above ERM's 50.0 % (95 % interval {low:.1f} to {high:.1f} for all rows" in found.reasons[0]
    assert found.reasons[1] == "Cost: augmix 3.0 passes per source image and 1 of ERM's speed."
    assert found.reasons[2:] == ["Without absent: data missing."]  # nothing to decide: five seeds make a claim


def test_the_cheapest_of_the_better_is_named_whatever_its_name() -> None:
    dear = seeds("augmix", 60.0, 62.0, 59.5, 60.0, 61.0, passes=20.0)
    found = verdict([*ERM, *dear, *seeds("sada", 60.5, 61.0, 60.0, 59.5, 61.2)])
    assert found.answer == "Use sada: it is the cheapest of those shown to be better than ERM (augmix, sada)."


def test_of_rows_that_are_not_told_apart_the_cheapest_is_named() -> None:
    dear = seeds("sada", 60.0, 62.0, 59.5, 60.0, 61.0, passes=20.0)
    cheap = seeds("augmix", 60.5, 61.0, 60.0, 59.5, 61.2)
    assert verdict([*ERM, *dear, *cheap]).answer == (
        "Use augmix: it is the cheapest of those shown to be better than ERM (augmix, sada)."
    )


def test_under_equal_passes_or_time_no_row_is_the_cheapest() -> None:
    """All were given the same: then the highest mean decides."""
    few = seeds("augmix", 53.5, 55.0, 52.0, 54.4, 52.4, passes=1.5)
    many = seeds("sada", 53.7, 54.6, 52.8, 54.1, 53.3)
    for budget, seconds in (("passes", None), ("time", 60.0)):
        changed = {"budget": budget, "seconds": seconds}
        runs = [r.model_copy(update={"asked": r.asked.model_copy(update=changed)}) for r in [*ERM, *few, *many]]
        assert verdict(runs).answer == (
            f"Use sada: of those shown to be better than ERM (augmix, sada), all with the same {budget}, it has the "
            "highest mean."
        )
    assert verdict([*ERM, *few, *many]).answer.startswith("Use augmix: it is the cheapest of")


def test_of_equally_cheap_rows_the_one_with_the_highest_mean_is_named() -> None:
    """And none is called the cheapest where another costs the same."""
    low = seeds("augmix", 52.0, 53.1, 51.1, 52.4, 51.6)
    prime, randconv = seeds("prime", 64.1, 65.0, 63.0, 64.5, 63.5), seeds("randconv", 64.2, 65.1, 63.1, 64.6, 62.0)
    assert verdict([*ERM, *low, *prime, *randconv]).answer == (
        "Use prime: of those shown to be better than ERM (augmix, prime, randconv) none is shown to be cheaper, and of "
        "augmix, prime, randconv it has the highest mean."
    )


CLEAR, UNCLEAR = (60.0, 61.2, 59.1, 60.4, 59.6), (55.0, 43.0, 50.0, 62.0, 48.0)
"""AugMix ten points above ERM, and all over the place."""


def test_a_row_that_is_shown_to_be_worse_is_named() -> None:
    worse = verdict([*ERM, *seeds("randconv", *(40.0 + value / 10 for value in CLEAR)), *seeds("augmix", *UNCLEAR)])
    assert [reason for reason in worse.reasons if "worse" in reason] == [
        "Shown to be worse than ERM: randconv by 4.0 points."
    ]
    assert not any("worse" in reason for reason in verdict([*ERM, *seeds("augmix", *UNCLEAR)]).reasons)


@pytest.mark.parametrize(
    ("values", "n", "answer", "deciding"),
    [
        (
            CLEAR,
            1,
            "Undecided: one seed cannot tell the rows apart.",
            "5 new SEEDS.",
        ),
        (
            CLEAR,
            2,
            "Undecided: augmix is 10.1 points ahead of ERM, but 2 seeds are too few for a claim.",
            "5 new SEEDS.",
        ),
        (
            UNCLEAR,
            2,
            "Undecided: ERM is 1.5 points ahead of augmix, but 2 seeds are too few for a claim.",
            "5 new SEEDS.",
        ),
        (
            CLEAR,
            4,
            "Undecided: augmix is 10.1 points ahead of ERM, but 4 seeds are too few for a claim.",
            "5 new SEEDS.",
        ),
        (
            UNCLEAR,
            4,
            "Undecided: augmix is 2.4 points ahead of ERM, but 4 seeds are too few for a claim.",
            "5 new SEEDS; with the mean and spread seen so far, 48 of them.",
        ),
        (CLEAR, 5, "Use augmix: it is better than the other row.", ""),
        (
            UNCLEAR,
            5,
            "Undecided: augmix is 1.6 points ahead of ERM, but 5 seeds do not separate the two.",
            "more seeds than are worth running, if mean and spread stay as they are.",
        ),
    ],
)
def test_the_answer_for_so_many_seeds(values: tuple[float, ...], n: int, answer: str, deciding: str) -> None:
    found = verdict([*ERM[:n], *seeds("augmix", *values[:n])])
    assert found.answer == answer
    unseen = " ".join(map(str, range(n, n + 5)))
    told = deciding.replace("SEEDS", f"seeds of every row, in a folder of their own (`--seeds {unseen} --out NEW`)")
    assert [reason for reason in found.reasons if reason.startswith("What would")] == (
        [f"What would decide it: {told}"] if told else []
    )


def test_a_row_with_few_seeds_hides_no_claim_of_the_others() -> None:
    found = verdict([*ERM, *seeds("augmix", *CLEAR), *seeds("gud", 90.0)])
    assert found.answer == "Use augmix: it is better than the other row with 5 seeds."
    assert found.reasons[0].startswith(
        "augmix has, of the rows with 5 seeds, the highest mean over the shifted domains"
    )
    assert found.reasons[-2] == "Not judged, with fewer than 5 seeds: gud (1)."
    assert not any(reason.startswith("What would") for reason in found.reasons)
    level = verdict([*ERM, *seeds("augmix", *UNCLEAR), *seeds("gud", 40.0, 41.0, 42.0)])
    assert level.answer == "Undecided: augmix is 1.6 points ahead of ERM, but 5 seeds do not separate the two."
    assert level.reasons[0].startswith("augmix has the highest mean over the shifted domains, ")
    assert level.reasons[-2] == "Not judged, with fewer than 5 seeds: gud (3)."
    few = verdict([*ERM[:4], *seeds("augmix", *CLEAR), *seeds("gud", 40.0, 41.0)])
    assert few.answer == "Undecided: augmix is 10.1 points ahead of ERM, but 4 seeds are too few for a claim."
    assert not any(reason.startswith("Not judged") for reason in few.reasons)


def test_a_claim_is_in_the_family_of_all_rows_that_the_tables_show() -> None:
    """Four seeds of a row are not judged, but make its table's family larger."""
    close = [*seeds("erm", *[50.0] * 5), *seeds("augmix", 50.3, 52.2, 51.1, 50.4, 52.2)]
    assert verdict(close).answer == "Use augmix: it is better than the other row."
    found = verdict([*close, *seeds("sada", 50.1, 49.7, 50.2, 50.0)])
    assert found.answer == "Undecided: augmix is 1.2 points ahead of ERM, but 5 seeds do not separate the two."
    assert "p = 0.081" in found.reasons[0]


def test_without_any_shifted_domain_none_is_spoken_of() -> None:
    inside = [scored(run, {"same": run.accuracy.domains["shifted"].accuracy["last"]}, ["same"])  # type: ignore[union-attr,index]
              for run in [*ERM, *seeds("augmix", *CLEAR)]]  # fmt: skip
    assert "the highest mean over the source's own domains" in verdict(inside).reasons[0]
    assert verdict([failed("gud", 0)]).answer == "No run of this comparison has an accuracy in a shifted domain."


def test_targets_without_data_are_named_where_no_other_is_there() -> None:
    found = verdict([scored(record("erm", 0), {"same": 90.0, "far": None}, ["same"])])
    assert found.answer == "No run of this comparison has an accuracy in a shifted domain."
    assert found.reasons == ["Without far: data missing."]


def test_a_row_with_few_seeds_makes_no_worse_row_win() -> None:
    """Once the answer fell back on the cheapest of those that are better than ERM, ten points behind the best."""
    best = [seed.model_copy(update={"throughput": None}) for seed in seeds("augmix", *CLEAR)]  # so the dearest
    rows = [*ERM, *best, *seeds("gud", 52.0, 53.5, 51.0, 52.3, 51.8)]
    assert verdict(rows).answer == "Use augmix: it is better than each of the other 2 rows."
    begun = verdict([*rows, *seeds("mada", 45.0)])
    assert begun.answer == "Use augmix: it is better than each of the other 2 rows with 5 seeds."
    assert begun.reasons[-2] == "Not judged, with fewer than 5 seeds: mada (1)."


def test_failed_runs_of_a_row_that_is_judged_are_counted() -> None:
    lost = [failed("augmix", seed) for seed in range(5, 8)]
    found = verdict([*ERM, *seeds("augmix", *CLEAR), *lost, failed("gud", 0)])
    assert found.answer == "Use augmix: it is better than the other row."
    assert found.reasons[-2:] == [
        "Runs that failed, and are not in these numbers: 3 of 8 of augmix.",
        "Not judged, without an accuracy: gud.",
    ]


def test_equal_differences_are_not_waited_for() -> None:
    found = verdict([*ERM, *seeds("augmix", 55.0, 56.0, 54.0, 55.5, 54.5)])
    assert found.answer == "Undecided: augmix is 5.0 points ahead of ERM, but 5 seeds do not separate the two."
    assert found.reasons[1] == (
        "What would decide it: nothing here; differences that are equal in all seeds give no spread to judge by."
    )


def test_erm_is_kept_only_where_it_leads() -> None:
    ahead = seeds("augmix", 49.0, 51.0, 49.2, 50.2, 49.5)
    assert verdict([*ERM, *ahead]).answer == (
        "Stay with ERM: of the rows with 5 seeds it has the highest mean, and none is shown to be better."
    )
    worse = verdict([*ERM, *seeds("augmix", 40.0, 41.0, 39.0, 40.2, 39.9)])
    assert worse.answer == "Use ERM: it is better than the other row."
    apart = verdict([*ERM, *(record("augmix", seed, 40.0 + seed / 10) for seed in range(4, 9))])
    assert apart.answer.endswith("points ahead of augmix, but 1 seed does not separate the two.")
    assert "What would decide it: the same seeds for both, 5 at least." in apart.reasons


def test_equal_means_are_level() -> None:
    found = verdict([record(method, seed, 50.0) for method in ("erm", "augmix") for seed in range(5)])
    assert "level with" in found.reasons[0]
    assert "0.0 points" not in "".join([found.answer, *found.reasons])


def test_a_row_that_leads_by_its_further_seeds_is_not_said_to_be_erm() -> None:
    """Ten seeds of AugMix, five of ERM: over the five that both have, ERM is ahead."""
    more = [record("augmix", seed, 60.0) for seed in range(5, 10)]
    found = verdict([*ERM, *seeds("augmix", 49.0, 51.0, 49.2, 50.2, 49.5), *more])
    assert found.answer == "Undecided: ERM is 0.2 points ahead of augmix, but 5 seeds do not separate the two."
    assert ", 0.2 points below ERM over the seeds that both have (95 %" in found.reasons[0]
    fewer = [record("erm", seed, 60.0) for seed in range(5, 10)]
    found = verdict([*ERM, *fewer, *seeds("augmix", 51.0, 53.0, 51.2, 52.2, 50.5)])
    assert "augmix comes next, 1.6 points above it over the seeds that both have (" in found.reasons[0]


def test_what_common_seeds_decide_and_all_seeds_deny_is_said_as_it_is() -> None:
    worse = seeds("augmix", 49.0, 49.9, 48.1, 49.4, 48.6)
    found = verdict([*ERM, *worse, *(record("augmix", seed, 56.0) for seed in range(5, 10))])
    assert found.answer == (
        "Undecided: augmix has the highest mean, but over the seeds that both have ERM is 1.0 points ahead of augmix."
    )
    assert "Shown to be worse than ERM: augmix by 1.0 points." in found.reasons
    better = seeds("augmix", 51.0, 52.1, 49.9, 51.4, 50.6)
    found = verdict([*ERM, *better, *(record("erm", seed, 60.0) for seed in range(5, 10))])
    assert found.answer == "Use augmix: over the seeds that both have it is shown to be better than ERM."


def test_without_erm_the_pair_that_is_open_is_named() -> None:
    close, noisy = seeds("gud", 50.0, 51.0, 49.0, 50.5, 49.5), seeds("sada", 59.0, 31.0, 57.0, 30.0, 58.0)
    found = verdict([*seeds("augmix", *CLEAR), *close, *noisy])
    assert found.answer.startswith("Undecided: no row is shown to be better than all others")
    assert any(reason.startswith("What would decide it between augmix and sada: ") for reason in found.reasons)


def test_rows_that_share_no_seed_are_not_said_to_be_level() -> None:
    gud = [record("gud", seed, 60.0 + seed / 10) for seed in range(5, 10)]
    found = verdict([*ERM, *seeds("augmix", 49.0, 51.0, 49.2, 50.2, 49.5), *gud])
    assert found.answer == (
        "Undecided: the row with the highest mean has no seed in common with the one to compare it with."
    )
    assert "What would decide it: the same seeds for both, 5 at least." in found.reasons
    few = [record("gud", seed, 60.0 + seed / 10) for seed in range(3, 8)]
    found = verdict([*ERM, *few])
    assert found.answer.endswith("but 2 seeds do not separate the two.")
    assert "What would decide it: the same seeds for both, 5 at least." in found.reasons


def test_rows_that_failed_are_named_beside_the_answer() -> None:
    lost = [failed("erm", seed) for seed in range(5)]
    good, bad = seeds("augmix", 60.0, 61.0, 59.0, 60.2, 59.9), seeds("gud", 40.5, 41.0, 39.2, 40.0, 39.9)
    found = verdict([*lost, *good, *bad])
    assert found.answer == "Use augmix: it is better than the other row."
    assert found.reasons[-1] == "Not judged, without an accuracy: ERM."


def test_too_little_to_judge_is_said_to_be_so() -> None:
    assert "from 1 seed, too few to judge it by." in verdict([ERM[0], *seeds("augmix", 60.0)]).reasons[0]
    equal = verdict([*seeds("erm", 50.0, 51.0, 49.0), *seeds("augmix", 60.0, 61.0, 59.0)])
    assert "from 3 seeds, without a spread to judge it by." in equal.reasons[0]
    assert verdict(ERM).answer == "Only ERM has an accuracy: there is nothing to compare it with."
    assert verdict([failed("gud", 0)]).answer == "No run of this comparison has an accuracy in a shifted domain."
    lost = verdict([*(failed("erm", seed) for seed in range(5)), *seeds("augmix", 50.0, 51.0, 49.0, 50.0, 50.0)])
    assert lost.answer == "Only augmix has an accuracy: there is nothing to compare it with."
    unsure = verdict([*seeds("gud", 50.0, 51.0, 49.0, 50.0, 50.0), *seeds("augmix", 50.1, 50.8, 49.2, 50.2, 49.9)])
    assert unsure.answer.endswith(
        "no row is shown to be better than all others, and ERM, the yardstick, has no accuracy."
    )


def test_a_row_that_is_worse_than_erm_is_never_advised() -> None:
    """Even where it is the only one that differs, and another has the highest mean."""
    found = verdict([*ERM, *seeds("randconv", *(40.0 + value / 10 for value in CLEAR)), *seeds("augmix", *UNCLEAR)])
    assert found.answer == "Undecided: augmix is 1.6 points ahead of ERM, but 5 seeds do not separate the two."


def test_without_enough_seeds_of_erm_nothing_is_claimed_of_the_others() -> None:
    found = verdict([*ERM[:4], *seeds("augmix", *CLEAR), *seeds("gud", 40.0, 41.0, 39.5, 40.2, 39.8)])
    assert found.answer == "Undecided: augmix is 10.1 points ahead of ERM, but 4 seeds are too few for a claim."
    assert not any(reason.startswith("Not judged") for reason in found.reasons)


def test_a_p_value_that_is_printed_follows_an_equals_sign() -> None:
    found = verdict([*seeds("erm", *[50.0] * 5), *seeds("augmix", 51.3, 52.2, 51.1, 51.4, 52.9)])
    assert "; p = 0.006 after Holm's correction)" in found.reasons[0]
    assert "; p < 0.001 after Holm's correction)" in verdict([*ERM, *seeds("augmix", *CLEAR)]).reasons[0]


def test_the_costs_of_the_best_row_and_of_the_better_one_are_told() -> None:
    better = seeds("gud", 52.1, 53.0, 51.1, 52.4, 51.6, passes=4.0)
    found = verdict([*ERM, *better, *seeds("augmix", 66.0, 43.0, 60.0, 48.0, 60.0)])
    (cost,) = [reason for reason in found.reasons if reason.startswith("Cost: ")]
    assert cost.startswith("Cost: augmix 3.0 passes per source image and ")
    assert "; gud 4.0 passes per source image and " in cost


def test_runs_that_diverged_are_counted_among_those_that_failed() -> None:
    lost = failed("augmix", 5).model_copy(update={"status": "diverged"})
    found = verdict([*ERM, *seeds("augmix", *CLEAR), lost])
    assert found.reasons[-1] == "Runs that failed, and are not in these numbers: 1 of 6 of augmix."


def test_of_a_row_that_is_better_and_a_noisy_one_above_it_the_better_one_is_named() -> None:
    found = verdict([*ERM, *seeds("gud", 52.1, 53.0, 51.1, 52.4, 51.6), *seeds("augmix", 66.0, 43.0, 60.0, 48.0, 60.0)])
    assert found.reasons[0].startswith("augmix has the highest mean over the shifted domains, 55.4 %")
    assert found.answer == "Use gud: it alone is shown to be better than ERM, though not than every other row."


def test_a_slow_method_has_a_fraction_of_the_speed_of_erm() -> None:
    slow = [record("augmix", seed, value, speed=25.0) for seed, value in enumerate(CLEAR)]
    found = verdict([*ERM, *slow])
    assert found.reasons[-2] == "Cost: augmix 3.0 passes per source image and 0.25 of ERM's speed."


def test_without_a_speed_beside_erm_the_passes_are_still_told() -> None:
    alone = [
        seed.model_copy(update={"ran": seed.ran.model_copy(update={"session": "other"})})
        for seed in seeds("augmix", *CLEAR)
    ]
    assert "Cost: augmix 3.0 passes per source image." in verdict([*ERM, *alone]).reasons


def last(made: Record, value: float) -> Record:
    """The run with this accuracy of its last network."""
    assert made.accuracy is not None
    shifted = made.accuracy.domains["shifted"]
    assert shifted.accuracy is not None
    other = shifted.model_copy(update={"accuracy": shifted.accuracy | {"last": value}})
    domains = made.accuracy.domains | {"shifted": other}
    return made.model_copy(update={"accuracy": made.accuracy.model_copy(update={"domains": domains})})


def test_a_claim_over_the_other_rows_says_so_if_it_hangs_on_the_selected_networks() -> None:
    """It rests on more than the differences from ERM."""
    gud = seeds("gud", 52.0, 53.1, 50.9, 52.4, 51.6)
    runs = [*ERM, *map(last, seeds("augmix", *CLEAR), [52.0, 52.4, 51.1, 51.0, 51.4]), *gud]
    found = verdict(runs)
    assert found.answer == "Use augmix: it is better than each of the other 2 rows."
    (reason,) = (reason for reason in found.reasons if reason.startswith("At the last step"))
    assert re.fullmatch(r"At the last step gud \(p \d\.\d+\) is not shown to differ from augmix\.", reason)


def test_a_claim_that_the_last_networks_turn_round_says_so() -> None:
    fallen = [made - 20.0 for made in CLEAR]
    found = verdict([*ERM, *map(last, seeds("augmix", *CLEAR), fallen)])
    assert found.answer == "Use augmix: it is better than the other row."
    assert any(re.match(r"At the last step augmix .* is shown to be worse than ERM\.", each) for each in found.reasons)


def test_a_claim_that_hangs_on_the_selected_networks_says_so() -> None:
    holds = [*ERM, *seeds("augmix", *CLEAR)]
    assert not any(reason.startswith("At the last step") for reason in verdict(holds).reasons)
    hangs = [*ERM, *(last(made, value) for made, value in zip(seeds("augmix", *CLEAR), UNCLEAR, strict=True))]
    found = verdict(hangs)
    assert found.answer == "Use augmix: it is better than the other row."
    p = stats.ttest_rel(UNCLEAR, [49.0, 50.0, 48.0, 49.5, 48.5]).pvalue
    assert f"At the last step augmix (p {p:.3f}) is not shown to differ from ERM." in found.reasons


def test_many_rows_are_counted_not_named_in_the_answer() -> None:
    better = ["augmix", "gud", "mada", "randconv", "sada"]
    shifted = [[value + i / 10 * (-1) ** j for j, value in enumerate(CLEAR)] for i in range(5)]
    rows = [*ERM, *(one for row, values in zip(better, shifted, strict=True) for one in seeds(row, *values))]
    assert verdict(rows).answer.partition(": ")[2] == (
        "of the 5 rows shown to be better than ERM none is shown to be cheaper, and of 5 equally cheap ones it has the "
        "highest mean."
    )


def test_a_single_row_says_what_it_is_the_mean_of() -> None:
    (reason, missing) = verdict(ERM[:2]).reasons
    assert reason == "It reaches 50.5 %, the mean over the shifted domains (n = 2)."
    assert missing == "Without absent: data missing."


def test_below_erm_the_best_of_the_others_comes_next() -> None:
    near, far = seeds("augmix", 49.0, 51.0, 49.2, 50.2, 49.5), seeds("gud", 30.0, 33.0, 29.0, 30.0, 31.0)
    found = verdict([*ERM, *near, *far])
    assert "; augmix comes next, 0.2 points below" in found.reasons[0]


@pytest.mark.parametrize(("step", "said"), [(1.1, 6), (1.3, 7)])
def test_as_many_new_seeds_are_asked_for_as_would_decide_alone(step: float, said: int) -> None:
    """Differences of 2 points in the mean, `step` apart: the paired t-test at 5 % asks for six and for seven seeds."""
    gained = [2 + step * i for i in (-2, -1, 0, 1, 2)]
    spread = float(np.std(gained, ddof=1))
    enough = next(n for n in range(5, 20) if 2 / (spread / n**0.5) > stats.t.ppf(0.975, n - 1))
    assert said == enough
    found = verdict([*seeds("erm", *[50.0] * 5), *seeds("augmix", *(50 + by for by in gained))])
    assert found.answer.startswith("Undecided: augmix is 2.0 points ahead of ERM")
    told = f"What would decide it: {said} new seeds, in a folder of their own, if mean and spread stay as they are."
    assert told in found.reasons


def test_the_mean_of_erm_is_named_only_where_both_have_the_same_seeds() -> None:
    found = verdict([*ERM, *seeds("augmix", *CLEAR, 75.0)])
    assert "62.6 %, 10.1 points above ERM over the seeds that both have (95 %" in found.reasons[0]
    assert "10.1 points above ERM's 50.0 % (95 %" in verdict([*ERM, *seeds("augmix", *CLEAR)]).reasons[0]


# --- the details of a run


@pytest.mark.usefixtures("blank")
@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("source-val", "shifted 50.0, same 90.0 %; selected at step 4 of 8"),
        ("last", "shifted 49.0, same 90.0 %; selected at step 8 of 8"),
    ],
)
def test_the_details_of_a_run_are_those_of_the_network_that_was_selected(rule: str, said: str, tmp_path: Path) -> None:
    store = fill(tmp_path, [record("erm", 0, selection=rule)])
    assert said in Parsed(page.write(store, store.read_all()).read_text(encoding="utf-8")).text


def test_runs_on_one_machine_have_one_environment_whatever_its_load() -> None:
    def under(seed: int, **about: object) -> Record:
        made = record("erm", seed)
        ran = made.ran.model_copy(update={"machine": {**made.ran.machine, **about}})
        return made.model_copy(update={"ran": ran})

    made = [under(0, load_mean=0.5, load_max=1.0), under(1, load_mean=3.5, load_max=4.0), under(2, threads=8)]
    assert [ids for _, ids in facts.environments(made)] == [[made[0].run_id, made[1].run_id], [made[2].run_id]]


def test_the_small_curve_of_a_run_has_the_shifted_domains_without_the_source() -> None:
    curve = [{"step": s, "val": 80.0, "test": {"shifted": 10.0 * s, "same": 100.0}} for s in (4, 8)]
    drawn = facts.spark(curve, record("erm", 0))
    assert drawn == {"targets": "100.0,36.0 200.0,12.0", "source": "100.0,12.0 200.0,12.0"}  # 60 high, 100 % on top


def test_the_small_curve_of_a_run_without_targets_is_of_its_source() -> None:
    curve = [{"step": s, "val": 80.0, "test": {"same": 90.0}} for s in (4, 8)]
    drawn = facts.spark(curve, scored(record("erm", 0), {"same": 90.0, "far": None}, ["same"]))
    assert drawn == {"targets": "", "source": "100.0,12.0 200.0,12.0"}


def test_a_domain_that_some_runs_have_is_not_said_to_be_missing() -> None:
    made = [scored(record("erm", 0), {"a": 1.0, "b": None}), scored(record("augmix", 0), {"a": 2.0, "b": 3.0})]
    assert not [reason for reason in verdict(made).reasons if reason.startswith("Without")]
