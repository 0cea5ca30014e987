"""The floors of the throughput table: the arithmetic of a known network, nothing left changed, the shares by hand."""

import pytest
import torch
from torch import nn

from benchmark.floors import device_rates, floor_of
from benchmark.rows import throughput_rows
from benchmark.spec import Floor
from tests.handmade import record


def test_arithmetic_of_a_known_network() -> None:
    """A 3x3 convolution to 4 channels on 8x8 and a linear layer to 10: two operations a multiplication."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(256, 10))
    forward = 2 * (4 * 64 * 27 + 256 * 10)
    found = floor_of(net, torch.rand(5, 3, 8, 8), forwards=3.0, backwards=2.0)
    assert found.gflop_per_image == pytest.approx(7 * forward / 1e9)
    assert found.images_per_second > 0
    rates = device_rates(torch.device("cpu"), torch.get_num_threads(), "fp32")
    assert (found.matrix_gflops, found.copy_gib_per_second) == rates
    assert min(rates) > 0


def test_more_passes_cost_more() -> None:
    net, x = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 36, 10)), torch.rand(4, 3, 8, 8)
    floors = [floor_of(net, x, forwards=passes, backwards=passes).images_per_second for passes in (1.0, 1000.0)]
    assert floors[0] > floors[1]


def test_the_network_is_left_as_it_was() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 2)).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    floor_of(net, torch.rand(4, 3, 8, 8), forwards=1.0, backwards=1.0)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert net.training


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
