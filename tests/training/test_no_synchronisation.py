"""A training step on a GPU never makes the host wait: torch raises where one would. The batch, the loader, every
method's loss in each of its phases, the gradient and the optimiser. Nor do the batches of an evaluation."""

from collections.abc import Iterator
from typing import Any, get_args

import pytest
import torch

from benchmark import networks
from benchmark.core.images import Images
from benchmark.core.recipe import Precision, Recipe
from benchmark.core.stream import take
from benchmark.method import Method, Rng, Source
from benchmark.networks.precision import use
from benchmark.ops import batch_transforms
from benchmark.training import evaluate
from benchmark.training.optimise import Sampler, make_optimizer, set_rate
from tests import toy
from tests.methods.test_methods import METHODS, SOONER, make

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
PROTOTYPE = pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype:UserWarning")
"""torch says so the first time in each process."""
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
PHASES = 4
"""Calls of `expand` before the steps; by then M-ADA and AdvST have images of their own to be tested on."""


@pytest.fixture
def strict() -> Iterator[None]:
    yield
    torch.cuda.set_sync_debug_mode("default")


class Prepared:
    """A method on the toy problem, set up and with a pool of its own where it makes one."""

    def __init__(self, name: str, device: torch.device, recipe: Recipe = toy.RECIPE):
        self.method: Method = make(name, **SOONER.get(name, {}))
        self.device, self.recipe, self.sampler = device, recipe, Sampler(0, recipe)
        plain = networks.build(recipe.network, 4, 0)
        plain.precision = recipe.precision
        self.net = self.method.wrap(plain).to(device).to(memory_format=torch.channels_last)
        self.pool = toy.images(64, 0).to(device)
        self.optimizer = make_optimizer(self.net, recipe)
        source = Source(self.pool, toy.images(32, 1).to(device), len(self.pool), 16, lambda helper, rng: None)
        self.state: dict[str, Any] = self.method.setup(self.net, source, Rng(0, on=device))
        for step in range(PHASES):
            more: Images | None = self.method.expand(self.net, source, Rng(0, step, on=device), step, self.state)
            self.pool = self.pool if more is None else self.pool + more

    def step(self, step: int, progress: float) -> None:
        rng = Rng(0, step, progress, self.device)
        set_rate(self.optimizer, self.recipe, progress)
        batch = take(self.pool, self.sampler.index(step, len(self.pool)), self.device)
        x = batch_transforms.transform_batch(batch.unit(), self.recipe.loader, rng).contiguous(
            memory_format=torch.channels_last
        )
        self.optimizer.zero_grad(set_to_none=True)
        self.method.loss(self.net, x, batch.y, rng, self.state).backward()
        self.optimizer.step()


def take_steps(prepared: Prepared, progress: float) -> None:
    for step, mode in enumerate(("default", "error"), PHASES):  # the first step compiles kernels and fills tables
        torch.cuda.set_sync_debug_mode(mode)
        prepared.step(step, progress)


@METHODS
def test_what_is_stepped_through_is_the_whole_method(name: str) -> None:
    prepared = Prepared(name, CPU)
    assert prepared.state.get("phase", 1) == 1
    assert bool(prepared.state.get("made")) == (name == "advst")
    assert len(prepared.pool) == {"gud": 120, "me_ada": 120}.get(name, 64)
    before = [parameter.clone() for parameter in prepared.net.parameters()]
    prepared.step(PHASES, 0.5)
    assert not all(torch.equal(*pair) for pair in zip(before, prepared.net.parameters(), strict=True))


@METHODS
@PROTOTYPE
@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("progress", [0.0, 0.5])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.gpu
@NO_GPU
def test_a_step_does_not_wait(name: str, progress: float, optimizer: str) -> None:
    take_steps(Prepared(name, CUDA, toy.RECIPE.model_copy(update={"optimizer": optimizer})), progress)


@PROTOTYPE
@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("precision", get_args(Precision))
@pytest.mark.gpu
@NO_GPU
def test_a_step_in_any_precision_does_not_wait(precision: Precision) -> None:
    use(precision, CUDA)
    take_steps(Prepared("augmix", CUDA, toy.RECIPE.model_copy(update={"precision": precision})), 0.5)
    use("fp32", CUDA)


@PROTOTYPE
@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("loader", get_args(Recipe.model_fields["loader"].annotation))
@pytest.mark.gpu
@NO_GPU
def test_no_loader_waits(loader: str) -> None:
    take_steps(Prepared("erm", CUDA, toy.RECIPE.model_copy(update={"loader": loader})), 0.5)


@PROTOTYPE
@pytest.mark.usefixtures("strict")
@pytest.mark.gpu
@NO_GPU
def test_accuracy_and_calibration_are_read_once_a_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared, images = Prepared("erm", CUDA), toy.images(64, 1).to(CUDA)
    monkeypatch.setattr(evaluate, "GPU_CHUNK_PIXELS", 16 * 32 * 32)
    monkeypatch.setattr(evaluate, "CHUNK", 16)
    before = evaluate.sums(prepared.net, images)  # the first pass compiles kernels and fills tables
    torch.cuda.set_sync_debug_mode("error")
    found = evaluate.sums(prepared.net, images)
    torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(found, before)
