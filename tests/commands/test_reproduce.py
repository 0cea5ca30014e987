"""The reproduction report, from records and published numbers made by hand."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from benchmark import protocols, registry, reproduce
from benchmark.core.outcome import Domain
from benchmark.core.record import Asked, Record, Trial
from benchmark.report.tidy import paper
from benchmark.report.tidy.paper import Papers, Published
from tests.handmade import ended, fill, record, scored

TARGETS = ("svhn", "mnist_m", "syn", "usps")


def published(**changes: object) -> Published:
    values: dict[str, object] = {
        "dataset": "digits", "source": "mnist", "method": "gud", "name": "ADA", "backbone": "ConvNet",
        "network": "digits_convnet", "note": "", "paper": "A. Author (2018)", "where": "Table 1",
        "evidence": "restated", "strict": True, "accuracy": {"mean": 50.0}, "sd": {},
    }  # fmt: skip
    return Published.model_validate(values | changes)


def papers(*rows: Published) -> Papers:
    return Papers(band=1.5, causes={"gud@digits": ["its own filter"]}, published=list(rows))


def strict(
    value: float,
    seed: int,
    *,
    protocol: str = "strict",
    source: str = "mnist",
    budget: str = "steps",
    trial: Trial | None = None,
    settings: Mapping[str, object] = MappingProxyType({}),
    data: Mapping[str, object] = MappingProxyType({}),
    **recipe: object,
) -> Record:
    released, own, files = protocols.recipe_for("strict", "gud", "digits")
    made = record(
        "gud", seed, dataset="digits", source=source, protocol=protocol, budget=budget, trial=trial,
        settings=registry.make("method", "gud", own).settings() | dict(settings),
        dataset_settings=registry.make("dataset", "digits", files).settings() | dict(data),
        recipe=released.model_copy(update=recipe),
    )  # fmt: skip
    return scored(made, dict.fromkeys(TARGETS, value) | {"mnist": 99.0}, ("mnist",))


def on_other_images(run: Record) -> Record:
    return run.model_copy(update={"asked": run.asked.model_copy(update={"fingerprint": "f" * 16})})


def test_verdicts_at_the_edge_of_the_band() -> None:
    def verdict(values: list[float], row: Published) -> str:
        (found,) = reproduce.figures([strict(v, s) for s, v in enumerate(values)], papers(row), ["gud"])
        return found.verdict

    assert verdict([51.0, 51.5, 52.0], published()) == "mean inside"  # 1.5 off, and the interval ends at 52.7
    assert verdict([51.0, 51.5, 52.5], published()) == "mean outside"  # 1.7 off, and the interval begins at 49.8
    assert verdict([51.6, 51.7, 51.6], published()) == "mean outside"  # at 51.49
    assert verdict([51.7, 51.8, 51.7], published()) == "outside"  # at 51.59
    assert verdict([48.3, 48.2, 48.3], published()) == "outside"
    assert verdict([51.3, 51.4, 51.3], published()) == "inside"  # to 51.48
    assert verdict([51.4, 51.5, 51.4], published()) == "mean inside"  # to 51.58
    assert verdict([48.0, 48.5, 49.0], published()) == "mean inside"  # 1.5 off, at the lower edge
    assert verdict([48.6, 48.5, 48.6], published()) == "mean inside"  # from 48.42
    assert verdict([30.0, 60.0, 61.0], published()) == "mean inside"
    assert verdict([60.0, 60.0, 60.0], published()) == "mean outside"  # a spread of nothing has no interval
    assert verdict([50.0, 50.0, 50.0], published()) == "mean inside"
    assert verdict([51.0, 51.5, 52.5], published(sd={"mean": 3.0})) == "inside"  # twice the printed deviation
    assert verdict([51.0, 51.5, 52.0], published(sd={"mean": 0.1})) == "outside"
    assert verdict([90.0, 90.0], published()) == "too few seeds"
    assert verdict([], published()) == "not run"
    assert verdict([50.0], published(accuracy={"cifar10": 50.0})) == "data missing"


def test_only_plain_rows_of_the_strict_protocol_count() -> None:
    others = [
        strict(50.0, 0, protocol="common"),
        strict(50.0, 1, settings={"k": 3}),
        strict(50.0, 2, budget="passes"),
        strict(50.0, 3, source="svhn"),
        strict(50.0, 4, steps=3),
        strict(50.0, 5, batch_size=16),
        strict(50.0, 6, network="mini_convnet"),
        strict(50.0, 7, precision="tf32"),
        strict(50.0, 8, data={"resize": "bilinear"}),
        strict(50.0, 9, trial=Trial(number=0, of=4)),
    ]
    (found,) = reproduce.figures(others, papers(published()), ["gud"])
    assert (found.ours, found.left_out) == (None, 8)
    assert "left out: 8 runs" in reproduce.report([found], papers(published()))
    assert reproduce.figures(others, papers(published(strict=False)), ["gud"]) == []
    assert reproduce.figures(others, papers(published()), ["sada"]) == []


def test_runs_on_other_images_are_not_averaged() -> None:
    """Those of the fingerprint with the most seeds count; the others are named."""
    made = [strict(50.0 + s, s) for s in range(3)]
    other = [on_other_images(strict(30.0, s)) for s in (3, 4)]
    (found,) = reproduce.figures([*other, *made], papers(published()), ["gud"])
    assert found.ours is not None
    assert (found.ours.mean, found.ours.n, found.left_out) == (51.0, 3, 2)


@pytest.mark.parametrize("method", ["erm", "gud", "mada", "randconv", "sada"])
def test_what_was_stored_is_as_released(method: str) -> None:
    """RandConv has a tuple of kernel sizes, which a file holds as a list."""
    recipe, own, files = protocols.recipe_for("strict", method, "digits")
    asked = strict(50.0, 0).asked.model_copy(
        update={
            "method": method,
            "recipe": recipe,
            "settings": registry.make("method", method, own).settings(),
            "dataset_settings": registry.make("dataset", "digits", files).settings(),
        }
    )
    stored = Asked.model_validate_json(asked.model_dump_json())
    assert reproduce.as_released(strict(50.0, 0).model_copy(update={"asked": stored}))
    other = stored.model_copy(update={"settings": stored.settings | {"another": 1}})
    assert not reproduce.as_released(strict(50.0, 0).model_copy(update={"asked": other}))


def test_a_seed_counts_once_and_the_map_not_at_all() -> None:
    """On another device or with another map a seed is another run, and one more reading of the same thing."""
    made = [strict(50.0, 0), strict(50.0, 0, sensitivity_images=7), strict(52.0, 1, sensitivity_images=7)]
    (found,) = reproduce.figures(made, papers(published()), ["gud"])
    assert found.ours is not None
    assert (found.ours.mean, found.ours.n, found.left_out) == (51.0, 2, 1)


def test_of_a_seed_that_ran_twice_the_run_counts_that_ended_last_and_has_the_target() -> None:
    """Which record is read last depends on the hashes of their settings."""

    def on(day: int, value: float, images: int) -> Record:
        return ended(strict(value, 0, sensitivity_images=images), f"2026-01-0{day}")

    without = on(3, 60.0, 9)
    assert without.accuracy is not None
    domains = {**without.accuracy.domains, "svhn": Domain(missing="put svhn.mat there")}
    without = without.model_copy(update={"accuracy": without.accuracy.model_copy(update={"domains": domains})})
    made = [on(1, 50.0, 7), on(2, 51.0, 8), without]
    held = papers(published(accuracy={"mean": 50.0, "usps": 50.0}))
    for runs in (made, made[::-1]):
        found = {figure.target: figure for figure in reproduce.figures(runs, held, ["gud"])}
        assert {t: f.ours.mean for t, f in found.items() if f.ours} == {"mean": 51.0, "usps": 60.0}
        assert {figure.left_out for figure in found.values()} == {2}


def test_a_figure_that_two_papers_print_is_one() -> None:
    rows = [
        published(),
        published(paper="B. Other (2021)", accuracy={"mean": 50.04}),
        published(accuracy={"mean": 51.0}),
    ]
    one, two = reproduce.figures([], papers(*rows), ["gud"])
    assert (one.published, two.published) == (50.0, 51.0)
    assert len(one.read) == 2


def test_the_mean_stands_before_the_targets() -> None:
    held = papers(published(accuracy={"svhn": 40.0, "mean": 50.0, "art": 60.0}))
    assert [figure.target for figure in reproduce.figures([], held, ["gud"])] == ["mean", "art", "svhn"]


def test_the_report_names_numbers_sources_and_causes() -> None:
    held = papers(published(accuracy={"mean": 50.0, "svhn": 40.0}))
    text = reproduce.report(
        reproduce.figures([strict(v, s) for s, v in enumerate((50.0, 51.0, 52.0))], held, ["gud"]), held
    )
    mean, svhn = (line for line in text.splitlines() if line.startswith(("  mean", "  svhn")))
    assert mean.endswith("  mean inside")
    assert mean.split()[:10] == ["mean", "51.0", "±", "1.0", "(3)", "[48.5,", "53.5]", "50.00", "+1.0", "1.5"]
    assert svhn.split()[-3:] == ["+11.0", "1.5", "outside"]
    assert "read in: A. Author (2018), Table 1, restated" in text
    assert "known cause: its own filter" in text


def test_in_brief_what_was_not_run_is_a_line_and_what_was_left_out_is_not() -> None:
    held = papers(published(accuracy={"mean": 50.0, "svhn": 40.0}), published(source="svhn"))
    found = reproduce.figures([], held, ["gud"])
    *_, heading, first, second, end = reproduce.report(found, held, brief=True).split("\n")
    assert heading.startswith("not run (--method NAME ")
    assert first == "  gud on digits, source mnist: printed mean 50.00, and 1 more"
    assert second == "  gud on digits, source svhn: printed mean 50.00"
    assert not end
    assert "read in: A. Author" not in reproduce.report(found, held, brief=True)
    assert "not run (" not in reproduce.report(found, held)
    left_out = reproduce.figures([strict(50.0, 0, settings={"k": 3})], held, ["gud"])
    text = reproduce.report(left_out, held, brief=True)
    assert "left out: 1 runs" in text
    assert "source mnist: printed" not in text
    assert "source svhn: printed" in text


def test_all_is_in_brief_and_a_named_method_is_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce.main(["--out", str(tmp_path)]) == 0
    brief = capsys.readouterr().out
    assert reproduce.main(["--out", str(tmp_path), "--method", "augmix"]) == 0
    assert "augmix on cifar10c, source cifar10: printed mean 88.82, and 11 more\n" in brief
    assert "read in" not in brief
    assert "read in: AugMix: A Simple" in capsys.readouterr().out


@pytest.mark.parametrize(("value", "code"), [(50.5, 0), (60.0, 1)])
def test_exit_code_and_the_command_for_what_is_missing(
    value: float, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paper, "published_numbers", lambda: papers(published()))
    fill(tmp_path, [strict(value + seed / 10, seed) for seed in range(3)])
    assert reproduce.main(["--out", str(tmp_path)]) == code
    shown = capsys.readouterr().out
    assert "--protocol strict --methods gud --datasets digits --sources mnist --seeds 0 1 2 3 4" in shown
    assert f"--out {tmp_path} --data-dir DIR\n" in shown
    fill(tmp_path, [strict(value, seed) for seed in (3, 4)])
    reproduce.main(["--out", str(tmp_path)])
    assert "to run what is missing" not in capsys.readouterr().out


def test_nothing_is_run_again_for_a_target_without_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paper, "published_numbers", lambda: papers(published(accuracy={"mean": 50.0, "other": 50.0})))
    assert reproduce.main(["--out", str(tmp_path)]) == 0
    assert f"{tmp_path}: no strict run of these methods, as released, has ended there; --out" in capsys.readouterr().out
    fill(tmp_path, [strict(50.0, seed) for seed in range(4)])
    reproduce.main(["--out", str(tmp_path)])
    shown = capsys.readouterr().out
    assert "data missing" in shown
    assert "to run what is missing" in shown
    assert "has ended there" not in shown
    fill(tmp_path, [strict(50.0, 4)])
    reproduce.main(["--out", str(tmp_path)])
    assert "to run what is missing" not in capsys.readouterr().out


def test_run_makes_what_is_missing_and_hands_failures_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper, "published_numbers", lambda: papers(published()))
    calls: list[list[str]] = []

    def run(words: list[str]) -> int:
        calls.append(words)
        fill(tmp_path, [strict(50.0, seed) for seed in range(5)])
        return 0

    monkeypatch.setattr("benchmark.run.main", run)
    assert reproduce.main(["--out", str(tmp_path), "--run", "--data-dir", "somewhere"]) == 0
    assert calls[0][-4:] == ["--out", str(tmp_path), "--data-dir", "somewhere"]
    assert reproduce.main(["--out", str(tmp_path), "--run"]) == 0
    assert len(calls) == 1
    monkeypatch.setattr("benchmark.run.main", lambda words: 2)
    assert reproduce.main(["--out", str(tmp_path / "empty"), "--run"]) == 2


@pytest.mark.parametrize(
    ("codes", "code", "begun"), [([130, 0], 130, 1), ([143, 0], 143, 1), ([2, 0], 2, 2), ([1, 0], 1, 2)]
)
def test_ctrl_c_ends_it_and_a_run_that_fails_or_has_no_images_does_not(
    codes: list[int],
    code: int,
    begun: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(paper, "published_numbers", lambda: papers(published(), published(method="erm")))
    left = iter(codes)
    monkeypatch.setattr("benchmark.run.main", lambda words: next(left))
    assert reproduce.main(["--out", str(tmp_path), "--run"]) == code
    assert len([*left]) == len(codes) - begun
    shown = capsys.readouterr().out
    assert ("gud on digits" in shown, shown.count("to run what is missing")) == ((True, 2) if code < 3 else (False, 0))


def test_an_unknown_method_is_a_usage_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert reproduce.main(["--method", "sadda", "--out", str(tmp_path)]) == 2
    assert "did you mean" in capsys.readouterr().err


def test_no_method_is_not_all_of_them(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert reproduce.main(["--method", "--out", str(tmp_path), "--run"]) == 2
    assert capsys.readouterr().err == "error: --method: name at least one\n"


def test_only_the_methods_asked_for_are_reported_and_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paper, "published_numbers", lambda: papers(published(), published(method="erm")))
    ran: list[str] = []

    def run(words: list[str]) -> int:
        ran.append(words[words.index("--methods") + 1])
        return 0

    monkeypatch.setattr("benchmark.run.main", run)
    assert reproduce.main(["--method", "gud", "--out", str(tmp_path), "--run"]) == 0
    shown = capsys.readouterr().out
    assert ("gud on digits" in shown, "erm on digits" in shown) == (True, False)
    assert ran == ["gud"]
    assert "to run what is missing" not in shown  # the same command would do nothing more


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce.main(["--out", str(tmp_path / "nowhere")]) == 2
    assert f"error: --out {tmp_path / 'nowhere'}: no such folder; with --run" in capsys.readouterr().err


def test_the_images_with_the_most_seeds_count_however_often_one_was_run() -> None:
    runs = [strict(50.0 + seed, seed) for seed in range(3)]
    often = [on_other_images(strict(30.0, 0, sensitivity_images=n)) for n in range(1, 6)]
    (found,) = reproduce.figures([*often, *runs], papers(published()), ["gud"])
    assert found.ours is not None
    assert (found.ours.mean, found.ours.n, found.left_out) == (51.0, 3, 5)


def test_runs_that_failed_or_lack_a_target_hide_no_others() -> None:
    nothing = {"status": "failed", "accuracy": None, "calibration": None}
    lost = [on_other_images(strict(50.0, seed)).model_copy(update=nothing) for seed in range(4)]
    bare = [scored(on_other_images(strict(1.0, seed)), dict.fromkeys(TARGETS) | {"mnist": 99.0}) for seed in range(5)]
    runs = [strict(50.0 + seed, seed) for seed in range(3)]
    for others, left_out in ((lost, 0), (bare, 5)):
        (found,) = reproduce.figures([*others, *runs], papers(published()), ["gud"])
        assert found.ours is not None
        assert (found.ours.mean, found.ours.n, found.seeds, found.left_out) == (51.0, 3, 3, left_out)


def test_of_images_with_as_many_seeds_the_latest_count() -> None:
    old = [ended(on_other_images(strict(30.0, seed)), "2026-01-01") for seed in range(3)]
    new = [ended(strict(50.0 + seed, seed), "2026-01-02") for seed in range(3)]
    for runs in ([*old, *new], [*new, *old]):
        (found,) = reproduce.figures(runs, papers(published()), ["gud"])
        assert found.ours is not None
        assert found.ours.mean == 51.0


def test_runs_that_failed_are_no_seeds_and_are_made_again(tmp_path: Path) -> None:
    nothing = {"status": "failed", "accuracy": None, "calibration": None}
    lost = [strict(50.0, seed).model_copy(update=nothing) for seed in range(5)]
    (found,) = reproduce.figures(lost, papers(published()), ["gud"])
    assert (found.seeds, found.verdict) == (0, "not run")
    assert len(reproduce.commands([found], reproduce.Args(out=tmp_path))) == 1
