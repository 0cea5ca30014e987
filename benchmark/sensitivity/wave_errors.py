"""Which images a network gets wrong under an added wave: the engine of both sensitivity maps, and the released map.

Our own map is `sensitivity.measure`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Literal

import torch
from torch import Tensor, nn

from benchmark.core.devices import on_gpu
from benchmark.core.images import Images
from benchmark.core.rng import key
from benchmark.networks.attacked import attack_mode
from benchmark.networks.classifiers import Classifier, layout
from benchmark.sensitivity.fourier import released_basis, released_map

Signs = Literal["per_channel", "shared"]
BATCH_PIXELS = {"cpu": 2**17, "cuda": 2**22}
"""Pixels of one forward pass: 128 and 4,096 images of 32x32. More no longer fits a processor's last-level cache."""


def sample_signs(n: int, generator: torch.Generator, kind: Signs = "per_channel") -> Tensor:
    """Rademacher signs of one wave for n images: int8 [n,3], +1 or -1; "shared": the same in all three channels."""
    shape = (n, 1 if kind == "shared" else 3)
    bits = torch.randint(2, shape, generator=generator, dtype=torch.int8, device=generator.device)
    return (2 * bits - 1).expand(n, 3)


def batch_of(height: int, width: int, device: torch.device) -> int:
    """Images of one forward pass that suit a device."""
    return max(1, BATCH_PIXELS["cuda" if on_gpu(device) else "cpu"] // (height * width))


@torch.inference_mode()
def wrong(
    net: nn.Module, images: Images, added: Tensor, signs: Tensor, *, clamp: bool = False, batch: int | None = None
) -> Tensor:
    """Which images `net` misclassifies, in evaluation mode, under which wave: bool [1+K,n] on the CPU; row 0: no wave.

    added: waves [K,N,N] at their full amplitude, in units of the pixels in [0,1]. signs: [K,n,3]. clamp: cut image plus
    wave to [0,1]. batch: images of one forward pass. The modes of `net` are left as found.
    """
    device = next(net.parameters()).device
    batch = batch or batch_of(images.x.shape[-2], images.x.shape[-1], device)
    added = torch.cat([torch.zeros_like(added[:1]), added]).to(device)
    signs = torch.cat([torch.zeros_like(signs[:1]), signs]).to(device)
    out = torch.empty(signs.shape[:2], dtype=torch.bool, device=device)
    with attack_mode(net):
        for rows in torch.arange(len(images)).tensor_split(ceil(len(images) / batch)):
            part = slice(int(rows[0]), int(rows[-1]) + 1)
            here = images[part].to(device)
            logits = perturbed(net, here.unit(), clamp)
            together = max(1, batch // len(here))
            for first in range(0, len(added), together):
                some = slice(first, first + together)
                guess = logits(added[some], signs[some, part].float()).argmax(dim=1)
                out[some, part] = guess.view(-1, len(here)) != here.y
    return out.cpu()


def wave_add(x: Tensor, waves: Tensor, signs: Tensor, clamp: bool = False) -> Tensor:
    """Images under many waves, x_i + s_ki b_k, cut to [0,1] or not: x [n,3,N,N], waves [K,N,N], signs [K,n,3]; the
    result, [K n,3,N,N], is wave after wave."""
    seen = (x + signs[..., None, None] * waves[:, None, None]).flatten(0, 1)
    return seen.clamp(0, 1) if clamp else seen


def perturbed(net: nn.Module, x: Tensor, clamp: bool = False) -> Callable[[Tensor, Tensor], Tensor]:
    """A function of waves [K,N,N] and signs [K,n,3]: the logits [K n,classes] of `net` on x + signs waves, x [n,3,N,N].

    A first convolution is linear, conv(x + s w) = conv(x) + s (conv(w) - conv(0)): it is done once for the images, and
    once for each wave in each channel alone, however many the images. Channels-last memory doubles a CPU's speed.
    """
    x = x.contiguous(memory_format=layout(net))
    if clamp or not (isinstance(net, Classifier) and isinstance(net.stem, nn.Conv2d)):

        def plain(added: Tensor, signs: Tensor) -> Tensor:
            out: Tensor = net(wave_add(x, added, signs, clamp))
            return out

        return plain

    clean, zero = net.embed(x), net.embed(torch.zeros_like(x[:1]))
    features, height, width = clean.shape[1:]
    one_channel = torch.eye(3, device=x.device)[:, :, None, None]

    def flat(z: Tensor) -> Tensor:
        return z.permute(0, 2, 3, 1).flatten(1)

    def linear(added: Tensor, signs: Tensor) -> Tensor:
        alone = (added[:, None, None] * one_channel).flatten(0, 1).contiguous(memory_format=layout(net))
        response = flat(net.embed(alone) - zero).view(len(added), 3, -1)
        z = torch.baddbmm(flat(clean).expand(len(added), -1, -1), signs, response)
        out: Tensor = net.head(net.trunk(z.view(-1, height, width, features).permute(0, 3, 1, 2)))
        return out

    return linear


@dataclass(frozen=True)
class Released:
    """What SADA's released script computes. errors: percent, by basis [K]; heatmap: percent [N-1,N-1], zero centred."""

    errors: Tensor
    heatmap: Tensor


def released_waves(size: int, epsilon: Tensor | float = 30.0) -> Tensor:
    """The waves [K,size,size] that the released code adds: L2 norm r = max(8, epsilon ||b||), a floor and no bound.

    epsilon: one for all, or [K]. At 32x32 no basis has a norm above 0.0442, so r is 8 for every epsilon up to 181, the
    released 30 included.
    """
    basis = released_basis(size)
    norm: Tensor = torch.linalg.vector_norm(basis, dim=(1, 2), keepdim=True)
    return basis * (torch.as_tensor(epsilon).view(-1, 1, 1) * norm).clamp(min=8) / norm


def released_r_factor(x: Tensor) -> Tensor:
    """Ten times the mean Fourier amplitude of images x [B,3,N,N] in [0,1], N even, basis by basis: [N (N/2+1)].

    The released script computes it, calls its map enhanced by it, and then does not pass it on. Of three channels it
    reads the last, because it shifts the channels along with the frequencies; so does this function.
    """
    size = x.shape[-1]
    amplitude: Tensor = torch.fft.fft2(x[:, 2]).abs().mean(dim=0)
    return 10 * amplitude.roll(size // 2, 0)[:, : size // 2 + 1].flatten()


def reference(
    net: nn.Module,
    images: Images,
    *,
    seed: int = 0,
    perturb_radii: float = 30.0,
    r_factor: Tensor | None = None,
    signs: Tensor | None = None,
    batch_size: int = 128,
    drop_last: bool = True,
) -> Released:
    """The map as SADA's released code makes it (Fourier_basis_perturb.py): every basis, mirror images measured twice.

    r_factor [K]: multiplies perturb_radii, basis by basis (see `released_r_factor`); None, as in the released call.
    signs [K,n,3]: +1 or -1; drawn from `seed` where None. drop_last: leave out the images after the last full batch, as
    its loader does. Raises ValueError where none is left.
    """
    n = len(images) // batch_size * batch_size if drop_last else len(images)
    if not n:
        raise ValueError(f"{len(images)} images are fewer than one batch of {batch_size}, and drop_last drops it")
    size = images.x.shape[-1]
    added = released_waves(size, perturb_radii * (1.0 if r_factor is None else r_factor))
    if signs is None:
        generators = (torch.Generator().manual_seed(key(seed, "reference", k)) for k in range(len(added)))
        signs = torch.stack([sample_signs(n, generator) for generator in generators])
    errors = 100 * wrong(net, images[:n], added, signs[:, :n])[1:].double().mean(dim=1).float()
    return Released(errors, released_map(errors, size))
