"""Which training operations coincide with which test corruptions.

AugMix keeps color, contrast, brightness and sharpness out when it is tested on corruptions, because they overlap with
them (Hendrycks et al., ICLR 2020; the default list of its released code). The rule names operations; which corruptions
each one touches is our reading of the operations' definitions, by the file names of CIFAR-10-C. Random convolutions
(RandConv) and spectral steps (SADA) are no such operations and are not judged here.
"""

from collections.abc import Sequence

from benchmark.corruptions.severities import GROUPS
from benchmark.image_ops import NINE, OPS
from benchmark.spec import Record

BLURS = (*GROUPS["blur"], "gaussian_blur")
TOUCHES: dict[str, tuple[str, ...]] = {
    "brightness": ("brightness",),
    "contrast": ("contrast",),
    "color": ("saturate",),
    "sharpness": BLURS,  # a factor below 1 mixes the image with a smoothed copy
}


def operations(record: Record) -> tuple[str, ...]:
    """The image operations that a run trains with, by its settings and its loader."""
    settings = record.asked.settings
    named = settings.get("ops", OPS if settings.get("all_ops") else NINE if "all_ops" in settings else ())
    if isinstance(named, str):
        named = {"nine": NINE, "all": OPS}[named]
    if settings.get("base") == "clean":  # SADA on clean images: no views
        named = ()
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
