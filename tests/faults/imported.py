"""Does what every run and its worker do first, so that processes forked from one that has done so begin at once."""

import gc

import torch._dynamo

import benchmark.runs.engines.distributed
import benchmark.runs.engines.workers
import benchmark.session
import tests.faults.harness
from benchmark import registry
from benchmark.data.dataset import load
from benchmark.ops.kernels import augment_mix
from benchmark.training import floors

__all__ = ["benchmark", "tests", "torch"]

threads = torch.get_num_threads()
torch.set_num_threads(1)  # OpenMP's other threads would be missing after a fork
load(registry.make("dataset", "minidigits", {}), "uci", None)  # it keeps the images
augment_mix._pillow_cpu()
torch.set_num_threads(threads)
floors.device_rates = lambda *about: (100.0, 10.0)  # type: ignore[assignment] # measured anew, it takes most of a second

gc.freeze()  # processes forked from this one need not look through it
