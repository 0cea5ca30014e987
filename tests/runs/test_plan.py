"""What a command plans: the settings of its rows, and what it refuses to plan."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from benchmark import comparison, networks
from benchmark.core.errors import UsageError
from benchmark.networks import weights
from benchmark.runs import gpus
from benchmark.runs.args import Args, check_numbers
from benchmark.runs.engines import ray
from benchmark.runs.plan import GPU_JOBS, GPU_MANY, at_a_time, plan
from benchmark.runs.shared import Facts, data_facts


@pytest.mark.parametrize("methods", [("augmix:severity=1", "augmix"), ("augmix", "augmix:severity=1")])
def test_what_a_row_asks_for_itself_wins_over_what_is_set_for_all_rows(methods: tuple[str, ...]) -> None:
    settings = ("augmix.severity=5", "augmix.lam=7")
    jobs = plan(Args(methods=methods, seeds=(0,), steps=5, device="cpu", set=settings))
    found = {job.asked.settings["severity"]: job.asked for job in jobs}
    assert {severity: asked.settings["lam"] for severity, asked in found.items()} == {1: 7, 5: 7}
    assert found[1].row == "augmix[severity=1.0,lam=7.0]"
    assert found[5].row == "augmix[severity=5.0,lam=7.0]"


def test_a_run_is_not_split_where_its_processes_would_not_agree_about_its_end() -> None:
    check_numbers(Args(nproc=1, budget="time", seconds=9.0))
    check_numbers(Args(nproc=2, budget="passes"))
    with pytest.raises(UsageError, match="--budget time, on whose end the processes' clocks would not agree"):
        check_numbers(Args(nproc=2, budget="time", seconds=9.0))


@pytest.mark.parametrize(
    ("changes", "device", "runs", "expected"),
    [
        ({}, "cuda", GPU_MANY, GPU_JOBS),
        ({}, "cuda", GPU_MANY - 1, 1),
        ({}, "cpu", 99, 1),
        ({"nproc": 2}, "cuda", 99, 1),
        ({"engine": "ray"}, "cuda", 99, 1),
        ({"jobs": 3}, "cuda", 9, 3),
        ({"jobs": 3}, "cpu", 2, 2),
    ],
)
def test_so_many_runs_share_a_device(
    changes: dict[str, Any], device: str, runs: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as are asked for, and no more than there are; else two on a GPU with room for them."""
    monkeypatch.setattr(gpus, "shareable", lambda _: True)
    assert at_a_time(Args(**changes), torch.device(device), runs) == expected
    monkeypatch.setattr(gpus, "shareable", lambda _: False)
    assert at_a_time(Args(**changes), torch.device(device), runs) == (expected if "jobs" in changes else 1)


def test_a_run_is_split_over_no_more_gpus_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "choose_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert all(job.nproc == 2 for job in plan(Args(methods=("erm",), seeds=(0,), nproc=2)))
    with pytest.raises(UsageError, match="--nproc 3: each process takes a GPU, and there are 2"):
        plan(Args(methods=("erm",), seeds=(0,), nproc=3))


def test_runs_do_not_move_with_the_folder_that_a_method_goes_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_file(networks.build("mini_convnet", 2, 0).state_dict(), tmp_path / "w.safetensors")
    (job,) = plan(Args(methods=("erm",), seeds=(0,), device="cpu", weights="w.safetensors", out=Path("there")))
    assert (job.out, job.weights) == (tmp_path / "there", tmp_path / "w.safetensors")


@pytest.mark.parametrize(("stale", "keep"), [("rerun", False), ("keep", True), ("fail", False)])
def test_a_stale_record_outlives_a_failure_only_where_it_is_to_be_kept(stale: Any, keep: bool) -> None:
    (job,) = plan(Args(methods=("erm",), seeds=(0,), device="cpu", stale=stale))
    assert job.keep is keep


def test_an_interrupted_comparison_has_every_row_with_fewer_seeds() -> None:
    jobs = plan(Args(methods=("erm", "augmix"), seeds=(1, 0), device="cpu"))
    assert [(job.asked.seed, job.asked.method) for job in jobs] == [
        (1, "erm"),
        (1, "augmix"),
        (0, "erm"),
        (0, "augmix"),
    ]


def test_a_precision_that_only_gpus_have_is_refused_for_a_cluster_of_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "choose_device", lambda *_: torch.device("cpu"))
    with pytest.raises(UsageError, match="--precision tf32: only GPUs have it"):
        plan(Args(methods=("erm",), seeds=(0,), engine="ray", precision="tf32"))


def test_a_batch_is_no_larger_than_what_there_is_to_train_on() -> None:
    """Else a record would count images that no step took."""
    plans = [plan(Args(methods=("erm",), seeds=(0,), device="cpu", batch_size=size)) for size in (8, 10**6)]
    asked = [job.asked for jobs in plans for job in jobs]
    facts = data_facts("minidigits", asked[0].dataset_settings, asked[0].source, None)
    assert [one.recipe.batch_size for one in asked] == [8, facts.images]


def test_weights_are_fetched_for_runs_to_be_done_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second call of a finished command needs no network."""
    fetched: list[str] = []
    monkeypatch.setattr(weights, "fetch", fetched.append)
    tag = "timm:mobilenetv3_small_050.lamb_in1k"
    args = Args(methods=("erm", "augmix"), seeds=(0,), device="cpu", network=tag, out=tmp_path)
    assert len(comparison.prepare(args).todo) == 2
    assert fetched == [tag]
    monkeypatch.setattr(comparison, "finished", lambda *_: True)
    assert comparison.prepare(args).todo == []
    assert fetched == [tag]


def test_a_file_of_weights_that_becomes_another_one_is_another_run(tmp_path: Path) -> None:
    """In a notebook, which plans several times in one process."""
    path = tmp_path / "w.safetensors"
    args = Args(methods=("erm",), seeds=(0,), device="cpu", weights=str(path))
    found = []
    for seed in (0, 1, 0):
        save_file(networks.build("mini_convnet", 2, seed).state_dict(), path)
        found.append(plan(args)[0].asked.run_id)
    assert found[0] == found[2] != found[1]


def test_images_are_read_once_however_their_folder_is_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Facts and images are kept by the folder's name, which the runs have as an absolute one."""
    for place in ("a/cat", "a/dog", "b/cat", "b/dog"):
        (tmp_path / "data" / place).mkdir(parents=True)
        for number in range(12):
            Image.new("RGB", (16, 16), (20 * number, 0, 0)).save(tmp_path / "data" / place / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    roots: list[Path | None] = []

    def seen(dataset: str, settings: dict[str, Any], source: str, root: Path | None) -> Facts:
        roots.append(root)
        return data_facts(dataset, settings, source, root)

    monkeypatch.setattr("benchmark.runs.plan.data_facts", seen)
    args = Args(methods=("erm",), seeds=(0,), datasets=("folder",), data_dir=Path("data"), device="cpu", out=tmp_path)
    jobs = plan(replace(args, sensitivity_images=0, network="resnet18_cifar"))
    assert len(jobs) == 2
    assert {job.data_dir for job in jobs} == set(roots) == {tmp_path / "data"}
    with pytest.raises(UsageError, match=r"^--data-dir nowhere: no such folder"):
        comparison.prepare(replace(args, data_dir=Path("nowhere")))
