"""Runs what a page of docs/ tells its reader to type.

- ```python: executed, all blocks of a page in one namespace. With title="FILE" it is written to that file instead.
- ```console: a line that begins with `$ ` is a command, which goes on where a line ends with a backslash. Below it
  stands its output. Numbers stand for any number, … for any text, a space or a ruled line for any length of it. What
  only a slow or loaded machine adds is left out: the lines of progress, and the warning of the load.
"""

import contextlib
import importlib
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmark.runs import load
from tests.conftest import ROOT


@dataclass(frozen=True)
class Block:
    """A fenced block of code: where it begins, its language, its title and its text."""

    line: int
    language: str
    title: str | None
    text: str


def blocks(markdown: str) -> Iterator[Block]:
    fence = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', flags=re.MULTILINE | re.DOTALL)
    for found in fence.finditer(markdown):
        yield Block(markdown[: found.start()].count("\n") + 1, found[1], found[2], found[3])


def steps(console: str) -> Iterator[tuple[str, str]]:
    """Each command of a console block with the output that is shown."""
    for part in re.split(r"^\$ ", console.replace("\\\n", " "), flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        yield command, shown


def agrees(shown: str, said: str) -> bool:
    """Whether an output is the one that a page shows."""
    rule = ""
    for piece in re.findall(r"…|\d+(?:\.\d+)?|\s+|─+|[^…\d\s─]+", shown.strip()):
        if piece == "…":
            rule += ".*"
        elif piece[0].isdigit():
            rule += r"\d+(\.\d+)?"
        else:
            rule += r"\s+" if piece.isspace() else "─+" if piece[0] == "─" else re.escape(piece)
    said = re.sub(r"^\d+ of \d+ done, .* gone.* \| .*\n", "", said, flags=re.MULTILINE)
    said = re.sub(rf"; {load.WARNING}:\s[^;]*?\scores", "", said.strip())
    return re.fullmatch(rule, said, flags=re.DOTALL) is not None


def command(line: str, folder: Path) -> str:
    """What a command says, which has to end well. The suite's own run in this process, pytest in another."""
    python, dash_m, module, *words = shlex.split(line)
    assert (python, dash_m) == ("python", "-m"), line
    if module == "pytest":
        words = [word.replace("--plugin=", f"--plugin={folder}/") for word in words]
        words += ["-p", "no:cacheprovider", f"--basetemp={folder / 'pytest'}"]
        call = [sys.executable, "-m", module, *words]
        here = os.environ | {"PYTHONPATH": str(ROOT)}
        ended = subprocess.run(call, cwd=ROOT, env=here, capture_output=True, text=True, check=False)
        code, said = ended.returncode, ended.stdout + ended.stderr
    else:
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
            code = importlib.import_module(module).main(words)
        said = out.getvalue()
    assert code == 0, f"{line}\n{said}"
    return said


def follow(page: Path, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Does what the page says, in an empty folder."""
    patch.chdir(folder)
    patch.syspath_prepend(str(folder))
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks(page.read_text(encoding="utf-8")):
        at = f"{page.relative_to(ROOT)}:{block.line}"
        if block.title:
            (folder / block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            exec(compile("\n" * block.line + block.text, str(page), "exec"), names)
        elif block.language == "console":
            for line, shown in steps(block.text):
                said = command(line, folder)
                assert agrees(shown, said), f"{at}: {line}\nshown:\n{shown}\nsaid:\n{said}"
        else:
            pytest.fail(f"{at}: nobody runs a block of {block.language}")
