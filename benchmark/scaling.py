"""python -m benchmark.scaling: what a whole matrix of runs costs, from the cost in the run records.

    seconds of a run = steps x batch x passes x 3 x GFLOP of a forward / (rate x share)

passes: forward-backward passes for each source image, from the records on this dataset or else from the method itself.
share: the rate at which the method makes passes, relative to ERM's; it holds the method's cost beyond passes. It is the
median over the method's records that have one of ERM beside them, of the same call and recipe (`relative_to_erm` x
`passes_per_image` in the throughput table). Runs that shared a GPU are left out: their rate says how many there were.
rate: the GFLOP/s that ERM's training reaches on the device in question, which is an assumption.
Evaluation and the sensitivity map are left out.
"""

from collections.abc import Sequence
from functools import cache
from heapq import heapreplace
from itertools import count
from math import ceil
from statistics import median

import torch
from tabulate import tabulate
from torch.utils.flop_counter import FlopCounterMode

from benchmark import flags, networks, protocols, registry
from benchmark.core.errors import UsageError
from benchmark.core.record import Record
from benchmark.report.tidy.rows import throughput_rows
from benchmark.runs.command_line import arguments, in_range, program
from benchmark.runs.ending import explained, leave
from benchmark.runs.plan import expand_all
from benchmark.runs.store import Store

Args = flags.Scaling


@explained()
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 2 for bad usage."""
    args: Args = arguments(Args, argv, program("scaling"))
    print(report(args))
    return 0


def report(args: Args) -> str:
    """The tables that are printed. Raises UsageError for unknown names, and where records of ERM or of a method are
    missing; and for numbers out of their range."""
    in_range("--seeds", args.seeds, 1, 1000)
    in_range("--gflops", args.gflops, 0.001, 10**12)
    for devices in args.devices:
        in_range("--devices", devices, 1, 1_000_000)
    for flag, values in (("--methods", args.methods), ("--datasets", args.datasets), ("--devices", args.devices)):
        if not values:
            raise UsageError(f"{flag}: name at least one")
    if not args.out.is_dir():
        raise UsageError(f"--out {args.out}: no such folder; name one with finished runs of ERM and these methods")
    done = [record for record in Store(args.out).read_all() if record.status == "done"]
    methods, datasets = expand_all(args.methods), [*dict.fromkeys(args.datasets)]
    for name in methods:
        registry.find("method", name)
    shares = shares_of(done)
    if lacking := {*methods, "erm"} - shares.keys():
        raise UsageError(
            f"--out {args.out}: no finished runs of {', '.join(sorted(lacking))} to take the cost from; only those "
            "count that ran in one call with ERM and shared no GPU: run them and ERM in one call, on "
            "a GPU with --jobs 1"
        )
    hours, rows = [], []
    for name in methods:
        share = shares[name]
        each = [seconds(name, dataset, done, share * args.gflops) / 3600 for dataset in datasets]
        hours += [hour for hour in each for _ in range(args.seeds)]
        rows.append([name, f"{share:.2f}", *(f"{60 * hour:.1f}" for hour in each)])
    runs = tabulate(rows, ["method", "share", *datasets], "pipe", disable_numparse=True)
    spread = [(n, makespan(hours, n)) for n in args.devices]
    lines = [[n, f"{span:.1f}", f"{sum(hours) / n / span:.0%}"] for n, span in spread]
    ends = tabulate(lines, ["devices", "hours until all are done", "time at work"], "pipe", disable_numparse=True)
    longest = max(hours)
    enough = next(n for n in count(ceil(sum(hours) / longest)) if makespan(hours, n) <= 1.0001 * longest)
    return (
        f"Minutes of one run on a device where ERM's training reaches {args.gflops:g} GFLOP/s (assumed):\n\n{runs}\n\n"
        f"{len(hours)} runs take {sum(hours):.1f} device-hours. The "
        f"longest takes {longest:.1f} hours, and from {enough} devices on it alone decides when all are done:\n\n{ends}"
    )


def shares_of(records: Sequence[Record]) -> dict[str, float]:
    """The rate of passes of each method that has a run with one of ERM beside it, ERM's being 1; of its form without a
    variant where there is one."""
    rows = throughput_rows([record for record in records if record.asked.trial is None])
    rows["share"] = rows["relative_to_erm"] * rows["passes_per_image"]
    found = {}
    for name, own in rows.dropna(subset="share").groupby("method"):
        plain = own[own["variant"] == ""]
        found[str(name)] = float((own if plain.empty else plain)["share"].median())
    return found


def seconds(method: str, dataset: str, records: Sequence[Record], gflops: float) -> float:
    """Of one run under the common protocol, at so many GFLOP/s."""
    recipe, _, _ = protocols.recipe_for("common", method, dataset)
    known = [
        r.throughput.passes_per_image
        for r in records
        if r.throughput
        and (r.asked.method, r.asked.dataset, r.asked.variant) == (method, dataset, "")
        and (r.asked.budget, r.asked.recipe.steps) == ("steps", recipe.steps)  # GUD's phases cost as much in short ones
        and (r.asked.protocol, r.asked.trial, r.asked.recipe.batch_size) == ("common", None, recipe.batch_size)
    ]
    passes = median(known) if known else registry.find("method", method).passes
    return recipe.steps * recipe.batch_size * passes * gflop(dataset, recipe.network) / gflops


@cache
def gflop(dataset: str, network: str) -> float:
    """10^9 operations of a forward and backward pass of one image of a dataset; a backward counts as two forwards."""
    data = registry.make("dataset", dataset, {})
    if not hasattr(data, "classes"):
        raise UsageError(f"--datasets {dataset}: its classes and images are known only from its files; name another")
    side = getattr(data, "size", 32)
    network = networks.by_size(side, side) if network == "by_size" else network
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        networks.build(network, len(data.classes), 0).eval()(torch.empty(1, 3, side, side))
    return 3 * float(counter.get_total_flops()) / 1e9


def makespan(hours: Sequence[float], devices: int) -> float:
    """Hours until all runs are done, when the longest that is left goes to the device that is free first."""
    busy = [0.0] * devices
    for hour in sorted(hours, reverse=True):
        heapreplace(busy, busy[0] + hour)
    return max(busy)


if __name__ == "__main__":
    leave(main)
