"""Settings of torch that hold for a whole process: as in a new one for a while, then as they were."""

import pickle
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from typing import Any

import numpy as np
import torch
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext

from benchmark.core.devices import on_gpu
from benchmark.plugin_files import switches

OWN = torch.device("cpu")
"""Where a new process makes tensors."""
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
    """Within, nothing is left of what the caller set of torch's default type and device, inference and gradient modes,
    autocast, the precision of matrix products and convolutions, and plugin_files.SWITCHES. Afterwards that is back,
    whatever was set within, as are the threads, the global generators and the choice of deterministic algorithms."""
    threads = torch.get_num_threads()
    algorithms = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    with ExitStack() as plain:
        plain.callback(torch.use_deterministic_algorithms, algorithms[0], warn_only=algorithms[1])
        plain.enter_context(generators_kept())
        plain.callback(torch.set_num_threads, threads)
        plain.enter_context(_precisions())
        for place, name, own in switches():
            plain.callback(setattr, place, name, getattr(place, name))
            setattr(place, name, own)
        plain.enter_context(on_the_cpu())
        plain.enter_context(float32())
        plain.enter_context(torch.inference_mode(mode=False))
        plain.enter_context(torch.enable_grad())
        plain.enter_context(_without_autocast())
        yield


OFFSET = 8
"""Bytes of the seed, which the state of a GPU's generator begins with; its offset follows."""


@contextmanager
def generators_kept() -> Iterator[None]:
    """Afterwards the global generators of torch, NumPy and Python are as before. Those of GPUs that were not in use
    have the CPU's seed, which torch.manual_seed gives to all."""
    own, others = torch.get_rng_state(), (np.random.get_state(), random.getstate())  # noqa: NPY002
    used = torch.cuda.is_initialized()
    of_gpus = torch.cuda.get_rng_state_all() if used else []
    try:
        yield
    finally:
        torch.set_rng_state(own)
        np.random.set_state(others[0])  # noqa: NPY002
        random.setstate(others[1])
        with suppress(RuntimeError):  # a GPU that this process has lost answers nothing
            if used:
                torch.cuda.set_rng_state_all(of_gpus)
            else:
                torch.cuda.manual_seed_all(torch.initial_seed())


def seed_global_generators(seed: int) -> None:
    """Seeds those of torch, NumPy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the one that libraries of image transforms draw from
    random.seed(seed)


def global_generators(device: torch.device) -> list[bytes]:
    """The states of the global generators of torch on the CPU, NumPy and Python and, where a GPU is used, how many
    numbers that one's has given since it was seeded, as it is whenever a network is built: others after every draw."""
    others = pickle.dumps((np.random.get_state(legacy=False), random.getstate()))  # noqa: NPY002
    states = [torch.get_rng_state().numpy().tobytes(), others]
    return [*states, *([torch.cuda.get_rng_state(device)[OFFSET:].numpy().tobytes()] if on_gpu(device) else [])]


@contextmanager
def on_the_cpu() -> Iterator[None]:
    """Within, tensors for which no device is named are on the CPU; whatever is set within is gone afterwards."""
    kept = getattr(getattr(torch, "_GLOBAL_DEVICE_CONTEXT", None), "device_context", None)
    contexts = [mode for mode in _get_current_function_mode_stack() if isinstance(mode, DeviceContext)]
    if kept is not None and contexts[-1:] == [kept]:
        torch.set_default_device(None)
        try:
            yield
        finally:
            torch.set_default_device(kept.device)
        return
    # Within a `with torch.device(...)`, if in anything: set_default_device would break its end.
    with torch.device("cpu") if torch.get_default_device() != OWN else nullcontext():
        try:
            yield
        finally:
            if torch.get_default_device() != OWN:
                torch.set_default_device(None)


@contextmanager
def _without_autocast() -> Iterator[None]:
    """Within, nothing is cast. An autocast that begins within is an outermost one, so it drops its copies of weights
    when it ends; one that does not end there ends here."""
    kinds = {"cpu": torch.bfloat16} | ({"cuda": torch.float16} if torch.cuda.is_available() else {})
    before = [(kind, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in kinds]
    cached, depth = torch.is_autocast_cache_enabled(), _to_depth(0)
    torch.set_autocast_cache_enabled(True)
    for kind, dtype in kinds.items():
        torch.set_autocast_dtype(kind, dtype)
        torch.set_autocast_enabled(kind, False)
    try:
        yield
    finally:
        _to_depth(depth)
        torch.set_autocast_cache_enabled(cached)
        for kind, enabled, dtype in before:
            torch.set_autocast_dtype(kind, dtype)
            torch.set_autocast_enabled(kind, enabled)


def _to_depth(wanted: int) -> int:
    """Sets how many autocasts torch takes to be nested, and forgets their copies; returns how many it took before."""
    torch.autocast_increment_nesting()
    before = depth = torch.autocast_decrement_nesting()
    while depth > wanted:
        depth = torch.autocast_decrement_nesting()
    while depth < wanted:
        depth = torch.autocast_increment_nesting()
    torch.clear_autocast_cache()
    return int(before)


@contextmanager
def _precisions() -> Iterator[None]:
    """Within, the precisions of float32 arithmetic are torch's own. Torch has older and newer names for them, and
    refuses to read by the older ones what was set by the newer ones."""
    (highest, above), *others = [(place, place.fp32_precision) for place in PRECISIONS]
    products = convolutions = None
    with suppress(RuntimeError):
        products = torch.get_float32_matmul_precision()
    with suppress(RuntimeError):
        convolutions = torch.backends.cudnn.allow_tf32
    for place in PRECISIONS:
        place.fp32_precision = INHERITED
    _older("highest", convolutions=True)
    try:
        yield
    finally:
        _older(products, convolutions)
        highest.fp32_precision = above
        for place, value in others:
            place.fp32_precision = INHERITED if value == above else value


def _older(products: str | None, convolutions: bool | None) -> None:
    """Sets the precision of products, and whether convolutions may be in TF32, by torch's older names. None: left."""
    if products is not None:
        torch.set_float32_matmul_precision(products)
    if convolutions is not None:
        torch.backends.cudnn.allow_tf32 = convolutions
