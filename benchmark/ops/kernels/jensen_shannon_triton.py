"""The Triton form of jensen_shannon: a program takes some rows of the batch, all n of each, and keeps them."""

# mypy: ignore-errors
# The types are Triton's, taken from the arguments.

import torch
import triton
import triton.language as tl

from benchmark.ops.kernels.dispatch import power

TILE = 2048
"""Elements that a program keeps at a time, where one row of all n is not larger."""


def launch(z):
    """The value, a scalar, and its gradient [n,B,K], for contiguous logits z [n,B,K]."""
    n, batch, classes = z.shape
    views, columns = power(n), power(classes)
    rows = max(1, TILE // (views * columns))
    value, gradient = z.new_empty(batch), torch.empty_like(z)
    divergence[(triton.cdiv(batch, rows),)](
        z,
        value,
        gradient,
        n,
        batch,
        classes,
        1 / (n * batch),
        N=views,
        ROWS=rows,
        COLUMNS=columns,
        enable_fp_fusion=True,
    )  # fmt: skip
    return value.sum(), gradient


@triton.jit
def divergence(
    z, value, gradient, n, batch, classes, share,
    N: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    view = tl.arange(0, N)[:, None, None]
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[None, :, None]
    column = tl.arange(0, COLUMNS)[None, None, :]
    there = (view < n) & (row < batch) & (column < classes)
    at = (view.to(tl.int64) * batch + row) * classes + column
    logits = tl.load(z + at, mask=there, other=0)
    shifted = logits - tl.max(tl.where(column < classes, logits, float("-inf")), 2, keep_dims=True)
    log_p = shifted - tl.log(tl.sum(tl.where(column < classes, tl.exp(shifted), 0.0), 2, keep_dims=True))
    p = tl.where(there, tl.exp(log_p), 0.0)
    mean = tl.sum(p, 0, keep_dims=True) / n
    mixture = tl.minimum(tl.maximum(mean, 1e-7), 1.0)
    ratio = log_p - tl.log(mixture)
    found = tl.sum(tl.sum(p * ratio, 2, keep_dims=True), 0, keep_dims=True) * share
    tl.store(value + row, found, mask=row < batch)
    pull = ratio + tl.where((mean < 1e-7) | (mean > 1.0), 1.0, 0.0)
    slope = p * (pull - tl.sum(p * pull, 2, keep_dims=True)) * share
    tl.store(gradient + at, slope, mask=there)
