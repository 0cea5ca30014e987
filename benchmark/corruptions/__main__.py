"""python -m benchmark.corruptions: shows the corruptions, or compares them with the official arrays."""

from collections.abc import Sequence

from benchmark import flags, registry
from benchmark.core.errors import UsageError
from benchmark.corruptions import CORRUPTIONS, EXTRA
from benchmark.data import drift
from benchmark.report.figures import corruption_sheet
from benchmark.runs.command_line import arguments, in_range, program
from benchmark.runs.ending import explained, leave

Args = flags.Corruptions


def _require(task: str, asked: bool, args: Args, names: Sequence[str]) -> None:
    """Raises UsageError where one of these flags is other than by default and its task is not asked for."""
    for name in names:
        if not asked and getattr(args, name) != getattr(Args(), name):
            raise UsageError(f"--{name.replace('_', '-')} is for {task}; give that, too")


@explained()
def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 fine, 2 bad usage."""
    args: Args = arguments(Args, argv, program("corruptions"))
    in_range("--side", args.side, 1, 1024)
    in_range("--limit", args.limit, 0, 10_000)
    _require("--show FILE", args.show is not None, args, ("image", "side"))
    _require("--drift", args.drift, args, ("data_dir", "dataset", "limit"))
    if args.show is not None:
        if args.show.exists():
            raise UsageError(f"--show {args.show}: it is there; name another file, or delete it")
        try:
            corruption_sheet.draw(args.image, args.side).save(args.show)
        except (OSError, ValueError) as problem:
            fix = "; end it in .png" if isinstance(problem, ValueError) else ""
            raise UsageError(f"--show {args.show}: cannot be written ({problem}){fix}") from problem
        print(args.show)
    if args.drift:
        found = drift.compare(registry.find("dataset", args.dataset), args.data_dir, args.limit)
        print(found.to_markdown(index=False, floatfmt=".3f"))
    if args.show is None and not args.drift:
        print("\n".join(f"{name}{' (extra)' * (name in EXTRA)}" for name in CORRUPTIONS))
    return 0


if __name__ == "__main__":
    leave(main)
