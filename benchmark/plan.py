"""From what the user asked to the list of runs: every default written out, every name and number checked."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from benchmark import machine, protocols, registry
from benchmark.errors import UsageError
from benchmark.execute import Job, load_data
from benchmark.method import Method
from benchmark.records import Store
from benchmark.spec import Asked, canonical_json


@dataclass(frozen=True)
class Args:
    """Train every method on every source domain with every seed, test it elsewhere, and write the tables.

    Finished runs are kept: the same command again only renders; after a crash it goes on where it stopped.
    """

    methods: tuple[str, ...] = ("all",)
    """Method names, or `all`. NAME:field=value,field=value makes a row of its own, e.g. augmix:jsd=false."""
    datasets: tuple[str, ...] = ("minidigits",)
    """Dataset names; minidigits needs no files."""
    sources: tuple[str, ...] = ()
    """Source domains, one run for each; A+B pools two. Default: the dataset's own list."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds; each gives every method the same initial network and the same order of batches."""
    steps: int | None = None
    """Training steps (budget steps) or forward-backward passes over a batch (budget passes). Default: protocol's."""
    budget: Literal["steps", "passes", "time"] = "steps"
    """What is equal for all methods: training steps, passes through the network, or seconds on this machine."""
    seconds: float | None = None
    """Training seconds of each run under `--budget time`."""
    protocol: str = "common"
    """common: one recipe for all methods. strict: each method as its own authors ran it."""
    set: tuple[str, ...] = ()
    """Settings, as METHOD.field=value or DATASET.field=value, e.g. augmix.severity=1."""
    data_dir: Path | None = None
    """Folder of the datasets' files."""
    out: Path = Path("results")
    """Output folder: runs/, tables/, figures/."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes a GPU where there is one."""
    engine: Literal["local", "ray"] = "local"
    """Where runs execute: on this machine, or on a Ray cluster."""
    jobs: int = 1
    """Runs at a time; each gets its share of the cores. Sharing makes timings noisier."""
    plugin: tuple[Path, ...] = ()
    """Python files that define a Method or a Dataset, named by their file names. They are run as code."""
    sensitivity_images: int | None = None
    """Validation images under the sensitivity map; 0 leaves it out. Default: the protocol's."""
    evaluations: int | None = None
    """How often each run is scored. Default: the protocol's."""
    checkpoint_seconds: float = 30.0
    """Seconds between checkpoints."""
    stale: Literal["rerun", "keep", "fail"] = "rerun"
    """What to do with finished runs that other code made: run them again, keep them, or stop with an error."""
    list: bool = False
    """List methods, datasets and protocols, and stop."""
    dry_run: bool = False
    """Print the plan with run ids, step counts and an estimate, and stop."""


def plan(args: Args) -> list[Job]:
    """All runs asked for, seed by seed, so that an interrupted comparison has whole rows. Raises UsageError."""
    check_numbers(args)
    device = machine.choose_device(args.device)
    session = datetime.now(UTC).isoformat(timespec="seconds")
    given = parse_settings(args.set)
    methods = [parse_method(text) for text in expand_all(args.methods)]
    for name in given:
        if name not in {name for name, _ in methods} | set(args.datasets):
            raise UsageError(f"--set {name}.…: no method or dataset of this run is called '{name}'")
    jobs = []
    for seed in dict.fromkeys(args.seeds):
        for dataset in dict.fromkeys(args.datasets):
            for source in dict.fromkeys(args.sources or registry.find("dataset", dataset).sources):
                for name, own in methods:
                    asked = ask(args, device.type, seed, dataset, source, name, given.get(name, {}) | own, given)
                    jobs.append(
                        Job(
                            asked,
                            command(asked, args),
                            session,
                            args.out,
                            args.data_dir,
                            args.plugin,
                            args.checkpoint_seconds,
                        )
                    )
    return list({job.asked.run_id: job for job in jobs}.values())


def ask(
    args: Args,
    device: str,
    seed: int,
    dataset: str,
    source: str,
    name: str,
    settings: dict[str, Any],
    given: dict[str, dict[str, Any]],
) -> Asked:
    """What one run is asked to do, every default written out."""
    recipe, fixed, data_fixed = protocols.recipe_for(args.protocol, name, dataset)
    changes = {"steps": args.steps, "evaluations": args.evaluations, "sensitivity_images": args.sensitivity_images}
    recipe = recipe.model_copy(update={key: value for key, value in changes.items() if value is not None})
    method: Method = registry.make("method", name, fixed | settings)
    plain = registry.make("method", name, fixed).settings()
    variant = ",".join(f"{key}={spell(value)}" for key, value in method.settings().items() if value != plain[key])
    data_settings = registry.make("dataset", dataset, data_fixed | given.get(dataset, {})).settings()
    loaded = load_data(dataset, data_settings, source, args.data_dir)
    return Asked(
        protocol=args.protocol,
        recipe=recipe,
        method=name,
        settings=method.settings(),
        variant=variant,
        dataset=dataset,
        dataset_settings=data_settings,
        fingerprint=loaded.fingerprint,
        source=source,
        seed=seed,
        budget=args.budget,
        seconds=args.seconds,
        device="cuda" if device == "cuda" else "cpu",
    )


def check_numbers(args: Args) -> None:
    """Raises UsageError for a number out of its range or flags that do not go together."""
    for flag, value, least in (
        ("--steps", args.steps, 1),
        ("--jobs", args.jobs, 1),
        ("--evaluations", args.evaluations, 1),
        ("--sensitivity-images", args.sensitivity_images, 0),
        *(("--seeds", seed, 0) for seed in args.seeds),
    ):
        if value is not None and value < least:
            raise UsageError(f"{flag} {value}: must be {least} or more")
    if args.budget == "time" and not (args.seconds and 0 < args.seconds < float("inf")):
        raise UsageError("--budget time: say how long each run may train, e.g. --seconds 60")
    if args.budget != "time" and args.seconds is not None:
        raise UsageError("--seconds is the length of --budget time; give both or neither")
    if args.checkpoint_seconds < 0:
        raise UsageError(f"--checkpoint-seconds {args.checkpoint_seconds:g}: must be 0 or more")
    if args.engine == "ray":
        raise UsageError(
            "--engine ray is not part of this version; use --engine local, with --jobs for several runs at a time"
        )
    for flag, values in (("--methods", args.methods), ("--datasets", args.datasets), ("--seeds", args.seeds)):
        if not values:
            raise UsageError(f"{flag}: name at least one")


def expand_all(methods: Sequence[str]) -> list[str]:
    """`all` becomes every registered method that is not experimental."""
    every = [name for name in registry.names("method") if not registry.find("method", name).experimental]
    return list(dict.fromkeys(name for text in methods for name in (every if text == "all" else [text])))


def parse_method(text: str) -> tuple[str, dict[str, str]]:
    """'name:field=value,field=value' -> name and settings. Raises UsageError."""
    name, _, rest = text.partition(":")
    registry.find("method", name)
    settings = {}
    for part in re.split(r",(?=\w+=)", rest) if rest else []:
        key, equals, value = part.partition("=")
        if not equals:
            raise UsageError(f"--methods {text}: '{part}' is not field=value")
        settings[key] = value
    return name, settings


def parse_settings(texts: Sequence[str]) -> dict[str, dict[str, str]]:
    """'owner.field=value' texts -> settings by owner. Raises UsageError."""
    found: dict[str, dict[str, str]] = {}
    for text in texts:
        match = re.fullmatch(r"(\w+)\.(\w+)=(.*)", text, flags=re.DOTALL)
        if match is None:
            raise UsageError(f"--set {text}: write it as METHOD.field=value or DATASET.field=value")
        owner, key, value = match.groups()
        found.setdefault(owner, {})[key] = value
    return found


def spell(value: Any) -> str:
    """A setting as it is written on the command line and in tables."""
    return value if isinstance(value, str) else canonical_json(value)


def command(asked: Asked, args: Args) -> str:
    """The command that repeats one run."""
    recipe = asked.recipe
    words = ["--methods", f"{asked.method}:{asked.variant}" if asked.variant else asked.method]
    words += ["--datasets", asked.dataset, "--sources", asked.source, "--seeds", str(asked.seed)]
    words += ["--protocol", asked.protocol, "--budget", asked.budget, "--steps", str(recipe.steps)]
    words += ["--evaluations", str(recipe.evaluations), "--sensitivity-images", str(recipe.sensitivity_images)]
    words += ["--device", asked.device]
    words += ["--seconds", f"{asked.seconds:g}"] if asked.seconds is not None else []
    words += ["--data-dir", str(args.data_dir)] if args.data_dir else []
    words += [word for path in args.plugin for word in ("--plugin", str(path))]
    default = registry.make("dataset", asked.dataset, {}).settings()
    changed = [
        f"{asked.dataset}.{key}={spell(value)}"
        for key, value in asked.dataset_settings.items()
        if value != default[key]
    ]
    words += ["--set", *changed] if changed else []
    return "python -m benchmark.run " + shlex.join(words)


def finished(job: Job, store: Store, stale: str) -> bool:
    """Whether the run is done. Raises UsageError where its record is stale and `stale` is fail."""
    record = store.read(job.asked.run_id)
    if record is None or record.status != "done":
        return False
    if record.ran.code != job.code:
        if stale == "fail":
            raise UsageError(f"run {record.run_id} was made by other code; --stale rerun or keep")
        return stale == "keep"
    return True
