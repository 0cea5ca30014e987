"""python -m benchmark.compare_map --data-dir DIR: maps of ERM on MNIST of our own beside the one published with SADA.

Trains the digits ConvNet as SADA's released code trains the network of its map, computes two maps by the released rule
on the test split, and prints their statistics beside the published map's. "as called" has waves of one norm, 8, as the
released script's call leaves it; in "enhanced" they grow with the images' mean amplitude, which the script computes and
does not pass on.
"""

from dataclasses import dataclass
from math import cos, pi
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import networks
from benchmark.evaluate import accuracy
from benchmark.fourier import radial_profile, radius, view31
from benchmark.rng import key
from benchmark.spec import Images
from benchmark.wave_errors import reference, released_r_factor


@dataclass(frozen=True)
class Args:
    data_dir: Path
    """The folder with the IDX files in MNIST/raw, and with the published map as sada_sample_map.npy."""
    epochs: int = 50
    """The released code's 50; the cosine schedule ends with the last one."""
    images: int = 10_000
    """How many test images, from the first, the map is computed on; an incomplete last batch of 128 is dropped."""
    seed: int = 0
    out: Path | None = None
    """Where to write our maps, .npy [2,31,31]: as called, enhanced."""


def grey(data_dir: Path, train: bool) -> tuple[Tensor, Tensor]:
    """MNIST as it is stored, in IDX files: uint8 [N,28,28] and int64 [N]."""
    base = data_dir / "MNIST" / "raw" / ("train" if train else "t10k")
    x = np.fromfile(f"{base}-images-idx3-ubyte", np.uint8, offset=16)
    y = np.fromfile(f"{base}-labels-idx1-ubyte", np.uint8, offset=8)
    return torch.from_numpy(x).view(-1, 28, 28), torch.from_numpy(y).long()


def resized(x: Tensor) -> Tensor:
    """uint8 [N,28,28] to uint8 [N,1,32,32], by Pillow's bilinear filter, as torchvision's Resize does it."""
    rows = [np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR)) for image in x.numpy()]
    return torch.from_numpy(np.stack(rows))[:, None]


def noisy(x: Tensor, generator: torch.Generator) -> Tensor:
    """Adds Gaussian noise of a standard deviation drawn per image from [0, 2.55] grey levels; uint8 in and out."""
    sigma = 2.55 * torch.rand(len(x), 1, 1, 1, generator=generator)
    noise = torch.randn(x.shape, generator=generator)
    return (x + sigma * noise).round_().clamp_(0, 255).byte()


def train(data_dir: Path, epochs: int, seed: int, device: torch.device, console: Console) -> nn.Module:
    """The released recipe: SGD 0.01, momentum 0.9, weight decay 5e-4, cosine by epoch, batches of 256, pixels in [0,1]
    without normalisation; keeps the first of the epochs that are best on the test split, there padded, not resized."""
    x, y = grey(data_dir, train=True)
    x = resized(x)
    seen, labels = grey(data_dir, train=False)
    test = Images(F.pad(seen, (2, 2, 2, 2))[:, None].repeat(1, 3, 1, 1), labels).to(device)
    net = networks.build("digits_convnet", 10, seed)
    net.mean.zero_()
    net.std.fill_(1.0)
    net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    generator = torch.Generator().manual_seed(key(seed, "compare"))
    best, kept = -1.0, {}
    for epoch in range(epochs):
        optimizer.param_groups[0]["lr"] = 0.005 * (1 + cos(pi * epoch / epochs))
        net.train()
        order = torch.randperm(len(x), generator=generator)
        batches = torch.tensor_split(order[: len(x) // 256 * 256], len(x) // 256)
        for rows in track(batches, f"epoch {epoch + 1} of {epochs}", console=console, transient=True):
            batch = Images(noisy(x[rows], generator).repeat(1, 3, 1, 1), y[rows]).to(device)
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(net(batch.unit()), batch.y).backward()
            optimizer.step()
        score = accuracy(net, test)
        console.print(f"epoch {epoch + 1} of {epochs}: test accuracy {score:.2f} %")
        if score > best:
            best, kept = score, {name: value.clone() for name, value in net.state_dict().items()}
    net.load_state_dict(kept)
    return net


def compare(published: Tensor, ours: dict[str, Tensor]) -> Table:
    """Maps [31,31] of error rates in [0,1], zero in the centre, and what each of ours has more than the published."""
    middle, at = len(published) // 2, view31(radius(len(published) + 1))

    def statistics(found: Tensor) -> dict[str, float]:
        rows = {"mean": found.mean(), "min": found.min(), "max": found.max(), "centre": found[middle, middle]}
        rings = {f"radius {r}": value for r, value in enumerate(radial_profile(found, at))}
        return {name: float(value) for name, value in (rows | rings).items()}

    table = Table("error rate", "published", title="Sensitivity of ERM on MNIST, released rule")
    for name in ours:
        table.add_column(name)
        table.add_column("difference")
    mine = [statistics(found) for found in ours.values()]
    for name, theirs in statistics(published).items():
        table.add_row(
            name,
            f"{theirs:.3f}",
            *(cell for row in mine for cell in (f"{row[name]:.3f}", f"{row[name] - theirs:+.3f}")),
        )
    table.add_section()
    gaps = [(found - published).abs() for found in ours.values()]
    agreement = [torch.corrcoef(torch.stack([found.flatten(), published.flatten()]))[0, 1] for found in ours.values()]
    for name, values in {
        "mean |difference|": [gap.mean() for gap in gaps],
        "max |difference|": [gap.max() for gap in gaps],
        "correlation": agreement,
    }.items():
        table.add_row(name, "", *(cell for value in values for cell in ("", f"{value:.3f}")))
    return table


def main(args: Args) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    console = Console()
    net = train(args.data_dir, args.epochs, args.seed, device, console)
    x, y = (part[: args.images] for part in grey(args.data_dir, train=False))
    images = Images(resized(x).repeat(1, 3, 1, 1), y)
    console.print(f"clean accuracy on the {len(images)} images of the maps: {accuracy(net, images.to(device)):.2f} %")
    factors = {"as called": None, "enhanced": released_r_factor(images.unit())}
    ours = {
        name: reference(net, images, seed=args.seed, r_factor=factor).heatmap / 100 for name, factor in factors.items()
    }
    if args.out:
        np.save(args.out, torch.stack(list(ours.values())).numpy(), allow_pickle=False)
    published = torch.from_numpy(np.load(args.data_dir / "sada_sample_map.npy", allow_pickle=False))
    console.print(compare(published, ours))


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
