"""The card of a saved network: what it is, what made it, and which accuracies it must reproduce."""

from collections.abc import Iterable, Iterator
from typing import Any

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
        "data licence": getattr(dataset, "licence", "not stated"),
        "data citation": getattr(dataset, "citation", "not stated"),
        "code": f"{ran.code}, commit {ran.git_commit or 'unknown'}{' with changes' if ran.git_dirty else ''}",
        "made on": f"{ran.device_name}, torch {ran.machine['packages']['torch']}, {ran.ended}",
        "SHA-256 of weights.safetensors": weights.sha256,
    }
    reached = [(part or "source validation", n, percent) for part, n, percent in _reached(record)]
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


def hub_card(record: Record, repository: str, not_timm: str | None, licence: str | None) -> str:
    """The card as the README.md of a repository OWNER/NAME of the Hugging Face hub, with the metadata of a model card.

    not_timm: why the network does not load into timm, or None where it does. licence: an identifier of the hub's, or
    None, and then the card names none. The dataset stands in the results alone: a `datasets:` entry would name one of
    the hub's own.
    """
    from huggingface_hub import EvalResult, ModelCardData  # noqa: PLC0415 - slow to import, and few commands need it

    asked = record.asked
    tested: dict[str, Any] = {
        "task_type": "image-classification",
        "task_name": "Image Classification",
        "dataset_type": asked.dataset,
    }
    results = [
        EvalResult(
            **tested,
            dataset_name=f"{asked.dataset}/{part or asked.source}",
            dataset_config=part or asked.source,
            dataset_split="test" if part else "validation",
            metric_type="accuracy",
            metric_name="Top-1 accuracy",
            metric_value=round(percent / 100, 6),
        )
        for part, _, percent in _reached(record)
    ]
    about = ModelCardData(
        library_name=None if not_timm else "timm",
        license=licence,
        pipeline_tag="image-classification",
        tags=["image-classification", "domain-generalization", "dg-referee", asked.method] + ["timm"] * (not not_timm),
        metrics=["accuracy"],
        model_name=repository.rpartition("/")[2],
        eval_results=results,
    )
    return f"---\n{about.to_yaml()}\n---\n\n{card(record)}{_from_hub(repository, not_timm)}"


def _from_hub(repository: str, not_timm: str | None) -> str:
    """How to load a network from the hub."""
    text = f"""
From the hub:

```python
import benchmark
from huggingface_hub import snapshot_download

net = benchmark.load_model(snapshot_download("{repository}"))
```
"""
    if not_timm:
        return f"{text}\nIt does not load into timm: {not_timm}.\n"
    return f"""{text}
In timm, without dg-referee. Here normalisation is part of the transform:

```python
import timm

net = timm.create_model("hf_hub:{repository}", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(net), is_training=False)
logits = net(transform(image)[None])  # image: a PIL image of mode RGB
```
"""


def _reached(record: Record) -> Iterator[tuple[str | None, int, float]]:
    """Part, images and accuracy in percent of what was scored: the source's validation part (None), and each domain."""
    assert record.accuracy is not None
    rule = record.asked.recipe.selection
    yield None, record.accuracy.n_val, record.accuracy.source_val[rule]
    for name, domain in record.accuracy.domains.items():
        if domain.accuracy:
            yield name, domain.n or 0, domain.accuracy[rule]


def _rows(rows: Iterable[tuple[object, ...]]) -> str:
    return "\n".join("| " + " | ".join(str(cell).replace("|", "&#124;") for cell in row) + " |" for row in rows)
