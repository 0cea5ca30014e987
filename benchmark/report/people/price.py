"""What rows cost, in sentences."""

from collections.abc import Mapping, Sequence

import numpy as np

from benchmark.core.record import Record
from benchmark.report.tidy.rows import throughput_rows
from benchmark.report.tidy.stats import Seeds

Members = Mapping[str, Sequence[Record]]
"""The runs of each row."""
MANY = 4
"""Rows beyond which an answer counts them; the table of differences names them."""


def cheapest(better: Sequence[str], rows: Mapping[str, Seeds], members: Members) -> str:
    """Of several rows that are better than ERM the one with the fewest passes; of equal ones that with the highest
    mean. Passes that nobody measured are the most. Under a budget of passes or time all cost the same."""
    (budget,) = {run.asked.budget for row in better for run in members[row]}
    passes = {row: round(_passes(members[row]), 2) if budget == "steps" else 0.0 for row in better}
    level = [row for row in better if passes[row] == min(passes.values())]
    use = max(level, key=lambda row: (float(np.mean([*rows[row].values()])), row))
    among = f"those shown to be better than ERM ({', '.join(better)})"
    if len(better) > MANY:
        among = f"the {len(better)} rows shown to be better than ERM"
    if len(level) == 1:
        return f"Use {use}: it is the cheapest of {among}."
    if budget != "steps":
        return f"Use {use}: of {among}, all with the same {budget}, it has the highest mean."
    alike = f"{len(level)} equally cheap ones" if len(level) > MANY else ", ".join(level)
    return f"Use {use}: of {among} none is shown to be cheaper, and of {alike} it has the highest mean."


def price(members: Members, first: str, better: Sequence[str]) -> list[str]:
    """What the best row and those shown to be better than ERM cost, ERM being 1; empty where nothing was counted. Speed
    is left out where no run was timed beside ERM."""
    paid = [record for runs in members.values() for record in runs if record.throughput]
    speed = throughput_rows(paid)
    found = []
    for row in dict.fromkeys([first, *better]):
        runs = [record.run_id for record in members[row]]
        relative = speed[speed["run_id"].isin(runs)]["relative_to_erm"].dropna()
        passes = _passes(members[row])
        if row != "erm" and passes < float("inf"):
            beside = f" and {relative.mean():.2g} of ERM's speed" * bool(len(relative))
            found.append(f"{row} {passes:.1f} passes per source image{beside}")
    return [f"Cost: {'; '.join(found)}."] if found else []


def _passes(runs: Sequence[Record]) -> float:
    paid = [record.throughput.passes_per_image for record in runs if record.throughput]
    return float(np.mean(paid)) if paid else float("inf")
