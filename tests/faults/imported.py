"""Imports what a run and its worker import, so that processes forked from one that has done so begin at once."""

import torch._dynamo

import benchmark.runs.engines.distributed
import benchmark.runs.engines.workers
import benchmark.session
import tests.faults.harness

__all__ = ["benchmark", "tests", "torch"]
