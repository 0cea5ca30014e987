"""What the tests of ALT and ABA share: a network with BatchNorm, and the released loop, written with torch's own."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map

from benchmark.method import Method, Rng, Source
from tests import toy

ROUND, PRE, STEPS = 2, 1, 5
"""Steps 0 and 1 are plain, 2 and 4 the first of a round."""
RATE = 0.05
View = Callable[[nn.Module, Tensor, Tensor, Rng], tuple[Tensor, Tensor | None]]
"""The released attack: from network, images on [-1,1], labels and draws to the learned and the random view."""


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        layers = nn.Conv2d(3, 6, 5, stride=3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(54, 4)
        return nn.Sequential(*layers).double()


class Scaled(nn.Module):
    """Takes images in [0,1], as the suite's networks do, to a network that wants them on [-1,1]."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(2 * x - 1)
        return out


def batches() -> Iterator[tuple[int, Tensor, Tensor]]:
    for step in range(STEPS):
        images = toy.images(4, step)
        yield step, images.unit()[..., 10:22, 10:22].double(), images.y


def state_of(method: Method) -> dict[str, Any]:
    """A method's state after set-up, in float64."""
    images = toy.images(8, 0)
    source = Source(images, images, 8, 4, lambda net, rng: None)
    found = method.setup(network(), source, Rng(0))
    return dict(tree_map(Tensor.double, found))


def ours(method: Method, net: nn.Module) -> tuple[list[float], dict[str, Any]]:
    """Losses of five training steps, and the state at the end; `net` is trained."""
    state, losses, wrapped = state_of(method), [], Scaled(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=RATE)
    source = Source(toy.images(8, 0), toy.images(8, 0), 8, 4, lambda net, rng: None)
    for step, x, y in batches():
        rng = Rng(0, step)
        method.expand(wrapped, source, rng, step, state)
        loss = method.loss(wrapped, x, y, rng, state)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, state


def released(
    net: nn.Module, attack: View, *, lam: float = 0.75, w: float = 1.0, stays_eval: bool = True
) -> list[float]:
    """The same by the formulas of the loop alone; `net` is trained."""
    optimizer, losses = torch.optim.SGD(net.parameters(), lr=RATE), []
    for step, x, y in batches():
        z = 2 * x - 1
        if step % ROUND == 0:
            net.train()
        clean = net(z)
        loss = F.cross_entropy(clean, y)
        if step // ROUND >= PRE:
            net.eval()
            learned, random = attack(net, z, y, Rng(0, step))
            if not stays_eval:
                net.train()
            p_c, p_g = F.softmax(clean, 1), F.softmax(net(learned), 1)
            p_r = torch.zeros_like(p_c) if random is None else F.softmax(net(random), 1)
            p_m = ((p_c + w * p_r + (2 - w) * p_g) / 3).clamp(1e-4, 1).log()
            parts = [F.kl_div(p_m, p, reduction="batchmean") for p in (p_c, p_r, p_g)]
            loss = (1 - lam) * loss + lam * (parts[0] + w * parts[1] + (2 - w) * parts[2]) / 3
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def deviation(one: nn.Module, two: nn.Module) -> float:
    """The largest between weights and statistics of two networks."""
    pairs = zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs)
