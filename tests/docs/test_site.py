"""The site: it builds, a broken link ends the build, it asks a network for nothing, and GitHub shows the same."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from PIL import Image

from benchmark.report.figures import gains
from benchmark.report.tidy.stats import Pair
from docs.site import pictures, published, tables
from tests.conftest import ROOT
from tests.handmade import record, scored

NEEDS = pytest.mark.skipif(find_spec("material") is None, reason="no mkdocs-material: `make docs` installs it")
PAGES = [*sorted(ROOT.glob("docs/**/*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


def build(project: Path) -> subprocess.CompletedProcess[str]:
    here = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONWARNINGS": "default"}
    call = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(project / "mkdocs.yml")]
    return subprocess.run(call, env=here, capture_output=True, text=True, check=False)


def copy(to: Path) -> Path:
    """A project with the pages of this one, and links to its other files."""
    to.mkdir()
    for path in ROOT.iterdir():
        if path.name not in ("docs", "site", "mkdocs.yml"):
            (to / path.name).symlink_to(path)
    shutil.copytree(ROOT / "docs", to / "docs")
    shutil.copy(ROOT / "mkdocs.yml", to)
    return to


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = copy(tmp_path_factory.mktemp("site") / "project")
    ended = build(project)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return project / "site"


class Elements(HTMLParser):
    """Counts the elements that give a page its shape, and keeps what the page loads."""

    def __init__(self, html: str):
        super().__init__()
        self.count: Counter[str] = Counter()
        self.loads: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] += 1
        of = dict(attrs)
        if tag in ("script", "img", "iframe", "source") or (tag == "link" and of.get("rel") != "canonical"):
            self.loads += [found for key in ("src", "href") if (found := of.get(key))]


@NEEDS
def test_a_page_loads_nothing_from_a_network(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        loads = Elements(page.read_text(encoding="utf-8")).loads
        assert loads
        assert [address for address in loads if re.match(r"(\w+:)?//", address)] == [], page
        for address in loads:
            if not address.startswith("/") and page.name != "404.html":
                assert (page.parent / address.partition("?")[0]).is_file(), f"{page}: {address}"


@NEEDS
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_github_shows_what_the_site_shows(page: Path, site: Path) -> None:
    names = {"README.md": "index.html", "CONTRIBUTING.md": "contributing.html"}
    built = names.get(page.name, "") or page.relative_to(ROOT / "docs").with_suffix(".html").as_posix()
    html = (site / built).read_text(encoding="utf-8")
    ours = Elements(html[html.index("<article") : html.index("</article>")]).count
    text = page.read_text(encoding="utf-8")
    theirs = Elements(MarkdownIt("commonmark").enable("table").render(text)).count
    for tag in ("h1", "h2", "h3", "li", "ol", "ul", "pre", "img", "blockquote", "tr"):
        assert ours[tag] == theirs[tag], tag


@NEEDS
def test_broken_links_end_the_build(tmp_path: Path) -> None:
    project = copy(tmp_path / "project")
    with (project / "docs" / "data.md").open("a", encoding="utf-8") as file:
        file.write("\n[a page](nowhere.md), [a file](../benchmark/nowhere.py), [an anchor](statistics.md#nowhere)\n")
        file.write("\n[an address](https:/example.org), [a file that is there](../benchmark/run.py)\n")
    (project / "docs" / "lost.md").write_text("# In no navigation\n", encoding="utf-8")
    ended = build(project)
    said = ended.stdout + ended.stderr
    assert ended.returncode != 0
    for missing in ("nowhere.md", "nowhere.py", "#nowhere", "https:/example.org", "lost.md"):
        assert missing in said
    assert "benchmark/run.py" not in said
    assert "Aborted with 5 warnings" in said


@pytest.mark.skipif(not (ROOT / "results" / "published").is_dir(), reason="an installation without published results")
def test_the_readme_s_chart_shows_gains_in_the_mean_over_targets_and_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    """AugMix gains 20 points in one target of either source and loses 2 in the other, the worse one."""
    targets = {"erm": {"a": 60.0, "b": 40.0}, "augmix": {"a": 80.0, "b": 38.0}, "augmix[k=3]": {"a": 90.0, "b": 90.0}}
    runs = [
        scored(record(row.partition("[")[0], seed, source=source, variant="k=3" * ("[" in row)), values)
        for row, values in targets.items()
        for source in ("one", "other")
        for seed in (0, 1)
    ]
    drawn: list[dict[str, list[Pair]]] = []
    monkeypatch.setattr(pictures, "PANELS", {("", "minidigits", "8 steps"): "a panel"})
    monkeypatch.setattr(published, "records", lambda dataset, length, folder: runs)
    monkeypatch.setattr(gains, "gains", lambda panels, path: drawn.append(panels))
    pictures.chart(Path())
    ((found,),) = (panels["a panel"] for panels in drawn)
    assert (found.row, found.versus, found.difference.mean) == ("augmix", "erm", 9.0)


def test_the_readme_s_pictures_are_made_from_the_published_records() -> None:
    expected = pictures.hashed(pictures.records())
    for path in pictures.PICTURES:
        with Image.open(path) as picture:
            assert picture.info["records"] == expected, f"{path.name}: the records have changed: make published"
        assert path.stat().st_size < 150 * 1024


def test_stages_of_make_gpu_that_ran_alone_join_the_others_of_their_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(day: str, **figures: str) -> None:
        lines = [
            {"target": name, "figure": figure, "verdict": "" if figure else "skipped"}
            for name, figure in figures.items()
        ]
        (tmp_path / "perf" / f"gpu-{day}.json").write_text(json.dumps({"lines": lines}))

    (tmp_path / "perf").mkdir()
    monkeypatch.setattr(tables, "PUBLISHED", tmp_path)
    told("2026-01-09-10", steps="1", kernels="1")
    told("2026-02-01", steps="2", kernels="", races="2")
    told("2026-02-01-2", steps="", kernels="3", seconds="")
    found = {line["target"]: line["figure"] for line in tables.gpu_lines()}
    assert found == {"steps": "2", "races": "2", "kernels": "3", "seconds": ""}
    assert len(tables.gpu_lines()) == len(found)
