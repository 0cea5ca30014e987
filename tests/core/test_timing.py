"""The meter: what a copy, a checkpoint and the warm-up do to what it has counted."""

import copy

import pytest
import torch

from benchmark.core.timing import Meter
from benchmark.networks.classifiers import build
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


@pytest.mark.parametrize(
    ("slow", "fast", "rate"),
    [(5, 15, 8), (10, 90, 8), (0, 3, 8)],  # at least 5 steps are left out, a tenth of many, never all
)
def test_the_steady_rate_leaves_out_the_warm_up(slow: int, fast: int, rate: float) -> None:
    meter = Meter(CPU)
    meter.step_seconds = [9.0] * slow + [2.0] * fast
    assert meter.steady(16) == (rate, (rate, rate))
