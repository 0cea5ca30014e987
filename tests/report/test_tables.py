"""Tables from records made by hand: every number can be checked by eye."""

import csv
import io
import re
import shutil
import subprocess
from pathlib import Path
from unittest.mock import Mock

import pandas as pd
import pytest
import torch

from benchmark import tables
from benchmark.core.errors import UsageError
from benchmark.core.outcome import Floor
from benchmark.core.record import Record
from benchmark.report import table_files
from benchmark.report.all_tables import render
from benchmark.report.figures import accuracies
from benchmark.report.people import accuracy_table
from benchmark.report.people.summaries import summarise
from benchmark.report.provenance import trace
from benchmark.report.tidy.rows import accuracy_rows, throughput_rows
from benchmark.runs.store import Store
from benchmark.sensitivity import fourier
from benchmark.sensitivity.map import SensitivityMap, summaries
from docs.site.published import FOLDERS
from tests.conftest import ROOT
from tests.handmade import error_map, failed, fill, record, scored

RUNS = [record("erm", 0, 50.0), record("erm", 1, 54.0), record("augmix", 0, 60.0, speed=25.0), failed("augmix", 1)]


MAPS = {run.run_id: error_map(run) for run in RUNS if run.sensitivity}


def rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


def test_the_promised_columns_come_first() -> None:
    files = render(RUNS, MAPS)
    head = {name: content.decode().partition("\n")[0] for name, content in files.items() if name.endswith(".csv")}
    assert head["accuracy.csv"].startswith(
        "dataset,protocol,method,source,target,seed,accuracy,selection,n_images,run_id"
    )
    assert head["sensitivity.csv"].startswith("dataset,protocol,method,source,seed,band,error_rate,run_id")
    assert head["throughput.csv"].startswith(
        "dataset,protocol,method,device,train_images_per_second,augment_share,relative_to_erm,setup_seconds,"
        "peak_memory_mib,passes_per_image,run_id"
    )


def test_every_run_is_a_row_failed_and_missing_ones_too() -> None:
    found = rows(render(RUNS, MAPS)["accuracy.csv"])
    assert {row["run_id"] for row in found} == {run.run_id for run in RUNS}
    gone = [row for row in found if not row["accuracy"]]
    assert {(row["method"], row["status"], row["target"]) for row in gone} == {
        ("augmix", "failed", ""),
        ("augmix", "data missing", "absent"),
        ("erm", "data missing", "absent"),
    }
    value = [row for row in found if row["method"] == "erm" and row["seed"] == "1" and row["target"] == "shifted"]
    assert {row["selection"]: float(row["accuracy"]) for row in value} == {"source-val": 54, "last": 53, "oracle": 56}
    assert {row["target"] for row in found if row["in_domain"] == "True"} == {"same"}


def test_summary_cells() -> None:
    (shown,) = summarise(RUNS, {})["accuracy"]
    erm, augmix = shown.cells.to_dict("records")
    assert erm["method"] == "erm"
    assert erm["shifted"] == "52.0 ± 2.8"  # sd of 50 and 54 with ddof 1 is sqrt(8)
    assert erm["absent"] == "data missing"
    assert erm["mean"] == "52.0 ± 2.8"  # the in-domain 90 is not in it
    assert erm["same (in-domain)"] == "90.0 ± 0.0"
    assert [erm[f"mean ({rule})"] for rule in ("source-val", "last", "oracle")] == [
        "52.0 ± 2.8",
        "51.0 ± 2.8",
        "54.0 ± 2.8",
    ]
    assert erm["optimism"] == "2.0 ± 0.0"
    (once,) = accuracy_table.lines({"erm": [record("erm", 0, evaluations=1)]})
    assert once.cells["optimism"].text == "–"
    assert erm["mean, 95 %"] == "[26.6, 77.4]"  # t(0.975, 1) = 12.706; 12.706 * 2.828 / sqrt(2) = 25.41
    assert (erm["n"], augmix["n"]) == ("2", "1 of 2")
    assert augmix["shifted"] == "60.0"
    assert any("put absent.mat there" in note for note in shown.footnotes)
    assert any("broken on purpose" in note for note in shown.footnotes)


def test_sensitivities_are_recomputed_from_the_maps() -> None:
    found = [row for row in rows(render(RUNS, MAPS)["sensitivity.csv"]) if row["run_id"] == RUNS[0].run_id]
    bands = {row["band"]: float(row["error_rate"]) for row in found}
    assert list(bands) == ["clean_error", "mean", "low", "mid", "high"]  # error rates, and nothing else
    assert bands["mean"] == pytest.approx((5 * 0.5 + 59 * 0.1) / 64)
    assert bands["low"] == pytest.approx(0.5)  # radius up to 4/3: zero frequency and its four neighbours
    assert (bands["mid"], bands["high"], bands["clean_error"]) == pytest.approx((0.1, 0.1, 0.1))
    errors = {row["band"]: row["standard_error"] for row in found}
    assert errors == dict.fromkeys(bands, "") | {"mean": "0.01"}
    for row in found:  # of the whole map
        assert float(row["area_above_clean_error_rate"]) == pytest.approx(5 * 0.4 / 64)
        assert float(row["half_maximum_radius_cycles_per_image"]) == pytest.approx(1)  # rings: 0.5, 0.3, 0.1


def test_correlations_cover_the_bands_and_the_whole_map() -> None:
    found = rows(render(RUNS, MAPS)["sensitivity_correlation.csv"])
    assert {row["band"] for row in found} == set(summaries(MAPS[RUNS[0].run_id]))
    assert {row["n"] for row in found} == {"2"}


def test_a_number_has_one_scale_in_the_table_for_people_and_in_the_file() -> None:
    files = render([RUNS[0]], MAPS)
    shown = summarise([RUNS[0]], MAPS)
    (cells,) = shown["sensitivity"][0].cells.to_dict("records")
    csv_rows = rows(files["sensitivity.csv"])
    pairs = {row["band"].replace("_", " "): row["error_rate"] for row in csv_rows}
    pairs["area above clean error"] = csv_rows[0]["area_above_clean_error_rate"]
    pairs["half-maximum radius (cycles per image)"] = csv_rows[0]["half_maximum_radius_cycles_per_image"]
    assert set(cells) == {"method", *pairs, "n", "runs"}
    assert {name: cells[name] for name in pairs} == {name: f"{float(value):.3f}" for name, value in pairs.items()}
    (cells,) = shown["throughput"][0].cells.to_dict("records")
    (cost,) = rows(files["throughput.csv"])
    shares = {name: value for name, value in cost.items() if name.endswith("_share")}
    assert len(shares) == 5
    for name, value in shares.items():
        assert cells[name.removesuffix("_share").replace("_", "-") + " share"] == f"{float(value):.2f}"
    (cells,) = shown["accuracy"][0].cells.to_dict("records")
    headline = [r for r in rows(files["accuracy.csv"]) if r["target"] == "shifted" and r["headline"] == "True"]
    assert [cells["shifted"]] == [f"{float(r['accuracy']):.1f}" for r in headline] == ["50.0"]


@pytest.mark.parametrize("kind", ["md", "tex"])
def test_the_sensitivity_table_says_itself_which_radii_its_bands_have(kind: str) -> None:
    text = render(RUNS, MAPS)[f"sensitivity.{kind}"].decode().replace("\n", " ")
    said = {
        "md": "low: up to N/6 (5.3 at 32 pixels, zero included); mid: above that, up to N/3 (10.7); high: above N/3,",
        "tex": "low, mid and high: frequencies of radius up to N/6, up to N/3 and above N/3 cycles per image",
    }
    assert said[kind] in text
    edge = torch.where(fourier.radius(32) <= 32 / 6, 0.2, torch.where(fourier.radius(32) <= 32 / 3, 0.4, 0.6))
    found = summaries(SensitivityMap(edge, 0.1, 10, 8.0, 0))
    assert [found[band] for band in ("low", "mid", "high")] == pytest.approx([0.2, 0.4, 0.6])


def test_a_dash_for_a_speed_relative_to_erm_is_explained_under_its_table() -> None:
    made = [RUNS[0], RUNS[2], record("augmix", 1), record("gud", 2), record("gud", 1)]
    (shown,) = summarise(made, {})["throughput"]
    assert dict(zip(shown.cells["method"], shown.cells["relative to ERM"], strict=True)) == {
        "erm": "1.000", "augmix": "0.250", "gud": "–",
    }  # fmt: skip
    (note,) = shown.footnotes
    assert (
        "without an ERM run of the same seed in the same call of benchmark.run: augmix, seed 1; gud, seed 1, 2" in note
    )
    assert "– where none is left" in note
    assert f"- {note}" in render(made, {run.run_id: error_map(run) for run in made})["throughput.md"].decode()
    assert summarise([RUNS[0], RUNS[2]], {})["throughput"][0].footnotes == []


def test_cost_is_relative_to_erm_of_the_same_seed_machine_and_call() -> None:
    found = throughput_rows(RUNS)
    relative = dict(zip(found["run_id"], found["relative_to_erm"], strict=True))
    assert relative[RUNS[2].run_id] == 0.25
    for change in ({"device_name": "another"}, {"session": "2026-01-02T00:00:00+00:00"}):
        elsewhere = RUNS[0].model_copy(update={"ran": RUNS[0].ran.model_copy(update=change)})
        alone = throughput_rows([elsewhere, RUNS[2]])
        assert alone.set_index("run_id")["relative_to_erm"].isna()[RUNS[2].run_id]


FLOOR = Floor(images_per_second=400.0, gflop_per_image=0.4, matrix_gflops=200.0, copy_gib_per_second=10.0)
ALONE = ("relative_to_erm", "steady_images_per_second", "steady_q25", "steady_q75", "floor_images_per_second",
         "of_floor", "gflops", "of_matrix_rate", "matrix_gflops", "copy_gib_per_second")  # fmt: skip
"""Columns that say nothing of a run with neighbours on its GPU."""


def on(device: str, seed: int = 0, *, replayed: float = 0.0, **machine: object) -> Record:
    """A run of ERM on this device, with a floor. machine: what its record says of the machine beside the usual."""
    made = record("erm", seed, device=device)
    assert made.throughput is not None
    throughput = made.throughput.model_copy(update={"floor": FLOOR, "replayed": replayed})
    about = {**made.ran.machine, **machine}
    ran = made.ran.model_copy(update={"machine": about})
    return made.model_copy(update={"throughput": throughput, "ran": ran, "sensitivity": None})


def test_a_shared_gpu_has_neither_a_steady_rate_nor_a_floor() -> None:
    files = render([on("cuda", sharing=4), on("cuda", 1, sharing=4)], {})
    for row in rows(files["throughput.csv"]):
        assert {row[name] for name in ALONE} == {""}
        assert (row["sharing"], row["train_images_per_second"]) == ("4", "100")
    (shown,) = summarise([on("cuda", sharing=4), on("cuda", 1, sharing=4)], {})["throughput"]
    (cells,) = shown.cells.to_dict("records")
    empty = "steady images/s", "share of bare passes", "share of matrix rate", "relative to ERM"
    assert {cells[name] for name in empty} == {"–"}
    assert cells["sharing"] == "4"
    assert shown.footnotes == []  # the caption says why
    assert cells["images/s"] == "100 ± 0"
    text = files["throughput.md"].decode().replace("\n", " ")
    assert "On a GPU that several runs shared (`sharing`: how many at a time), relative to ERM, steady and both" in text
    assert "steady images/s" in files["throughput.tex"].decode()
    assert pd.read_parquet(io.BytesIO(files["throughput.parquet"]))["of_floor"].isna().all()


def test_a_run_alone_among_runs_that_shared_a_gpu_keeps_its_numbers() -> None:
    (shown,) = summarise([on("cuda", sharing=2), on("cuda", 1)], {})["throughput"]
    (cells,) = shown.cells.to_dict("records")
    assert cells["steady images/s"] == "200 [150, 250]"
    assert cells["sharing"] == "1 or 2"
    assert cells["share of bare passes"] == "0.31"  # 125 images/s without set-up, of 400
    assert cells["share of matrix rate"] == "0.25"  # of 0.4 GFLOP each, of 200 GFLOP/s


def test_the_peak_is_that_of_any_run_and_a_share_the_mean_of_all() -> None:
    def run(seed: int, peak: float, share: float) -> Record:
        made = record("erm", seed)
        assert made.throughput is not None
        changed = {"peak_memory_mib": peak, "shares": {**made.throughput.shares, "augment": share}}
        return made.model_copy(update={"throughput": made.throughput.model_copy(update=changed)})

    (shown,) = summarise([run(0, 700.0, 0.1), run(1, 500.0, 0.5)], {})["throughput"]
    (cells,) = shown.cells.to_dict("records")
    assert (cells["peak MiB"], cells["augment share"]) == ("700", "0.30")


def test_runs_that_shared_a_gpu_have_no_seconds_beside_their_accuracy() -> None:
    made = [on("cuda", seed, sharing=4) for seed in (0, 1)]
    (shown,) = summarise(made, {})["cost"]
    (cells,) = shown.cells.to_dict("records")
    assert [text for name, text in cells.items() if str(name).endswith(": seconds")] == ["–"]
    assert shown.footnotes == []
    assert "seconds" not in accuracies.costs(made)
    assert "seconds" in accuracies.costs([on("cuda"), on("cuda", 1)])


def test_erm_is_no_reference_where_it_had_neighbours_on_its_gpu() -> None:
    made = [on("cuda", sharing=4), record("augmix", 0, speed=25.0, device="cuda")]
    assert throughput_rows(made)["relative_to_erm"].isna().all()
    alone = throughput_rows([on("cuda"), made[1]])
    assert dict(zip(alone["method"], alone["relative_to_erm"], strict=True)) == {"erm": 1.0, "augmix": 0.25}


def test_a_table_of_runs_on_a_gpu_says_so() -> None:
    for device, said in (("cuda", True), ("cpu", False)):
        (shown,) = summarise([on(device)], {})["accuracy"]
        assert ("selection source-val, on a GPU; data" in shown.heading) == said


def test_a_footnote_names_rows_whose_machine_was_loaded() -> None:
    busy, quiet = on("cpu", cores=2, load_mean=3.9), on("cpu", 1, cores=2, load_mean=1.9)
    (shown,) = summarise([busy, quiet], {})["throughput"]
    assert shown.footnotes == ["the machine was loaded beyond its cores, and speeds are too low: erm (1 of 2 runs)"]
    (shown,) = summarise([quiet], {})["throughput"]
    assert shown.footnotes == []


@pytest.mark.parametrize("made", [on("cpu", sharing=4), on("cuda"), on("cpu")])
def test_a_shared_cpu_and_a_gpu_of_ones_own_have_both(made: Record) -> None:
    (row,) = rows(render([made], {})["throughput.csv"])
    assert all(row[name] for name in ALONE)
    assert row["sharing"] == str(made.ran.machine.get("sharing", 1))
    (shown,) = summarise([made], {})["throughput"]
    assert "sharing" not in shown.cells
    assert shown.cells["share of bare passes"].tolist() == ["0.31"]


def test_the_share_of_replayed_steps_is_in_the_file_and_what_it_means_in_the_caption() -> None:
    files = render([on("cuda", replayed=0.97)], {})
    (row,) = rows(files["throughput.csv"])
    assert row["replayed"] == "0.97"
    text = files["throughput.md"].decode().replace("\n", " ")
    assert "Where steps were replayed from CUDA graphs, shares are those of launched steps" in text


def test_a_record_from_before_steps_were_replayed_can_be_read() -> None:
    old = on("cpu").model_dump(mode="json")
    del old["throughput"]["replayed"]
    del old["throughput"]["floor"]
    (row,) = rows(render([Record.model_validate(old)], {})["throughput.csv"])
    assert (row["replayed"], row["sharing"], row["of_floor"]) == ("0", "1", "")


def test_launched_and_replayed_runs_share_no_table_of_costs_and_no_reference() -> None:
    launched = record("augmix", 0, speed=25.0, device="cuda")
    machine = {**launched.ran.machine, "launch": True}
    launched = launched.model_copy(update={"ran": launched.ran.model_copy(update={"machine": machine})})
    made = [on("cuda"), launched]
    assert throughput_rows(made)["relative_to_erm"].isna().tolist() == [True, False]
    assert throughput_rows(made)["machine"].nunique() == 2
    shown = summarise(made, {})["throughput"]
    assert [[line.label for line in table.lines] for table in shown] == [["erm"], ["augmix"]]
    assert [", launch" in table.heading for table in shown] == [False, True]


def test_runs_that_may_not_be_compared_stand_in_tables_of_their_own() -> None:
    other = [record("erm", 0, fingerprint="1" * 16), record("erm", 0, lr=0.5), record("erm", 0, budget="passes")]
    assert len(summarise([RUNS[0], *other], {})["accuracy"]) == 4


def test_a_variant_is_a_row_of_its_own() -> None:
    variant = record("augmix", 0, 70.0, variant="jsd=false", settings={"jsd": False})
    (shown,) = summarise([RUNS[0], RUNS[2], variant], {})["accuracy"]
    assert list(shown.cells["method"]) == ["erm", "augmix[jsd=false]", "augmix"]  # ERM, then the best first
    assert set(accuracy_rows([variant])["method"]) == {"augmix"}


@pytest.mark.parametrize("name", ["accuracy", "differences", "cost", "sensitivity", "throughput"])
def test_three_records_give_the_committed_text(name: str) -> None:
    """The whole of each file, as a person reviewed it."""
    expected = (ROOT / "tests" / "expected" / f"{name}.md").read_text(encoding="utf-8")
    assert render(RUNS[:3], MAPS)[f"{name}.md"].decode() == expected


def test_check_finds_an_edited_a_missing_and_no_other_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = fill(tmp_path, RUNS)
    tables.write(store, store.read_all())
    assert tables.main(["--out", str(tmp_path), "--check"]) == 0
    path = tmp_path / "tables" / "accuracy.csv"
    path.write_text(path.read_text().replace("50", "99", 1))
    (tmp_path / "tables" / "throughput.md").unlink()
    other = tmp_path / "tables" / "ranks.parquet"
    other.write_bytes((tmp_path / "tables" / "cost.parquet").read_bytes())
    (tmp_path / "tables" / "cost.parquet").write_bytes(b"broken")
    assert sorted(tables.check(store)) == ["accuracy.csv", "cost.parquet", "ranks.parquet", "throughput.md"]
    assert tables.main(["--out", str(tmp_path), "--check"]) == 1
    assert "accuracy.csv: differs" in capsys.readouterr().out


def test_a_folder_may_do_without_latex_but_not_without_a_piece_of_it(tmp_path: Path) -> None:
    store = fill(tmp_path, RUNS)
    tables.write(store, store.read_all())
    first, *others = sorted((tmp_path / "tables").glob("*.tex"))
    first.unlink()
    assert tables.check(store) == [first.name]
    for other in others:
        other.unlink()
    assert tables.check(store) == []


@pytest.mark.usefixtures("without_pictures")
def test_tables_are_written_again_where_a_run_was_replaced_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = fill(tmp_path, RUNS)
    replaced: list[str] = []

    def replacing(records: Store, made: list[Record]) -> object:
        if not replaced:
            replaced.append(made[0].run_id)
            fill(tmp_path, [record("erm", 0, 50.0).model_copy(update={"steps": 7})])
            raise UsageError("sensitivity.npy: its hash is not the recorded one")
        return maps_of(records, made)

    maps_of = Store.maps
    monkeypatch.setattr(Store, "maps", replacing)
    records, path = tables.write_all(store)
    assert 7 in {run.steps for run in records}
    assert path.is_file()
    monkeypatch.setattr(Store, "maps", Mock(side_effect=UsageError("damaged")))
    with pytest.raises(UsageError, match="damaged"):
        tables.write_all(store)


def test_a_small_p_value_is_no_mark_of_exclamation_in_latex() -> None:
    sure = [record("erm", seed, 50.0 + seed / 10) for seed in range(5)]
    sure += [record("augmix", seed, 60.0 + seed**2 / 10) for seed in range(5)]
    text = render(sure, {run.run_id: error_map(run) for run in sure})["differences.tex"].decode()
    assert "$<$ 0.001" in text
    assert "<" not in text.replace("$<$", "")


def test_trace_leads_from_a_run_to_its_command_and_cells(tmp_path: Path) -> None:
    store = fill(tmp_path, RUNS)
    text = trace(store, RUNS[2].run_id[:6])
    assert RUNS[2].ran.command in text
    assert "accuracy.csv: lines 2, 3" in text
    assert "throughput.md: minidigits" in text
    assert "mean 60.0" in text
    assert "52.0" not in text  # ERM's own cells are not made of it
    fill(tmp_path, other := [record("erm", 0, 70.0, momentum=momentum) for momentum in (0.5, 0.9)])
    places = [line for run in other for line in trace(store, run.run_id).splitlines() if "accuracy.md" in line]
    assert [place.rpartition("momentum ")[2].partition(":")[0] for place in places] == ["0.5", "0.9"]
    for wrong in ("zzz", ""):
        with pytest.raises(UsageError, match="unknown run id"):
            trace(store, wrong)
    assert "it ended with" not in text
    broken = record("erm", 7).model_copy(
        update={"status": "failed", "accuracy": None, "error": "  File x\nValueError: y"}
    )
    assert "it ended with:\n    File x\n  ValueError: y\n\nrepeat" in trace(fill(tmp_path, [broken]), broken.run_id)


def test_a_beginning_that_several_run_ids_share_names_none_of_them(tmp_path: Path) -> None:
    made = {run.run_id[0]: run for run in (record("erm", seed) for seed in range(17))}  # 16 digits at most
    twin = next(run for run in (record("erm", seed) for seed in range(17)) if run not in made.values())
    store = fill(tmp_path, [made[twin.run_id[0]], twin])
    with pytest.raises(UsageError, match=f"--trace {twin.run_id[0]}: ambiguous run id"):
        trace(store, twin.run_id[0])
    assert twin.ran.command in trace(store, twin.run_id)


def test_trace_leads_from_a_cell_to_its_runs(tmp_path: Path) -> None:
    store = fill(tmp_path, RUNS)
    text = trace(store, "accuracy:erm:mean")
    assert f"erm, mean: 52.0 ± 2.8  <- {RUNS[0].run_id} {RUNS[1].run_id}" in text
    assert RUNS[0].ran.command in text
    assert RUNS[2].run_id not in text
    assert "worst: 60.0" in trace(store, "accuracy:augmix")
    with pytest.raises(UsageError, match=r"did you mean 'accuracy:erm'\? known: accuracy:augmix, accuracy:erm$"):
        trace(store, "accuracy:nobody")
    with pytest.raises(UsageError, match=r"no such table; did you mean 'accuracy'\? known: accuracy, .*cost, "):
        trace(store, "accuracies:erm:mean")
    with pytest.raises(UsageError, match=r"did you mean 'accuracy:erm:mean'\? known: accuracy:erm:"):
        trace(store, "accuracy:erm:meen")
    other = scored(record("erm", 0, dataset="folder"), {"attic": 50.0, "cellar": 60.0}, ("cellar",))
    with pytest.raises(UsageError, match=r"accuracy:erm:attic, .*accuracy:erm:shifted"):  # of both comparisons
        trace(fill(tmp_path, [*RUNS, other]), "accuracy:erm:nowhere")


def test_a_folder_without_runs_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tables.main(["--out", str(tmp_path / "nowhere")]) == 2
    assert "no runs there" in capsys.readouterr().err


def test_what_a_killed_process_left_of_a_file_is_deleted(tmp_path: Path) -> None:
    """And nothing that only looks alike."""
    store = fill(tmp_path, RUNS[:3])
    lost = ("tables/.accuracy.csv.2030", ".index.html.7", "figures/.gains_x.png.9")
    mine = (".notes.md.7", "tables/.accuracy.csv", "figures/.mine.png.9", "tables/accuracy.csv.2030")
    for name in (*lost, *mine):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    tables.write_all(store)
    assert [name for name in (*lost, *mine) if (tmp_path / name).exists()] == [*mine]


def test_latex_is_booktabs_without_special_characters_left() -> None:
    odd = record("erm", 0, source="R&D_50%#1")
    maps = MAPS | {odd.run_id: error_map(odd)}
    for name, content in render([*RUNS, odd], maps).items():
        if name.endswith(".tex") and name not in {"paper.tex", "ranks.tex"}:  # nothing is in those
            text = content.decode()
            assert text.isascii(), name
            assert text.count(r"\begin{table}") == text.count(r"\toprule") == text.count(r"\end{tabular}}") >= 1
            assert text.count("{") == text.count("}")
            lines = text.partition("\n")[2].replace(r"\&", "").replace(r"\%", "").replace(r"\_", "").replace(r"\#", "")
            assert not re.search(r"[%#~^]", lines), name
            rows = [line.count("&") for line in lines.splitlines() if line.endswith(r" \\")]
            assert rows, name
            assert "_" not in lines.replace(r"\label{", "")
    assert r"mini\_convnet" in render(RUNS, MAPS)["accuracy.tex"].decode()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here")
def test_latex_compiles(tmp_path: Path) -> None:
    files = render([*RUNS, *clear_winner()], MAPS | {r.run_id: error_map(r) for r in clear_winner()})
    body = "\n".join(content.decode() for name, content in files.items() if name.endswith(".tex"))
    head = r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}"
    (tmp_path / "all.tex").write_text(f"{head}\n{body}\n\\end{{document}}\n", encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "all.pdf").is_file()


def clear_winner() -> list[Record]:
    values = {"erm": (50.0, 50.1, 50.3), "augmix": (90.0, 90.2, 90.1)}
    return [record(m, s, v, source="R&D_50%#1") for m, vs in values.items() for s, v in enumerate(vs)]


def test_parquet_holds_what_the_csv_does(tmp_path: Path) -> None:
    digits = RUNS[0].model_copy(update={"run_id": "125111106783"})  # an identifier that looks like a number
    content = table_files.csv(accuracy_rows([digits, RUNS[3]]))
    table = pd.read_parquet(io.BytesIO(table_files.parquet(content)))
    assert set(table["run_id"]) == {"125111106783", RUNS[3].run_id}
    assert table["accuracy"].dropna().tolist() == [float(r["accuracy"]) for r in rows(content) if r["accuracy"]]
    assert [*table.columns] == content.decode().partition("\n")[0].split(",")
    assert table_files.same_parquet(table_files.parquet(content), table_files.parquet(content))
    assert not table_files.same_parquet(
        table_files.parquet(content), table_files.parquet(content.replace(b"50", b"51"))
    )


@pytest.mark.parametrize("published", FOLDERS, ids=lambda folder: folder.name)
def test_published_results_agree_with_their_records(published: Path) -> None:
    assert tables.check(Store(published)) == []


def test_a_file_where_the_tables_go_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path, [record("erm", 0)])
    shutil.rmtree(tmp_path / "tables", ignore_errors=True)
    (tmp_path / "tables").write_text("mine")
    assert tables.main(["--out", str(tmp_path)]) == 2
    assert "tables: File exists; a file lies where a folder has to be" in capsys.readouterr().err
    assert (tmp_path / "tables").read_text() == "mine"
