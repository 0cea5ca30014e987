"""AugMax (Wang et al., NeurIPS 2021): an attack chooses how AugMix's random chains are mixed.

Haotao Wang, Chaowei Xiao, Jean Kossaifi, Zhiding Yu, Anima Anandkumar and Zhangyang Wang: AugMax: Adversarial
Composition of Random Augmentations for Robust Training. The views are both diverse and hard. Dual BatchNorm (in
DuBIN beside an InstanceNorm) keeps the statistics of attacked images apart.

  1  chains: two sets of W random chains of operations for each image
  2  m, q ~ U[0,1); T times: m <- clamp(m + a sign dCE/dm), q <- q + a sign dCE/dq, in eval mode along route A
  3  x_adv = (1 - m) x + m sum_i softmax(q)_i chain_i, on the first set
  4  x_mix: the AugMix view of the second set, w ~ Dirichlet, m ~ Beta
  5  o_1 = net(x_adv) along route A; o_2 = net(x_mix), o_0 = net(x) along route M; one pass each, in this order
  6  loss = CE(o_0, y) + lam * JS(o_0, o_1, o_2)
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import method
from benchmark.method import Choice, Range, Rng, Searched, State, Work
from benchmark.networks.dual_norm import DualNorm, convert, forward_views, has_batch_norm, route
from benchmark.ops.attacks.mix import attack_mixing, sample_start
from benchmark.ops.augmix import NINE, OPS, apply_chains, sample_mix
from benchmark.ops.kernels.augment_mix import mix, to_uint8
from benchmark.ops.kernels.jensen_shannon import jensen_shannon


@method.frozen()
class Method(method.Method):
    """AugMax-DuBIN. Cost: three passes, and one for each of at most `steps` attack steps."""

    passes: ClassVar[float] = 8.0
    erm_at: ClassVar[Mapping[str, Any]] = {"lam": 0.0}
    uncoupled: ClassVar[Mapping[str, Any]] = {"early_stop": "per_sample"}
    attacks: ClassVar[bool] = True
    replayable: ClassVar[bool] = True
    photometric: ClassVar[bool] = True
    alone: ClassVar[Mapping[str, Any] | None] = {}
    searched: ClassVar[Searched] = {
        "lam": Range(1.0, 30.0, log=True),  # released: 1 (ResNet-18), 10 and 12 (ImageNet)
        "steps": Choice((5, 10)),  # released: 5 is the code's default, 10 stands in its commands
    }

    lam: NonNegativeFloat = 10.0
    """Weight of the consistency term; 0 is ERM."""
    steps: PositiveInt = 5
    """T, attack steps. 5 is the released code's default; its commands for CIFAR pass 10."""
    step_size: PositiveFloat = 0.1
    """a, for m and q alike."""
    attacker: Literal["fat", "pgd"] = "fat"
    """fat: each image has a budget of `tau` errors. pgd: all steps are taken."""
    tau: PositiveInt = 1
    """How often an image may be seen misclassified before its budget is spent."""
    early_stop: Literal["reference", "per_sample"] = "reference"
    """reference: the attack ends when the budgets of the whole batch are spent, and no image stops before, because the
    released code masks a copy; this couples the batch. per_sample: an image stays where its own budget ran out."""
    severity: Annotated[float, Field(gt=0.1, le=10)] = 3.0
    """Upper bound of the operations' levels, which are drawn from U[0.1, severity)."""
    width: PositiveInt = 3
    """W, chains in a mixture."""
    depth: Annotated[int, Field(ge=-1, le=10)] = -1
    """Operations in a chain; below 1: drawn from 1, 2, 3."""
    all_ops: bool = False
    """All thirteen operations, not only the nine that do not overlap with test corruptions."""
    dual_norm: DualNorm = "dubin"
    """For a network with BatchNorm: dubin, as released; dual_bn, without the InstanceNorm; plain, as it is."""

    def wrap(self, net: nn.Module) -> nn.Module:
        return convert(net, self.dual_norm)

    def work(self, steps: int, images: int) -> Work:
        return Work(3 + self.steps) if self.lam else Work()

    def operations(self) -> tuple[str, ...]:
        return OPS if self.all_ops else NINE

    def views(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> list[Tensor]:
        """[x_adv, x_mix]"""
        ops, n = self.operations(), 2 * len(x)
        draws = rng.draw("chains", sample_mix, n, ops=ops, severity=self.severity, width=self.width, depth=self.depth)
        chains = apply_chains(to_uint8(x).repeat(2, 1, 1, 1), draws).to(x.dtype) / 255  # 1
        first, second = chains.chunk(2)
        with route(net, "A"):
            found = attack_mixing(
                net, x, first, y, rng.draw("ascent", sample_start, len(x), self.width),
                steps=self.steps, step_size=self.step_size, tau=self.tau if self.attacker == "fat" else None,
                early_stop=self.early_stop,
            )  # 2, 3  # fmt: skip
        return [found.x, mix(x, second, draws.w[len(x) :].to(x), draws.m[len(x) :].to(x))]  # 4

    def loss(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> Tensor:
        if self.lam == 0:
            return F.cross_entropy(net(x), y)
        x_adv, x_mix = self.views(net, x, y, rng, state)
        if has_batch_norm(net):  # 5
            with route(net, "A"):
                o1 = net(x_adv)
            o2, o0 = net(x_mix), net(x)
        else:
            o1, o2, o0 = forward_views(net, [x_adv, x_mix, x])
        return F.cross_entropy(o0, y) + self.lam * jensen_shannon(o0, o1, o2)  # 6
