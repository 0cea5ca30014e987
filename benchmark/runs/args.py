"""The command line of benchmark.run: its flags and what they may hold.

The help shows a box for each dataclass that `Args` inherits from, with a line of text for each flag: the text after a
flag has to be one line, as completion in shells takes it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from benchmark.core.errors import UsageError
from benchmark.core.recipe import Precision
from benchmark.core.record import Trial
from benchmark.runs.command_line import MOST, MOST_SEED, in_range
from benchmark.runs.flag_types import (
    UNSAID,
    Count,
    Domains,
    Files,
    Flag,
    Folder,
    MaybeFile,
    MaybeFolder,
    Names,
    Seconds,
    Settings,
)  # fmt: skip


@dataclass(frozen=True)
class Experiment:
    """What is run."""

    methods: Names = ("all",)
    """Names, `all` or `everything` (docs/adr/0010). NAME:field=value makes a row of its own, e.g. augmix:jsd=false."""
    datasets: Names = ("minidigits",)
    """Dataset names; minidigits needs no files."""
    data_dir: MaybeFolder = None
    """Folder of the datasets' files."""
    seeds: Annotated[tuple[int, ...], arg(metavar="SEED ...")] = (0, 1, 2)
    """Each gives every method the same initial network and the same order of batches."""
    sources: Domains = ()
    """Source domains, one run for each; A+B pools two. Default: the dataset's own list."""
    set: Settings = ()
    """Settings of methods or datasets, as augmix.severity=1."""
    search: Annotated[int, arg(metavar="N"), UNSAID] = 0
    """Try N settings of each row, and run the best on source validation (docs/search.md). Has its own table."""
    protocol: Annotated[str, arg(metavar="{common,strict}")] = "common"
    """common: one recipe for all methods. strict: each method as its own authors ran it."""
    network: Annotated[str | None, arg(metavar="NAME"), UNSAID] = None
    """A name of `--list`, or timm:NAME. Has its own table. Default: the protocol's."""
    weights: Annotated[str | None, arg(metavar="{scratch,pretrained,FILE}"), UNSAID] = None
    """What networks start from; pretrained is timm's, FILE a .safetensors. Default: the protocol's."""
    plugin: Files = ()
    """Files of a Method or Dataset, named by the file, or of a network for timm. They are run as code."""
    plan: MaybeFile = None
    """A plan file (docs/plans.md): what to run, in TOML. Flags given beside it win over what it says."""


@dataclass(frozen=True)
class Length:
    """How long it trains, and how often it is scored."""

    steps: Count = None
    """Training steps; with --budget passes, passes over a batch. Default: the protocol's."""
    budget: Literal["steps", "passes", "time"] = "steps"
    """What is equal for all methods: training steps, passes through the network, or seconds on this machine."""
    seconds: Seconds = None
    """Training seconds of each run under --budget time."""
    batch_size: Count = None
    """Images in a step. Has its own table. Default: the protocol's."""
    lr: Annotated[float | None, arg(metavar="RATE"), UNSAID] = None
    """Learning rate. Has its own table. Default: the protocol's."""
    weight_decay: Annotated[float | None, arg(metavar="RATE"), UNSAID] = None
    """Weight decay. Has its own table. Default: the protocol's."""
    evaluations: Count = None
    """How often each run is scored. Default: the protocol's."""
    sensitivity_images: Count = None
    """Validation images under the sensitivity map; 0 leaves it out. Default: the protocol's."""


@dataclass(frozen=True)
class Machine:
    """Where it computes."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU where there is one."""
    jobs: Count = None
    """Runs at a time, with Ray on each device; timings get noisier. Default: 1, or what one GPU takes (docs/gpu.md)."""
    nproc: Annotated[int, arg(metavar="N")] = 1
    """Processes that split each run's batches, each with a GPU or a share of the cores: for one long run."""
    timeout: Seconds = None
    """Seconds that a run may take before it is ended as failed. Default: no limit."""
    engine: Literal["local", "ray"] = "local"
    """On this machine, or on a Ray cluster (docs/scaling.md)."""
    ray_address: Annotated[str | None, arg(metavar="HOST:PORT"), UNSAID] = None
    """The cluster's head. Default: RAY_ADDRESS, this machine's cluster, or a new one on this machine."""


@dataclass(frozen=True)
class Output:
    """What is kept, and where."""

    out: Folder = Path("results")
    """Output folder: index.html, runs/, tables/, figures/."""
    save_weights: Flag = False
    """Keep each run's selected network, with a card. Finished runs that kept none are run again."""
    track: Annotated[tuple[str, ...], arg(metavar="{tensorboard,tensorboard:DIR,wandb} ..."), UNSAID] = ()
    """Send curves and results to a tracker. DIR is OUT/tensorboard where none is given."""
    stale: Literal["rerun", "keep", "fail"] = "rerun"
    """Finished runs that other code or versions made: do them again, keep them, or stop."""
    checkpoint_seconds: Annotated[float, arg(metavar="SECONDS")] = 30.0
    """Seconds between checkpoints."""
    save_plan: MaybeFile = None
    """Write what is asked for into a plan file, defaults written out. With --dry-run nothing is run."""
    quiet: Annotated[bool, arg(aliases=["-q"]), UNSAID] = False
    """Print errors and the last lines only."""
    verbose: Annotated[bool, arg(aliases=["-v"]), UNSAID] = False
    """Also print what is loaded, from where, and when each run begins, on which device."""


@dataclass(frozen=True)
class Performance:
    """How it computes."""

    precision: Precision = "fp32"
    """tf32 and bf16 round while the network trains (docs/adr/0006). They have their own tables."""
    launch: Flag = False
    """On a GPU, for debugging: replay no captured steps. The same numbers, several times as slowly (docs/adr/0007)."""
    deterministic: Flag = False
    """On a GPU, take torch's deterministic algorithms; a record names the operations that have none."""


@dataclass(frozen=True)
class Other:
    """What does no run, and what only records say."""

    dry_run: Flag = False
    """Print the plan with run ids, lengths and an estimate, for which steps are timed (docs/scaling.md), and stop."""
    list: Flag = False
    """List methods, datasets, protocols and networks, and stop."""
    version: Flag = False
    """Print the versions of dg-referee, Python and torch, and stop."""
    trial: Annotated[str | None, arg(metavar="{K,K/N}"), UNSAID] = None
    """Set by a search, in the commands of records: trial K, or the best of N trials."""


@dataclass(frozen=True)
class Args(Other, Performance, Output, Machine, Length, Experiment):
    """Train each method with each seed, test it in other domains, write the tables.

    Finished runs are kept: after a crash the same command goes on from there.
    """


PATHS = ("weights", "track")
"""Fields whose texts may be a path, or WORD:PATH."""


def _check_seconds(args: Args) -> None:
    if args.budget == "time" and args.seconds is None:
        raise UsageError("--budget time: say how long each run may train, e.g. --seconds 60")
    if args.budget != "time" and args.seconds is not None:
        raise UsageError("--seconds is the length of --budget time; give both or neither")
    if args.seconds is not None and not 0 < args.seconds <= MOST:
        raise UsageError(f"--seconds {args.seconds:g}: must be more than 0, and at most {MOST}")


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
        in_range("--seeds", seed, 0, MOST_SEED)
    _check_seconds(args)
    if args.weights == "":  # a variable of the shell that is not set
        raise UsageError("--weights: it is empty; give scratch, pretrained or a file, or leave the flag out")
    if not args.checkpoint_seconds >= 0:
        raise UsageError(f"--checkpoint-seconds {args.checkpoint_seconds:g}: must be 0 or more")
    if args.timeout is not None and not args.timeout > 0:
        raise UsageError(f"--timeout {args.timeout:g}: must be more than 0 seconds")
    if args.timeout is not None and args.engine == "ray":
        raise UsageError("--timeout ends a process of this machine: leave it out with --engine ray")
    others = (args.jobs or 1) > 1, args.engine == "ray", args.timeout is not None, args.budget == "time"
    if args.nproc > 1 and any(others):
        raise UsageError(
            "--nproc splits one run over this machine's devices: leave out --jobs and --engine ray, which do several "
            "runs at a time, --timeout, which ends a single process, and --budget time, on whose end the processes' "
            "clocks would not agree"
        )
    if args.quiet and args.verbose:
        raise UsageError("--quiet and --verbose: give one of them")
    check_search(args)
    if args.ray_address is not None and args.engine != "ray":
        raise UsageError("--ray-address is the cluster of --engine ray; give both or neither")
    for flag, values in (("--methods", args.methods), ("--datasets", args.datasets), ("--seeds", args.seeds)):
        if not values:
            raise UsageError(f"{flag}: name at least one")


def check_search(args: Args) -> None:
    """Raises UsageError for a bad --lr, --weight-decay, --trial or --search, and for flags that --search excludes."""
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
