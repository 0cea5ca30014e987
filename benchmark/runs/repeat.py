"""The command that repeats one run of a plan: the flags that the plan was made with, narrowed to this run."""

from collections.abc import Mapping
from dataclasses import fields
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
    "plan": "what it says stands in the command",
    "save_plan": "does no run",
    "quiet": "what is printed",
    "verbose": "what is printed",
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
    return value if isinstance(value, str) else canonical_json(value)


def _narrowed(asked: Asked) -> dict[str, Any]:
    """The flags that name this run alone, and those whose defaults the protocol or the machine would choose."""
    recipe = asked.recipe
    _, _, fixed = protocols.recipe_for(asked.protocol, asked.method, asked.dataset)
    plain = registry.make("dataset", asked.dataset, fixed).settings()
    changed = {key: value for key, value in asked.dataset_settings.items() if value != plain[key]}
    return {
        "methods": f"{asked.method}:{asked.variant}" if asked.variant else asked.method,
        "datasets": asked.dataset,
        "sources": asked.source,
        "seeds": asked.seed,
        "steps": recipe.steps,
        "budget": asked.budget,
        "seconds": asked.seconds,
        "protocol": asked.protocol,
        "set": tuple(f"{asked.dataset}.{key}={spell(value)}" for key, value in changed.items()),
        "device": asked.device,
        "sensitivity_images": recipe.sensitivity_images,
        "evaluations": recipe.evaluations,
    }


def _flag(name: str, value: Any) -> list[str]:
    """The words of a flag with its values; none where it is not given."""
    if value is None or value is False or value == ():
        return []
    values = () if value is True else value if isinstance(value, tuple) else (value,)
    return [f"--{name.replace('_', '-')}", *(_text(each) for each in values)]


def _text(value: Any) -> str:
    """A value in as few characters as give it back."""
    short = f"{value:g}" if isinstance(value, float) else str(value)
    return short if not isinstance(value, float) or float(short) == value else repr(value)
