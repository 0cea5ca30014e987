"""python -m benchmark.tables: run records -> accuracy, sensitivity and throughput tables.

The tables are a pure function of the records below OUT/runs and of nothing else, so `--check` can rebuild them and
compare byte for byte, and `--trace` can lead from a run to its cells and back.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from benchmark.errors import UsageError, did_you_mean
from benchmark.records import Store, write_atomically
from benchmark.rows import Maps, accuracy_rows, correlation_rows, sensitivity_rows, throughput_rows
from benchmark.spec import Record
from benchmark.summary import Summary, summarise

NOTES = {
    "accuracy": """\
Percent; mean ± sample standard deviation (ddof 1) over n seeds. A heading names its selection rule; source-val is the
best source validation accuracy, ties to the latest. `mean` and `worst` are over the shifted domains. (last) and
(oracle) are the mean under those rules; oracle looks at the targets and is no result.
""",
    "sensitivity": """\
Error rates in [0,1] under single Fourier waves, on source validation images; mean ± sample standard deviation (ddof 1)
over n seeds. docs/sensitivity.md defines the waves and the bands.
""",
    "throughput": """\
Source images per second over the whole training, set-up and expansion included; relative to ERM of the same seed;
steady: median [quartiles] after the warm-up; shares of the training time; passes: forward-backward passes per source
image (a forward counts 1/3, a backward 2/3).
""",
}


def render(records: Sequence[Record], maps: Maps) -> dict[str, bytes]:
    """Every table as the contents of a file, by file name. maps: sensitivity maps by run id."""
    accuracy, sensitivity = accuracy_rows(records), sensitivity_rows(records, maps)
    tidy = {
        "accuracy": accuracy,
        "sensitivity": sensitivity,
        "throughput": throughput_rows(records),
        "sensitivity_correlation": correlation_rows(accuracy, sensitivity),
    }
    files = {
        f"{name}.csv": rows.to_csv(index=False, float_format="%.6g", lineterminator="\n").encode()
        for name, rows in tidy.items()
    }
    for name, summaries in summarise(records, maps).items():
        files[f"{name}.md"] = _markdown(name, summaries).encode()
        files[f"{name}.tex"] = _latex(summaries).encode()
    return files


def _markdown(name: str, summaries: Sequence[Summary]) -> str:
    parts = [f"# {name.capitalize()}\n", NOTES[name]]
    for summary in summaries:
        parts += [f"## {summary.heading}\n", summary.cells.to_markdown(index=False, disable_numparse=True) + "\n"]
        parts += [f"- {note}" for note in summary.footnotes] + [""] * bool(summary.footnotes)
    return "\n".join(parts)


def _latex(summaries: Sequence[Summary]) -> str:
    """booktabs tables, ready to paste; run ids stay in the other formats."""
    parts = []
    for summary in summaries:
        style = summary.cells.drop(columns="runs").style.hide(axis="index").format(escape="latex")
        style = style.format_index(escape="latex", axis="columns")
        caption = summary.heading.replace("_", r"\_")
        text = style.to_latex(hrules=True, caption=caption, column_format="l" + "r" * (summary.cells.shape[1] - 2))
        parts.append(text.replace("±", r"$\pm$").replace("–", "--"))
    return "\n".join(parts)


def write(store: Store) -> list[Record]:
    """Renders all records below the store into OUT/tables; returns the records."""
    records = store.read_all()
    folder = store.out / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in render(records, store.maps(records)).items():
        write_atomically(folder / name, content)
    return records


def check(store: Store) -> list[str]:
    """Names of the files under OUT/tables that differ from what the records give, or are missing."""
    wrong, records = [], store.read_all()
    for name, content in render(records, store.maps(records)).items():
        path = store.out / "tables" / name
        if not path.is_file() or path.read_bytes() != content:
            wrong.append(name)
    return wrong


def trace(store: Store, run_id: str) -> str:
    """A run's record, the command that repeats it, and every table row that uses it; the beginning of an id will do.

    Raises UsageError where no run, or more than one, is meant.
    """
    known = {record.run_id: record for record in store.read_all()}
    meant = [known[name] for name in known if name.startswith(run_id)] if run_id else []
    if len(meant) != 1:
        why = "unknown" if not meant else "ambiguous"
        raise UsageError(f"--trace {run_id}: {why} run id; {did_you_mean(run_id, known)}")
    record = meant[0]
    lines = [record.model_dump_json(indent=1), "", "repeat it with:", f"  {record.ran.command}", "", "it appears in:"]
    for name, content in render([*known.values()], store.maps(known.values())).items():
        for number, line in enumerate(content.decode().splitlines(), start=1):
            if record.run_id in line:
                lines.append(f"  {store.out / 'tables' / name}:{number}: {line}")
    return "\n".join(lines)


@dataclass(frozen=True)
class Args:
    """Rebuild the tables of an output folder from its run records."""

    out: Path = Path("results")
    """Output folder of benchmark.run."""
    check: bool = False
    """Write nothing; compare the tables with the records byte for byte. Exit code 1 where they differ."""
    trace: Annotated[str | None, tyro.conf.arg(metavar="RUN_ID")] = None
    """Print a run's record, the command that repeats it and the table rows that use it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 fine, 1 tables differ from records, 2 bad usage."""
    args = tyro.cli(
        Args, args=argv, prog="python -m benchmark.tables", config=(tyro.conf.FlagConversionOff,) if False else ()
    )
    store = Store(args.out)
    try:
        if not store.runs.is_dir():
            raise UsageError(f"--out {args.out}: no runs there; `python -m benchmark.run --out {args.out}` makes some")
        if args.trace is not None:
            print(trace(store, args.trace))
            return 0
        if args.check:
            wrong = check(store)
            print(
                "\n".join(f"{args.out / 'tables' / name}: differs from the run records" for name in wrong)
                or "tables agree with the run records"
            )
            return 1 if wrong else 0
        records = write(store)
        print(f"{len(records)} runs -> {args.out / 'tables'}")
    except UsageError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
