"""A training step on a GPU never makes the host wait: torch raises where one would."""

from collections.abc import Iterator

import pytest
import torch

from benchmark import networks
from benchmark.method import Method, Rng, Source
from benchmark.spec import Images
from tests import toy
from tests.test_methods import METHODS, make

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.fixture
def strict() -> Iterator[None]:
    yield
    torch.cuda.set_sync_debug_mode("default")


def prepared(name: str) -> tuple[Method, torch.nn.Module, torch.optim.Optimizer, Images, dict[str, object]]:
    method, device = make(name), torch.device("cuda")
    net = method.wrap(networks.build("mini_convnet", 4, 0)).to(device).to(memory_format=torch.channels_last)
    pool = toy.images(64, 0).to(device)
    source = Source(pool, toy.images(32, 1).to(device), len(pool), 16, lambda helper, rng: None)
    state = method.setup(net, source, Rng(0, on=device))
    return method, net, torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9), pool[:16], state


@METHODS
@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("progress", [0.0, 0.5])
def test_a_step_does_not_wait(name: str, progress: float) -> None:
    method, net, optimizer, batch, state = prepared(name)
    for step, mode in enumerate(("default", "error")):  # the first step compiles kernels and fills tables
        torch.cuda.set_sync_debug_mode(mode)
        x = batch.unit().contiguous(memory_format=torch.channels_last)
        optimizer.zero_grad(set_to_none=True)
        method.loss(net, x, batch.y, Rng(0, step, progress, x.device), state).backward()
        optimizer.step()
