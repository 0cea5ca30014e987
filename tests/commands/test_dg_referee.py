"""dg-referee, the one name for all commands: what it shows, what it imports, what it completes, and where it starts."""

import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from benchmark import __version__, run
from benchmark.__main__ import COMMANDS, main
from benchmark.runs.command_line import program
from tests.conftest import ROOT

HEAVY = {"torch", "pandas", "seaborn", "scipy", "matplotlib"}
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80", "OMP_NUM_THREADS": "1"}


def python(*words: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(
        [sys.executable, *words], cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_it_shows_its_commands(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    shown = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert f"  {name:<12} {command.does}\n" in shown
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tabels"], "'tabels' is not a command: did you mean 'tables'?"),
        (["compare_map"], "did you mean 'compare-map'?"),
        (["--methods", "erm"], "--methods: name a command first, as in python -m benchmark.run --methods"),
        (["--tyro-print-completion", "csh"], "the shell is bash, zsh or fish"),
        (["tables", "--tyro-print-completion", "csh"], "the shell is bash, zsh or fish"),
        (["tables", "--out", "absent"], "--out absent: no runs there"),
    ],
)
def test_bad_words_are_one_message_and_code_2(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.count("error: ") == shown.count("\n") == 1


def test_every_command_is_there() -> None:
    for command in COMMANDS.values():
        assert callable(import_module(command.module).main)


@pytest.mark.parametrize("program", [main, run.main])
def test_the_version(program: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert callable(program)
    assert program(["--version"]) == 0
    found = re.fullmatch(r"dg-referee (\S+), Python 3\.\d+\.\S+, torch \d\S+\n", capsys.readouterr().out)
    assert found
    assert found[1] == __version__


@pytest.mark.parametrize(
    ("script", "shown"),
    [
        ("/usr/bin/dg-referee", "dg-referee compare-map"),
        ("/somewhere/benchmark/__main__.py", "python -m benchmark compare-map"),
        ("/somewhere/benchmark/compare_map.py", "python -m benchmark.compare_map"),
        ("/somewhere/benchmark/data/__main__.py", "python -m benchmark.compare_map"),
    ],
)
def test_a_command_is_called_as_it_was_typed(script: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [script])
    assert program("compare-map") == shown


ANSWERS = f"""
import contextlib, io, sys
from benchmark import __main__, run
for name in __main__.COMMANDS:
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        __main__.main([name, "--help"])
        sys.exit(f"{{name}} --help did more than that")
assert run.main(["--list"]) == run.main(["--version"]) == __main__.main(["--help"]) == 0
assert run.main(["--steps", "0"]) == 2
print("heavy:", {HEAVY} & set(sys.modules))
"""


def test_what_needs_no_torch_imports_none() -> None:
    """--help of every command, --list, --version, and numbers out of their range: torch alone takes seconds."""
    assert python("-c", ANSWERS).endswith("heavy: set()\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_each_default_once(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    usage, *lines = capsys.readouterr().out.splitlines()
    assert usage.startswith(f"usage: {program(name)} ")
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(line.strip("│| ") for line in lines).split())
    assert not re.search(r"\(default: (None|False)?\)|\{None\}", text)
    assert all(len(re.findall(r"[Dd]efault: ", flag)) <= 1 for flag in re.split(r" (?=--[a-z-]+ )", text))


def test_help_of_run_has_groups(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run.main(["--help"])
    shown = capsys.readouterr().out
    groups = re.findall(r"(\w+) options\b", shown)
    assert groups == ["experiment", "length", "machine", "output", "performance", "other"]
    assert shown.index("--methods") < shown.index("length options") < shown.index("--steps")


def test_bash_completes_commands_and_flags(tmp_path: Path) -> None:
    """Beyond `bash -n`: the script is used. Every flag's text has to be one line, or its rest would be offered too."""
    script = tmp_path / "completion"
    python("-m", "benchmark", "--tyro-write-completion", "bash", str(script))
    use = f"source {script}\n" + "".join(
        f'COMP_WORDS=(dg-referee {words} "{last}"); COMP_CWORD={len(words.split()) + 1}; _tyro_dg_referee; '
        'echo "${COMPREPLY[@]}"\n'
        for words, last in [("", ""), ("run", "--"), ("data", "fet")]
    )
    subprocess.run(["bash", "-n", str(script)], check=True)
    shown = subprocess.run(["bash", "-c", use], capture_output=True, text=True, check=True).stdout
    commands, flags, fetch = (line.split() for line in shown.splitlines())
    assert set(commands) == {*COMMANDS, "-h", "--help"}
    assert {"--methods", "--seeds", "--dry-run"} < set(flags)
    assert [word for word in flags if not word.startswith("--")] == []
    assert fetch == ["fetch"]


def test_a_folder_of_the_packages_name_does_not_stand_in_its_way(tmp_path: Path) -> None:
    """The script as pip writes it, and a process that it spawns as --jobs does, among files that must not be read."""
    (tmp_path / "benchmark").mkdir()
    (tmp_path / "benchmark" / "__init__.py").write_text("raise RuntimeError('the wrong benchmark')\n")
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "dg-referee"
    script.write_text("import sys\nfrom benchmark.__main__ import script\nsys.exit(script())\n")
    assert python(str(script), "--help", cwd=tmp_path).startswith("usage: dg-referee COMMAND")
    (tmp_path / "bin" / "spawns.py").write_text(
        "import sys\nfrom benchmark.core.standard_streams import guard\nfrom benchmark.runs.engines import spawn\n"
        "process = spawn.start(guard)\nprocess.join()\nsys.exit(process.exitcode)\n"
    )
    python(str(tmp_path / "bin" / "spawns.py"), cwd=tmp_path)
