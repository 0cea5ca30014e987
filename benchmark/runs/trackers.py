"""Experiment trackers: the parent process sends them each run that ends, with its curve.

Run records stay the only source of tables and figures. A tracker that fails costs a warning and never a run.
"""

import importlib
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from benchmark.core.errors import UsageError, did_you_mean
from benchmark.core.record import Record, canonical_json
from benchmark.runs.job import Job, Listener
from benchmark.runs.store import Store

LOGGER = logging.getLogger(__name__)
Tracker: TypeAlias = Callable[[Record, list[dict[str, Any]]], None]
"""Takes a run's record and the points of its curve."""


class Tracked:
    """A listener that tells another what it hears, and gives each run that ends to the trackers.

    trackers: by the name used in warnings.
    """

    def __init__(self, listener: Listener, trackers: Mapping[str, Tracker]):
        self.listener, self.trackers = listener, trackers
        self.started, self.progressed, self.noticed = listener.started, listener.progressed, listener.noticed

    def ended(self, job: Job, record: Record | None) -> None:
        self.listener.ended(job, record)
        if record is None:
            return  # another process does this run
        for name, track in self.trackers.items():
            try:
                track(record, Store(job.out).curve(record))
            except Exception as problem:  # noqa: BLE001 - whatever a tracker raises, the run is done and stored
                said = f"{type(problem).__name__}: {problem}"
                LOGGER.warning("warning: --track %s: run %s is stored but not tracked (%s)", name, record.run_id, said)


def trackers(texts: Sequence[str], out: Path) -> dict[str, Tracker]:
    """The trackers of `--track`, by its words. Raises UsageError for an unknown one and one that is not installed."""
    found: dict[str, Tracker] = {}
    for text in texts:
        name, colon, where = text.partition(":")
        if name == "tensorboard" and (where or not colon):
            found[text] = tensorboard(Path(where).absolute() if where else out / "tensorboard")
        elif text == "wandb":
            found[text] = wandb_shaped(_library(name, "wandb"))
        else:
            raise UsageError(f"--track {text}: {did_you_mean(text, ['tensorboard', 'tensorboard:DIR', 'wandb'])}")
    return found


def tensorboard(folder: Path) -> Tracker:
    """Writes an event file for each run into a folder of its own below `folder`."""
    writer_class = _library("tensorboard", "torch.utils.tensorboard").SummaryWriter

    def track(record: Record, curve: list[dict[str, Any]]) -> None:
        with writer_class(str(folder / label(record)), purge_step=0) as writer:  # hides an earlier run of the same id
            writer.add_text("asked", f"`{canonical_json(record.asked.model_dump(mode='json'))}`")
            for step, values in logged(record, curve):
                for name, value in values.items():
                    writer.add_scalar(name, value, step)

    return track


def wandb_shaped(module: Any) -> Tracker:
    """Sends each run to anything with wandb's `init`, `log` and `finish`."""

    def track(record: Record, curve: list[dict[str, Any]]) -> None:
        config = record.asked.model_dump(mode="json") | {"run_id": record.run_id, "status": record.status}
        module.init(project="dg-referee", name=label(record), config=config)
        try:
            for step, values in logged(record, curve):
                module.log(values, step=step)
        finally:
            module.finish()

    return track


def label(record: Record) -> str:
    """A run as trackers list it; also the name of a folder."""
    asked = record.asked
    told = f"{asked.dataset}-{asked.source}-{asked.row}-seed{asked.seed}-{record.run_id}"
    return re.sub(r"[^\w.+-]+", "-", told)


def logged(record: Record, curve: list[dict[str, Any]]) -> Iterator[tuple[int, dict[str, float]]]:
    """Steps with what is logged at them: every point of the curve, then the results. Accuracies and
    calibration errors (ece) are percent, likelihoods (nll) nats."""
    for point in curve:
        values = {name: value for name, value in point.items() if name not in ("step", "test", "calibration")}
        values |= {f"test/{domain}": value for domain, value in point["test"].items()}
        found = point.get("calibration", {"source_val": {}, "domains": {}})
        values |= {f"val_{name}": value for name, value in found["source_val"].items()}
        for domain, numbers in found["domains"].items():
            values |= {f"test_{name}/{domain}": value for name, value in numbers.items()}
        yield point["step"], {name: value for name, value in values.items() if value is not None}
    accuracy, cost, rule = record.accuracy, record.throughput, record.asked.recipe.selection
    if accuracy is not None:
        reached = {f"selected/{name}": d.accuracy[rule] for name, d in accuracy.domains.items() if d.accuracy}
        reached |= {"selected/val": accuracy.source_val[rule], "selected/step": accuracy.selected_step[rule]}
        paid = {"images_per_second": cost.images_per_second, "passes_per_image": cost.passes_per_image} if cost else {}
        yield record.steps, reached | paid | {"seconds": record.ran.seconds}


def _library(name: str, module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as problem:
        raise UsageError(f"--track {name}: {problem}; pip install {name}") from problem
