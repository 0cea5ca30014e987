"""SADA (Zhang et al., AAAI 2023): adversarial Fourier amplitudes, with larger steps where a plain model is sensitive.

Jiajin Zhang, Hanqing Chao, Amit Dhurandhar, Pin-Yu Chen, Ali Tajer, Yangyang Xu and Pingkun Yan: When Neural Networks
Fail to Generalize? A Model Sensitivity Perspective. Two forms, with the map and without: docs/adr/0004.

  1  once: E[k,l] = error rate of an ERM model on images with wave (k,l) added;  w = 1 + E
  2  v_1..v_3: AugMix views of x;  for the first `warmup` of training go to 7 with lam = lam_warmup
  3  A, P = |fft2(v_j)|, angle(fft2(v_j));  A[0,0] <- (1 + 4u) A[0,0],  u ~ U[0,1) for each image and channel
  4  num_steps times, in eval mode:  I = |ifft2(A exp(iP))| / max over the batch;  g = d CE(net(I), y) / dA;
  5     stop if net was wrong about every image tau times, else  A <- max(0, A + step_size * sign(g) * A * w)
  6  v_j <- clamp(c I, 0, 1),  c ~ U[1,1.6) for each view
  7  o_0, o_1, o_2, o_3 = net(x), net(v_1), net(v_2), net(v_3)
  8  loss = CE(o_0, y) + lam * JS(o_0, o_1, o_2, o_3)
"""

import copy
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from benchmark import method
from benchmark.method import Range, Rng, Searched, Source, State, Work
from benchmark.networks.dual_norm import forward_views
from benchmark.ops.attacks.spectrum import AmplitudeAttack, attack_spectrum, sample_draws
from benchmark.ops.augmix import OpName, augmix_view, sample_mix
from benchmark.ops.kernels.jensen_shannon import jensen_shannon
from benchmark.sensitivity.given_map import read_map
from benchmark.sensitivity.map import measure, spectral_weights


@method.frozen()
class Method(AmplitudeAttack, method.Method):
    """SADA. Cost: four passes, and after the warm-up up to three for each attack step; once, an ERM run and a map.
    The attack's own settings (epsilon, step_size, num_steps, ...) are those of AmplitudeAttack."""

    passes: ClassVar[float] = 17.2
    erm_at: ClassVar[Mapping[str, Any]] = {"lam": 0.0, "lam_warmup": 0.0}
    uncoupled: ClassVar[Mapping[str, Any]] = {"recon_norm": "image_max", "early_stop": "per_sample"}
    attacks: ClassVar[bool] = True
    replayable: ClassVar[bool] = True
    photometric: ClassVar[bool] = True
    alone: ClassVar[Mapping[str, Any] | None] = {"weight_map": "none", "warmup": 0.0, "n_views": 1}
    searched: ClassVar[Searched] = {
        "lam": Range(0.025, 10.0, log=True),  # released: 0.025 under attack; 10 before it
        "step_size": Range(0.02, 0.32, log=True),  # released: 0.08; a quarter to four times of it
    }
    toy: ClassVar[Mapping[str, Any]] = {"map_images": 2, "num_steps": 2}

    weight_map: str = "erm"
    """erm: the map of an ERM model of this source, the paper's form. none: all ones, what the released code runs. Or
    the path of an .npy file: a centred map of error rates in [0,1], square with an odd side, as the released 31x31."""
    map_images: PositiveInt = 256
    """Validation images under the map."""
    base: Literal["augmix", "clean"] = "augmix"
    """What is attacked: the AugMix views (reference), or the source images, each time from another random start."""
    lam: NonNegativeFloat = 0.025
    """Weight of the consistency term after the warm-up; a weight of 0 leaves the views out, which is ERM."""
    lam_warmup: NonNegativeFloat = 10.0
    """Its weight before: the released code drops it by a factor of 400 when the attack sets in."""
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.12
    """Share of training on plain AugMix views; 6 of 50 epochs in the released code."""
    n_views: PositiveInt = 3
    """Views beside the clean images."""
    severity: Annotated[float, Field(gt=0.1, le=10)] = 2.0
    """AugMix: upper bound of the operations' levels, which are drawn from U[0.1, severity)."""
    width: PositiveInt = 3
    """AugMix: chains in a mixture."""
    depth: Annotated[int, Field(ge=-1, le=10)] = -1
    """AugMix: operations in a chain; below 1: drawn from 1, 2, 3."""
    alpha: PositiveFloat = 1.0
    """AugMix: parameter of Dirichlet (weights of the chains) and Beta (share of the mixture)."""
    ops: Annotated[tuple[OpName, ...], Field(min_length=1)] = get_args(OpName)
    """AugMix: operations to choose from; all thirteen, as released."""
    bn_batching: Literal["separate", "joint"] = "separate"
    """For a network with BatchNorm: a pass for each view, as released, or one for all. Without, the same numbers."""

    def operations(self) -> tuple[str, ...]:
        return self.ops if self.base == "augmix" else ()

    def work(self, steps: int, images: int) -> Work:
        views = self.n_views * (1 + (1 - self.warmup) * self.num_steps) if self.lam else 0
        once = self.weight_map == "erm"
        return Work(1 + views, helpers=int(once), mapped=self.map_images if once else 0)

    def kind(self, rng: Rng) -> bool:
        return rng.progress < self.warmup

    def setup(self, net: nn.Module, source: Source, rng: Rng) -> State:
        """{"w": float32 [N,N], the step of each frequency in fft2 layout}; empty for weight_map="none"."""
        if self.weight_map == "none":
            return {}
        if self.weight_map == "erm":
            source.fit_erm(erm := copy.deepcopy(net), rng)
            error = measure(erm, source.val, seed=rng.seed, limit=self.map_images).error
        else:
            error = read_map(self.weight_map, source.images.x.shape[-1])
        return {"w": spectral_weights(error).to(source.images.x.device)}  # 1

    def views(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> list[Tensor]:
        """n_views images of each x: AugMix views during the warm-up, attacked ones after it."""
        warm, v = rng.progress < self.warmup, x.repeat(self.n_views, 1, 1, 1)
        if warm or self.base == "augmix":
            chains = {"ops": self.ops, "width": self.width, "depth": self.depth, "alpha": self.alpha}
            v = augmix_view(v, rng.draw("augmix", sample_mix, len(v), severity=self.severity, **chains))  # 2
        v = v.view(self.n_views, *x.shape)
        if not warm:  # 3 to 6
            v = attack_spectrum(net, v, y, rng.draw("attack", sample_draws, v.shape, config=self), self, state.get("w"))
        return list(v)

    def loss(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> Tensor:
        lam = self.lam_warmup if rng.progress < self.warmup else self.lam
        if lam == 0:
            return nn.functional.cross_entropy(net(x), y)
        logits = forward_views(net, [x, *self.views(net, x, y, rng, state)], joint=self.bn_batching == "joint")  # 7
        return nn.functional.cross_entropy(logits[0], y) + lam * jensen_shannon(*logits)  # 8
