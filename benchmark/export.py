"""python -m benchmark.export: loads a network kept by --save-weights, prints its card, evaluates and exports it."""

import hashlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from benchmark import flags, networks, registry
from benchmark.core import regular_files
from benchmark.core.devices import on_gpu
from benchmark.core.errors import UsageError
from benchmark.core.outcome import Weights
from benchmark.core.record import Record
from benchmark.runs import hub, timm_form
from benchmark.runs.card import card
from benchmark.runs.command_line import arguments, folder_of, program, quoted
from benchmark.runs.ending import explained, leave
from benchmark.runs.places import Folder
from benchmark.runs.records import read_record
from benchmark.runs.shared import load_data
from benchmark.runs.torch_state import float32, generators_kept, on_the_cpu
from benchmark.training.evaluate import accuracy

Args = flags.Export
LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]*")


@dataclass(frozen=True)
class Compared:
    """Recorded and found accuracy, and slack, the difference that is allowed: in percent of n images."""

    domain: str
    n: int
    recorded: float
    found: float
    slack: float

    @property
    def same(self) -> bool:
        return abs(self.found - self.recorded) <= self.slack


def load_model(run_dir: Path | str, *, as_timm: bool = False, data_dir: Path | str | None = None) -> nn.Module:
    """The network that a run kept, on the CPU and in evaluation mode.

    It takes x float32 [B,3,H,W] in [0,1], normalises inside, and gives logits [B,K] in the order of the record's
    `weights.classes`; `features=True` gives (logits, penultimate features [B,D]). run_dir: a folder with record.json
    and weights.safetensors, whatever its name. Nothing is downloaded.

    as_timm: as timm.create_model(NAME, num_classes=K) gives it, for a network timm:NAME. It takes images that are
    normalised before, by the mean and std in its `pretrained_cfg`, which also has the size of the run's images: that
    of the sensitivity map beside the record, or else of the data in data_dir.

    Raises UsageError where a file is missing, where the weights are not the recorded ones, where they do not fit the
    recorded network and classes, or where timm has no such network. A method from a plugin has to be registered first
    (registry.load_plugins).
    """
    folder = folder_of(run_dir, "run_dir")
    with float32(), torch.inference_mode(mode=False), on_the_cpu(), generators_kept():  # whatever the caller has set
        net = _load(folder)
        if not as_timm:
            return net
        record, weights = _record(folder)
        timm_form.check(record.asked.recipe.network)
        scaled = timm_form.scaling(folder, record, Path(data_dir) if data_dir else None)
        return timm_form.as_timm(net, record.asked.recipe.network, weights.classes, scaled)


def _load(run_dir: Path) -> nn.Module:
    record, weights = _record(run_dir)
    path = run_dir / "weights.safetensors"
    try:
        size = min(path.stat().st_size, regular_files.memory())  # as much as is allowed is set aside before it is read
        content = regular_files.content(path, size)
    except (OSError, ValueError) as problem:
        why = problem.strerror if isinstance(problem, OSError) else problem
        raise UsageError(f"{path}: cannot be read ({why}); the record says that it was kept") from problem
    if hashlib.sha256(content).hexdigest() != weights.sha256:
        raise UsageError(f"{path}: its hash is not the recorded one; it was damaged or belongs to another run")
    asked = record.asked
    method = registry.make("method", asked.method, asked.settings)
    net: nn.Module = method.wrap(networks.build(asked.recipe.network, len(weights.classes), 0, asked.recipe.weights))
    try:
        net.load_state_dict(safetensors.torch.load(content))
    except (RuntimeError, SafetensorError) as problem:
        raise UsageError(
            f"{path}: it does not fit {asked.recipe.network} with {len(weights.classes)} classes: {problem}"
        ) from problem
    return net.to(memory_format=torch.channels_last).eval()


def compare(run_dir: Path, data_dir: Path | None) -> Iterator[Compared]:
    """Evaluates a kept network on the data of its run, domain by domain, on the CPU.

    Counts must be equal for a run made on a CPU; a GPU rounds differently, so one image in a thousand, and at least
    one, may differ for a run made there. Raises UsageError where the data is missing or is not that of the run.
    """
    net, (record, _) = load_model(run_dir), _record(run_dir)
    asked, reached = record.asked, record.accuracy
    assert reached is not None
    data = load_data(asked.dataset, asked.dataset_settings, asked.source, data_dir)
    if data.fingerprint != asked.fingerprint:
        absent = f"; missing: {', '.join(data.missing)}" if data.missing else ""
        raise UsageError(f"the data is not that of the run: {data.fingerprint}, not {asked.fingerprint}{absent}")
    rule = asked.recipe.selection
    known = {name: domain.accuracy[rule] for name, domain in reached.domains.items() if domain.accuracy}
    parts = [("source validation", data.val, reached.source_val[rule])]
    parts += [(name, images, known[name]) for name, images in data.test.items()]
    for name, images, recorded in parts:
        slack = max(0.1, 100.001 / len(images)) if on_gpu(asked.device) else 0.0
        yield Compared(name, len(images), recorded, accuracy(net, images), slack)


def _record(run_dir: Path) -> tuple[Record, Weights]:
    record = read_record(Folder(run_dir))
    if record is None:
        packed = run_dir if run_dir.suffix == ".zip" else run_dir.parent / f"{run_dir.name}.zip"
        if packed.is_file():
            raise UsageError(f"{packed}: a packed run keeps no network; its record has the command that makes it again")
        raise UsageError(f"{run_dir}: there is no record.json; name the folder of a run, OUT/runs/RUN_ID")
    if record.weights is None:
        again = f"{record.ran.command} --out {quoted(str(run_dir.resolve().parent.parent))} --save-weights keeps them"
        kept = again if record.status == "done" else "it did not end well"
        raise UsageError(f"{run_dir}: run {record.run_id} kept no weights; {kept}")
    return record, record.weights


def checked(run_dir: Path, data_dir: Path | None) -> bool:
    """Evaluates a kept network, prints what was found, and says whether it reproduces its record."""
    wrong = 0
    for part in compare(run_dir, data_dir):
        wrong += not part.same
        verdict = "reproduced" if part.same else "NOT reproduced"
        print(f"{part.domain}: recorded {part.recorded:.4f} %, found {part.found:.4f} % of {part.n}; {verdict}")
    print(f"{wrong} numbers of the record are not reproduced" if wrong else "the network reproduces its record")
    return not wrong


def exported(args: Args) -> None:
    """Writes the folder, sends it where that was asked for, and says what was done. Raises UsageError."""
    record, _ = _record(args.run_dir)
    repository = args.push_to_hub or f"OWNER/{record.asked.dataset}-{record.asked.method}-{record.run_id}"
    with tempfile.TemporaryDirectory() as made:
        folder = args.folder or Path(made)
        timm_net = partial(load_model, args.run_dir, as_timm=True, data_dir=args.data_dir)
        load_model(args.run_dir)  # its files are checked, also where timm knows no such network
        not_timm = hub.write_folder(folder, args.run_dir, record, timm_net, repository, args.license)
        if args.folder:
            print(f"wrote {', '.join(sorted(path.name for path in folder.iterdir()))} to {folder}")
        print(f"it does not load into timm: {not_timm}" if not_timm else "it loads into timm")
        if args.push_to_hub:
            message = f"{record.asked.row} on {record.asked.dataset}/{record.asked.source}, run {record.run_id}"
            print(f"sent to {hub.push(folder, repository, private=args.private, message=message)}")


@explained()
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 all is well, 1 the network does not reproduce its record, 2 bad usage."""
    args: Args = arguments(Args, argv, program("export"))
    registry.load_plugins(args.plugin)
    for flag, text in (("--push-to-hub", args.push_to_hub), ("--license", args.license)):
        if text is not None and not text.strip():
            raise UsageError(f"{flag}: it is empty")
    if args.license and not LICENCE.fullmatch(args.license):
        raise UsageError(f"--license {args.license}: the hub writes licences as in mit, apache-2.0 or cc-by-4.0")
    if args.private and not args.push_to_hub:
        raise UsageError("--private says how it is sent; give --push-to-hub OWNER/NAME, too")
    if args.license and not (args.push_to_hub or args.folder):
        raise UsageError("--license goes into the card; give --folder FOLDER or --push-to-hub OWNER/NAME, too")
    if args.folder:
        hub.check_new(args.folder)
    if args.push_to_hub:
        hub.check_target(args.push_to_hub)
    if args.check and not checked(args.run_dir, args.data_dir):
        return 1
    if args.folder or args.push_to_hub:
        exported(args)
    elif not args.check:
        load_model(args.run_dir)
        print(card(_record(args.run_dir)[0]))
    return 0


if __name__ == "__main__":
    leave(main)
