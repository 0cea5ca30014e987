"""The meter: what a copy, a checkpoint and the warm-up do to what it has counted."""

import copy
from pathlib import Path

import pytest
import torch

from benchmark.core import peak_memory, timing
from benchmark.core.peak_memory import PROC, peak_memory_mib, reset_peak_memory
from benchmark.core.timing import Meter
from benchmark.networks.classifiers import build
from benchmark.runs import machine
from tests import toy

CPU = torch.device("cpu")


def test_a_copy_of_the_network_reports_to_the_same_meter() -> None:
    net, meter = build("mini_convnet", 4, 0), Meter(CPU)
    with meter.running(net):
        copy.deepcopy(net)(toy.images(8, 0).unit())
    assert meter.forwards == 8


def test_a_meter_is_restored_whole() -> None:
    net, meter, again = build("mini_convnet", 4, 0), Meter(CPU), Meter(CPU)
    x = toy.images(8, 0).unit()
    with meter.running(net):
        for replayed in (False, True):
            with meter.step(8, "kind", replayed=replayed):
                net(x).sum().backward()
        net(x)
    again.restore(meter.state())
    assert again.state() == meter.state()
    assert (again.forwards, again.backwards) == (24, 16)
    assert again.read() == meter.read() != {}
    assert again.total() > 0


def test_the_time_of_an_inner_span_is_not_the_outer_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of 10 s, of which an attack takes 6 s, and within it an augmentation 1 s."""
    now = iter([0.0, 2.0, 3.0, 4.0, 8.0, 10.0])
    monkeypatch.setattr(timing, "perf_counter", lambda: next(now))
    net, meter = build("mini_convnet", 4, 0), Meter(CPU)
    with meter.running(net), meter.step(8), timing.span("attack"), timing.span("augment"):
        pass
    assert meter.read() == {"forward_backward": 4, "attack": 5, "augment": 1}
    assert meter.total() == 10
    assert meter.step_seconds == [10]


def test_quartiles_are_a_quarter_from_each_end() -> None:
    meter = Meter(CPU)
    meter.step_seconds = [1.0] * 5 + [1 / rate for rate in range(1, 10)]
    median, quartiles = meter.steady(1)
    assert (median, *quartiles) == pytest.approx((5, 3, 7))


def test_the_peak_of_memory_is_the_most_and_begins_anew() -> None:
    if not PROC.exists():
        pytest.skip("a new peak can be begun on Linux alone")
    reset_peak_memory(CPU)
    before = peak_memory_mib(CPU)
    torch.ones(64 * 2**20)  # 256 MiB, gone at once
    assert 200 < peak_memory_mib(CPU) - before < 400
    reset_peak_memory(CPU)
    assert peak_memory_mib(CPU) - before < 100


@pytest.mark.parametrize("lacks", ["clear_refs", "VmHWM", "status", "proc"])
def test_a_kernel_that_keeps_no_peak_ends_no_run(lacks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in gVisor, or where /proc is read-only."""
    proc = tmp_path / "proc"
    monkeypatch.setattr(peak_memory, "PROC", proc)
    if lacks != "proc":
        proc.mkdir()
        if lacks == "clear_refs":
            (proc / "clear_refs").mkdir()  # which cannot be written to
        if lacks != "status":
            (proc / "status").write_text("VmRSS: 9 kB\n" if lacks == "VmHWM" else "VmHWM: 2048 kB\n", encoding="ascii")
    machine.find_peak_memory()
    assert not peak_memory.PROC.exists()
    reset_peak_memory(CPU)
    assert peak_memory_mib(CPU) > 50


def test_a_kernel_that_keeps_a_peak_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "status").write_text("VmHWM: 2048 kB\n", encoding="ascii")
    monkeypatch.setattr(peak_memory, "PROC", tmp_path)
    machine.find_peak_memory()
    assert tmp_path == peak_memory.PROC
    assert peak_memory_mib(CPU) == 2


@pytest.mark.parametrize(
    ("slow", "fast", "rate"),
    [(5, 15, 8), (10, 90, 8), (0, 3, 8)],  # at least 5 steps are left out, a tenth of many, never all
)
def test_the_steady_rate_leaves_out_the_warm_up(slow: int, fast: int, rate: float) -> None:
    meter = Meter(CPU)
    meter.step_seconds = [9.0] * slow + [2.0] * fast
    assert meter.steady(16) == (rate, (rate, rate))
