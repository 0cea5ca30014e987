"""What is read off a trained run: the parts of its record."""

import hashlib
from math import isnan

import safetensors.torch
import torch

from benchmark import records, sensitivity
from benchmark.data import Loaded
from benchmark.evaluate import select
from benchmark.spec import Accuracy, Asked, Domain, Images, Selection, Sensitivity, Throughput, Weights
from benchmark.timing import peak_memory_mib
from benchmark.train import Training


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


def sensitivity_of(run: Training, asked: Asked, val: Images) -> tuple[Sensitivity | None, bytes | None]:
    """The sensitivity map of the network that the recipe's rule chose: its record, and the map as an .npy file."""
    if not asked.recipe.sensitivity_images:
        return None, None
    run.net.load_state_dict(run.best)
    device = next(run.net.parameters()).device
    found = sensitivity.measure(run.net, val.to(device), seed=asked.seed, limit=asked.recipe.sensitivity_images)
    content = records.npy_bytes(found.error.cpu().numpy())
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


def throughput_of(run: Training, batch_size: int, device: torch.device) -> Throughput:
    """What the run cost, read off its meter."""
    meter = run.meter
    train_seconds, images = meter.total(), max(1, meter.images)
    setup_seconds = meter.seconds["setup"]
    steady, quartiles = meter.steady(batch_size)
    return Throughput(
        images_per_second=images / (setup_seconds + train_seconds),
        steady_images_per_second=steady,
        steady_iqr=quartiles,
        setup_seconds=setup_seconds,
        train_seconds=train_seconds,
        shares=meter.shares(),
        passes_per_image=meter.passes() / images,
        forwards_per_image=meter.forwards / images,
        backwards_per_image=meter.backwards / images,
        peak_memory_mib=peak_memory_mib(device),
        parameters=sum(parameter.numel() for parameter in run.net.parameters()),
    )
