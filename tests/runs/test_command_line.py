"""What all command lines share: flags given twice, home folders, texts, and the ranges of numbers."""

import gc
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from benchmark import compare_map, data, export, registry, reproduce, run, scaling, tables
from benchmark.core.errors import UsageError
from benchmark.core.recipe import Recipe
from benchmark.corruptions import __main__ as corruptions
from benchmark.data import __main__ as data_cli
from benchmark.flags import Export
from benchmark.runs.args import PATHS, Args
from benchmark.runs.command_line import arguments, joined, quoted
from benchmark.runs.plan import plan
from tests.faults.harness import call


def said(words: list[str]) -> str:
    """How a call of benchmark.run is refused."""
    ended = call(words)
    assert ended.wrong(2) == ""
    return ended.err


@pytest.mark.parametrize("words", [["--out", ""], ["--out="], ["--data_dir", "", "--dry-run"], ["--plan", ""]])
def test_an_empty_path_is_no_working_folder(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As from a variable that is not set."""
    monkeypatch.chdir(tmp_path)
    assert said(words) == f"error: {words[0].rstrip('=')}: its path is empty\n"
    assert not list(tmp_path.iterdir())


def test_an_empty_argument_is_no_working_folder() -> None:
    """Neither a path without a flag, nor a later one of a list."""
    positional = [[""], ["", "--check"], ["--check", ""], ["--", ""], ["--folder=x", ""]]
    for kind, words in (*((Export, words) for words in positional), (Args, ["--plugin", "a.py", ""])):
        with pytest.raises(UsageError, match=r"an argument( after (a\.py|--check|--|--folder=x))? is empty"):
            arguments(kind, words, "dg-referee")


LISTS = {"--methods", "--seeds", "--data-dirs"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--seeds 0 1 --out x", "--seeds 0 1 --out x"),
        ("--seeds 0 --out x --seeds 1 2", "--seeds 0 1 2 --out x"),
        ("--seeds=0 --seeds=1", "--seeds 0 1"),
        ("--seeds=0 7 --seeds 1", "--seeds 0 1 7"),  # 7 is no value of a flag: tyro refuses it, as it did
        ("--seeds -1 --seeds -2", "--seeds -1 -2"),
        ("--data_dirs a --data-dirs b", "--data-dirs a b"),
        ("--methods --seeds 0 --methods erm", "--methods erm --seeds 0"),
        ("--methods a -- --methods b", "--methods a -- --methods b"),
        ("--out a --out b", "--out a --out b"),
        ("", ""),
    ],
)
def test_list_flags_that_are_given_twice_have_the_values_of_both(words: str, expected: str) -> None:
    found = joined(words.split(), LISTS)
    assert sorted(found) == sorted(expected.split())
    assert found == expected.split() or "7" in found


@pytest.mark.parametrize(
    ("words", "field", "expected"),
    [
        ("--set a.b=1 --set c.d=2 --set e.f=3", "set", ("a.b=1", "c.d=2", "e.f=3")),
        ("--methods erm --steps 3 --methods augmix", "methods", ("erm", "augmix")),
        ("--datasets digits --datasets=pacs", "datasets", ("digits", "pacs")),
        ("--seeds 0 --seeds 1", "seeds", (0, 1)),
        ("--sources a --sources b+c", "sources", ("a", "b+c")),
        ("--plugin a.py --plugin b.py c.py", "plugin", (Path("a.py"), Path("b.py"), Path("c.py"))),
        ("--track wandb --track tensorboard", "track", ("wandb", "tensorboard")),
    ],
)
def test_every_list_flag_of_a_run_may_be_given_twice(words: str, field: str, expected: tuple[Any, ...]) -> None:
    assert getattr(arguments(Args, words.split(), "run"), field) == expected


@pytest.mark.parametrize(
    ("kind", "words", "field", "expected"),
    [
        (scaling.Args, "--devices 1 --devices 8", "devices", (1, 8)),
        (reproduce.Args, "--method erm --method sada", "method", ("erm", "sada")),
        (export.Args, "somewhere --plugin a --plugin b", "plugin", (Path("a"), Path("b"))),
        (data_cli.Command, "fetch digits --set digits.a=1 --set digits.b=2", "set", ("digits.a=1", "digits.b=2")),
        (data_cli.Command, "verify digits --set digits.a=1 --set digits.b=2", "set", ("digits.a=1", "digits.b=2")),
    ],
)
def test_so_may_those_of_other_programs(kind: Any, words: str, field: str, expected: tuple[Any, ...]) -> None:
    assert getattr(arguments(kind, words.split(), "x"), field) == expected


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    words = ["--out=~/a", "--data-dir=~", "--plugin=~/p.py", "--weights=~/w.safetensors", "--track=tensorboard:~/t"]
    read = arguments(Args, words, "run", paths=PATHS)
    assert (read.out, read.data_dir) == (Path("/somewhere/a"), Path("/somewhere"))
    assert read.plugin == (Path("/somewhere/p.py"),)
    assert (read.weights, read.track) == ("/somewhere/w.safetensors", ("tensorboard:/somewhere/t",))
    assert arguments(data_cli.Command, ["list", "--data-dir=~/d"], "data").data_dir == Path("/somewhere/d")
    assert arguments(Args, ["--out=/a/~"], "run").out == Path("/a/~")
    with pytest.raises(UsageError, match="~nobody-of-that-name/x: Could not determine home directory"):
        arguments(Args, ["--out=~nobody-of-that-name/x"], "run")


@pytest.mark.parametrize("flag", ["methods", "datasets", "sources", "set", "network", "protocol"])
def test_names_that_are_not_utf_8_are_refused(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main([f"--{flag}", "erm.\udcff"]) == 2
    assert f"--{flag} erm.\\udcff: it is not UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["plain", "two words", "it's", "\udcff\udcfe o'", "é", "$HOME `x`", ""])
def test_bash_reads_a_quoted_word_back(word: str) -> None:
    program = f"{sys.executable} -c 'import sys; print(ascii(sys.argv[1]))' {quoted(word)}"
    shown = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == ascii(word)


HUGE, SEED = "99999999999999999999999", str(2**63)
NUMBERS: list[tuple[Any, str, str, list[str]]] = [
    *((run, "--methods erm --out {out}", f"--{flag}", ["0", "-1", HUGE])
      for flag in ("steps", "jobs", "batch-size", "nproc", "evaluations")),
    (run, "--methods erm --out {out}", "--sensitivity-images", ["-1", HUGE]),
    (run, "--methods erm --out {out}", "--seeds", ["-1", SEED, HUGE]),
    (run, "--methods erm --out {out}", "--checkpoint-seconds", ["-1", "nan"]),
    (run, "--methods erm --out {out}", "--timeout", ["0", "-1", "nan"]),
    (run, "--methods erm --out {out} --budget time", "--seconds", ["0", "-1", "nan", "inf"]),
    (scaling, "--out {out}", "--seeds", ["0", "-1", HUGE]),
    (scaling, "--out {out}", "--gflops", ["0", "-1", "nan", "inf", "1e300", "1e-300"]),
    (scaling, "--out {out}", "--devices", ["0", "-1", HUGE, ""]),
    (compare_map, "--data-dir {out}", "--epochs", ["0", "-1", HUGE]),
    (compare_map, "--data-dir {out}", "--images", ["0", "-1", "127", HUGE]),
    (compare_map, "--data-dir {out}", "--seed", ["-1", SEED]),
    (corruptions, "--show {out}/x.png", "--side", ["0", "-1", HUGE]),
    (corruptions, "--drift", "--limit", ["-1", HUGE]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("program", "words", "flag", "value"),
    [(program, words, flag, value) for program, words, flag, values in NUMBERS for value in values],
)
def test_numbers_out_of_range_are_one_message_and_code_2(
    program: Any, words: str, flag: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [*words.format(out=tmp_path / "out").split(), flag, *([value] if value else [])]
    assert program.main(given) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert flag in shown
    assert shown.count("\n") == 1


@pytest.mark.parametrize("program", [run, tables, data_cli, scaling, compare_map, corruptions, reproduce, export])
def test_words_that_are_no_numbers_or_flags_end_with_code_2(program: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        program.main(["--seeds", "one", "--nonsense"])
    assert caught.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_flags_that_are_not_given_hold_what_the_default_holds() -> None:
    default = Args(methods=("erm", "sada"), steps=7, out=Path("there"), launch=True)
    assert arguments(Args, [], "run", default=default) == default
    found = arguments(Args, ["--seeds", "3", "--steps", "9"], "run", default=default)
    assert found == replace(default, seeds=(3,), steps=9)
    assert arguments(scaling.Args, ["--seeds", "3"], "x", default=scaling.Args(gflops=2.0)).gflops == 2.0


def test_a_pool_takes_each_domain_once() -> None:
    with pytest.raises(UsageError, match=r"source uci\+uci: 'uci' is there twice"):
        plan(Args(methods=("erm",), sources=("uci+uci",)))
    with pytest.raises(UsageError, match="'uci' is there twice"):
        data.load(registry.make("dataset", "minidigits", {}), "uci+uci", None)


def test_a_recipe_looks_at_no_target() -> None:
    with pytest.raises(ValidationError, match="oracle looks at the targets"):
        Recipe(network="mini_convnet", selection="oracle")


def test_the_cycle_collector_rests_during_the_first_import_of_torch_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with run.importing():
        assert gc.isenabled()
    monkeypatch.delitem(sys.modules, "torch")
    with run.importing():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ImportError), run.importing():
        raise ImportError
    assert gc.isenabled()
