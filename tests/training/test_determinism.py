"""What is said of repeating a run: deterministic algorithms, operations without one, and runs that did not repeat."""

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from benchmark.core.record import Record
from benchmark.runs.args import Args
from benchmark.runs.begun import MIXED
from benchmark.runs.engines.local import run_jobs
from benchmark.runs.plan import plan
from benchmark.runs.store import Store
from benchmark.training.determinism import determinism


def made(out: Path, **changes: Any) -> Record:
    """The record of a short run of ERM."""
    store = Store(out)
    store.prepare()
    short: dict[str, Any] = {
        "methods": ("erm",), "seeds": (0,), "steps": 4, "evaluations": 1, "sensitivity_images": 0, "device": "cpu",
    }  # fmt: skip
    run_jobs(plan(Args(**short | {"out": out} | changes)), 1, Mock())
    (record,) = store.read_all()
    return record


def test_an_operation_without_a_deterministic_form_is_named_once() -> None:
    at, one = torch.tensor([0]), torch.ones(1)
    with determinism(wanted=True) as found:
        assert torch.are_deterministic_algorithms_enabled()
        for _ in range(2):
            torch.zeros(3).put_(at, one)
    assert found == ["not deterministic: put_"]
    assert not torch.are_deterministic_algorithms_enabled()
    with determinism(wanted=False) as found:
        torch.zeros(3).put_(at, one)
    assert found == []


def test_the_record_says_whether_algorithms_were_deterministic(tmp_path: Path) -> None:
    plain, asked = made(tmp_path / "plain"), made(tmp_path / "asked", deterministic=True)
    assert [r.ran.machine["deterministic"] for r in (plain, asked)] == [False, True]
    assert plain.run_id == asked.run_id
    assert plain.accuracy == asked.accuracy


@pytest.mark.parametrize("kind", ["the same", "other", "of two machines"])
def test_a_run_that_did_not_repeat_says_so(tmp_path: Path, kind: str) -> None:
    first, store = made(tmp_path), Store(tmp_path)
    assert first.accuracy is not None
    if kind != "the same":
        other = first.accuracy.model_copy(update={"n_val": first.accuracy.n_val + 1})
        mixed = [f"{MIXED}: this; then that"] * (kind == "of two machines")  # which none can repeat
        with store.working(first.run_id):
            store.finish(first.model_copy(update={"accuracy": other, "warnings": mixed}), store.curve(first))
    again = made(tmp_path, save_weights=True)
    assert again.weights is not None
    assert any(warning.startswith("not repeatable") for warning in again.warnings) is (kind == "other")
