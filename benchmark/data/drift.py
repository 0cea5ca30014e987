"""How far generated corruptions are from the official arrays of CIFAR-10-C and CIFAR-100-C, if both are there."""

from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.core.errors import MissingDataError, UsageError
from benchmark.core.images import Images
from benchmark.corruptions import COMMON, EXTRA, SEVERITIES


def compare(dataset: type[Any], root: Path | None, limit: int) -> pd.DataFrame:
    """One row for each corruption and severity: mean absolute difference in grey levels, share of equal values, and
    how far official and generated images are from the clean ones on average. dataset: a class of
    datasets/, cifar10c's or cifar100c's. limit: images of each; 0 for all.

    The images must be the official clean ones, or there is nothing to compare. Corruptions without official array have
    no row. Raises UsageError where there is none at all.
    """
    rows, missing = [], []
    for kind, names in (("common", COMMON), ("extra", EXTRA)):
        made, given = (dataset(corrupted=which, corruptions=kind, limit=limit) for which in ("generated", "official"))
        clean = made.load(made.files.domain, "test", root)
        for name in names:
            try:
                rows += [_row(name, s, clean, *(d.load(f"{name}/{s}", "test", root) for d in (made, given)))
                         for s in SEVERITIES]  # fmt: skip
            except MissingDataError as problem:
                missing.append(str(problem))
    if not rows:
        raise UsageError(f"there are no official arrays to compare with. {missing[0]}")
    return pd.DataFrame(rows)


def _row(name: str, severity: int, clean: Images, made: Images, given: Images) -> dict[str, object]:
    if not made.y.equal(given.y):
        raise UsageError(f"{name}: the official labels are not those of the clean test images")
    ours, theirs, before = (images.x.short() for images in (made, given, clean))
    off = (ours - theirs).abs()
    return {
        "corruption": name,
        "severity": severity,
        "mean_abs_difference": off.float().mean().item(),
        "equal": (off == 0).float().mean().item(),
        "official_from_clean": (theirs - before).abs().float().mean().item(),
        "generated_from_clean": (ours - before).abs().float().mean().item(),
    }
