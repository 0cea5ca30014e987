"""How long runs will take: what each does is counted, and priced by what the like of it took.

Prices come from finished records of the same method on the same data; else from a trial on this machine (trial.py),
corrected by records of ERM on these data; else, where nothing is to be tried, from bare passes.
"""

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import astuple, replace
from statistics import median

import torch

from benchmark import registry
from benchmark.core.devices import on_gpu
from benchmark.core.errors import UsageError
from benchmark.core.recipe import Recipe
from benchmark.core.record import Asked, Record, canonical_json
from benchmark.data.dataset import Loaded
from benchmark.runs import machine, trial
from benchmark.runs.counts import Parts, as_erm, counts, frequencies, images_of_steps, work_of
from benchmark.runs.job import Job
from benchmark.runs.shared import Facts, data_facts, load_data
from benchmark.runs.store import Store
from benchmark.runs.torch_state import as_in_a_new_process
from benchmark.training.budget import Budget
from benchmark.training.floors import LONGEST

CLOSING, FLOOR, TIMED = 0.2, 1500, 4 * LONGEST
"""Seconds that a run needs to be written, images whose bare passes measure its floor, and seconds after which enough of
them are timed."""
WAVE = 0.5
"""Seconds of scoring an image with a wave added, for each of scoring it plain: the map does the first layer once."""
UNKNOWN = 1e-4
"""Seconds of a pass of an image where nothing is known: parts are then in proportion, and nothing else."""


def estimate(todo: Sequence[Job], store: Store, *, try_out: bool = False) -> dict[str, float]:
    """Seconds by run id. try_out: where there are no records of a method, its own steps are tried, which takes a second
    or two for each method at 32 px and up to a minute or two at 112 px; without, its passes are counted."""
    records: list[Record] = []
    with suppress(UsageError):  # what cannot be read stops the tables, and no run
        records = [record for record in store.read_all() if record.status == "done"]
    known: dict[tuple[object, ...], Parts] = {}
    found, trials = {}, Trials()
    for job in todo:
        asked = job.asked
        facts = data_facts(asked.dataset, asked.dataset_settings, asked.source, job.data_dir)
        key = (*_kind(asked), *_length(asked), facts)
        if key not in known:
            known[key] = of_run(asked, facts, records, job if try_out else None, trials)
        found[asked.run_id] = known[key].total
    return found


class Trials:
    """Trials on this machine. One is made for a method, network and image size, whatever the source and the seed."""

    def __init__(self) -> None:
        self._prices: dict[tuple[object, ...], trial.Prices] = {}
        self._tried: dict[tuple[object, ...], trial.Tried] = {}

    def prices(self, recipe: Recipe, facts: Facts, device: torch.device) -> trial.Prices:
        key = (recipe.network, recipe.precision, recipe.batch_size, facts.height, facts.width, device)
        if key not in self._prices:
            self._prices[key] = trial.prices(recipe, facts.height, facts.width, device)
        return self._prices[key]

    def tried(self, asked: Asked, facts: Facts, data: Loaded, *, phases: bool = False) -> trial.Tried:
        """Raises what the method raises."""
        kind = _kind(asked.model_copy(update={"source": ""}))
        key = (*kind, *_length(asked), facts.height, facts.width, min(facts.images, trial.IMAGES), phases)
        if key not in self._tried:
            method = registry.make("method", asked.method, asked.settings)
            self._tried[key] = trial.tried(asked, method, data, phases=phases)
        return self._tried[key]


def of_run(
    asked: Asked, facts: Facts, records: Sequence[Record], job: Job | None = None, trials: Trials | None = None
) -> Parts:
    """Seconds of one run, by records, or by a trial of this job's method, unless these trials have one."""
    like = nearest(asked, records)
    if like:
        return _middle(scaled(asked, facts, record) for record in like)
    return by_trial(asked, facts, records, job, trials or Trials()) if job else by_passes(asked, facts, records)


def nearest(asked: Asked, records: Sequence[Record]) -> list[Record]:
    """The records of this method on these data that tell most: of this processor or GPU, with its threads, and of the
    length that is nearest in proportion. Nothing where no record is of this processor or GPU."""
    device = machine.device_of(asked)
    name, threads = machine.device_name(device), machine.threads_of(asked.recipe)

    def distance(record: Record) -> tuple[bool, float]:
        here = record.ran.machine["threads"] == threads or on_gpu(device)
        each = record.throughput.passes_per_image if record.throughput and asked.budget == "passes" else 1.0
        steps = asked.recipe.steps / (each or 1.0)  # a plugin may make no pass that is counted
        return not here, abs(math.log(max(1, record.steps) / steps)) if asked.seconds is None else 0.0

    like = [r for r in records if _kind(r.asked) == _kind(asked) and r.ran.device_name == name and r.throughput]
    best = min(map(distance, like), default=None)
    return [record for record in like if distance(record) == best]


def scaled(asked: Asked, facts: Facts, record: Record) -> Parts:
    """Seconds of a run, from those of one of the same method on the same data."""
    cost, wanted, done = record.throughput, counts(asked, facts), counts(record.asked, facts, record.steps)
    assert cost is not None
    phases = cost.train_seconds * (cost.shares["expand"] + cost.shares["attack"]) if done.phases else 0.0
    steps = cost.train_seconds - phases
    scoring = max(0.0, record.ran.seconds - cost.setup_seconds - cost.train_seconds)
    price = steps / max(1.0, done.steps)
    steady = record.steps * record.asked.recipe.batch_size / max(1.0, cost.steady_images_per_second * done.steps)
    further = max(0.0, wanted.steps - done.steps) * min(price, steady or price)  # the first steps are slow, once
    taken = Parts(
        setup=_per(cost.setup_seconds, wanted.setup, done.setup, cost.setup_seconds),
        steps=min(wanted.steps, done.steps) * price + further,
        phases=_per(phases, wanted.phases, done.phases, wanted.phases * price),
        scoring=_per(scoring, wanted.scoring, done.scoring, 0.0),
        closing=WAVE * _per(scoring, wanted.closing, done.scoring, 0.0)
        + _floor(asked, price)
        + steps / max(1, record.steps),
    )
    return _within(asked, taken)


def by_trial(asked: Asked, facts: Facts, records: Sequence[Record], job: Job, trials: Trials) -> Parts:
    """Seconds of a run, from some of its steps; where the method cannot be tried, from its passes."""
    recipe, device = asked.recipe, machine.device_of(asked)
    data = load_data(asked.dataset, asked.dataset_settings, asked.source, job.data_dir)
    bare: trial.Prices | None = None
    work, wanted = work_of(asked, facts), counts(asked, facts)
    try:
        bare = trials.prices(recipe, facts, device)
        with as_in_a_new_process():
            tried = trials.tried(asked, facts, data, phases=work.attacked > 0)
            slower = _slower(asked, facts, records, data, trials)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - whatever a plugin raises: the run itself will say it
        return by_passes(asked, facts, records, bare)
    per_image = max(tried.per_image, work.per_image or 0.0) or 1.0  # a plugin may make no pass that is counted
    step = tried.step * per_image / (tried.per_image or per_image)
    small = replace(facts, images=tried.pool)
    encoding = _per(tried.setup, 1, work_of(asked, small).encoded, 0.0)
    known = work.helpers or work.mapped or work.encoded
    parts = Parts(
        setup=_setup(asked, facts, bare) + work.encoded * encoding if known else tried.setup,
        steps=images_of_steps(asked, work, per_image) / recipe.batch_size * step,
        phases=work.attacked * tried.attack + work.encoded_later * encoding,
        scoring=wanted.scoring * bare.forward,
        closing=wanted.closing * bare.wave + _floor(asked, bare.passes) + step,
    )
    return _within(asked, Parts(*(slower * part for part in astuple(parts))))


def _setup(asked: Asked, facts: Facts, bare: trial.Prices) -> float:
    """Seconds of helper networks and their maps."""
    work, method = work_of(asked, facts), registry.make("method", asked.method, asked.settings)
    helper = Budget(asked).helper_steps(method.passes) * asked.recipe.batch_size
    return work.helpers * helper * bare.passes + frequencies(facts) * min(work.mapped, facts.val) * bare.wave


def _slower(asked: Asked, facts: Facts, records: Sequence[Record], data: Loaded, trials: Trials) -> float:
    """How many times as long as a trial of now steps of ERM took in the records; 1 without such records."""
    plain = _in_steps(asked)
    known = [scaled(plain, facts, record).steps for record in nearest(plain, records)]
    return median(known) / asked.recipe.steps / trials.tried(plain, facts, data).step if known else 1.0


def _in_steps(asked: Asked) -> Asked:
    """The run of ERM that a run's prices are taken from; a budget in seconds would say nothing of them."""
    return as_erm(asked).model_copy(update={"budget": "steps", "seconds": None})


def by_passes(asked: Asked, facts: Facts, records: Sequence[Record], bare: trial.Prices | None = None) -> Parts:
    """Seconds of a run, from its passes alone; at the price that ERM's have in the records, or else a bare one."""
    device = machine.device_of(asked)
    plain = _in_steps(asked)
    erm = [scaled(plain, facts, record) for record in nearest(plain, records)]
    if erm:
        done, taken = counts(plain, facts), _middle(erm)
        forward = _per(taken.scoring, 1, done.scoring, 0.0)
        bare = trial.Prices(_per(taken.steps, 1, done.steps, UNKNOWN), forward, WAVE * forward)
    elif bare is None:
        bare = trial.Prices(UNKNOWN, UNKNOWN / 3, WAVE * UNKNOWN / 3)
        if not on_gpu(device):  # whoever computes on a GPU keeps memory there, which the runs' own processes need
            with suppress(Exception):
                bare = trial.prices(asked.recipe, facts.height, facts.width, device)
    wanted = counts(asked, facts)
    parts = Parts(
        setup=wanted.setup * bare.passes,
        steps=wanted.steps * bare.passes,
        phases=wanted.phases * bare.passes,
        scoring=wanted.scoring * bare.forward,
        closing=wanted.closing * bare.wave + _floor(asked, bare.passes),
    )
    return _within(asked, parts)


def at_a_time(seconds: Sequence[float], jobs: int, cores: int, gpu: bool) -> float:
    """Seconds of runs that go on so many at a time and share the cores; on a GPU they take turns. cores: how many would
    be at work at once if each run had all the threads that it takes alone."""
    abreast = 1 if gpu else max(1, min(jobs, cores))
    return max([sum(seconds) / abreast, *seconds])


def _floor(asked: Asked, price: float) -> float:
    """Seconds that measuring the floor takes, at so many for a bare pass of an image. Its timing ends by itself, after
    the batch that it is in: one each of a forward and of both passes, and one of each before."""
    return min(FLOOR * price, TIMED + 4 * asked.recipe.batch_size * price)


def _within(asked: Asked, parts: Parts) -> Parts:
    """With the time that writing takes. A budget in seconds is that of set-up, steps and phases together."""
    parts = replace(parts, closing=parts.closing + CLOSING)
    return parts if asked.seconds is None else replace(parts, setup=0.0, steps=asked.seconds, phases=0.0)


def _per(seconds: float, wanted: float, done: float, otherwise: float) -> float:
    return seconds * wanted / done if done else otherwise


def _middle(found: Iterable[Parts]) -> Parts:
    """The median, part by part."""
    return Parts(*(median(values) for values in zip(*map(astuple, found), strict=True)))


def _kind(asked: Asked) -> tuple[object, ...]:
    """What two runs share whose steps cost the same."""
    recipe = asked.recipe
    where = asked.dataset, canonical_json(asked.dataset_settings), asked.source, asked.device
    return (asked.method, canonical_json(asked.settings), *where, recipe.network, recipe.batch_size, recipe.precision)


def _length(asked: Asked) -> tuple[object, ...]:
    recipe = asked.recipe
    return asked.budget, asked.seconds, recipe.steps, recipe.evaluations, recipe.sensitivity_images, recipe.selection
