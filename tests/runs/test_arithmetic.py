"""What selects the arithmetic is in the record, and sets runs apart."""

from pathlib import Path

import pytest
import torch

from benchmark import comparison
from benchmark.core.recipe import Precision
from benchmark.runs import arithmetic, machine
from benchmark.runs.args import Args
from benchmark.runs.execute import _contradicts
from benchmark.runs.job import outdated
from tests.handmade import MACHINE, record, scored


def test_the_record_says_what_selects_the_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in arithmetic.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    plain = machine.describe(torch.device("cpu"))
    assert plain["arithmetic"] == {"cpu": torch.backends.cpu.get_cpu_capability()}
    assert machine.other_versions(plain) == ""
    before = machine.comparable(plain, "a processor")
    assert before.endswith(plain["arithmetic"]["cpu"])
    for name in ("ATEN_CPU_CAPABILITY", "MKL_CBWR", "ONEDNN_MAX_CPU_ISA", "NPY_DISABLE_CPU_FEATURES"):
        with monkeypatch.context() as here:
            here.setenv(name, "other")
            now = machine.describe(torch.device("cpu"))
            assert now["arithmetic"][name] == "other"
            assert machine.comparable(now, "a processor") != before
            assert machine.other_versions(plain) == f"{name} not set, now other"
        assert machine.other_versions(now) == f"{name} other, now not set"


def test_another_processor_makes_no_record_older() -> None:
    there = machine.describe(torch.device("cpu"))
    there["arithmetic"] = there["arithmetic"] | {"cpu": "of another kind"}
    assert machine.other_versions(there) == ""
    assert "of another kind" in machine.comparable(there, "a processor")


@pytest.mark.parametrize("version", ["0.1", "99.0"])
@pytest.mark.parametrize("package", ["torch", "torchvision", "timm", "numba", "numpy", "scipy", "pillow"])
def test_an_older_and_a_newer_package_are_said(package: str, version: str) -> None:
    there = machine.describe(torch.device("cpu"))
    there["packages"] = there["packages"] | {package: version}
    assert machine.other_versions(there).startswith(f"{package} {version}, now ")


def test_a_package_that_draws_and_a_build_for_another_device_are_no_other_version() -> None:
    there = machine.describe(torch.device("cpu"))
    versions = {name: version.partition("+")[0] + "+cu999" for name, version in there["packages"].items()}
    there["packages"] = versions | {"pandas": "0.1", "matplotlib": "0.1"}
    assert machine.other_versions(there) == ""


@pytest.mark.parametrize(("gpu", "said"), [({}, ""), ({"gpu": {"cuda": "13"}}, "triton absent, now ")])
def test_triton_matters_where_there_is_a_gpu(gpu: dict[str, object], said: str) -> None:
    there = machine.describe(torch.device("cpu")) | gpu
    there["packages"] = there["packages"] | {"triton": "absent"}
    assert machine.other_versions(there).startswith(said)
    assert bool(machine.other_versions(there)) is bool(said)


@pytest.mark.parametrize("change", [{"processes": 2}, {"deterministic": True}, {"launch": True}, {"threads": 3}])
def test_what_changes_the_speed_sets_runs_apart(change: dict[str, object]) -> None:
    plain = {"packages": {"torch": "2.14.0"}, "threads": 2, "processes": 1, "deterministic": False}
    assert machine.comparable(plain, "a processor") == machine.comparable(MACHINE, "a processor")
    assert machine.comparable(plain | change, "a processor") != machine.comparable(plain, "a processor")


def test_a_record_from_before_is_judged_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    old = machine.describe(torch.device("cpu"))
    del old["arithmetic"]
    assert machine.other_versions(old) == ""
    assert "COMPATIBLE" not in machine.comparable(old, "a processor")


def test_other_arithmetic_is_stale_and_no_contradiction() -> None:
    def made(accuracy: float, **chosen: str) -> object:
        one = scored(record("erm", 0), {"shifted": accuracy})
        held = one.ran.machine | {"arithmetic": {"cpu": "AVX2"} | chosen}
        return one.model_copy(update={"ran": one.ran.model_copy(update={"machine": held})})

    first, same, other = made(50.0), made(51.0), made(51.0, MKL_CBWR="AVX")
    assert _contradicts(first, same)  # type: ignore[arg-type]
    assert not _contradicts(first, other)  # type: ignore[arg-type]
    assert "MKL_CBWR AVX, now" in outdated(other, "c" * 12)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("times", "precision", "said"), [(36.4, "bf16", True), (0.5, "bf16", False), (36.4, "fp32", False)]
)
def test_bf16_without_instructions_for_it_is_warned_of(
    times: float,
    precision: Precision,
    said: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(arithmetic, "bf16_slowness", lambda: times)
    comparison.prepare(Args(("erm",), precision=precision, device="cpu", out=tmp_path))
    assert ("takes 36 times as long" in caplog.text) is said


def test_the_slowness_of_bf16_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    took = (0.5, 4.0, 3.0, 5.0, 0.5, 2.0, 1.0, 3.0)  # bfloat16, then float32; the first of each warms up
    clock = iter([time for each in took for time in (0.0, each)])
    monkeypatch.setattr(arithmetic, "perf_counter", lambda: next(clock))
    assert arithmetic.bf16_slowness() == 3.0
