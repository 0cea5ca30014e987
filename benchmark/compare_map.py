"""python -m benchmark.compare_map: our sensitivity maps of ERM on MNIST next to the one published with SADA.

It trains the digits ConvNet as SADA's released code trains the network of its map. It computes two maps by the released
rule on the test split and prints their statistics next to the published map's. "as called" has waves of one norm, 8, as
the released script's call leaves it. In "enhanced" the norm grows with the images' mean amplitude: the script computes
this and does not pass it on.
"""

import io
import json
import tokenize
from collections.abc import Sequence
from datetime import UTC, datetime
from math import cos, pi
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import flags, networks
from benchmark.core.durable import write_atomically
from benchmark.core.errors import UsageError, describe
from benchmark.core.images import Images
from benchmark.core.regular_files import content
from benchmark.core.rng import key
from benchmark.data import readers
from benchmark.report.figures.sensitivity_maps import side_by_side
from benchmark.runs import gpus, machine
from benchmark.runs.command_line import MOST_SEED, arguments, in_range, program, quoted
from benchmark.runs.ending import explained, leave
from benchmark.runs.store import prove_writable
from benchmark.sensitivity.fourier import radial_profile, radius, view31
from benchmark.sensitivity.wave_errors import reference, released_r_factor
from benchmark.training.artifacts import npy_bytes
from benchmark.training.evaluate import accuracy

Args = flags.CompareMap
LARGEST_MAP = 2**20
"""Bytes of the published map's file."""
BATCH = 128
"""Images that the released rule takes at a time; it leaves out what fills no batch."""


def grey(data_dir: Path, train: bool) -> tuple[Tensor, Tensor]:
    """MNIST as it is stored, in IDX files: uint8 [N,28,28] and int64 [N]. Raises UsageError where one is missing or
    damaged."""
    part, n = ("train", 60_000) if train else ("t10k", 10_000)
    found = []
    for kind, shape, top in (("images-idx3", (n, 28, 28), 255), ("labels-idx1", (n,), 9)):
        path = data_dir / f"MNIST/raw/{part}-{kind}-ubyte"
        with readers.decoding(path, f"`python -m benchmark.data fetch digits --data-dir {quoted(str(data_dir))}`"):
            found.append(torch.from_numpy(readers.read_idx(path, shape, top)))
    return found[0], found[1].long()


def published_map(path: Path) -> Tensor:
    """The map [31,31] of error rates in [0,1]. Raises UsageError where it is missing or none."""
    what = "the published map, floats [31,31] in [0,1], frequency zero in the centre"
    if not path.exists():
        raise UsageError(f"{path} is missing: {what}, from the authors' repository; docs/sensitivity.md")
    try:
        stored = content(path, LARGEST_MAP)
        if not stored.startswith(b"\x93NUMPY"):
            raise ValueError("it is no file of numpy.save")
        found = np.load(io.BytesIO(stored), allow_pickle=False)
        if found.shape != (31, 31) or found.dtype.kind != "f" or not ((found >= 0) & (found <= 1)).all():
            values = f" from {found.min()} to {found.max()}" if found.size and found.dtype.kind == "f" else ""
            raise ValueError(f"it holds {found.dtype} {list(found.shape)}{values}")
    except (OSError, ValueError, EOFError, SyntaxError, TypeError, tokenize.TokenError) as problem:
        raise UsageError(f"{path} is not {what}: {problem}") from problem
    return torch.from_numpy(found.astype(np.float32))


def resized(x: Tensor) -> Tensor:
    """uint8 [N,28,28] to uint8 [N,1,32,32], by Pillow's bilinear filter, as torchvision's Resize does it."""
    rows = [np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR)) for image in x.numpy()]
    return torch.from_numpy(np.stack(rows))[:, None]


def noisy(x: Tensor, generator: torch.Generator) -> Tensor:
    """Adds Gaussian noise of a standard deviation drawn per image from [0, 2.55] grey levels; uint8 in and out."""
    sigma = 2.55 * torch.rand(len(x), 1, 1, 1, generator=generator)
    noise = torch.randn(x.shape, generator=generator)
    return (x + sigma * noise).round_().clamp_(0, 255).byte()


def train(
    data_dir: Path, epochs: int, seed: int, device: torch.device, console: Console
) -> tuple[nn.Module, list[float]]:
    """The released recipe: SGD 0.01, momentum 0.9, weight decay 5e-4, cosine by epoch, batches of 256, pixels in [0,1]
    without normalisation; keeps the first of the epochs that are best on the test split, there padded, not resized.

    Returns the network and each epoch's accuracy on the test split in percent.
    """
    x, y = grey(data_dir, train=True)
    x = resized(x)
    seen, labels = grey(data_dir, train=False)
    test = Images(F.pad(seen, (2, 2, 2, 2))[:, None].repeat(1, 3, 1, 1), labels).to(device)
    net = networks.build("digits_convnet", 10, seed)
    net.mean.zero_()
    net.std.fill_(1.0)
    net.to(device).to(memory_format=networks.layout(net))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    generator = torch.Generator().manual_seed(key(seed, "compare"))
    scores, kept = [], {}
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
        scores.append(accuracy(net, test))
        console.print(f"epoch {epoch + 1} of {epochs}: test accuracy {scores[-1]:.2f} %")
        if scores.index(max(scores)) == epoch:
            kept = {name: value.clone() for name, value in net.state_dict().items()}
    net.load_state_dict(kept)
    return net, scores


def statistics(found: Tensor, published: Tensor) -> dict[str, float]:
    """What is stated of a map [31,31] of error rates in [0,1], zero in the centre, and how near it is to another."""
    middle, at = len(found) // 2, view31(radius(len(found) + 1))
    gap = (found - published).abs()
    rows = {"mean": found.mean(), "min": found.min(), "max": found.max(), "centre": found[middle, middle]}
    rows |= {f"radius {r}": value for r, value in enumerate(radial_profile(found, at))}
    rows |= {"mean |difference|": gap.mean(), "max |difference|": gap.max()}
    rows["correlation"] = torch.corrcoef(torch.stack([found.flatten(), published.flatten()]))[0, 1]
    return {name: float(value) for name, value in rows.items()}


def compare(published: Tensor, ours: dict[str, Tensor]) -> pd.DataFrame:
    """A row for each statistic, a column for each map; those of ours are followed by what they have more than the
    published one."""
    columns = {"published": statistics(published, published)}
    for name, found in ours.items():
        columns[name] = statistics(found, published)
        columns[f"{name} - published"] = {
            key: columns[name][key] - value for key, value in columns["published"].items()
        }
    return pd.DataFrame(columns).rename_axis("error rate")


def run(args: Args) -> None:
    """Raises UsageError where a number is out of its range, a file missing or damaged, or `args.out` cannot be made."""
    in_range("--epochs", args.epochs, 1, 10_000)
    in_range("--images", args.images, BATCH, 10_000)
    in_range("--seed", args.seed, 0, MOST_SEED)
    published = published_map(args.data_dir / "sada_sample_map.npy")
    if args.out:
        try:
            prove_writable(args.out)
        except OSError as problem:
            raise UsageError(f"--out {describe(problem)}") from problem
    device = gpus.choose_device("auto")
    console = Console()
    net, scores = train(args.data_dir, args.epochs, args.seed, device, console)
    x, y = (part[: args.images] for part in grey(args.data_dir, train=False))
    images = Images(resized(x).repeat(1, 3, 1, 1), y)
    whole = len(images) // BATCH * BATCH
    clean = accuracy(net, images[:whole].to(device))
    console.print(f"clean accuracy on the {whole} images of the maps: {clean:.2f} %")
    factors = {"as called": None, "enhanced": released_r_factor(images.unit())}
    ours = {
        name: reference(net, images, seed=args.seed, r_factor=factor).heatmap / 100 for name, factor in factors.items()
    }
    table = compare(published, ours)
    shown = Table(*[table.index.name, *table.columns], title="Sensitivity of ERM on MNIST, released rule")
    for name, row in table.iterrows():
        shown.add_row(str(name), *(f"{value:.3f}" for value in row))
    console.print(shown)
    if args.out:
        maps = torch.stack(list(ours.values())).numpy()
        write_atomically(args.out / "maps.npy", npy_bytes(maps))
        side_by_side({"published": published, **ours}, args.out / "maps")
        record = {
            "command": f"python -m benchmark.compare_map --data-dir {quoted(str(args.data_dir))} "
            f"--epochs {args.epochs} --images {args.images} --seed {args.seed} --out {quoted(str(args.out))}",
            "test accuracy by epoch": scores,
            "clean accuracy": clean,
            "images": whole,
            "statistics": table.to_dict(),
            "ended": datetime.now(UTC).isoformat(timespec="seconds"),
            "device": machine.device_name(device),
            "machine": machine.describe(device),
        }
        write_atomically(args.out / "record.json", json.dumps(record, indent=1).encode() + b"\n")
        console.print(f"-> {args.out}")


@explained()
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 fine, 2 bad usage or input."""
    args: Args = arguments(Args, argv, program("compare-map"))
    run(args)
    return 0


if __name__ == "__main__":
    leave(main)
