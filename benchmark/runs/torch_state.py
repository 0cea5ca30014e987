"""Settings of torch that hold for a whole process: as in a new one for a while, then as they were."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from benchmark.core.devices import on_gpu
from benchmark.plugin_files import switches

INHERITED = "none"
"""A precision that is that of the place above."""
PRECISIONS: tuple[Any, ...] = (
    torch.backends,
    *(torch.backends.cuda.matmul, torch.backends.cudnn, torch.backends.cudnn.conv, torch.backends.cudnn.rnn),  # type: ignore[attr-defined]
    *(torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv, torch.backends.mkldnn.rnn),  # type: ignore[attr-defined]
)
"""Where torch holds one, by its newer names: that of all first. What is set for mkldnn itself, torch sets for all."""


@contextmanager
def float32() -> Iterator[None]:
    """Within, new tensors of floats are float32."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def as_in_a_new_process() -> Iterator[None]:
    """Within, nothing is left of what the caller set of torch's default type, a GPU as default device, inference and
    gradient modes, autocast, the precision of matrix products and convolutions, and plugin_files.SWITCHES. Afterwards
    that is back, as are the threads, the global generator and the choice of deterministic algorithms."""
    threads, generator = torch.get_num_threads(), torch.get_rng_state()
    algorithms = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    with ExitStack() as plain:
        plain.callback(torch.use_deterministic_algorithms, algorithms[0], warn_only=algorithms[1])
        plain.callback(torch.set_rng_state, generator)
        plain.callback(torch.set_num_threads, threads)
        plain.enter_context(_precisions())
        for place, name, own in switches():
            plain.callback(setattr, place, name, getattr(place, name))
            setattr(place, name, own)
        plain.enter_context(_on_no_gpu())
        plain.enter_context(float32())
        plain.enter_context(torch.inference_mode(mode=False))
        plain.enter_context(torch.enable_grad())
        for kind in ("cpu", *["cuda"] * torch.cuda.is_available()):
            # With a cache, an autocast within this one would keep its first copy of a weight until this one ends.
            plain.enter_context(torch.autocast(kind, enabled=False, cache_enabled=False))
        yield


@contextmanager
def _on_no_gpu() -> Iterator[None]:
    """Within, tensors for which no device is named are on the CPU."""
    place = torch.get_default_device()
    if not on_gpu(place):
        yield
        return
    torch.set_default_device(None)
    if on_gpu(torch.get_default_device()):  # it is the caller's `with torch.device(...)`, which stays
        with torch.device("cpu"):
            yield
        return
    try:
        yield
    finally:
        torch.set_default_device(place)


@contextmanager
def _precisions() -> Iterator[None]:
    """Within, the precisions of float32 arithmetic are torch's own. Torch has older and newer names for them, and
    refuses to read by the older ones what was set by the newer ones."""
    (highest, above), *others = [(place, place.fp32_precision) for place in PRECISIONS]
    try:
        older = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    except RuntimeError:
        older = None
    for place in PRECISIONS:
        place.fp32_precision = INHERITED
    _older(("highest", True))
    try:
        yield
    finally:
        _older(older)
        highest.fp32_precision = above
        for place, value in others:
            place.fp32_precision = INHERITED if value == above else value


def _older(precisions: tuple[str, bool] | None) -> None:
    """Sets the precision of products, and whether convolutions may be in TF32, by torch's older names."""
    if precisions:
        torch.set_float32_matmul_precision(precisions[0])
        torch.backends.cudnn.allow_tf32 = precisions[1]
