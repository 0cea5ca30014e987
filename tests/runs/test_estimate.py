"""Estimates of runs from records made by hand: what is counted, and which record tells most."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark import registry
from benchmark.core.errors import UsageError
from benchmark.core.record import Asked, Record
from benchmark.core.timing import SHARES
from benchmark.core.work import Work
from benchmark.runs import counts, estimate, machine, trial
from benchmark.runs.job import Job
from benchmark.runs.shared import Facts
from benchmark.runs.store import Store
from tests import toy
from tests.handmade import record

FACTS = Facts("0" * 16, 32, 32, 1000, 100, 200)
NAME = "a processor"


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine is the one that made the records, with one thread."""
    monkeypatch.setattr(machine, "device_name", lambda _: NAME)
    monkeypatch.setattr(machine, "threads_of", lambda _: 1)


def made(
    method: str = "erm",
    steps: int = 100,
    *,
    threads: int = 1,
    setup: float = 0.0,
    phases: float = 0.0,
    **changes: object,
) -> Record:
    """A run of 10 ms a step whose three evaluations took 3 s. phases: seconds that they took beside the steps."""
    settings = registry.make("method", method, {}).settings()
    asked: dict[str, Any] = {"settings": settings, "steps": steps, "evaluations": 3} | changes
    found = record(method, 0, **asked)
    train = steps / 100 + phases
    shares = dict.fromkeys(SHARES, 0.0) | {"attack": phases / train, "forward_backward": 1 - phases / train}
    assert found.throughput is not None
    cost = found.throughput.model_copy(update={"setup_seconds": setup, "train_seconds": train, "shares": shares})
    ran = found.ran.model_copy(
        update={"seconds": setup + train + 3.0, "machine": found.ran.machine | {"threads": threads}}
    )
    return found.model_copy(update={"throughput": cost, "ran": ran, "steps": steps})


def said(like: Record, records: list[Record], **changes: object) -> counts.Parts:
    """The estimate of a run like this one except for its recipe."""
    recipe = like.asked.recipe.model_copy(update=changes)
    return estimate.of_run(like.asked.model_copy(update={"recipe": recipe}), FACTS, records)


def test_steps_and_evaluations_are_scaled_each_by_its_own_number() -> None:
    known = made(steps=100)
    found = said(known, [known], steps=10_000, evaluations=6)
    assert (found.setup, found.phases) == (0, 0)
    assert found.steps == pytest.approx(100)
    assert found.scoring == pytest.approx(6)
    assert found.training == pytest.approx(106)


def test_a_run_is_not_evaluated_more_often_than_it_has_steps() -> None:
    known = made(steps=100)
    assert said(known, [known], steps=2, evaluations=5) == said(known, [known], steps=2, evaluations=2)


def test_a_map_costs_its_forward_passes_at_the_price_of_scoring() -> None:
    known = made()
    without, with_map = (said(known, [known], sensitivity_images=n).closing for n in (0, 50))
    assert with_map - without == pytest.approx(
        estimate.WAVE * 514 * 50 * 3.0 / (3 * 300)
    )  # 32x32 pixels: 514 pairs of frequencies


def test_phases_are_scaled_by_what_they_attack() -> None:
    settings = registry.make("method", "gud", {"phases": 4, "interval": 50}).settings()
    known = made("gud", steps=100, phases=6.0, settings=settings)  # two phases
    found = said(known, [known], steps=1000)
    assert found.phases == pytest.approx(12)
    assert found.steps == pytest.approx(10)


def test_a_helper_network_grows_with_the_run_and_its_map_does_not() -> None:
    known = made("sada", steps=100, setup=5.0)
    passes = 100 * 16, 514 * 100 / 3
    assert said(known, [known], steps=1000).setup == pytest.approx(5 * (10 * passes[0] + passes[1]) / sum(passes))


def test_the_slow_first_steps_are_counted_once() -> None:
    known = made(steps=100)
    assert known.throughput is not None
    steady = known.throughput.model_copy(update={"steady_images_per_second": 3200.0})  # 5 ms a step
    assert said(known, [known.model_copy(update={"throughput": steady})], steps=1100).steps == pytest.approx(1 + 5)


def test_the_nearest_length_on_this_machine_tells_most() -> None:
    near, far = made(steps=100), made(steps=2000)
    slow = made(steps=150, threads=2)
    assert estimate.nearest(made(steps=200).asked, [far, near, slow]) == [near]
    assert estimate.nearest(made(steps=200).asked, [slow]) == [slow]
    longer = made(steps=2500)  # 2.5 times as long, and the other a tenth
    assert estimate.nearest(made(steps=1000).asked, [made(steps=100), longer]) == [longer]
    elsewhere = near.model_copy(update={"ran": near.ran.model_copy(update={"device_name": "another processor"})})
    assert estimate.nearest(made(steps=200).asked, [elsewhere]) == []


@pytest.mark.parametrize(
    "changes",
    [
        *({"network": "digits_convnet"}, {"batch_size": 8}, {"source": "shifted"}),
        *({"precision": "bf16"}, {"dataset_settings": {"size": 9}}, {"settings": {"k": 3}}),
    ],
)
def test_other_networks_batches_precisions_images_and_settings_tell_nothing(changes: dict[str, object]) -> None:
    assert estimate.nearest(made().asked, [made(**changes)]) == []  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["randconv", "mada"])
def test_records_that_were_stored_tell_as_much(method: str) -> None:
    """RandConv has a tuple of kernel sizes, which a file holds as a list."""
    run = made(method)
    assert said(run, [Record.model_validate_json(run.model_dump_json())], steps=200) == said(run, [run], steps=200)


def test_a_method_without_records_costs_its_passes_at_the_price_of_erm() -> None:
    found = said(made("randconv", steps=1000), [made(steps=100)], evaluations=1)
    assert found.steps == pytest.approx(30)  # three passes a step
    assert found.scoring == pytest.approx(1)


def test_a_budget_in_seconds_is_what_training_takes() -> None:
    known = made("sada", steps=100, setup=5.0)
    asked = known.asked.model_copy(update={"budget": "time", "seconds": 60.0})
    found = estimate.of_run(asked, FACTS, [known])
    assert found.training == pytest.approx(63)
    other = made("randconv").asked.model_copy(update={"budget": "time"})
    short, long = (
        estimate.of_run(other.model_copy(update={"seconds": seconds}), FACTS, [made()]) for seconds in (60.0, 6000.0)
    )
    assert (short.scoring, short.closing) == pytest.approx((long.scoring, long.closing))  # the price of ERM's step


def test_a_budget_in_passes_gives_a_dear_method_fewer_steps() -> None:
    asked = made("randconv", steps=300).asked.model_copy(update={"budget": "passes"})
    assert estimate.of_run(asked, FACTS, [made("randconv", steps=100)]).steps == pytest.approx(1)


def test_passes_are_as_near_as_the_steps_that_they_give() -> None:
    asked = made("randconv", steps=300).asked.model_copy(update={"budget": "passes"})
    same, thrice = made("randconv", steps=100), made("randconv", steps=300)
    assert same.throughput is not None
    cost = same.throughput.model_copy(update={"passes_per_image": 3.0})
    same, thrice = (each.model_copy(update={"throughput": cost}) for each in (same, thrice))
    assert estimate.nearest(asked, [thrice, same]) == [same]


def test_a_floor_of_a_slow_network_is_timed_for_seconds_and_not_for_so_many_images() -> None:
    asked = made(batch_size=4).asked
    assert estimate._floor(asked, 0.001) == pytest.approx(1.5)
    assert estimate._floor(asked, 0.5) == pytest.approx(8 + 4 * 4 * 0.5)


def test_a_map_costs_the_same_by_passes_as_by_records() -> None:
    known, plain = made(steps=1000, sensitivity_images=100), made(steps=1000, sensitivity_images=0)
    own = said(known, [known]).closing - said(plain, [known]).closing
    passes = (
        estimate.by_passes(known.asked, FACTS, [known]).closing
        - estimate.by_passes(plain.asked, FACTS, [known]).closing
    )
    assert passes == pytest.approx(own)
    assert own > 1


def test_runs_at_a_time_share_the_cores_and_a_gpu_is_one() -> None:
    assert estimate.at_a_time([10, 20, 30], 1, 2, gpu=False) == 60
    assert estimate.at_a_time([10, 20, 30], 2, 2, gpu=False) == 30
    assert estimate.at_a_time([10, 20, 30], 8, 2, gpu=False) == 30
    assert estimate.at_a_time([10, 20, 100], 2, 2, gpu=False) == 100  # the longest alone
    assert estimate.at_a_time([10, 20, 30], 2, 16, gpu=True) == 60
    assert estimate.at_a_time([], 2, 2, gpu=False) == 0


def test_records_that_cannot_be_read_stop_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(self: Store) -> list[Record]:
        raise UsageError("damaged")

    monkeypatch.setattr(Store, "read_all", damaged)
    assert estimate.estimate([], Store(tmp_path)) == {}


@pytest.mark.parametrize("name", ["erm", "sada", "mada"])
def test_a_trial_takes_steps_of_each_kind_and_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method = replace(registry.make("method", name, {}), **registry.find("method", name).toy)
    data, state = toy.loaded(), torch.get_rng_state()
    found = trial.tried(toy.asked(name, settings=method.settings()), method, data)
    assert min(found.step, found.setup) > 0
    assert found.pool == 64
    assert (found.per_image > 1) is (name == "sada")
    assert torch.equal(torch.get_rng_state(), state)


def test_bare_passes_are_timed_at_the_precision_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []
    monkeypatch.setattr(trial, "accuracy", lambda net, images: used.append(net.precision))
    monkeypatch.setattr(trial, "_seconds", lambda work, device: (work(), 1.0)[1])
    asked, trials = toy.asked("erm"), estimate.Trials()
    for kind in ("fp32", "bf16", "fp32"):
        trials.prices(asked.recipe.model_copy(update={"precision": kind}), FACTS, torch.device("cpu"))
    assert used == ["fp32", "bf16"]


def test_sources_and_seeds_share_a_trial_and_lengths_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    made_for = []

    def tried(asked: Asked, *_: object, **__: object) -> trial.Tried:
        made_for.append((asked.method, asked.source, asked.seed, asked.recipe.steps))
        return trial.Tried(step=1.0, per_image=1.0, setup=0.0, attack=0.0, pool=64)

    monkeypatch.setattr(trial, "tried", tried)
    monkeypatch.setattr(trial, "prices", lambda *_: trial.Prices(0.0, 0.0, 0.0))
    monkeypatch.setattr(estimate, "load_data", lambda *_: toy.loaded())
    job = Job(asked=toy.asked("erm"), command="", session="", out=Path(), data_dir=None)
    trials = estimate.Trials()
    found = []
    for source, seed, steps in [("a", 0, 10), ("b", 1, 10), ("b", 1, 20)]:
        asked = toy.asked("erm", source=source, seed=seed, steps=steps)
        found.append(estimate.of_run(asked, FACTS, [], job, trials).steps)
    assert made_for == [("erm", "a", 0, 10), ("erm", "b", 1, 20)]
    assert found == pytest.approx([10, 10, 20])


def test_a_kind_of_step_weighs_as_much_as_it_fills_of_the_run() -> None:
    method = registry.make("method", "sada", {"warmup": 0.2})
    kinds = trial.kinds(method, toy.asked("sada"), torch.device("cpu"))
    assert [weight for _, weight in kinds] == pytest.approx([0.2, 0.8])
    assert [share < 0.2 for share, _ in kinds] == [True, False]


def test_runs_that_differ_in_scoring_or_map_have_prices_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = made(steps=100)
    monkeypatch.setattr(Store, "read_all", lambda _: [known])
    monkeypatch.setattr(estimate, "data_facts", lambda *_: FACTS)

    def job(**changes: object) -> Job:
        asked = known.asked.model_copy(update={"recipe": known.asked.recipe.model_copy(update=changes)})
        return Job(asked=asked, command="", session="", out=tmp_path, data_dir=None)

    jobs = [job(evaluations=3), job(evaluations=6), job(sensitivity_images=50), job(selection="source-val-views")]
    plain, more, mapped, viewed = estimate.estimate(jobs, Store(tmp_path)).values()
    assert more - plain == pytest.approx(3)
    assert min(mapped, viewed) > plain


def test_what_a_method_adds_to_its_pool_belongs_to_the_phases() -> None:
    known = made("gud", steps=100, phases=6.0)
    assert known.throughput is not None
    shares = known.throughput.shares
    moved = {"shares": {**shares, "attack": 0.0, "expand": shares["attack"]}}
    adds = known.model_copy(update={"throughput": known.throughput.model_copy(update=moved)})
    assert said(known, [adds], steps=1000) == said(known, [known], steps=1000)


def test_validation_under_views_scores_the_source_once_more_for_each() -> None:
    """10 sets of views, and the images as they are; 100 for validation and 200 for the test."""
    asked = toy.asked(selection="source-val-views", evaluations=3)
    assert counts.counts(asked, FACTS).scoring == 3 * (11 * 100 + 200)


def by_trial(like: Record, records: list[Record], found: trial.Tried, prices: trial.Prices) -> counts.Parts:
    """The estimate of a run by a trial that found this, at these prices of bare passes."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(trial, "tried", lambda *_, **__: found)
        patched.setattr(trial, "prices", lambda *_: prices)
        patched.setattr(estimate, "load_data", lambda *_: toy.loaded())
        job = Job(asked=like.asked, command="", session="", out=Path(), data_dir=None)
        return estimate.of_run(like.asked, FACTS, records, job, estimate.Trials())


def test_a_trial_on_a_busy_machine_is_held_against_the_records_of_erm() -> None:
    """There ERM has 10 ms a step, and a trial of it takes 20 ms now."""
    now = trial.Tried(step=0.02, per_image=3.0, setup=0.0, attack=0.0, pool=64)
    found = by_trial(made("randconv"), [made()], now, trial.Prices(0.0, 0.0, 0.0))
    assert found.steps == pytest.approx(100 * 0.02 / 2)


def test_a_pass_that_does_not_fit_into_memory_leaves_the_estimate_to_records(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(trial, "prices", refuse)
    monkeypatch.setattr(estimate, "load_data", lambda *_: toy.loaded())
    like = made("randconv")
    job = Job(asked=like.asked, command="", session="", out=Path(), data_dir=None)
    assert estimate.of_run(like.asked, FACTS, [made()], job, estimate.Trials()).steps > 0


def test_scoring_costs_forward_passes() -> None:
    now = trial.Tried(step=0.0, per_image=1.0, setup=0.0, attack=0.0, pool=64)
    found = by_trial(made(), [], now, trial.Prices(passes=0.5, forward=0.01, wave=0.25))
    assert found.scoring == pytest.approx(3 * 300 * 0.01)


def working(monkeypatch: pytest.MonkeyPatch, **counted: Any) -> None:
    """From now on ERM says that it does this beside one loss a step."""
    monkeypatch.setattr(registry.find("method", "erm"), "work", lambda *_: Work(**counted))


def test_all_that_a_method_says_it_does_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 8 steps of 16 images in passes, the phases leave 100; there are 100 images for validation."""
    working(monkeypatch, attacked=28.0, encoded=50, encoded_later=30, mapped=1000)
    found = counts.counts(toy.asked(budget="passes", sensitivity_images=300), FACTS)
    assert (found.setup, found.steps, found.phases) == pytest.approx((514 * 100 / 3 + 50, 100, 28 + 10))
    assert found.closing == 514 * 100


def test_a_method_is_asked_for_its_work_in_the_steps_that_its_passes_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    method = registry.find("method", "randconv")  # three passes a step
    monkeypatch.setattr(method, "work", lambda self, steps, images: Work(attacked=steps))
    assert counts.work_of(toy.asked("randconv", budget="passes", steps=300), FACTS).attacked == 100
    assert counts.work_of(toy.asked("randconv", steps=300), FACTS).attacked == 300


def test_a_map_of_large_images_has_no_more_frequencies() -> None:
    assert counts.frequencies(replace(FACTS, height=224, width=224)) == counts.frequencies(FACTS) == 514


def test_threads_tell_nothing_of_a_run_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "device_of", lambda _: torch.device("cuda"))
    near, far = made(steps=100, threads=2, device="cuda"), made(steps=2000, device="cuda")
    assert estimate.nearest(made(steps=100, device="cuda").asked, [far, near]) == [near]


def test_every_length_tells_as_much_of_a_budget_in_seconds() -> None:
    asked = made().asked.model_copy(update={"budget": "time", "seconds": 60.0})
    known = [made(steps=100), made(steps=2000)]
    assert estimate.nearest(asked, known) == known


def test_phases_that_no_record_has_cost_their_passes_at_the_price_of_its_steps() -> None:
    """gud's first phase comes after 50 steps; in 10 ms steps of 16 images a pass takes 0.625 ms."""
    settings = registry.make("method", "gud", {"phases": 4, "interval": 50}).settings()
    short = made("gud", steps=40, settings=settings)
    found = said(short, [short], steps=1000)
    assert found.phases == pytest.approx(counts.counts(made("gud", 1000, settings=settings).asked, FACTS).phases / 1600)


FREE = trial.Prices(0.0, 0.0, 0.0)


def test_a_method_without_a_counted_pass_stops_no_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin's, which calls parts of the network itself; or whose own counts are none."""
    now = trial.Tried(step=0.02, per_image=0.0, setup=0.0, attack=0.0, pool=64)
    monkeypatch.setattr(registry.find("method", "erm"), "work", lambda _, steps, images: 5)
    assert by_trial(made(), [], now, FREE).steps == pytest.approx(100 * 0.02)
    known = made()
    assert known.throughput is not None
    none = known.model_copy(update={"throughput": known.throughput.model_copy(update={"passes_per_image": 0.0})})
    assert estimate.nearest(toy.asked(budget="passes"), [none]) in ([], [none])


def test_a_map_costs_waves_and_the_end_of_a_run_a_moment() -> None:
    now = trial.Tried(step=0.0, per_image=1.0, setup=0.0, attack=0.0, pool=64)
    found = by_trial(made(sensitivity_images=50), [], now, trial.Prices(passes=0.0, forward=0.01, wave=0.25))
    assert found.closing == pytest.approx(514 * 50 * 0.25 + estimate.CLOSING)


def test_a_trial_is_scaled_to_the_passes_of_all_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that it took may be cheaper ones."""
    working(monkeypatch, per_image=3.0)
    now = trial.Tried(step=0.02, per_image=1.0, setup=0.0, attack=0.0, pool=64)
    assert by_trial(made(), [], now, FREE).steps == pytest.approx(100 * 0.06)


def test_an_autoencoder_is_priced_by_its_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 of them take 6.4 s in the trial."""
    now = trial.Tried(step=0.0, per_image=1.0, setup=6.4, attack=0.5, pool=64)
    assert by_trial(made(), [], now, FREE).setup == pytest.approx(6.4)  # of whatever kind
    monkeypatch.setattr(
        registry.find("method", "erm"),
        "work",
        lambda _, steps, images: Work(attacked=8.0, encoded=images, encoded_later=50),
    )
    found = by_trial(made(), [], now, FREE)
    assert (found.setup, found.phases) == pytest.approx((100, 8 * 0.5 + 50 * 0.1))


def test_a_batch_of_another_size_has_prices_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "prices", lambda recipe, *_: trial.Prices(1 / recipe.batch_size, 0.0, 0.0))
    trials, device = estimate.Trials(), torch.device("cpu")
    found = [trials.prices(toy.asked(batch_size=size).recipe, FACTS, device).passes for size in (16, 32)]
    assert found == [1 / 16, 1 / 32]


def test_views_for_the_record_cost_a_step() -> None:
    """Beside writing it and 1500 bare passes, at 10 ms for 16 images."""
    known = made(sensitivity_images=0)
    assert said(known, [known]).closing == pytest.approx(0.2 + 1500 * 0.01 / 16 + 0.01)
