"""The one training loop: set up, step, evaluate. Equal for all methods; a method writes only the loss."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn

from benchmark.core import capture
from benchmark.core.capture import Work
from benchmark.core.devices import on_gpu, whole
from benchmark.core.images import Images
from benchmark.core.recipe import Recipe
from benchmark.core.record import Asked
from benchmark.core.rng import Rng
from benchmark.core.stream import Batch, Feed
from benchmark.core.timing import span
from benchmark.data.dataset import Loaded
from benchmark.method import Method, Source, State
from benchmark.networks.classifiers import layout
from benchmark.ops.batch_transforms import transform_batch
from benchmark.training.budget import Budget
from benchmark.training.evaluate import Evaluator
from benchmark.training.held import held
from benchmark.training.optimise import Sampler, fit_erm, set_rate
from benchmark.training.progress import Checkpointing, Training
from benchmark.training.steps import Steps

Report = Callable[[str, float], None]
"""Called with what the run is doing and the share of its budget that is spent."""


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
    of an undisturbed one. Raises ChangedError where a replayed step no longer fits, DivergedError where the loss stops
    being finite, StoppedError with a checkpoint written where the process is to end, and whatever the method raises.
    """
    device, recipe, budget = whole(asked.device), asked.recipe, Budget(asked)
    sampler = Sampler(asked.seed, recipe)
    checkpointing = Checkpointing(run, sampler, folder, code, checkpoint_seconds)
    evaluator = Evaluator(run, method, data, budget)
    source = source_of(run, method, budget, evaluator.val)
    with run.meter.running(run.net), Feed(device) as feed:
        if not checkpointing.resume(device):
            report("setting up", 0.0)
            with span("setup"):
                run.state = method.setup(run.net, source, Rng(asked.seed, on=device))
        steps, batch = steps_of(run, method, recipe, feed)
        while (share := budget.spent(run.step, run.meter)) < 1:
            rng = Rng(asked.seed, run.step, share, device)
            with span("expand"):
                grow(run, method, source, rng, sampler)
            set_rate(run.optimizer, recipe, share)
            if evaluator.foreseen(share):
                steps.audit()
            steps.take(rng, run.state, filling(batch, run, sampler))
            run.step += 1
            share = budget.spent(run.step, run.meter)
            scored = evaluator.due(share)
            if scored or not on_gpu(device):  # reading the loss would stall a GPU at every step
                check_finite(run)
            if scored:
                report("evaluating", share)
                evaluator.score(share)
                steps.audit()
            report("training", min(share, 1.0))
            checkpointing.after_step()
        if not run.curve:
            evaluator.score(1.0)
    if steps.why:
        run.notes.append(f"steps were launched, not replayed: {steps.why}")
    checkpointing.read_clock()


def source_of(run: Training, method: Method, budget: Budget, val: Images) -> Source:
    """What the method may know of the data. A helper network learns from the images that the run begins with."""
    images, recipe, steps = run.pool, budget.asked.recipe, budget.helper_steps(method.passes)

    def helper(net: nn.Module, rng: Rng) -> None:
        fit_erm(net, images, recipe, steps, rng)

    return Source(images, val, len(images), recipe.batch_size, helper)


def filling(batch: Batch, run: Training, sampler: Sampler) -> Work:
    """What puts the images of the coming step into the batch."""
    n = len(run.pool)
    return partial(batch.fill, run.pool, sampler.index(run.step, n), partial(sampler.ahead, run.step + 1, n))


def steps_of(run: Training, method: Method, recipe: Recipe, feed: Feed) -> tuple[Steps, Batch]:
    """The run's training steps, and where each finds its batch."""
    batch, modules = Batch(feed, fixed=capture.recorder() is not None), list(run.net.modules())
    parameters, buffers = list(run.net.parameters()), list(run.net.buffers())

    def step(rng: Rng, state: State) -> None:
        images = batch.read()
        x = transform_batch(images.unit(), recipe.loader, rng).contiguous(memory_format=layout(run.net))
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


def check_finite(run: Training) -> None:
    """Raises DivergedError once the loss has stopped being finite."""
    if not math.isfinite(float(run.loss_sum)):
        raise DivergedError(f"the loss stopped being finite at or before step {run.step}")
