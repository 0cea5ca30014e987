"""What is measured on a trained run: the parts of its record."""

import hashlib
import traceback
from collections.abc import Sequence
from math import isnan, nextafter

import safetensors.torch
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import interpolate

from benchmark import sensitivity
from benchmark.core.devices import on_gpu
from benchmark.core.images import Images
from benchmark.core.outcome import Accuracy, Calibration, Domain, Floor, Sensitivity, Throughput, Weights
from benchmark.core.peak_memory import peak_memory_mib
from benchmark.core.recipe import Precision, Selection
from benchmark.core.record import Asked
from benchmark.core.rng import Rng, key
from benchmark.data.dataset import Loaded
from benchmark.method import Method
from benchmark.training.artifacts import LARGEST, SHOWN, npy_bytes, picture
from benchmark.training.evaluate import select
from benchmark.training.floors import floor_of
from benchmark.training.progress import Training


def accuracy_of(run: Training, data: Loaded, rule: Selection = "source-val") -> Accuracy:
    """Accuracies under each selection rule, all read off one run's curve; `rule` is the recipe's own."""
    curve = run.curve
    shifted = [domain for domain in data.test if domain not in data.in_domain] or list(data.test)
    rules: tuple[Selection, ...] = ("source-val", "last", rule)
    chosen = {name: select(curve, name) for name in rules}
    chosen["oracle"] = max(range(len(curve)), key=lambda i: (sum(curve[i]["test"][name] for name in shifted), i))
    present = {
        domain: Domain(n=len(images), accuracy={rule: curve[i]["test"][domain] for rule, i in chosen.items()})
        for domain, images in data.test.items()
    }
    absent = {domain: Domain(missing=why) for domain, why in data.missing.items()}
    return Accuracy(
        source_val={rule: curve[i]["val"] for rule, i in chosen.items()},
        selected_step={rule: curve[i]["step"] for rule, i in chosen.items()},
        n_val=len(data.val),
        domains={domain: (present | absent)[domain] for domain in data.order},
        in_domain=data.in_domain,
    )


def calibration_of(run: Training, rule: Selection = "source-val") -> Calibration:
    """Calibration of the network that the recipe's rule chose, read off its point of the run's curve."""
    found = Calibration.model_validate(run.curve[select(run.curve, rule)]["calibration"])
    named = {"source validation": found.source_val} | found.domains
    if odd := ", ".join(name for name, one in named.items() if one.ece is None):
        run.notes.append(f"no calibration where the network's outputs are not all finite: {odd}")
    return found


def sensitivity_of(run: Training, asked: Asked, val: Images) -> tuple[Sensitivity | None, bytes | None]:
    """The sensitivity map of the network that the recipe's rule chose: its record, and the map as an .npy file; (None,
    None) without `sensitivity_images`."""
    if not asked.recipe.sensitivity_images:
        return None, None
    run.net.load_state_dict(run.best)
    found = sensitivity.measure(run.net, val, seed=asked.seed, limit=asked.recipe.sensitivity_images)
    content = npy_bytes(found.error.cpu().numpy())
    record = Sensitivity(
        sha256=hashlib.sha256(content).hexdigest(),
        n_images=found.n_images,
        radius=found.radius,
        clean_error=found.clean_error,
        mean_standard_error=None if isnan(found.mean_standard_error) else found.mean_standard_error,
        grid=found.grid,
    )
    return record, content


def weights_of(run: Training, asked: Asked, classes: tuple[str, ...]) -> tuple[Weights, bytes]:
    """The weights of the network that the recipe's rule chose: their record, and a safetensors file."""
    tensors = {name: value.cpu().contiguous() for name, value in run.best.items()}
    content = safetensors.torch.save(tensors, metadata={"run_id": asked.run_id})
    return Weights(sha256=hashlib.sha256(content).hexdigest(), classes=classes), content


def views_of(run: Training, asked: Asked, method: Method, train: Images) -> bytes:
    """What the method does to eight source images with the selected network, as late in the training as can be: a PNG
    of the images above their first three views. Comes last, because a view may change the network's statistics."""
    run.net.load_state_dict(run.best)
    part = train[torch.arange(SHOWN) % len(train)].to(next(run.net.parameters()).device)
    rng = Rng(key(asked.seed, "shown views"), run.step, nextafter(1.0, 0.0), part.y.device)
    return picture_sheet([part.unit(), *method.views(run.net, part.unit(), part.y, rng, run.state)[:3]])


def picture_sheet(rows: Sequence[Tensor]) -> bytes:
    """Images [B,3,H,W] in [0,1], each tensor a row, as one PNG; values outside are cut off, large images made small."""
    small = [row.detach().float().cpu() for row in rows]
    sides = small[0].shape[-2:]
    if max(sides) > LARGEST:
        size = [max(1, round(side * LARGEST / max(sides))) for side in sides]
        small = [interpolate(row, size, mode="area") for row in small]
    lines = torch.stack(small).nan_to_num().clamp(0, 1).mul(255).round().byte()
    return picture(lines.permute(0, 3, 1, 4, 2).flatten(2, 3).numpy())  # row, H, image and W, 3


def throughput_of(
    run: Training, batch_size: int, device: torch.device, precision: Precision = "fp32", *, sharing: int = 1
) -> Throughput:
    """What the run cost, read off its meter, and what it could have cost at best.

    sharing: runs at a time. On a GPU that others use as well nothing bare can be timed, so there is no floor.
    """
    meter = run.meter
    train_seconds, images = meter.total(), max(1, meter.images)
    setup_seconds = meter.seconds["setup"]
    steady, quartiles = meter.steady(batch_size)
    forwards, backwards = meter.forwards / images, meter.backwards / images
    memory = peak_memory_mib(device)
    alone = sharing == 1 or not on_gpu(device)
    floor = (
        _floor(run, batch_size, device, precision) if meter.forwards and alone and not dist.is_initialized() else None
    )
    return Throughput(
        images_per_second=images / (setup_seconds + train_seconds),
        steady_images_per_second=steady,
        steady_iqr=quartiles,
        setup_seconds=setup_seconds,
        train_seconds=train_seconds,
        shares=meter.shares(),
        passes_per_image=meter.passes() / images,
        forwards_per_image=forwards,
        backwards_per_image=backwards,
        peak_memory_mib=memory,
        floor=floor,
        parameters=sum(parameter.numel() for parameter in run.net.parameters()),
        replayed=meter.replays / max(1, run.step),
    )


def _floor(run: Training, batch_size: int, device: torch.device, precision: Precision) -> Floor | None:
    """The floor of the run; None, and a note, where it cannot be measured, because a trained run is worth more."""
    try:
        batch = run.pool[:batch_size].unit().to(device)
        return floor_of(run.net, batch, run.meter.counted, max(1, run.meter.images), precision)
    except Exception as problem:  # noqa: BLE001 - a plugin's network may raise anything, and memory may be short
        run.notes.append(f"no floor: {traceback.format_exception_only(problem)[-1].strip()}")
        return None
