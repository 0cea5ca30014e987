"""Intervals in sentences: a new row widens every interval of its table, and a sentence does not notice."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from docs.site.published import FOLDERS, ROOT

DOCUMENTS = [ROOT / name for name in ("README.md", "docs/results.md", "docs/findings/sada.md")]
TABLES = [*DOCUMENTS, ROOT / "docs/datasets/pacs.md"]
NUMBER = r"[-+]?\d+\.\d(?!\d)"
ENDS = re.compile(rf"({NUMBER}) to ({NUMBER})[);]")
needs_records = pytest.mark.skipif(not FOLDERS, reason="an installation without the published results")


def said(text: str) -> list[tuple[str, str, str]]:
    """Intervals in the sentences of a document, which its tables and commands are not, each after the number before it:
    `2.2 points (-4.0 to -0.4)`, `(2.3, 0.3 to 4.3)`."""
    lines = [line for line in text.splitlines() if not line.startswith(("|", "    "))]
    sentences = " ".join(" ".join(lines).split())
    return [
        (re.findall(NUMBER, sentences[: found.start()])[-1].lstrip("+-"), found[1], found[2])
        for found in ENDS.finditer(sentences)
    ]


def shown(text: str) -> Iterator[tuple[str, str, str]]:
    """Numbers with the intervals beside them in the tables of a document."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        for number, interval in pairwise(cells):
            if (ends := re.fullmatch(rf"\[({NUMBER}), ({NUMBER})\]", interval)) and re.match(NUMBER, number):
                yield number.split()[0].lstrip("+-"), ends[1], ends[2]


@needs_records
@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_an_interval_in_a_sentence_stands_beside_the_same_number_in_a_table(path: Path) -> None:
    """In the document, or in the tables of the published records."""
    texts = [path.read_text(encoding="utf-8") for path in TABLES]
    texts += [file.read_text(encoding="utf-8") for folder in FOLDERS for file in (folder / "tables").glob("*.md")]
    known = {row for text in texts for row in shown(text)}
    found = said(path.read_text(encoding="utf-8"))
    assert len(found) > 2
    assert [row for row in found if row not in known] == []


def test_intervals_are_found_across_lines_and_tables_are_not_sentences() -> None:
    text = "At 0.025 it loses 2.2 points (-4.0 to\n  -0.4), B (2.3, 0.3 to 4.3)."
    assert said(f"{text}\n| C | 9.9 (1.0 to 2.0) |\n    5.5 (1.0 to 2.0)") == [
        ("2.2", "-4.0", "-0.4"),
        ("2.3", "0.3", "4.3"),
    ]
    assert [*shown("| C | -2.2 ± 0.1 | [-4.0, -0.4] | +0.3 | [0.1, 0.5] | 5 |\nnot [1.0, 2.0]")] == [
        ("2.2", "-4.0", "-0.4"),
        ("0.3", "0.1", "0.5"),
    ]
