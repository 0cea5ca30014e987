"""How long a plan will take, roughly."""

from collections.abc import Sequence
from time import perf_counter

import torch

from benchmark import networks, registry
from benchmark.devices import on_gpu, whole
from benchmark.job import Job
from benchmark.records import Store
from benchmark.shared import Facts, data_facts
from benchmark.spec import Asked


def cost(asked: Asked) -> float:
    """Expected cost of a run in batch passes, for the display of time left."""
    return asked.recipe.steps * (registry.find("method", asked.method).passes if asked.budget == "steps" else 1.0)


def estimate(todo: Sequence[Job], store: Store) -> dict[str, float]:
    """Rough seconds by run id: from earlier runs of the same row and length in this folder, or else from the time
    of a few passes measured now; evaluation and the sensitivity map are left out of the latter."""
    earlier = {
        (r.asked.row, r.asked.dataset, r.asked.recipe, r.asked.budget): r.ran.seconds
        for r in store.read_all()
        if r.status == "done"
    }
    rates: dict[tuple[str, int, Facts], float] = {}
    found = {}
    for job in todo:
        asked, recipe = job.asked, job.asked.recipe
        known = earlier.get((asked.row, asked.dataset, recipe, asked.budget))
        if known is None and asked.seconds is None:
            facts = data_facts(asked.dataset, asked.dataset_settings, asked.source, job.data_dir)
            key = (recipe.network, recipe.batch_size, facts)
            if key not in rates:
                rates[key] = seconds_per_pass(asked, facts)
            known = cost(asked) * rates[key]
        found[asked.run_id] = known if known is not None else float(asked.seconds or 0)
    return found


def seconds_per_pass(asked: Asked, facts: Facts) -> float:
    """Median time of a forward and backward pass of one batch of images of the run's size."""
    device = whole(asked.device if torch.cuda.is_available() else "cpu")  # a cluster may have what this machine lacks
    net = networks.build(asked.recipe.network, 10, 0).to(device)
    x = torch.rand(asked.recipe.batch_size, 3, facts.height, facts.width, device=device)
    times = []
    for _ in range(5):
        start = perf_counter()
        net(x).square().mean().backward()
        if on_gpu(device):
            torch.cuda.synchronize()
        times.append(perf_counter() - start)
    return sorted(times)[2]
