"""Compiles every Triton kernel for an H100, with no GPU at hand: `python -m tests.compile_kernels`.

The launchers run on the CPU with their launches replaced by compilations of what would have been launched. Prints for
each, as JSON: kernel, whether multiply-adds may be fused, how many are, and the bytes of machine code.
"""

import inspect
import json
from typing import Any

import torch
from triton import compile as compile_source
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from benchmark.ops.kernels import augment_mix, jensen_shannon, random_convolution, spectrum_step
from benchmark.ops.kernels.dispatch import triton_form

TYPES = {
    torch.float32: "fp32", torch.float64: "fp64", torch.int32: "i32", torch.int64: "i64", torch.uint8: "u8",
    torch.bool: "i1",
}  # fmt: skip
OPTIONS = ("num_warps", "num_stages", "enable_fp_fusion", "maxnreg")


def type_of(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"*{TYPES[value.dtype]}"
    return "fp32" if isinstance(value, float) else "i32"


def instead_of_a_launch(kernel: Any, *args: Any, grid: Any, warmup: bool = False, **named: Any) -> None:
    options = {name: named.pop(name) for name in OPTIONS if name in named}
    given = inspect.signature(kernel.fn).bind(*args, **named).arguments
    signature, constants = {}, {}
    for index, parameter in enumerate(kernel.params):
        value = given[parameter.name]
        one = type(value) is int and value == 1 and not parameter.do_not_specialize  # a constant, as in a launch
        if parameter.is_constexpr or value is None or one:
            constants[index,] = value
        signature[parameter.name] = "constexpr" if (index,) in constants else type_of(value)
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    made = compile_source(source, target=GPUTarget("cuda", 90, 32), options=options)
    fused = options["enable_fp_fusion"]  # always said: Triton's default changes
    seen = {"kernel": kernel.fn.__name__, "may_fuse": fused, "fused": made.asm["ptx"].count("fma.rn.f")}
    print(json.dumps(seen | {"code": len(made.asm["cubin"])}), flush=True)  # noqa: T201


def main() -> None:
    JITFunction.run = instead_of_a_launch
    x = torch.rand(2, 3, 32, 32)
    draws = torch.zeros(2, 3, 3, dtype=torch.int64), torch.zeros(2, 3, 3, dtype=torch.float64)
    augment_mix.views_triton(x, *draws, torch.rand(2, 3), torch.rand(2))
    augment_mix.chains_triton(augment_mix.to_uint8(x), *draws)
    triton_form("augment_triton").launch(x, *draws, torch.rand(2, 3), torch.rand(2), torch.empty_like(x), split=True)
    large = torch.rand(2, 3, 224, 224).contiguous(memory_format=torch.channels_last)
    augment_mix.views_triton(large, *draws, torch.rand(2, 3), torch.rand(2))
    one = torch.zeros(1, 1, 1, dtype=torch.int64)
    augment_mix.views_triton(x[:1, :, :1, :1], one, one.double(), torch.rand(1, 1), torch.rand(1))
    jensen_shannon.divergence_triton(torch.randn(3, 32, 10))
    jensen_shannon.divergence_triton(torch.randn(4, 32, 1000))
    parts = torch.full((2,), 3), torch.rand(2, 3, 3, 7, 7), torch.rand(2), torch.rand(2) > 0.5
    random_convolution.random_convolution_triton(x, *parts, torch.rand(2, 3), "clamp")
    z = torch.randn(3, 2, 3, 8, 8, dtype=torch.complex64)
    a, moving = z.abs(), torch.rand(3, 2) > 0.5
    spectrum_step.ascend_triton(a, z, z, torch.rand(8, 8), moving, 0.1, (a, a))
    spectrum_step.to_image_triton(z, "batch_max", "abs", torch.ones(3, 1))
    for norm, magnitude in (("batch_max", "abs"), ("none", "real")):
        form: Any = spectrum_step.to_image_triton
        form(z.clone().requires_grad_(), norm, magnitude).sum().backward()


if __name__ == "__main__":
    main()
