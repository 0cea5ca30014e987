"""benchmark.compare and benchmark.results: numbers, figures and errors of a comparison made from Python."""

import io
import logging
import re
import signal
import subprocess
import sys
import threading
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from PIL import Image

import benchmark
from benchmark import api, run
from benchmark.api import Results
from benchmark.comparison import Comparison
from benchmark.core.errors import UsageError
from benchmark.report.figures import all_figures
from benchmark.runs import plan_file, torch_state
from benchmark.runs.job import Job
from benchmark.runs.keywords import checked
from benchmark.runs.store import Store
from benchmark.runs.torch_state import as_in_a_new_process
from benchmark.training import floors
from tests.conftest import ROOT
from tests.faults.harness import plugin
from tests.handmade import failed, fill, record, scored

TINY: dict[str, Any] = {
    "seeds": 0, "steps": 3, "evaluations": 1, "sensitivity_images": 1, "device": "cpu", "progress": False,
}  # fmt: skip


def state() -> tuple[Any, ...]:
    """What of this process a run might change."""
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)]
    torch_has = (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.get_float32_matmul_precision(),
    )
    root, ours = logging.getLogger(), logging.getLogger("benchmark")
    return *handlers, *torch_has, torch.get_rng_state().tolist(), root.handlers[:], ours.level, ours.handlers[:]


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tables, figures and page, which take seconds, where a test looks at none."""
    monkeypatch.setattr(api, "render", lambda store: None)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[api.Results, Path, list[Any]]:
    """A comparison with a run that fails, with the states of the process before and after and what it warned of."""
    folder = tmp_path_factory.mktemp("api")
    spoiling = "torch.set_num_threads(2); torch.set_float32_matmul_precision('medium'); torch.rand(1)"
    broken = plugin(folder, "raising", f"{spoiling}; raise RuntimeError('broken on purpose')")
    before = state()
    with pytest.warns(UserWarning, match="raising seed 0\\) failed: RuntimeError: broken on purpose"):
        found = benchmark.compare(
            methods=["erm", "raising"], plugin=str(broken), out=folder / "out", deterministic=True, **TINY
        )
    return found, folder / "out", [before, state()]


def test_the_process_is_as_before(made: tuple[api.Results, Path, list[Any]]) -> None:
    before, after = made[2]
    assert before == after
    assert "raising" not in benchmark.registry.names("method")


def test_frames_hold_numbers(made: tuple[api.Results, Path, list[Any]]) -> None:
    found, out, _ = made
    done = found.accuracy[found.accuracy["status"] == "done"]
    assert done["accuracy"].between(0, 100).all()
    assert set(done["target"]) == {"blend", "print", "noise", "uci"}
    assert found.accuracy["accuracy"].isna().sum() == 1  # of the run that failed
    assert [str(found.accuracy[name].dtype) for name in ("accuracy", "headline")] == ["float64", "boolean"]
    assert str(found.sensitivity["error_rate"].dtype) == str(found.throughput["peak_memory_mib"].dtype) == "float64"
    (erm,) = (record for record in Store(out).read_all() if record.asked.method == "erm")
    assert erm.accuracy is not None
    stored = {name: domain.accuracy["source-val"] for name, domain in erm.accuracy.domains.items() if domain.accuracy}
    assert dict(zip(*(done[done["headline"]][column] for column in ("target", "accuracy")), strict=True)) == stored
    runs = found.runs.set_index("method")
    shifted = [value for name, value in stored.items() if name != "uci"]
    assert runs.loc["erm", "mean_accuracy"] == pytest.approx(sum(shifted) / 3)
    assert runs.loc["erm", "worst_accuracy"] == min(shifted)
    assert runs["status"].to_dict() == {"erm": "done", "raising": "failed"}
    assert runs.loc["erm", "error"] is None
    assert "broken on purpose" in str(runs.loc["raising", "error"])
    assert list(found.failed["method"]) == ["raising"]
    calibrated = found.calibration.set_index(["split", "target"])["ece_percent"]
    assert set(calibrated.index) == {("source-val", "uci"), *(("test", name) for name in stored)}
    assert calibrated.between(0, 100).all()


def test_what_the_command_writes_is_written(made: tuple[api.Results, Path, list[Any]]) -> None:
    _, out, _ = made
    assert (out / "index.html").is_file()
    assert {"accuracy.csv", "accuracy.md", "throughput.parquet"} <= {path.name for path in (out / "tables").iterdir()}


def test_figures_are_those_of_the_files_and_unknown_to_pyplot(made: tuple[api.Results, Path, list[Any]]) -> None:
    found, out, _ = made
    files = {path: path.stat().st_mtime_ns for path in (out / "figures").rglob("*")}
    names = {path.relative_to(out / "figures").with_suffix("").as_posix() for path in files if path.suffix == ".png"}
    assert set(found.figures) == names
    for name, figure in found.figures.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        shown, file = (
            np.asarray(Image.open(each).convert("RGB")) for each in (buffer, out / "figures" / f"{name}.png")
        )
        assert shown.shape == file.shape
        ink = [float((255.0 - each).sum()) for each in (shown, file)]
        assert ink[0] == pytest.approx(ink[1], rel=0.015), name  # laid out anew, what is on it may move by a pixel
    assert plt.get_fignums() == []
    assert {path: path.stat().st_mtime_ns for path in files} == files


def test_it_shows_itself(made: tuple[api.Results, Path, list[Any]]) -> None:
    found, out, _ = made
    assert repr(found).startswith(f"Results in {out}: 2 runs, 1 of them failed\n  minidigits, source uci")
    shown = found._repr_html_()
    assert "<th>blend</th>" in shown
    assert "<td>erm</td>" in shown
    assert "raising, seed 0: failed" in shown


def test_results_are_those_asked_for_and_of_the_folder_all(
    made: tuple[api.Results, Path, list[Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = made
    before = {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*")}
    again = benchmark.compare(methods="erm", out=out, deterministic=True, **TINY | {"progress": True})
    assert list(again.runs["method"]) == ["erm"]
    assert "1 of 1 runs are done already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*")} == before
    assert list(benchmark.results(out).runs["method"]) == ["erm", "raising"]


def test_a_folder_without_runs_is_named_and_an_empty_one_has_the_same_columns(
    tmp_path: Path, made: tuple[api.Results, Path, list[Any]]
) -> None:
    with pytest.raises(UsageError, match=f"{tmp_path}: no runs there"):
        benchmark.results(tmp_path)
    Store(tmp_path).prepare()
    empty = benchmark.results(str(tmp_path))
    for name in ("accuracy", "sensitivity", "throughput", "runs"):
        one, other = (getattr(each, name) for each in (empty, made[0]))
        assert len(one) == 0
        pd.testing.assert_series_equal(one.dtypes, other.dtypes)
    assert dict(empty.figures) == {}
    assert "0 runs" in empty._repr_html_()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"method": "erm"}, r"benchmark\.compare: unknown name 'method': did you mean 'methods'"),
        ({"methods": 3}, r"methods = 3: it has to be a list, each part of it a text"),
        ({"set": {"lam": 3}}, r"set = {'lam': 3}: it has to be a list, each part of it a text, like 'sada\.lam=5'"),
        ({"steps": "many"}, r"steps = 'many': it has to be a whole number"),
        ({"steps": True}, r"steps = True: it has to be a whole number"),
        ({"budget": "money"}, r"budget = 'money': it has to be one of 'steps', 'passes', 'time'"),
        ({"steps": 0}, r"--steps 0: must be 1 or more"),
        ({"methods": "ermm"}, r"unknown method 'ermm': did you mean 'erm'"),
        ({"dry_run": True}, r"dry_run: run `python -m benchmark.run --dry-run`"),
        ({"plan": "absent.toml"}, r"--plan absent.toml: No such file"),
    ],
)
def test_bad_input_is_a_usage_error(given: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=says):
        benchmark.compare(**{"out": tmp_path} | TINY | given)


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("plan", [5, b"plan.toml", "", True])
def test_what_is_no_path_is_no_plan(plan: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"plan = .*: it has to be the path of a plan file"):
        benchmark.compare(plan=plan, out=tmp_path)


@pytest.mark.parametrize("seed", [np.array(3), np.int64(3), torch.tensor(3), [torch.tensor(3)], torch.tensor([3])])
def test_a_number_of_another_library_is_a_number(seed: Any) -> None:
    assert checked({"seeds": seed}, {}, "compare") == {"seeds": (3,)}


def test_a_plan_is_run_and_keywords_win(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text('methods = "erm"\nseeds = [3, 4]\nsteps = 3\nevaluations = 1\n')
    more: dict[str, Any] = {"sensitivity_images": 0, "device": "cpu", "progress": False}
    found = benchmark.compare(plan=tmp_path / "plan.toml", seeds=5, out=tmp_path, save_plan=tmp_path / "x", **more)
    assert (list(found.runs["seed"]), list(found.runs["steps"])) == ([5], [3])
    assert plan_file.read(tmp_path / "x")["seeds"] == (5,)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.usefixtures("bare")
def test_an_interruption_leaves_what_the_same_call_continues(tmp_path: Path, times: int) -> None:
    """Twice, as an impatient user of a notebook does: the process has to live."""
    marker = tmp_path / "there"
    once = f"if rng.step == 2 and not os.path.exists({str(marker)!r}): os.mkdir({str(marker)!r}); "
    stop = plugin(tmp_path, "stopped", once + f"[os.kill(os.getpid(), 2) for _ in range({times})]")
    before = state()
    asked = {"methods": ["erm", "stopped"], "plugin": stop, "out": tmp_path / "out", **TINY, "steps": 4}
    with pytest.raises(KeyboardInterrupt):
        benchmark.compare(**asked)
    assert state() == before
    assert list(benchmark.results(tmp_path / "out").runs["method"]) == ["erm"]
    found = benchmark.compare(**asked)
    assert list(found.runs["status"]) == ["done", "done"]
    assert list(found.runs["resumed"]) == [0, 2 - times]  # the second signal did not wait for the checkpoint


@pytest.mark.usefixtures("bare")
def test_another_thread_may_call_it(tmp_path: Path) -> None:
    found: list[api.Results] = []
    thread = threading.Thread(target=lambda: found.append(benchmark.compare(methods="erm", out=tmp_path, **TINY)))
    thread.start()
    thread.join()
    assert list(found[0].runs["status"]) == ["done"]


def test_a_home_folder_of_nobody_is_named() -> None:
    with pytest.raises(UsageError, match="~nobody-of-this-name"):
        api.results("~nobody-of-this-name/results")


def test_an_empty_path_is_not_the_working_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="out: its path is empty"):
        api.results("")
    with pytest.raises(UsageError, match="run_dir: its path is empty"):
        benchmark.load_model("")


def test_names_are_found_lazily() -> None:
    assert benchmark.compare is api.compare
    assert benchmark.results is api.results
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(benchmark, "nothing")  # noqa: B009


@pytest.fixture
def beside(tmp_path: Path) -> Results:
    """Two of three runs of a folder: AugMix, and one that failed, without the ERM that ran beside them."""
    made = [record("erm", 0, 40.0), record("augmix", 0, 60.0, speed=25.0), failed("gud", 0)]
    fill(tmp_path, made)
    return Results(tmp_path, {run.run_id for run in made[1:]})


def test_a_speed_is_relative_to_an_erm_that_was_not_asked_for(beside: Results) -> None:
    assert beside.throughput["method"].tolist() == ["augmix"]
    assert beside.throughput["relative_to_erm"].tolist() == [0.25]


def test_what_is_shown_is_of_the_runs_asked_for(beside: Results) -> None:
    assert repr(beside).splitlines()[0].endswith(": 2 runs, 1 of them failed")
    assert repr(beside).endswith("mean accuracy in %: augmix 60.0, gud failed")
    assert "<td>erm</td>" not in beside._repr_html_()
    assert "<td>augmix</td>" in beside._repr_html_()


def test_comparisons_that_differ_in_a_setting_are_told_apart(tmp_path: Path) -> None:
    made = [record("erm", 0, 40.0), record("erm", 0, 50.0, lr=0.5), record("erm", 0, 60.0, network="digits_convnet")]
    fill(tmp_path, made)
    lines = repr(Results(tmp_path)).splitlines()[1:]
    assert len({line.partition(";")[2].partition("; mean accuracy")[0] for line in lines}) == 3
    assert sum("lr 0.5" in line and line.endswith("erm 50.0") for line in lines) == 1
    assert sum("network digits_convnet" in line and line.endswith("erm 60.0") for line in lines) == 1


def test_its_figures_are_of_the_runs_asked_for(beside: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    monkeypatch.setattr(all_figures, "draw", lambda store, records: drawn.extend(r.asked.method for r in records))
    assert dict(beside.figures) == {}
    assert sorted(drawn) == ["augmix", "gud"]


def test_the_mean_that_is_printed_is_that_over_the_shifted_domains(tmp_path: Path) -> None:
    fill(tmp_path, [scored(record("erm", 0), {"a": 20.0, "b": 80.0})])
    assert repr(Results(tmp_path)).endswith("; mean accuracy in %: erm 50.0")


@pytest.mark.parametrize(("rule", "value"), [("source-val", 95.0), ("last", 94.0)])
def test_accuracies_of_a_run_are_under_its_own_rule(rule: str, value: float, tmp_path: Path) -> None:
    fill(tmp_path, [record("erm", 0, 50.0, selection=rule)])
    (row,) = Results(tmp_path).runs.to_dict("records")
    assert (row["source_val_accuracy"], row["mean_accuracy"]) == (value, 50.0 - (rule == "last"))


def test_results_know_their_folder_after_a_change_of_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "first", [record("erm", 0)])
    monkeypatch.chdir(tmp_path)
    found = Results(Path("first"))
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert len(found.sensitivity)


@pytest.mark.usefixtures("bare")
def test_each_call_reads_the_images_that_are_there_then(tmp_path: Path) -> None:
    for place in ("clay/cat/0", "clay/cat/1", "clay/dog/0", "clay/dog/1", "ink/cat/0", "ink/dog/0"):
        path = tmp_path / "own" / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (len(place), 50, 200)).save(path)
    asked: dict[str, Any] = {
        "datasets": "folder",
        "sources": "clay",
        "network": "mini_convnet",
        "data_dir": tmp_path / "own",
    }
    settings: dict[str, Any] = {"set": ["folder.val_share=0.5"], "out": tmp_path / "out"}
    found = [benchmark.compare(methods="erm", **asked, **settings, **TINY | {"sensitivity_images": 0})]
    Image.new("RGB", (32, 32), (90, 50, 200)).save(tmp_path / "own" / "ink" / "cat" / "1.png")
    found += [benchmark.compare(methods="erm", **asked, **settings, **TINY | {"sensitivity_images": 0})]
    counts = [set(results.accuracy.query("target == 'ink'")["n_images"]) for results in found]
    assert counts == [{2}, {3}]


@pytest.mark.usefixtures("bare")
def test_earlier_records_of_runs_that_were_to_be_done_again_are_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one that another process does, and of one that was done here and failed."""
    made = record("erm", 0)
    job = Job(asked=made.asked, command="", session="", out=tmp_path, data_dir=None)
    store = fill(tmp_path, [made])
    planned: list[Job] = []
    monkeypatch.setattr(api, "prepare", lambda args: Comparison(args, store, {}, planned, []))
    planned[:] = [job]
    with pytest.warns(UserWarning, match="^1 of 1 runs are left to the process that runs them$"):
        benchmark.compare(out=tmp_path, progress=False)
    monkeypatch.setattr(Job, "outdated", lambda *_: "")
    planned[:] = [replace(job, save_weights=True)]
    with pytest.warns(UserWarning, match="^1 of 1 runs were to be run again for --save-weights and failed; their earl"):
        benchmark.compare(out=tmp_path, progress=False)
    planned[:] = [job]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        benchmark.compare(out=tmp_path, progress=False)


@pytest.mark.usefixtures("bare")
def test_a_row_whose_search_found_nothing_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = fill(tmp_path, [])
    nothing = "gud: none of its 2 trials ended well, so it is not run."
    monkeypatch.setattr(api, "prepare", lambda args: Comparison(args, store, {}, [], [], problems=[nothing]))
    with pytest.warns(UserWarning, match=re.escape(nothing)):
        found = benchmark.compare(methods="gud", search=2, out=tmp_path, progress=False)
    assert len(found.runs) == 0


@pytest.mark.usefixtures("bare")
def test_what_the_caller_has_set_in_torch_changes_no_number(tmp_path: Path) -> None:
    short: dict[str, Any] = {"methods": "erm", "seeds": 0, "steps": 3, "device": "cpu", "evaluations": 1}
    short |= {"sensitivity_images": 0, "progress": False}
    plain = benchmark.compare(out=tmp_path / "plain", **short).accuracy["accuracy"]
    torch.set_default_dtype(torch.float64)
    try:
        with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
            among = benchmark.compare(out=tmp_path / "among", **short).accuracy["accuracy"]
            assert torch.is_autocast_enabled("cpu")
            assert torch.is_inference_mode_enabled()
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert plain.tolist() == among.tolist()


def test_a_comparison_in_bf16_has_the_numbers_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An autocast around it kept the first copy of every weight, so that training moved weights that nothing read."""
    monkeypatch.setattr(floors, "device_rates", lambda *about: (1.0, 1.0))  # seconds in bf16, and no accuracy
    found = benchmark.compare(
        methods="erm", seeds=0, steps=20, device="cpu", evaluations=1, sensitivity_images=0, precision="bf16",
        out=tmp_path / "python", progress=False,
    )  # fmt: skip
    words = "--methods erm --seeds 0 --steps 20 --device cpu --evaluations 1 --sensitivity-images 0 --precision bf16"
    assert run.main([*words.split(), "--out", str(tmp_path / "command")]) == 0
    by_command = benchmark.results(tmp_path / "command")
    assert found.accuracy["accuracy"].tolist() == by_command.accuracy["accuracy"].tolist()


@pytest.mark.parametrize(
    ("places", "value"),
    [
        ([], ""),
        ([torch.backends.cuda.matmul], "tf32"),
        ([torch.backends.cudnn.conv], "ieee"),  # type: ignore[attr-defined]
        ([torch.backends.cudnn.conv, torch.backends.cudnn.rnn], "ieee"),  # type: ignore[attr-defined]
        ([torch.backends], "tf32"),
        ([torch.backends], "ieee"),
        ([torch.backends.mkldnn.matmul], "bf16"),  # type: ignore[attr-defined]
    ],
)
def test_precisions_that_are_set_by_torchs_newer_names_are_as_before(places: list[Any], value: str) -> None:
    def now() -> list[str]:
        return [place.fp32_precision for place in torch_state.PRECISIONS]

    with as_in_a_new_process():  # and afterwards as this process had it
        with as_in_a_new_process():
            plain = now()
        for place in places:
            place.fp32_precision = value
        mine = now()
        with as_in_a_new_process():
            assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == ("highest", True)
            assert now() == plain
        assert now() == mine


@pytest.mark.parametrize("older", ["highest", "high", "medium"])
@pytest.mark.parametrize("convolutions", [True, False])
def test_precisions_that_are_set_by_torchs_older_names_are_as_before(older: str, convolutions: bool) -> None:
    with as_in_a_new_process():
        torch.set_float32_matmul_precision(older)
        torch.backends.cudnn.allow_tf32 = convolutions
        with as_in_a_new_process():
            assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == ("highest", True)
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == (older, convolutions)


def test_what_chooses_how_numbers_are_computed_is_as_in_a_new_process_within() -> None:
    cudnn: Any = torch.backends.cudnn
    mkldnn: Any = torch.backends.mkldnn

    def now() -> tuple[bool, ...]:
        return mkldnn.enabled, cudnn.benchmark, cudnn.deterministic

    with as_in_a_new_process():  # and afterwards as this process had it
        mkldnn.enabled = False
        cudnn.benchmark = cudnn.deterministic = True
        with as_in_a_new_process():
            assert now() == (True, False, False)
        assert now() == (False, True, True)


def test_generators_of_gpus_are_as_before_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network's weights are drawn after torch.manual_seed, which seeds those of GPUs as well."""
    kept = [torch.zeros(16, dtype=torch.uint8)]
    seeds: list[Any] = []
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: list(kept))
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", seeds.append)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with as_in_a_new_process():
        pass
    assert seeds == [kept]
    seeds.clear()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        with as_in_a_new_process():
            torch.manual_seed(8)
        assert seeds[-1] == 7


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_what_a_gpu_draws_next_is_as_before() -> None:
    torch.manual_seed(7)
    wanted = torch.rand(4, device="cuda")
    torch.manual_seed(7)
    with as_in_a_new_process():
        torch.manual_seed(8)
        torch.rand(4, device="cuda")
    assert torch.equal(torch.rand(4, device="cuda"), wanted)


def test_of_mixed_names_of_precisions_all_are_as_before() -> None:
    with as_in_a_new_process():
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
        with as_in_a_new_process():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cudnn.conv.fp32_precision == "ieee"  # type: ignore[attr-defined]


def test_a_default_device_is_none_of_an_import(tmp_path: Path) -> None:
    """Some modules hold tables, which have to be on the CPU."""
    script = tmp_path / "script.py"
    script.write_text(
        "import torch\ntorch.set_default_device('meta')\nimport benchmark\n"
        "print(benchmark.compare.__name__, benchmark.load_model.__name__)\n"
        "print(benchmark.augmentation('augmix')(torch.ones(2, 3, 32, 32, device='cpu')).device)\n"
    )
    done = subprocess.run([sys.executable, script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["compare", "load_model", "cpu"]), done.stderr


def test_no_comparison_is_made_in_a_group_of_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs split their batches over the group that is there: those of two processes would become one."""
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    with pytest.raises(UsageError, match=r"in a group of torch\.distributed"):
        benchmark.compare(methods="erm", out=tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_a_default_device_is_the_cpu_within_and_as_before_afterwards() -> None:
    """torch's meta device instead of a GPU."""
    with torch.device("meta"):
        with as_in_a_new_process():
            assert torch.zeros(1).device.type == "cpu"
        assert torch.zeros(1).device.type == "meta"
    assert torch.get_default_device().type == "cpu"
    torch.set_default_device("meta")
    try:
        with as_in_a_new_process():
            assert torch.zeros(1).device.type == "cpu"
        assert torch.zeros(1).device.type == "meta"
    finally:
        torch.set_default_device(None)
    assert torch.zeros(1).device.type == "cpu"


@pytest.mark.parametrize(("default", "inner"), [("meta", "cpu"), ("cpu", "meta"), ("meta", "meta"), (None, "meta")])
def test_a_default_device_within_another_is_as_before_afterwards(default: str | None, inner: str) -> None:
    torch.set_default_device(default)
    try:
        with torch.device(inner):
            with as_in_a_new_process():
                assert torch.zeros(1).device.type == "cpu"
            assert torch.zeros(1).device.type == inner
        assert torch.zeros(1).device.type == (default or "cpu")
    finally:
        torch.set_default_device(None)
    assert torch.zeros(1).device.type == "cpu"


def test_an_empty_folder_is_not_the_working_one() -> None:
    with pytest.raises(UsageError, match="out: its path is empty"):
        benchmark.compare(methods="erm", out="")


def test_what_is_set_within_is_gone_afterwards() -> None:
    with torch.autocast("cpu", torch.float16, cache_enabled=False):
        with as_in_a_new_process():
            assert torch.get_autocast_dtype("cpu") == torch.bfloat16
            torch.set_default_dtype(torch.float64)
            torch.set_grad_enabled(False)
            torch.set_default_device("meta")
            torch.autocast("cpu", torch.bfloat16).__enter__()
            assert torch.is_autocast_cache_enabled()
        assert (torch.is_autocast_enabled("cpu"), torch.is_autocast_cache_enabled()) == (True, False)
        assert torch.get_autocast_dtype("cpu") == torch.float16
        assert torch.ones(2, 2).mm(torch.ones(2, 2)).dtype == torch.float16
    assert torch.ones(1, requires_grad=True).mul(1).requires_grad
    assert (torch.ones(1).dtype, torch.ones(1).device.type) == (torch.float32, "cpu")


def test_an_autocast_that_never_ends_leaves_no_copy_of_a_weight() -> None:
    weight = torch.ones(2, 2, requires_grad=True)

    def product() -> float:
        with torch.autocast("cpu", torch.bfloat16):
            return torch.ones(2, 2).mm(weight)[0, 0].item()

    with as_in_a_new_process():
        torch.autocast("cpu", torch.bfloat16).__enter__()
        assert product() == 2
    with torch.no_grad():
        weight.mul_(3)
    assert product() == 6
    with torch.no_grad():
        weight.mul_(2)
    assert product() == 12


def test_no_comparison_begins_while_another_is_under_way(tmp_path: Path) -> None:
    """As in a plugin that calls it without a guard."""
    path = tmp_path / "itself.py"
    call = (
        f"import benchmark\nbenchmark.compare(methods='itself', plugin={str(path)!r}, out={str(tmp_path / 'out')!r})\n"
    )
    path.write_text(call)
    with pytest.raises(
        UsageError, match=r"itself\.py: benchmark\.compare is under way .* `if __name__ == '__main__':`"
    ):
        benchmark.compare(methods="itself", plugin=path, out=tmp_path / "out", progress=False)
    with pytest.raises(UsageError, match="unknown method"):  # it is free again
        benchmark.compare(methods="absent", out=tmp_path / "out", progress=False)
