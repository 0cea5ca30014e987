"""Accuracy and calibration in a domain, which point of a training run counts, and the scoring of a run in progress."""

from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.core.devices import on_gpu, whole
from benchmark.core.images import Images
from benchmark.core.outcome import Calibrated, Calibration
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
BINS = 15
"""Bins of confidence of the expected calibration error, equally wide."""
VIEWS, VIEWED = 10, 500
"""Random views that the rule source-val-views averages over, as RandConv's code does, and images of one batch of them.
"""


class Scores(NamedTuple):
    """What one pass over the images of a domain tells: top-1 accuracy in percent, and calibration."""

    accuracy: float
    calibrated: Calibrated


def accuracy(net: nn.Module, images: Images) -> float:
    """Top-1 accuracy in percent over all images, in evaluation mode; the mode is left as it was found."""
    return 100 * int(_summed(net, images, _hits)) / len(images)


def scores(net: nn.Module, images: Images) -> Scores:
    """Accuracy and calibration over all images in one pass, in evaluation mode; the mode is left as it was found."""
    hits, *gaps = sums(net, images).tolist()
    return Scores(100 * hits / len(images), _calibrated(gaps, len(images)))


def sums(net: nn.Module, images: Images) -> Tensor:
    """What `scores` reads, still on the device, float64 [BINS+2]: hits, then as _gaps. A GPU is not waited for."""
    return _summed(net, images, lambda logits, y: torch.cat([_hits(logits, y)[None], _gaps(logits, y)]))


def calibration_of_logits(logits: Tensor, y: Tensor) -> Calibrated:
    """Calibration of logits [N,K] for labels y, int64 [N]: the definition, which docs/calibration.md states."""
    return _calibrated(_gaps(logits, y).tolist(), len(y))


@torch.inference_mode()
def _summed(net: nn.Module, images: Images, score: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The sum over batches of what `score` makes of logits [B,K] and labels [B]."""
    training = net.training
    net.eval()
    device = next(net.parameters()).device
    size = max(CHUNK, GPU_CHUNK_PIXELS // images.x[0, 0].numel()) if on_gpu(device) else CHUNK
    total = torch.zeros((), dtype=torch.int64, device=device)
    for part in chunks(images, size, device):
        total = total + score(net(part.unit().contiguous(memory_format=layout(net))), part.y)
    net.train(training)
    return total


def _hits(logits: Tensor, y: Tensor) -> Tensor:
    return (logits.argmax(dim=1) == y).sum()


def _gaps(logits: Tensor, y: Tensor) -> Tensor:
    """Sums over the images, float64 [BINS+1]: hits less confidence for each bin of confidence, then the negative log
    likelihood. A bin is open below and closed above (Guo et al. 2017): the last one holds a confidence of 1."""
    right, logits = logits.argmax(dim=1) == y, logits.double()
    confidence = logits.softmax(dim=1).amax(dim=1)
    edges = torch.arange(1, BINS, dtype=torch.float64, device=y.device) / BINS
    inside = torch.bucketize(confidence, edges)[:, None] == torch.arange(BINS, device=y.device)
    gaps = torch.where(inside, (right.double() - confidence)[:, None], 0.0).sum(dim=0)
    return torch.cat([gaps, F.cross_entropy(logits, y, reduction="sum")[None]])


def _calibrated(summed: Sequence[float], n: int) -> Calibrated:
    """summed: _gaps of n images. A bin's sum over n is its share of the images times its mean hit less confidence."""
    *gaps, nll = summed
    ece = 100 * sum(abs(gap) for gap in gaps) / n
    return Calibrated(ece=ece, nll=nll / n) if isfinite(ece) and isfinite(nll) else Calibrated()


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
            val, tests = scores(run.net, self.val), {name: scores(run.net, part) for name, part in self.tests.items()}
            calibrated = {domain: found.calibrated for domain, found in tests.items()}
            point: dict[str, Any] = {
                "step": run.step,
                "progress": round(min(share, 1.0), 6),
                "loss": float(run.loss_sum) / max(1, run.step - (run.curve[-1]["step"] if run.curve else 0)),
                "val": val.accuracy,
                "test": {domain: found.accuracy for domain, found in tests.items()},
                "calibration": Calibration(source_val=val.calibrated, domains=calibrated).model_dump(),
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
