"""What parts of a run take on this machine: some of its real steps, timed after a warm-up, with a small source."""

from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from statistics import median
from time import perf_counter

import torch
from torch import nn

from benchmark import networks
from benchmark.core import capture
from benchmark.core.devices import on_gpu, whole
from benchmark.core.images import Images
from benchmark.core.recipe import Recipe
from benchmark.core.record import Asked
from benchmark.core.rng import Rng
from benchmark.core.stream import Feed
from benchmark.data.dataset import Loaded
from benchmark.method import Method, Source
from benchmark.networks import precision
from benchmark.ops import kernels
from benchmark.runs import machine
from benchmark.runs.torch_state import as_in_a_new_process
from benchmark.sensitivity.wave_errors import batch_of, wrong
from benchmark.training.evaluate import CHUNK, accuracy
from benchmark.training.loop import filling, steps_of
from benchmark.training.optimise import Sampler, fit_erm
from benchmark.training.progress import Training, begin
from benchmark.training.steps import LAUNCHED

IMAGES, VAL, HELPER = 256, 1, 3
"""Training images of the small source, validation images, and steps of a helper network."""
WAVES, WAVED, ATTACKED = 16, 100, 32
"""Waves of a small map, images of one of its passes at most, and images that are attacked as in a phase. A map does
some work once for each wave, however many its images, so few images would make a wave look dear."""
OFTEN, ENOUGH = 5, 0.5
"""Times that something is timed, and seconds after which it is enough."""
POINTS = 25
"""Points of a run at which the method is asked what kind of step it takes there."""


@dataclass(frozen=True)
class Prices:
    """Seconds of a run's parts, for one image each."""

    passes: float
    """A bare forward and backward pass through the network."""
    forward: float
    """Scoring it."""
    wave: float
    """Scoring it with a wave added, as a sensitivity map does."""


@dataclass(frozen=True)
class Tried:
    """What became of a method's own steps."""

    step: float
    """Seconds of a training step, mean over the kinds of step by how often they come."""
    per_image: float
    """Passes that it took for each source image."""
    setup: float
    """Seconds of `setup` on the small source."""
    attack: float
    """Seconds of one pass of an image under the method's attack of pixels; 0 where it has no phases."""
    pool: int
    """Training images of that source."""


def prices(recipe: Recipe, height: int, width: int, device: torch.device) -> Prices:
    """What bare passes take: of a batch of the recipe's size, and of one that is scored."""
    with as_in_a_new_process(), machine.threads(recipe):
        precision.use(recipe.precision, device)
        net = networks.build(recipe.network, 10, 0).to(device)
        net.precision = recipe.precision
        net.to(memory_format=networks.layout(net))
        x = torch.rand(recipe.batch_size, 3, height, width, device=device)
        shown = Images(torch.zeros(CHUNK, 3, height, width, dtype=torch.uint8), torch.zeros(CHUNK, dtype=torch.int64))
        at_once = min(WAVED, batch_of(height, width, device))
        added, signs = torch.zeros(WAVES, height, width), torch.ones(WAVES, at_once, 3, dtype=torch.int8)
        there_and_back = _seconds(lambda: net(x).square().mean().backward(), device)
        scored = _seconds(lambda: accuracy(net, shown), device)
        waved = _seconds(lambda: wrong(net, shown[:at_once], added, signs), device)
        return Prices(there_and_back / len(x), scored / CHUNK, waved / (WAVES * at_once))


def tried(asked: Asked, method: Method, data: Loaded, *, phases: bool = False) -> Tried:
    """Sets the method up on a small part of the data and takes a few steps of each kind; raises what the method raises.

    phases: whether it attacks images in `expand`, as `views` does.

    Its network starts from random weights, whatever the recipe says, because the weights may have to be fetched.
    """
    device, recipe = whole(asked.device), asked.recipe.model_copy(update={"weights": "scratch"})
    asked = asked.model_copy(update={"recipe": recipe})
    small = replace(data, train=data.train[: max(IMAGES, recipe.batch_size)], val=data.val[:VAL], test={})
    kernels.prepare(device)
    precision.use(recipe.precision, device)
    with machine.threads(recipe), capture.capturing(device):
        run = begin(asked, method, small)

        def helper(net: nn.Module, rng: Rng) -> None:
            fit_erm(net, run.pool, recipe, HELPER, rng)

        source = Source(run.pool, small.val, len(run.pool), recipe.batch_size, helper)
        with run.meter.running(run.net), Feed(device) as feed:
            setup = _clocked(
                lambda: run.state.update(method.setup(run.net, source, Rng(asked.seed, on=device))), device
            )
            method.expand(run.net, source, Rng(asked.seed, 0, 0.0, device), 0, run.state)
            steps, batch = steps_of(run, method, recipe, feed)
            sampler, seconds, per_image = Sampler(asked.seed, recipe), 0.0, 0.0
            for share, weight in kinds(method, asked, device):

                def step(share: float = share) -> None:
                    steps.take(Rng(asked.seed, run.step, share, device), run.state, filling(batch, run, sampler))
                    run.step += 1

                before, first = run.meter.passes(), run.step
                seconds += weight * _seconds(step, device, warm_up=LAUNCHED + 2 if on_gpu(device) else 1)
                per_image += weight * (run.meter.passes() - before) / (run.step - first) / recipe.batch_size
            attack = attack_seconds(run, method, asked.seed, device) if phases else 0.0
    return Tried(seconds, per_image, setup, attack, len(small.train))


def attack_seconds(run: Training, method: Method, seed: int, device: torch.device) -> float:
    """Seconds of a pass of an image, in an attack as phases make it: `views` is what one would give now. Phases attack
    many images together, so the whole small source is, where a few show that this takes no time."""
    rng = Rng(seed, run.step, 0.5, device)

    def attacked(images: int) -> tuple[float, float]:
        part, before = run.pool[:images].to(device), run.meter.passes()
        seconds = _clocked(lambda: method.views(run.net, part.unit(), part.y, rng, run.state), device)
        return seconds, max(1.0, run.meter.passes() - before)

    few, passes = attacked(ATTACKED)
    if few * len(run.pool) / ATTACKED < OFTEN * ENOUGH:
        few, passes = attacked(len(run.pool))
    return few / passes


def kinds(method: Method, asked: Asked, device: torch.device) -> list[tuple[float, float]]:
    """For each kind of step: a share of the run at which the method takes it, and how much of the run it fills."""
    found: dict[Hashable, list[float]] = {}
    for point in range(POINTS):
        share = (point + 0.5) / POINTS
        step = int(share * asked.recipe.steps)
        found.setdefault(method.kind(Rng(asked.seed, step, share, device)), []).append(share)
    counted = Counter({median(sorted(shares)): len(shares) for shares in found.values()})
    return [(share, count / POINTS) for share, count in counted.items()]


def _seconds(work: Callable[[], object], device: torch.device, warm_up: int = 1) -> float:
    """Median time of some work, after it has been done before; the warm-up's own where that is long already."""
    times = [_clocked(work, device) for _ in range(warm_up)][-1:]
    if times[0] > ENOUGH * OFTEN:
        return times[0]
    timed: list[float] = []
    while len(timed) < OFTEN and sum(timed) < ENOUGH:
        timed.append(_clocked(work, device))
    return median(timed)


def _clocked(work: Callable[[], object], device: torch.device) -> float:
    if on_gpu(device):
        torch.cuda.synchronize()
    start = perf_counter()
    work()
    if on_gpu(device):
        torch.cuda.synchronize()
    return perf_counter() - start
