"""Whole training steps on a GPU, launched and captured, for `make perf`."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmark import networks
from benchmark.core.images import Images
from benchmark.core.recipe import Recipe
from benchmark.core.stream import Feed
from benchmark.core.timing import Meter
from benchmark.method import Method, Rng
from benchmark.training.loop import steps_of
from benchmark.training.optimise import Sampler, make_optimizer
from benchmark.training.progress import Training
from tests.perf.race import cuda

POOL = 10_000


def pool() -> Images:
    """Smooth coloured noise on the GPU: as many images as the digits runs have."""
    device = cuda()  # before the work, which takes seconds: without a GPU the test ends here
    generator = torch.Generator().manual_seed(1)
    small = torch.randint(0, 256, (POOL, 3, 8, 8), generator=generator).float()
    x = torch.nn.functional.interpolate(small, size=(32, 32), mode="bilinear").byte()
    return Images(x, torch.randint(0, 10, (POOL,), generator=generator)).to(device)


def steps(
    method: Method, images: Images, network: str, batch: int, *, launched: bool, progress: float, state: Any = None
) -> Callable[[int], None]:
    """A function that takes so many training steps of a method, as benchmark.training.loop does them.

    Call it under capture.capturing. launched: never replayed.
    """
    recipe = Recipe(network=network, batch_size=batch)
    device = images.x.device
    net = method.wrap(networks.build(network, 10, 0)).to(device)
    net.to(memory_format=networks.layout(net))
    run = Training(
        net, make_optimizer(net, recipe), Meter(device), images, torch.zeros((), device=device), ([0.5], [0.5])
    )
    taken, place = steps_of(run, method, recipe, Feed(device))
    if launched:
        taken.why = "launched, to be compared with"
    sampler = Sampler(0, recipe)

    def take(count: int) -> None:
        for _ in range(count):
            rng = Rng(0, run.step, progress, device)
            index = sampler.index(run.step, len(images))
            fill = partial(place.fill, images, index, lambda index=index: index)  # type: ignore[misc]
            taken.take(rng, run.state if state is None else state, fill)
            run.step += 1

    take.steps = taken  # type: ignore[attr-defined]
    return take
