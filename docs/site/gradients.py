"""How large the gradient of SADA's consistency term is beside that of cross-entropy, on networks that SADA trained.

    python -m benchmark.run --datasets digits --data-dir DIR --precision bf16 --device cpu --steps 500 \\
        --evaluations 1 --sensitivity-images 0 --methods sada:weight_map=none --seeds 0 1 2 3 4 \\
        --save-weights --out kept
    python docs/site/gradients.py kept --data-dir DIR

writes results/published/findings/gradients.json: the mean norms over BATCHES batches of 32 training images, by run.
"""

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor, nn

import benchmark
from benchmark import registry
from benchmark.core.rng import Rng
from benchmark.networks.dual_norm import forward_views
from benchmark.ops.kernels.jensen_shannon import jensen_shannon
from benchmark.runs.records import Records
from benchmark.runs.shared import load_data

KEPT = Path(__file__).resolve().parents[2] / "results" / "published" / "findings" / "gradients.json"
BATCHES = 50
BEFORE, AFTER = 0.0, 0.99
"""Shares of training in which SADA's views are AugMix's, and attacked."""


def norm(loss: Tensor, net: nn.Module) -> float:
    """The norm of the gradient over all weights."""
    parts = torch.autograd.grad(loss, [*net.parameters()], retain_graph=True)
    return float(torch.cat([part.flatten() for part in parts]).norm())


def measured(folder: Path, data_dir: Path) -> tuple[str, dict[str, dict[str, float]]]:
    """A run's id; and by kind of view the mean norms of the gradients of cross-entropy and of the consistency term."""
    record = Records(folder.parents[1]).read(folder.name)
    assert record is not None
    asked = record.asked
    net, method = benchmark.load_model(folder), registry.make("method", asked.method, asked.settings)
    images = load_data(asked.dataset, asked.dataset_settings, asked.source, data_dir).train
    order = torch.randperm(len(images), generator=Rng(asked.seed).generator("batches of gradients"))
    found = {}
    for kind, progress in (("AugMix views", BEFORE), ("attacked views", AFTER)):
        norms = []
        for step, index in enumerate(order[: BATCHES * 32].split(32)):
            x, y, rng = images.unit()[index], images.y[index], Rng(asked.seed, step, progress)
            logits = forward_views(net, [x, *method.views(net, x, y, rng, {})], joint=False)
            norms.append([norm(nn.functional.cross_entropy(logits[0], y), net), norm(jensen_shannon(*logits), net)])
        found[kind] = dict(zip(("cross-entropy", "consistency"), torch.tensor(norms).mean(0).tolist(), strict=True))
    return folder.name, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kept", type=Path, help="where benchmark.run wrote runs with --save-weights")
    parser.add_argument("--data-dir", type=Path, required=True)
    args = parser.parse_args()
    found = dict(measured(path.parent, args.data_dir) for path in sorted(args.kept.glob("runs/*/weights.safetensors")))
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    KEPT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
