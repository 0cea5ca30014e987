"""Gradient ascent in pixel space, shared by GUD (Volpi et al., NeurIPS 2018), M-ADA (Qiao et al., CVPR 2020) and ME-ADA
(Zhao et al., NeurIPS 2020).

For an image x with label y, features z(x), in M-ADA an autoencoder V, and in ME-ADA the entropy H of the prediction:

    J(x') = CE(f(x'), y) + entropy H(softmax f(x')) + beta mean (V(x) - V(x'))^2 - gamma mean (z(x) - z(x'))^2
    x' <- x' + eta/B dJ/dx'

The means run over the elements of one image. B is the number of images under one batch mean in the released codes.
Their losses are batch means, so the step of every image is eta/B. Only that factor couples the images of a batch, as
long as the network treats each on its own (eval mode). So images can be attacked together in any number.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.core.devices import on_gpu
from benchmark.core.images import Images
from benchmark.core.stream import chunks
from benchmark.core.timing import span
from benchmark.networks.attacked import attack_mode

CHUNK_PIXELS, GPU_CHUNK_PIXELS = 256 * 32 * 32, 4096 * 32 * 32
"""Pixels attacked together, at least 32 images: 256 images of 32x32, and 4,096 on a GPU, which has to be filled. They
bound memory and change no result."""


@dataclass(frozen=True)
class PixelAttack:
    """Settings of attack_pixels. batch: B of the module's formula; 1 makes eta the step of each image's own objective.
    clip: whether images are cut to [0,1] after every step; the released codes of GUD and M-ADA let them leave it.
    entropy: weight of H in nats. clip_end: whether images are cut once, after the last step (ME-ADA)."""

    steps: int
    eta: float
    gamma: float
    beta: float
    batch: int
    clip: bool
    entropy: float = 0.0
    clip_end: bool = False

    @property
    def passes(self) -> float:
        """Forward-backward passes for each image: one a step, and a forward of the unchanged image."""
        return self.steps + 1 / 3


@dataclass(frozen=True)
class ObjectiveTerms:
    """The terms of J for each image, unweighted, each [B]."""

    ce: Tensor
    relaxation: Tensor
    """Mean squared distance of the reconstructions; zero without an autoencoder."""
    constraint: Tensor
    """Mean squared distance of the features."""
    entropy: Tensor
    """Of the predicted distribution, in nats: from 0 to log K."""


@dataclass(frozen=True)
class Anchor:
    """What the terms are measured against: the network, the labels [B], and features [B,D] and reconstruction [B,C,H,W]
    of the unchanged images.

    Both references are computed once and without a graph. The released M-ADA keeps their graph and fails at its second
    step; the gradient with respect to x' is the same.
    """

    net: nn.Module
    y: Tensor
    features: Tensor
    wae: nn.Module | None
    reconstruction: Tensor | None

    @classmethod
    @torch.no_grad()
    def at(cls, net: nn.Module, x: Tensor, y: Tensor, wae: nn.Module | None = None) -> "Anchor":
        """The anchor of images x [B,C,H,W] with labels y [B]."""
        return cls(net, y, net(x, features=True)[1], wae, None if wae is None else wae(x))

    def terms(self, x: Tensor) -> ObjectiveTerms:
        """The terms of J at x [B,C,H,W]."""
        logits, features = self.net(x, features=True)
        constraint = (features - self.features).square().flatten(1).mean(dim=1)
        if self.wae is None or self.reconstruction is None:
            relaxation = torch.zeros_like(constraint)
        else:
            relaxation = (self.wae(x) - self.reconstruction).square().flatten(1).mean(dim=1)
        log_p = logits.log_softmax(dim=1)
        entropy = -(log_p.exp() * log_p).sum(dim=1)
        return ObjectiveTerms(F.cross_entropy(logits, self.y, reduction="none"), relaxation, constraint, entropy)


@torch.enable_grad()
def ascend_pixels(anchor: Anchor, x: Tensor, by: PixelAttack) -> Tensor:
    """x [B,C,H,W] after `by.steps` steps, detached; x itself is not changed. The caller sets the network's mode."""
    for _ in range(by.steps):
        x = x.detach().requires_grad_()
        terms = anchor.terms(x)
        each = terms.ce + by.beta * terms.relaxation - by.gamma * terms.constraint
        if by.entropy:  # without it, the arithmetic of GUD and M-ADA to the last bit
            each = each + by.entropy * terms.entropy
        objective = each.sum() / by.batch
        x = torch.add(x.detach(), torch.autograd.grad(objective, x)[0], alpha=by.eta)
        if by.clip:
            x = x.clamp(0, 1)
    return x.detach().clamp(0, 1) if by.clip_end else x.detach()


@span("attack")
def attack_pixels(net: nn.Module, images: Images, by: PixelAttack, wae: nn.Module | None = None) -> Images:
    """Adversarial versions of `images`, float32 in units of 1 and unbounded unless cut, with the same labels.

    They lie where `images` do. The network is in eval mode meanwhile, and its parameters gather no gradient. wae: maps
    [B,C,H,W] to its reconstruction; needed where beta is not 0.
    """
    device, done = next(net.parameters()).device, []
    chunk = max(32, (GPU_CHUNK_PIXELS if on_gpu(device) else CHUNK_PIXELS) // images.x[0, 0].numel())
    with attack_mode(net):
        for part in chunks(images, chunk, device):
            x = part.unit()
            done.append(ascend_pixels(Anchor.at(net, x, part.y, wae), x, by).to(images.x.device))
    return Images(torch.cat(done), images.y)
