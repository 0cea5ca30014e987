"""`make published`: pictures of README.md and docs/, from the records of results/published, in docs/images.

chart.png: what each method gains over ERM on PACS and on digits. page.png: the head of the page, as
Chromium on PATH shows it. sada.png: what SADA's loader and its attack make of digits. All hold the hash of the records
that they were made from; tests/docs/test_site.py asks for new ones when they have changed. A change of looks is for a
person to notice.
"""

import hashlib
import io
import shutil
import sys
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

from PIL import Image

from benchmark.core.record import Record
from benchmark.report.figures import gains, learning_curves
from benchmark.report.figures.palette import in_few_colours
from benchmark.report.tidy import comparisons, groups
from benchmark.report.tidy.campaigns import campaigns
from benchmark.training.artifacts import strips
from docs.site import published, study
from docs.site.published import PUBLISHED, ROOT

IMAGES = ROOT / "docs" / "images"
PICTURES = IMAGES / "chart.png", IMAGES / "page.png", IMAGES / "sada.png"
PANELS = {
    ("", "pacs", "100 steps"): "PACS at 112 px, 100 steps: mean over four sources, three targets each",
    ("pacs_again", "pacs", "100 steps"): "PACS once more: AugMix alone, nine new seeds",
    ("", "digits", "10000 steps"): "MNIST to MNIST-M and USPS, 10,000 steps",
}
"""Titles of the chart's panels, by folder of results/published, dataset and length."""


def records() -> list[Record]:
    """All that pictures are made from."""
    folders = sorted({folder for folder, *_ in PANELS})
    return [run for folder in folders for run in published.everything(folder)] + study.STUDY.read_all()


def hashed(found: Sequence[Record]) -> str:
    """The hash of all records, and of the chart's panels."""
    made = hashlib.sha256(repr(PANELS).encode())
    for record in found:
        made.update(record.model_dump_json().encode())
    return made.hexdigest()


def chart(path: Path) -> Path:
    """The picture of gains over ERM, without variants of a method that has a row itself, and without the study. Returns
    the PNG; a PDF lies beside it."""
    panels = {}
    for (folder, dataset, length), title in PANELS.items():
        runs = published.records(dataset, length, folder=folder)
        several = [campaign.over("mean") for campaign in campaigns(runs)]
        (values,) = several or [comparisons.seeds_of(groups.by_row(runs), "mean")]
        panels[title] = [pair for pair in gains.over_erm(values) if _only(pair.row, values)]
    return gains.gains(panels, path)


def _only(row: str, rows: Collection[str]) -> bool:
    """Whether it is a method's own row, or a variant that stands for the method."""
    return "[" not in row or row.partition("[")[0] not in rows


VIEWS = {
    "ERM, authors' loader": "authors' loader",
    "AugMix views, 10": "AugMix view",
    "attacked, batch_max, 10": "attacked, batch_max",
    "attacked, image_max, 10": "attacked, image_max",
}
"""Forms of the study of SADA whose views are shown, and what they are called."""


def sheet(path: Path) -> Path:
    """Eight source images, and below them the first view that each of VIEWS makes of them, with the smallest seed.
    Returns the PNG; a PDF lies beside it."""
    shown = {}
    for form, title in VIEWS.items():
        run = min(study.by_form()[form], key=lambda record: record.asked.seed)
        shown["source image"], shown[title] = strips(study.STUDY.views([run])[run.run_id])[:2]
    return learning_curves.strip_sheet(shown, {}, path)


def screenshot() -> bytes:
    """The head of the page as a PNG. Raises FileNotFoundError without a browser."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415

    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        raise FileNotFoundError("no chromium on PATH")
    with sync_playwright() as running:
        started = running.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = started.new_page(viewport={"width": 1000, "height": 640})
        page.goto((PUBLISHED / "index.html").as_uri())
        page.locator("img").first.evaluate("picture => picture.decode()")
        picture = page.screenshot()
        started.close()
    return picture


def save(image: Image.Image, path: Path, made_from: str) -> None:
    """With few colours, and what it was made from."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(in_few_colours(image, {"records": made_from}))
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1024} KiB")


def main() -> int:
    made_from = hashed(records())
    try:
        shot = screenshot()
    except FileNotFoundError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        drawn: tuple[Path | io.BytesIO, ...] = (
            chart(Path(folder) / "chart"),
            io.BytesIO(shot),
            sheet(Path(folder) / "sheet"),
        )
        for made, path in zip(drawn, PICTURES, strict=True):
            with Image.open(made) as image:
                save(image, path, made_from)
    return 0


if __name__ == "__main__":
    sys.exit(main())
