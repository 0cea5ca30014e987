"""A ring of image sets that a method trains on in place of the source (AdvST, Zheng et al., AAAI 2024).

All sets have the images of the source in one order, so that their labels repeat. It lives in a method's state: x float
[S*N,3,H,W] and y [S*N], empty until the first set is added; `order`, in which the ring is read; `at`, the positions of
this step's batch, always in one place, where a replayed step reads it; made: sets added; since: the step of the last.
"""

from typing import Any

import torch
from torch import Tensor

from benchmark.core.images import Images


def empty(source: Images) -> dict[str, Any]:
    """The ring before the first set."""
    none = source[:0]
    return {"x": none.unit(), "y": none.y, "order": none.y, "at": none.y, "made": 0, "since": 0}


def add(ring: dict[str, Any], source: Images, new: Tensor, step: int, batch: int, *, k: int, keep_source: bool) -> None:
    """Adds a set before this step: new [N,3,H,W]. Up to k stand beside the source; each further one takes the place of
    the oldest, the source being the oldest of all unless it is kept."""
    n, made = len(new), ring["made"] + 1
    if made <= k:
        x = ring["x"] if made > 1 else source.unit()
        ring.update(x=torch.cat([x, new]), y=source.y.repeat(made + 1))
    else:
        slot = 1 + (made - 1) % k if keep_source else made % (k + 1)
        ring["x"][slot * n : (slot + 1) * n] = new
    ring.update(made=made, since=step, at=ring["y"][:batch].clone())


def advance(ring: dict[str, Any], step: int, generator: torch.Generator | None) -> None:
    """Turns to the batch of this step: full batches in the ring's order round and round, from where the last set was
    added; with a generator, each round in an order of its own."""
    images, batch = len(ring["y"]), len(ring["at"])
    place = (step - ring["since"]) % (images // batch)
    if place == 0:
        order = torch.arange(images) if generator is None else torch.randperm(images, generator=generator)
        ring["order"] = order.to(ring["y"].device)
    ring["at"].copy_(ring["order"][place * batch : (place + 1) * batch])
