"""Adam (Kingma and Ba, ICLR 2015) with its state as a value. ALT and ABA keep it from one training step to the
next, while what it moves is drawn anew in each.

A loss may be asked for twice in a step. So it leaves what is to be kept in state["next"], and `commit` takes it over
before the next step.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

Kept: TypeAlias = dict[str, Any]
"""{"step": [], "m": [...], "v": [...]}, and what a method adds."""
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


def adam_step(params: Sequence[Tensor], grads: Sequence[Tensor], kept: Kept, lr: float) -> tuple[list[Tensor], Kept]:
    """One step as a pure function; the count of steps is a tensor, so that a replayed step can move it."""
    step = kept["step"] + 1
    m = [BETA1 * old + (1 - BETA1) * g for old, g in zip(kept["m"], grads, strict=True)]
    v = [BETA2 * old + (1 - BETA2) * g.square() for old, g in zip(kept["v"], grads, strict=True)]
    first, second = 1 - BETA1**step, 1 - BETA2**step
    moved = [p - lr * (a / first) / ((b / second).sqrt() + EPS) for p, a, b in zip(params, m, v, strict=True)]
    return moved, {"step": step, "m": m, "v": v}


def fresh(like: Sequence[Tensor]) -> Kept:
    """Adam's state before its first step on such parameters."""
    return {"step": torch.zeros((), device=like[0].device), **{key: [*map(torch.zeros_like, like)] for key in "mv"}}


def begin(kept: Kept) -> dict[str, Any]:
    """A method's state from what it begins with."""
    return {"now": kept, "next": tree_map(torch.clone, kept)}


def leave(state: dict[str, Any], kept: Kept) -> None:
    """Writes what is to be kept where `commit` finds it; tensors stay where they are, as a replayed step needs it."""
    for place, new in zip(tree_leaves(state["next"]), tree_leaves({k: kept[k] for k in state["next"]}), strict=True):
        place.copy_(new.detach())


def commit(state: dict[str, Any]) -> None:
    """Takes over what the last step has left."""
    for place, new in zip(tree_leaves(state["now"]), tree_leaves(state["next"]), strict=True):
        place.copy_(new)


def cut(frames: Kept, like: Sequence[Tensor]) -> Kept:
    """Adam's state of these parameters, from the middle of frames for the largest kernels."""
    parts = {key: [_middle(f, p) for f, p in zip(frames[key], like, strict=True)] for key in "mv"}
    return {"step": frames["step"], **parts}


def put_back(frames: Kept, kept: Kept) -> Kept:
    """The frames with this state in their middle; around it they are as they were."""
    found: dict[str, Any] = {"step": kept["step"], **{key: [f.clone() for f in frames[key]] for key in "mv"}}
    for key in "mv":
        for frame, part in zip(found[key], kept[key], strict=True):
            _middle(frame, part).copy_(part)
    return found


def _middle(frame: Tensor, like: Tensor) -> Tensor:
    if like.ndim == 1:
        return frame
    rim = (frame.shape[-1] - like.shape[-1]) // 2
    return frame[..., rim : rim + like.shape[-1], rim : rim + like.shape[-1]]
