"""From what the user asked to the list of runs: every default written out, every name and number checked."""

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import torch

from benchmark import networks, protocols, registry
from benchmark.core.devices import on_gpu
from benchmark.core.errors import UsageError
from benchmark.core.record import Asked
from benchmark.networks import precision, weights
from benchmark.runs import gpus
from benchmark.runs.args import Args, check_numbers, trial_of
from benchmark.runs.engines import ray
from benchmark.runs.job import Job
from benchmark.runs.repeat import command, parts, spell
from benchmark.runs.shared import blaming, data_facts

LOGGER = logging.getLogger("benchmark")


def plan(args: Args) -> list[Job]:
    """All runs asked for, seed by seed, so that an interrupted comparison has every row, with fewer seeds. Raises
    UsageError."""
    check_numbers(args)
    weights._sha256.cache_clear()  # in a notebook a file may have become another one since the last plan
    if args.network is not None:
        if args.network.count(":") > 1:  # else the part after the last one would be built under another name
            raise UsageError(
                f"--network {args.network}: timm:NAME takes a network that timm has itself, with one colon"
            )
        _check_network(args.network)
    device = _device(args)
    session = datetime.now(UTC).isoformat(timespec="seconds")
    given = parse_settings(args.set)
    methods = [parse_method(text) for text in expand_all(args.methods)]
    owners = dict.fromkeys([*(name for name, _ in methods), *args.datasets])
    for name in given:
        if name not in owners:
            raise UsageError(f"--set {name}.…: this run has no such method or dataset, only {', '.join(owners)}")
    jobs = []
    for seed in dict.fromkeys(args.seeds):
        for dataset in dict.fromkeys(args.datasets):
            made = registry.make("dataset", dataset, given.get(dataset, {}))
            with blaming(dataset):
                layout = made.layout(data_dir(args))
            for source in dict.fromkeys(args.sources or layout.sources):
                for name, own in methods:
                    asked, file = ask(args, device.type, seed, dataset, source, name, own, given)
                    jobs.append(
                        Job(
                            asked=asked,
                            command=command(asked, args),
                            session=session,
                            out=args.out.absolute(),  # a method may go to another folder
                            data_dir=data_dir(args),
                            typed_data_dir=args.data_dir,
                            plugins=args.plugin,
                            checkpoint_seconds=args.checkpoint_seconds,
                            save_weights=args.save_weights,
                            weights=file and file.absolute(),
                            deterministic=args.deterministic,
                            launch=args.launch,
                            nproc=args.nproc,
                            keep=args.stale == "keep",
                        )
                    )
    different = list({job.asked.run_id: job for job in jobs}.values())
    sharing = at_a_time(args, device, len(different))
    return [replace(job, sharing=sharing) for job in different]


def data_dir(args: Args) -> Path | None:
    """The data folder as runs have it: one name, so that its images are read once."""
    return args.data_dir and args.data_dir.absolute()


GPU_JOBS, GPU_MANY = 2, 16
"""Runs at a time on one GPU where nobody says, and the fewest runs for which starting a second process pays: replayed
steps of one run keep the card busy, so a second one fills the gaps between runs alone (docs/gpu.md)."""


def at_a_time(args: Args, device: torch.device, runs: int) -> int:
    """How many of so many runs this machine does at a time: as asked for, or what its device takes."""
    if args.jobs is None:
        alone = args.engine != "local" or args.nproc > 1 or not on_gpu(device) or runs < GPU_MANY
        return 1 if alone or not gpus.shareable(device) else GPU_JOBS
    return min(args.jobs, runs)


def ask(
    args: Args,
    device: str,
    seed: int,
    dataset: str,
    source: str,
    name: str,
    settings: dict[str, Any],
    given: dict[str, dict[str, Any]],
) -> tuple[Asked, Path | None]:
    """What one run is asked to do, every default written out, and the file of its first weights, if any.

    settings: those of the row. given: those of --set, by method or dataset; under --trial, what a search drew.
    """
    recipe, fixed, data_fixed = protocols.recipe_for(args.protocol, name, dataset)
    changes: dict[str, Any] = {"network": args.network, "steps": args.steps, "batch_size": args.batch_size}
    changes |= {"evaluations": args.evaluations, "sensitivity_images": args.sensitivity_images}
    changes |= {"precision": args.precision, "lr": args.lr, "weight_decay": args.weight_decay}
    recipe = recipe.model_copy(update={key: value for key, value in changes.items() if value is not None})
    everywhere = given.get(name, {})
    method = registry.make("method", name, fixed | everywhere | settings)
    plain = registry.make("method", name, fixed).settings()
    row = registry.make("method", name, fixed | settings) if args.trial else method
    variant = ",".join(f"{key}={spell(value)}" for key, value in row.settings().items() if value != plain.get(key))
    data_settings = registry.make("dataset", dataset, data_fixed | given.get(dataset, {})).settings()
    facts = data_facts(dataset, data_settings, source, data_dir(args))
    if recipe.network == "by_size":
        recipe = recipe.model_copy(update={"network": networks.by_size(facts.height, facts.width)})
    network, kind, file = weights.choose(recipe.network, recipe.weights, args.weights)
    # Steps take no more images than there are; the record has to say so, or rates and budgets would count others.
    recipe = recipe.model_copy(
        update={"network": network, "weights": kind, "batch_size": min(recipe.batch_size, facts.images)}
    )
    _check_size(network, facts.height, facts.width, recipe.batch_size)
    if file is not None:
        _check_weights(network, kind, file)
    if recipe.sensitivity_images and facts.height != facts.width:
        raise UsageError(
            f"{dataset}: images are {facts.height}x{facts.width}, and a sensitivity map needs square ones: make them "
            "square, or leave the map out with --sensitivity-images 0"
        )
    asked = Asked(
        protocol=args.protocol,
        recipe=recipe,
        method=name,
        settings=method.settings(),
        variant=variant,
        dataset=dataset,
        dataset_settings=data_settings,
        fingerprint=facts.fingerprint,
        source=source,
        seed=seed,
        budget=args.budget,
        seconds=args.seconds,
        device="cuda" if on_gpu(device) else "cpu",
        trial=trial_of(args.trial),
    )
    return asked, file


def _check_network(name: str) -> None:
    """Raises UsageError where there is no such network, with the name that it has to be given by if timm has it."""
    try:
        networks.check(name)
    except UsageError as problem:
        import timm  # noqa: PLC0415 - seconds, for an error

        if ":" not in name and timm.is_model(name):
            raise UsageError(f"unknown network '{name}': that of timm is --network timm:{name}") from problem
        raise


def _check_size(network: str, height: int, width: int, batch_size: int) -> None:
    """networks.check_size; raises UsageError also where a network that a plugin has registered cannot be built."""
    try:
        networks.check_size(network, height, width, batch_size)
    except UsageError:
        raise
    except Exception as problem:
        LOGGER.debug("network %s", network, exc_info=True)
        raise UsageError(f"--network {network}: building it raised {type(problem).__name__}: {problem}") from problem


@cache
def _check_weights(network: str, kind: str, file: Path) -> None:
    """Raises UsageError for a file that is damaged, or of another network, before every run does. Heads may differ."""
    try:
        weights.load_weights(networks.build(network, 2, 0, kind), kind, file)
    except UsageError as problem:
        raise UsageError(f"--weights {problem}") from problem


def expand_all(methods: Sequence[str]) -> list[str]:
    """`everything` becomes every registered method that is not experimental, `all` those of them with `in_all`."""
    if not {*registry.GROUPS} & set(methods):  # which of them each method is in, its file says
        return list(dict.fromkeys(methods))
    every = [name for name in registry.names("method") if not registry.find("method", name).experimental]
    groups = {"everything": every, "all": [name for name in every if registry.find("method", name).in_all]}
    return list(dict.fromkeys(name for text in methods for name in groups.get(text, [text])))


def parse_method(text: str) -> tuple[str, dict[str, str]]:
    """'name:field=value,field=value' -> name and settings. Raises UsageError."""
    name, _, rest = text.partition(":")
    registry.find("method", name)
    settings: dict[str, str] = {}
    for part in parts(rest):
        key, equals, value = part.partition("=")
        if not equals:
            raise UsageError(f"--methods {text}: '{part}' is not field=value")
        if settings.setdefault(key, value) != value:
            raise UsageError(f"--methods {text}: {key} is given twice")
    return name, settings


def parse_settings(texts: Sequence[str]) -> dict[str, dict[str, str]]:
    """'owner.field=value' texts -> settings by owner. Raises UsageError."""
    found: dict[str, dict[str, str]] = {}
    for text in texts:
        match = re.fullmatch(r"([\w.+-]+)\.(\w+)=(.*)", text, flags=re.DOTALL)
        if match is None:
            raise UsageError(f"--set {text}: write it as METHOD.field=value or DATASET.field=value")
        owner, key, value = match.groups()
        if found.setdefault(owner, {}).setdefault(key, value) != value:
            raise UsageError(f"--set {text}: {owner}.{key} is given twice")
    return found


def _device(args: Args) -> torch.device:
    """What the runs compute on. Raises UsageError where it is missing, too little, or without that precision."""
    if args.engine == "ray":
        device = ray.choose_device(args.device, args.ray_address)
    else:
        device = gpus.choose_device(args.device)
    if args.engine == "local" or not on_gpu(device):  # a cluster's GPUs are not here to be asked
        precision.check(args.precision, device)
    if on_gpu(device) and args.nproc > 1 and args.nproc > torch.cuda.device_count():
        raise UsageError(f"--nproc {args.nproc}: each process takes a GPU, and there are {torch.cuda.device_count()}")
    return device
