"""The contract of a method: one new file in methods/, one class `Method`, no edit elsewhere.

A method is a frozen dataclass whose fields are the paper's symbols with the released code's values as defaults. The
referee owns everything that must be equal for all: network, optimiser, budget, seeds, selection, clock.

A method never sees a target domain, never builds the network's optimiser, never reads the clock, draws only from `rng`,
does not modify its inputs, and leaves the network in the train/eval mode in which it found it.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass as plain_dataclass
from dataclasses import replace
from typing import Any, ClassVar, TypeAlias, TypeVar, dataclass_transform

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from benchmark.rng import Rng
from benchmark.spec import Images

__all__ = ["Method", "Rng", "Source", "State", "frozen"]

State: TypeAlias = dict[str, Any]
"""What a method carries from step to step: nested dicts and lists of tensors, numbers and strings, and nothing else, so
that a checkpoint can hold it and torch.load(weights_only=True) can read it back."""

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def frozen() -> Callable[[type[T]], type[T]]:
    """Decorator of every method and dataset: a frozen dataclass whose fields are checked against their annotations."""
    config = ConfigDict(extra="forbid", use_attribute_docstrings=True, populate_by_name=True, allow_inf_nan=False)
    decorate: Any = dataclass(frozen=True, config=config)
    return decorate  # type: ignore[no-any-return]


def names_of(cls: Any) -> dict[str, str]:
    """Attribute name by public name; they differ where a field has an alias because a hook has its name."""
    return {field.alias or name: name for name, field in cls.__pydantic_fields__.items()}


def settings_of(instance: Any) -> dict[str, Any]:
    """All fields with their values, under their public names, as stored in the run record."""
    return {public: getattr(instance, name) for public, name in names_of(type(instance)).items()}


@plain_dataclass(frozen=True)
class Source:
    """What a method may know of the data: the source domain, and nothing else.

    images: the training images (in `expand`, the pool as it has grown, in its present order). val: the held-out part of
    the source. original: how many images the pool had at the start. batch_size: images per training step.
    fit_erm: trains the network it is given, in place, with plain cross-entropy under the run's own protocol.
    """

    images: Images
    val: Images
    original: int
    batch_size: int
    fit_erm: Callable[[nn.Module, Rng], None]

    def with_pool(self, pool: Images) -> "Source":
        return replace(self, images=pool)


@frozen()
class Method:
    """Base of all methods; a subclass must write `loss` and may write the other hooks.

    Shapes: x is float32 [B,3,H,W] in [0,1], normalisation lives in the network; y is int64 [B]. `net(x)` gives logits
    [B,K]; `net(x, features=True)` gives (logits [B,K], penultimate features [B,D]).
    """

    passes: ClassVar[float] = 1.0
    """Forward-backward passes per source image and step, for cost estimates before a run (a forward counts 1/3)."""
    experimental: ClassVar[bool] = False
    """Kept out of `--methods all`."""
    erm_at: ClassVar[Mapping[str, Any]] = {}
    """Settings at which `loss` is plain cross-entropy on a network without BatchNorm; the common tests check that."""
    uncoupled: ClassVar[Mapping[str, Any]] = {}
    """Settings at which a view depends on its own image alone, where the released behaviour couples the batch."""
    attacks: ClassVar[bool] = False
    """Whether `views` reads the network and the labels."""
    replayable: ClassVar[bool] = False
    """Whether a training step may be captured once and replayed, as GPUs do it fastest (benchmark/steps.py). Say so
    where `loss` is a function of tensors, of `rng.generator` and of `kind`: it keeps no count, reads no clock, and
    never waits for the device (`.item()`, `if tensor:`). Without it steps are launched, with the same numbers."""
    alone: ClassVar[Mapping[str, Any] | None] = None
    """Settings at which `views` needs no `setup` and gives one view, fixed where benchmark.augmentation uses the method
    without the referee; None: it cannot be used so."""
    toy: ClassVar[Mapping[str, Any]] = {}
    """Settings that make a short run on little data exercise the whole method; the common tests train with them."""

    def wrap(self, net: nn.Module) -> nn.Module:
        """Changes the network once, before the optimiser is built (AugMax: dual BatchNorm)."""
        return net

    def kind(self, rng: Rng) -> Hashable:
        """All that `loss` decides by `rng.progress` or `rng.step`; steps of one kind run the same operations."""
        return ()

    def setup(self, net: nn.Module, source: Source, rng: Rng) -> State:
        """Prepares the method once, timed as set-up (SADA: the sensitivity map; M-ADA: the autoencoder)."""
        return {}

    def expand(self, net: nn.Module, source: Source, rng: Rng, step: int, state: State) -> Images | None:
        """Called before every step: more images for the training pool, or None (GUD). May update `state`."""
        return None

    def views(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> list[Tensor]:
        """The augmented images that `loss` trains on, each [B,3,H,W]; empty where the method makes none."""
        return []

    def loss(self, net: nn.Module, x: Tensor, y: Tensor, rng: Rng, state: State) -> Tensor:
        """The scalar that the referee minimises at this step."""
        raise NotImplementedError

    def operations(self) -> tuple[str, ...]:
        """The image operations that the views are made of, by their names in image_ops, for the footnote on test
        corruptions that they coincide with; whatever a method's fields are called, this alone says so."""
        return ()

    def settings(self) -> dict[str, Any]:
        """All fields with their values, as stored in the run record."""
        return settings_of(self)
