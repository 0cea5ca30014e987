"""The arithmetic of large matrices: closed forms, and that the document shows what the program prints."""

from pathlib import Path
from statistics import median
from typing import Any

import pytest

from benchmark import scaling
from benchmark.core.record import Trial
from benchmark.runs.store import Store
from tests.conftest import ROOT
from tests.handmade import fill, record

PUBLISHED = ROOT / "results" / "published"


def test_operations_of_a_network() -> None:
    """Two convolutions and two layers of mini_convnet: outputs x inputs of each, a product and a sum."""
    forward = 2 * (14 * 14 * 16 * 75 + 6 * 6 * 32 * 144 + 1152 * 64 + 64 * 10)
    assert scaling.gflop("minidigits", "mini_convnet") == pytest.approx(3 * forward / 1e9)


@pytest.mark.parametrize(
    ("hours", "devices", "expected"),
    [([3, 1, 2], 1, 6), ([3, 1, 2], 2, 3), ([3, 3, 2, 2, 2], 2, 7), ([5, 1, 1], 64, 5)],
)
def test_when_all_runs_are_done(hours: list[float], devices: int, expected: float) -> None:
    assert scaling.makespan(hours, devices) == expected


def test_a_dataset_that_is_named_twice_is_run_once() -> None:
    flags = {"out": PUBLISHED, "methods": ("erm", "augmix"), "seeds": 5}
    once, twice = (scaling.report(scaling.Args(datasets=("minidigits",) * times, **flags)) for times in (1, 2))  # type: ignore[arg-type]
    assert "10 runs take" in once
    assert twice == once


def test_a_run_costs_what_the_formula_says() -> None:
    """ERM on minidigits: 150 steps of 32 images, one pass each."""
    per_image = scaling.gflop("minidigits", "mini_convnet")
    assert scaling.seconds("erm", "minidigits", [], 10.0) == pytest.approx(150 * 32 * per_image / 10)
    records = Store(PUBLISHED).read_all()
    assert scaling.seconds("augmax", "minidigits", records, 10.0) == pytest.approx(8 * 150 * 32 * per_image / 10)
    other = [r for r in records if (r.asked.method, r.asked.recipe.steps) == ("gud", 200)]
    assert len(other) == 5  # its phases weigh otherwise there than in the protocol's 150 steps
    assert scaling.seconds("gud", "minidigits", other, 10.0) == scaling.seconds("gud", "minidigits", [], 10.0)


def test_costs_of_recorded_runs_are_found_again() -> None:
    """At the rate of the records, a run takes as long as its record says it trained."""
    shown = [r for r in Store(PUBLISHED).read_all() if (r.asked.method, r.asked.dataset) == ("erm", "minidigits")]
    records = [r for r in shown if r.asked.recipe.steps == 150]
    paid = [r.throughput for r in records if r.throughput]
    rate = median(cost.images_per_second for cost in paid) * scaling.gflop("minidigits", "mini_convnet")
    measured = sorted(r.throughput.setup_seconds + r.throughput.train_seconds for r in records if r.throughput)
    assert measured[0] <= scaling.seconds("erm", "minidigits", records, rate) <= measured[-1]


def test_a_share_compares_runs_of_one_call_alone() -> None:
    """ERM is 10 times as fast in the other comparison, where AugMix did not run; a variant is not its method."""
    made = [
        record("erm", 0, speed=300.0),
        record("augmix", 0, speed=50.0),
        record("augmix", 0, speed=9.0, variant="k=3"),
    ]
    other = record("erm", 0, speed=3000.0, batch_size=64)
    lonely = record("gud", 0, source="elsewhere")
    assert scaling.shares_of([*made, other, lonely]) == pytest.approx({"erm": 3.0, "augmix": 50 / 300 * 3})


def test_a_folder_without_records_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert scaling.main(["--out", str(tmp_path), "--methods", "erm"]) == 2
    assert "no finished runs of erm" in capsys.readouterr().err
    assert scaling.main(["--out", str(tmp_path / "nowhere")]) == 2
    assert f"error: --out {tmp_path / 'nowhere'}: no such folder" in capsys.readouterr().err
    assert scaling.main(["--out", str(tmp_path), "--methods", "agmix"]) == 2
    assert "unknown method 'agmix': did you mean 'augmix'" in capsys.readouterr().err


def test_a_dataset_that_only_its_files_describe_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path, [record("erm", 0)])
    assert scaling.main(["--out", str(tmp_path), "--methods", "erm", "--datasets", "folder"]) == 2
    assert "--datasets folder: its classes and images are known only from its files" in capsys.readouterr().err


def test_a_network_that_goes_by_the_size_is_that_of_the_dataset_s_images() -> None:
    assert scaling.gflop("minidigits", "by_size") == scaling.gflop("minidigits", "digits_convnet")


def test_runs_that_shared_a_gpu_give_no_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = record("erm", 0, device="cuda")
    ran = made.ran.model_copy(update={"machine": {**made.ran.machine, "sharing": 8}})
    fill(tmp_path, [made.model_copy(update={"ran": ran})])
    words = ["--out", str(tmp_path), "--methods", "erm", "--datasets", "minidigits"]
    assert scaling.main(words) == 2
    assert "and shared no GPU: run them and ERM in one call, on a GPU with --jobs 1" in capsys.readouterr().err
    fill(tmp_path, [made])
    assert scaling.main(words) == 0


@pytest.mark.parametrize(("seeds", "gflops"), [(5, 0.01), (20, 0.01), (5, 0.002)])
def test_hours_follow_the_seeds_and_the_assumed_rate(
    seeds: int, gflops: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """ERM makes 150 steps of 32 images; three passes an image in its record give it three times the rate."""
    fill(tmp_path, [record("erm", 0)])
    words = ["--out", str(tmp_path), "--methods", "erm", "--datasets", "minidigits", "--devices", "1"]
    assert scaling.main([*words, "--seeds", str(seeds), "--gflops", str(gflops)]) == 0
    shown = capsys.readouterr().out
    each = 150 * 32 * scaling.gflop("minidigits", "mini_convnet") / (3 * gflops)
    assert f"| erm      | 3.00    | {each / 60:.1f}" in shown
    assert f"reaches {gflops:g} GFLOP/s (assumed)" in shown
    assert f"{seeds} runs take {seeds * each / 3600:.1f} device-hours" in shown


COMMON: dict[str, Any] = {"steps": 150, "batch_size": 32}
"""What the common protocol says of minidigits."""


def test_the_passes_of_a_run_are_the_median_of_its_records() -> None:
    plain = scaling.seconds("erm", "minidigits", [], 10.0)  # one pass an image
    made = []
    for seed, passes in enumerate((2.0, 3.0, 9.0)):
        run = record("erm", seed, **COMMON)
        assert run.throughput is not None
        cost = run.throughput.model_copy(update={"passes_per_image": passes})
        made.append(run.model_copy(update={"throughput": cost}))
    assert scaling.seconds("erm", "minidigits", made, 10.0) == pytest.approx(3 * plain)


@pytest.mark.parametrize(
    "other",
    [{"protocol": "strict"}, {"trial": Trial(number=0, of=None)}, {"batch_size": 16}, {"variant": "k=3"},
     {"budget": "passes"}],
)  # fmt: skip
def test_records_of_other_terms_say_nothing_of_the_passes(other: dict[str, Any]) -> None:
    found = scaling.seconds("erm", "minidigits", [record("erm", 0, **COMMON | other)], 10.0)
    assert found == scaling.seconds("erm", "minidigits", [], 10.0)


def test_runs_with_settings_of_a_search_give_no_share() -> None:
    made = [record("erm", 0, speed=300.0), record("augmix", 0, speed=50.0)]
    trial = Trial(number=1, of=3)
    tried = [record("erm", 0, speed=300.0, trial=trial), record("augmix", 0, speed=99.0, trial=trial)]
    assert scaling.shares_of([*made, *tried]) == scaling.shares_of(made)


def test_five_equal_runs_leave_one_of_two_devices_idle_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, [record("erm", 0)])
    words = ["--out", str(tmp_path), "--methods", "erm", "--datasets", "minidigits", "--devices", "2"]
    assert scaling.main([*words, "--seeds", "5"]) == 0
    shown = capsys.readouterr().out
    assert "| 83%" in shown  # five thirds of two
    assert "from 5 devices on it alone decides" in shown


def test_with_enough_devices_no_run_waits_for_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three runs of AugMix take half as long again as three of ERM: five devices have the work, and one run waits."""
    fill(tmp_path, [record("erm", 0, speed=100.0), record("augmix", 0, speed=200.0)])
    words = ["--out", str(tmp_path), "--methods", "erm", "augmix", "--datasets", "minidigits", "--devices", "1"]
    assert scaling.main([*words, "--seeds", "3"]) == 0
    assert "from 6 devices on it alone decides" in capsys.readouterr().out
