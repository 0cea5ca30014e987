"""AugMix (Hendrycks et al., ICLR 2020): equal predictions for an image and two mixtures of random operation chains.

Dan Hendrycks, Norman Mu, Ekin D. Cubuk, Barret Zoph, Justin Gilmer and Balaji Lakshminarayanan: AugMix: A Simple Data
Processing Method to Improve Robustness and Uncertainty.

    for each image x of the batch and each of two views v1, v2:
    1   w ~ Dirichlet(alpha, ..., alpha) of length `width`;  m ~ Beta(alpha, alpha)
    2   for i = 1..width:  x_i = op_d(... op_1(x)), d random operations of random level and sign on 8-bit images
    3   v = (1 - m) x + m sum_i w_i x_i
    4   loss = CE(net(x), y) + lam JS(net(x), net(v1), net(v2))
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import method
from benchmark.method import Range, Rng, Searched, State
from benchmark.networks.dual_norm import forward_views
from benchmark.ops.augmix import NINE, OPS, OpName, augmix_views, sample_mix
from benchmark.ops.kernels.jensen_shannon import jensen_shannon


@method.frozen()
class Method(method.Method):
    """AugMix as released for CIFAR-10. Cost: three passes, or one without `jsd`."""

    passes: ClassVar[float] = 3.0
    erm_at: ClassVar[Mapping[str, Any]] = {"lam": 0.0}
    replayable: ClassVar[bool] = True
    photometric: ClassVar[bool] = True
    alone: ClassVar[Mapping[str, Any] | None] = {"jsd": False}
    searched: ClassVar[Searched] = {
        "severity": Range(1.0, 10.0),  # released: 1 (ImageNet) and 3 (CIFAR); levels end at 10
        "lam": Range(1.0, 30.0, log=True),  # released: 12; AugMax's code gives the same term 1, 10 and 12
    }

    severity: Annotated[float, Field(ge=0.1, le=10)] = 3.0
    """Upper bound of the levels, drawn from U[0.1, severity); 1 in the released code for ImageNet."""
    width: PositiveInt = 3
    """Chains in a view."""
    depth: Annotated[int, Field(ge=-1)] = -1
    """Operations in a chain; below 1, each chain draws 1, 2 or 3."""
    alpha: PositiveFloat = 1.0
    """Parameter of the Dirichlet and Beta distributions."""
    ops: Literal["nine", "all"] | Annotated[tuple[OpName, ...], Field(min_length=1)] = "nine"
    """"nine" leaves out color, contrast, brightness and sharpness, which overlap with the corruptions of CIFAR-10-C;
    "all" has them (a flag of the released code); or a tuple of names."""
    jsd: bool = True
    """False: cross-entropy on one view and nothing else (the released --no-jsd)."""
    lam: NonNegativeFloat = 12.0
    """Weight of the Jensen-Shannon term."""
    bn_batching: Literal["joint", "separate"] = "joint"
    """"joint", as released: one forward pass of the clean images and both views, so that BatchNorm takes its statistics
    over all of them and moves once; "separate": three forward passes. Without BatchNorm they are the same."""

    def operations(self) -> tuple[str, ...]:
        return {"nine": NINE, "all": OPS}[self.ops] if isinstance(self.ops, str) else self.ops

    def views(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> list[Tensor]:
        draws = [  # 1
            rng.draw(
                f"augmix/{view}",
                sample_mix,
                len(x),
                ops=self.operations(),
                severity=self.severity,
                width=self.width,
                depth=self.depth,
                alpha=self.alpha,
            )
            for view in range(2 if self.jsd else 1)
        ]
        return augmix_views(x, draws)  # 2, 3

    def loss(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> Tensor:
        views = self.views(net, x, y, rng, state)
        if not self.jsd:
            return F.cross_entropy(net(views[0]), y)
        logits = forward_views(net, [x, *views], joint=self.bn_batching == "joint")
        return F.cross_entropy(logits[0], y) + self.lam * jensen_shannon(*logits)  # 4
