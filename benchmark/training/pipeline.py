"""One run, from its data to all that is measured of it. What stands above this only says what is to be done."""

import math
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmark.core import capture
from benchmark.core.devices import whole
from benchmark.core.outcome import Accuracy, Calibration, Sensitivity, Throughput, Weights
from benchmark.core.peak_memory import reset_peak_memory
from benchmark.core.record import Asked
from benchmark.data.dataset import Loaded
from benchmark.method import Method
from benchmark.networks import precision
from benchmark.ops import kernels
from benchmark.training import data_parallel
from benchmark.training.determinism import determinism
from benchmark.training.loop import Report, train
from benchmark.training.measurements import (
    accuracy_of,
    calibration_of,
    sensitivity_of,
    throughput_of,
    views_of,
    weights_of,
)
from benchmark.training.progress import Training, begin


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a run is done; what is to be done is asked (core.record.Asked)."""

    code: str = ""
    """Hash of the code: a checkpoint that other code made is not taken up."""
    checkpoint_seconds: float = 30.0
    weights: Path | None = None
    """The local file of the network's first weights, if the recipe's are those of one."""
    save_weights: bool = False
    deterministic: bool = False
    """Whether torch takes its deterministic algorithms."""
    launch: bool = False
    """Whether operations are launched one by one where a captured step could be replayed."""
    sharing: int = 1
    """Runs at a time, this one included, on the machine."""


@dataclass
class Measured:
    """What has come of a run so far; where it fails, what there was before."""

    run: Training | None = None
    """None until it has begun."""
    accuracy: Accuracy | None = None
    calibration: Calibration | None = None
    throughput: Throughput | None = None
    sensitivity: Sensitivity | None = None
    weights: Weights | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    """Contents by name of what is to lie beside the record."""
    notes: list[str] = field(default_factory=list)
    unrepeatable: list[str] = field(default_factory=list)
    """Operations without a deterministic algorithm, where that was wanted."""

    @property
    def warnings(self) -> list[str]:
        """All that the record is to warn of."""
        return [*self.notes, *(self.run.notes if self.run else []), *self.unrepeatable]

    @property
    def parts(self) -> dict[str, Any]:
        """The parts of its record, by name."""
        names = ("accuracy", "calibration", "throughput", "sensitivity", "weights")
        return {name: getattr(self, name) for name in names}

    @contextmanager
    def surviving(self, lacks: str) -> Iterator[None]:
        """What fails inside is noted, as what the record lacks, and the run goes on: it is trained and scored."""
        try:
            yield
        except Exception as problem:  # noqa: BLE001 - a plugin's network or view may raise anything
            self.notes.append(f"{lacks}: {traceback.format_exception_only(problem)[-1].strip()}")


def train_and_measure(
    asked: Asked,
    method: Method,
    data: Loaded,
    classes: tuple[str, ...],
    *,
    folder: Path,
    options: Options,
    report: Report,
    measured: Measured,
) -> None:
    """Trains a run and fills `measured` step by step. classes: their names. folder: of its checkpoints.

    Raises what the method raises, DivergedError, StoppedError, UsageError where the first weights do not fit, and
    RuntimeError where the images were written into.
    """
    device, recipe = whole(asked.device), asked.recipe
    reset_peak_memory(device)
    with determinism(options.deterministic) as measured.unrepeatable, untouched(data):
        run = measured.run = _begin(asked, method, data, options)
        _train(run, asked, method, data, folder, options, report)
        measured.accuracy = accuracy_of(run, data, recipe.selection)
        measured.calibration = calibration_of(run, recipe.selection)
        size, sharing = recipe.batch_size, options.sharing
        # Captured anew: the steps' pool of memory is gone with them.
        with measured.surviving("no cost"), capture.capturing(device, wanted=not options.launch):
            measured.throughput = throughput_of(run, size, device, recipe.precision, sharing=sharing)
        report("mapping sensitivity", 1.0)
        with measured.surviving("no sensitivity map"):
            measured.sensitivity, map_file = sensitivity_of(run, asked, data.val)
            measured.files |= {"sensitivity.npy": map_file} if map_file else {}
        if options.save_weights:
            measured.weights, measured.files["weights.safetensors"] = weights_of(run, asked, classes)
        with measured.surviving("no picture of the views"):
            measured.files["views.png"] = views_of(run, asked, method, data.train)


def train_along(asked: Asked, method: Method, data: Loaded, *, folder: Path, options: Options) -> None:
    """Trains as train_and_measure does, and neither measures nor saves: this process takes its share of a run that
    another one measures (`--nproc`). Raises what the method raises, DivergedError and UsageError."""
    with determinism(options.deterministic):
        run = _begin(asked, method, data, options)
        _train(run, asked, method, data, folder, replace(options, checkpoint_seconds=math.inf))


def _begin(asked: Asked, method: Method, data: Loaded, options: Options) -> Training:
    """The run at step 0, with its kernels compiled and its precision set."""
    device = whole(asked.device)
    kernels.prepare(device)
    precision.use(asked.recipe.precision, device)
    return begin(asked, method, data, options.weights)


def _train(
    run: Training,
    asked: Asked,
    method: Method,
    data: Loaded,
    folder: Path,
    options: Options,
    report: Report = lambda doing, share: None,
) -> None:
    every = options.checkpoint_seconds
    with data_parallel.split(run.net), capture.capturing(whole(asked.device), wanted=not options.launch):
        train(run, asked, method, data, folder, report, code=options.code, checkpoint_seconds=every)


def versions(data: Loaded) -> list[int]:
    """How often the tensors of the data were written to, as torch counts it."""
    parts = data.train, data.val, *data.test.values()
    return [tensor._version for images in parts for tensor in (images.x, images.y)]


@contextmanager
def untouched(data: Loaded) -> Iterator[None]:
    """Raises RuntimeError where the images were written into: the runs after this one may share them."""
    before = versions(data)
    try:
        yield
    finally:
        if before != versions(data):
            raise RuntimeError("the method wrote into the images that it was given; it has to copy them first")
