"""Run records: Asked (what a run was asked to do, hashed to its id) and Record (what came of it)."""

import hashlib
import json
from typing import Any, Literal, Self, get_args

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from benchmark.core.field_types import PlainJson, Positive, Whole
from benchmark.core.outcome import Accuracy, Calibration, Category, Ran, Sensitivity, Throughput, Weights
from benchmark.core.recipe import FrozenModel, Recipe

Status = Literal["done", "failed", "diverged"]


class Trial(FrozenModel):
    """That a search drew the settings of a run (benchmark.runs.search)."""

    number: Whole
    """Which of the settings drawn it has; 0: those asked for."""
    of: int | None = Field(None, ge=2)
    """How many were tried, of which this was the best on source validation; None in a run that tries one."""

    def __str__(self) -> str:
        return f"{self.number}/{self.of}" if self.of else str(self.number)

    @model_validator(mode="after")
    def _is_one_of_them(self) -> Self:
        if self.of and self.number >= self.of:
            raise ValueError(f"of {self.of} trials the last is {self.of - 1}, not {self.number}")
        return self


class Asked(FrozenModel):
    """What a run was asked to do. Hashed to its run id, so it holds no host or date, and no path but one given as a
    setting."""

    protocol: str
    recipe: Recipe
    method: str
    settings: PlainJson
    """Every field of the method, defaults written out."""
    variant: str
    """The fields that differ from the protocol's own, as 'a=1,b=2'; empty for the method as the protocol has it. What a
    search drew is not among them."""
    dataset: str
    dataset_settings: PlainJson
    fingerprint: str
    """Hash of all decoded images and labels that the run may touch."""
    source: str
    """Source domain; several pooled ones are joined by '+'."""
    seed: int = Field(ge=0, le=2**63 - 1)
    budget: Literal["steps", "passes", "time"]
    seconds: Positive | None = None
    """Length of the run under the `time` budget."""
    device: Literal["cpu", "cuda"]
    trial: Trial | None = None
    """Left out of records where no search drew the settings."""

    @model_serializer(mode="wrap")
    def _dump(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a younger field at its default, so that the ids of runs from before it still hold."""
        found: dict[str, Any] = dump(self)
        return {name: value for name, value in found.items() if name != "trial" or value is not None}

    @property
    def run_id(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of the canonical JSON of its dump."""
        return hashlib.sha256(canonical_json(self.model_dump(mode="json")).encode()).hexdigest()[:12]

    @property
    def row(self) -> str:
        """The name of the table row: the method, with its variant in brackets where there is one. Runs that try
        settings are a row for each; a run with the settings chosen has the name of the row that was asked for."""
        name = f"{self.method}[{self.variant}]" if self.variant else self.method
        return name if self.trial is None or self.trial.of else f"{name}, trial {self.trial.number}"


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


class Record(FrozenModel):
    """One run: what was asked, what it ran on, what came out. `runs/<run_id>/record.json`."""

    schema_version: Literal[1] = 1
    """Version of the record's layout; raised whenever an old record could be misread."""
    run_id: str
    status: Status
    asked: Asked
    ran: Ran
    steps: Whole
    """Training steps done."""
    accuracy: Accuracy | None = None
    calibration: Calibration | None = None
    """None in records from before it was measured."""
    sensitivity: Sensitivity | None = None
    throughput: Throughput | None = None
    weights: Weights | None = None
    """Only where they were asked for."""
    error: str | None = None
    """For a run that did not end well: the end of its traceback."""
    warnings: list[str] = Field(default_factory=list)
    operations: tuple[str, ...] | None = None
    """What the method said that its views are made of (method.Method.operations); None in records from before that."""
    sealed: bool = False
    """Whether SHA256SUMS has to lie beside the record; it may be missing in those from before it was written."""

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        """Every rule that the tables ask for is there, and the parts speak of the same domains."""
        found, rules = self.accuracy, {"source-val", "last", "oracle", self.asked.recipe.selection}
        if self.status == "done" and found is None:
            raise ValueError("accuracy is missing in a run that is done")
        if self.throughput and (absent := set(get_args(Category)) - self.throughput.shares.keys()):
            raise ValueError(f"throughput.shares lacks {', '.join(sorted(absent))}")
        there = {name for name, domain in found.domains.items() if domain.n} if found else set()
        if self.calibration and self.calibration.domains.keys() != there:
            raise ValueError("calibration.domains are not the domains that have an accuracy")
        if found is None:
            return self
        parts: dict[str, Any] = {f"domains.{name}.accuracy": d.accuracy for name, d in found.domains.items()}
        parts |= {"source_val": found.source_val, "selected_step": found.selected_step}
        for name, by_rule in parts.items():
            if by_rule is not None and (lacking := rules - by_rule.keys()):
                raise ValueError(f"accuracy.{name} lacks the selection rule {', '.join(sorted(lacking))}")
        if foreign := set(found.in_domain) - found.domains.keys():
            raise ValueError(f"accuracy.in_domain names {', '.join(sorted(foreign))}, which accuracy.domains lacks")
        return self
