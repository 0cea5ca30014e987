"""The contract of a method: one new file in methods/, one class `Method`, no edit elsewhere.

A method is a frozen dataclass. Its fields are the paper's symbols; the defaults are the released code's values, or its
page says why not. The referee (runner and training loop) sets all that must be equal for all: network, optimiser,
budget, seeds, selection, clock. Copy docs/templates/cutout.py to start.

A method never sees a target domain, never builds the network's optimiser and never reads the clock. It draws only from
`rng` and does not modify its inputs. It leaves the network's train/eval mode, weights, requires_grad and hooks as it
found them.

Newcomers miss five things:

- Random numbers. `rng.draw("cutout", torch.rand, (len(x), 2))` draws on the CPU and sends the numbers to the images.
  `rng.generator("cutout")` lies on `rng.on`, the device of the images; give torch `device=rng.on` with it. Draw once
  for a purpose in a step: the second time gives the same numbers. Build a network of your own within
  `torch.random.fork_rng(devices=[])`, after `torch.manual_seed(rng.key("helper"))`.
- State. `loss` and `views` may be called twice in a step, so they change nothing of `state` that they read. They leave
  what is new in `state["next"]`, and `expand` takes it over before the next step (benchmark/ops/adam_state.py).
- Cost. Make images within `span("augment")` and attack within `span("attack")` (benchmark.core.timing). `loss` is
  charged to the network outside of these. The referee itself clocks `setup` and `expand`.
- Features. `net` is a benchmark.networks.classifiers.Classifier, or what `wrap` made of it. `net.stem` is the first
  layer, on normalised images. `net.trunk` goes from there to the features, `net.head` from the features to the logits.
  To change features, register a forward hook on one of these or on a layer of `trunk`, call `net(x)`, and remove the
  hook. Do not call the parts yourself: such a pass is not counted, and is fp32 in a bf16 run. Under --nproc a hook sees
  the images of one process.
- A search. `searched` names one to three fields that `--search N` may draw, each with a Range or a Choice and a comment
  on whose range that is. Without it only learning rate and weight decay are searched, as they are for every method.

The common tests check the contract, with the `toy` settings:

    python -m pytest tests/methods/test_methods.py                  # all of methods/ and of installed packages
    python -m pytest tests/methods/test_methods.py --plugin=FILE    # the method in a file elsewhere

They ask for what stands above, and this:

- Sixty steps on a toy problem of four classes bring more than 40 percent. Equal seeds give equal bits.
- `loss` is a finite scalar with a gradient, with and without BatchNorm. Wrong labels cost more than right ones.
- What `erm_at`, `uncoupled` and `replayable` say is true. `state` survives a checkpoint.
- `searched` names fields, holds their defaults, and is valid from end to end.

A method in methods/ also has a page, docs/methods/NAME.md, and at most 120 lines.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeAlias

from torch import Tensor, nn

from benchmark.core.images import Images
from benchmark.core.ranges import Choice, Range
from benchmark.core.recipe import Terms
from benchmark.core.rng import Rng
from benchmark.core.settings import frozen, settings_of
from benchmark.core.work import Work

__all__ = ["Choice", "Method", "Range", "Rng", "Searched", "Source", "State", "Work", "frozen"]

Searched: TypeAlias = Mapping[str, Range | Choice]
"""Where a search looks for the values of some fields, by their names."""
State: TypeAlias = dict[str, Any]
"""What a method carries from step to step: nested dicts and lists of tensors, numbers and strings, and nothing else, so
that a checkpoint can hold it and torch.load(weights_only=True) can read it back."""


@dataclass(frozen=True)
class Source:
    """What a method may know of the data: the source domain, and nothing else.

    images: the training images (in `expand`, the pool as it has grown, in its present order). val: the held-out part of
    the source. original: how many images the pool had at the start. batch_size: images per training step.
    fit_erm: trains the given network in place by cross-entropy, with the run's optimiser and batches (for how many
    steps: docs/adr/0003). The loader's crops and flips are left out.
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
    """Kept out of `--methods all` and `--methods everything`."""
    in_all: ClassVar[bool] = True
    """Whether `--methods all` brings it along. False: only its name and `everything` do (docs/adr/0010-all.md)."""
    erm_at: ClassVar[Mapping[str, Any] | None] = None
    """Settings at which `loss` is plain cross-entropy on a network without BatchNorm: {} where it always is, None where
    it never is."""
    uncoupled: ClassVar[Mapping[str, Any] | None] = {}
    """Settings at which a view depends on its own image alone: {} where it always does, None where it never does."""
    attacks: ClassVar[bool] = False
    """Whether `views` reads the network and the labels."""
    photometric: ClassVar[bool] = False
    """Whether only `operations` move pixels in `views`. Without them boxes and masks stay right."""
    replayable: ClassVar[bool] = False
    """Whether a training step may be captured once and replayed, as GPUs do it fastest (benchmark.training.steps). Say
    so where `loss` is a function of tensors, of `rng.generator` and of `kind`: it keeps no count, reads no clock, and
    never waits for the device (`.item()`, `if tensor:`), and makes no tensor of Python's numbers or on the CPU for the
    device, whose memory a replay would read when it is gone: `setup` makes those. Without it steps are launched, with
    the same numbers."""
    alone: ClassVar[Mapping[str, Any] | None] = None
    """Settings that benchmark.augmentation fixes, so that `views` needs no `setup` and gives one view. None, here or in
    `uncoupled`: the method cannot be used there."""
    terms: ClassVar[Sequence[Terms]] = ()
    """What protocols fix for this method, e.g. its authors' recipe under strict. benchmark/protocols.py holds those of
    the first seven methods."""
    searched: ClassVar[Searched] = {}
    """Fields that `--search` draws, and from where (benchmark.runs.search)."""
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
        """The image operations that the views are made of, by their names in operations.OPS, for the footnote on test
        corruptions that they coincide with; whatever a method's fields are called, this alone says so."""
        return ()

    def work(self, steps: int, images: int) -> Work:
        """What a run of so many steps on a source of so many images does beside one loss a step: its time is foretold
        by it. Without this hook a run is taken to be its steps, each as long as one that is tried."""
        return Work()

    def settings(self) -> dict[str, Any]:
        """All fields with their values, as stored in the run record."""
        return settings_of(self)
