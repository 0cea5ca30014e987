"""Tables for people of searches: what was tried for each row, and what that cost beside the runs of the row."""

from collections.abc import Callable, Sequence

from benchmark.core.record import Record
from benchmark.report.people.cells import Cell, Line, Summary
from benchmark.report.tidy.groups import group_of, grouped
from benchmark.report.tidy.search_rows import Searched, seconds
from benchmark.report.tidy.search_rows import searches as found_in
from benchmark.runs.search import score


def searches(records: Sequence[Record], trials: Sequence[Record], heading: Callable[[Record], str]) -> list[Summary]:
    """One for each group of comparable runs, with a footnote on each row's cost. heading: of a group, from a run."""
    found = []
    for group, members in grouped(found_in(records, trials), lambda each: group_of(each.first)).items():
        title = heading(members[0].first)
        lines = [_line(search, trial) for search in members for trial in search.trials]
        found.append(Summary(title, lines, [_cost(search) for search in members], group))
    return found


def _line(search: Searched, trial: Record) -> Line:
    run, recipe, value = (trial.run_id,), trial.asked.recipe, score(trial)
    texts = {
        "trial": str(trial.asked.trial.number if trial.asked.trial else 0),
        "source validation": trial.status if value is None else f"{value:.1f}",
        "chosen": "chosen" if search.chosen(trial) else "",
        "lr": f"{recipe.lr:g}",
        "weight decay": f"{recipe.weight_decay:g}",
        "own settings": search.settings(trial),
        "seconds": f"{seconds(trial):.1f}",
    }
    return Line(search.row, {name: Cell(text, run) for name, text in texts.items()}, run)


def _cost(search: Searched) -> str:
    """Seconds of training: of the search, and of the runs that have what it chose."""
    spent, paid = sum(map(seconds, search.trials)), sum(map(seconds, search.runs))
    made = f"{_count(search.runs, 'run')} with the chosen settings {paid:.1f} s" if search.runs else "none was chosen"
    return f"{search.row}: {_count(search.trials, 'trial')} took {spent:.1f} s of training; {made}"


def _count(records: Sequence[Record], what: str) -> str:
    return f"{len(records)} {what}{'' if len(records) == 1 else 's'}"
