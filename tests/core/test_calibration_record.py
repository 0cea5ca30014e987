"""The calibration of a record: what is refused, and records from before it was measured."""

import json

import pytest
from pydantic import ValidationError

from benchmark.core.outcome import Calibrated
from benchmark.core.record import Record
from tests.handmade import calibrated, failed, record

MADE = calibrated(record("erm", 0), 12.0)


def test_a_record_keeps_it() -> None:
    assert Record.model_validate_json(MADE.model_dump_json()) == MADE
    broken = calibrated(record("erm", 0), None)
    assert Record.model_validate_json(broken.model_dump_json()).calibration == broken.calibration


@pytest.mark.parametrize("wrong", [{"ece": 5.0}, {"nll": 5.0}, {"ece": 100.1, "nll": 1.0}, {"ece": -0.1, "nll": 1.0},
                                   {"ece": 1.0, "nll": -1.0}, {"ece": 1.0, "nll": float("inf")}])  # fmt: skip
def test_a_number_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Calibrated.model_validate(wrong)


@pytest.mark.parametrize("change", ["absent", "same"])
def test_its_domains_are_those_of_the_accuracy(change: str) -> None:
    """One that is missing has no calibration, and one that is there has."""
    held = json.loads(MADE.model_dump_json())
    domains = held["calibration"]["domains"]
    domains[change] = domains.pop("shifted")
    with pytest.raises(ValidationError, match="not the domains that have an accuracy"):
        Record.model_validate(held)


def test_a_run_without_accuracy_has_none() -> None:
    with pytest.raises(ValidationError, match="not the domains that have an accuracy"):
        Record.model_validate(failed("erm", 0).model_dump() | {"calibration": MADE.calibration})


def test_a_record_from_before_it_was_measured_is_read() -> None:
    held = json.loads(record("erm", 0).model_dump_json())
    del held["calibration"]
    old = Record.model_validate(held)
    assert old.calibration is None
    assert old.asked.run_id == old.run_id == MADE.run_id
