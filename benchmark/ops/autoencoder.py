"""The Wasserstein autoencoder of M-ADA (Qiao et al., CVPR 2020; Tolstikhin et al., ICLR 2018, algorithm 1).

A deterministic encoder Q, a decoder G with sigmoid outputs, and a discriminator D between codes z ~ N(0, I) and
encoded images Q(x). With lp = log N(z; 0, I), added to both logits in the released code:

    L_D = w [BCE(D(z) + lp, 1) + BCE(D(Q(x)) + lp, 0)]              trains D
    L_E = sum BCE(G(Q(x)), x) + w BCE(D(Q(x)) + lp, 1)              trains Q and G

BCE is a mean over the batch, the reconstruction a sum over batch and pixels. In d dimensions lp is about -1.4 d. So D's
logits start far in the negative (-28 at d = 20), and the second term of L_D is near 0 until D has grown by as much.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.core.capture import Loop
from benchmark.core.devices import on_gpu
from benchmark.core.images import Images
from benchmark.core.settings import frozen
from benchmark.core.stream import take
from benchmark.core.work import Work

FLOOR = 1e-12
"""Least probability under a logarithm of the reconstruction loss."""


@frozen()
class WaeSettings:
    """Settings of the autoencoder, which a method that trains one takes over as its own fields."""

    batch: PositiveInt = 32
    """Images of one batch; an incomplete last one is dropped."""
    wae_epochs: PositiveInt = 20
    """Epochs of each autoencoder."""
    wae_hidden: PositiveInt = 400
    """Width of its two hidden layers."""
    wae_code: PositiveInt = 20
    """Dimensions of its code."""
    wae_critic: PositiveInt = 128
    """Width of the hidden layer of its discriminator."""
    wae_lr: PositiveFloat = 1e-3
    """Learning rate of Adam, for it and for its discriminator."""
    wae_weight: NonNegativeFloat = 100.0
    """w: weight of the adversarial terms."""
    wae_grad: Literal["standard", "literal"] = "standard"
    """standard: D steps on L_D of detached codes, then Q and G step on L_E of the new D. literal: as in the released
    code (which fails at this line), Q also receives the gradient of L_D, at the same D, before either step."""
    wae_prior: Literal["both", "sampled"] = "both"
    """Logits that log N(z; 0, I) of the sampled code z is added to: both, as released, or only its own."""


class Wae(nn.Module):
    """pixels-hidden-code and code-hidden-pixels, ReLU between and a sigmoid at the end; on any images [B,C,H,W]."""

    def __init__(self, pixels: int, hidden: int, code: int):
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(pixels, hidden), nn.ReLU(), nn.Linear(hidden, code))
        self.decoder = nn.Sequential(nn.Linear(code, hidden), nn.ReLU(), nn.Linear(hidden, pixels), nn.Sigmoid())

    def decode(self, code: Tensor, like: Tensor) -> Tensor:
        """Images in (0,1) of the shape of `like`, from codes [B,d]."""
        out: Tensor = self.decoder(code)
        return out.reshape(like.shape)

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encoder(x), x)


def restore(weights: Mapping[str, Tensor]) -> Wae:
    """The autoencoder with these weights, shared and frozen; its sizes are read from them."""
    (hidden, pixels), code = weights["encoder.1.weight"].shape, len(weights["encoder.3.weight"])
    with torch.device("meta"):
        wae = Wae(pixels, hidden, code)
    wae.load_state_dict(weights, assign=True)
    return wae.requires_grad_(False)


def log_density(z: Tensor) -> Tensor:
    """log N(z; 0, I) of each row of z [B,d]: [B]."""
    return -0.5 * (z.square().sum(dim=1) + z.shape[1] * math.log(2 * math.pi))


def adversarial_loss(critic: nn.Module, code: Tensor, shift: Tensor | float, target: float) -> Tensor:
    """BCE(D(code) + shift, target), mean over the batch. code: [B,d]; shift: added to the logits, [B] or a number."""
    logits = critic(code).squeeze(1) + shift
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


def reconstruction_loss(probability: Tensor, x: Tensor) -> Tensor:
    """BCE(probability, x) summed over batch and pixels.

    x may lie outside [0,1], as unclipped adversarial images do. The formula is then continued as it stands, which
    torch's own function refuses; the floor keeps it bounded, and saturated pixels have no gradient.
    """
    log_p, log_q = probability.clamp_min(FLOOR).log(), (1 - probability).clamp_min(FLOOR).log()
    return -(x * log_p + (1 - x) * log_q).sum()


def update(
    nets: tuple[Wae, nn.Module],
    optimizers: tuple[torch.optim.Optimizer, torch.optim.Optimizer],
    x: Tensor,
    z: Tensor,
    settings: WaeSettings,
) -> None:
    """One training step on images x [B,C,H,W] and prior codes z [B,d]. nets: the autoencoder and D; optimizers: theirs.

    `settings.wae_grad` decides what trains the encoder: in `literal`, L_D reaches it too and opposes its part of L_E.
    """
    literal, (wae, critic), (of_wae, of_critic) = settings.wae_grad == "literal", nets, optimizers
    of_wae.zero_grad()
    of_critic.zero_grad()
    lp = log_density(z)
    shift = lp if settings.wae_prior == "both" else 0.0
    code = wae.encoder(x)
    seen = code if literal else code.detach()
    real, fake = adversarial_loss(critic, z, lp, 1.0), adversarial_loss(critic, seen, shift, 0.0)
    reached = [*critic.parameters(), *(wae.encoder.parameters() if literal else ())]
    (settings.wae_weight * (real + fake)).backward(inputs=reached, retain_graph=literal)
    if not literal:
        of_critic.step()
    fooled = adversarial_loss(critic, code, shift, 1.0)
    loss = reconstruction_loss(wae.decode(code, x), x) + settings.wae_weight * fooled
    loss.backward(inputs=list(wae.parameters()))
    if literal:
        of_critic.step()
    of_wae.step()


def sample_batches(images: int, batches: int, size: int, generator: torch.Generator) -> Tensor:
    """Positions below `images` in random order without repetition, int64 [batches,size], on the generator's device."""
    order = torch.randperm(images, generator=generator, device=generator.device)
    return order[: batches * size].view(batches, size)


@dataclass(frozen=True)
class EpochDraws:
    """order: image positions, int64 [batches,B]. z: codes from the prior, float32 [batches,B,d]."""

    order: Tensor
    z: Tensor


def sample_epoch(images: int, settings: WaeSettings, generator: torch.Generator) -> EpochDraws:
    """One epoch over `images` positions in full batches; the incomplete last one is dropped."""
    order = sample_batches(images, images // settings.batch, settings.batch, generator)
    return EpochDraws(order, torch.randn(*order.shape, settings.wae_code, generator=generator, device=order.device))


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Draws torch's default for linear layers, U(-1/sqrt(fan_in), 1/sqrt(fan_in)) for weights and biases, in place."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            bound = layer.in_features**-0.5
            for parameter in layer.parameters():
                drawn = torch.rand(parameter.shape, generator=generator, device=generator.device)
                parameter.data.copy_(drawn.mul_(2).sub_(1).mul_(bound))


def train(images: Images, settings: WaeSettings, generator: torch.Generator) -> dict[str, Tensor]:
    """Weights of an autoencoder trained from scratch on `images`, for `restore`.

    Raises ValueError where there is no full batch.
    """
    if len(images) < settings.batch:
        raise ValueError(f"the autoencoder needs a full batch of {settings.batch} images, not {len(images)}")
    with torch.device("meta"):
        wae = Wae(images.x[0].numel(), settings.wae_hidden, settings.wae_code)
        critic = nn.Sequential(
            nn.Linear(settings.wae_code, settings.wae_critic), nn.ReLU(), nn.Linear(settings.wae_critic, 1)
        )
    for module in (wae, critic):
        initialise(module.to_empty(device=generator.device), generator)
    gpu = on_gpu(generator.device)
    optimizers = (
        torch.optim.Adam(wae.parameters(), settings.wae_lr, fused=True, capturable=gpu),
        torch.optim.Adam(critic.parameters(), settings.wae_lr, fused=True, capturable=gpu),
    )
    step = Loop(lambda x, z: update((wae, critic), optimizers, x, z, settings))
    for _ in range(settings.wae_epochs):
        draws = sample_epoch(len(images), settings, generator)
        for index, z in zip(draws.order, draws.z, strict=True):
            step(take(images, index, generator.device).unit(), z)
    return {name: weight.detach() for name, weight in wae.state_dict().items()}


def work_of_phases(
    settings: WaeSettings, adv_steps: int, encoded: bool, most: int, interval: int, steps: int, images: int
) -> Work:
    """What M-ADA does in a run: at most so many phases, one every `interval` steps, which attack ever fewer images.

    encoded: whether there is an autoencoder, trained on the source first and then on what each phase but the last made.
    """
    full, phases = images // settings.batch, min(most, steps // interval)
    made = [(full - 1) // (c + 1) * settings.batch for c in range(phases)]
    epochs = settings.wae_epochs if encoded else 0
    share = 1 - interval / steps if phases else 0.0  # of the steps, with a second loss: a forward, and two backwards
    return Work(
        per_image=1 + 5 / 3 * share,
        attacked=sum(made) * (adv_steps + 1 / 3),
        encoded=epochs * full * settings.batch,
        encoded_later=epochs * sum(made[: most - 1]),
    )
