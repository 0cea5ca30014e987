"""The card of a saved network: what it is, what made it, and which accuracies it must reproduce."""

from collections.abc import Iterable

from benchmark import registry
from benchmark.core.record import Record, canonical_json


def card(record: Record) -> str:
    """Markdown for people; record.json beside it holds the same and more for programs. record: one with weights."""
    asked, ran, accuracy, weights = record.asked, record.ran, record.accuracy, record.weights
    assert accuracy is not None
    assert weights is not None
    rule = asked.recipe.selection
    dataset = registry.find("dataset", asked.dataset)
    facts = {
        "run": record.run_id,
        "method": f"{asked.method} ({registry.summary('method', asked.method)})",
        "settings": f"`{canonical_json(asked.settings)}`",
        "network": f"{asked.recipe.network}, {len(weights.classes)} classes: {', '.join(weights.classes)}",
        "protocol": asked.protocol,
        "recipe": f"`{canonical_json(asked.recipe.model_dump(mode='json'))}`",
        "trained on": f"{asked.dataset}/{asked.source}, seed {asked.seed}, {record.steps} steps",
        "selected at step": accuracy.selected_step[rule],
        "dataset settings": f"`{canonical_json(asked.dataset_settings)}`",
        "data fingerprint": asked.fingerprint,
        "data licence": dataset.licence,
        "data citation": dataset.citation,
        "code": f"{ran.code}, commit {ran.git_commit or 'unknown'}{' with changes' if ran.git_dirty else ''}",
        "made on": f"{ran.device_name}, torch {ran.machine['packages']['torch']}, {ran.ended}",
        "SHA-256 of weights.safetensors": weights.sha256,
    }
    reached = [("source validation", accuracy.n_val, accuracy.source_val[rule])]
    reached += [(name, d.n or 0, d.accuracy[rule]) for name, d in accuracy.domains.items() if d.accuracy]
    return f"""# {asked.row} on {asked.dataset}/{asked.source}, seed {asked.seed}

A network trained by dg-referee, as `{ran.command} --save-weights` makes it.

| | |
|---|---|
{_rows(facts.items())}

## What it must reproduce

Top-1 accuracy in percent; the network is the one that the rule `{rule}` chose. On a CPU the numbers are exact for a run
made on one: `python -m benchmark.export FOLDER --check` evaluates it again.

| domain | images | accuracy |
|---|---|---|
{_rows(reached)}

## How to load it

```python
import benchmark

net = benchmark.load_model("FOLDER")  # this folder: weights.safetensors and record.json
logits = net(x)  # x: float32 [B,3,H,W] in [0,1]; it is normalised inside
```
"""


def _rows(rows: Iterable[tuple[object, ...]]) -> str:
    return "\n".join("| " + " | ".join(str(cell).replace("|", "&#124;") for cell in row) + " |" for row in rows)
