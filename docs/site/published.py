"""The records of results/published, and how the documents' tables are set."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.core.record import Record
from benchmark.report.people.cells import spread
from benchmark.report.tidy import comparisons
from benchmark.runs.records import Records

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT / "results" / "published"
FOLDERS = sorted(runs.parent for runs in (PUBLISHED / "runs", *PUBLISHED.glob("*/runs")) if runs.is_dir())
"""The main results, and those of studies, which take methods apart and give no advice: a results folder each."""


@cache
def records(dataset: str, *lengths: str, folder: str = "") -> tuple[Record, ...]:
    """The records of one dataset and some lengths under the common protocol, of the main results or of one of their
    folders."""
    common = (r for r in everything(folder) if r.asked.protocol == "common")
    return tuple(r for r in common if r.asked.dataset == dataset and comparisons.length(r.asked) in lengths)


@cache
def everything(folder: str = "") -> list[Record]:
    return Records(PUBLISHED / folder).read_all()


def markdown(lines: pd.DataFrame | Sequence[Mapping[str, object]]) -> str:
    return str(pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True))


def over_seeds(values: Mapping[Any, float], digits: int = 1) -> str:
    """Mean ± sd of values by seed."""
    return spread({str(seed): value for seed, value in values.items()}, "–", digits).text
