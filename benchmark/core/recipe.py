"""Recipe: how a network is trained and chosen, equal for all methods of one comparison."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, field_validator, model_serializer

Precision = Literal["fp32", "tf32", "bf16"]
"""What it means: precision.py."""
Selection = Literal["source-val", "last", "oracle", "last-within-5", "source-val-views"]
"""source-val: best source validation accuracy, ties to the latest. last: the last evaluation. oracle: the best mean
over the targets, which looks at them. last-within-5: the last with more than 0.95 of the best before it (SADA's code).
source-val-views: best accuracy on the method's own views of the source validation part (RandConv's code)."""


class FrozenModel(BaseModel):
    """A frozen value with checked fields; unknown fields, infinity and NaN are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class Recipe(FrozenModel):
    """How a network is trained and chosen: everything that is equal for all methods of one comparison."""

    network: str
    """A name of benchmark.networks, or timm:NAME; in a protocol also by_size, which a plan replaces."""
    weights: str = "scratch"
    """What the network starts from. scratch: weights drawn from the seed. timm:NAME.TAG: timm's pretrained weights, and
    their normalisation. sha256:HASH: a local safetensors file. Left out of records where it is scratch."""
    optimizer: Literal["adam", "sgd"] = "adam"
    lr: float = Field(1e-4, gt=0)
    momentum: float = Field(0.0, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(0.0, ge=0)
    schedule: Literal["constant", "cosine", "step"] = "constant"
    """cosine: to zero over the budget. step: divided by ten after each `step_every` of the budget."""
    step_every: float = Field(0.4, gt=0, le=1)
    batch_size: int = Field(32, ge=1)
    sampler: Literal["epoch", "sequential"] = "epoch"
    """epoch: a fresh permutation each epoch. sequential: the pool's own order, round and round (GUD)."""
    epoch_steps: int | None = Field(None, ge=1)
    """Steps after which a fresh permutation is drawn even where images are left (RandConv: 250)."""
    loader: Literal["plain", "jitter_log", "crop_flip", "pad_crop_flip"] = "plain"
    """What is done to a batch before any method sees it. jitter_log: SADA's released loader. crop_flip: a random part
    of the image, scaled to its size, and mirrored half of the time. pad_crop_flip: CIFAR's usual one, a crop shifted by
    up to 4 pixels and a flip."""
    selection: Selection = "source-val"
    """The rule that heads the table and whose network the sensitivity map is taken of."""
    steps: int = Field(10_000, ge=1)
    """Length of the run under the `steps` budget; multiplied by `batch_size`, the passes of the `passes` budget."""
    evaluations: int = Field(10, ge=1)
    """How often the source validation part and the targets are scored, evenly over the budget."""
    sensitivity_images: int = Field(256, ge=0)
    """Validation images under the sensitivity map; 0 leaves the map out."""
    precision: Precision = "fp32"
    """Of the arithmetic. Left out of records where it is fp32."""

    @field_validator("selection")
    @classmethod
    def _looks_at_no_target(cls, selection: Selection) -> Selection:
        if selection == "oracle":
            raise ValueError("oracle looks at the targets: it is reported beside the rule of a recipe, and can be none")
        return selection

    @model_serializer(mode="wrap")
    def _dump(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without younger fields at their defaults, so that the ids of runs from before them still hold."""
        found: dict[str, Any] = dump(self)
        younger = {"weights": "scratch", "precision": "fp32"}
        return {name: value for name, value in found.items() if (name, value) not in younger.items()}


class Terms(FrozenModel):
    """What a protocol fixes for a method, for a dataset, or for a method on a dataset. The narrower terms win.

    A method's or dataset's file brings its own along as `terms`, with its own name left out.
    """

    protocol: str
    """common or strict."""
    method: str | None = None
    """None: any method, or the one whose file brings the terms."""
    dataset: str | None = None
    """None: any dataset, or the one whose file brings the terms."""
    recipe: Recipe | None = None
    """None: that of wider terms."""
    method_settings: dict[str, Any] = Field(default_factory=dict)
    """The protocol's own values of a method's fields: a row that keeps them carries no variant."""
    dataset_settings: dict[str, Any] = Field(default_factory=dict)
