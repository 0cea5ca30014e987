"""Summary numbers over the fifteen common corruptions, by names that cannot be confused.

"mCE" means two things in papers: the mean over corruptions of errors divided by AlexNet's (ImageNet-C), and the plain
mean error (AugMix on CIFAR-10-C). Some include the four extra corruptions. Here each has a name of its own, and no
number includes the extra ones.
"""

from collections.abc import Mapping
from statistics import fmean

import pandas as pd

from benchmark.core.errors import UsageError
from benchmark.corruptions import COMMON, EXTRA, GROUPS, SEVERITIES

ALEXNET = {
    "gaussian_noise": 88.6428, "shot_noise": 89.4468, "impulse_noise": 92.2640,
    "defocus_blur": 81.9880, "glass_blur": 82.6268, "motion_blur": 78.5948, "zoom_blur": 79.8360,
    "snow": 86.6816, "frost": 82.6572, "fog": 81.9324, "brightness": 56.4592,
    "contrast": 85.3204, "elastic_transform": 64.6056, "pixelate": 71.7840, "jpeg_compression": 60.6500,
}  # fmt: skip
"""AlexNet's top-1 error on ImageNet-C, percent, mean over the severities (Hendrycks and Dietterich, ICLR 2019)."""
TARGETS = tuple(f"{name}/{severity}" for name in COMMON for severity in SEVERITIES)
KEYS = ["dataset", "protocol", "group", "method", "variant", "source", "seed", "selection", "run_id"]


def mean_accuracy_15x5(accuracy: Mapping[str, float]) -> float:
    """Mean accuracy over 15 corruptions x 5 severities, percent. accuracy: percent by 'CORRUPTION/SEVERITY'.

    This and the functions below raise UsageError where one of the 75 is missing.
    """
    return fmean(_complete(accuracy).values())


def mean_corruption_error(accuracy: Mapping[str, float]) -> float:
    """Mean error over 15 corruptions x 5 severities, percent, divided by nothing: what CIFAR-C papers print."""
    return 100 - mean_accuracy_15x5(accuracy)


def severity5_group_mean(accuracy: Mapping[str, float]) -> float:
    """Accuracy at severity 5, percent: the mean of the means of noise, blur, weather and digital (SADA's table)."""
    found = _complete(accuracy)
    return fmean(fmean(found[f"{name}/5"] for name in names) for names in GROUPS.values())


def mce_alexnet(accuracy: Mapping[str, float]) -> float:
    """ImageNet-C's mCE, percent: each corruption's error over its severities divided by AlexNet's, then the mean.

    It says something about ImageNet-C only: AlexNet's errors are of those images and classes.
    """
    found = _complete(accuracy)
    return 100 * fmean(fmean(100 - found[f"{name}/{s}"] for s in SEVERITIES) / ALEXNET[name] for name in COMMON)


METRICS = {
    "mean_accuracy_15x5": mean_accuracy_15x5,
    "mean_corruption_error": mean_corruption_error,
    "severity5_group_mean": severity5_group_mean,
}
"""What is reported of every dataset; mce_alexnet only of one called imagenetc."""


def corruption_rows(accuracy: pd.DataFrame) -> pd.DataFrame:
    """Tidy metrics: one row for each run, selection rule and metric. accuracy: what rows.accuracy_rows gives.

    Runs without corrupted targets have no row; extra corruptions and clean domains are left out. Where a run has some
    of the 75 targets and not all, its value is empty and `missing` says what lacks.
    """
    columns = [key for key in KEYS if key not in {"group", "run_id"}] + ["metric", "value", "run_id", "missing"]
    rows = []
    scored = accuracy[accuracy["target"].isin(TARGETS) & accuracy["accuracy"].notna()]
    for key, part in scored.groupby(KEYS, sort=True):
        about = dict(zip(KEYS, key, strict=True))
        found = dict(zip(part["target"], part["accuracy"], strict=True))
        metrics = METRICS | ({"mce_alexnet": mce_alexnet} if about["dataset"] == "imagenetc" else {})
        for name, metric in metrics.items():
            try:
                rows.append(about | {"metric": name, "value": metric(found), "missing": ""})
            except UsageError as problem:
                rows.append(about | {"metric": name, "value": None, "missing": str(problem)})
    return pd.DataFrame(rows, columns=columns)


def _complete(accuracy: Mapping[str, float]) -> dict[str, float]:
    """The 75 entries alone."""
    missing = [target for target in TARGETS if target not in accuracy]
    if missing:
        named = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        extra = ", ".join(EXTRA)
        raise UsageError(f"a mean needs all 15 x 5 corruptions, without {extra}; missing: {named}")
    return {target: accuracy[target] for target in TARGETS}
