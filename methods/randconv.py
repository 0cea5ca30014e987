"""RandConv (Xu et al., ICLR 2021): random convolutions keep an image's shapes and randomise its local texture.

Zhenlin Xu, Deyi Liu, Junlin Yang, Colin Raffel and Marc Niethammer: Robust and Generalizable Visual Representation
Learning via Random Convolutions. The network must predict the same class under every texture.

  1  R_j: kernel size k uniform, weights N(0, 1/(3 k^2)), alpha ~ U[0,1); one for the whole batch
  2  u = R_0(x)
  3  views: u, R_1(u), R_2(u)             as released; independent: R_0(x), R_1(x), R_2(x); clean: x, R_1(x), R_2(x)
  4  o_0, o_1, o_2 = net(views), one pass each
  5  loss = CE(o_0, y) + lam * JS(o_0, o_1, o_2)

The defaults are the published RC_mix1-7. RC_img1-7, p = 0.5 is mixing=False, identity_prob=0.5, lam=5.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, NonNegativeFloat
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import method
from benchmark.method import Choice, Range, Rng, Searched, State
from benchmark.networks.dual_norm import forward_views
from benchmark.ops.kernels.jensen_shannon import jensen_shannon
from benchmark.ops.random_conv import Clamp, Distribution, random_conv, sample_random_conv


def odd(k: int) -> int:
    """k, or an error: an even kernel has no middle."""
    if k % 2 == 0:
        raise ValueError(f"a kernel size must be odd, not {k}")
    return k


KernelSize = Annotated[int, Field(ge=1, le=31), AfterValidator(odd)]


@method.frozen()
class Method(method.Method):
    """Random convolutions with consistency between three of them. Cost: three passes."""

    passes: ClassVar[float] = 3.0
    erm_at: ClassVar[Mapping[str, Any]] = {"identity_prob": 1.0, "lam": 0.0}
    uncoupled: ClassVar[Mapping[str, Any]] = {"per_image": True}
    replayable: ClassVar[bool] = True
    photometric: ClassVar[bool] = True
    alone: ClassVar[Mapping[str, Any] | None] = {"lam": 0.0, "views": "reference"}
    searched: ClassVar[Searched] = {
        "mixing": Choice((True, False)),  # published: RC_mix and RC_img
        "identity_prob": Choice((0.0, 0.5)),  # published: 0 with RC_mix, 0.5 with RC_img
        "lam": Range(1.0, 30.0, log=True),  # published: 10 with RC_mix, 5 with RC_img
    }

    kernel_sizes: Annotated[tuple[KernelSize, ...], Field(min_length=1)] = (1, 3, 5, 7)
    """Sizes to choose from, with equal chances."""
    mixing: bool = True
    """RC_mix: blend the convolution with its input, alpha ~ U[0,1). False: RC_img, the convolution alone."""
    identity_prob: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Chance that a view is left as it is; one draw for each view."""
    lam: NonNegativeFloat = 10.0
    """Weight of the consistency term; 0 leaves it and its two views out."""
    views_of: Literal["reference", "independent", "clean"] = Field("reference", alias="views")
    """reference: the second and third view are random convolutions of the first, as the released loop has it, whose
    input variable is overwritten. independent: all three are of the source images, as we recall the paper. clean: the
    released --augmix flag; the first view is the source image itself."""
    per_image: bool = False
    """Its own kernel, alpha and choice of identity for each image. False, as released: one of each for a batch."""
    clamp_output: Clamp = "off"
    """The released clamp flag, off in all published runs; see benchmark/ops/random_conv.py for its three values."""
    distribution: Distribution = "kaiming_normal"
    """The law of the weights, all of the scale 1/sqrt(3 k^2)."""
    bias: bool = False
    """Adds a bias drawn from U(-1/sqrt(3 k^2), 1/sqrt(3 k^2)), on the [-1,1] scale."""
    bn_batching: Literal["separate", "joint"] = "separate"
    """For a network with BatchNorm: a pass for each view, as released, or one for all. Without, the same numbers."""

    def views(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> list[Tensor]:
        clean = self.views_of == "clean"
        u = x if clean else self._convolve(x, rng, 0)  # 1, 2
        if self.lam == 0:
            return [u]
        base = u if self.views_of == "reference" else x
        return [u, self._convolve(base, rng, 1), self._convolve(base, rng, 2)]  # 3

    def loss(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> Tensor:
        views = self.views(net, x, y, rng, state)
        logits = forward_views(net, views, joint=self.bn_batching == "joint")  # 4
        loss = F.cross_entropy(logits[0], y)
        return loss + self.lam * jensen_shannon(*logits) if self.lam else loss  # 5

    def _convolve(self, x: Tensor, rng: Rng, view: int) -> Tensor:
        draws = rng.draw(
            f"random convolution {view}",
            sample_random_conv,
            len(x) if self.per_image else 1,
            kernel_sizes=self.kernel_sizes,
            mixing=self.mixing,
            identity_prob=self.identity_prob,
            distribution=self.distribution,
            bias=self.bias,
        )
        return random_conv(x, draws, self.clamp_output)
