"""Settings of torch that hold for a whole process: as in a new one for a while, then as they were."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch

from benchmark.core.devices import on_gpu


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
    gradient modes, autocast, and the precision of matrix products. Afterwards that is back, as are the threads, the
    global generator and the choice of deterministic algorithms."""
    threads, generator = torch.get_num_threads(), torch.get_rng_state()
    algorithms = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    convolutions, place, put_back = torch.backends.cudnn.allow_tf32, torch.get_default_device(), _products()
    try:
        torch.set_float32_matmul_precision("highest")
        if on_gpu(place):
            torch.set_default_device(None)
        with ExitStack() as plain:
            plain.enter_context(float32())
            plain.enter_context(torch.inference_mode(mode=False))
            plain.enter_context(torch.enable_grad())
            for kind in ("cpu", *["cuda"] * torch.cuda.is_available()):
                plain.enter_context(torch.autocast(kind, enabled=False))
            yield
    finally:
        if on_gpu(place):
            torch.set_default_device(place)
        torch.set_num_threads(threads)
        torch.set_rng_state(generator)
        torch.use_deterministic_algorithms(algorithms[0], warn_only=algorithms[1])
        put_back()
        torch.backends.cudnn.allow_tf32 = convolutions


def _products() -> Callable[[], None]:
    """Sets the precision of matrix products as it is now, by the one of torch's two ways that the caller took: each
    refuses to read what the other set."""
    try:
        return partial(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
    except RuntimeError:
        products = torch.backends.cuda.matmul
        return partial(setattr, products, "fp32_precision", products.fp32_precision)
