"""AFA (Vaish et al., CVPR 2024): images with a random Fourier wave on every channel have their own BatchNorm route.

Puru Vaish, Shunxin Wang and Nicola Strisciuglio: Fourier-Basis Functions to Bridge Augmentation Gap: Rethinking
Frequency Augmentation in Image Classification. Nothing is attacked: the waves are drawn. Waved images look like no
others, so they get BatchNorm statistics of their own (route A).

    for each image and channel, N the image's side, (X, Y) in [-N/2, N/2]^2:
  1  f ~ U{1/N, ..., N/N} cycles per pixel;  t ~ U of 448 angles in [-pi, 0];  sigma ~ min + Exp of mean m
  2  wave = sin(2 pi f (X cos t + Y sin t) - pi/4), scaled to L2 norm 1
  3  a(x) = clamp(x + (N/32) sigma wave, 0, 1);  x' = x, or an AugMix view
  4  ace:  loss = (CE(net_M(x'), y) + CE(net_A(a(x)), y)) / 2
     js:   loss = CE(net_M(x'), y) + lam JS(net_M(x'), net_A(a_1(x)), net_A(a_2(x)))
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import method
from benchmark.method import Choice, Range, Rng, Searched, State
from benchmark.networks.dual_norm import DualNorm, convert, forward_views, has_batch_norm, route
from benchmark.ops.augmix import NINE, augmix_view, sample_mix
from benchmark.ops.kernels.jensen_shannon import jensen_shannon
from benchmark.ops.waves import Highest, add_waves, sample_waves


@method.frozen()
class Method(method.Method):
    """AFA with its two cross-entropies. Cost: two passes; `objective="js"`: three."""

    passes: ClassVar[float] = 2.0
    in_all: ClassVar[bool] = False
    erm_at: ClassVar[Mapping[str, Any]] = {"mean": 0.0, "minimum": 0.0}
    replayable: ClassVar[bool] = True
    photometric: ClassVar[bool] = True
    alone: ClassVar[Mapping[str, Any] | None] = {"objective": "ace", "base": "clean"}
    searched: ClassVar[Searched] = {
        "mean": Range(1.0, 20.0, log=True),  # released: 5 (the default) and 10 (ImageNet); the range is ours
        "objective": Choice(("ace", "js")),  # released: both
    }

    mean: NonNegativeFloat = 5.0
    """m, mean of the exponential law of sigma; 5 is the released default, its example for ImageNet has 10. With
    `minimum` 0, a mean of 0 is ERM on a network without BatchNorm."""
    minimum: NonNegativeFloat = 0.0
    """Smallest sigma."""
    highest: Highest = "reference"
    """reference: frequencies up to N/N, of which those above N/2 alias along an axis. nyquist: up to N/2."""
    objective: Literal["ace", "js"] = "ace"
    """ace: the mean of both cross-entropies. js: cross-entropy of x' and consistency with two waved images."""
    lam: NonNegativeFloat = 10.0
    """js: weight of the consistency term; 10 on CIFAR-10, 1 on CIFAR-100."""
    base: Literal["clean", "augmix"] = "clean"
    """x': the image itself, or its AugMix view (which augmentation, and its settings, are ours)."""
    severity: Annotated[float, Field(ge=0.1, le=10)] = 3.0
    """augmix: upper bound of the operations' levels."""
    dual_norm: DualNorm = "dual_bn"
    """For a network with BatchNorm: dual_bn; dubin, with InstanceNorm too; plain, as it is."""

    def wrap(self, net: nn.Module) -> nn.Module:
        return convert(net, self.dual_norm)

    def operations(self) -> tuple[str, ...]:
        return NINE if self.base == "augmix" else ()

    def views(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> list[Tensor]:
        """[a(x)], or [a_1(x), a_2(x)] for js; behind an x' that is not x."""
        waved = [self._waved(x, rng, i) for i in range(1 if self.objective == "ace" else 2)]
        if self.base == "clean":
            return waved
        return [augmix_view(x, rng.draw("augmix", sample_mix, len(x), severity=self.severity)), *waved]

    def loss(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> Tensor:
        views = self.views(net, x, y, rng, state)
        main, *waved = [x, *views] if self.base == "clean" else views
        if has_batch_norm(net):
            o = [net(main)]
            with route(net, "A"):
                o += forward_views(net, waved)
        else:
            o = forward_views(net, [main, *waved])
        if self.objective == "ace":  # 4
            return (F.cross_entropy(o[0], y) + F.cross_entropy(o[1], y)) / 2
        return F.cross_entropy(o[0], y) + self.lam * jensen_shannon(*o)

    def _waved(self, x: Tensor, rng: Rng, i: int) -> Tensor:  # 1 to 3
        draws = rng.draw(f"waves {i}", sample_waves, len(x))
        return add_waves(x, draws, mean=self.mean, minimum=self.minimum, highest=self.highest)
