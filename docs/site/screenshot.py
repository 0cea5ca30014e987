"""`make published`: the head of the page of results/published, as README.md shows it, in docs/images/page.png.

Needs Chromium on PATH. The picture holds the hash of the records that it was made from; tests/docs/test_site.py asks
for a new one when they have changed. A change of the page's looks is for a person to notice.
"""

import hashlib
import io
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT / "results" / "published"
PICTURE = ROOT / "docs" / "images" / "page.png"


def records() -> str:
    """The hash of the records of results/published."""
    from benchmark.runs.records import Records  # noqa: PLC0415

    found = hashlib.sha256()
    for record in Records(PUBLISHED).read_all():
        found.update(record.model_dump_json().encode())
    return found.hexdigest()


def main() -> int:
    from PIL import Image  # noqa: PLC0415
    from PIL.PngImagePlugin import PngInfo  # noqa: PLC0415
    from playwright.sync_api import sync_playwright  # noqa: PLC0415

    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        print("error: no chromium on PATH", file=sys.stderr)
        return 2
    with sync_playwright() as running:
        started = running.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = started.new_page(viewport={"width": 1000, "height": 640})
        page.goto((PUBLISHED / "index.html").as_uri())
        page.locator("img").first.evaluate("picture => picture.decode()")
        picture = page.screenshot()
        started.close()
    note = PngInfo()
    note.add_text("records", records())
    PICTURE.parent.mkdir(exist_ok=True)
    with Image.open(io.BytesIO(picture)) as image:
        image.convert("RGB").quantize(256).save(PICTURE, pnginfo=note, optimize=True)
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size // 1024} KiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
