"""Records made by hand, so that the table code is tested without training anything."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from benchmark.core.outcome import Accuracy, Calibrated, Calibration, Domain, Ran, Sensitivity, Throughput
from benchmark.core.recipe import Selection
from benchmark.core.record import Record
from benchmark.core.timing import SHARES
from benchmark.runs.store import Store
from benchmark.sensitivity.map import SensitivityMap
from benchmark.training.artifacts import npy_bytes
from tests import toy

MACHINE = {"packages": {"torch": "2.14.0"}, "threads": 2}


def record(
    method: str,
    seed: int,
    accuracy: float = 50.0,
    *,
    speed: float = 100.0,
    map_file: bytes | None = None,
    **changes: object,
) -> Record:
    """A finished run of the toy problem: `accuracy` in the shifted domain, 90 in the source's, one domain missing."""
    asked = toy.asked(method, seed, **changes)
    sensitivity = Sensitivity(
        sha256=hashlib.sha256(map_file).hexdigest() if map_file else "0" * 64,
        n_images=10,
        radius=8.0,
        clean_error=0.1,
        mean_standard_error=0.01,
        grid=None,
    )
    return Record(
        run_id=asked.run_id,
        status="done",
        asked=asked,
        sealed=True,
        steps=8,
        ran=ran(method, seed),
        accuracy=Accuracy(
            source_val={"source-val": 95.0, "last": 94.0, "oracle": 93.0},
            selected_step={"source-val": 4, "last": 8, "oracle": 6},
            n_val=32,
            domains={
                "shifted": Domain(
                    n=32, accuracy={"source-val": accuracy, "last": accuracy - 1, "oracle": accuracy + 2}
                ),
                "absent": Domain(missing="put absent.mat there"),
                "same": Domain(n=32, accuracy={"source-val": 90.0, "last": 90.0, "oracle": 90.0}),
            },
            in_domain=["same"],
        ),
        sensitivity=sensitivity,
        throughput=Throughput(
            images_per_second=speed,
            steady_images_per_second=2 * speed,
            steady_iqr=(1.5 * speed, 2.5 * speed),
            setup_seconds=0.5,
            train_seconds=2.0,
            shares=dict.fromkeys(SHARES, 0.2),
            passes_per_image=3.0,
            forwards_per_image=3.0,
            backwards_per_image=3.0,
            peak_memory_mib=512.0,
            parameters=1000,
        ),
    )


def ended(made: Record, when: str) -> Record:
    """With another moment at which it ended, such as 2026-01-02."""
    return made.model_copy(update={"ran": made.ran.model_copy(update={"ended": when})})


def scored(made: Record, accuracies: Mapping[str, float | None], in_domain: Sequence[str] = ()) -> Record:
    """The record with these accuracies in these domains, the same under every rule; None is missing data."""
    rules: tuple[Selection, ...] = ("source-val", "last", "oracle")
    domains = {
        name: Domain(missing="not there") if value is None else Domain(n=9, accuracy=dict.fromkeys(rules, value))
        for name, value in accuracies.items()
    }
    assert made.accuracy is not None
    accuracy = made.accuracy.model_copy(update={"domains": domains, "in_domain": list(in_domain)})
    return made.model_copy(update={"accuracy": accuracy})


def calibrated(made: Record, ece: float | None, **others: float | None) -> Record:
    """The record with this calibration error in each of its domains, half of it on source validation, and likelihoods
    of a tenth of each. others: domains with another error. None: outputs that are not all finite."""
    assert made.accuracy is not None

    def both(ece: float | None) -> Calibrated:
        return Calibrated() if ece is None else Calibrated(ece=ece, nll=ece / 10)

    there = [name for name, domain in made.accuracy.domains.items() if domain.n]
    domains = {name: both(others.get(name, ece)) for name in there}
    found = Calibration(source_val=both(ece and ece / 2), domains=domains)
    return made.model_copy(update={"calibration": found})


def error_map(record: Record) -> SensitivityMap:
    """A map for a record: 0.5 at the four lowest frequencies of an 8x8 grid, 0.1 elsewhere."""
    error = torch.full((8, 8), 0.1)
    error[0, 0] = error[0, 1] = error[0, -1] = error[1, 0] = error[-1, 0] = 0.5
    return SensitivityMap(error, clean_error=0.1, n_images=10, radius=2.0, seed=record.asked.seed)


def fill(folder: Path, runs: list[Record]) -> Store:
    """A store below folder with these runs finished, and with their maps."""
    store = Store(folder)
    store.prepare()
    for made in runs:
        content = npy_bytes(error_map(made).error.numpy())
        if made.sensitivity:
            sensitivity = made.sensitivity.model_copy(update={"sha256": hashlib.sha256(content).hexdigest()})
            made = made.model_copy(update={"sensitivity": sensitivity})  # noqa: PLW2901
        with store.working(made.run_id):
            store.finish(made, [], {"sensitivity.npy": content} if made.sensitivity else {})
    return store


def failed(method: str, seed: int, **changes: object) -> Record:
    asked = toy.asked(method, seed, **changes)
    return Record(
        run_id=asked.run_id,
        status="failed",
        asked=asked,
        steps=3,
        ran=ran(method, seed),
        error="Traceback\nValueError: broken on purpose",
    )


def ran(method: str, seed: int) -> Ran:
    return Ran(
        session="2026-01-01T00:00:00+00:00",
        command=f"python -m benchmark.run --methods {method} --seeds {seed}",
        ended="2026-01-01T00:01:00+00:00",
        seconds=3.0,
        code="c" * 12,
        git_commit=None,
        git_dirty=None,
        device_name="a processor",
        machine=MACHINE,
    )
