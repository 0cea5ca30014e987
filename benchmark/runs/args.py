"""The command line of benchmark.run: its flags and what they may hold."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmark.core.errors import UsageError
from benchmark.core.recipe import Precision
from benchmark.core.record import Trial
from benchmark.runs.command_line import in_range, seed_in_range


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
    network: str | None = None
    """A network in the place of the protocol's: a name of benchmark.networks, or timm:NAME. Its table stands apart."""
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
    """Where runs execute: on this machine, or on a Ray cluster (docs/scaling.md)."""
    ray_address: str | None = None
    """The cluster's head, HOST:PORT. Default: RAY_ADDRESS, this machine's cluster, or a new one on this machine."""
    timeout: float | None = None
    """Seconds that a run may take before it is ended as failed. Default: any number."""
    jobs: int | None = None
    """Runs at a time; each gets its share of the cores. With Ray: runs at a time on a GPU, or on a core with --device
    cpu. Sharing makes timings noisier. Default: 1 on a CPU and with Ray; what one GPU takes (docs/gpu.md)."""
    nproc: int = 1
    """Processes that each run's batches are split over, a GPU each: for one long run rather than many."""
    plugin: tuple[Path, ...] = ()
    """Python files that define a Method or a Dataset, named by their file names. They are run as code."""
    save_weights: bool = False
    """Keep each run's selected network: weights.safetensors and card.md beside its record. Finished runs that kept
    none are run again."""
    track: tuple[str, ...] = ()
    """Send curves and results of the runs that end to tensorboard, tensorboard:DIR (default OUT/tensorboard), wandb."""
    precision: Precision = "fp32"
    """fp32. tf32, on a GPU: rounded inputs of matrix products and convolutions. bf16: bfloat16 inside the network while
    it trains and is attacked; it is scored in fp32. Other than fp32 makes a table of its own: docs/adr/0006."""
    weights: str | None = None
    """What networks start from: scratch, pretrained (timm's), or a .safetensors file. Default: the protocol's."""
    sensitivity_images: int | None = None
    """Validation images under the sensitivity map; 0 leaves it out. Default: the protocol's."""
    batch_size: int | None = None
    """Images in a step. Default: the protocol's. Its table stands apart."""
    evaluations: int | None = None
    """How often each run is scored. Default: the protocol's."""
    checkpoint_seconds: float = 30.0
    """Seconds between checkpoints."""
    launch: bool = False
    """On a GPU, launch every operation instead of replaying captured steps: the same numbers, several times as slowly;
    for debugging (docs/adr/0007)."""
    deterministic: bool = False
    """Take torch's deterministic algorithms; a record names the operations that have none. A CPU needs no such flag."""
    stale: Literal["rerun", "keep", "fail"] = "rerun"
    """What to do with finished runs that other code or versions made: do them again, keep them, or stop."""
    list: bool = False
    """List methods, datasets and protocols, and stop."""
    dry_run: bool = False
    """Print the plan with run ids, step counts and an estimate, and stop (docs/scaling.md: how good it is)."""
    search: int = 0
    """Settings that are tried of every row on every source: as asked for, and others at random. The best on source
    validation is run with all seeds. Its table stands apart. 0: none (docs/search.md)."""
    lr: float | None = None
    """Learning rate. Default: the protocol's. Its table stands apart."""
    weight_decay: float | None = None
    """Weight decay. Default: the protocol's. Its table stands apart."""
    trial: str | None = None
    """In the commands of records only: that a search drew the settings. K: they are its trial K. K/N: the best of N."""


def check_numbers(args: Args) -> None:
    """Raises UsageError for a number out of its range or flags that do not go together."""
    for flag, value, least in (
        ("--steps", args.steps, 1),
        ("--jobs", args.jobs, 1),
        ("--batch-size", args.batch_size, 1),
        ("--nproc", args.nproc, 1),
        ("--evaluations", args.evaluations, 1),
        ("--sensitivity-images", args.sensitivity_images, 0),
    ):
        in_range(flag, value, least)
    for seed in args.seeds:
        seed_in_range("--seeds", seed)
    if args.budget == "time" and not (args.seconds and 0 < args.seconds < float("inf")):
        raise UsageError("--budget time: say how long each run may train, e.g. --seconds 60")
    if args.budget != "time" and args.seconds is not None:
        raise UsageError("--seconds is the length of --budget time; give both or neither")
    if not args.checkpoint_seconds >= 0:
        raise UsageError(f"--checkpoint-seconds {args.checkpoint_seconds:g}: must be 0 or more")
    if args.timeout is not None and not args.timeout > 0:
        raise UsageError(f"--timeout {args.timeout:g}: must be more than 0 seconds")
    if args.timeout is not None and args.engine == "ray":
        raise UsageError("--timeout ends a process of this machine: leave it out with --engine ray")
    if args.nproc > 1 and ((args.jobs or 1) > 1 or args.engine == "ray" or args.budget == "time"):
        raise UsageError(
            "--nproc splits one run over this machine's devices: leave out --jobs and --engine ray, which do several "
            "runs at a time, and --budget time, whose end the processes' clocks would not agree on"
        )
    check_search(args)
    if args.ray_address is not None and args.engine != "ray":
        raise UsageError("--ray-address is the cluster of --engine ray; give both or neither")
    for flag, values in (("--methods", args.methods), ("--datasets", args.datasets), ("--seeds", args.seeds)):
        if not values:
            raise UsageError(f"{flag}: name at least one")


def check_search(args: Args) -> None:
    """Raises UsageError for what is no search, or what a search leaves no room for."""
    if args.lr is not None and not 0 < args.lr < float("inf"):
        raise UsageError(f"--lr {args.lr:g}: must be more than 0, and finite")
    if args.weight_decay is not None and not 0 <= args.weight_decay < float("inf"):
        raise UsageError(f"--weight-decay {args.weight_decay:g}: must be 0 or more, and finite")
    trial_of(args.trial)
    if not args.search:
        return
    in_range("--search", args.search, 2, 1000)
    if args.protocol == "strict":
        raise UsageError("--search with --protocol strict: strict is each method as its authors ran it; leave one out")
    if args.engine == "ray":
        raise UsageError("--search needs the trials' results before the other runs begin: use --engine local")
    for flag, given in (("--lr", args.lr), ("--weight-decay", args.weight_decay), ("--trial", args.trial)):
        if given is not None:
            raise UsageError(f"--search and {flag}: the search draws that; leave one out")


def trial_of(text: str | None) -> Trial | None:
    """What `--trial` says. Raises UsageError."""
    if text is None:
        return None
    number, _, of = text.partition("/")
    try:
        return Trial(number=int(number), of=int(of) if of else None)
    except ValueError as problem:
        raise UsageError(f"--trial {text}: write K or K/N, K below N, as the command of a record has it") from problem
