"""Short runs with steps that are captured and replayed, and what makes two runs the same."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.core import capture
from benchmark.core.devices import whole
from benchmark.ops import kernels
from benchmark.training.determinism import determinism
from benchmark.training.loop import train
from benchmark.training.progress import Training, begin
from tests import toy
from tests.recorders import Double

DEVICES = pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")],
        ),
    ],
)
STEPS = 24


def replaying(device: str, by: Double) -> AbstractContextManager[None]:
    return capture.capturing(whole(device)) if device == "cuda" else capture.recording(by)


def trained(
    subject: Any, device: str, folder: Path, within: AbstractContextManager[None], steps: int = STEPS, **changes: Any
) -> Training:
    folder.mkdir(exist_ok=True)
    asked = toy.asked("erm", device=device, steps=steps, **changes)
    kernels.prepare(torch.device(device))
    with determinism(True), within:
        run = begin(asked, subject, toy.loaded())
        train(run, asked, subject, toy.loaded(), folder)
    return run


def same(one: Training, two: Training) -> None:
    for a, b in zip(one.net.state_dict().values(), two.net.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert one.curve == two.curve
    assert one.meter.passes() == two.meter.passes()
