"""The one training loop: set up, step, evaluate. Equal for all methods; a method writes only the loss."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from torch import Tensor, nn

from benchmark import checkpoints, networks, stopping, weights
from benchmark.data import Loaded
from benchmark.evaluate import accuracy, select
from benchmark.loaders import load
from benchmark.method import Method, Rng, Source, State
from benchmark.optimise import Sampler, fit_erm, make_optimizer, set_rate
from benchmark.rng import key
from benchmark.spec import Asked, Images, Selection
from benchmark.stream import Feed, chunks, resident
from benchmark.timing import Meter, span

Report = Callable[[str, float], None]
"""Called with what the run is doing and the share of its budget that is spent."""
Views = Callable[[Images, int], Images]
VIEWS = 10
"""Random views that the rule source-val-views averages over, as RandConv's code does."""
EVAL_BATCH = 500


class DivergedError(Exception):
    """The loss is no longer a finite number."""


@dataclass
class Training:
    """One run in progress: everything that changes while it trains, and so everything that a checkpoint holds."""

    net: nn.Module
    optimizer: torch.optim.Optimizer
    meter: Meter
    pool: Images
    loss_sum: Tensor
    """Sum of the losses since the last point of the curve."""
    normalisation: tuple[list[float], list[float]]
    """The network's mean and standard deviation."""
    grown: int | None = None
    """The step at which the pool last changed; None while it is the training images."""
    state: State = field(default_factory=dict)
    step: int = 0
    epoch_start: int = 0
    seconds: float = 0.0
    """Wall-clock seconds so far, over all resumes."""
    resumed: int = 0
    curve: list[dict[str, Any]] = field(default_factory=list)
    """One point for each evaluation: step, progress, mean loss since the last, accuracies in percent."""
    best: dict[str, Tensor] = field(default_factory=dict)
    """Weights at the point of the curve that the recipe's selection rule chooses so far."""
    notes: list[str] = field(default_factory=list)
    """What went wrong and was got over; goes into the record's warnings."""

    def dump(self) -> dict[str, Any]:
        return {
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "meter": self.meter.state(),
            "loss_sum": self.loss_sum,
            "state": self.state,
            "plain": [self.step, self.epoch_start, self.seconds, self.resumed, self.grown],
            "curve": self.curve,
            "best": self.best,
            "notes": self.notes,
        }

    def save(self, folder: Path, code: str) -> None:
        """Writes a checkpoint; one that cannot be written is noted, and training goes on."""
        try:
            pool = None if self.grown is None else (self.grown, [self.pool.x, self.pool.y])
            checkpoints.save(folder, code, self.dump(), pool)
        except OSError as problem:
            if (note := f"a checkpoint could not be written: {problem.strerror}") not in self.notes:
                self.notes.append(note)

    def resume(self, folder: Path, code: str, device: torch.device) -> bool:
        """Takes up the checkpoint in `folder`, if there is a sound one of the same code."""
        try:
            found = checkpoints.load(folder, code)
        except checkpoints.DamagedError as problem:
            self.notes.append(f"started anew: {problem}")
            return False
        if found is not None:
            self.restore(*found, device)
        return found is not None

    def restore(self, saved: dict[str, Any], pool: list[Tensor] | None, device: torch.device) -> None:
        self.net.load_state_dict(saved["net"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.meter.restore(saved["meter"])
        if pool:
            (self.pool,) = resident([Images(*pool)], device)
        self.loss_sum, self.state, self.best = (_to(saved[name], device) for name in ("loss_sum", "state", "best"))
        self.step, self.epoch_start, self.seconds, self.resumed, self.grown = saved["plain"]
        self.resumed += 1
        self.curve, self.notes = saved["curve"], saved["notes"]


def begin(asked: Asked, method: Method, data: Loaded, weights_file: Path | None = None) -> Training:
    """A run at step 0: network, optimiser and pool on the device, nothing trained.

    weights_file: where the recipe's weights are those of a local file. Raises UsageError where they do not fit.
    """
    device, recipe = torch.device(asked.device), asked.recipe
    plain = networks.build(recipe.network, data.classes, key(asked.seed, "init"), recipe.weights)
    weights.load(plain, recipe.weights, weights_file)
    normalisation = plain.mean.flatten().tolist(), plain.std.flatten().tolist()
    plain.precision = recipe.precision
    net = (
        method.wrap(plain).to(device).to(memory_format=torch.channels_last)
    )  # a third faster on a CPU, and what GPUs prefer
    optimizer = make_optimizer(net, recipe)
    (pool,) = resident([data.train], device)
    return Training(net, optimizer, Meter(device), pool, torch.zeros((), device=device), normalisation)


def train(
    run: Training,
    asked: Asked,
    method: Method,
    data: Loaded,
    folder: Path,
    report: Report = lambda doing, share: None,
    *,
    code: str = "",
    checkpoint_seconds: float = 30.0,
) -> None:
    """Trains a run that has just begun, to the end of its budget.

    Takes up the checkpoint in `folder` where one was made by the same `code`; on a CPU the run then ends with the bits
    of an undisturbed one. Raises DivergedError where the loss stops being finite, StoppedError with a checkpoint
    written where the process is to end, and whatever the method raises.
    """
    device, recipe, net, clock = torch.device(asked.device), asked.recipe, run.net, monotonic()
    images = run.pool
    val, *parts = resident([data.val, *data.test.values()], device)
    tests = dict(zip(data.test, parts, strict=True))
    sampler = Sampler(asked.seed, recipe)
    # Under an equal-cost budget the helper network may not eat it up: it gets what one of the method's passes gets.
    helper_steps = recipe.steps if asked.budget == "steps" else max(1, int(recipe.steps / (method.passes + 1)))

    def helper(other: nn.Module, rng: Rng) -> None:
        fit_erm(other, images, recipe, helper_steps, rng)

    def views(part: Images, draw: int) -> Images:
        rng = Rng(key(asked.seed, "val views", draw), run.step, on=device)
        seen = [method.views(net, some.unit(), some.y, rng, run.state)[0] for some in chunks(part, EVAL_BATCH, device)]
        return Images(torch.cat(seen), part.y.to(device))

    source = Source(images, val, len(images), recipe.batch_size, helper)
    with run.meter.running(net), Feed(device) as feed:
        if run.resume(folder, code, device):
            sampler.restart(run.epoch_start)
        else:
            report("setting up", 0.0)
            with span("setup"):
                run.state = method.setup(net, source, Rng(asked.seed, on=device))
        saved_at, before = clock, run.seconds
        while (progress := spent(asked, run)) < 1:
            rng = Rng(asked.seed, run.step, progress, device)
            with span("expand"):
                grow(run, method, source, rng, sampler)
            set_rate(run.optimizer, recipe, progress)
            with run.meter.step(recipe.batch_size):
                with span("data_wait"):
                    n, step = len(run.pool), run.step
                    batch = feed.batch(run.pool, sampler.index(step, n), partial(sampler.ahead, step + 1, n))
                    x = batch.unit()
                x = load(x, recipe.loader, rng).contiguous(memory_format=torch.channels_last)
                run.optimizer.zero_grad(set_to_none=True)
                loss = method.loss(net, x, batch.y, rng, run.state)
                loss.backward()
                run.optimizer.step()
            run.step += 1
            run.loss_sum += loss.detach()
            done = spent(asked, run)
            due = min(recipe.evaluations, math.floor(done * recipe.evaluations + 1e-9))
            if due > len(run.curve) or device.type == "cpu":  # reading the loss would stall a GPU at every step
                check_finite(run)
            if due > len(run.curve):
                report("evaluating", done)
                score(run, val, tests, done, recipe.selection, views)
            report("training", min(done, 1.0))
            if stopping.asked() or monotonic() - saved_at > checkpoint_seconds:
                run.epoch_start, run.seconds = sampler.start, before + monotonic() - clock
                run.save(folder, code)
                saved_at = monotonic()
                if stopping.asked():
                    raise stopping.StoppedError
        if not run.curve:
            score(run, val, tests, 1.0, recipe.selection, views)
    run.seconds = before + monotonic() - clock


def grow(run: Training, method: Method, source: Source, rng: Rng, sampler: Sampler) -> None:
    """Adds what the method makes to the pool and shuffles it, as GUD does."""
    extra = method.expand(run.net, source.with_pool(run.pool), rng, run.step, run.state)
    if extra is not None:
        pool = run.pool + extra.to(run.pool.x.device)
        order = torch.randperm(len(pool), generator=Rng(rng.seed, run.step).generator("pool"))
        run.pool, run.grown = pool[order.to(pool.x.device)], run.step
        sampler.restart(run.step)


def spent(asked: Asked, run: Training) -> float:
    """The share of the budget that is used up; 1 or more ends the run. Set-up counts under `passes` and `time`."""
    if asked.budget == "steps":
        return run.step / asked.recipe.steps
    if asked.budget == "passes":
        return run.meter.passes() / (asked.recipe.steps * asked.recipe.batch_size)
    assert asked.seconds is not None
    return (run.meter.total() + run.meter.seconds["setup"]) / asked.seconds


def check_finite(run: Training) -> None:
    """Raises DivergedError once the loss has stopped being finite."""
    if not math.isfinite(float(run.loss_sum)):
        raise DivergedError(f"the loss stopped being finite at or before step {run.step}")


def score(run: Training, val: Images, tests: dict[str, Images], progress: float, rule: Selection, views: Views) -> None:
    """Adds a point to the curve and keeps the weights where the rule chooses it; targets decide nothing.

    views: the method's views of a batch, drawn anew for each number; used by the rule source-val-views alone.
    """
    with run.meter.paused():
        point: dict[str, Any] = {
            "step": run.step,
            "progress": round(min(progress, 1.0), 6),
            "loss": float(run.loss_sum) / max(1, run.step - (run.curve[-1]["step"] if run.curve else 0)),
            "val": accuracy(run.net, val),
            "test": {domain: accuracy(run.net, part) for domain, part in tests.items()},
        }
        if rule == "source-val-views":
            point["val_views"] = sum(accuracy(run.net, views(val, i)) for i in range(VIEWS)) / VIEWS
    run.curve.append(point)
    if select(run.curve, rule) == len(run.curve) - 1:
        run.best = {name: value.detach().clone() for name, value in run.net.state_dict().items()}
    run.loss_sum.zero_()


def _to(value: Any, device: torch.device) -> Any:
    """`value` with every tensor in it on the device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {name: _to(inner, device) for name, inner in value.items()}
    return [_to(inner, device) for inner in value] if isinstance(value, list) else value
