"""Accuracy in a domain, which point of a training run counts, and the scoring of a run in progress."""

from typing import Any

import torch
from torch import nn

from benchmark.core.devices import on_gpu, whole
from benchmark.core.images import Images
from benchmark.core.recipe import Selection
from benchmark.core.rng import Rng, key
from benchmark.core.stream import chunks, resident
from benchmark.data.dataset import Loaded
from benchmark.method import Method
from benchmark.networks.classifiers import layout
from benchmark.training.budget import Budget
from benchmark.training.progress import Training

CHUNK, GPU_CHUNK_PIXELS = 100, 4096 * 32 * 32
"""Images of one pass: more no longer fit a processor's cache. On a GPU, pixels of one pass."""
VIEWS, VIEWED = 10, 500
"""Random views that the rule source-val-views averages over, as RandConv's code does, and images of one batch of them.
"""


@torch.inference_mode()
def accuracy(net: nn.Module, images: Images) -> float:
    """Top-1 accuracy in percent over all images, in evaluation mode; the mode is left as it was found."""
    training = net.training
    net.eval()
    device = next(net.parameters()).device
    hits = torch.zeros((), dtype=torch.int64, device=device)
    size = max(CHUNK, GPU_CHUNK_PIXELS // images.x[0, 0].numel()) if on_gpu(device) else CHUNK
    for part in chunks(images, size, device):
        hits += (net(part.unit().contiguous(memory_format=layout(net))).argmax(dim=1) == part.y).sum()
    net.train(training)
    return 100 * int(hits) / len(images)


def select(curve: list[dict[str, Any]], rule: Selection) -> int:
    """The point of the curve that a rule chooses; no rule here looks at a target."""
    points = range(len(curve))
    if rule == "last-within-5":
        return max(i for i in points if curve[i]["val"] > 0.95 * max((p["val"] for p in curve[:i]), default=-1))
    by = {"source-val": "val", "source-val-views": "val_views", "last": "step"}[rule]
    return max(points, key=lambda i: (curve[i][by], i))


class Evaluator:
    """Scores a run when its budget says so, and keeps the weights of the point that counts; targets decide nothing."""

    def __init__(self, run: Training, method: Method, data: Loaded, budget: Budget):
        self.run, self.method, self.budget, self.device = run, method, budget, whole(budget.asked.device)
        self.val, *tests = resident([data.val, *data.test.values()], self.device)
        self.tests = dict(zip(data.test, tests, strict=True))
        self._before = 1.0
        """The share at which the step before began."""

    def due(self, share: float) -> bool:
        """Whether a point is due now that this share of the budget is spent."""
        return self.budget.due(share) > len(self.run.curve)

    def foreseen(self, share: float) -> bool:
        """Whether a point is due after the step that begins at this share, if it takes as much as the last one did."""
        step, self._before = max(0.0, share - self._before), share
        return self.due(share + step)

    def score(self, share: float) -> None:
        """Adds a point to the curve, and keeps the weights where the recipe's rule chooses it."""
        run, rule = self.run, self.budget.asked.recipe.selection
        with run.meter.paused():
            point: dict[str, Any] = {
                "step": run.step,
                "progress": round(min(share, 1.0), 6),
                "loss": float(run.loss_sum) / max(1, run.step - (run.curve[-1]["step"] if run.curve else 0)),
                "val": accuracy(run.net, self.val),
                "test": {domain: accuracy(run.net, part) for domain, part in self.tests.items()},
            }
            if rule == "source-val-views":
                point["val_views"] = sum(accuracy(run.net, self._views(i)) for i in range(VIEWS)) / VIEWS
        run.curve.append(point)
        if select(run.curve, rule) == len(run.curve) - 1:
            run.best = {name: value.detach().clone() for name, value in run.net.state_dict().items()}
        run.loss_sum.zero_()

    def _views(self, draw: int) -> Images:
        """The method's views of the validation images, drawn anew for each `draw`."""
        run, val, device = self.run, self.val, self.device
        rng = Rng(key(self.budget.asked.seed, "val views", draw), run.step, on=device)
        parts = chunks(val, VIEWED, device)
        seen = [self.method.views(run.net, part.unit(), part.y, rng, run.state)[0] for part in parts]
        return Images(torch.cat(seen), val.y.to(device))
