"""python -m benchmark.corruptions: shows the corruptions, or compares them with the official arrays."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmark import registry
from benchmark.core.errors import UsageError
from benchmark.corruptions import CORRUPTIONS, EXTRA
from benchmark.data import drift
from benchmark.report.figures import corruption_sheet
from benchmark.runs.command_line import arguments, in_range, leave


@dataclass(frozen=True)
class Args:
    """The corruptions of CIFAR-10-C and ImageNet-C. Without a flag: their names.

    python -m benchmark.corruptions --show sheet.png --side 32

    python -m benchmark.corruptions --drift --data-dir DIR

    docs/corruptions.md says what each does and how it differs from the released generators.
    """

    show: Path | None = None
    """Write a picture sheet there: one image under every corruption (rows) and severity (columns)."""
    image: Path | None = None
    """Picture for --show; its middle square is used. Default: a photograph of scikit-learn."""
    side: int = 224
    """Side of the square for --show. Up to 64 the severities are CIFAR-10-C's, above ImageNet-C's."""
    drift: bool = False
    """Compare generated with official corrupted images, for each corruption and severity."""
    dataset: Literal["cifar10c", "cifar100c"] = "cifar10c"
    """For --drift. Its folder needs both the clean batches and the official arrays."""
    data_dir: Path | None = None
    """For --drift: the folder of the datasets' files."""
    limit: int = 1000
    """For --drift: test images of each, from the first; 0 for all 10,000."""


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 fine, 2 bad usage."""
    args: Args = arguments(Args, argv, "python -m benchmark.corruptions")
    try:
        in_range("--side", args.side, 1, 1024)
        in_range("--limit", args.limit, 0, 10_000)
        if args.show is not None:
            try:
                corruption_sheet.draw(args.image, args.side).save(args.show)
            except (OSError, ValueError) as problem:
                raise UsageError(f"--show {args.show}: cannot be written ({problem}); end it in .png") from problem
            print(args.show)
        if args.drift:
            found = drift.compare(registry.find("dataset", args.dataset), args.data_dir, args.limit)
            print(found.to_markdown(index=False, floatfmt=".3f"))
        if args.show is None and not args.drift:
            print("\n".join(f"{name}{' (extra)' * (name in EXTRA)}" for name in CORRUPTIONS))
    except UsageError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    leave(main)
