"""PRIME (Modas et al., ECCV 2022): AugMix's mixing over three families of transformations of maximum entropy.

Apostolos Modas, Rahul Rade, Guillermo Ortiz-Jimenez, Seyed-Mohsen Moosavi-Dezfooli and Pascal Frossard: PRIME: A Few
Primitives Can Boost Robustness to Common Corruptions. Random filters, colour curves and diffeomorphisms stand in for a
list of operations by hand.

    for each image x of the batch and each of two views v1, v2:
    1   w ~ Dirichlet(alpha, ..., alpha) of length `width`;  m ~ Beta(alpha, alpha)
    2   for i = 1..width:  x_i = g_d(... g_1(x)), d ~ U{1, 2, 3}, each g uniform over spectral, colour and spatial
    3   v = (1 - m) x + m sum_i w_i x_i
    4   loss = CE(net(x), y) + lam JS(net(x), net(v1), net(v2))
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import method
from benchmark.method import Range, Rng, Searched, State
from benchmark.networks.dual_norm import forward_views
from benchmark.ops.kernels.jensen_shannon import jensen_shannon
from benchmark.ops.prime import prime_view, sample_prime


def odd(k: int) -> int:
    """k, or an error: an even filter has no middle."""
    if k % 2 == 0:
        raise ValueError(f"a filter's size must be odd, not {k}")
    return k


@method.frozen()
class Method(method.Method):
    """PRIME as released for CIFAR-10. Cost: three passes, or one without `jsd`."""

    passes: ClassVar[float] = 3.0
    erm_at: ClassVar[Mapping[str, Any] | None] = {"lam": 0.0}
    uncoupled: ClassVar[Mapping[str, Any] | None] = {"per_image": True}
    replayable: ClassVar[bool] = True
    in_all: ClassVar[bool] = False
    alone: ClassVar[Mapping[str, Any] | None] = {"jsd": False}
    searched: ClassVar[Searched] = {
        "lam": Range(1.0, 30.0, log=True),  # released: 12; AugMix's range
        "sigma": Range(1.0, 16.0, log=True),  # released: 4; a quarter to four times of it
    }
    toy: ClassVar[Mapping[str, Any]] = {"frequencies": 10, "cut_max": 20}

    k: Annotated[int, Field(ge=3, le=31), AfterValidator(odd)] = 3
    """Side of the random filters, in pixels."""
    sigma: NonNegativeFloat = 4.0
    """Standard deviation of a filter's taps about the delta."""
    delta: Literal["released", "centre"] = "released"
    """Tap of the delta. released: ceil(k/2), counted from 0, which is one beyond the middle, so that filters also shift
    the image by a pixel. centre: the middle, where sigma = 0 leaves the image as it is."""
    frequencies: PositiveInt = 100
    """F: sine waves in a colour curve."""
    T: Annotated[float, Field(ge=0)] = 0.01
    """Temperature of the colour curves: their coefficients have the standard deviation sqrt(T)."""
    cut_max: Annotated[int, Field(ge=2, le=500)] = 100
    """Highest frequency that a diffeomorphism may have; each draws its own cut from 2 to this."""
    per_image: bool = False
    """A diffeomorphism for each image. False, as released: one for the batch, which couples the batch."""
    width: PositiveInt = 3
    """Chains in a view."""
    depth: Annotated[int, Field(ge=-1)] = -1
    """Primitives in a chain; below 1, each chain draws 1, 2 or 3."""
    alpha: PositiveFloat = 1.0
    """Parameter of the Dirichlet and Beta distributions."""
    jsd: bool = True
    """False: cross-entropy on one view and nothing else."""
    lam: NonNegativeFloat = 12.0
    """Weight of the Jensen-Shannon term."""
    bn_batching: Literal["joint", "separate"] = "joint"
    """"joint", as released: one forward pass of the clean images and both views; "separate": three, each with its own
    BatchNorm statistics. Without BatchNorm they are the same."""

    def views(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> list[Tensor]:
        draws = [  # 1
            rng.draw(
                f"prime/{view}",
                sample_prime,
                len(x),
                size=max(x.shape[2:]),
                kernel=self.k,
                frequencies=self.frequencies,
                colour_strength=self.T,
                cut_max=self.cut_max,
                width=self.width,
                depth=self.depth,
                alpha=self.alpha,
                per_image=self.per_image,
            )
            for view in range(2 if self.jsd else 1)
        ]
        return [prime_view(x, each, sigma=self.sigma, centred=self.delta == "centre") for each in draws]  # 2, 3

    def loss(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> Tensor:
        views = self.views(net, x, y, rng, state)
        if not self.jsd:
            return F.cross_entropy(net(views[0]), y)
        logits = forward_views(net, [x, *views], joint=self.bn_batching == "joint")
        return F.cross_entropy(logits[0], y) + self.lam * jensen_shannon(*logits)  # 4
