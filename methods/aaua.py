"""AAUA and AAD (He et al., NeurIPS 2024): adversarial statistics of low-frequency amplitudes, and amplitude dropout.

He and co-authors: Towards Combating Frequency Simplicity-biased Learning for Domain Generalization (the repository is
called AdvFrequency). A = |fft2(x)|, P = angle(fft2(x)), M a square of side l about zero frequency.

    recon(A) = |ifft2(A exp(iP))| / max over the batch
    AAUA
    1  mu, sd = mean and deviation of A over M, for each image and channel;  d_mu, d_sd ~ N(0,1) likewise
    2  S_mu, S_sd = deviation over the batch of mu and of sd, + 1e-4
    3  A' = (A - mu) / (sd + 1e-4) * (sd + d_sd S_sd + 1e-4) + mu + d_mu S_mu  within M, A elsewhere
    4  T times:  d_mu, d_sd <- d + alpha sign(d CE(net(recon(A')), y) / dd)
    5  v_1 = recon(A')
    AAD, for the paper's loss alone
    6  g = d CE(net(recon(A)), y) / dA;  s = (g - min g) / (max g - min g) for each image and channel
    7  v_2, v_3 = recon(A [s <= p]),  p ~ U[0,1) for each amplitude, and again for v_3
    8  released: loss = CE(net(v_1), y)
       paper:    loss = CE(net(x), y) + lam JS(net(x), net(v_1), net(v_2), net(v_3))
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import method
from benchmark.method import Range, Rng, Searched, State
from benchmark.networks.dual_norm import forward_views
from benchmark.ops.attacks.amplitude import AmplitudeSettings, attack_statistics, drop_amplitudes, sample_statistics
from benchmark.ops.kernels.jensen_shannon import jensen_shannon


@method.frozen()
class Method(AmplitudeSettings, method.Method):
    """Cost: one pass and T of the attack; with the paper's loss 4 + T + 1. The settings of the attacks (steps,
    step_size, low_frequency, ...) are those of AmplitudeSettings."""

    passes: ClassVar[float] = 6.0
    in_all: ClassVar[bool] = False
    erm_at: ClassVar[Mapping[str, Any] | None] = {"loss": "paper", "lam": 0.0}
    uncoupled: ClassVar[Mapping[str, Any] | None] = None  # S_mu and S_sd are those of the batch
    attacks: ClassVar[bool] = True
    replayable: ClassVar[bool] = True
    searched: ClassVar[Searched] = {
        "step_size": Range(0.25, 4.0, log=True),  # released: 1; a quarter to four times of it
        "low_frequency": Range(0.05, 0.5),  # released: 0.1; the paper draws it from 0 to 0.5
    }
    toy: ClassVar[Mapping[str, Any]] = {"loss": "paper", "steps": 1}

    loss_of: Literal["released", "paper"] = Field("released", alias="loss")
    """released: cross-entropy on the AAUA image and nothing else, as the published loop trains. paper: cross-entropy on
    the clean image, and consistency of four. Which images are the three that the paper counts is our reading."""
    lam: NonNegativeFloat = 1.0
    """Weight of the consistency term; 1 in the paper. 0 leaves the views out, which is ERM."""
    bn_batching: Literal["separate", "joint"] = "separate"
    """For a network with BatchNorm: a pass for each view, or one for all. Without, the same numbers. Ours."""

    def views(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> list[Tensor]:
        """The AAUA image of each x, and with the paper's loss two AAD images."""
        draws = rng.draw("statistics", sample_statistics, x.shape, config=self)
        first = attack_statistics(net, x, y, draws, self)  # 1 to 5
        if self.loss_of == "released":
            return [first]
        p = torch.rand((2, *x.shape), generator=rng.generator("dropout"), device=rng.on)
        return [first, *drop_amplitudes(net, x, y, p, self)]  # 6, 7

    def loss(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> Tensor:
        if self.loss_of == "paper" and self.lam == 0:
            return F.cross_entropy(net(x), y)
        views = self.views(net, x, y, rng, state)
        if self.loss_of == "released":
            return F.cross_entropy(net(views[0]), y)  # 8
        logits = forward_views(net, [x, *views], joint=self.bn_batching == "joint")
        return F.cross_entropy(logits[0], y) + self.lam * jensen_shannon(*logits)
