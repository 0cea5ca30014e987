"""The flags of the commands other than `run` (benchmark/runs/args.py), apart from the code that needs torch and pandas.

So `dg-referee NAME --help` answers at once, and one script completes the flags of all (benchmark/__main__.py).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from tyro.conf import Positional, arg, subcommand

from benchmark.runs.flag_types import UNSAID, Files, Flag, Folder, MaybeFile, MaybeFolder, Names, Settings


@dataclass(frozen=True)
class Tables:
    """Rebuild the tables, figures and page of an output folder from its run records."""

    out: Folder = Path("results")
    """Output folder of benchmark.run."""
    check: Flag = False
    """Write nothing; compare tables (Parquet by content) and the page's runs with the records. Exit code 1: differ."""
    pack: Flag = False
    """Put each finished run into one file, runs/ID.zip, and go on reading it. One that kept its network stays."""
    first_views: Flag = False
    """With --pack: only the first seed of each row keeps its picture of views. Figures show no other."""
    trace: Annotated[str | None, arg(metavar="{RUN_ID,TABLE:ROW,TABLE:ROW:COLUMN}"), UNSAID] = None
    """Print a run's record, the command that repeats it and the cells that use it; or the runs behind cells."""
    plugin: Files = ()
    """Plugins that the runs were made with: without them nobody can say whether such runs are stale. Run as code."""


@dataclass(frozen=True)
class List:
    """Show datasets with their domains, licences, download sizes, and what of them is there."""

    data_dir: Folder = Path("data")
    """Folder of the datasets' files."""


@dataclass(frozen=True)
class Fetch:
    """Download a dataset's files, check their hashes, unpack them, note their origin.

    Files that are there already are checked and kept. An interrupted download goes on where it broke off. Where no
    address works, it says which file to put where by hand, and what its hash must be; exit code 1.
    """

    name: Positional[Annotated[str, arg(metavar="NAME")]]
    """The dataset."""
    data_dir: Folder = Path("data")
    """Folder of the datasets' files; give the same one to benchmark.run."""
    set: Settings = ()
    """Settings of the dataset, where they decide which files are needed, e.g. digits.mnist_m=pickle10k."""


@dataclass(frozen=True)
class Verify:
    """Hash every file again, decode every part, count its classes, print the fingerprint.

    Exit code 1 where a file has a wrong hash, a part cannot be decoded, the cache of decoded images disagrees, or
    nothing at all is there. Parts whose files are missing are only named: a run leaves their columns empty.
    """

    name: Positional[Annotated[str | None, arg(metavar="[NAME]"), UNSAID]] = None
    """The dataset. Default: every one that can be fetched and has files there."""
    data_dir: Folder = Path("data")
    """Folder of the datasets' files."""
    set: Settings = ()
    """Settings of the dataset; the fingerprint depends on them."""


@dataclass(frozen=True)
class ClearCache:
    """Delete all decoded images in the cache. They are decoded again when needed."""


Data: TypeAlias = (
    Annotated[List, subcommand("list")]
    | Annotated[Fetch, subcommand("fetch")]
    | Annotated[Verify, subcommand("verify")]
    | Annotated[ClearCache, subcommand("clear-cache")]
)
DATA = "List datasets, fetch their files, verify them, clear the cache."
"""What the command of these four does."""


@dataclass(frozen=True)
class Reproduce:
    """Compare rows of the strict protocol with what papers print.

    For each: ours as mean ± sd in percent, the printed one, the difference.
    """

    method: Annotated[tuple[str, ...], arg(metavar="NAME ...")] = ("all",)
    """Methods; `all`: those that have figures under strict, what was not run in a line each."""
    out: Folder = Path("results")
    """Output folder of benchmark.run."""
    data_dir: MaybeFolder = None
    """Folder of the datasets' files, for --run."""
    run: Flag = False
    """Run what is missing first: five seeds of each strict row. This takes hours on a GPU."""


@dataclass(frozen=True)
class Corruptions:
    """The corruptions of CIFAR-10-C and ImageNet-C. Without a flag: their names.

    docs/corruptions.md says how each differs from the released generators.
    """

    show: MaybeFile = None
    """Write a picture sheet there: one image under every corruption (rows) and severity (columns)."""
    image: MaybeFile = None
    """Picture for --show; its middle square is used. Default: a photograph of scikit-learn."""
    side: Annotated[int, arg(metavar="PIXELS")] = 224
    """Side of the square for --show. Up to 64 the severities are CIFAR-10-C's, above ImageNet-C's."""
    drift: Flag = False
    """Compare generated with official corrupted images, for each corruption and severity."""
    dataset: Literal["cifar10c", "cifar100c"] = "cifar10c"
    """For --drift. Its folder needs both the clean batches and the official arrays."""
    data_dir: MaybeFolder = None
    """For --drift: the folder of the datasets' files."""
    limit: Annotated[int, arg(metavar="N")] = 1000
    """For --drift: test images of each, from the first; 0 for all."""


@dataclass(frozen=True)
class Export:
    """Load a network that --save-weights kept, print its card, check or export it.

    It is written for timm and the Hugging Face hub, and sent only by --push-to-hub.
    """

    run_dir: Annotated[Positional[Path], arg(metavar="RUN_DIR")]
    """Folder with record.json and weights.safetensors."""
    check: Flag = False
    """Evaluate it on its data. A network that does not reproduce its record is not exported."""
    folder: MaybeFolder = None
    """Write what --push-to-hub sends into this new folder."""
    push_to_hub: Annotated[str | None, arg(metavar="OWNER/NAME"), UNSAID] = None
    """Send it to this repository of the Hugging Face hub."""
    private: Flag = False
    """Make the repository private where it is new; refuse one that is public."""
    license: Annotated[str | None, arg(metavar="ID"), UNSAID] = None
    """The licence that its card names, as the hub writes it (mit, cc-by-4.0). Default: none."""
    data_dir: MaybeFolder = None
    """Folder of the dataset's files."""
    plugin: Files = ()
    """The files that define its method or dataset, where they were plugins. They are run as code."""


@dataclass(frozen=True)
class Scaling:
    """Print what a matrix of runs costs, from the cost in the run records.

    Under the common protocol, with one source domain of each dataset.
    """

    methods: Names = ("all",)
    """Method names, `all` or `everything`."""
    datasets: Names = ("digits", "pacs", "cifar10c", "cifar100c")
    """Dataset names."""
    seeds: Annotated[int, arg(metavar="N")] = 5
    """How many seeds."""
    gflops: Annotated[float, arg(metavar="GFLOP/S")] = 10_000.0
    """The assumption: what the training of ERM reaches on one device."""
    devices: Annotated[tuple[int, ...], arg(metavar="N ...")] = (1, 8, 64)
    """Numbers of devices to spread the runs over, one run on each at a time."""
    out: Folder = Path("results/published")
    """The records that the costs are taken from."""


@dataclass(frozen=True)
class CompareMap:
    """Compare sensitivity maps of ERM on MNIST with the one that SADA published.

    It trains the network as the released code does, and computes two maps.
    "as called": waves of norm 8, as the released script's call leaves it.
    "enhanced": the norm grows with the images' mean amplitude, as the script meant.
    """

    data_dir: Folder
    """The folder with the IDX files in MNIST/raw, and with the published map as sada_sample_map.npy."""
    epochs: Annotated[int, arg(metavar="N")] = 50
    """Passes over MNIST, as many as in the released code; the cosine schedule ends with the last one."""
    images: Annotated[int, arg(metavar="N")] = 10_000
    """How many test images, from the first, the map is computed on; an incomplete last batch of 128 is dropped."""
    seed: Annotated[int, arg(metavar="SEED")] = 0
    """Of first weights, batches, noise and the waves' signs."""
    out: MaybeFolder = None
    """A folder for our maps (maps.npy, [2,31,31]: as called, enhanced), a picture of all, and record.json."""
