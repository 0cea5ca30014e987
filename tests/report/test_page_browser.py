"""index.html in a browser: sorting, filtering, folding, copying, printing, the themes, and what axe finds."""

import csv
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmark import tables
from benchmark.core.escaping import from_csv, to_csv
from benchmark.report import page
from benchmark.runs.store import Store
from tests.report import test_source_table
from tests.report.pages import NASTY, fill, runs


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
    opened.context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened.goto((store.out / "index.html").as_uri())
    yield opened
    opened.close()
    assert problems == []


def allowed(url: str) -> bool:
    return url.startswith(("file:", "data:"))


def article(shown: Any) -> Any:
    """The first comparison."""
    return shown.locator("article", has=shown.get_by_role("heading", name="minidigits: trained on same"))


def lonely(shown: Any) -> Any:
    """The comparison of one row, which is the last and folded."""
    return shown.locator("article[id^=group-]").last


def labels(table: Any) -> list[str]:
    """Names of the rows that no filter hides, folded ones too."""
    return [text.strip() for text in table.locator("tbody tr[data-runs]:not([hidden]) th").all_text_contents()]


def unfold(shown: Any) -> None:
    """Opens every part, and the first rows of tables."""
    shown.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    for button in shown.locator("tbody .open").all()[:3]:
        button.click()


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


FILTERS = [
    ("AUG", {"augmix"}, "1 of 4 rows, 3 of 9 runs shown"),
    ("aug | GUD", {"augmix", "gud"}, "2 of 4 rows, 4 of 9 runs shown"),
    ("|gud| |", {"gud"}, "1 of 4 rows, 1 of 9 runs shown"),
    ("sada", set(), "0 of 4 rows, 0 of 9 runs shown"),
    (" | ", {"augmix", "erm", "gud", NASTY}, ""),
]


def test_the_filter_keeps_rows_and_runs_of_a_comparison(shown: Any) -> None:
    part, field = article(shown), article(shown).get_by_label("Filter rows and runs")
    opener = part.locator("tbody tr", has_text="erm").locator(".open").first
    for wanted, rows, said in FILTERS:
        if opener.get_attribute("aria-expanded") != "true":
            opener.click()
        assert part.locator("tr.detail").count() == 1
        field.fill(wanted)
        assert set(labels(part)) == rows, wanted
        kept = part.locator(".run:not([hidden])").evaluate_all("all => all.map(run => run.dataset.row)")
        assert set(kept) == rows, wanted
        assert part.locator("output").inner_text() == said
        assert part.locator("tr.detail").count() == ("erm" in rows), wanted
        assert part.locator("details.part[hidden]").count() == 0  # what is folded stays in reach
        field.fill("")
        assert part.locator(".run:not([hidden])").count() == 9, wanted
        assert "erm" in labels(part), wanted


def test_a_row_opens_its_runs_by_mouse_and_by_keyboard(shown: Any) -> None:
    table = article(shown).locator("section[data-table=accuracy] table")
    row = table.locator("tbody tr", has_text="augmix")
    row.locator("td").first.click()
    button = row.locator(".open")
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


def test_columns_fold_out(shown: Any) -> None:
    button = shown.get_by_role("button", name="All columns").first
    column = shown.get_by_role("columnheader", name="mean (oracle)").first
    assert not column.is_visible()
    button.click()
    assert column.is_visible()


def test_a_link_opens_what_it_points_into(shown: Any, store: Store) -> None:
    run = runs()[-1]
    inside = shown.locator(f"#run-{run.run_id} dl")
    assert lonely(shown).locator("details[open]").count() == 0
    shown.goto(f"{(store.out / 'index.html').as_uri()}#run-{run.run_id}")
    inside.wait_for()  # until it is visible: the page opens it after the browser has moved there
    assert 0 <= inside.bounding_box()["y"] < 900
    inside.get_by_role("link", name="environment 1").click()
    shown.locator("#environment-1 dl").wait_for()
    shown.reload()
    shown.locator("#environment-1 dl").wait_for()
    key = lonely(shown).get_attribute("id")
    shown.locator(f"nav a[href='#{key}']").press("Enter")
    lonely(shown).locator("section[data-table=accuracy] table").wait_for()


def test_the_theme_follows_the_reader_and_the_button(shown: Any) -> None:
    def background() -> str:
        return str(shown.evaluate("getComputedStyle(document.body).backgroundColor"))

    assert background() == "rgb(255, 255, 255)"
    shown.get_by_role("button", name="Switch to the dark theme").click()
    assert background() == "rgb(21, 23, 26)"
    ground = "img => getComputedStyle(img).backgroundColor"
    assert set(shown.locator("img").evaluate_all(f"all => all.map({ground})")) == {"rgb(255, 255, 255)"}
    shown.get_by_role("button", name="Switch to the light theme").click()
    shown.emulate_media(color_scheme="dark")
    shown.get_by_role("button", name="Switch to the light theme").wait_for()
    assert background() == "rgb(21, 23, 26)"


@pytest.mark.parametrize("width", [390, 1280])
def test_only_tables_scroll_sideways(shown: Any, width: int) -> None:
    shown.set_viewport_size({"width": width, "height": 844})
    unfold(shown)
    for button in shown.get_by_role("button", name="All columns").all():
        button.click()
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    assert shown.locator(".detail .inner").first.bounding_box()["width"] <= width


LONG = "sada[early_stop=per_sample,recon_norm=image_max,step_size=0.0314]"


def test_a_long_name_leaves_room_for_numbers_on_a_phone(shown: Any) -> None:
    shown.set_viewport_size({"width": 390, "height": 844})
    heading = article(shown).locator("section[data-table=accuracy] tbody th").first
    heading.locator("button").evaluate("(button, name) => { button.lastChild.data = name; }", LONG)
    assert LONG in heading.inner_text()
    assert heading.bounding_box()["width"] < 190
    assert heading.bounding_box()["height"] > 60  # it is wrapped


@pytest.mark.parametrize("width", [390, 1280])
def test_what_has_the_focus_is_not_under_a_heading_that_stays(shown: Any, width: int) -> None:
    shown.set_viewport_size({"width": width, "height": 844})
    shown.get_by_role("button", name="All columns").first.click()
    table = article(shown).locator("section[data-table=accuracy] table")
    hidden = table.evaluate(
        """table => {
          const first = table.tHead.rows[0].cells[0];
          table.parentElement.scrollLeft = table.scrollWidth;
          return [...table.tHead.querySelectorAll("th + th button")].reverse().filter(button => {
            button.focus();
            return button.getBoundingClientRect().right <= first.getBoundingClientRect().right;
          }).map(button => button.textContent);
        }"""
    )
    assert hidden == []


def test_the_two_charts_of_several_sources_stand_below_each_other(browser: Any, tmp_path: Path) -> None:
    tables.write_all(fill(tmp_path, test_source_table.RUNS))
    for width in (390, 1280):
        opened = browser.new_page(viewport={"width": width, "height": 900})
        opened.goto((tmp_path / "index.html").as_uri())
        first, second = (figure.bounding_box() for figure in opened.locator(".top figure").all())
        assert second["y"] >= first["y"] + first["height"]
        lead = opened.locator(".lead").bounding_box()
        assert (first["x"] > lead["x"] + lead["width"]) == (width == 1280)  # beside it, where there is room
        opened.close()


def test_without_a_script_every_column_is_there_and_no_dead_button(browser: Any, store: Store) -> None:
    context = browser.new_context(java_script_enabled=False)
    opened = context.new_page()
    opened.goto((store.out / "index.html").as_uri())
    table = opened.locator("section[data-table=accuracy]").first
    assert table.get_by_role("columnheader", name="mean (oracle)").is_visible()
    assert opened.locator(".tools button, .filter, #theme").filter(visible=True).count() == 0
    assert table.locator("tbody th").first.inner_text().strip() in {"erm", "augmix", "gud", NASTY}
    context.close()


def test_a_picture_opens_at_its_own_size_and_closes(shown: Any) -> None:
    figure = shown.locator("figure").first
    button, dialog = figure.get_by_role("button", name="Full size"), shown.get_by_role("dialog")
    assert figure.locator("img").bounding_box()["width"] < 450
    button.press("Enter")
    large = dialog.locator("img")
    size = large.evaluate("img => [img.naturalWidth, parseFloat(getComputedStyle(img).width), img.alt]")
    assert size[0] == size[1] > 800
    assert size[2] == figure.locator("img").get_attribute("alt")
    shown.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert button.evaluate("button => button === document.activeElement")
    figure.locator("img").click()
    dialog.get_by_role("button", name="Close").click()
    assert not dialog.is_visible()


# --- copying


def copied(shown: Any, button: Any) -> str:
    """What is on the clipboard after a press of Enter. The page says so, and the button keeps the focus."""
    shown.locator("[role=status]").evaluate("status => { status.textContent = ''; }")  # of the copy before
    button.press("Enter")
    shown.locator("[role=status]", has_text="Copied").wait_for()
    assert button.evaluate("button => button === document.activeElement")
    shown.locator("body").evaluate("body => body.insertAdjacentHTML('beforeend', '<textarea id=pasted></textarea>')")
    shown.locator("#pasted").press("Control+V")
    text = str(shown.locator("#pasted").input_value())
    shown.locator("#pasted").evaluate("area => area.remove()")
    return text


OTHER = "Object.defineProperty(navigator, 'clipboard', { configurable: true, value: VALUE })"
DENIED = OTHER.replace("VALUE", "{ writeText: () => Promise.reject(new Error()) }")
ABSENT = OTHER.replace("VALUE", "undefined")


def test_the_commands_of_a_row_and_of_a_comparison_are_copied(shown: Any) -> None:
    part = article(shown)
    row = part.locator("section[data-table=accuracy] tbody tr", has_text="augmix")
    row.locator(".open").click()
    button = part.get_by_role("button", name="Copy 3 commands")
    part.locator("summary", has_text="commands that repeat").click()
    for clipboard in ("", DENIED, ABSENT):
        shown.evaluate(clipboard)
        assert copied(shown, button) == "".join(f"{run.ran.command}\n" for run in runs()[3:6])
        every = copied(shown, part.get_by_role("button", name="Copy all commands"))
        assert sorted(every.splitlines()) == sorted(run.ran.command for run in runs()[:9])


def test_the_bibtex_is_copied(shown: Any) -> None:
    text = copied(shown, shown.get_by_role("button", name="Copy BibTeX"))
    assert text == (page.TEMPLATES / "citation.bib").read_text(encoding="utf-8")
    assert shown.locator("[role=status]").get_attribute("aria-live") == "polite"


def test_a_browser_that_does_not_copy_is_said_to(shown: Any) -> None:
    shown.evaluate(f"{ABSENT}; document.execCommand = () => false")
    shown.get_by_role("button", name="Copy BibTeX").click()
    shown.locator("[role=status]", has_text="Not copied: the browser does not allow it.").wait_for()


def test_a_table_is_copied_as_it_is_shown(shown: Any) -> None:
    part = article(shown)
    section = part.locator("section[data-table=accuracy]")
    section.get_by_role("button", name="worst").click()
    section.locator(".open").first.click()  # the runs of a row are no part of the table
    part.get_by_label("Filter rows and runs").fill("erm|aug|img")
    lines = list(csv.reader(io.StringIO(copied(shown, section.get_by_role("button", name="Copy CSV")))))
    assert [line[0] for line in lines] == ["method", "augmix", "erm", NASTY]
    cells = section.locator("tr:visible:not(.detail)").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.checkVisibility() ? cell.textContent.trim() : null))"
    )
    assert [[*map(from_csv, line)] for line in lines] == [[c for c in line if c is not None] for line in cells]
    short = len(lines[0])
    section.get_by_role("button", name="All columns").click()
    assert copied(shown, section.get_by_role("button", name="Copy CSV")).split("\n")[0].count(",") >= short + 4


CELLS = [
    "a",
    "=1+1",
    "+1",
    "-1.5",
    "-1.5 ± 0.2",
    "@x",
    " =1",
    "'=1",
    "'a",
    "\t=1",
    "\uff1d1",
    'a"b',
    "a,b",
    "a\nb",
    "–",
    "",
]


def test_a_copied_cell_is_no_formula(shown: Any) -> None:
    for cell in CELLS:
        written = shown.evaluate("csvCell", cell)
        read = next(csv.reader(io.StringIO(written, newline="")), [""])
        assert read == [cell if cell in ("+1", "-1.5") else to_csv(cell)]


# --- on paper


def test_paper_keeps_headings_and_opens_what_is_folded(shown: Any) -> None:
    shown.emulate_media(media="print", color_scheme="dark")
    shown.set_viewport_size({"width": 703, "height": 1000})  # a sheet of A4 without its margins
    headings = shown.locator("th")
    assert headings.count() > 100
    assert all(text.strip() for text in headings.filter(visible=True).all_inner_texts())
    assert shown.locator("th:not(.more)").filter(visible=True).count() == shown.locator("th:not(.more)").count()
    assert shown.locator("details dl").filter(visible=True).count() == shown.locator("details dl").count()
    assert shown.locator("pre").filter(visible=True).count() == shown.locator("pre").count()
    controls = shown.locator("nav, .filter, .tools, #theme, dialog")
    assert controls.filter(visible=True).count() == 0
    assert shown.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    names = shown.locator("tbody th").all_inner_texts()
    assert {"erm", "augmix", "gud", NASTY} <= {name.strip() for name in names}


@pytest.mark.parametrize("n", [3, 16])
def test_a_wide_table_fits_on_paper(shown: Any, n: int) -> None:
    """A table of n columns with long names, which replaces one of the page's."""
    table = shown.locator("section[data-table=accuracy] table").first
    head = "".join(f'<th scope="col"><button type="button">gaussian_noise {i}</button></th>' for i in range(n))
    body = "<td>57.3 ± 2.0</td>" * n
    table.evaluate(
        "(table, [head, body]) => { table.tHead.rows[0].innerHTML = '<th>method</th>' + head;"
        "table.tBodies[0].innerHTML = '<tr><th>sada[early_stop=per_sample]</th>' + body + '</tr>'; }",
        [head, body],
    )
    assert n < 16 or table.bounding_box()["width"] > 1184  # on the screen it scrolls
    shown.emulate_media(media="print")
    shown.set_viewport_size({"width": 703, "height": 1000})
    assert table.bounding_box()["width"] <= 703


# --- for everybody


@pytest.mark.parametrize(("width", "theme"), [(390, "dark"), (1280, "light")])
def test_axe_finds_no_violation(shown: Any, width: int, theme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe-playwright-python").Axe()
    shown.emulate_media(color_scheme=theme)
    shown.set_viewport_size({"width": width, "height": 844})

    def violations() -> list[str]:
        found = axe.run(shown).response
        assert len(found["passes"]) > 15
        return [f"{rule['id']}: {node['html'][:200]}" for rule in found["violations"] for node in rule["nodes"]]

    assert violations() == []
    unfold(shown)
    shown.get_by_role("button", name="Copy BibTeX").click()
    assert violations() == []
    shown.locator(".full").first.click()
    assert violations() == []
