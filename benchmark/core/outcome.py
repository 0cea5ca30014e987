"""What came of a run, in the parts of its record: what it ran on, accuracy, sensitivity map, weights, cost."""

from typing import Annotated, Any, Literal, Self

from pydantic import field_validator, model_validator

from benchmark.core.field_types import (
    AddsUp,
    Count,
    NotNegative,
    Percent,
    PlainJson,
    Positive,
    Quartiles,
    Sha256,
    Share,
    Whole,
)
from benchmark.core.recipe import FrozenModel, Selection

Category = Literal["augment", "attack", "expand", "data_wait", "forward_backward"]
"""What a training's time is charged to."""


class Ran(FrozenModel):
    """What the run ran on, and when."""

    session: str
    """Start of the `benchmark.run` call that made the record; runs of one session share a machine and a moment."""
    command: str
    """The command that repeats the run."""
    ended: str
    seconds: NotNegative
    """Wall-clock seconds of the training, evaluation included, over all resumes."""
    code: str
    """Hash of the source files that can change a number (benchmark.runs.code_hash)."""
    git_commit: str | None
    git_dirty: bool | None
    device_name: str
    machine: PlainJson
    """machine.describe(): versions, processor, threads, driver, load."""
    normalisation: tuple[list[float], list[float]] | None = None
    """Mean and standard deviation of the network's inputs, one for each channel; None where it was not built."""
    resumed: Whole = 0
    """How many times the run was taken up from a checkpoint."""

    @field_validator("machine")
    @classmethod
    def _says_what_timings_share(cls, machine: dict[str, Any]) -> dict[str, Any]:
        packages, gpu = machine.get("packages"), machine.get("gpu") or {"cuda": "", "driver": ""}
        whole = isinstance(packages, dict) and "torch" in packages and "threads" in machine
        if not (whole and isinstance(gpu, dict) and {"cuda", "driver"} <= gpu.keys()):
            raise ValueError("torch's version, the threads, or the CUDA and driver of a GPU are missing")
        for name in ("threads", "processes", "sharing"):
            if type(machine.get(name, 1)) is not int or machine.get(name, 1) < 1:
                raise ValueError(f"{name} is {machine[name]!r}; a whole number from 1 is allowed")
        chosen = machine.get("arithmetic") or {}
        if not isinstance(chosen, dict) or not all(isinstance(value, str) for value in chosen.values()):
            raise ValueError("arithmetic is no table of texts")
        return machine


class Domain(FrozenModel):
    """Accuracies in one test domain, in percent, under each selection rule."""

    n: Count | None = None
    """Number of test images; None where the data is missing."""
    accuracy: dict[Selection, Percent] | None = None
    missing: str | None = None
    """Why there is no number, and where to put the files."""

    @model_validator(mode="after")
    def _is_there_or_says_why(self) -> Self:
        if not (self.n is None) == (self.accuracy is None) == (self.missing is not None):
            raise ValueError("a domain has n and accuracy, or it says what is missing")
        return self


class Accuracy(FrozenModel):
    """What was reached under source-val, last and oracle, and under the recipe's own rule where that is another."""

    source_val: dict[Selection, Percent]
    selected_step: dict[Selection, Whole]
    n_val: Count
    domains: dict[str, Domain]
    in_domain: list[str]
    """Test domains that are the source itself: reported, and left out of every mean over targets."""


class Calibrated(FrozenModel):
    """How far a network's confidence can be trusted in one domain (docs/calibration.md). Both are None where its
    outputs are not all finite numbers."""

    ece: Percent | None = None
    """Expected calibration error in percent: top label, 15 bins of equal width, L1 norm."""
    nll: NotNegative | None = None
    """Mean negative log likelihood of the labels, in nats."""

    @model_validator(mode="after")
    def _has_both_or_neither(self) -> Self:
        if (self.ece is None) != (self.nll is None):
            raise ValueError("a domain has both ece and nll, or neither")
        return self


class Calibration(FrozenModel):
    """Calibration of the selected network, the one that the sensitivity map is of."""

    source_val: Calibrated
    domains: dict[str, Calibrated]
    """The test domains that have an accuracy."""


class Sensitivity(FrozenModel):
    """The Fourier sensitivity map of the selected network; the map itself lies beside the record."""

    sha256: Sha256
    """Of sensitivity.npy, the raw map."""
    n_images: Count
    radius: Positive
    clean_error: Share
    """Error rate without a wave, in [0,1]; all other summaries are recomputed from the map."""
    mean_standard_error: NotNegative | None
    """Of the map's mean, over the choice of images; None for one image."""
    grid: Count | None
    """Frequencies measured along an axis where that is fewer than pixels, the rest interpolated; None for all."""


class Weights(FrozenModel):
    """The selected network's weights, which lie beside the record as weights.safetensors."""

    sha256: Sha256
    classes: tuple[str, ...]
    """Names of the classes, in the order of the logits."""


class Floor(FrozenModel):
    """The best that a run could do on its device (floors.py)."""

    images_per_second: Positive
    """Source images per second with the same passes, in batches of the same sizes, and nothing else."""
    gflop_per_image: NotNegative
    """Arithmetic of those passes, in 10^9 operations per source image; a backward counts as two forwards."""
    matrix_gflops: Positive
    """Measured rate of large matrix products in the run's precision, in 10^9 operations per second."""
    copy_gib_per_second: NotNegative
    """Measured bandwidth of a copy, reading and writing."""


class Throughput(FrozenModel):
    """What the run cost. Shares are of the training time (set-up left out); images are source images."""

    images_per_second: Positive
    """Over the whole training: set-up and expansion included, evaluation left out."""
    steady_images_per_second: NotNegative
    """Median over steps after the warm-up."""
    steady_iqr: Quartiles
    """Quartiles of the same."""
    setup_seconds: NotNegative
    train_seconds: Positive
    shares: Annotated[dict[Category, Share], AddsUp]
    """augment, attack, expand, data_wait and forward_backward: together 1."""
    passes_per_image: NotNegative
    """Forward-backward passes through the network per source image, a forward counted 1/3 and a backward 2/3."""
    forwards_per_image: NotNegative
    backwards_per_image: NotNegative
    peak_memory_mib: NotNegative
    parameters: Whole
    floor: Floor | None = None
    """None in records from before it was measured, and where it could not be, or would have been that of neighbours on
    the GPU."""
    replayed: Share = 0.0
    """Share of the steps that were replayed from CUDA graphs, in [0,1]; `shares` are then those of launched steps."""
