"""M-ADA (Qiao, Zhao, Peng, CVPR 2020): a step on the source must also help on adversarial images far from it.

Learning to Learn Single Domain Generalization, algorithm 1. Phases as in GUD, but an autoencoder V pushes images away:
    1. train V on the source; c = 0; for t = 0, 1, ...:
    2.   if t = (c+1) T_min - 1 and c < K, with theta frozen:
    3.     draw m_c batches of S_c = floor(B/(c+1)) source and B - S_c pool images (next in training's order, then new)
    4.     T_adv times: x' <- x' + eta d/dx' [CE(f(x'), y) + beta mean (V(x) - V(x'))^2 - gamma mean (z(x) - z(x'))^2]
    5.     add all (x', y) to the adversarial pool; c <- c + 1; if c < K: train a new V on the new images alone
    6.   L1 = CE(f_theta(x), y), source batch; L2 = CE(f_theta'(x), y), pool batch, theta' = theta - inner_lr dL1/dtheta
    7.   theta <- step on L1 if c = 0, else on (L1 + L2)/2, differentiated through theta'"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import method
from benchmark.core.errors import UsageError
from benchmark.core.images import Images
from benchmark.method import Range, Rng, Searched, Source, State, Work
from benchmark.ops import autoencoder as wae
from benchmark.ops.attacks.pixel import PixelAttack, attack_pixels


@dataclass(frozen=True)
class PhaseDraws:
    """Image positions of a phase's batches. source: int64 [m_c,S_c]; pool, for when a round ends: int64 [m_c,B-S_c]."""

    source: Tensor
    pool: Tensor


def sample_phase(c: int, source: int, pool: int, batch: int, generator: torch.Generator) -> PhaseDraws:
    """Draws phase c without repetition; m_c = floor((number of full source batches - 1)/(c+1)), as released."""
    share, batches = batch // (c + 1), (source // batch - 1) // (c + 1)
    at_source = wae.sample_batches(source, batches, share, generator)
    return PhaseDraws(at_source, wae.sample_batches(pool, batches, batch - share, generator))


@method.frozen()
class Method(wae.WaeSettings, method.Method):
    """Cost: 4.1 passes a step on the released digits recipe, phases counted in, and K autoencoders."""

    passes: ClassVar[float] = 4.1
    replayable: ClassVar[bool] = True
    erm_at: ClassVar[Mapping[str, Any]] = {"phases": 0}
    searched: ClassVar[Searched] = {"gamma": Range(0.1, 10.0, log=True), "beta": Range(2e2, 2e4, log=True)}
    toy: ClassVar[Mapping[str, Any]] = {"batch": 4, "interval": 3, "adv_steps": 2, "wae_epochs": 1}

    gamma: NonNegativeFloat = 1.0  # as released; searched a decade to each side
    """Weight of the mean squared feature distance."""
    beta: NonNegativeFloat = 2000.0  # likewise
    """Weight of the mean squared distance of the reconstructions; 0 leaves the autoencoder out."""
    eta: PositiveFloat = 1.0
    """Step size of the ascent in units of 1, before `batch_mean`."""
    adv_steps: PositiveInt = 25
    """T_adv: ascent steps per image and phase."""
    phases: NonNegativeInt = 3
    """K: how often the adversarial pool grows; 0 is ERM."""
    interval: PositiveInt = 100
    """T_min: training steps between phases."""
    batch: PositiveInt = 32
    """B: images of one batch of the attack and of the wae."""
    batch_mean: Literal["reference", "per_image"] = "reference"
    """reference: an image moves by eta/B times the gradient of its own objective. per_image: by eta times."""
    clip: bool = False
    """Whether adversarial images are cut to [0,1] after every ascent step; as released they leave it."""
    inner_lr: PositiveFloat = 1e-4
    """Step size of theta'; as released, the learning rate of the outer step."""

    def _attack(self, net: nn.Module, images: Images, state: State) -> Images:
        b = self.batch if self.batch_mean == "reference" else 1
        by = PixelAttack(self.adv_steps, self.eta, self.gamma, self.beta, b, self.clip)
        return attack_pixels(net, images, by, wae.restore(state["wae"]) if state["wae"] else None)

    def work(self, steps: int, images: int) -> Work:
        return wae.work_of_phases(self, self.adv_steps, bool(self.beta), self.phases, self.interval, steps, images)

    def setup(self, net: nn.Module, source: Source, rng: Rng) -> State:
        if source.original // self.batch <= self.phases:  # or a phase would have no batch
            raise UsageError(f"mada needs {self.phases + 1} full batches of {self.batch}, not {source.original} images")
        none = source.images[:0]
        weights = wae.train(source.images, self, rng.generator("wae")) if self.beta else {}  # 1
        return {"phase": 0, "x": none.unit(), "y": none.y, "wae": weights, "since": 0, "order": [], "at": none.y}

    def expand(self, net: nn.Module, source: Source, rng: Rng, step: int, state: State) -> None:
        c, images, pool = state["phase"], source.images, Images(state["x"], state["y"])
        if c < self.phases and (step + 1) % self.interval == 0:  # 2
            draws = sample_phase(c, len(images), len(pool), self.batch, rng.generator("phase"))  # 3
            at, fresh = (part.flatten().to(images.y.device) for part in (draws.source, draws.pool))
            left = state["order"][step - state["since"] :]  # of training's round; the phase goes on with it
            at_pool = torch.cat([*left, fresh])[: len(fresh)]
            new = self._attack(net, images[at] + pool[at_pool].to(images.x.device), state)  # 4
            pool = pool + new.to(pool.x.device)  # 5
            state.update(phase=c + 1, x=pool.x, y=pool.y, since=step, order=[], at=pool.y[: source.batch_size].clone())
            if self.beta and c + 1 < self.phases:
                state["wae"] = wae.train(new, self, rng.generator("wae"))
        if len(pool) and step >= state["since"] + len(state["order"]):  # a round through the pool is over
            order = wae.sample_batches(len(pool), len(pool) // (b := len(state["at"])), b, rng.generator("pool"))
            state.update(since=step, order=order.to(images.y.device))
        if len(pool):  # to where a replayed step reads it
            state["at"].copy_(state["order"][step - state["since"]])

    def views(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> list[Tensor]:
        return [self._attack(net, Images(x, y), state).x]  # as if a phase were due now

    def loss(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> Tensor:
        on_source = F.cross_entropy(net(x), y)  # 6
        if not state["phase"]:
            return on_source
        theta = {name: p for name, p in net.named_parameters() if p.requires_grad}
        grads = torch.autograd.grad(on_source, list(theta.values()), create_graph=True, materialize_grads=True)
        inner = {name: p - self.inner_lr * g for (name, p), g in zip(theta.items(), grads, strict=True)}  # 6
        x_c, y_c = state["x"][state["at"]].to(x), state["y"][state["at"]].to(y)
        on_pool = F.cross_entropy(torch.func.functional_call(net, inner, x_c), y_c)
        return (on_source + on_pool) / 2  # 7
