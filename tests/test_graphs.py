"""CUDA graphs change no number. Without a GPU torch compiles and guards every pass and replays none, which shows that
each pass is taken for what it is; what a replay does to memory shows on a GPU alone."""

import copy
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from benchmark import graphs, kernels, networks
from benchmark.args import Args
from benchmark.ascent import attack_mode
from benchmark.dual_norm import convert, route
from benchmark.engine import run_jobs
from benchmark.plan import plan
from benchmark.records import Store
from benchmark.rows import where
from benchmark.train import train
from benchmark.training import Training, begin
from tests import toy
from tests.test_methods import METHODS, make

DEVICES = pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")],
        ),
    ],
)


@pytest.fixture(autouse=True)
def calm() -> Iterator[None]:
    """torch says of every pass on a CPU that it is not replayed."""
    logger = logging.getLogger("torch._inductor.cudagraph_utils")
    before = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(before)
    torch.compiler.reset()


def normed(device: str) -> nn.Module:
    """A small network with dual BatchNorm."""
    trunk = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    torch.manual_seed(0)
    net = networks.Classifier(nn.Conv2d(3, 8, 5, stride=2), trunk, nn.Linear(32, 4), mean=0.5, std=0.5)
    return convert(net, "dual_bn").to(device)


def passes(net: nn.Module, device: str) -> list[Tensor]:
    """One result of every kind of pass that methods take, with everything that it leaves behind."""
    x = toy.images(8, 0).unit().to(device)
    y = torch.arange(8, device=device) % 4
    found: list[Tensor] = []
    for _ in range(3):  # the first runs, the second records, the third replays
        for way in ("M", "A"):
            with route(net, way):
                first, second = net(x), net(x[:4], features=True)
            gradient = torch.autograd.grad(F.cross_entropy(first, y) + second[1].sum(), next(iter(net.parameters())))
            found += [first, *second, *gradient]
        with attack_mode(net):
            z = x.clone().requires_grad_()
            for _ in range(2):
                (up,) = torch.autograd.grad(F.cross_entropy(net(z), y), z)
                z = (z + up.sign() / 255).detach().requires_grad_()
        found.append(z)
        other = {name: (parameter * 0.5).detach() for name, parameter in net.named_parameters()}
        found.append(functional_call(net, other, x))
        zero = copy.deepcopy(net)
        for parameter in zero.parameters():
            parameter.data.zero_()
        found += [zero(x), net(x)]
        with torch.no_grad():
            found.append(net.eval()(x))
        with torch.inference_mode():
            found.append(net.train()(x).clone())
    return [result.detach() for result in found] + [value.clone() for value in net.state_dict().values()]


@DEVICES
def test_every_kind_of_pass_is_taken_for_what_it_is(device: str) -> None:
    plain, other = normed(device), normed(device)
    kind = type(other)
    with graphs.replayed(other, wanted=True):
        assert type(other) is not kind
        found = passes(other, device)
    assert type(other) is kind
    expected = passes(plain, device)
    assert len(found) == len(expected) > 40
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0 if device == "cpu" else 1e-5)


def test_compiled_passes_are_no_more_than_their_kinds() -> None:
    """A kind that were taken for another one would lower the count, one that is recorded anew each time raise it."""
    counters = torch._dynamo.utils.counters
    net = normed("cpu")
    with graphs.replayed(net, wanted=True):
        counters.clear()
        passes(net, "cpu")
        first = counters["stats"]["unique_graphs"]
        passes(net, "cpu")
        assert counters["stats"]["unique_graphs"] == first
    # two routes of eight images and of four with features; under attack; the halved; the zeroed; without gradients
    assert 7 <= first <= 12


def trained(name: str, device: str, folder: Path, wanted: bool) -> Training:
    asked = toy.asked(name, device=device, steps=4)
    method = make(name)
    kernels.prepare(torch.device(device))
    run = begin(asked, method, toy.loaded())
    with graphs.replayed(run.net, wanted):
        train(run, asked, method, toy.loaded(), folder)
    return run


@DEVICES
@METHODS
def test_training_ends_with_the_same_weights(name: str, device: str, tmp_path: Path) -> None:
    if make(name).second_order:
        with pytest.raises(RuntimeError, match="create_graph"):
            trained(name, device, tmp_path, wanted=True)
        return
    one, two = (trained(name, device, tmp_path / str(wanted), wanted) for wanted in (False, True))
    for a, b in zip(one.net.state_dict().values(), two.net.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0 if device == "cpu" else 1e-5)
    assert one.meter.passes() == two.meter.passes()
    assert [point["test"] for point in one.curve] == [point["test"] for point in two.curve]


def test_a_record_says_what_was_asked_and_what_was_left_out(tmp_path: Path) -> None:
    small = Args(methods=("erm", "mada"), seeds=(0,), steps=2, evaluations=1, sensitivity_images=0, device="cpu")
    asked = [
        replace(job, graphs=True)
        for job in plan(replace(small, set=("mada.phases=0", "mada.wae_epochs=1"), out=tmp_path / "asked"))
    ]
    plain = plan(replace(small, set=("mada.phases=0", "mada.wae_epochs=1"), out=tmp_path / "plain"))
    for name in ("plain", "asked"):
        Store(tmp_path / name).prepare()
    before, after = run_jobs(plain, 1, Mock()), run_jobs(asked, 1, Mock())
    assert [record.accuracy for record in before] == [record.accuracy for record in after]
    assert [record.ran.machine.get("graphs") for record in [*before, *after]] == [None, None, True, True]
    assert [where(record).split(", ")[-1] for record in after] == ["graphs", "graphs"]  # no column with plain timings
    assert [record.warnings for record in after] == [
        [],
        ["--graphs left out: mada differentiates a gradient, and a replay has none"],
    ]
    assert [job.lacks(record) for job, record in zip(asked, before, strict=True)] == ["--graphs", "--graphs"]
    assert [job.lacks(record) for job, record in zip(plain, after, strict=True)] == ["", ""]
