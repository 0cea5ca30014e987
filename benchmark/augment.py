"""A method's augmentation as an nn.Module for your own training loop (docs/augmentation.md).

The module runs `Method.views`, the same code as the benchmark. It leaves out what the referee adds around a method: its
loss, its growing pool, its set-up on the source. Empty batches come back empty.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo  # torch.compiler.disable imports the compiler at once
from torchvision import tv_tensors

from benchmark import registry
from benchmark.core.devices import on_gpu
from benchmark.core.errors import UsageError
from benchmark.core.rng import Rng
from benchmark.method import Method
from benchmark.networks.attacked import Attacked, check, check_place


class Augmentation(nn.Module):
    """Augments images while in training mode; in evaluation mode they pass unchanged, unlike transforms of torchvision.

    One call augments each image of the batch on its own; draws come from `generator`, or from torch's global generator.
    What comes back has the shape, type, device and, for a tv_tensor, the class of what went in.
    """

    def __init__(self, name: str, method: Method, net: nn.Module | None, generator: torch.Generator | None):
        super().__init__()
        self.name, self.method, self.generator = name, method, generator
        # Hidden in a tuple, the network is no submodule: its parameters and its mode stay its owner's.
        self.attacked = (net,)

    def forward(self, x: Tensor, y: Any = None) -> Any:
        """x: uint8 in 0..255 or float in [0,1], [B,3,H,W], or [3,H,W] for one image; any H and W that `net` takes.
        y: labels, int64 [B] or one number; needed by attacks, passed through by the others.

        Returns x augmented or, where y was given, (x augmented, y). Float images may leave [0,1] where the method lets
        them (randconv, gud); bytes are rounded and clamped. Raises UsageError for anything else than such images, and
        for an attack without labels, with labels that the network has no class for, or with a network that does not
        give logits; nothing on a GPU is searched for such values, because the host would have to wait.
        """
        if self.training and torch.compiler.is_compiling():
            x = _uncompiled(self, x, y)
        elif self.training:
            x = self._augment(x, y)
        return x if y is None else (x, y)

    def _augment(self, x: Tensor, y: Any) -> Tensor:
        if os.getpid() != _imported_in and torch.get_num_threads() > 1:
            with _one_thread():
                return self._augment(x, y)
        if torch.is_inference_mode_enabled():  # an attack needs gradients, and there are none within
            with torch.inference_mode(False), torch.no_grad():
                return self._augment(x, y)
        batch = _batch(x, self.name)
        if self.method.attacks and y is None:
            raise UsageError(
                f"augmentation('{self.name}') attacks a network and needs the labels: call it as aug(x, y)"
            )
        labels, highest = _labels(y if self.method.attacks else [0] * len(batch), len(batch), self.name)
        if not len(batch):
            return x
        (net,) = self.attacked
        if net is not None:
            check_place(self.name, net, batch)
            net = Attacked(self.name, net, highest)
        seed = int(torch.randint(2**63 - 1, (), generator=self.generator))
        views = self.method.views(net or nn.Identity(), batch, labels.to(x.device), Rng(seed, on=x.device), {})
        out = views[0].detach()
        out = (out.clamp(0, 1) * 255).round() if x.dtype == torch.uint8 else out
        out = out.to(x.dtype).reshape(x.shape)
        return tv_tensors.wrap(out, like=x) if isinstance(x, tv_tensors.TVTensor) else out

    def extra_repr(self) -> str:
        return ", ".join([self.name, *(f"{key}={value!r}" for key, value in self.method.settings().items())])


_uncompiled = _disable_dynamo(Augmentation._augment)
"""No part of a compiled graph: threads, Numba and generators are none. Imports torch's compiler when it is called."""
_imported_in = os.getpid()


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

    net: for attacks (augmax, gud, sada), what is attacked: it takes images in [0,1] and gives logits [B,K]; for gud
    `net(x, features=True)` also gives (logits, features [B,D]). It is attacked in evaluation mode and left as found.
    generator: a CPU generator to draw from, for a sequence that repeats. settings: the method's fields, checked as
    --set checks them. Two groups have values of their own here: what would couple the images of a batch (the method's
    `uncoupled`), which may be set back to the released behaviour, and what needs a training run (`alone`), which is
    fixed.

    Raises UsageError for an unknown method, for one that is no augmentation of a batch, for a bad setting, and where a
    network is missing or useless.
    """
    cls = registry.find("method", name)
    alone, uncoupled = cls.alone, cls.uncoupled
    if alone is None or uncoupled is None:
        usable = sorted(other for other in registry.names("method") if _usable(registry.find("method", other)))
        raise UsageError(f"{name} is no augmentation of a batch of its own; these are: {', '.join(usable)}")
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
    method = registry.make("method", name, {**uncoupled, **settings, **alone})
    return Augmentation(name, method, net, generator)


def _usable(cls: type[Method]) -> bool:
    return cls.alone is not None and cls.uncoupled is not None


def _needs_no_network(cls: type[Method]) -> bool:
    return _usable(cls) and not cls.attacks


def _batch(x: Any, name: str) -> Tensor:
    """Images as a plain float32 tensor [B,3,H,W] in units of 1."""
    if not isinstance(x, Tensor):
        raise UsageError(f"augmentation('{name}') takes tensors, not {type(x).__name__}; put v2.ToImage() before it")
    good = x.dtype == torch.uint8 or x.is_floating_point()
    if not good or x.ndim not in (3, 4) or x.shape[-3] != 3:
        raise UsageError(
            f"augmentation('{name}') takes uint8 or float images [B,3,H,W] or [3,H,W], not {x.dtype} {list(x.shape)}"
        )
    if not x.shape[-1] * x.shape[-2]:
        raise UsageError(f"augmentation('{name}') takes images with pixels, not {list(x.shape)}")
    plain = x.as_subclass(Tensor)
    plain = plain.clone() if plain.is_inference() else plain  # of one that knows gradients
    plain = (plain if x.ndim == 4 else plain[None]).float()
    if x.dtype == torch.uint8:
        return plain / 255
    if not on_gpu(x) and not ((plain >= 0) & (plain <= 1)).all():  # on a GPU the host would have to wait for the answer
        raise UsageError(f"augmentation('{name}') takes float images in [0,1]; normalise after it, not before")
    return plain


def _labels(y: Any, count: int, name: str) -> tuple[Tensor, int | None]:
    """Labels as int64 [B], and the largest of them where no GPU has to be waited for."""
    try:
        labels = torch.as_tensor(y).reshape(-1)
    except (TypeError, ValueError, RuntimeError) as problem:
        raise UsageError(f"labels must be int64 [{count}], not {type(y).__name__} ({problem})") from problem
    labels = labels.long() if not labels.numel() and not count else labels  # an empty list has no type
    if labels.dtype != torch.int64 or len(labels) != count:
        raise UsageError(f"labels must be int64 [{count}], not {labels.dtype} {list(labels.shape)}")
    if on_gpu(labels) or not count:
        return labels, None
    if int(labels.min()) < 0:
        raise UsageError(f"augmentation('{name}'): label {int(labels.min())} is no class; classes count from 0")
    return labels.clone() if labels.is_inference() else labels, int(labels.max())
