"""What a Ray task does on a node of the cluster: one run, which is given everything that it needs."""

import os
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmark import registry
from benchmark.core.errors import UsageError
from benchmark.core.images import Images
from benchmark.data.dataset import Loaded
from benchmark.runs.job import Job, seldom
from benchmark.runs.perform import Inputs, Outcome, perform


@dataclass(frozen=True)
class Parcel:
    """What a run needs of the driver's files."""

    code: str
    """The driver's Job.code."""
    folder: Path
    """The driver's work folder of the run, which a node may see or not."""
    files: dict[Path, bytes]
    """Contents of the plugins and of the file of weights."""


def work(job: Job, parcel: Parcel, packed: Any, news: Any) -> Outcome:
    """Does a run. packed: pack() of its data. news: the actor that takes what it says.

    Raises UsageError where this node has other code than the driver.
    """
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        # A package is called by its folder.
        here = {path: Path(name, str(i), path.parent.name, path.name) for i, path in enumerate(parcel.files)}
        for path, content in parcel.files.items():
            here[path].parent.mkdir(parents=True)
            here[path].write_bytes(content)
        plugins = tuple(here[path] for path in job.plugins)
        job = replace(job, plugins=plugins, weights=here[job.weights] if job.weights else None)
        registry.load_plugins(plugins)
        if job.code != parcel.code:
            raise UsageError(
                f"node {os.uname().nodename} has other code ({job.code}) than the driver ({parcel.code}): install the "
                "same version of this package on every node"
            )
        folder = parcel.folder if os.access(parcel.folder, os.W_OK) else Path(name)
        report = seldom(lambda *said: news.put_nowait.remote((job.asked.run_id, *said)), 1.0)
        return perform(job, folder, report, lambda _: unpack(packed))


@dataclass(frozen=True)
class _Arrays:
    """Images as Ray shares them between the processes of a node, without a copy."""

    x: np.ndarray[Any, Any]
    y: np.ndarray[Any, Any]


def pack(inputs: Inputs) -> Any:
    """A run's data in arrays, for Ray's object store."""
    loaded, classes = inputs
    return _convert(vars(loaded), Images, lambda images: _Arrays(images.x.numpy(), images.y.numpy())), classes


def unpack(packed: Any) -> Inputs:
    """What was packed. Its images lie in the node's shared memory, where writing into them ends the process."""
    fields, classes = packed
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        found = _convert(fields, _Arrays, lambda part: Images(torch.from_numpy(part.x), torch.from_numpy(part.y)))
    return Loaded(**found), classes


def _convert(value: Any, kind: type[Any], change: Callable[[Any], Any]) -> Any:
    """`value` with everything of a kind in it changed."""
    if isinstance(value, dict):
        return {name: _convert(inner, kind, change) for name, inner in value.items()}
    return change(value) if isinstance(value, kind) else value
