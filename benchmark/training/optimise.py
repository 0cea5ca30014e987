"""A recipe at work: which batch, which optimiser, which learning rate."""

import math
from copy import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.core.capture import Loop
from benchmark.core.devices import on_gpu
from benchmark.core.images import Images
from benchmark.core.recipe import Recipe
from benchmark.core.rng import Rng, key
from benchmark.core.stream import take


class Sampler:
    """Draws batches by index: a fresh keyed permutation each epoch, incomplete last batch dropped, or the pool's own
    order round and round. `start` is the step at which the present epoch began."""

    def __init__(self, seed: int, recipe: Recipe):
        self.seed, self.recipe, self.start = seed, recipe, 0
        self._order: tuple[tuple[int, int], Tensor] | None = None

    def restart(self, step: int) -> None:
        """Begins a new epoch: the pool has changed."""
        self.start = step

    def index(self, step: int, images: int) -> Tensor:
        """Positions of the batch of this step in a pool of `images`; int64 on the CPU."""
        batch = min(self.recipe.batch_size, images)
        per_epoch = images // batch
        if self.recipe.sampler == "sequential":
            return torch.arange(batch) + step % per_epoch * batch
        if step >= self.start + min(per_epoch, self.recipe.epoch_steps or per_epoch):
            self.start = step
        if self._order is None or self._order[0] != (self.start, images):
            generator = Rng(self.seed, self.start).generator("epoch")
            self._order = (self.start, images), torch.randperm(images, generator=generator)
        first = (step - self.start) * batch
        return self._order[1][first : first + batch]

    def ahead(self, step: int, images: int) -> Tensor:
        """What `index` would give, without beginning an epoch."""
        return copy(self).index(step, images)


def fit_erm(net: nn.Module, images: Images, recipe: Recipe, steps: int, rng: Rng) -> None:
    """Trains `net` in place with plain cross-entropy under the recipe, but without its loader: the helper network that
    a method may ask for. Its last weights stay."""
    optimizer, sampler = make_optimizer(net, recipe), Sampler(key(rng.seed, "helper"), recipe)
    net.train()

    def work(x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(net(Images(x, y).unit()), y).backward()
        optimizer.step()

    loop = Loop(work)
    for step in range(steps):
        set_rate(optimizer, recipe, step / steps)
        batch = take(images, sampler.index(step, len(images)), rng.on)
        loop(batch.x, batch.y)


def make_optimizer(net: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser over all parameters of `net`. On a GPU its learning rate is a tensor there, which a
    captured step reads anew."""
    gpu = on_gpu(next(net.parameters()))
    lr = torch.tensor(recipe.lr, device=next(net.parameters()).device) if gpu else recipe.lr
    if recipe.optimizer == "adam":
        return torch.optim.Adam(net.parameters(), lr=lr, weight_decay=recipe.weight_decay, fused=True, capturable=gpu)
    return torch.optim.SGD(
        net.parameters(),
        lr=lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
        fused=True,
    )


def set_rate(optimizer: torch.optim.Optimizer, recipe: Recipe, progress: float) -> None:
    """Sets the learning rate for this share of the budget, so that a schedule means the same under every budget."""
    factor = {
        "constant": 1.0,
        "cosine": 0.5 * (1 + math.cos(math.pi * progress)),
        "step": 0.1 ** math.floor(progress / recipe.step_every + 1e-9),
    }[recipe.schedule]
    for group in optimizer.param_groups:
        if not isinstance(group["lr"], Tensor):
            group["lr"] = recipe.lr * factor
        elif recipe.schedule != "constant":
            group["lr"].fill_(recipe.lr * factor)
