"""make gpu on a machine without a GPU, and its table, time limits and figures from made-up stages."""

import json
import os
import shutil
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tyro

from benchmark.runs import gpus
from benchmark.runs.args import Args, check_numbers
from tests.conftest import ROOT
from tests.gpu import __main__ as gpu
from tests.gpu import stages as made
from tests.gpu.stages import Ended, Line, Stage

FINE = Ended((0,), (10.0,))
ROWS = ["erm", "augmix", "randconv", "augmax", "gud", "mada", "sada", "sada[weight_map=none]"]
JUNIT = """<testsuites><testsuite>
<testcase classname="tests.a" name="one"/><testcase classname="tests.a" name="two"><skipped/></testcase>{more}
</testsuite></testsuites>"""
BROKEN = '<testcase classname="tests.b" name="three[cuda]"><failure/></testcase>'


def stage(folder: Path, read: Any = lambda stage, ended: [], goal: str = "all", *code: str, limit: float = 20) -> Stage:
    """A stage that runs pieces of Python."""
    return Stage(folder, "target", goal, limit, [[sys.executable, "-c", each] for each in code], read)


def test_without_a_gpu_it_says_what_it_needs_in_one_line() -> None:
    if shutil.which("make") is None:
        pytest.skip("no make")
    blind = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        ["make", "--no-print-directory", "gpu", f"PYTHON={sys.executable}", "ARGS="],  # not those of `make test`
        cwd=ROOT, env=blind, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    line, *rest = done.stderr.splitlines()
    assert line.startswith("make gpu needs a machine with an NVIDIA GPU and torch 2.11 or newer; torch ")
    assert line.endswith(" sees none here")
    assert all(text.startswith(("make: ", "make[")) for text in rest)  # make's own word on every failure


def test_a_python_without_torch_says_so_too() -> None:
    hidden = "import sys; sys.modules['torch'] = None; from tests.gpu.__main__ import main; sys.exit(main([]))"
    done = subprocess.run([sys.executable, "-c", hidden], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"{gpu.NEEDS}; {sys.executable} has no torch\n"


def test_a_torch_whose_libraries_are_damaged_is_told_of_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise OSError('libcudart.so.13: cannot open\\nshared object file')\n")
    done = subprocess.run(
        [sys.executable, "-m", "tests.gpu"], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    told = "torch cannot be imported: libcudart.so.13: cannot open shared object file"
    assert done.stderr == f"{gpu.NEEDS}; {told}\n"


@pytest.mark.parametrize("digits", [True, False])
def test_the_stages_use_flags_and_files_that_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: bool
) -> None:
    monkeypatch.setattr(made, "has_digits", lambda: digits)
    found = made.stages(tmp_path / "a folder")
    assert len({stage.folder for stage in found}) == len(found)
    runs = [command for stage in found for command in stage.commands if "benchmark.run" in command]
    assert len(runs) == 6
    for command in runs:
        args = tyro.cli(Args, args=command[3:], config=(tyro.conf.FlagCreatePairsOff,))
        check_numbers(args)
        assert args.datasets == (("digits",) if digits else ("minidigits",))
    for path in (*made.STEP_RACES, "tests/ops/test_kernels.py"):
        assert (ROOT / path).is_file()


def test_tests_are_counted_and_failures_named(tmp_path: Path) -> None:
    (tmp_path / "junit.xml").write_text(JUNIT.format(more=""))
    assert made.read_tests(stage(tmp_path), FINE) == [Line("target", "1 passed, 0 failed, 1 skipped", "all", "pass")]
    assert made.read_tests(stage(tmp_path), Ended((2,), (10.0,)))[0].verdict == "fail"
    assert made.read_tests(stage(tmp_path), Ended((), (), cut=True))[0].verdict == "skipped"
    (tmp_path / "junit.xml").write_text(JUNIT.format(more=BROKEN))
    for ended in (Ended((1,), (10.0,)), Ended((), (), cut=True)):
        (line,) = made.read_tests(stage(tmp_path), ended)
        assert (line.verdict, line.notes) == ("fail", ("tests.b::three[cuda]",))


def test_races_are_held_against_their_targets(tmp_path: Path) -> None:
    race = {"title": "step", "targets": {"launched": 3.5, "eager": 2}, "times_as_fast_as": {"launched": 3.4, "eager": 2,
            "copy": 0.123}}  # fmt: skip
    (tmp_path / "races.json").write_text(json.dumps({"benchmarks": [{"extra_info": race}, {"extra_info": {}}]}))
    (tmp_path / "junit.xml").write_text(JUNIT.format(more="").replace("<skipped/>", ""))
    assert made.read_races(stage(tmp_path), FINE) == [
        Line("target", "2 ran, 0 failed, 0 skipped", "all", "pass"),
        Line("step, beside launched", "3.40", ">= 3.50", "fail"),
        Line("step, beside eager", "2.00", ">= 2.00", "pass"),
        Line("step, beside copy", "0.12"),
    ]
    (tmp_path / "junit.xml").write_text(JUNIT.format(more=BROKEN))
    for empty in ("", None):
        (tmp_path / "races.json").write_text("") if empty == "" else (tmp_path / "races.json").unlink()
        (line,) = made.read_races(stage(tmp_path), Ended((1,), (10.0,)))
        assert (line.figure, line.verdict) == ("1 ran, 1 failed, 1 skipped", "fail")


def records(monkeypatch: pytest.MonkeyPatch, *rows: tuple[str, int, float, str]) -> None:
    """Puts records of (row, steps, seconds, status), each of 3 ms a step of 30 images, where the stages look."""
    recipe, throughput = SimpleNamespace(batch_size=30), SimpleNamespace(steady_images_per_second=10_000.0)
    found = [
        SimpleNamespace(asked=SimpleNamespace(row=row, seed=0, recipe=recipe), steps=steps,
                        ran=SimpleNamespace(seconds=seconds), status=status, error="broken on purpose", warnings=[],
                        throughput=throughput)
        for row, steps, seconds, status in rows
    ]  # fmt: skip
    monkeypatch.setattr(made, "Store", lambda out: SimpleNamespace(read_all=lambda: found))


def test_runs_that_end_well_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records(monkeypatch, *[("erm", 300, 1.0, "done")] * 40)
    whole, wall = made.read_matrix(stage(tmp_path), FINE)
    assert (whole.figure, whole.verdict, wall.figure) == ("40 of 40", "pass", "10")
    records(monkeypatch, *[("erm", 300, 1.0, "done")] * 39)
    assert made.read_matrix(stage(tmp_path), Ended((), (), cut=True))[0].verdict == "skipped"
    assert made.read_matrix(stage(tmp_path), Ended((1,), (10.0,)))[0].verdict == "fail"
    records(monkeypatch, *[("erm", 300, 1.0, "done")] * 39, ("mada", 3, 1.0, "failed"))
    (line,) = made.read_matrix(stage(tmp_path), Ended((), (), cut=True))
    assert (line.figure, line.verdict, line.notes) == ("39 of 40", "fail", ("mada seed 0: broken on purpose",))


def test_a_full_length_is_foretold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: 2 s for 650 steps, and 3 ms for each of 9,350 more, are 30.05 s, for SADA with its ERM run 58.1 s; with
    4 s beside each training and five seeds, (6 x 34.05 + 62.1) x 5 / 60 = 22.2 minutes."""
    long = [(row, 650, 2.0, "done") for row in ROWS]
    ended = Ended((0,), (4.0 * len(ROWS) + 2.0 * len(ROWS),))
    monkeypatch.setattr(made, "has_digits", lambda: True)
    records(monkeypatch, *long)
    first, *rows, beside = made.foretell(stage(tmp_path / "fp32", goal="<= 20"), ended)
    assert (first.figure, first.verdict) == ("22.2", "fail")
    assert [line.target.rpartition(": ")[2] for line in rows] == sorted(ROWS)
    assert {line.target.rpartition(": ")[2]: line.figure for line in rows}["sada"] == "58"
    assert {line.figure for line in rows} == {"30", "58"}
    assert beside.figure == "4.0"
    assert made.foretell(stage(tmp_path, goal="<= 23"), ended)[0].verdict == "pass"
    records(monkeypatch, *long[1:])
    first, *rows = made.foretell(stage(tmp_path, goal="<= 23"), ended)
    assert (first.figure, first.verdict, len(rows)) == ("6 of 7 methods can be foretold", "fail", len(ROWS) - 1)
    records(monkeypatch, *long)
    assert made.foretell(stage(tmp_path, goal="<= 23"), Ended((), (), cut=True))[0].verdict == "skipped"
    monkeypatch.setattr(made, "has_digits", lambda: False)
    assert made.foretell(stage(tmp_path, goal="<= 23"), ended)[0].verdict == "skipped"


def heard(stage: Stage, ended: Ended) -> list[Line]:
    """Reads what a piece of Python left in the log."""
    return [stage.line((stage.folder / "log.txt").read_text().strip(), ended.judge(ended.codes == (0, 0)))]


def test_a_stage_that_takes_too_long_is_cut_and_may_still_tell(tmp_path: Path) -> None:
    lasting = "import time\ntry: time.sleep(60)\nexcept KeyboardInterrupt: print('half of it')"
    state, (line, last) = gpu.take(stage(tmp_path / "a", heard, "all", "pass", lasting, limit=3), left=100)
    assert state == "cut after 3 s"
    assert (line.figure, line.verdict) == ("half of it", "skipped")
    assert (last.figure, last.verdict) == (state, "skipped")
    state, (line,) = gpu.take(stage(tmp_path / "b", heard, "all", "print(1)", "print(2)"), left=100)
    assert (state, line.figure, line.verdict) == ("exit 0+0", "1\n2", "pass")


def test_a_cut_stage_leaves_no_process_and_no_earlier_file(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").touch()
    child = "import subprocess, sys, time\nprint(subprocess.Popen(['sleep', '100']).pid, flush=True)\ntime.sleep(100)"
    _, (line, _) = gpu.take(stage(tmp_path / "a", heard, "all", child, limit=2), left=100)
    process, end = Path("/proc") / line.figure.splitlines()[0] / "status", time.monotonic() + 10
    while process.exists() and "State:\tZ" not in process.read_text():  # killed, it takes a moment to go
        assert time.monotonic() < end
    assert not (tmp_path / "a" / "old").exists()


def test_a_stage_without_time_or_files_is_told(tmp_path: Path) -> None:
    assert gpu.take(stage(tmp_path / "a", heard, "all", "pass"), left=9) == (
        "skipped",
        [Line("target", "no time left", "all", "skipped")],
    )
    assert not (tmp_path / "a").exists()
    state, (line,) = gpu.take(stage(tmp_path / "b", made.read_tests, "all", "import sys; sys.exit(3)"), left=100)
    assert (state, line.verdict) == ("exit 3", "fail")
    assert "log.txt" in line.figure
    assert "junit.xml" in line.notes[0]


@pytest.mark.parametrize(("said", "told"), [("3 MiB", False), ("3 MiB\n40960 MiB", True), ("", False)])
def test_a_card_that_others_use_is_told(
    said: str, told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpus, "said", lambda _: said)
    good = stage(tmp_path / "good", lambda stage, ended: [stage.line("7", "pass")], ">= 7", "pass")
    assert gpu.bench([good], tmp_path / "a.json", limit=100) == 0
    assert ("something else holds 40960 MiB" in capsys.readouterr().out) is told
    used = [int(line.split()[0]) for line in said.splitlines()]
    assert json.loads((tmp_path / "a.json").read_text())["used_mib_before"] == used


def test_the_table_the_json_and_the_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = stage(
        tmp_path / "good", lambda stage, ended: [stage.line("7", "pass"), Line("a figure", "8")], ">= 7", "pass"
    )
    bad = stage(tmp_path / "bad", lambda stage, ended: [stage.line("6", "fail", ("a name",))], ">= 7", "pass")
    assert gpu.bench([good], tmp_path / "kept" / "a.json", limit=100) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("[1/1] good: target ... ")
    assert said[0].endswith("s, exit 0")
    assert [line.split() for line in said[2:6:2]] == [
        ["target", "figure", "goal", "verdict"],
        ["target", "7", ">=", "7", "pass"],
    ]
    assert said[-2] == str(tmp_path / "kept" / "a.json")
    assert gpu.bench([bad, good], tmp_path / "b.json", limit=100) == 1
    assert "target: a name" in capsys.readouterr().out
    assert gpu.bench([good, bad], tmp_path / "c.json", limit=1) == 1  # skipped is not reached
    kept = json.loads((tmp_path / "b.json").read_text())
    assert [line["verdict"] for line in kept["lines"]] == ["fail", "pass", ""]
    assert kept["lines"][0] == {
        "target": "target",
        "figure": "6",
        "goal": ">= 7",
        "verdict": "fail",
        "notes": ["a name"],
    }
    assert [(told["name"], told["state"]) for told in kept["stages"]] == [("bad", "exit 0"), ("good", "exit 0")]
    assert {"device", "seconds", "machine"} <= kept.keys()
    assert kept["machine"]["packages"]["torch"]


def test_what_ends_the_call_loses_no_stage_that_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(stage: Stage, ended: Ended) -> list[Line]:
        raise KeyboardInterrupt

    good = stage(tmp_path / "good", lambda stage, ended: [stage.line("7", "pass")], ">= 7", "pass")
    monkeypatch.setattr(gpu, "lacking", lambda: "")
    monkeypatch.setattr(made, "stages", lambda out: [good, stage(tmp_path / "bad", stopped, "", "pass")])
    assert gpu.main(["--out", str(tmp_path)]) == 130
    (path,) = tmp_path.glob("gpu-*.json")
    kept = json.loads(path.read_text())
    assert [told["name"] for told in kept["stages"]] == ["good"]
    assert [line["figure"] for line in kept["lines"]] == ["7"]
    said = capsys.readouterr().out
    assert said.endswith(f"{path}\n")
    assert ["target", "7", ">=", "7", "pass"] in [line.split() for line in said.splitlines()]


def test_some_stages_alone_and_an_earlier_table_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "lacking", lambda: "")
    monkeypatch.setattr(made, "stages", lambda out: [stage(out / name, made.read_wall, "", "1/0") for name in "ab"])
    for second in range(2):
        monkeypatch.setattr(
            gpu, "datetime", SimpleNamespace(now=lambda zone, s=second: datetime(2026, 1, 1, 0, 0, s, 0, zone))
        )
        assert gpu.main(["--stages", "b", "--out", str(tmp_path)]) == 1
    assert len(tables := sorted(tmp_path.glob("gpu-*.json"))) == 2
    assert [json.loads(path.read_text())["stages"][0]["name"] for path in tables] == ["b", "b"]
    with pytest.raises(SystemExit) as ended:
        gpu.main(["--stages", "c", "--out", str(tmp_path)])
    assert ended.value.code == 2


@pytest.mark.parametrize(("named", "limits"), [(["b"], [540.0]), (["a", "b"], [20.0, 20.0])])
def test_a_stage_that_is_named_alone_may_take_all_of_the_time(
    named: list[str], limits: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be named because it met its limit."""
    chosen: list[Stage] = []
    monkeypatch.setattr(gpu, "lacking", lambda: "")
    monkeypatch.setattr(made, "stages", lambda out: [stage(out / name) for name in "abc"])

    def bench(stages: list[Stage], path: Path, limit: float) -> int:
        chosen.extend(stages)
        return 0

    monkeypatch.setattr(gpu, "bench", bench)
    assert gpu.main(["--stages", *named, "--limit", "540", "--out", str(tmp_path)]) == 0
    assert [each.limit for each in chosen] == limits
