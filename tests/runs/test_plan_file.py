"""Plan files: what is written means the same when it is read, and what is wrong with one is named."""

import os
import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from benchmark import compare, comparison, networks, protocols, registry, run
from benchmark.core.errors import UsageError
from benchmark.core.recipe import Terms
from benchmark.runs import plan_file
from benchmark.runs.args import Args
from benchmark.runs.job import Job
from benchmark.runs.plan import plan
from benchmark.runs.records import Records
from benchmark.runs.search import SEED
from tests.commands.test_sizes import folder
from tests.conftest import ROOT
from tests.faults.harness import call, light, plugin

EXAMPLE = ROOT / "docs" / "plans" / "minidigits.toml"
PLANS = sorted((ROOT / "docs" / "plans").glob("*.toml"))
PUBLISHED = ROOT / "results" / "published"
ODD = [
    "",
    "plain",
    'quo"te',
    "back\\slash",
    "\\u0041",
    "tab\tline\nend\r",
    "\x00\x01\x1f\x7f",
    "é\u2028😀",
    "'''",
    "#=[]",
]


@pytest.mark.parametrize("value", [*ODD, ODD, [], [1, 2**63 - 1], -3, 0.1, 1e-300, 1e16, 30.0, True, False])
def test_toml_reads_back_what_is_written(value: Any) -> None:
    found = tomllib.loads(f"key = {plan_file.toml(value)}")["key"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("methods = " + "[" * 5000 + "]" * 5000, "no plan: its values lie too deep in each other"),
        ("methods = " + "{a=" * 3000 + "1" + "}" * 3000, "no plan: its values lie too deep in each other"),
        ("steps = 0x" + "f" * 100_000, "steps of thousands of digits: must be 1 to 2147483647"),
    ],
)
def test_values_that_no_person_writes_are_refused_in_a_sentence(content: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(content)
    ended = call(["--plan", str(path), "--dry-run", "--device", "cpu"])
    assert ended.wrong(2) == ""
    assert says in ended.err


def test_a_mark_of_the_order_of_bytes_is_no_part_of_a_plan(tmp_path: Path) -> None:
    """Some editors begin a file with one."""
    path = tmp_path / "plan.toml"
    path.write_text('methods = "erm"\n', encoding="utf-8-sig")
    assert plan_file.read(path) == {"methods": ("erm",)}


def planned(path: Path, data_dir: Path | None = None) -> list[str]:
    args = Args(**plan_file.read(path), plan=path, data_dir=data_dir, dry_run=True, device="cpu")
    registry.load_plugins(args.plugin)
    return [job.asked.run_id for job in comparison.prepare(args).jobs]


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.stem)
def test_the_plans_name_published_runs(plan: Path, request: pytest.FixtureRequest) -> None:
    embedded = plan_file.read(plan)["datasets"] == ("minidigits",)
    found = planned(plan, None if embedded else request.getfixturevalue("data_dir"))
    assert len(found) >= 24
    own = PUBLISHED / plan.stem  # a study has a results folder of its own
    assert set(found) <= set(Records(own if own.is_dir() else PUBLISHED).ids())
    assert found == tomllib.loads(plan.read_text())["run_ids"]


@pytest.mark.parametrize(
    "given",
    [
        {"methods": ("all",), "seeds": (0,)},
        {"methods": ("erm", "randconv:lam=2.5", "randconv"), "set": ("randconv.views=independent",)},
        {"methods": ("erm", "gud"), "protocol": "strict", "datasets": ("minidigits",)},
        {"methods": ("erm",), "budget": "time", "seconds": 1234567.125, "seeds": (7, 2**63 - 1)},
        {"methods": ("erm",), "batch_size": 16, "evaluations": 1, "precision": "bf16", "network": "digits_convnet"},
        {"methods": ("own",), "plugin": (Path("own.py"),), "deterministic": True},
    ],
)
def test_a_written_plan_plans_the_same_runs(
    given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plugin(tmp_path, "own")
    strict = Terms(protocol="strict", dataset="minidigits", recipe=protocols.RANDCONV)
    monkeypatch.setattr(protocols, "TERMS", [*protocols.TERMS, strict])
    args = Args(dry_run=True, device="cpu", save_plan=Path("deep.toml"), **given)
    registry.load_plugins(args.plugin)
    asked = [job.asked.run_id for job in comparison.prepare(args).jobs]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # paths are relative to the file
    assert planned(Path("../deep.toml")) == asked
    assert plan_file.read(Path("../deep.toml")).get("methods") != ("all",)
    written = plan_file.read(Path("../deep.toml"))
    assert not written.keys() & set(plan_file.BESIDE)


def test_a_plan_of_datasets_with_other_sources_plans_the_same_runs(tmp_path: Path) -> None:
    own, path = folder(tmp_path / "own", 32, 32), tmp_path / "plan.toml"
    args = Args(dry_run=True, device="cpu", methods=("erm",), seeds=(0,), save_plan=path, data_dir=own)
    asked = [job.asked.run_id for job in comparison.prepare(replace(args, datasets=("minidigits", "folder"))).jobs]
    assert planned(path, own) == asked


def test_a_plan_in_a_linked_folder_finds_its_files(tmp_path: Path) -> None:
    (tmp_path / "real/deep").mkdir(parents=True)
    (tmp_path / "plans").symlink_to(tmp_path / "real/deep")
    file = plugin(tmp_path, "own")
    registry.load_plugins([file])
    save_file(networks.build("mini_convnet", 10, 0).state_dict(), tmp_path / "blob")
    weights = tmp_path / "first.safetensors"
    weights.symlink_to("blob")  # as Hugging Face keeps them
    args = Args(dry_run=True, device="cpu", methods=("own",), plugin=(file,), save_plan=tmp_path / "plans/plan.toml")
    args = replace(args, weights=str(weights))
    asked = [job.asked.run_id for job in comparison.prepare(args).jobs]
    (found,) = plan_file.read(tmp_path / "plans/plan.toml")["plugin"]
    assert Path(found).samefile(file)
    assert Path(plan_file.read(tmp_path / "plans/plan.toml")["weights"]).name == "first.safetensors"
    assert planned(tmp_path / "plans/plan.toml") == asked


def test_the_first_weights_of_a_plan_lie_below_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    for written, read in (("first.safetensors", "there/first.safetensors"), ("pretrained", "pretrained")):
        Path("there/plan.toml").write_text(f"weights = '{written}'\n")
        assert plan_file.read(Path("there/plan.toml"))["weights"] == read


def test_another_plan_is_not_written_over(tmp_path: Path) -> None:
    args = Args(dry_run=True, device="cpu", methods=("erm",), seeds=(0,), save_plan=tmp_path / "plan.toml")
    for _ in range(2):  # the same plan is
        comparison.prepare(args)
    before = (tmp_path / "plan.toml").read_bytes()
    with pytest.raises(
        UsageError, match=r"--save-plan .*plan\.toml: it is there and says otherwise; name another file"
    ):
        comparison.prepare(replace(args, seeds=(1,)))
    assert (tmp_path / "plan.toml").read_bytes() == before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("stepz = 3", r"plan\.toml: unknown name 'stepz': did you mean 'steps'"),
        ("jobs = 2", r"plan\.toml: jobs: not part of a plan; give --jobs beside the file"),
        ("data_dir = 'x'", r"plan\.toml: data_dir: .* give --data-dir beside"),
        ("steps = '3'", r"plan\.toml: steps = '3': it has to be a whole number"),
        ("steps = 3.0", r"plan\.toml: steps = 3\.0: it has to be a whole number"),
        ("seeds = ['a']", r"plan\.toml: seeds = \['a'\]: it has to be a list, each part of it a whole number"),
        ("budget = 'money'", r"plan\.toml: budget = 'money': it has to be one of 'steps', 'passes', 'time'"),
        ("plugin = ['']", r"plan\.toml: plugin: its path is empty"),
        (r'plugin = ["a.py", "b\u0000.py"]', r"plan\.toml: plugin: no path has a zero character in it"),
        (r'weights = "b\u0000.pth"', r"plan\.toml: weights: no path has a zero character in it"),
        (f"network = 0x{'f' * 5000}", r"plan\.toml: network = a number of thousands of digits: it has to be a text"),
        ("deterministic = 1", r"plan\.toml: deterministic = 1: it has to be true or false"),
        ("methods = 2020-01-01", r"plan\.toml: methods = .*a list, each part of it a text"),
        ("lr = nan", r"plan\.toml: lr nan: must be"),
        ("steps = 0", r"plan\.toml: steps 0: must be 1 or more"),
        ("seeds = []", r"plan\.toml: seeds: name at least one"),
        ("methods = ['ermm']", r"plan\.toml: unknown method 'ermm': did you mean 'erm'"),
        ("steps =", r"plan\.toml: not TOML: Invalid value"),
        ("run_ids = ['x']", r"plan\.toml: run_ids: it has to be a list of run ids"),
        (
            "methods = ['erm']\nrun_ids = ['0123456789ab']",
            r"it was written for 1 runs, and 3 of the 3 .* Take run_ids out",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_named(
    text: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plan.toml").write_text(text)
    try:
        code: Any = run.main(["--plan", "plan.toml", "--device", "cpu", "--out", "out"])
    except SystemExit as ended:
        code = ended.code
    shown = capsys.readouterr().err
    assert code == 2
    assert re.search(says, shown)
    assert shown.count("\n") == 1


def test_another_budget_beside_a_plan_takes_no_seconds(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text("budget = 'time'\nseconds = 1.0\n")
    for budget, *words in (["steps"], ["passes"], ["time", "--seconds", "2"], ["steps", "--seconds", "2"]):
        args = run.parse(["--plan", str(path), "--budget", budget, *words])
        assert (args.budget, args.seconds) == (budget, 2.0 if words else None)
        assert ("seconds" in plan_file.changed(args)) == bool(words)
    assert run.parse(["--plan", str(path)]).seconds == 1


def test_flags_beside_a_plan_win_and_it_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "plan.toml"
    path.write_text("methods = ['erm', 'gud']\nseeds = [1]\nsteps = 7\ndeterministic = true\n")
    args = run.parse(["--plan", str(path), "--steps", "3", "--methods", "erm"])
    assert (args.methods, args.seeds, args.steps, args.deterministic) == (("erm",), (1,), 3, True)
    assert run.parse(["--plan", str(path), "--deterministic"]).deterministic
    words = ["--steps", "3", "--methods", "erm", "--evaluations", "1", "--sensitivity-images", "0", "--device", "cpu"]
    words += ["--out", str(tmp_path / "out"), "--save-plan", str(tmp_path / "y")]
    with light():
        assert run.main(["--plan", str(path), *words]) == 0
    shown = capsys.readouterr().out
    assert f'methods = ["erm"], not ["erm", "gud"] as {path} says' in shown
    assert f"steps = 3, not 7 as {path} says" in shown
    assert plan_file.read(tmp_path / "y")["steps"] == 3


def test_flags_beside_a_plan_may_make_other_runs_than_it_was_written_for(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    asked = Args(methods=("erm",), device="cpu")
    plan_file.write(path, asked, plan(asked))
    args = Args(**plan_file.read(path), plan=path, device="cpu")
    jobs = plan(args)
    plan_file.require_same(args, jobs)
    plan_file.require_same(replace(args, steps=3), plan(replace(args, steps=3)))
    with pytest.raises(UsageError, match="it was written for 3 runs, and 0 of the 2"):
        plan_file.require_same(args, jobs[1:])


@pytest.mark.parametrize(("written", "here"), [("cpu", "cuda"), ("cuda", "cpu")])
def test_a_plan_is_of_the_same_runs_wherever_they_compute(written: str, here: str, tmp_path: Path) -> None:
    path, asked = tmp_path / "plan.toml", Args(methods=("erm",), device="cpu")

    def on(device: str) -> list[Job]:
        return [replace(job, asked=job.asked.model_copy(update={"device": device})) for job in plan(asked)]

    plan_file.write(path, asked, on(written))
    args = Args(**plan_file.read(path), plan=path, device="cpu")
    assert not plan_file.changed(args)
    plan_file.require_same(args, on(here))


@pytest.mark.parametrize("name", ["a\nb.toml", "b\x7fb.toml"])
def test_a_plan_of_any_name_can_be_read(name: str, tmp_path: Path) -> None:
    args = Args(dry_run=True, device="cpu", methods=("erm",), seeds=(0,), save_plan=tmp_path / name)
    comparison.prepare(args)
    assert plan_file.read(tmp_path / name)["methods"] == ("erm",)


def test_a_missing_plugin_of_a_plan_is_told_with_the_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plan.toml").write_text("methods = ['erm']\nplugin = ['nope.py']\n")
    assert run.main(["--plan", str(tmp_path / "plan.toml"), "--dry-run", "--out", str(tmp_path / "out")]) == 2
    assert re.fullmatch(r"error: .*plan\.toml: plugin .*nope\.py: no such file\n", capsys.readouterr().err)


def test_a_pipe_in_the_place_of_a_plan_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "plan.toml")
    args = Args(dry_run=True, device="cpu", methods=("erm",), seeds=(0,), save_plan=tmp_path / "plan.toml")
    with pytest.raises(UsageError, match=r"--save-plan .*plan\.toml: it is a pipe, not a plain file; name another"):
        comparison.prepare(args)


def test_an_error_that_names_no_flag_names_those_beside_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main(["--plan", str(EXAMPLE), "--methods", "agmix", "--seeds", "0", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(
        f"error: {EXAMPLE} with --methods, --seeds beside it: unknown method 'agmix'"
    )


def test_an_error_in_a_plan_is_told_of_the_plan_wherever_it_shows(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(f"methods = ['erm']\nsearch = 2\nseeds = [{SEED}]\ndatasets = ['minidigits']\n")
    with pytest.raises(UsageError, match=rf"plan\.toml: seeds {SEED}: the search tries settings with that seed"):
        compare(plan=path, out=tmp_path / "out")
    (tmp_path / "own.py").write_text("")
    path.write_text("methods = ['erm']\nplugin = ['own.py']\n")
    with pytest.raises(UsageError, match=r"plan\.toml: plugin .*own\.py"):
        compare(plan=path, out=tmp_path / "out")


def test_an_error_about_a_flag_does_not_blame_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--plan", str(EXAMPLE), "--steps", "0", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "error: --steps 0: must be 1 or more\n"
