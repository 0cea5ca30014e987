"""A kept network as timm's own: the weights under timm's names, and in its configuration how this suite normalises."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmark import registry
from benchmark.core.errors import UsageError
from benchmark.core.record import Record
from benchmark.data.dataset import decode
from benchmark.networks.dual_norm import DualBatchNorm2d, DuBIN
from benchmark.runs.places import Folder
from benchmark.runs.records import MAP, read_map

KEPT = ("architecture", "classifier", "first_conv", "fixed_input_size")
"""What of timm's configuration of its own weights is also true of others of this architecture."""


class NoFormError(UsageError):
    """timm has no network of this form."""


@dataclass(frozen=True)
class Scaling:
    """How a run's images were scaled before the network saw them, in timm's words. interpolation: bilinear, ..."""

    height: int
    width: int
    interpolation: str
    crop_mode: str
    """squash: to height and width, whatever the shape was. center: scaled, and the middle cut out."""


def check(network: str) -> None:
    """Raises NoFormError for a network that is none of timm's."""
    if not network.startswith("timm:"):
        raise NoFormError(f"{network} is not a network of timm; networks timm:NAME have a form in it")


def scaling(run_dir: Path, record: Record, data_dir: Path | None) -> Scaling:
    """How a run's images were scaled. Their size is that of the sensitivity map, or else of the run's data.

    Raises UsageError where neither is there.
    """
    settings, size = record.asked.dataset_settings, _map_size(run_dir, record) or _data_size(record, data_dir)
    mode = "center" if settings.get("fit") == "crop" else "squash"
    how = settings.get("resize")
    return Scaling(*size, how if how in ("bicubic", "lanczos") else "bilinear", mode)


def as_timm(net: Any, network: str, classes: Sequence[str], scaled: Scaling) -> nn.Module:
    """The network as timm.create_model(NAME, num_classes=K) with the weights of `net`, in evaluation mode.

    net: what a run kept; it is left as it is. network: its name, timm:NAME. The result takes normalised images: mean,
    std and size are in its `pretrained_cfg`, as timm.data.resolve_model_data_config reads them. Of two branches of
    BatchNorm (AugMax, dual_norm=dual_bn) it has the one for clean images, which evaluates.

    Raises NoFormError where timm has no network of this form, and where the two do not give the same logits.
    """
    import timm  # noqa: PLC0415 - it takes seconds, and most commands need none of it

    check(network)
    if odd := [where for where, module in net.named_modules() if isinstance(module, DuBIN)]:
        raise NoFormError(
            f"{network} has InstanceNorms that timm's has not ({odd[0]}, from augmax:dual_norm=dubin); a run with "
            "dual_norm=dual_bn or dual_norm=plain has timm's form"
        )
    with torch.random.fork_rng(devices=[]):
        plain: Any = timm.create_model(network.removeprefix("timm:"), pretrained=False, num_classes=len(classes)).eval()
    mean, std = (tuple(float(str(value)) for value in of.flatten().numpy()) for of in (net.mean, net.std))  # 0.485
    _fill(plain, net, network)
    _check_same(plain, net, network, scaled)
    config = {key: value for key, value in plain.pretrained_cfg.items() if key in KEPT}
    config |= {"input_size": (3, scaled.height, scaled.width), "interpolation": scaled.interpolation, "crop_pct": 1.0}
    config |= {"crop_mode": scaled.crop_mode, "mean": mean, "std": std, "num_classes": len(classes)}
    config["label_names"] = list(classes)
    plain.pretrained_cfg = plain.default_cfg = config
    return plain  # type: ignore[no-any-return]


def write(plain: Any, folder: Path) -> None:
    """Writes model.safetensors and config.json, which timm.create_model reads from a folder and from the hub.

    plain: what as_timm gives.
    """
    from timm.models import save_for_hf  # noqa: PLC0415 - as above

    save_for_hf(plain, str(folder), {"label_names": plain.pretrained_cfg["label_names"]}, safe_serialization=True)


def _fill(plain: Any, net: nn.Module, network: str) -> None:
    """Puts the weights of `net` into timm's network of the same name. Raises NoFormError where they do not fit."""
    head = plain.pretrained_cfg.get("classifier")
    if not isinstance(head, str):
        raise NoFormError(f"{network}: timm's network has not one classifier but {head}; it cannot hold ours")
    own = plain.state_dict()
    given = {
        f"{head}.{name.removeprefix('head.')}" if name.startswith("head.") else name.removeprefix("trunk."): value
        for name, value in _clean_branch(net).items()
        if not name.startswith("projection.")  # AdvST's, which its loss alone uses
    }
    weight = f"{head}.weight"
    if weight in own and weight in given and own[weight].numel() == given[weight].numel():
        given[weight] = given[weight].reshape(own[weight].shape)  # a classifier may be a 1x1 convolution
    try:
        plain.load_state_dict(given)
    except RuntimeError as problem:
        raise NoFormError(
            f"{network}: the kept network is not timm's, because its method changed it: {problem}"
        ) from problem


def _clean_branch(net: nn.Module) -> Mapping[str, Tensor]:
    """The weights of a network with one BatchNorm instead of each pair: the one for clean images."""
    pairs = [name for name, module in net.named_modules() if isinstance(module, DualBatchNorm2d)]
    found = net.state_dict()
    for pair in pairs:
        for name in [name for name in found if name.startswith(f"{pair}.")]:
            value, branch = found.pop(name), name.removeprefix(f"{pair}.")
            if branch.startswith("main."):
                found[f"{pair}.{branch.removeprefix('main.')}"] = value
    return found


@torch.inference_mode()
def _check_same(plain: nn.Module, net: Any, network: str, scaled: Scaling) -> None:
    """Raises NoFormError where two networks do not give the same logits except for rounding."""
    x = torch.rand(2, 3, scaled.height, scaled.width, generator=torch.Generator().manual_seed(0))
    wanted, found = net(x), plain((x - net.mean) / net.std)
    if found.shape != wanted.shape or not torch.allclose(found, wanted, rtol=1e-3, atol=1e-3 * float(wanted.std())):
        raise NoFormError(f"{network}: timm's network computes something else between features and logits")


def _map_size(run_dir: Path, record: Record) -> tuple[int, int] | None:
    """The size of a run's images by its sensitivity map, which is as large as they are; None where it has none."""
    path = run_dir / MAP
    try:
        found = read_map(Folder(run_dir), record) if path.is_file() else None
    except (OSError, ValueError) as problem:
        raise UsageError(f"{path}: {problem}; take it away, or put the run's own there") from problem
    return (len(found.error), len(found.error)) if found else None


def _data_size(record: Record, data_dir: Path | None) -> tuple[int, int]:
    asked = record.asked
    dataset = registry.make("dataset", asked.dataset, asked.dataset_settings)
    try:
        classes = len(dataset.layout(data_dir).classes)
        part = decode(dataset, asked.source.split("+")[0], "val", data_dir, classes)
    except UsageError as problem:
        raise UsageError(
            f"the size of the run's images is not known: {MAP} is not beside its record, and its data is not there "
            f"({problem}); give the data's folder, --data-dir DIR or load_model(..., data_dir=DIR)"
        ) from problem
    height, width = part.images.x.shape[2:]
    return height, width
