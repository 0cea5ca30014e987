"""The kernels compile for a GPU, checked without one: the interpreter accepts what Triton's compiler does not."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

pytest.importorskip("triton.backends.nvidia", reason="no Triton with a compiler for NVIDIA")
WANTED = {"hold", "mix", "pack_images", "step", "finish"}
WANTED |= {"divergence", "convolve", "_ascend", "_peak", "_finish", "_sums", "_slope"}


def test_every_kernel_compiles_and_rounds_where_the_definition_does() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "tests.compile_kernels"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    made = [json.loads(line) for line in done.stdout.splitlines()]
    assert {kernel["kernel"] for kernel in made} == WANTED
    assert all(kernel["code"] > 0 for kernel in made)
    assert [kernel for kernel in made if kernel["fused"] and not kernel["may_fuse"]] == []
    assert any(kernel["fused"] for kernel in made if kernel["kernel"] == "convolve")  # so the count counts
