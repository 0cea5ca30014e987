"""Comparisons, targets of several parts, overlaps and published numbers, from records made by hand."""

import re
from typing import Any

import pytest
from scipy.stats import spearmanr

from benchmark import tables
from benchmark.core.record import Record, Trial
from benchmark.corruptions.severities import GROUPS
from benchmark.registry import make, names
from benchmark.report import page
from benchmark.report.all_tables import render
from benchmark.report.people.accuracy_table import lines, notes
from benchmark.report.people.cells import Cell, p_text
from benchmark.report.people.summaries import summarise
from benchmark.report.tidy import paper
from benchmark.report.tidy.comparisons import cost_rows, difference_rows, network, rank_rows, rankings
from benchmark.report.tidy.groups import by_row
from benchmark.report.tidy.overlap import operations, overlaps
from benchmark.report.tidy.rows import accuracy_rows, correlation_rows, sensitivity_rows
from benchmark.report.tidy.targets import columns, measures, reached
from tests.handmade import ended, error_map, failed, record, scored


def test_a_number_without_runs_cannot_be_a_cell() -> None:
    for text in ("1.0", "[2, 3]", "1 of 2"):
        with pytest.raises(ValueError, match="needs the runs"):
            Cell(text)
    assert Cell("1.0", ("abc",)).text == Cell("1.0", source="a paper").text
    assert not Cell("not run").runs


def test_every_number_of_every_table_knows_its_runs() -> None:
    made = [digits(m, s, v) for m, s, v in (("erm", 0, 50.0), ("erm", 1, 51.0), ("sada", 0, 76.0), ("sada", 1, 77.0))]
    known = {r.run_id for r in made}
    shown = summarise(made, {})  # one comparison alone ranks nothing
    assert {name for name, found in shown.items() if found} == {
        "accuracy", "differences", "cost", "paper", "throughput"
    }  # fmt: skip
    for summary in (summary for found in shown.values() for summary in found):
        for line in summary.lines:
            for cell in line.cells.values():
                assert set(cell.runs) <= set(line.runs) <= known


def test_severities_of_a_corruption_are_one_column() -> None:
    made = scored(record("erm", 0), {"fog/1": 80.0, "fog/5": 60.0, "snow/1": 50.0, "clean": 95.0}, ("clean",))
    assert columns([made]) == (["fog", "snow"], ["clean"])
    assert measures(made) == {"mean": 60.0, "worst": 50.0, "fog": 70.0, "snow": 50.0}
    assert set(accuracy_rows([made])["target"]) == {"fog/1", "fog/5", "snow/1", "clean"}
    (line,) = lines(by_row([made]))
    assert [*line.cells][:4] == ["fog", "snow", "mean", "worst"]
    assert line.cells["fog"].text == "70.0"


def test_a_column_with_a_missing_part_has_no_number() -> None:
    made = scored(record("erm", 0), {"fog/1": 80.0, "fog/5": None, "snow/1": 50.0})
    assert reached(made, "last") == {"snow": 50.0}
    (line,) = lines(by_row([made]))
    assert line.cells["fog"].text == "data missing"
    nothing = scored(record("erm", 0), {"fog/1": 80.0, "fog/5": None})
    assert measures(nothing) == {}
    assert lines(by_row([nothing]))[0].cells["mean"].text == "data missing"


def test_a_domain_that_is_called_like_the_column_of_the_source_has_one_of_its_own() -> None:
    made = scored(record("erm", 0), {"same (in-domain)": 40.0, "same": 90.0}, ("same",))
    (line,) = lines(by_row([made]))
    assert line.cells["same (in-domain)"].text == "90.0"
    assert line.cells["same (in-domain) (domain)"].text == "40.0"


def test_empty_cells_say_why() -> None:
    made = [record("erm", 0), record("erm", 1), record("augmix", 0), failed("gud", 0), record("erm", 0, source="other")]
    same, other = summarise(made, {})["accuracy"][::-1]
    assert "source same" in same.heading
    texts = {line.label: line.cells["mean"].text for line in same.lines}
    assert texts == {"erm": "50.0 ± 0.0", "augmix": "50.0", "gud": "failed"}
    texts = {line.label: line.cells["mean"].text for line in other.lines}
    assert texts == {"erm": "50.0", "augmix": "not run", "gud": "not run"}
    assert "augmix: not run with seed 1" in same.footnotes
    assert any("broken on purpose" in note for note in same.footnotes)


def test_runs_of_several_versions_of_the_code_are_named() -> None:
    old = record("erm", 1)
    old = old.model_copy(update={"ran": old.ran.model_copy(update={"code": "d" * 12})})
    assert f"erm: runs of 2 versions of the code ({'c' * 12}, {'d' * 12})" in notes(by_row([record("erm", 0), old]))
    assert [*accuracy_rows([old])["code"].unique()] == ["d" * 12]


def test_rows_of_several_devices_are_named_in_every_table_that_pairs_them() -> None:
    def on(device: str, run: Record) -> Record:
        return run.model_copy(update={"ran": run.ran.model_copy(update={"device_name": device})})

    def told(runs: list[Record]) -> dict[str, int]:
        notes = {name: [note for table in of for note in table.footnotes] for name, of in summarise(runs, {}).items()}
        said = "not made on one device: sada on elsewhere; the most on a processor"
        return {name: often for name, of in notes.items() if (often := sum(note.startswith(said) for note in of))}

    runs = [record(method, 0, source=source) for method in ("erm", "augmix", "sada") for source in ("a", "b")]
    moved = [on("elsewhere", run) if run.asked.method == "sada" else run for run in runs]
    assert told(moved) == {"accuracy": 2, "differences": 2, "sources": 1}
    assert told(runs) == told([*runs, on("elsewhere", failed("gud", 0))]) == {}


def test_runs_of_other_code_are_told_and_change_no_table() -> None:
    assert tables.stale([record("erm", 0)]) == {"other code": 1}  # its code hash is made up
    assert tables.stale([record("plugin_of_somebody", 0)]) == {}
    assert tables.unknown([record("erm", 0), record("plugin_of_somebody", 0)]) == {"method plugin_of_somebody": 1}


def test_differences_are_paired_by_seed_and_corrected() -> None:
    values = {"erm": (50.0, 54.0, 52.0), "augmix": (53.0, 56.0, 56.0), "gud": (50.0, 53.0, 53.0)}
    made = [record(m, seed, v) for m, vs in values.items() for seed, v in enumerate(vs)]
    frame = difference_rows(made)
    mean = frame[(frame["target"] == "mean") & (frame["versus"] == "erm")].set_index("method")
    assert mean["difference"].to_dict() == {"augmix": 3.0, "gud": 0.0}
    assert mean.loc["augmix", "sd"] == 1.0
    # t = 3 / (1 / sqrt(3)) = 5.196, two degrees of freedom: p = 0.0351; twice that after Holm
    assert mean.loc["augmix", "p"] == pytest.approx(0.0351, abs=1e-4)
    assert mean.loc["augmix", "p_holm"] == pytest.approx(0.0702, abs=2e-4)
    assert mean.loc["augmix", "more_seeds"] == 2  # five in all
    assert mean.loc["augmix", "low"] == pytest.approx(3 - 6.2053 / 3**0.5, abs=1e-3)  # t(0.9875, 2): two rows at once
    assert mean["more_seeds"].isna()["gud"]
    best = frame[(frame["target"] == "mean") & frame["versus_is_best"]]
    assert set(best["versus"]) == {"augmix"}
    assert [*frame.columns][:8] == ["dataset", "protocol", "method", "source", "target", "versus", "difference", "sd"]
    assert set(str(frame.loc[0, "run_ids"]).split()) <= {r.run_id for r in made}


def test_variants_are_compared_with_their_method_in_a_family_of_their_own() -> None:
    values = {"": (51.0, 53.0, 52.0), "lam=1": (50.0, 53.0, 53.0), "lam=2": (61.0, 64.0, 62.0)}
    made = [record("augmix", seed, v, variant=name) for name, vs in values.items() for seed, v in enumerate(vs)]
    made += [record("erm", seed, 40.0 + seed) for seed in range(3)]
    made += [record("gud", seed, 41.0 + seed, variant="eta=2") for seed in range(3)]  # there is no plain gud
    mean = difference_rows(made).query("target == 'mean'")
    assert set(mean["versus"]) == {"erm", "augmix[lam=2]", "augmix"}
    assert set(mean[mean["versus"] == "erm"]["variant"]) == {"", "lam=1", "lam=2", "eta=2"}
    own = mean[mean["versus"] == "augmix"].set_index("variant")
    assert own["difference"].to_dict() == {"lam=1": 0.0, "lam=2": pytest.approx(31 / 3)}
    assert own["p_holm"]["lam=2"] == pytest.approx(2 * own["p"]["lam=2"])
    assert [line.cells["versus"].text for line in summarise(made, {})["differences"][0].lines][-2:] == ["augmix"] * 2


def test_only_a_supported_best_is_bold() -> None:
    clear = [record(m, s, v + s / 7 * (m == "erm")) for m, v in (("erm", 50.0), ("augmix", 90.0)) for s in range(5)]
    by_name = {line.label: line for line in lines(by_row(clear))}
    assert by_name["augmix"].cells["mean"].bold
    assert not by_name["erm"].cells["mean"].bold
    assert not by_name["augmix"].cells["source val"].bold
    files = render(clear, {r.run_id: error_map(r) for r in clear})
    assert "**90.0 ± 0.0**" in files["accuracy.md"].decode()
    assert r"\textbf{90.0 $\pm$ 0.0}" in files["accuracy.tex"].decode()
    few = [run for run in clear if run.asked.seed < 4]
    assert not any(cell.bold for line in lines(by_row(few)) for cell in line.cells.values())
    close = [*clear[:5], record("augmix", 0, 51.0), record("augmix", 1, 49.0)]
    assert not any(cell.bold for line in lines(by_row(close)) for cell in line.cells.values())


def test_ranks_over_datasets_and_targets() -> None:
    made = [
        scored(record(method, 0, dataset=dataset), {"a": a, "b": b})
        for dataset, method, a, b in (
            ("minidigits", "erm", 1.0, 2.0), ("minidigits", "augmix", 2.0, 1.0), ("minidigits", "gud", 9.0, 9.0),
            ("digits", "erm", 1.0, 3.0), ("digits", "augmix", 2.0, 4.0),
        )
    ]  # fmt: skip
    frame = rank_rows(made).set_index("method")
    assert frame["average_rank"].to_dict() == {"augmix": 1.25, "erm": 1.75}  # gud is not in both comparisons
    assert set(frame["comparisons"]) == {2}  # not four: the targets of a source share their networks
    (shown,) = summarise(made, {})["ranks"]
    assert "minidigits/same" in shown.footnotes[1]
    narrow = [scored(record(m, 0, lr=0.5), {"a": v}) for m, v in (("erm", 9.0), ("augmix", 1.0))]
    assert rank_rows([*narrow, *made]).equals(rank_rows(made))  # a source has one vote, that of the widest comparison
    longer = [
        scored(record(m, 0, steps=16), {"a": v, "b": v}) for m, v in (("erm", 9.0), ("augmix", 1.0), ("gud", 0.0))
    ]
    assert rank_rows([*longer, *made]).set_index("method")["average_rank"].to_dict() == {"augmix": 1.5, "erm": 1.5}
    again = [
        scored(record(m, 0, fingerprint="1" * 16), {"a": v}) for m, v in (("erm", 9.0), ("augmix", 1.0), ("gud", 0.0))
    ]
    again = [ended(run, "2026-01-02") for run in again]
    both = rank_rows([*again, *made])
    assert both.equals(rank_rows([*made, *again]))
    assert both.set_index("method")["average_rank"].to_dict() == {"augmix": 1.5, "erm": 1.5}  # of what ended last
    none = [scored(record("erm", 0, dataset="pacs"), {"a": None})]  # has no vote, and takes none
    none += [scored(record(m, 0, fingerprint="2" * 16), {"a": None}) for m in ("erm", "augmix", "gud", "sada")]
    assert rank_rows([*none, *again, *made]).equals(both)
    (table,) = summarise([*made, *again], {})["ranks"]
    assert [line.cells["average rank"].text for line in table.lines] == ["1.50", "1.50"]


def test_ranks_stand_best_first() -> None:
    values = {"augmix": 1.0, "erm": 2.0, "gud": 3.0}
    made = [scored(record(m, 0, dataset=d), {"a": v}) for d in ("minidigits", "digits") for m, v in values.items()]
    assert rank_rows(made)["method"].tolist() == ["gud", "erm", "augmix"]
    (table,) = summarise(made, {})["ranks"]
    assert [line.label for line in table.lines] == ["gud", "erm", "augmix"]


def test_of_two_lengths_in_seconds_the_longer_is_ranked() -> None:
    def run(dataset: str, seconds: float, method: str, value: float) -> Record:
        made = record(method, 0, dataset=dataset, budget="time", seconds=seconds)
        return ended(scored(made, {"a": value}), "2026-01-02" if seconds == 60 else "2026-01-01")

    values = {60.0: {"erm": 9.0, "augmix": 1.0}, 120.0: {"erm": 1.0, "augmix": 9.0}}
    made = [run(d, s, m, v) for d in ("minidigits", "digits") for s, of in values.items() for m, v in of.items()]
    assert rank_rows(made).set_index("method")["average_rank"].to_dict() == {"augmix": 1.0, "erm": 2.0}


def test_more_seeds_make_no_comparison_wider() -> None:
    wide = [scored(record(m, 0, dataset=d), {"a": v}) for d in ("minidigits", "digits")
            for m, v in (("erm", 1.0), ("augmix", 2.0), ("gud", 3.0))]  # fmt: skip
    narrow = [scored(record(m, seed, lr=0.5), {"a": v}) for m, v in (("erm", 9.0), ("augmix", 1.0)) for seed in (0, 1)]
    assert rank_rows([*wide, *narrow]).equals(rank_rows(wide))


def test_a_network_is_named_with_its_precision_where_that_is_another() -> None:
    named = [network(record("erm", 0, precision=kind)) for kind in ("fp32", "bf16")]
    assert named == ["mini_convnet", "mini_convnet in bf16"]


def test_searched_comparisons_are_ranked_apart_from_those_at_default_settings() -> None:
    """AugMix wins both comparisons after a search and loses both without one."""
    made = [
        scored(record(method, 0, dataset=dataset, trial=trial), {"a": value})
        for dataset in ("minidigits", "digits")
        for trial, method, value in (
            (None, "erm", 60.0), (None, "augmix", 50.0),
            (Trial(number=1, of=4), "erm", 70.0), (Trial(number=2, of=4), "augmix", 80.0),
        )
    ]  # fmt: skip
    found = {
        budget: rows.set_index("method")["average_rank"].to_dict() for budget, rows in rank_rows(made).groupby("budget")
    }
    searched = "steps, each method's best of 4 settings on source validation"
    assert found == {"steps": {"erm": 1.0, "augmix": 2.0}, searched: {"erm": 2.0, "augmix": 1.0}}


def test_a_p_value_shows_on_which_side_of_the_level_it_lies() -> None:
    values = (0.0004, 0.001, 0.0371, 0.0494, 0.0495, 0.0502, 0.0506, 1.0)
    assert [*map(p_text, values)] == ["< 0.001", "0.001", "0.037", "0.049", "0.0495", "0.0502", "0.051", "1.000"]


def test_ranks_are_over_the_seeds_that_all_ranked_rows_have() -> None:
    """AugMix is 2 below ERM with the seed that both have, and its mean of that seed alone is above ERM's of both."""
    values = {("erm", 0): 60.0, ("erm", 1): 40.0, ("augmix", 0): 58.0, ("gud", 0): 50.0, ("gud", 1): 50.0}
    made = [
        scored(record(method, seed, dataset=dataset), {"a": value})
        for dataset in ("minidigits", "digits")
        for (method, seed), value in values.items()
    ]
    frame = rank_rows(made).set_index("method")
    assert frame["average_rank"].to_dict() == {"erm": 1.0, "augmix": 2.0, "gud": 3.0}
    used = {run_id for ids in frame["run_ids"] for run_id in ids.split()}
    assert used == {run.run_id for run in made if run.asked.seed == 0}
    ((_, _, told),) = rankings(made).values()
    assert [text.partition(" ")[2] for text in told] == ["(n = 1)", "(n = 1)"]
    apart = scored(record("augmix", 2, dataset="pacs"), {"a": 1.0})
    more = [scored(record(method, 0, dataset="pacs"), {"a": 1.0}) for method in ("erm", "gud")]
    assert rank_rows([*made, *more, apart]).equals(rank_rows(made))  # no seed in common there: no vote


def test_what_failed_makes_no_comparison_wider() -> None:
    made = [
        scored(record(method, 0, dataset=dataset), {"a": value})
        for dataset in ("minidigits", "digits")
        for method, value in (("erm", 50.0), ("augmix", 60.0))
    ]
    others = [scored(record("erm", 0, lr=0.5), {"a": 99.0})]
    others += [failed(method, 0, lr=0.5) for method in ("augmix", "gud", "sada")]
    frame = rank_rows(made)
    assert dict(zip(frame["method"], frame["average_rank"], strict=True)) == {"augmix": 1.0, "erm": 2.0}
    assert rank_rows([*others, *made]).equals(frame)
    assert rank_rows([*made, failed("gud", 0), failed("augmix", 1)]).equals(frame)  # nor do they stand behind a rank


def test_the_dearest_is_looked_for_under_equal_steps() -> None:
    def taking(paid: float, method: str, **changes: Any) -> Record:
        made = record(method, 0, **changes)
        assert made.throughput is not None
        cost = made.throughput.model_copy(update={"setup_seconds": 0.0, "train_seconds": paid})
        return made.model_copy(update={"throughput": cost})

    made = [taking(2.0, "erm"), taking(8.0, "augmix"), taking(60.0, "erm", budget="time", seconds=60.0)]
    (shown,) = summarise(made, {})["cost"]
    (note,) = shown.footnotes
    assert note.startswith("With 8 steps, augmix is the dearest: `--budget passes --steps 24` or")
    assert "--seconds 8`" in note


def test_costs_of_all_budgets_stand_side_by_side() -> None:
    dear = record("augmix", 0, 60.0)
    assert dear.throughput is not None
    dear = dear.model_copy(update={"throughput": dear.throughput.model_copy(update={"train_seconds": 8.0})})
    made = [record("erm", 0), dear, record("erm", 0, 55.0, budget="passes", steps=24)]
    made.append(record("erm", 0, 56.0, budget="time", seconds=60.0))
    frame = cost_rows(made)
    assert sorted(frame["length"]) == ["24 passes", "60 s", "8 steps", "8 steps"]
    assert frame.set_index("length")["passes"]["24 passes"] == 24.0  # 8 steps of three passes each
    assert set(frame["seconds"]) == {2.5, 8.5}
    (shown,) = summarise(made, {})["cost"]
    erm, augmix = shown.lines
    assert [erm.cells[f"{n}: accuracy"].text for n in ("8 steps", "24 passes", "60 s")] == ["50.0", "55.0", "56.0"]
    assert augmix.cells["60 s: passes"].text == "not run"
    (with_failed,) = summarise([*made, failed("augmix", 0, budget="time", seconds=60.0)], {})["cost"]
    assert with_failed.lines[1].cells["60 s: passes"].text == "failed"
    other = [record("erm", 0, 70.0, network="digits_convnet"), record("erm", 0, 80.0, fingerprint="1" * 16)]
    assert len(summarise([*made, *other], {})["cost"]) == 3  # never one mean over networks or data
    assert "augmix is the dearest: `--budget passes --steps 24` or `--budget time --seconds 8.5`" in shown.footnotes[0]


def test_a_cost_that_another_machine_had_is_not_said_to_be_missing() -> None:
    def with_threads(made: Record, threads: int) -> Record:
        about = {**made.ran.machine, "threads": threads}
        return made.model_copy(update={"ran": made.ran.model_copy(update={"machine": about})})

    here = [record("erm", 0), record("erm", 0, steps=80), record("augmix", 0)]
    tables = summarise([*(with_threads(made, 2) for made in here), with_threads(record("augmix", 0, steps=80), 8)], {})
    first, second = tables["cost"]
    assert [line.cells["80 steps: passes"].text for line in first.lines] == ["24", "on another machine"]
    assert [line.label for line in second.lines] == ["augmix"]


def test_lengths_of_one_budget_stand_from_the_shortest() -> None:
    made = [record("erm", 0, 50.0, budget="time", seconds=seconds) for seconds in (60.0, 120.0, 9.0)]
    (shown,) = summarise(made, {})["cost"]
    assert [name for name in shown.lines[0].cells if "accuracy" in name] == [
        "9 s: accuracy", "60 s: accuracy", "120 s: accuracy",
    ]  # fmt: skip


def test_a_row_that_is_longer_than_itself_is_not_the_dearest() -> None:
    made = [record("erm", 0), record("erm", 0, steps=16)]
    assert made[1].throughput is not None
    made[1] = made[1].model_copy(update={"throughput": made[1].throughput.model_copy(update={"train_seconds": 4.0})})
    (shown,) = summarise(made, {})["cost"]
    assert shown.footnotes == []


def test_where_the_last_network_is_asked_for_its_p_stands_once() -> None:
    made = [record(method, seed, selection="last") for method in ("erm", "augmix") for seed in (0, 1)]
    (shown,) = summarise(made, {})["differences"]
    assert all("p, last step" not in line.cells for line in shown.lines)


def test_more_than_eight_targets_come_after_mean_and_worst() -> None:
    for count, first in ((8, "t0"), (9, "mean")):
        (line,) = lines(by_row([scored(record("erm", 0), {f"t{i}": 50.0 for i in range(count)})]))
        assert next(iter(line.cells)) == first


def test_a_seed_with_and_without_a_map_costs_once() -> None:
    made = [record("erm", seed, value, sensitivity_images=n) for n in (0, 16) for seed, value in ((0, 50.0), (1, 54.0))]
    (shown,) = summarise(made, {})["cost"]
    assert shown.lines[0].cells["8 steps: accuracy"].text == "52.0 ± 2.8"
    assert shown.footnotes == []  # one row is not the dearest
    decays = [record("erm", seed, weight_decay=d, sensitivity_images=n)
              for seed, n in ((0, 0), (1, 16)) for d in (0.0, 0.1)]  # fmt: skip
    headings = [table.heading for table in summarise(decays, {})["cost"]]
    assert len({*headings}) == 2
    assert not any("sensitivity_images" in heading for heading in headings)


@pytest.mark.parametrize(
    "other",
    [{"weights": "timm:x.y"}, {"evaluations": 1}, {"lr": 0.5}, {"dataset_settings": {"size": 9}}, {"steps": 16}],
)
def test_no_two_tables_have_one_heading(other: dict[str, Any]) -> None:
    plain: dict[str, Any] = {"evaluations": 2, "dataset_settings": {"size": 32}}
    made = [
        record(method, 0, source=source, **plain | changes)
        for changes in ({}, other) for method in ("erm", "augmix") for source in ("same", "other")
    ]  # fmt: skip
    for name, shown in summarise(made, {}).items():
        headings = [table.heading for table in shown]
        assert len({*headings}) == len(headings), name
    titles = re.findall(r"<h2[^>]*>(.*?)</h2>", page.render(made, {}, {run.run_id: [] for run in made}, []))
    assert len({*titles}) == len(titles)


def test_overlaps_follow_the_settings() -> None:
    assert "contrast" not in operations(record("augmix", 0, settings={"ops": "nine"}))
    assert "contrast" in operations(record("augmix", 0, settings={"ops": "all"}))
    assert operations(record("augmix", 0, settings={"ops": ["rotate"]})) == ("rotate",)
    assert "color" in operations(record("augmax", 0, settings={"all_ops": True}))
    assert len(operations(record("augmax", 0, settings={"all_ops": False}))) == 9
    assert operations(record("erm", 0)) == ()
    assert operations(record("sada", 0, settings={"ops": ["color"], "base": "clean"})) == ()
    assert operations(record("sada", 0, loader="jitter_log")) == ("brightness", "contrast")
    touched = overlaps([record("augmix", 0, settings={"ops": "all"})], ["contrast", "fog", "zoom_blur"])
    assert touched == {"augmix": {"contrast": ["contrast"], "sharpness": ["zoom_blur"]}}
    coloured = overlaps([record("augmix", 0, settings={"ops": ["color"]})], ["brightness", "contrast", "saturate"])
    assert coloured == {"augmix": {"color": ["saturate"]}}  # Pillow's Color blends with grey


def test_overlaps_are_those_of_the_operations_that_the_record_holds() -> None:
    """Not of those that the method has today."""
    run = record("augmix", 0, settings={"ops": "all"}).model_copy(update={"operations": ("brightness", "sharpness")})
    corruptions = ["brightness", "contrast", "gaussian_blur"]
    assert overlaps([run], corruptions) == {
        "augmix": {"brightness": ["brightness"], "sharpness": ["gaussian_blur"]},
    }


def test_an_overlap_is_flagged_and_left_out_of_one_mean_for_all_rows() -> None:
    values = {"fog/1": 60.0, "fog/2": 50.0, "contrast/1": 90.0, "contrast/2": 90.0, "clean": 99.0}
    made = [
        scored(record("erm", 0), values, ("clean",)),
        scored(record("augmix", 0, settings={"ops": "all"}), values, ("clean",)),
    ]
    rows = by_row(made)
    assert {line.label: line.cells["overlap-free mean"].text for line in lines(rows)} == {
        "erm": "55.0",
        "augmix": "55.0",
    }
    assert lines(rows)[0].cells["mean"].text == "72.5"
    assert any("augmix trains with" in note and "contrast (contrast)" in note for note in notes(rows))
    assert "overlap-free mean" not in lines(by_row(made[:1]))[0].cells


def digits(method: str, seed: int, value: float, network: str = "digits_convnet", protocol: str = "common") -> Record:
    made = record(method, seed, dataset="digits", source="mnist", network=network, protocol=protocol)
    return scored(made, dict.fromkeys(("svhn", "mnist_m", "syn", "usps"), value) | {"mnist": 98.0}, ("mnist",))


def test_published_means_stand_beside_ours() -> None:
    made = [digits("gud", 0, 56.0), digits("gud", 1, 58.0), digits("augmax", 0, 60.0)]
    gud, augmax = (line.cells for line in sorted(lines(by_row(made)), key=lambda line: line.label, reverse=True))
    assert gud["paper"].text == "54.6 to 55.7"  # 54.6, 54.62 and 55.67 are in print
    assert gud["off by SE"].text == "+1.3"  # 57 against 55.67, in units of sqrt(2) / sqrt(2)
    assert (augmax["paper"].text, augmax["off by SE"].text) == ("none", "–")
    inside = [digits("gud", 0, 54.0), digits("gud", 1, 56.0)]
    assert lines(by_row(inside))[0].cells["off by SE"].text == "+0.0"
    other = lines(by_row([digits("gud", 0, 56.0, network="resnet18_cifar")]))
    assert "paper" not in other[0].cells
    assert "paper" not in lines(by_row([record("gud", 0)]))[0].cells  # nothing is published on minidigits
    found = paper.paper_rows(made)
    restated = found[(found["target"] == "mean") & (found["published"] == 55.67)]
    assert restated["difference"].tolist() == pytest.approx([1.33])
    assert restated["standard_errors"].tolist() == pytest.approx([1.33])


@pytest.mark.parametrize(
    ("changed", "there"),
    [({}, True), ({"corrupted": "generated"}, False), ({"limit": 500}, False), ({"copy": "jpeg"}, False)],
)
def test_published_numbers_of_official_images_stand_beside_runs_on_these_alone(
    changed: dict[str, object], there: bool
) -> None:
    official = {"copy": "official", "corrupted": "official", "corruptions": "common", "val": 5000, "limit": 0}
    made = record(
        "augmax", 0, dataset="cifar10c", source="cifar10", network="resnet18_cifar", dataset_settings=official | changed
    )
    made = scored(
        made, {f"{c}/1": 80.0 for members in GROUPS.values() for c in members} | {"cifar10": 95.0}, ("cifar10",)
    )
    assert ("paper" in lines(by_row([made]))[0].cells) == there
    assert paper.paper_rows([made]).empty == (not there)


@pytest.mark.parametrize(
    ("network", "size", "there", "listed"),
    [
        ("timm:resnet18", 224, True, True),
        ("timm:resnet18.a1_in1k", 224, True, True),
        ("timm:resnet18d", 224, False, True),
        ("timm:resnet18", 112, False, False),
    ],
)
def test_published_numbers_of_pacs_stand_beside_the_same_network_and_size(
    network: str, size: int, there: bool, listed: bool
) -> None:
    settings = {"size": size, "resize": "bilinear", "task": "single"}
    made = record("erm", 0, dataset="pacs", source="photo", network=network, dataset_settings=settings)
    made = scored(made, {"art_painting": 60.0, "cartoon": 40.0, "sketch": 30.0, "photo": 95.0}, ("photo",))
    assert ("paper" in lines(by_row([made]))[0].cells) == there
    assert paper.paper_rows([made]).empty != listed


def test_published_targets_of_corruptions() -> None:
    every = {name: 10.0 * i for i, members in enumerate(GROUPS.values(), 1) for name in members}
    made = scored(record("erm", 0), {f"{c}/{s}": v + (s == 5) for c, v in every.items() for s in (1, 5)})
    assert paper.value(made, "noise") == 10.5
    assert paper.value(made, "digital, severity 5") == 41.0
    assert paper.value(made, "four groups, severity 5") == 26.0
    assert paper.value(made, "mean, severity 1") == pytest.approx((3 * 10 + 4 * 20 + 4 * 30 + 4 * 40) / 15)
    assert paper.value(made, "fog") == 30.5
    partly = scored(record("erm", 0), {"fog/5": 1.0, "snow/5": None})
    assert paper.value(partly, "mean") is None
    assert paper.value(partly, "four groups, severity 5") is None
    assert paper.value(partly, "weather") is None


def test_the_published_facts_keep_to_their_schema() -> None:
    papers = paper.published_numbers()
    methods = set(names("method"))
    extra = {"mean", "four groups", *GROUPS}
    for row in papers.published:
        assert row.method in methods
        assert row.accuracy
        assert row.sd.keys() <= row.accuracy.keys()
        assert all(0 < value < 100 for value in row.accuracy.values())
        assert row.paper
        assert not (row.strict and row.evidence == "recalled")
        if row.dataset in names("dataset"):
            layout = make("dataset", row.dataset, {}).layout(None)
            assert row.source in layout.sources, row
            known = {name.partition("/")[0] for name in layout.domains} | extra
            assert {target.partition(", severity ")[0] for target in row.accuracy} <= known, row
    for key in papers.causes:
        method, _, dataset = key.partition("@")
        assert any(row.strict and (row.method, row.dataset) == (method, dataset) for row in papers.published), key


def test_a_claim_that_hangs_on_the_checkpoint_shows_it() -> None:
    """augmix gains 5 to 7 with the selected networks, -1 to 1 with those of the last step; gud is the best row."""
    gains = {"erm": (0, 0, 0), "augmix": (5, 6, 7), "gud": (20, 21, 22)}
    last = {"erm": (0, 0, 0), "augmix": (-1, 0, 1), "gud": (20, 21, 22)}
    made = [
        with_last(scored(record(m, s), {"far": 50.0 + gain}), "far", 50.0 + last[m][s])
        for m, each in gains.items()
        for s, gain in enumerate(each)
    ]
    frame = difference_rows(made).set_index(["target", "method", "versus"]).loc["mean"]
    assert [*frame.index] == [("augmix", "erm"), ("gud", "erm"), ("augmix", "gud")]  # gud and ERM are judged once
    selected, under_last = frame["p_holm"].to_dict(), frame["p_holm_last"].to_dict()
    assert selected["augmix", "erm"] == pytest.approx(1 - 108**0.5 / 110**0.5)  # t = 6 sqrt(3), the larger of the two
    assert under_last["augmix", "erm"] == 1.0
    assert under_last["gud", "erm"] == selected["gud", "erm"]
    (table,) = summarise(made, {})["differences"]
    assert [line.cells["p, last step"].text for line in table.lines] == ["0.002", "1.000", "–"]  # equal differences


def with_last(made: Record, domain: str, value: float) -> Record:
    """The record with this accuracy of the last step's network in a domain."""
    assert made.accuracy is not None
    there = made.accuracy.domains[domain]
    assert there.accuracy is not None
    changed = there.model_copy(update={"accuracy": {**there.accuracy, "last": value}})
    accuracy = made.accuracy.model_copy(update={"domains": made.accuracy.domains | {domain: changed}})
    return made.model_copy(update={"accuracy": accuracy})


@pytest.mark.parametrize("changes", [{"device": "cuda"}, {"protocol": "strict"}])
def test_other_devices_and_protocols_are_ranked_apart(changes: dict[str, Any]) -> None:
    made = [
        scored(record(method, 0, dataset=dataset, **given), {"a": value})
        for dataset in ("minidigits", "digits")
        for given, method, value in (
            *(({}, "erm", 60.0), ({}, "augmix", 70.0)),
            *((changes, "erm", 70.0), (changes, "augmix", 60.0)),
        )
    ]
    assert len(rankings(made)) == 2
    assert sorted(rank_rows(made)["average_rank"]) == [1.0, 1.0, 2.0, 2.0]


def test_of_a_seed_that_ran_twice_the_costs_are_those_of_the_last() -> None:
    made = [
        ended(record("erm", 0, 50.0, sensitivity_images=0), "2026-01-02"),
        ended(record("erm", 0, 60.0, sensitivity_images=16), "2026-01-01"),
    ]
    (shown,) = summarise(made, {})["cost"]
    assert shown.lines[0].cells["8 steps: accuracy"].text == "50.0"


def test_the_seconds_that_are_advised_are_a_mean_over_seeds() -> None:
    def taking(seconds: float, method: str, seed: int) -> Record:
        run = record(method, seed)
        assert run.throughput is not None
        times = {"setup_seconds": 0.0, "train_seconds": seconds}
        return run.model_copy(update={"throughput": run.throughput.model_copy(update=times)})

    made = [*(taking(2.0, "erm", seed) for seed in range(5)), taking(8.0, "augmix", 0), taking(10.0, "augmix", 1)]
    (shown,) = summarise(made, {})["cost"]
    assert "augmix is the dearest" in shown.footnotes[0]
    assert "--seconds 9`" in shown.footnotes[0]


def test_behind_a_difference_are_the_runs_of_the_common_seeds() -> None:
    erm = [record("erm", seed, 50.0 + seed) for seed in (0, 1)]
    augmix = [record("augmix", seed, 60.0 + 2 * seed) for seed in (1, 2)]
    (ids,) = difference_rows([*erm, *augmix]).query("target == 'mean'")["run_ids"]
    assert set(ids.split()) == {erm[1].run_id, augmix[0].run_id}


def test_where_the_last_network_is_the_selected_one_each_target_has_the_same_p() -> None:
    """In the variants' family too."""
    rows = [("erm", "", 0), ("augmix", "", 3), ("augmix", "k=3", 5), ("augmix", "k=5", 9)]
    made = [
        scored(record(method, seed, variant=variant), {"a": 50.0 + gain + seed * seed, "b": 40.0 + gain * (seed + 1)})
        for method, variant, gain in rows
        for seed in range(3)
    ]
    frame = difference_rows(made)
    assert frame["p_holm_last"].equals(frame["p_holm"])
    assert frame["p_holm"].nunique() > 1


def test_recalled_numbers_widen_no_published_range(monkeypatch: pytest.MonkeyPatch) -> None:
    run = digits("gud", 0, 50.0)
    rows = [
        row
        for row in paper.published_numbers().published
        if (row.dataset, row.source, row.method) == ("digits", "mnist", "gud") and "mean" in row.accuracy
    ]
    (known, *_) = [row for row in rows if row.evidence != "recalled"]
    recalled = known.model_copy(update={"evidence": "recalled", "accuracy": {**known.accuracy, "mean": 1.0}})
    both = paper.published_numbers().model_copy(update={"published": [known, recalled]})
    monkeypatch.setattr(paper, "published_numbers", lambda: both)
    assert paper.like_ours([run], "mean") == [known.accuracy["mean"]]


def test_means_that_differ_by_rounding_alone_are_one_rank_of_the_correlation() -> None:
    """Three seeds of the same accuracies in another order have means that differ in the last bit."""
    reached = {"erm": (10.1, 10.2, 10.3), "augmix": (10.3, 10.2, 10.1), "gud": (15.0,) * 3, "mada": (19.0,) * 3}
    made = [record(method, seed, value) for method, values in reached.items() for seed, value in enumerate(values)]
    maps = {run.run_id: error_map(run) for run in made}
    for number, method in enumerate(("augmix", "erm", "mada", "gud")):
        for run in (run for run in made if run.asked.method == method):
            maps[run.run_id].error[:] = 0.1 * (number + 1)
    frame = correlation_rows(accuracy_rows(made), sensitivity_rows(made, maps))
    (found,) = frame[(frame["target"] == "shifted") & (frame["band"] == "mean")].to_dict("records")
    assert (found["n"], found["over"]) == (4, "methods")
    ranks = spearmanr([1, 2, 3, 4], [3.5, 3.5, 1, 2])  # of augmix, erm, mada, gud: error under waves, in the target
    assert found["spearman"] == pytest.approx(ranks.statistic, abs=1e-12)


def test_variants_are_no_points_of_the_correlation_of_sensitivity_with_error() -> None:
    plain = [record(method, 0, value) for method, value in (("erm", 50.0), ("augmix", 60.0), ("gud", 75.0))]
    variant = record("augmix", 0, 10.0, variant="k=3")
    maps = {run.run_id: error_map(run) for run in (*plain, variant)}
    for number, run in enumerate(plain):
        maps[run.run_id].error[0, 0] = 0.1 * number

    def found(made: list[Record]) -> list[float]:
        frame = correlation_rows(accuracy_rows(made), sensitivity_rows(made, maps))
        return list(frame[(frame["target"] == "shifted") & (frame["band"] == "mean")]["pearson"])

    assert found([*plain, variant]) == found(plain)
    assert len(found(plain)) == 1


def test_the_correlation_is_of_the_accuracies_that_are_reported() -> None:
    """Not of those of the last step's network as well."""
    plain = [record(method, 0, value) for method, value in (("erm", 50.0), ("augmix", 60.0), ("gud", 75.0))]
    turned = [with_last(run, "shifted", value) for run, value in zip(plain, (90.0, 10.0, 40.0), strict=True)]
    maps = {run.run_id: error_map(run) for run in plain}
    for number, run in enumerate(plain):
        maps[run.run_id].error[0, 0] = 0.1 * number
    one, other = (
        correlation_rows(accuracy_rows(made), sensitivity_rows(made, maps)).query("target == 'shifted'")
        for made in (plain, turned)
    )
    assert one["pearson"].notna().any()
    assert one["pearson"].tolist() == pytest.approx(other["pearson"].tolist(), nan_ok=True)
