"""Tables as files: tidy ones as CSV and Parquet, those for people as Markdown and LaTeX (booktabs)."""

import io
import re
from collections.abc import Sequence

import pandas as pd
import pyarrow as pa
from pyarrow import csv as arrow_csv
from pyarrow import parquet as arrow_parquet

from benchmark.cell import Summary
from benchmark.summary import DETAILS

NOTES = {
    "accuracy": """\
Percent; mean ± sample standard deviation (ddof 1) over n seeds. A heading names its selection rule; source-val is the
best source validation accuracy, ties to the latest. `mean` and `worst` are over the shifted targets; a target of
several severities is their mean. The mean under each rule stands side by side; oracle looks at the targets and is no
result, and optimism is what it adds to source-val. Bold: better than every other row by paired t-tests after Holm's
correction, 5 %; where nothing is bold, the seeds do not support it. `paper`: published means on the same kind of
network, a range where they disagree; off by SE: ours beyond that range in standard errors of ours. The formulas are in
docs/statistics.md.
""",
    "differences": """\
Mean over the shifted targets, row minus `versus`, paired by seed, in points. p: paired t-test, Holm-corrected over the
rows that share a `versus`: ERM, the best row, or, for variants of a method, the method itself. More seeds to settle:
how many would bring 0 outside the 95 % interval of this pair alone if mean and spread stayed as they are. The best row
was picked by these same numbers, so its p-values flatter it.
""",
    "ranks": """\
Average rank over (dataset, source, target) cells, 1 is best, equal accuracies share ranks; each cell is a mean over
seeds. Targets of one source are tested on the same networks, so the cells are not independent.
""",
    "cost": """\
Accuracy: mean over the shifted targets, percent. Passes: forward-backward passes over a batch in the whole run, a
forward counts 1/3. Seconds: set-up and training, without evaluation. One block of columns for each length of run.
""",
    "paper": """\
Percent. Difference: ours minus the published number; in SE: the same in standard errors of our mean. confirmed: read in
the publication of those who ran it; restated: read in another paper's table; recalled: not read. A number of another
protocol, network or subset is no target; `network there` and results/paper.json say what each is.
""",
    "sensitivity": """\
Error rates in [0,1] under single Fourier waves, on source validation images; mean ± sample standard deviation (ddof 1)
over n seeds. docs/sensitivity.md defines the waves and the bands.
""",
    "throughput": """\
Source images per second over the whole training, set-up and expansion included; relative to ERM of the same seed in the
same call of benchmark.run, where there was one; steady: median [quartiles] after the warm-up; shares of the training
time; passes: forward-backward passes per source image (a forward counts 1/3, a backward 2/3). Two floors, set-up left
out: `of bare passes` is the rate's share of what the same passes alone reach, in batches of the same sizes, on images
that are there already; `of matrix rate` is their arithmetic's share of the measured rate of large matrix products.
Where steps were replayed from CUDA graphs, shares are those of launched steps at the start of the run. On a GPU that
several runs shared (`sharing`: how many at a time), steady and both floors would be those of all of them: left empty.
""",
}

CAPTIONS = {
    "accuracy": "Accuracy in percent, mean ± standard deviation over n seeds",
    "selection": "Mean accuracy over the shifted targets in percent under each selection rule",
    "differences": "Differences of mean accuracy in points, paired by seed",
    "ranks": "Average ranks of accuracy over sources and targets",
    "cost": "Mean accuracy in percent, forward-backward passes over a batch, and seconds of training",
    "paper": "Accuracy in percent beside published numbers",
    "sensitivity": "Error rates under single Fourier waves, mean ± standard deviation over n seeds",
    "throughput": "Source images per second and what else a run costs",
}


def csv(rows: pd.DataFrame) -> bytes:
    """Numbers have six significant digits."""
    return rows.to_csv(index=False, float_format="%.6g", lineterminator="\n").encode()


def parquet(content: bytes) -> bytes:
    """A CSV's content, typed. Identifiers are text even where they are all digits."""
    head = content.partition(b"\n")[0].decode().split(",")
    text = {
        "run_id",
        "run_ids",
        "group",
        "code",
        "fingerprint",
        "variant",
        "source",
        "target",
        "versus",
        "machine",
        "note",
    }
    table = arrow_csv.read_csv(
        io.BytesIO(content),
        parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
        convert_options=arrow_csv.ConvertOptions(
            column_types={name: pa.string() for name in head if name in text}, strings_can_be_null=True
        ),
    )
    buffer = io.BytesIO()
    arrow_parquet.write_table(table, buffer)
    return buffer.getvalue()


def same_parquet(one: bytes, other: bytes) -> bool:
    """Whether two Parquet files hold the same table; their bytes also depend on the library that wrote them."""
    try:
        return bool(arrow_parquet.read_table(io.BytesIO(one)).equals(arrow_parquet.read_table(io.BytesIO(other))))
    except pa.ArrowInvalid:
        return False


def markdown(name: str, summaries: Sequence[Summary]) -> str:
    parts = [f"# {name.capitalize()}\n", NOTES[name]]
    for summary in summaries:
        cells = summary.cells
        for i, line in enumerate(summary.lines):
            for column, cell in line.cells.items():
                cells.loc[i, column] = f"**{cell.text}**" if cell.bold else cell.text
        parts += [f"## {summary.heading}\n", cells.to_markdown(index=False, disable_numparse=True) + "\n"]
        parts += [f"- {note}" for note in summary.footnotes] + [""] * bool(summary.footnotes)
    parts += [] if summaries else ["Nothing to show.\n"]
    return "\n".join(parts)


def latex(name: str, summaries: Sequence[Summary]) -> str:
    """booktabs tables, ready to paste; run ids stay in the other formats. The accuracy table's selection rules and
    interval, too wide beside the domains, are a table of their own."""
    parts = ["% needs \\usepackage{booktabs,graphicx}\n"]
    for summary in summaries:
        cells = summary.cells.drop(columns="runs")
        bold = pd.DataFrame(False, cells.index, cells.columns)
        for i, line in enumerate(summary.lines):
            bold.loc[i, [column for column, cell in line.cells.items() if cell.bold]] = True
        marks = bold.astype(object).where(~bold, "textbf:--rwrap;").where(bold, "")
        columns = [column for column in cells if column not in DETAILS]
        parts.append(_booktabs(cells[columns], marks[columns], name, summary))
        if len(columns) < len(cells.columns):
            columns = [summary.first, *DETAILS, "n"]
            parts.append(_booktabs(cells[columns], marks[columns], "selection", summary))
    return "\n".join(parts)


def _booktabs(cells: pd.DataFrame, marks: pd.DataFrame, name: str, summary: Summary) -> str:
    style = cells.style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis="columns")
    text = style.apply(lambda _: marks, axis=None).to_latex(
        hrules=True,
        position="htbp",
        position_float="centering",
        caption=f"{CAPTIONS[name]}: {escape(summary.heading)}",
        label=f"tab:{name}-{summary.group}",
        column_format="l" + "r" * (cells.shape[1] - 1),
    )
    # As wide as the text where it would be wider.
    width = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{"
    text = text.replace(r"\begin{tabular}", width + "\n" + r"\begin{tabular}")
    text = text.replace(r"\end{tabular}", r"\end{tabular}}").replace("±", r"$\pm$").replace("–", "--")
    return re.sub(r"(?<=[\[ ])-(?=\d)", "$-$", text)  # a minus, not a hyphen


def escape(text: str) -> str:
    """Text for LaTeX."""
    return text.translate(LATEX)


LATEX = str.maketrans({sign: rf"\{sign}" for sign in "&%$#_{}"})
LATEX |= str.maketrans({"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"})
