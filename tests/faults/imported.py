"""Imports what a run and its worker import, so that processes forked from one that has done so begin at once."""

import gc

import torch._dynamo

import benchmark.runs.engines.distributed
import benchmark.runs.engines.workers
import benchmark.session
import tests.faults.harness

__all__ = ["benchmark", "tests", "torch"]

gc.freeze()  # processes forked from this one need not look through it
