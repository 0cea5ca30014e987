"""The attack of SADA (Zhang et al., AAAI 2023): adversarial ascent on the Fourier amplitude of images, without state.

Images are [B,C,H,W] for one call, or [V,B,C,H,W] for V calls in one network pass. Each of the V keeps its own
normalisation, brightness and stop, so the result is that of V separate calls.

The whole spectrum is kept, although half would do while it stays Hermitian. On black backgrounds the sign of a gradient
is round-off, so mirror frequencies of the released code diverge, and half a spectrum cannot show that. Half would save
2 % of a digits network's pass.
"""

import math
import warnings
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.core.devices import on_gpu
from benchmark.core.settings import frozen
from benchmark.core.timing import span
from benchmark.networks.attacked import attack_mode
from benchmark.ops.kernels.spectrum_step import Magnitude, Norm, forms, to_amplitude

DC_SPAN, BRIGHTNESS_SPAN = 4.0, 0.6  # constants of the released code: DC times 1 + U[0,4), image times 1 + U[0,0.6)
DEFAULT_EPSILON = 0.2

Trace: TypeAlias = dict[str, list[Tensor]]
"""What attack_spectrum saw, for tests and figures. One entry a pass: logits [N,K], and wrong (prediction is not the
label) and updated, bool [(V,)B]; one an update: gradient, like x; one a pass and one more for the result, before its
brightness: amplitude and image, like x. Where the stop is not looked at (see stop_is_free), passes after it repeat its
values."""


@frozen()
class AmplitudeAttack:
    """Settings of attack_spectrum. The names of the released README come first; defaults are what its code runs."""

    epsilon: Annotated[float, Field(ge=0, le=1)] = DEFAULT_EPSILON
    """Relative bound or spread of `uniform`, `gaussian` and `project`; without these nothing reads it (as released)."""
    step_size: NonNegativeFloat = 0.08
    """One step multiplies an amplitude by 1 + step_size * w or 1 - step_size * w."""
    num_steps: NonNegativeInt = 5
    tau: NonNegativeInt = 1
    """An image's budget of passes in which the network is wrong about it."""
    random_init: bool = True
    randominit_type: Literal["normal", "uniform", "gaussian"] = "normal"
    """normal: the DC bin of each channel times 1 + U[0,4), no normal law in spite of the name (reference). uniform,
    gaussian: every bin times 1 + U(-epsilon, epsilon) or 1 + epsilon N(0,1), which breaks Hermitian symmetry."""
    criterion: Literal["ce", "kl"] = "ce"
    """What is ascended. kl: KL(p of the attacked image || p now); the released flag crashes, this meaning is ours."""
    direction: Literal["neg", "pos"] = "neg"
    """neg: ascent. pos: descent, the released code's inverse attack."""
    early_stop: Literal["reference", "per_sample"] = "reference"
    """reference: a batch stops when every budget is spent, and until then all its images go on. per_sample: an image
    whose budget is spent keeps its amplitudes; its pixels too, unless batch_max rescales the batch."""
    recon_norm: Norm = "batch_max"
    """What a reconstruction is divided by: the largest value of the batch (reference), of the image, or nothing."""
    magnitude: Magnitude = "abs"
    """How the complex inverse transform becomes an image: folded (reference), or its real part, negatives clamped."""
    project: bool = False
    """Keeps each amplitude within 1 +- epsilon of where it was, the DC scale of `normal` counted in (not released)."""
    brightness: Literal["reference", "per_image", "off"] = "reference"
    """The last factor, 1 + U[0,0.6): one for each call (reference), one for each image, or none."""

    def __post_init__(self) -> None:
        read = self.project or (self.random_init and self.randominit_type != "normal")
        if not math.isclose(self.epsilon, DEFAULT_EPSILON) and not read:
            warnings.warn(
                f"epsilon={self.epsilon} has no effect, as in the released code: "
                "it is read by project=True and by randominit_type 'uniform' or 'gaussian' only",
                stacklevel=3,
            )


@dataclass(frozen=True)
class Draws:
    """All random numbers of one call or of V calls; None where the settings draw none.

    init: normal: u in [0,1), [(V,)B,C]; uniform, gaussian: relative change of each bin, [(V,)B,C,H,W].
    brightness: factors >= 1, [(V,)1] for one a call or [(V,)B] for one an image.
    """

    init: Tensor | None
    brightness: Tensor | None


def sample_draws(shape: torch.Size, generator: torch.Generator, config: AmplitudeAttack) -> Draws:
    """Draws for images of this shape, on the generator's device."""
    on = generator.device
    init = brightness = None
    if config.random_init:
        if config.randominit_type == "normal":
            init = torch.rand(shape[:-2], generator=generator, device=on)
        elif config.randominit_type == "uniform":
            init = config.epsilon * (2 * torch.rand(shape, generator=generator, device=on) - 1)
        else:
            init = config.epsilon * torch.randn(shape, generator=generator, device=on)
    if config.brightness != "off":
        size = (*shape[:-4], shape[-4] if config.brightness == "per_image" else 1)
        brightness = 1 + BRIGHTNESS_SPAN * torch.rand(size, generator=generator, device=on)
    return Draws(init, brightness)


def decompose(x: Tensor) -> tuple[Tensor, Tensor]:
    """Amplitude |fft2(x)| and unit phasors exp(i angle), both [...,H,W], unshifted (DC at [0,0]), not normalised."""
    spectrum = torch.fft.fft2(x)
    amplitude = spectrum.abs()
    return amplitude, torch.polar(torch.ones_like(amplitude), spectrum.angle())


def initialise(amplitude: Tensor, init: Tensor | None, kind: str) -> Tensor:
    """Random start of the ascent: `amplitude` with `init` (see Draws) applied as `randominit_type` says."""
    if init is None:
        return amplitude
    init = init.to(amplitude)
    if kind == "normal":
        start = amplitude.clone()
        start[..., 0, 0] *= 1 + DC_SPAN * init
        return start
    return (amplitude + amplitude * init).clamp(min=0)


def recon(amplitude: Tensor, phasor: Tensor, norm: Norm = "batch_max", magnitude: Magnitude = "abs") -> Tensor:
    """Images in [0,1] from amplitudes and unit phasors; differentiable, through the maximum too."""
    _, to_image = forms(amplitude)
    return to_image(torch.fft.ifft2(amplitude * phasor), norm, magnitude)


def stop_is_free(device: torch.device) -> bool:
    """Whether looking at a result costs no synchronisation, so that leaving the loop early pays."""
    return not on_gpu(device)


@span("attack")
def attack_spectrum(
    net: nn.Module, x: Tensor, y: Tensor, draws: Draws, config: AmplitudeAttack,
    weight: Tensor | None = None, *, trace: Trace | None = None,
) -> Tensor:  # fmt: skip
    """Images of x's shape that the network finds harder, in [0,1], without gradient.

    x: float [B,C,H,W] or [V,B,C,H,W] in [0,1]. y: int64 [B]. weight: step of each frequency, >= 0, [H,W] in the layout
    of fft2 and equal at mirror frequencies (sensitivity.spectral_weights makes sure); None is ones. The network is
    attacked in eval mode and left in the mode it was found in. Phases are kept, sign(0) is 0, amplitudes stay >= 0.
    Cost: num_steps forward and backward passes; kl: one forward more.
    """
    amplitude, phasor = decompose(x.detach())
    start = initialise(amplitude, draws.init, config.randominit_type)
    centre = start if config.randominit_type == "normal" else amplitude
    bounds = (centre * (1 - config.epsilon), centre * (1 + config.epsilon)) if config.project else None
    amplitude = start.clamp(*bounds) if bounds else start
    step = config.step_size if config.direction == "neg" else -config.step_size
    w = None if weight is None else weight.to(amplitude)
    spectrum = amplitude * phasor
    left = torch.full(x.shape[:-3], config.tau, device=x.device)
    labels = y.expand(left.shape).flatten()
    (ascend, to_image), may_stop = forms(x), stop_is_free(x.device)
    with torch.enable_grad(), attack_mode(net):
        target = net(x.flatten(0, -4)).softmax(dim=1).detach() if config.criterion == "kl" else None
        for _ in range(config.num_steps):
            spectrum = spectrum.detach().requires_grad_()
            image = to_image(torch.fft.ifft2(spectrum), config.recon_norm, config.magnitude)
            logits = net(image.flatten(0, -4))
            wrong = (logits.argmax(dim=1) != labels).view(left.shape)
            left = left - wrong.long()
            moving = left > 0
            if config.early_stop == "reference":
                moving = moving.any(dim=-1, keepdim=True).expand(left.shape)
            _note(trace, amplitude=amplitude, image=image, logits=logits, wrong=wrong, updated=moving)
            if may_stop and not moving.any():
                break
            objective = _objective(logits, labels, target) / len(y)  # a mean for each call
            (gradient,) = torch.autograd.grad(objective, spectrum)
            if trace is not None:
                _note(trace, gradient=to_amplitude(gradient, phasor))
            amplitude, spectrum = ascend(amplitude, phasor, gradient, w, moving, step, bounds)
        z = torch.fft.ifft2(spectrum.detach())
    if trace is not None:
        _note(trace, amplitude=amplitude, image=to_image(z, config.recon_norm, config.magnitude))
    return to_image(z, config.recon_norm, config.magnitude, draws.brightness)


def _objective(logits: Tensor, labels: Tensor, target: Tensor | None) -> Tensor:
    """Summed cross-entropy, or KL(target || softmax) where there is a target."""
    if target is None:
        return F.cross_entropy(logits, labels, reduction="sum")
    return F.kl_div(logits.log_softmax(dim=1), target, reduction="sum")


def _note(trace: Trace | None, **seen: Tensor) -> None:
    if trace is not None:
        for name, value in seen.items():
            trace.setdefault(name, []).append(value.detach())
