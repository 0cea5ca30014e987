"""A sensitivity map that a user gives, as the file of SADA's authors is one."""

import numpy as np
import torch
from torch import Tensor

from benchmark.core.errors import UsageError
from benchmark.sensitivity.fourier import from_centered


def read_map(path: str, n: int) -> Tensor:
    """The map [n,n] in fft2 layout from an .npy file of a centred one. Raises UsageError where it is none."""
    try:
        error = from_centered(torch.from_numpy(np.load(path, allow_pickle=False)), n)
    except (OSError, ValueError, TypeError) as problem:
        raise UsageError(f"sada.weight_map={path}: neither 'erm' nor 'none' nor the file of a map: {problem}") from None
    if not ((error >= 0) & (error <= 1)).all():
        raise UsageError(f"sada.weight_map={path}: a map holds error rates in [0,1]")
    return error
