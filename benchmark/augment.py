"""A method's augmentation as an nn.Module for your own training loop (docs/augmentation.md).

The module runs `Method.views`, the same code as the benchmark. It leaves out what the referee adds around a method: its
loss, its growing pool, its set-up on the source. Empty batches come back empty.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo  # torch.compiler.disable imports the compiler at once
from torch.utils._pytree import tree_flatten, tree_unflatten

from benchmark import registry, samples
from benchmark.core.devices import on_gpu
from benchmark.core.errors import UsageError
from benchmark.core.rng import Rng
from benchmark.method import Method
from benchmark.networks.attacked import Attacked, check, check_place
from benchmark.runs.torch_state import OWN, float32, on_the_cpu

MOVING = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
"""Operations after which what was in one place of an image is in another."""


class Augmentation(nn.Module):
    """Augments images while in training mode; in evaluation mode they pass unchanged, unlike transforms of torchvision.

    One call augments each image of the batch on its own; draws come from `generator`, or from torch's global generator.
    What comes back has the structure, class, shape, type, device and PIL mode of what went in.
    """

    def __init__(self, name: str, method: Method, net: nn.Module | None, generator: torch.Generator | None):
        super().__init__()
        self.name, self.method, self.generator = name, method, generator
        # Hidden in a tuple, the network is no submodule: its parameters and its mode stay its owner's.
        self.attacked = (net,)

    def forward(self, x: Any, y: Any = None, *rest: Any) -> Any:
        """x: an image, a batch of images, or a sample that holds some, as transforms of torchvision.transforms.v2 take
        them. Images are uint8 in 0..255 or float in [0,1], [B,C,H,W] or [C,H,W], with C of 3 or 1 and any H and W that
        `net` takes; tv_tensors; or PIL images of mode RGB or L. A sample is any nesting of dict, list and tuple. In it,
        every PIL image, tv_tensors.Image and Video is an image, or the first plain tensor where there is none of those.
        y: labels, int64 [B] or one number; passed through by methods that need none. Attacks take them from y, from a
        key label, labels or target, or from the second part of a pair. rest: more of the sample.

        Returns x augmented or, where y was given, (x augmented, y, *rest). Float images may leave [0,1] where the
        method lets them (randconv, gud, advst, and apr with form="P"); bytes are rounded and clamped. Images of one
        sample have the same draws.

        Raises UsageError for anything else than such images, for boxes, masks and keypoints where the method moves
        pixels, and for an attack without labels, with labels that the network has no class for, or with a network that
        does not give logits; nothing on a GPU is searched for such values, because the host would have to wait.
        """
        sample = x if y is None and not rest else (x, y, *rest)
        if not self.training:
            return sample
        return (_uncompiled if torch.compiler.is_compiling() else Augmentation._augment)(self, x, y, sample)

    def _augment(self, x: Any, y: Any, sample: Any) -> Any:
        if os.getpid() != _imported_in and torch.get_num_threads() > 1:
            with _one_thread():
                return self._augment(x, y, sample)
        if torch.is_inference_mode_enabled():  # an attack needs gradients, and there are none within
            with torch.inference_mode(False), torch.no_grad():
                return self._augment(x, y, sample)
        if torch.get_default_dtype() != torch.float32 or torch.get_default_device() != OWN:
            with float32(), on_the_cpu():
                return self._augment(x, y, sample)
        leaves, structure = tree_flatten(sample)
        places = samples.images(leaves, self.name)
        if beside := [type(leaf).__name__ for leaf in leaves if samples.located(leaf)]:
            self._check_located(beside[0])
        batches = [samples.batch(leaves[place], self.name) for place in places]
        labels = samples.labels(x, y, self.name) if self.method.attacks else None
        asked = [self._asked(leaves[place], found, labels) for place, found in zip(places, batches, strict=True)]
        if any(map(len, batches)):
            seed = int(torch.randint(2**63 - 1, (), generator=self.generator))
            for place, found, (net, known) in zip(places, batches, asked, strict=True):
                if len(found):
                    with self._alone(), _current(found.device):
                        views = self.method.views(net, found, known.to(found.device), Rng(seed, on=found.device), {})
                    if not isinstance(views, list):
                        raise UsageError(f"{self.name}: its `views` has to return a list of images [B,3,H,W]")
                    leaves[place] = samples.like(views[0].detach(), leaves[place])
        return tree_unflatten(leaves, structure)

    def _asked(self, x: Any, batch: Tensor, labels: Any) -> tuple[nn.Module, Tensor]:
        """The network that a batch made of the image x is attacked with, and its labels. Raises UsageError."""
        (net,) = self.attacked
        known, highest = samples.checked_labels([0] * len(batch) if net is None else labels, len(batch), self.name)
        if net is None or not len(batch):
            return nn.Identity(), known
        check_place(self.name, net, batch)
        return Attacked(self.name, samples.FirstChannel(self.name, net) if samples.grey(x) else net, highest), known

    def _alone(self) -> AbstractContextManager[Any]:
        """An attack changes its network's mode and puts it back, so threads take turns at one network."""
        (net,) = self.attacked
        return nullcontext() if net is None else _turns.setdefault(net, Lock())

    def _check_located(self, kind: str) -> None:
        """Raises UsageError where what lies in an image might not stay where it is."""
        moving = [op for op in self.method.operations() if op in MOVING]
        if self.method.photometric and not moving:
            return
        why, fix = "may move pixels", ""
        if moving:
            why = f"moves pixels ({', '.join(moving)})"
            still = tuple(op for op in self.method.operations() if op not in MOVING)
            fix = (
                f", augmentation('{self.name}', ops={still}) moves none"
                if still and "ops" in self.method.settings()
                else ""
            )
        raise UsageError(
            f"augmentation('{self.name}') {why}, so the {kind} beside the image would be wrong; leave it out of the "
            f"sample, or take a method that moves none, e.g. randconv{fix}"
        )

    def __getstate__(self) -> dict[str, Any]:
        """The generator by its state: a DataLoader that spawns its workers cannot send them the generator itself."""
        return vars(self) | {"generator": self.generator and self.generator.get_state().numpy().tobytes()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if drawn := state["generator"]:
            state["generator"] = torch.Generator()
            state["generator"].set_state(torch.frombuffer(bytearray(drawn), dtype=torch.uint8))
        super().__setstate__(state)  # type: ignore[no-untyped-call]

    def extra_repr(self) -> str:
        return ", ".join([self.name, *(f"{key}={value!r}" for key, value in self.method.settings().items())])


_uncompiled = _disable_dynamo(Augmentation._augment)
"""No part of a compiled graph: threads, Numba and generators are none. Imports torch's compiler when it is called."""
_imported_in = os.getpid()
_turns: WeakKeyDictionary[nn.Module, Lock] = WeakKeyDictionary()
os.register_at_fork(after_in_child=_turns.clear)  # the thread that held one is not in the child


def _current(device: torch.device) -> AbstractContextManager[Any]:
    """Within, a GPU is the current one: kernels of Triton run on that one, wherever their tensors are."""
    return torch.cuda.device(device) if on_gpu(device) else nullcontext()


@contextmanager
def _one_thread() -> Iterator[None]:
    """In a process that was forked: torch waits for ever for threads that only the parent has."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def augmentation(
    name: str, *, net: nn.Module | None = None, generator: torch.Generator | None = None, **settings: Any
) -> Augmentation:
    """The augmentation of a method, e.g. augmentation("augmix", severity=3), as a module; see Augmentation.forward.

    net: for attacks (augmax, gud, me_ada, sada, advst), what is attacked: it takes images in [0,1] and gives logits
    [B,K]; for gud, me_ada and advst `net(x, features=True)` also gives (logits, features [B,D]). It is attacked in
    evaluation mode and left as found. generator: a CPU generator to draw from, for a sequence that repeats. settings:
    the method's fields, checked as --set checks them. Two groups have values of their own here: what would couple the
    images of a batch (the method's `uncoupled`), which may be set back to the released behaviour, and what needs a
    training run (`alone`), which is fixed.

    Raises UsageError for an unknown method, for one that is no augmentation of a batch, for a bad setting or generator,
    and where a network is missing, useless or not wanted.
    """
    if not isinstance(name, str):
        raise UsageError(f"augmentation({name!r}): give a method's name, e.g. 'augmix'")
    cls = registry.find("method", name)
    alone, uncoupled = cls.alone, cls.uncoupled
    if alone is None or uncoupled is None:
        usable = sorted(other for other in registry.names("method") if _usable(registry.find("method", other)))
        why = "it needs the whole batch" if uncoupled is None else "it does not set `alone` (benchmark/method.py)"
        raise UsageError(f"{name} cannot be used alone, because {why}; these can: {', '.join(usable)}")
    for key in alone.keys() & settings.keys():
        raise UsageError(f"augmentation('{name}'): {key} is fixed at {alone[key]!r}, because there is no training here")
    if cls.attacks and net is None:
        free = sorted(other for other in registry.names("method") if _needs_no_network(registry.find("method", other)))
        raise UsageError(
            f"{name} attacks a network: give it one, augmentation('{name}', net=net), and call it with labels, "
            f"aug(x, y); without a network: {', '.join(free)}"
        )
    if net is not None and not cls.attacks:
        raise UsageError(f"augmentation('{name}') attacks no network; leave net out")
    if net is not None:
        check(name, net)
    if generator is not None and (not isinstance(generator, torch.Generator) or on_gpu(generator.device)):
        raise UsageError(f"generator={generator!r}: give a CPU generator, torch.Generator().manual_seed(0)")
    method = registry.make("method", name, {**uncoupled, **settings, **alone})
    return Augmentation(name, method, net, generator)


def _usable(cls: type[Method]) -> bool:
    return cls.alone is not None and cls.uncoupled is not None


def _needs_no_network(cls: type[Method]) -> bool:
    return _usable(cls) and not cls.attacks
