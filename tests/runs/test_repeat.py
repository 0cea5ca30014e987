"""The command in a record does that run again: every flag is in it, or is left out for a reason."""

import shlex
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

from benchmark import networks, protocols, registry
from benchmark.core.recipe import Terms
from benchmark.runs.args import PATHS, Args
from benchmark.runs.command_line import arguments
from benchmark.runs.job import Job
from benchmark.runs.plan import plan
from benchmark.runs.repeat import LEFT_OUT
from tests.commands.test_sizes import folder
from tests.faults.harness import plugin

OWN = "own images"
CHANGES: dict[str, dict[str, Any]] = {
    "methods": {"methods": ("randconv:kernel_sizes=[1,3],lam=2.5", "erm")},
    "datasets": {"datasets": ("folder", "minidigits"), "data_dir": Path(OWN)},
    "sources": {"sources": ("ink", "ink+clay"), "datasets": ("folder",), "data_dir": Path(OWN)},
    "seeds": {"seeds": (7, 2**63 - 1)},
    "steps": {"steps": 11},
    "budget": {"budget": "passes"},
    "seconds": {"budget": "time", "seconds": 1234567.125},
    "network": {"network": "digits_convnet"},
    "protocol": {"protocol": "strict"},
    "set": {"datasets": ("folder",), "data_dir": Path(OWN), "set": ("folder.val_share=0.25", "folder.resize=bicubic")},
    "data_dir": {"datasets": ("folder",), "data_dir": Path(OWN)},
    "device": {"device": "cpu"},
    "nproc": {"nproc": 2},
    "plugin": {"plugin": (Path("one.py"), Path("two.py")), "methods": ("one", "two")},
    "precision": {"precision": "bf16"},
    "weights": {"weights": "first weights.safetensors"},
    "sensitivity_images": {"sensitivity_images": 0},
    "batch_size": {"batch_size": 24},
    "evaluations": {"evaluations": 1},
    "lr": {"lr": 3.3e-5},
    "weight_decay": {"weight_decay": 1e-6},
    "trial": {"methods": ("randconv:lam=2.5",), "set": ("randconv.mixing=false",), "trial": "2/4"},
    "launch": {"launch": True},
    "deterministic": {"deterministic": True},
}
"""Flags by which a command is made another, each with what goes with it."""
ELSEWHERE: dict[str, Any] = {
    "out": Path("elsewhere"), "timeout": 9.0, "jobs": 2, "save_weights": True, "track": ("tensorboard",),
    "checkpoint_seconds": 5.0, "stale": "keep", "quiet": True, "verbose": True, "search": 3,
}  # fmt: skip
"""Flags that are left out, with another value than their default."""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with all that the flags name."""
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / OWN, 32, 32)
    plugin(tmp_path, "one")
    plugin(tmp_path, "two")
    safetensors.torch.save_file(networks.build("mini_convnet", 2, 0).state_dict(), "first weights.safetensors")
    strict = Terms(protocol="strict", dataset="minidigits", recipe=protocols.RANDCONV)
    monkeypatch.setattr(protocols, "TERMS", [*protocols.TERMS, strict])


def planned(args: Args) -> list[Job]:
    registry.load_plugins(args.plugin)
    return plan(args)


def again(job: Job) -> Job:
    """The one job of the command that a job's record will hold, with the same start of the session."""
    words = shlex.split(job.command)
    assert words[:3] == ["python", "-m", "benchmark.run"]
    (found,) = planned(arguments(Args, words[3:], "run", paths=PATHS))
    return replace(found, session=job.session)


def test_every_flag_is_tried_here_or_left_out_for_a_reason() -> None:
    """A new flag comes into the command by itself, unless it is named in LEFT_OUT; say here what proves it."""
    assert {field.name for field in fields(Args)} == CHANGES.keys() | LEFT_OUT.keys()
    assert not CHANGES.keys() & LEFT_OUT.keys()
    otherwise = {
        "engine",
        "ray_address",
        "list",
        "dry_run",
        "version",
        "plan",
        "save_plan",
    }  # plan another way, or no run
    assert ELSEWHERE.keys() == LEFT_OUT.keys() - otherwise


@pytest.mark.parametrize("name", CHANGES)
def test_a_command_parsed_again_is_the_same_run(name: str) -> None:
    usual: dict[str, Any] = {"methods": ("erm",), "seeds": (0,), "steps": 5}
    for job in planned(Args(**usual | CHANGES[name])):
        assert again(job) == job
        assert f"--{name.replace('_', '-')} " in f"{job.command} "


def test_a_domain_whose_name_begins_like_a_flag_is_in_the_command_of_its_run(tmp_path: Path) -> None:
    (folder(tmp_path / "odd", 32, 32) / "clay").rename(tmp_path / "odd" / "-a")
    own = Args(methods=("erm",), datasets=("folder",), data_dir=tmp_path / "odd", sources=("-a",), seeds=(0,), steps=5)
    (job,) = planned(own)
    assert "--sources=-a" in job.command
    assert again(job) == job


def test_a_folder_whose_name_begins_like_a_flag_is_in_the_command_of_its_run() -> None:
    (job,) = planned(Args(methods=("erm",), seeds=(0,), steps=5, data_dir=Path("-x")))
    assert "--data-dir ./-x" in job.command


@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_says_nothing_about_a_run_is_not_in_its_command(name: str) -> None:
    usual = Args(methods=("erm",), seeds=(0, 1), steps=5, device="cpu")
    for plain, other in zip(planned(usual), planned(replace(usual, **{name: ELSEWHERE[name]})), strict=True):
        assert plain.command == other.command


def test_a_setting_is_put_back_to_its_default_where_the_protocol_has_another(monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = Terms(protocol="common", method="erm", dataset="folder", dataset_settings={"resize": "lanczos"})
    monkeypatch.setattr(protocols, "TERMS", [*protocols.TERMS, fixed])
    usual = Args(methods=("erm",), datasets=("folder",), data_dir=Path(OWN), sources=("ink",), seeds=(0,), steps=5)
    (plain,), (other,) = planned(usual), planned(replace(usual, set=("folder.resize=bilinear",)))
    assert "--set" not in plain.command
    assert "--set folder.resize=bilinear" in other.command
    assert plain.asked.run_id != other.asked.run_id
    assert [again(job) for job in (plain, other)] == [plain, other]
