"""What the site needs beside mkdocs' own work: pages that stand outside docs/, links that leave it, and notebooks.

- README.md, CONTRIBUTING.md and CHANGELOG.md become pages; README.md is the first.
- A link from a page to another file of the repository leads to a copy of that file.
- A notebook becomes a page of its texts, its code and the outputs that are stored in it.
- A line of the navigation that ends with / stands for the pages of that folder.
- Addresses of other sites are checked for their form alone: no build needs a network.
"""

import json
import logging
import os
import posixpath
import re
from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Files that become pages, and the pages' names below docs/."""
COPIES = "repository"
"""The folder of the site that holds copies of other files."""
ADDRESS = re.compile(r"https?://([\w-]+\.)+\w{2,}(:\d+)?([/?#]\S*)?", re.ASCII)

log = logging.getLogger("mkdocs.hooks.site")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    config.nav = _whole(config.nav, Path(config.docs_dir), json.dumps(config.nav))
    return config


def _whole(entry: Any, docs: Path, named: str) -> Any:
    """An entry of the navigation; a folder becomes its pages, without those that the navigation names elsewhere."""
    if isinstance(entry, dict):
        return {title: _whole(inner, docs, named) for title, inner in entry.items()}
    if isinstance(entry, list):
        return [_whole(inner, docs, named) for inner in entry]
    if entry.endswith("/"):
        pages = (path.relative_to(docs).as_posix() for path in sorted((docs / entry).glob("*.md")))
        return [page for page in pages if f'"{page}"' not in named]
    return entry


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for path, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / path)))
    for file in sorted(Path(config.docs_dir).glob("notebooks/*.ipynb")):
        name = file.relative_to(config.docs_dir).with_suffix("")
        text = _notebook(json.loads(file.read_text(encoding="utf-8")), name.name, _adder(files, config, name.parent))
        files.append(File.generated(config, f"{name.as_posix()}.md", content=text))
    files.append(File.generated(config, config.extra["polyfills"][0], content=_search_worker()))
    return files


def _adder(files: Files, config: MkDocsConfig, folder: Path) -> Callable[[str, bytes], None]:
    def add(name: str, content: bytes) -> None:
        files.append(File.generated(config, (folder / name).as_posix(), content=content))

    return add


def _notebook(notebook: dict[str, Any], name: str, add: Callable[[str, bytes], None]) -> str:
    """A notebook as Markdown; `add` takes its pictures."""
    parts = []
    for at, cell in enumerate(notebook["cells"]):
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for count, output in enumerate(cell.get("outputs", [])):
            data = output.get("data", {})
            if "image/png" in data:
                picture = f"{name}_{at}_{count}.png"
                add(picture, b64decode(data["image/png"]))
                parts.append(f"![Output of the cell above]({picture})")
            elif "text/html" in data:
                table = re.sub(r"<style.*?</style>", "", "".join(data["text/html"]), flags=re.DOTALL)
                parts.append(re.sub(r"<table[^>]*>", "<table>", table))  # the theme's own look
            else:
                said = "".join(output.get("text") or data.get("text/plain", ""))
                parts.append(f"```text\n{said.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def _search_worker() -> str:
    """A script for pages that are opened as files: there a browser lets no file be a worker, but a text may be one."""
    import material  # noqa: PLC0415

    (path,) = (Path(material.__file__).parent / "templates/assets/javascripts/workers").glob("search.*.min.js")
    source = json.dumps(path.read_text(encoding="utf-8")).replace("</", "<\\/")
    return (
        'if (location.protocol === "file:") {\n'
        f'  const text = URL.createObjectURL(new Blob([{source}], {{ type: "text/javascript" }}));\n'
        "  window.Worker = class extends Worker { constructor() { super(text); } };\n"
        "}\n"
    )


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The text with links that are right on the site."""
    here = {name: path for path, name in PAGES.items()}.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def on_site(found: re.Match[str]) -> str:
        target, anchor = found[1], found[2] or ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(here), target))
        if not (ROOT / path).is_file():
            return found[0]  # mkdocs finds the broken ones
        name = PAGES.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else _copy(path))
        if name.endswith(".ipynb"):
            name = name.removesuffix(".ipynb") + ".md"
        return f"]({posixpath.relpath(name, posixpath.dirname(page.file.src_uri) or '.')}{anchor})"

    def _copy(path: str) -> str:
        name = f"{COPIES}/{path}" + (".txt" if path.endswith(".md") else "")
        if files.get_file_from_path(name) is None:
            files.append(File.generated(config, name, abs_src_path=os.fspath(ROOT / path)))
        return name

    link = re.compile(r"\]\(([^)\s:#]+)(#[^)\s]*)?\)")
    return "".join(text if is_code else link.sub(on_site, text) for is_code, text in _parts(markdown))


def _parts(markdown: str) -> Iterator[tuple[bool, str]]:
    """The lines in order, each with whether it is of a fenced block of code."""
    within = False
    for line in markdown.splitlines(keepends=True):
        fence = line.startswith("```")
        yield within or fence, line
        within ^= fence


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    for address in re.findall(r'<a [^>]*href="(\w+:[^"]*)"', html):
        if not ADDRESS.fullmatch(address):
            log.warning(f"{page.file.src_uri}: '{address}' has not the form of an address on the web")
    return html.replace(" ± ", "\u00a0±\u00a0")  # a mean and its deviation stay on one line
