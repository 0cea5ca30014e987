"""The tutorials, followed to the letter."""

from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.docs.documents import agrees, blocks, follow

TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: str(page.stem))
def test_a_reader_who_follows_it_gets_what_it_shows(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow(page, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("shown", "said", "same"),
    [
        ("erm 50.1 ± 2", "erm   7 ± 0.25\n", True),
        ("erm … s", "erm seed 0: 3 images/s, 3 s; the machine was loaded: 5.8 runnable\nprocesses on 2 cores", True),
        ("erm … s", "0 of 1 done, 0:00:30 gone | d/a erm seed 0: loading, step 0 of 9 (0 %)\nerm seed 0: 3 s\n", True),
        ("erm … s", "3 of 4 done, 0:01:00 gone, about 0:00:04 left | x: testing\nerm seed 0: 3 s\n", True),
        ("done: own/index.html", "done: other/index.html", False),
        ("erm …", "augmix 3", False),
        ("3 passed", "3 passed, 1 failed", False),
        ("", "something", False),
    ],
)
def test_an_output_agrees_in_all_but_numbers_and_what_is_left_open(shown: str, said: str, same: bool) -> None:
    assert agrees(shown, said) is same


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("```python\nassert 1 == 2\n```\n", "assert 1 == 2"),
        ("```console\n$ python -m benchmark.run --methods nosuch --out x\n…\n```\n", "nosuch"),
        ("```console\n$ python -m benchmark.run --list\nother words\n```\n", "other words"),
        ("```bash\nls\n```\n", "nobody runs"),
    ],
)
def test_a_page_that_is_wrong_is_noticed(text: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    monkeypatch.setattr("tests.docs.documents.ROOT", tmp_path)
    with pytest.raises((AssertionError, pytest.fail.Exception), match=says if "assert" not in says else None):
        follow(page, tmp_path, monkeypatch)


def test_blocks_have_their_line_language_and_title() -> None:
    (first, second) = blocks('text\n\n```python title="a.py"\nx = 1\n```\n\n```console\n$ y\nz\n```\n')
    assert (first.line, first.language, first.title, first.text) == (3, "python", "a.py", "x = 1\n")
    assert (second.line, second.language, second.title) == (7, "console", None)
