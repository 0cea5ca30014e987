"""The nouns of the suite: Images, Asked (what a run was asked to do, hashed to its id) and Record (what came of it)."""

import hashlib
import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, get_args

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from benchmark.limits import AddsUp, Count, NotNegative, Percent, PlainJson, Positive, Quartiles, Sha256, Share, Whole
from benchmark.recipe import Noun, Recipe, Selection

Status = Literal["done", "failed", "diverged"]
Category = Literal["augment", "attack", "expand", "data_wait", "forward_backward"]
"""What a training's time is charged to."""


@dataclass(frozen=True)
class Images:
    """Labelled images. x: uint8 in 0..255 or float32 in units of 1 (0..1 unless a method leaves it), [N,3,H,W].
    y: int64 class indices, [N]."""

    x: Tensor
    y: Tensor

    def __post_init__(self) -> None:
        if self.x.ndim != 4 or self.x.shape[1] != 3 or self.x.dtype not in (torch.uint8, torch.float32):
            raise ValueError(f"images must be uint8 or float32 [N,3,H,W], not {self.x.dtype} {list(self.x.shape)}")
        if self.y.dtype != torch.int64 or self.y.shape != self.x.shape[:1]:
            raise ValueError(f"labels must be int64 [{len(self.x)}], not {self.y.dtype} {list(self.y.shape)}")

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: Tensor | slice) -> "Images":
        return Images(self.x[index], self.y[index])

    def to(self, device: torch.device) -> "Images":
        return Images(self.x.to(device), self.y.to(device))

    def unit(self) -> Tensor:
        """x as float32 in units of 1: uint8 values divided by 255, float values as they are."""
        return self.x.float().div_(255) if self.x.dtype == torch.uint8 else self.x

    def __add__(self, other: "Images") -> "Images":
        same = self.x.dtype == other.x.dtype
        return Images(
            torch.cat([self.x if same else self.unit(), other.x if same else other.unit()]),
            torch.cat([self.y, other.y]),
        )


class Asked(Noun):
    """What a run was asked to do. Hashed to its run id, so it holds no path, host or date."""

    protocol: str
    recipe: Recipe
    method: str
    settings: PlainJson
    """Every field of the method, defaults written out."""
    variant: str
    """The fields that differ from the protocol's own, as 'a=1,b=2'; empty for the method as the protocol has it."""
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

    @property
    def run_id(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of the canonical JSON of all fields."""
        return hashlib.sha256(canonical_json(self.model_dump(mode="json")).encode()).hexdigest()[:12]

    @property
    def row(self) -> str:
        """The name of the table row: the method, with its variant in brackets where there is one."""
        return f"{self.method}[{self.variant}]" if self.variant else self.method


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


class Ran(Noun):
    """What the run ran on, and when."""

    session: str
    """Start of the `benchmark.run` call that made the record; runs of one session share a machine and a moment."""
    command: str
    """The command that repeats the run."""
    ended: str
    seconds: NotNegative
    """Wall-clock seconds of the training, evaluation included, over all resumes."""
    code: str
    """Hash of the source files that can change a number (machine.code_hash)."""
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


class Domain(Noun):
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


class Accuracy(Noun):
    """What was reached under source-val, last and oracle, and under the recipe's own rule where that is another."""

    source_val: dict[Selection, Percent]
    selected_step: dict[Selection, Whole]
    n_val: Count
    domains: dict[str, Domain]
    in_domain: list[str]
    """Test domains that are the source itself: reported, and left out of every mean over targets."""


class Sensitivity(Noun):
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


class Weights(Noun):
    """The selected network's weights, which lie beside the record as weights.safetensors."""

    sha256: Sha256
    classes: tuple[str, ...]
    """Names of the classes, in the order of the logits."""


class Floor(Noun):
    """The best that a run could do on its device (floors.py)."""

    images_per_second: Positive
    """Source images per second with the same passes, in batches of the same sizes, and nothing else."""
    gflop_per_image: NotNegative
    """Arithmetic of those passes, in 10^9 operations per source image; a backward counts as two forwards."""
    matrix_gflops: Positive
    """Measured rate of large matrix products in the run's precision, in 10^9 operations per second."""
    copy_gib_per_second: NotNegative
    """Measured bandwidth of a copy, reading and writing."""


class Throughput(Noun):
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


class Record(Noun):
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
