"""The command line, as a stranger meets it: whole runs, interruptions, and every kind of bad input."""

import contextlib
import os
import re
import shlex
import signal
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import save

from benchmark import run, tables
from benchmark.core.record import Record
from benchmark.networks.classifiers import NETWORKS
from benchmark.report import listing
from benchmark.report.run_log import RunLog
from benchmark.runs.args import Args
from benchmark.runs.job import Job
from benchmark.runs.plan import plan
from benchmark.runs.store import Store
from tests.faults.harness import light, plugin, results, split, start, words

SMALL = ["--seeds", "0", "--steps", "6", "--evaluations", "2", "--sensitivity-images", "2", "--device", "cpu"]
RAISES = "if rng.step == 3: raise RuntimeError('broken on purpose')"


def call(out: Path, *words: str, figures: bool = False) -> int:
    """The command in this process; it draws no figures where a test looks at none."""
    with contextlib.nullcontext() if figures else light():
        return run.main([*words, *SMALL, "--out", str(out)])


def read(out: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(out / "tables" / f"{name}.csv", keep_default_na=False)


def test_the_flags_are_frozen() -> None:
    """A new knob belongs into a method's or dataset's fields; a new flag is a decision, made here."""
    assert [field.name for field in fields(Args)] == [
        "methods", "datasets", "data_dir", "seeds", "sources", "set", "search", "protocol", "network", "weights",
        "plugin", "plan", "steps", "budget", "seconds", "batch_size", "lr", "weight_decay", "evaluations",
        "sensitivity_images", "device", "jobs", "nproc", "timeout", "engine", "ray_address", "out", "save_weights",
        "track", "stale", "checkpoint_seconds", "save_plan", "quiet", "verbose", "precision", "launch",
        "deterministic", "dry_run", "list", "version", "trial",
    ]  # fmt: skip
    assert [field.name for field in fields(tables.Args)] == ["out", "check", "pack", "first_views", "trace", "plugin"]


@pytest.mark.parametrize("program", [run, tables])
def test_help_explains_every_flag(program: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program.main(["--help"])
    shown = " ".join(re.sub(r"[│|╭╰─]", " ", capsys.readouterr().out).split())
    told = re.split(r" (?=--[a-z-]+ )", shown)
    for field in fields(Args if program is run else tables.Args):
        flag = f"--{field.name.replace('_', '-')} "
        words = r" [A-Za-z][a-z]+ [a-z].* [a-z]+"
        assert any(text.startswith(flag) and re.search(words, text) for text in told), flag


def test_a_run_from_start_to_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(tmp_path, "--methods", "erm", "randconv", "randconv:views=independent", "--set", "erm.x=1") == 2
    assert "erm" in capsys.readouterr().err
    words = ["--methods", "erm", "randconv", "randconv:views=independent"]
    assert call(tmp_path, *words, figures=True) == 0
    accuracy, cost, sensitivity = (read(tmp_path, name) for name in ("accuracy", "throughput", "sensitivity"))
    assert set(zip(accuracy["method"], accuracy["variant"], strict=True)) == {
        ("erm", ""),
        ("randconv", ""),
        ("randconv", "views=independent"),
    }
    assert set(accuracy["target"]) == {"blend", "print", "noise", "uci"}
    assert set(accuracy["selection"]) == {"source-val", "last", "oracle"}
    assert accuracy["accuracy"].between(0, 100).all()
    assert (cost[cost["method"] == "erm"]["relative_to_erm"] == 1).all()
    assert {"clean_error", "mean", "low", "mid", "high"} <= set(sensitivity["band"])
    assert list((tmp_path / "figures").glob("accuracy_*.png"))
    for run_id in accuracy["run_id"].unique():
        folder = tmp_path / "runs" / run_id
        assert {path.name for path in folder.iterdir()} == {
            "record.json", "curve.jsonl", "sensitivity.npy", "views.png", "SHA256SUMS",
        }  # fmt: skip

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")}
    capsys.readouterr()
    assert call(tmp_path, *words) == 0
    assert "3 of 3 runs are done already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")} == before


def test_the_recorded_command_repeats_the_run(tmp_path: Path) -> None:
    words = ["--methods", "randconv:kernel_sizes=[1,3],lam=2.5", "--budget", "passes"]
    assert call(tmp_path / "first", *words) == 0
    (first,) = Store(tmp_path / "first").read_all()
    again = first.ran.command.split()[3:]
    assert again[again.index("--methods") + 1] == "'randconv:kernel_sizes=[1,3],lam=2.5'"
    with light():
        assert run.main([*split(first.ran.command)[3:], "--out", str(tmp_path / "second")]) == 0
    (second,) = Store(tmp_path / "second").read_all()
    assert second.run_id == first.run_id
    assert second.accuracy == first.accuracy


def test_two_workers_give_the_tables_of_one(tmp_path: Path) -> None:
    grid = ["--methods", "erm", "randconv", "--seeds", "0", "--steps", "6"]
    with light():
        assert run.main(words(tmp_path, tmp_path / "one", *grid)) == 0
        assert run.main(words(tmp_path, tmp_path / "two", *grid, "--jobs", "2")) == 0
    assert results(tmp_path / "one") == results(tmp_path / "two")


def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path) -> None:
    """SIGKILL in the middle, then the same command: accuracies, map and curve are those of an undisturbed run."""
    words = ["--methods", "erm", "--steps", "60", "--seeds", "3", "--evaluations", "4", "--sensitivity-images", "4"]
    words += ["--checkpoint-seconds", "0", "--device", "cpu"]

    whole, broken, again = (["--out", str(tmp_path / name), *words] for name in ("whole", "broken", "broken"))
    undisturbed, killed = start(whole, tmp_path / "log"), start(broken, tmp_path / "log")
    deadline = time.monotonic() + 120
    while not list((tmp_path / "broken").glob("runs/.partial-*/checkpoint.pt")) and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.kill()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    assert not list((tmp_path / "broken" / "runs").glob("[0-9a-f]*"))
    resumed = start(again, tmp_path / "log")
    undisturbed.join()
    resumed.join()
    assert (undisturbed.exitcode, resumed.exitcode) == (0, 0)
    (first,), (second,) = Store(tmp_path / "whole").read_all(), Store(tmp_path / "broken").read_all()
    assert second.ran.resumed == 1
    assert second.accuracy == first.accuracy
    assert second.sensitivity == first.sensitivity
    for name in ("curve.jsonl", "sensitivity.npy"):
        files = [tmp_path / out / "runs" / first.run_id / name for out in ("whole", "broken")]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_a_method_that_raises_fails_its_own_run_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = plugin(tmp_path, "raising", RAISES)
    words = ["--methods", "erm", "raising", "--plugin", str(path)]
    assert call(tmp_path / "out", *words, "--jobs", "2") == 1
    found = read(tmp_path / "out", "accuracy")
    assert set(found[found["method"] == "erm"]["status"]) == {"done"}
    assert set(found[found["method"] == "raising"]["status"]) == {"failed"}
    assert "broken on purpose" in (tmp_path / "out" / "tables" / "accuracy.md").read_text()
    shown = capsys.readouterr().out
    assert "broken on purpose" in shown
    words_of_trace = shlex.split(shown.partition("what the first ended with:\n    python -m benchmark.tables ")[2])[:4]
    assert tables.main(words_of_trace) == 0
    assert f'File "{path}", line' in capsys.readouterr().out.partition("it ended with:\n")[2]
    plugin(tmp_path, "raising")
    assert call(tmp_path / "out", *words) == 0  # mended: only the failed run is done again
    assert set(read(tmp_path / "out", "accuracy")["status"]) == {"done"}


def test_a_worker_that_dies_costs_its_own_run_one_retry(tmp_path: Path) -> None:
    path = plugin(tmp_path, "dying", "if rng.step == 3: os.kill(os.getpid(), 9)")
    assert call(tmp_path / "out", "--methods", "erm", "dying", "--plugin", str(path), "--jobs", "2") == 1
    found = {record.asked.method: record for record in Store(tmp_path / "out").read_all()}
    assert found["erm"].status == "done"
    assert found["dying"].status == "failed"
    assert "died twice (exit code -9)" in str(found["dying"].error)


def test_changed_code_makes_a_run_stale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = plugin(tmp_path, "plain")
    words = ["--methods", "plain", "--plugin", str(path)]
    assert call(tmp_path / "out", *words) == 0
    path.write_text('"""Another docstring."""\n' + path.read_text().partition("\n")[2] + "# a comment\n")
    assert call(tmp_path / "out", *words, "--stale", "fail") == 0
    path.write_text(path.read_text() + "changed = 1\n")
    assert call(tmp_path / "out", *words, "--stale", "fail") == 2
    assert "was made by other code" in capsys.readouterr().err
    assert call(tmp_path / "out", *words, "--stale", "keep") == 0
    assert "1 of 1 runs are done already" in capsys.readouterr().out
    assert call(tmp_path / "out", *words) == 0
    assert "[1/1]" in capsys.readouterr().out


def test_tables_are_told_of_the_plugins_that_runs_were_made_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, again = plugin(tmp_path, "apart"), ["--out", str(tmp_path / "out")]
    assert call(tmp_path / "out", "--methods", "apart", "--plugin", str(path)) == 0
    assert tables.main([*again, "--plugin", str(path)]) == 0
    assert "not known here" not in capsys.readouterr().out
    assert tables.main(again) == 0
    assert "method apart (1); give --plugin FILE" in capsys.readouterr().out
    path.write_text(path.read_text() + "changed = 1\n")
    assert tables.main([*again, "--plugin", str(path)]) == 0
    assert "1 of 1: other code" in capsys.readouterr().out


def test_another_network_is_recorded_and_stands_apart(tmp_path: Path) -> None:
    args = Args(methods=("erm",), seeds=(0,), steps=2, out=tmp_path)
    (usual,), (other,) = plan(args), plan(replace(args, network="digits_convnet"))
    assert other.asked.recipe == usual.asked.recipe.model_copy(update={"network": "digits_convnet"})
    assert other.asked.run_id != usual.asked.run_id
    assert "--network digits_convnet" in other.command
    assert "--network" not in usual.command


def test_list_and_dry_run_write_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--list"]) == 0
    shown = capsys.readouterr().out
    for name in ("erm", "randconv", "minidigits", "digits", "common", "timm:NAME"):
        assert name in shown
    assert listing.NETWORKS.keys() == {*NETWORKS, "timm:NAME"}
    assert call(tmp_path / "out", "--methods", "erm", "randconv", "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "2 of 2 runs to do" in shown
    assert "6 steps" in shown
    assert not (tmp_path / "out").exists()
    assert call(tmp_path / "out", "--methods", "erm") == 0
    (record,) = Store(tmp_path / "out").read_all()
    capsys.readouterr()
    assert call(tmp_path / "out", "--methods", "erm", "randconv", "--dry-run") == 0
    shown = capsys.readouterr().out
    assert record.run_id in shown
    assert "1 of 2 runs to do" in shown


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--methods", "augmixx"], "unknown method 'augmixx': did you mean 'augmix'"),
        (["--datasets", "digit"], "unknown dataset 'digit': did you mean 'digits'"),
        (["--sources", "ucy"], "unknown source domain 'ucy': did you mean 'uci'"),
        (["--network", "wrn_40"], "unknown network 'wrn_40': did you mean 'wrn_40_2'"),
        (["--network", "resnet50"], "unknown network 'resnet50': that of timm is --network timm:resnet50"),
        (["--network", "timm:foo:resnet18"], "timm:NAME takes a network that timm has itself"),
        (["--weights", ""], "--weights: it is empty"),
        (["--protocol", "comon"], "unknown protocol 'comon': did you mean 'common'"),
        (["--set", "randconv.lamm=1"], "no setting 'lamm': did you mean 'lam'"),
        (["--set", "randconv.lam=heavy"], "randconv.lam=heavy"),
        (["--set", "randconv.lam=-1"], "randconv.lam=-1"),
        (["--set", "randconv.identity_prob=1.5"], "randconv.identity_prob=1.5"),
        (["--set", "nobody.lam=1"], "this run has no such method or dataset, only "),
        (["--set", "lam=1"], "write it as METHOD.field=value"),
        (["--methods", "randconv:lam"], "'lam' is not field=value"),
        (["--steps", "0"], "--steps 0: must be 1 or more"),
        (["--seeds", "-1"], "--seeds -1: must be 0 or more"),
        (["--jobs", "0"], "--jobs 0"),
        (["--budget", "time"], "--seconds"),
        (["--seconds", "3"], "--budget time"),
        (["--budget", "time", "--seconds", "-3"], "--seconds -3: must be more than 0, and at most 2147483647"),
        (["--budget", "time", "--seconds", "1e14"], "--seconds 1e+14: must be more than 0, and at most 2147483647"),
        (["--budget", "time", "--seconds", "nan"], "--seconds nan: must be more than 0, and at most 2147483647"),
        (["--device", "cuda"], "no CUDA device"),
        (["--ray-address", "localhost:6379"], "--engine ray"),
        (["--nproc", "2", "--jobs", "2"], "--nproc splits one run"),
        (["--nproc", "2", "--timeout", "9"], "--timeout, which ends a single process"),
        (["--nproc", "2", "--engine", "ray"], "leave out --jobs and --engine ray"),
        (["--timeout", "9", "--engine", "ray"], "--timeout ends a process of this machine"),
        (["--plugin", "absent.py"], "no such file"),
        (["--weights", "pretrained"], "'mini_convnet' has no pretrained weights"),
        (["--weights", "absent.safetensors"], "--weights absent.safetensors: neither"),
        (["--search", "4", "--protocol", "strict"], "--search with --protocol strict"),
        (["--datasets", "digits"], "--data-dir"),
        (["--datasets", "digits", "--data-dir", "absent-folder"], "absent-folder"),
    ],
)
def test_bad_usage_is_one_message_and_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    if words == ["--device", "cuda"] and torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    base = ["--methods", "erm", "randconv", "--seeds", "0", "--steps", "2", "--out", str(tmp_path / "out")]
    assert run.main([*base, *words]) == 2
    shown = capsys.readouterr().err
    assert says in shown
    assert "Traceback" not in shown
    assert shown.count("error:") == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"no tensors", "not a whole safetensors file"),
        (save({"trunk.weight": torch.zeros(3)}), "not the weights of this network: stem.weight is nothing"),
    ],
    ids=["damaged", "another network"],
)
def test_weights_that_are_damaged_or_of_another_network_are_refused_before_any_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, says: str
) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    words = ["--methods", "erm", "--seeds", "0", "--out", str(tmp_path / "out"), "--weights", str(path), "--dry-run"]
    assert run.main([*words, "--device", "cpu"]) == 2
    assert f"--weights {path}: {says}" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--steps", "many"], ["--nonsense"], ["--budget", "money"], ["--seeds", "a"]])
def test_words_that_do_not_parse_end_with_code_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run.main(words)
    assert caught.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert call(tmp_path / "out", "--methods", "erm") == 2


def test_an_output_folder_that_is_a_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").write_text("precious")
    assert call(tmp_path / "out", "--methods", "erm") == 2
    assert "cannot write there" in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "precious"


def test_bad_input_loses_no_earlier_result(tmp_path: Path) -> None:
    assert call(tmp_path, "--methods", "erm") == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert call(tmp_path, "--methods", "ermm") == 2
    assert call(tmp_path, "--methods", "erm", "--set", "erm.nothing=1") == 2
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_interruption_keeps_finished_runs_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = plugin(tmp_path, "stopping", "if rng.step == 3: raise KeyboardInterrupt")
    assert call(tmp_path / "out", "--methods", "erm", "stopping", "--plugin", str(path)) == 130
    assert "the same command goes on from here" in capsys.readouterr().err
    assert [record.asked.method for record in Store(tmp_path / "out").read_all()] == ["erm"]


def test_other_processes_run_is_left_to_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words: list[Any] = ["--methods", "erm"]
    assert call(tmp_path / "first", *words) == 0
    (record,) = Store(tmp_path / "first").read_all()
    store = Store(tmp_path / "second")
    store.prepare()
    with store.working(record.run_id):
        assert call(tmp_path / "second", *words) == 1
        assert "left to the process that is running it now" in capsys.readouterr().out
    assert store.read_all() == []


def test_a_run_that_another_process_had_begun_and_left_is_done_after_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process dies while this one does its second run."""
    assert call(tmp_path / "first", "--methods", "erm", "augmix") == 0
    whole = {record.asked.method: record for record in Store(tmp_path / "first").read_all()}
    store = Store(tmp_path / "second")
    store.prepare()
    others = contextlib.ExitStack()
    others.enter_context(store.working(whole["erm"].run_id))

    def ends(self: RunLog, job: Job, record: Record | None) -> None:
        if job.asked.method == "augmix":
            others.close()
        told(self, job, record)

    told = RunLog.ended
    monkeypatch.setattr(RunLog, "ended", ends)
    assert call(tmp_path / "second", "--methods", "erm", "augmix") == 0
    assert "1 runs that another process had begun, and has left, are done here" in capsys.readouterr().out
    assert {record.asked.method: record.accuracy for record in store.read_all()} == {
        method: record.accuracy for method, record in whole.items()
    }
