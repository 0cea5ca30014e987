"""The command that repeats one run of a plan: the flags that the plan was made with, narrowed to this run."""

import re
from collections.abc import Mapping
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any

from benchmark import protocols, registry
from benchmark.core.record import Asked, canonical_json
from benchmark.runs.args import Args
from benchmark.runs.command_line import quoted

LEFT_OUT: Mapping[str, str] = {
    "out": "where the record lies, which whoever repeats the run chooses",
    "engine": "where the run executes; its numbers are the same",
    "ray_address": "as engine",
    "timeout": "when a run is given up",
    "jobs": "how many other runs there are at a time",
    "save_weights": "what is kept of a run; the card of a kept network adds it",
    "track": "who else is told",
    "checkpoint_seconds": "how often a run is saved",
    "stale": "what becomes of records that are there",
    "list": "does no run",
    "dry_run": "does no run",
    "version": "does no run",
    "plan": "what it says stands in the command",
    "save_plan": "does no run",
    "quiet": "what is printed",
    "verbose": "what is printed",
    "search": "what it chose stands in the command",
}
"""The flags that say nothing about one run, each with the reason. All others stand in its command."""


def command(asked: Asked, args: Args) -> str:
    """The command that does this run of those that `args` ask for, and no other; a shell reads it back."""
    narrowed, words = _narrowed(asked), ["python -m benchmark.run"]
    for field in fields(args):
        value = narrowed.get(field.name, getattr(args, field.name))
        if field.name in narrowed or (field.name not in LEFT_OUT and value != field.default):
            words += map(quoted, _flag(field.name, value))
    return " ".join(words)


def spell(value: Any) -> str:
    """A setting as it is written on the command line and in tables."""
    value = value.value if isinstance(value, Enum) else value
    return value if isinstance(value, str) else canonical_json(value)


def parts(variant: str) -> list[str]:
    """'a=1,b=[2,3]' -> ['a=1', 'b=[2,3]']"""
    return re.split(r",(?=\w+=)", variant) if variant else []


def _narrowed(asked: Asked) -> dict[str, Any]:
    """The flags that name this run alone, and those whose defaults the protocol or the machine would choose."""
    recipe = asked.recipe
    usual, own, fixed = protocols.recipe_for(asked.protocol, asked.method, asked.dataset)
    changed = _changed("dataset", asked.dataset, fixed, asked.dataset_settings)
    drawn = _changed("method", asked.method, own, asked.settings) if asked.trial else []
    drawn = [part for part in drawn if part not in parts(asked.variant)]
    return {
        "methods": f"{asked.method}:{asked.variant}" if asked.variant else asked.method,
        "datasets": asked.dataset,
        "sources": asked.source,
        "seeds": asked.seed,
        "steps": recipe.steps,
        "budget": asked.budget,
        "seconds": asked.seconds,
        "protocol": asked.protocol,
        "set": tuple([f"{asked.dataset}.{part}" for part in changed] + [f"{asked.method}.{part}" for part in drawn]),
        "device": asked.device,
        "sensitivity_images": recipe.sensitivity_images,
        "evaluations": recipe.evaluations,
        "lr": None if recipe.lr == usual.lr else recipe.lr,
        "weight_decay": None if recipe.weight_decay == usual.weight_decay else recipe.weight_decay,
        "trial": None if asked.trial is None else str(asked.trial),
    }


def _changed(kind: registry.Kind, name: str, fixed: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """The settings that differ from the protocol's own, as 'field=value'."""
    plain = registry.make(kind, name, fixed).settings()
    return [f"{key}={spell(value)}" for key, value in settings.items() if value != plain.get(key)]


def _flag(name: str, value: Any) -> list[str]:
    """The words of a flag with its values; none where it is not given."""
    if value is None or value is False or value == ():
        return []
    flag = f"--{name.replace('_', '-')}"
    values = () if value is True else value if isinstance(value, tuple) else (value,)
    texts = [_text(each) for each in values]
    if any(text.startswith("-") for text in texts):  # by itself it would be a flag
        return [f"{flag}={text}" for text in texts]
    return [flag, *texts]


def _text(value: Any) -> str:
    """A value in as few characters as give it back."""
    if isinstance(value, Path):
        return f"./{value}" if str(value).startswith("-") else str(value)
    short = f"{value:g}" if isinstance(value, float) else str(value)
    return short if not isinstance(value, float) or float(short) == value else repr(value)
