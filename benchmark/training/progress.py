"""A run in progress: everything that changes while it trains, how it begins, and how it is saved and resumed."""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from torch import Tensor, nn

from benchmark import networks
from benchmark.core.devices import whole
from benchmark.core.images import Images
from benchmark.core.record import Asked
from benchmark.core.rng import key
from benchmark.core.stream import resident
from benchmark.core.timing import Meter
from benchmark.data.dataset import Loaded
from benchmark.method import Method, State
from benchmark.networks.weights import load_weights
from benchmark.training import checkpoints, signals
from benchmark.training.optimise import Sampler, make_optimizer


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
    """One point for each evaluation: step, progress, mean loss since the last, accuracies in percent,
    calibration (core.outcome.Calibration)."""
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
            checkpoints.save_checkpoint(folder, code, self.dump(), pool)
        except OSError as problem:
            if (note := f"a checkpoint could not be written: {problem.strerror}") not in self.notes:
                self.notes.append(note)

    def resume(self, folder: Path, code: str, device: torch.device) -> bool:
        """Takes up the checkpoint in `folder`, if there is a sound one of the same code."""
        try:
            found = checkpoints.load_checkpoint(folder, code)
        except checkpoints.DamagedError as problem:
            self.notes.append(f"started anew: {problem}")
            return False
        if found is None:
            return False
        before = copy.deepcopy(self.dump()), [self.pool.x, self.pool.y], self.pool.x.device
        try:
            self._require_own(*found)
            self.restore(*found, device)
        except Exception as problem:  # noqa: BLE001 - whole, but not what this run writes
            self.restore(*before)
            self.resumed = 0
            reason = " ".join(str(problem).split())[:300]
            self.notes.append(f"started anew: {checkpoints.NAME} is not one of this run: {reason}")
            return False
        return True

    def _require_own(self, saved: dict[str, Any], pool: list[Tensor] | None) -> None:
        """Raises ValueError where a checkpoint is not of this run's shape; `restore` finds what is missing."""
        step, start, seconds, resumed, grown = saved["plain"]
        counts = [step, start, resumed, *([] if grown is None else [grown])]
        if not all(type(count) is int and count >= 0 for count in counts) or not 0 <= seconds < float("inf"):
            raise ValueError(f"its counts are {saved['plain']}")
        if (grown is None) != (pool is None):
            raise ValueError("a pool that grew, or none")
        if pool is not None and Images(*pool).x.shape[1:] != self.pool.x.shape[1:]:
            raise ValueError(f"its pool holds images of {list(pool[0].shape[2:])}")
        shapes = {name: tensor.shape for name, tensor in self.net.state_dict().items()}
        if saved["best"] and {name: tensor.shape for name, tensor in saved["best"].items()} != shapes:
            raise ValueError("its selected weights are those of another network")
        if saved["loss_sum"].shape != () or not isinstance(saved["state"], dict):
            raise ValueError("its loss or the method's state is of another kind")
        if {type(point) for point in saved["curve"]} - {dict} or {type(note) for note in saved["notes"]} - {str}:
            raise ValueError("its curve or its notes are of another kind")

    def restore(self, saved: dict[str, Any], pool: list[Tensor] | None, device: torch.device) -> None:
        self.net.load_state_dict(saved["net"])
        self.optimizer.load_state_dict(saved["optimizer"])
        for group in self.optimizer.param_groups:
            group["lr"] = _to(group["lr"], device)
        self.meter.restore(saved["meter"])
        if pool:
            (self.pool,) = resident([Images(*pool)], device)
        self.loss_sum, self.state, self.best = (_to(saved[name], device) for name in ("loss_sum", "state", "best"))
        self.step, self.epoch_start, self.seconds, self.resumed, self.grown = saved["plain"]
        self.resumed += 1
        self.curve, self.notes = saved["curve"], saved["notes"]


class Checkpointing:
    """The checkpoints of a run, in `folder`, and its wall clock, which goes on where one of them is taken up.

    code: hash of the code; a checkpoint that other code made is not taken up. every: seconds between checkpoints.
    """

    def __init__(self, run: Training, sampler: Sampler, folder: Path, code: str, every: float):
        self.run, self.sampler, self.folder, self.code, self.every = run, sampler, folder, code, every
        self._begun = self._saved = monotonic()
        self._before = run.seconds

    def resume(self, device: torch.device) -> bool:
        """Takes up the checkpoint, if there is a sound one."""
        found = self.run.resume(self.folder, self.code, device)
        if found:
            self.sampler.restart(self.run.epoch_start)
        self._before = self.run.seconds
        return found

    def after_step(self) -> None:
        """Saves the run where it is time to; where the process is to end, it raises StoppedError once that is done."""
        if signals.asked() or monotonic() - self._saved > self.every:
            self.run.epoch_start = self.sampler.start
            self.read_clock()
            self.run.save(self.folder, self.code)
            self._saved = monotonic()
            if signals.asked():
                raise signals.StoppedError

    def read_clock(self) -> None:
        """Sets the seconds of the run to those up to now."""
        self.run.seconds = self._before + monotonic() - self._begun


def begin(asked: Asked, method: Method, data: Loaded, weights_file: Path | None = None) -> Training:
    """A run at step 0: network and optimiser on the device, the pool if it fits, nothing trained.

    weights_file: where the recipe's weights are those of a local file. Raises UsageError where they do not fit.
    """
    device, recipe = whole(asked.device), asked.recipe
    plain = networks.build(recipe.network, data.classes, key(asked.seed, "init"), recipe.weights)
    load_weights(plain, recipe.weights, weights_file)
    normalisation = plain.mean.flatten().tolist(), plain.std.flatten().tolist()
    plain.precision = recipe.precision
    net = method.wrap(plain).to(device)
    net.to(memory_format=networks.layout(net))
    optimizer = make_optimizer(net, recipe)
    (pool,) = resident([data.train], device)
    return Training(net, optimizer, Meter(device), pool, torch.zeros((), device=device), normalisation)


def _to(value: Any, device: torch.device) -> Any:
    """`value` with every tensor in it on the device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {name: _to(inner, device) for name, inner in value.items()}
    return [_to(inner, device) for inner in value] if isinstance(value, list) else value
