"""Which training operations coincide with which test corruptions.

AugMix leaves color, contrast, brightness and sharpness out when it is tested on corruptions, because they overlap with
them (Hendrycks et al., ICLR 2020; the default list of its released code). The rule names operations. Which corruptions
each one touches is our reading of the operations' definitions, by the file names of CIFAR-10-C. Random convolutions
(RandConv) and spectral steps (SADA) are no such operations and are not judged here.
"""

from collections.abc import Sequence
from contextlib import suppress

from benchmark import registry
from benchmark.core.errors import UsageError
from benchmark.core.record import Record
from benchmark.corruptions.severities import GROUPS

BLURS = (*GROUPS["blur"], "gaussian_blur")
TOUCHES: dict[str, tuple[str, ...]] = {
    "brightness": ("brightness",),
    "contrast": ("contrast",),
    "color": ("saturate",),
    "sharpness": BLURS,  # a factor below 1 mixes the image with a smoothed copy
}


def operations(record: Record) -> tuple[str, ...]:
    """The image operations that a run trains with: its method's own word (method.Method.operations), and its loader's.
    Of records from before they held it, a method known here says it today from the settings they hold."""
    named = record.operations or ()
    if record.operations is None and record.asked.settings:
        with suppress(UsageError):  # unknown here, or of other settings by now
            named = registry.make("method", record.asked.method, record.asked.settings).operations()
    jitter = ("brightness", "contrast") if record.asked.recipe.loader == "jitter_log" else ()
    return tuple(dict.fromkeys([*named, *jitter]))


def overlaps(records: Sequence[Record], columns: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """By row, by operation: the corruptions among `columns` that it touches. Rows without any are left out."""
    found: dict[str, dict[str, list[str]]] = {}
    for record in records:
        touched = {op: [c for c in TOUCHES.get(op, ()) if c in columns] for op in operations(record)}
        touched = {op: corruptions for op, corruptions in touched.items() if corruptions}
        if touched:
            found[record.asked.row] = touched
    return found
