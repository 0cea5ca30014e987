"""The one training loop: set up, step, evaluate. Equal for all methods; a method writes only the loss."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from torch import nn

from benchmark import capture, stopping
from benchmark.data import Loaded
from benchmark.devices import on_gpu, whole
from benchmark.evaluate import accuracy, select
from benchmark.held import held
from benchmark.loaders import load
from benchmark.method import Method, Rng, Source, State
from benchmark.networks import layout
from benchmark.optimise import Sampler, fit_erm, set_rate
from benchmark.recipe import Recipe, Selection
from benchmark.rng import key
from benchmark.spec import Asked, Images
from benchmark.steps import Steps
from benchmark.stream import Batch, Feed, chunks, resident
from benchmark.timing import span
from benchmark.training import Training

Report = Callable[[str, float], None]
"""Called with what the run is doing and the share of its budget that is spent."""
Views = Callable[[Images, int], Images]
VIEWS = 10
"""Random views that the rule source-val-views averages over, as RandConv's code does."""
EVAL_BATCH = 500


class DivergedError(Exception):
    """The loss is no longer a finite number."""


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
    device, recipe, net, clock = whole(asked.device), asked.recipe, run.net, monotonic()
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
        steps, batch = steps_of(run, method, recipe, feed)
        saved_at, before, last = clock, run.seconds, 1.0
        while (progress := spent(asked, run)) < 1:
            rng = Rng(asked.seed, run.step, progress, device)
            with span("expand"):
                grow(run, method, source, rng, sampler)
            set_rate(run.optimizer, recipe, progress)
            n, step = len(run.pool), run.step
            index, following = sampler.index(step, n), partial(sampler.ahead, step + 1, n)
            if due(recipe, progress + max(0.0, progress - last)) > len(run.curve):  # as far as can be foreseen
                steps.audit()
            last = progress
            steps.take(rng, run.state, partial(batch.fill, run.pool, index, following))
            run.step += 1
            done = spent(asked, run)
            scored = due(recipe, done) > len(run.curve)
            if scored or not on_gpu(device):  # reading the loss would stall a GPU at every step
                check_finite(run)
            if scored:
                report("evaluating", done)
                score(run, val, tests, done, recipe.selection, views)
                steps.audit()
            report("training", min(done, 1.0))
            if stopping.asked() or monotonic() - saved_at > checkpoint_seconds:
                run.epoch_start, run.seconds = sampler.start, before + monotonic() - clock
                run.save(folder, code)
                saved_at = monotonic()
                if stopping.asked():
                    raise stopping.StoppedError
        if not run.curve:
            score(run, val, tests, 1.0, recipe.selection, views)
    if steps.why:
        run.notes.append(f"steps were launched, not replayed: {steps.why}")
    run.seconds = before + monotonic() - clock


def steps_of(run: Training, method: Method, recipe: Recipe, feed: Feed) -> tuple[Steps, Batch]:
    """The run's training steps, and where each finds its batch."""
    batch, modules = Batch(feed, fixed=capture.recorder() is not None), list(run.net.modules())
    parameters, buffers = list(run.net.parameters()), list(run.net.buffers())

    def step(rng: Rng, state: State) -> None:
        images = batch.read()
        x = load(images.unit(), recipe.loader, rng).contiguous(memory_format=layout(run.net))
        run.optimizer.zero_grad(set_to_none=True)
        loss = method.loss(run.net, x, images.y, rng, state)
        loss.backward()
        run.optimizer.step()
        run.loss_sum += loss.detach()

    steps = Steps(
        type(method).__module__.rpartition(".")[2],
        step,
        replayable=method.replayable,
        kind=lambda rng: (
            method.kind(rng),
            bytes(module.training for module in modules),
            bytes(parameter.requires_grad for parameter in parameters),
        ),
        pool=lambda: [run.pool.x, run.pool.y],
        places=lambda: [*batch.places(), *parameters, *buffers],
        images=recipe.batch_size,
        discard=partial(run.optimizer.zero_grad, set_to_none=True),
        held=partial(held, method, network=run.net),
    )
    return steps, batch


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


def due(recipe: Recipe, share: float) -> int:
    """How often a run is to have been scored once this share of its budget is spent."""
    return min(recipe.evaluations, math.floor(share * recipe.evaluations + 1e-9))


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
