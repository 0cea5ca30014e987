"""The floors of the throughput table: the arithmetic of a known network, nothing left changed, the shares by hand."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmark.core import capture
from benchmark.core.outcome import Floor, Throughput
from benchmark.core.passes import Passes
from benchmark.report.tidy.rows import throughput_rows
from benchmark.runs import perform
from benchmark.runs.args import Args
from benchmark.runs.plan import plan
from benchmark.training import floors, measurements, pipeline
from benchmark.training.floors import device_rates, floor_of, timed_sizes
from benchmark.training.loop import train
from benchmark.training.progress import Training, begin
from tests import toy
from tests.handmade import record
from tests.methods.test_methods import make


def passes(forward: dict[int, int], backward: dict[int, int] | None = None) -> Passes:
    """Images by batch size; as many back as forth where nothing is said."""
    return Passes(Counter(forward), Counter(forward if backward is None else backward))


class Sized(nn.Module):
    """Notes the sizes of the batches that it gets, in order, and whether autograd follows."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 2))
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        out: Tensor = self.inner(x)
        return out


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretends that a forward of n images takes 2 + n seconds, with a backward three times that, and does it once."""

    def seconds(work: Callable[[], object], device: torch.device) -> float:
        work()
        (batch,) = (cell for cell in work.__defaults__ or () if isinstance(cell, Tensor))
        return (2.0 + len(batch)) * (3.0 if work.__name__ == "there_and_back" else 1.0)

    monkeypatch.setattr(floors, "device_rates", lambda *about: (1.0, 1.0))
    monkeypatch.setattr(floors, "_seconds", seconds)


def test_arithmetic_of_a_known_network() -> None:
    """A 3x3 convolution to 4 channels on 8x8 and a linear layer to 10: two operations a multiplication."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(256, 10))
    forward = 2 * (4 * 64 * 27 + 256 * 10)
    found = floor_of(net, torch.rand(5, 3, 8, 8), passes({5: 15}, {5: 10}), images=5)
    assert found.gflop_per_image == pytest.approx(7 * forward / 1e9)
    assert found.images_per_second > 0
    rates = device_rates(torch.device("cpu"), torch.get_num_threads(), "fp32")
    assert (found.matrix_gflops, found.copy_gib_per_second) == rates
    assert min(rates) > 0


def test_more_passes_cost_more() -> None:
    net, x = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 36, 10)), torch.rand(4, 3, 8, 8)
    few, many = (floor_of(net, x, passes({4: 4 * times}), images=4).images_per_second for times in (1, 1000))
    assert few > many


def test_the_network_is_left_as_it_was() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 2)).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    floor_of(net, torch.rand(4, 3, 8, 8), passes({4: 4}), images=4)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert net.training


@pytest.mark.usefixtures("clock")
def test_each_size_is_timed_by_itself() -> None:
    """A pass of 4 images: 6 s there and 12 s back; of 8: 10 and 20. One there and back of 4, three there of 8."""
    net, x = Sized(), torch.rand(4, 3, 8, 8)
    found = floor_of(net, x, passes({4: 4, 8: 24}, {4: 4}), images=4)
    assert 1 / found.images_per_second == pytest.approx((18 + 3 * 10) / 4)
    assert net.seen == [2, 4, 4, 8]  # arithmetic; there, there and back; there


@pytest.mark.usefixtures("clock")
def test_passes_of_the_batch_alone_cost_what_they_did() -> None:
    """The formula of a floor that knew one size: passes per source image times the time of a pass, over its images."""
    found = floor_of(Sized(), torch.rand(4, 3, 8, 8), passes({4: 24}, {4: 12}), images=8)
    assert 1 / found.images_per_second == pytest.approx((3 * 6 + 1.5 * 12) / 4)


@pytest.mark.parametrize(
    ("images", "timed"),
    [
        ({32: 100}, [32]),
        ({32: 1000, 7: 10, 96: 900, 4096: 9}, [32, 96]),
        ({size: size for size in (10, 20, 30, 40, 50, 60, 70, 80)}, [30, 40, 50, 60, 70, 80]),
        (dict.fromkeys(range(1, 101), 5), [1, 2, 3, 4, 5, 6]),  # all of them rare
    ],
)
def test_sizes_that_are_timed(images: dict[int, int], timed: list[int]) -> None:
    assert timed_sizes(passes(images)) == timed


@pytest.mark.usefixtures("clock")
def test_rare_sizes_count_at_the_nearest_larger_or_else_at_the_largest() -> None:
    net, x = Sized(), torch.rand(4, 3, 8, 8)
    found = floor_of(net, x, passes({4: 400, 8: 800, 5: 5, 16: 16}, {}), images=1)
    assert 1 / found.images_per_second == pytest.approx(400 / 4 * 6 + (800 + 5 + 16) / 8 * 10)
    assert net.seen == [2, 4, 8]


def test_captured_passes_are_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rounds of a pass are launched, and all that is clocked is replayed; its graphs live to the end."""
    captured: list[capture.Work] = []
    replays: list[int] = []

    def record_it(work: capture.Work, generators: Sequence[torch.Generator]) -> capture.Work:
        captured.append(work)
        return lambda: replays.append(len(captured))

    monkeypatch.setattr(floors, "device_rates", lambda *about: (1.0, 1.0))
    net, x = Sized(), torch.rand(4, 3, 8, 8)
    with capture.recording(record_it):
        floor_of(net, x, passes({4: 4, 12: 12}), images=4)
    assert net.seen == [2, *[4] * 4, *[12] * 4]
    assert len(captured) == 4
    assert Counter(replays) == dict.fromkeys((1, 2, 3, 4), floors.ROUNDS + 1)
    net.seen.clear()
    captured[3]()
    assert net.seen == [12]


def test_a_pass_that_cannot_be_captured_is_launched() -> None:
    def refuse(work: capture.Work, generators: Sequence[torch.Generator]) -> capture.Work:
        raise RuntimeError("a host synchronisation")

    net = Sized()
    with capture.recording(refuse):
        assert floor_of(net, torch.rand(4, 3, 8, 8), passes({4: 4}), images=4).images_per_second > 0
    assert len(net.seen) > 2 * floors.ROUNDS


def test_a_gpu_works_without_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several rounds lie between two waits for a GPU, and the time is that of one; a CPU is clocked round by round."""
    waits, rounds, now = list[int](), [0], [0.0]

    def work() -> None:
        rounds[0] += 1
        now[0] += 0.003

    monkeypatch.setattr(torch.cuda, "synchronize", lambda device=None: waits.append(rounds[0]))
    monkeypatch.setattr(floors, "perf_counter", lambda: now[0])
    assert floors._seconds(work, torch.device("cuda", 0)) == pytest.approx(0.003)
    ends = [2 + 7 * i for i in range(floors.ROUNDS + 1)]
    assert waits == [1, *(end for end in ends for _ in range(2))][:-1]  # before and after what is clocked
    assert rounds == [2 + 7 * floors.ROUNDS]  # 20 ms are seven rounds of 3 ms
    rounds[0] = 0
    assert floors._seconds(work, torch.device("cpu")) == pytest.approx(0.003)
    assert rounds == [1 + floors.ROUNDS]


def test_batch_normalisation_of_one_pixel_has_a_floor() -> None:
    """torch refuses to train it on a single image."""
    layers = (nn.Conv2d(3, 4, 8), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    net = nn.Sequential(*layers).train()
    with pytest.raises(ValueError, match="more than 1 value"):
        net(torch.rand(1, 3, 8, 8))
    found = floor_of(net, torch.rand(6, 3, 8, 8), passes({6: 6}), images=6)
    assert found.gflop_per_image == pytest.approx(3 * 2 * (4 * 192 + 8) / 1e9)
    assert net.training


def trained(folder: Path, name: str = "erm") -> Training:
    method, asked = make(name), toy.asked(name, steps=2, evaluations=1)
    run = begin(asked, method, toy.loaded())
    train(run, asked, method, toy.loaded(), folder)
    return run


def test_a_run_survives_a_floor_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*about: Any) -> Floor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    run = trained(tmp_path)
    assert measurements.throughput_of(run, 16, torch.device("cpu")).floor is not None
    assert not run.notes
    monkeypatch.setattr(measurements, "floor_of", broken)
    found = measurements.throughput_of(run, 16, torch.device("cpu"))
    assert found.floor is None
    assert found.images_per_second > 0
    (note,) = run.notes
    assert note.startswith("no floor: ")
    assert note.endswith("CUDA out of memory")


def test_a_run_says_in_its_warnings_why_it_has_no_floor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the floor raises, the run is done; it is measured where work is captured, and is told of neighbours."""
    within: list[bool] = []
    told: list[int] = []

    @contextmanager
    def capturing(device: torch.device, *, wanted: bool) -> Iterator[None]:
        assert wanted
        within.append(True)
        yield
        within.pop()

    def broken(*about: Any) -> Floor:
        assert within
        raise RuntimeError("no floor in this house")

    def throughput(*about: Any, sharing: int, **named: Any) -> Throughput:
        told.append(sharing)
        return measurements.throughput_of(*about, sharing=sharing, **named)

    monkeypatch.setattr(capture, "capturing", capturing)
    monkeypatch.setattr(measurements, "floor_of", broken)
    monkeypatch.setattr(pipeline, "throughput_of", throughput)
    args = Args(methods=("erm",), seeds=(0, 1), steps=2, evaluations=1, sensitivity_images=0, device="cpu", jobs=2)
    made = perform.perform(plan(replace(args, out=tmp_path))[0], tmp_path, lambda *_: None).record
    assert (made.status, told, made.ran.machine["sharing"]) == ("done", [2], 2)
    assert made.throughput is not None
    assert made.throughput.floor is None
    assert "no floor: RuntimeError: no floor in this house" in made.warnings


def test_neighbours_on_a_gpu_leave_no_floor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for: list[tuple[Any, ...]] = []
    known = Floor(images_per_second=1.0, gflop_per_image=1.0, matrix_gflops=1.0, copy_gib_per_second=1.0)

    def measured(*about: Any) -> Floor:
        asked_for.append(about)
        return known

    monkeypatch.setattr(measurements, "_floor", measured)
    monkeypatch.setattr(measurements, "peak_memory_mib", lambda device: 1.0)
    run = trained(tmp_path)
    cpu, gpu = torch.device("cpu"), torch.device("cuda", 0)
    assert measurements.throughput_of(run, 16, gpu, sharing=2).floor is None
    assert not asked_for
    for device, sharing in ((gpu, 1), (cpu, 2)):
        assert measurements.throughput_of(run, 16, device, sharing=sharing).floor is known
    assert asked_for == [(run, 16, device, "fp32") for device in (gpu, cpu)]


def test_replayed_steps_are_a_share_of_all(tmp_path: Path) -> None:
    run = trained(tmp_path)
    assert measurements.throughput_of(run, 16, torch.device("cpu")).replayed == 0
    run.meter.replays = 1
    assert measurements.throughput_of(run, 16, torch.device("cpu")).replayed == 0.5


def test_shares_by_hand() -> None:
    """100 images/s over 0.5 s of set-up and 2 s of training are 125 images/s of training."""
    made = record("erm", 0, 50.0, speed=100.0)
    assert made.throughput is not None
    floor = Floor(images_per_second=250.0, gflop_per_image=0.4, matrix_gflops=200.0, copy_gib_per_second=10.0)
    made = made.model_copy(update={"throughput": made.throughput.model_copy(update={"floor": floor})})
    row = throughput_rows([made]).iloc[0]
    assert row["of_floor"] == pytest.approx(0.5)
    assert row["gflops"] == pytest.approx(50.0)
    assert row["of_matrix_rate"] == pytest.approx(0.25)


def test_rates_of_a_device_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were each to take a second: two operations a multiplication of 1024 x 1024; 128 MiB read and as many written."""
    monkeypatch.setattr(floors, "_seconds", lambda work, device: 1.0)
    rates = device_rates.__wrapped__(torch.device("cpu"), 1, "fp32")
    assert rates == (2 * 1024**3 / 1e9, 0.25)
