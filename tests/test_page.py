"""index.html: what it says, that it escapes, that it repeats, and that it works in a browser."""

import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from benchmark import page, tables
from benchmark.figures import draw
from benchmark.measure import picture_sheet
from benchmark.records import Store, npy_bytes
from benchmark.spec import Record
from benchmark.verdict import verdict
from tests import toy
from tests.handmade import error_map, failed, record

NASTY = """<img src=x onerror=alert(1)>"'&</script>{{ 7919 * 7919 }}$"""
"""Markup, quotes, a template and the end of a script, as no name should be and any may be."""


def nasty(seed: int) -> Record:
    """A run whose method, domain and error are nasty."""
    made = record(NASTY, seed, 40.0 + seed)
    assert made.accuracy is not None
    domains = {NASTY: made.accuracy.domains["shifted"]} | made.accuracy.domains
    accuracy = made.accuracy.model_copy(update={"domains": domains})
    return made.model_copy(update={"accuracy": accuracy, "warnings": [NASTY], "error": NASTY})


def runs() -> list[Record]:
    made = [record("erm", s, 50.0 + s, speed=400) for s in range(3)]
    made += [record("augmix", s, 60.0 + 2 * s) for s in range(3)]
    return [*made, *(nasty(s) for s in range(2)), failed("gud", 0), record(NASTY, 0, dataset=NASTY)]


def fill(folder: Path, made: list[Record]) -> Store:
    """A store of these runs, with maps, curves and views."""
    store = Store(folder)
    store.prepare()
    images = toy.images(8, 0).unit()
    for one in made:
        files = {}
        if one.sensitivity:
            content = npy_bytes(error_map(one).error.numpy() * (1 + int(one.run_id[:2], 16) / 256))
            files = {"sensitivity.npy": content, "views.png": picture_sheet([images, 1 - images])}
            one = with_map(one, content)  # noqa: PLW2901
        names = [*one.accuracy.domains] if one.accuracy else []
        curve = [{"step": s, "val": 50.0 + s, "test": dict.fromkeys(names, 30.0 + s)} for s in (4, 8)] if names else []
        with store.working(one.run_id):
            store.finish(one, curve, files)
    return store


def with_map(made: Record, content: bytes) -> Record:
    known = record("erm", 0, map_file=content).sensitivity
    return made.model_copy(update={"sensitivity": known})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = fill(tmp_path_factory.mktemp("page"), runs())
    page.write(store, store.read_all())
    return store


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
    ids = {about["id"] for tag, about in parsed.tags if tag == "details" and "id" in about}
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


def test_rows_without_a_seed_in_common_have_a_page_too(tmp_path: Path) -> None:
    fill(tmp_path, [record("erm", 0), record("augmix", 1, accuracy=60.0)])
    assert tables.main(["--out", str(tmp_path)]) == 0
    assert "60.0 %, with no seed in common to compare it by." in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_runs_that_all_failed_have_a_page_too(tmp_path: Path) -> None:
    lonely = fill(tmp_path, [failed("gud", 0)])
    assert draw(lonely, lonely.read_all()) == []
    assert tables.main(["--out", str(tmp_path)]) == 0
    assert "No run of this comparison has reached an accuracy." in (tmp_path / "index.html").read_text(encoding="utf-8")


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
    low, high = test.confidence_interval()
    assert f"10.5 points above ERM's 50.0 % (95 % interval {low:.1f} to {high:.1f}, 5 paired seeds" in found.reasons[0]
    assert found.reasons[1] == "Price: augmix 3.0 passes per source image and 1 of ERM's speed."
    assert len(found.reasons) == 2  # five seeds make a claim


def test_of_rows_that_are_not_told_apart_the_cheapest_is_named() -> None:
    dear = seeds("sada", 60.0, 62.0, 59.5, 60.0, 61.0, passes=20.0)
    cheap = seeds("augmix", 60.5, 61.0, 60.0, 59.5, 61.2)
    assert verdict([*ERM, *dear, *cheap]).answer == (
        "Use augmix: it is the cheapest of those shown to be better than ERM (augmix, sada)."
    )


def test_intervals_that_do_not_separate_are_said_not_to() -> None:
    found = verdict([*ERM[:3], *seeds("augmix", 60.0, 45.0, 50.0)])
    assert found.answer == "Stay with ERM: no augmentation is shown to be better."
    assert "That does not separate the two." in found.reasons[0]
    assert found.reasons[-1] == "3 seeds give an indication; a claim needs 5."
    worse = verdict([*ERM, *seeds("augmix", 40.0, 41.0, 39.0, 40.2, 39.9)])
    assert worse.answer == "Use ERM: it is better than each of the other 1 rows."


def test_too_little_to_judge_is_said_to_be_so() -> None:
    assert verdict([ERM[0], *seeds("augmix", 60.0)]).answer == "Undecided: one seed cannot tell the rows apart."
    assert "without a spread" in verdict([ERM[0], *seeds("augmix", 60.0)]).reasons[0]
    assert verdict(ERM).answer == "Only ERM was run: there is nothing to compare it with."
    assert verdict([failed("gud", 0)]).answer == "No run of this comparison has reached an accuracy."
    unsure = verdict([*seeds("gud", 50.0, 51.0, 49.0), *seeds("augmix", 50.1, 50.8, 49.2)])
    assert unsure.answer.startswith("Undecided: no row is shown to be better than all others, and ERM")


# --- in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright; pip install playwright")
    found = [path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))]
    if not found:
        pytest.skip("no chromium on PATH")
    with playwright.sync_playwright() as running:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        started = running.chromium.launch(executable_path=found[0], args=[*flags, "--disable-sync"])
        yield started
        started.close()


@pytest.fixture
def shown(browser: Any, store: Store) -> Iterator[Any]:
    """The page in a window of 1280 px with a light theme; at the end, no error may have been reported."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
    problems: list[str] = []
    opened.on("console", lambda message: problems.append(message.text))
    opened.on("pageerror", lambda problem: problems.append(str(problem)))
    opened.on("request", lambda request: problems.append(request.url) if not allowed(request.url) else None)
    opened.goto((store.out / "index.html").as_uri())
    yield opened
    opened.close()
    assert problems == []


def allowed(url: str) -> bool:
    return url.startswith(("file:", "data:"))


def article(shown: Any) -> Any:
    return shown.locator("article", has=shown.get_by_role("heading", name="minidigits: trained on same"))


def labels(table: Any) -> list[str]:
    return [text.strip() for text in table.locator("tbody tr[data-runs]:visible th").all_inner_texts()]


def test_a_heading_sorts_and_says_so(shown: Any) -> None:
    table = article(shown).locator("section[data-table=accuracy] table")
    heading = table.locator("thead th", has=shown.get_by_role("button", name="mean", exact=True)).first
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert labels(table) == ["augmix", "erm", NASTY, "gud"]  # gud failed: no number, last
    heading.locator("button").press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"
    assert labels(table) == [NASTY, "erm", "augmix", "gud"]
    first = table.locator("thead th").first
    first.locator("button").click()
    assert (first.get_attribute("aria-sort"), heading.get_attribute("aria-sort")) == ("ascending", "none")
    assert labels(table) == [NASTY, "augmix", "erm", "gud"]


def test_the_filter_keeps_rows_of_all_tables_of_a_comparison(shown: Any) -> None:
    part = article(shown)
    part.get_by_label("Filter rows").fill("AUG")
    assert set(labels(part)) == {"augmix"}
    assert part.locator("output").inner_text() == "1 shown"
    part.get_by_label("Filter rows").fill("")
    assert "erm" in labels(part)


def test_a_row_opens_its_runs_by_mouse_and_by_keyboard(shown: Any) -> None:
    table = article(shown).locator("section[data-table=accuracy] table")
    row = table.locator("tbody tr", has_text="augmix")
    row.locator("td").first.click()
    button = row.locator("button")
    assert button.get_attribute("aria-expanded") == "true"
    detail = table.locator("tr.detail")
    for run in runs()[3:6]:
        assert run.run_id in detail.inner_text()
        assert run.ran.command in detail.inner_text()
    assert detail.locator("svg.spark").count() == 3
    button.press("Enter")
    assert button.get_attribute("aria-expanded") == "false"
    assert table.locator("tr.detail").count() == 0
    button.press("Space")
    assert table.locator("tr.detail").count() == 1
    assert shown.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_columns_fold_out_and_a_link_to_a_run_opens_it(shown: Any, store: Store) -> None:
    button = shown.get_by_role("button", name="All columns").first
    column = shown.get_by_role("columnheader", name="mean (oracle)").first
    assert not column.is_visible()
    button.click()
    assert column.is_visible()
    shown.goto(f"{(store.out / 'index.html').as_uri()}#run-{runs()[0].run_id}")
    assert shown.locator(f"#run-{runs()[0].run_id}").evaluate("run => run.open")


def test_the_theme_follows_the_reader_and_the_button(shown: Any) -> None:
    def background() -> str:
        return str(shown.evaluate("getComputedStyle(document.body).backgroundColor"))

    assert background() == "rgb(255, 255, 255)"
    shown.get_by_role("button", name="Switch to the dark theme").click()
    assert background() == "rgb(21, 23, 26)"
    shown.get_by_role("button", name="Switch to the light theme").click()
    shown.emulate_media(color_scheme="dark")
    shown.get_by_role("button", name="Switch to the light theme").wait_for()
    assert background() == "rgb(21, 23, 26)"


@pytest.mark.parametrize("width", [390, 1280])
def test_only_tables_scroll_sideways(shown: Any, width: int) -> None:
    shown.set_viewport_size({"width": width, "height": 844})
    for button in shown.locator("tbody .open").all()[:3]:
        button.click()
    for button in shown.get_by_role("button", name="All columns").all():
        button.click()
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    assert shown.locator(".detail .inner").first.bounding_box()["width"] <= width
