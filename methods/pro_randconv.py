"""Pro-RandConv (Choi et al., CVPR 2023): one random block, applied a random number of times.

Seokeon Choi, Debasmit Das, Sungha Choi, Seunghan Yang, Hyunsin Park and Sungrack Yun: Progressive Random Convolutions
for Single Domain Generalization, algorithm 1. On images scaled to [-1,1]; one block for a batch:

  1  w ~ N(0, 1/(3 k^2)) [3,3,k,k];  w <- w exp(-(i^2 + j^2) / (2 sigma_g^2)),  sigma_g ~ U(eps_g, 1)
  2  dp ~ N(0, sigma_delta^2), an offset of every tap at every pixel,  sigma_delta ~ U(eps_delta, b_delta)
  3  gamma_c, beta_c ~ N(0, sigma_style^2);  L ~ U{1, ..., L_max}
  4  G(X) = tanh(gamma_c (Y - mu_c) / sd_c + beta_c),  Y = deform_conv(X; w, dp)
  5  X_0 = x;  X_l = G(X_{l-1}),  l = 1..L, with the same w, dp, gamma, beta
  6  loss = CE(net(X_0), y) + lam CE(net(X_L), y)

There is no official code. A field says "paper" where its value is read there, "second-hand" where it is known from a
third party's implementation only, and "ours" where it is our choice.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, ValidationInfo, field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import method
from benchmark.core.recipe import Recipe, Terms
from benchmark.method import Range, Rng, Searched, State
from benchmark.networks.dual_norm import forward_views
from benchmark.ops.progressive_conv import progressive_conv, sample_block, sample_offsets

# The length is 500 epochs of 156 batches. Weight decay, selection and the number of evaluations are ours.
DIGITS = Recipe(
    network="digits_convnet", optimizer="sgd", lr=0.01, momentum=0.9, schedule="cosine", batch_size=64, steps=78_000
)
LARGE = 128
"""Pixels along the shorter side from which an image has the offsets that are reported for 224x224: ours."""


@method.frozen()
class Method(method.Method):
    """Progressive random convolutions. Cost: two passes."""

    passes: ClassVar[float] = 2.0
    in_all: ClassVar[bool] = False
    erm_at: ClassVar[Mapping[str, Any]] = {"lam": 0.0}
    uncoupled: ClassVar[Mapping[str, Any]] = {"per_image": True}
    replayable: ClassVar[bool] = True
    alone: ClassVar[Mapping[str, Any] | None] = {}
    terms: ClassVar[Sequence[Terms]] = [Terms(protocol="strict", dataset="digits", recipe=DIGITS)]
    searched: ClassVar[Searched] = {
        "L_max": Range(2, 16),  # paper: 10; ours: from a fifth of it to the kinds of step that a GPU captures
        "sigma_style": Range(0.125, 1.0, log=True),  # second-hand: 0.5, and 0.25; an octave to each side of them
    }
    toy: ClassVar[Mapping[str, Any]] = {"L_max": 2}

    k: Literal[1, 3, 5, 7] = 3
    """Kernel size. Paper: 3."""
    L_max: PositiveInt = 10
    """Most repetitions of the block; each number from 1 on has the same chance. Paper."""
    b_delta: NonNegativeFloat | Literal["by_size"] = "by_size"
    """Largest deviation of the offsets, in pixels. by_size: 0.2 for small images, 0.5 from 128 pixels on; 0.2 at 32x32
    and 0.5 at 224x224 are second-hand."""
    eps_delta: NonNegativeFloat = 1e-3
    """Least deviation of the offsets, or b_delta where that is less. Second-hand."""
    eps_g: PositiveFloat = Field(1e-2, le=1)
    """Least sigma_g: there only the centre tap is left. Second-hand, as is the largest, 1."""
    sigma_style: NonNegativeFloat = 0.5
    """Deviation of gamma and beta. Second-hand."""
    offsets: Literal["per_image", "batch"] = "per_image"
    """Whether each image has its own dp (second-hand), or the batch one."""
    per_image: bool = False
    """Own w, gamma, beta, sigma_g and sigma_delta for each image; L stays one for the batch. Paper: False."""
    clean: bool = True
    """Whether X_0 is trained on, too. Paper: True. A third party's code has X_L alone."""
    lam: NonNegativeFloat = 1.0
    """Weight of X_L against X_0, which has 1: ours. 0 leaves X_L out."""
    bn_batching: Literal["separate", "joint"] = "separate"
    """For a network with BatchNorm: a pass for each image, or one for both: ours. Without, the same numbers."""

    @field_validator("lam")
    @classmethod
    def _leaves_something(cls, lam: float, others: ValidationInfo) -> float:
        if lam == 0 and not others.data.get("clean", True):
            raise ValueError("with clean=False this leaves nothing to train on")
        return lam

    def _repetitions(self, rng: Rng) -> int:
        """L, of the host: it decides how many operations a step has."""
        return 1 + rng.key("repetitions") % self.L_max

    def kind(self, rng: Rng) -> int:
        return self._repetitions(rng) if self.lam else 0

    def views(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> list[Tensor]:
        b, _, height, width = x.shape
        largest = (0.5 if min(height, width) >= LARGE else 0.2) if self.b_delta == "by_size" else self.b_delta
        draws = rng.draw(  # 1 to 3
            "block",
            sample_block,
            b if self.per_image else 1,
            k=self.k,
            smooth=(self.eps_g, 1.0),
            offset=(min(self.eps_delta, largest), largest),
            style=self.sigma_style,
        )
        own = self.per_image or self.offsets == "per_image"
        dp = sample_offsets(b if own else 1, self.k, height, width, rng.generator("offsets"))
        return [progressive_conv(x, draws, dp, self._repetitions(rng))]  # 4, 5

    def loss(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> Tensor:
        if self.lam == 0:
            return F.cross_entropy(net(x), y)
        views = self.views(net, x, y, rng, state)
        logits = forward_views(net, [x, *views] if self.clean else views, joint=self.bn_batching == "joint")
        augmented = self.lam * F.cross_entropy(logits[-1], y)
        return F.cross_entropy(logits[0], y) + augmented if self.clean else augmented  # 6
