"""Budgets by hand: what is spent of them, when a run is scored, and what its helper network gets."""

import pytest
import torch

from benchmark import registry
from benchmark.core.timing import Meter
from benchmark.training.budget import Budget
from benchmark.training.evaluate import Evaluator
from benchmark.training.progress import begin
from tests import toy


def meter(forward: int = 0, backward: int = 0, **seconds: float) -> Meter:
    """A meter that has counted this."""
    made = Meter(torch.device("cpu"))
    made.counted.forward[16], made.counted.backward[16] = forward, backward
    made.seconds.update(seconds)
    return made


@pytest.mark.parametrize(
    ("budget", "spent"),
    [
        ("steps", 3 / 8),
        ("passes", (48 + 2 * 30) / 3 / (8 * 16)),  # images, of which a step takes 16
        ("time", (0.5 + 0.25 + 1.0) / 7),  # set-up counts, evaluation does not
    ],
)
def test_the_share_that_is_spent(budget: str, spent: float) -> None:
    asked = toy.asked(steps=8, budget=budget, seconds=7.0 if budget == "time" else None)
    counted = meter(48, 30, augment=0.5, forward_backward=0.25, setup=1.0, evaluate=9.0)
    assert Budget(asked).spent(3, counted) == pytest.approx(spent)


def test_evaluations_come_due_evenly_and_never_more_than_asked_for() -> None:
    budget = Budget(toy.asked(evaluations=3))
    assert [budget.due(share) for share in (0, 0.33, 1 / 3, 0.66, 2 / 3, 0.99, 1, 1.7)] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert [Budget(toy.asked(evaluations=10)).due(step / 10) for step in range(11)] == list(range(11))


@pytest.mark.parametrize(("budget", "steps"), [("steps", 8), ("passes", 2), ("time", 2)])
def test_a_helper_gets_what_one_of_the_methods_passes_gets(budget: str, steps: int) -> None:
    asked = toy.asked(steps=8, budget=budget, seconds=1.0 if budget == "time" else None)
    assert Budget(asked).helper_steps(3.0) == steps
    assert Budget(asked).helper_steps(100.0) == (8 if budget == "steps" else 1)


def test_an_evaluation_is_foreseen_where_the_last_steps_length_leads_to_one() -> None:
    asked = toy.asked(steps=10, evaluations=2)
    method = registry.make("method", "erm", {})
    run = begin(asked, method, toy.loaded())
    evaluator = Evaluator(run, method, toy.loaded(), Budget(asked))
    assert [evaluator.foreseen(share) for share in (0.0, 0.1, 0.2, 0.3, 0.4)] == [False, False, False, False, True]
    assert [evaluator.due(share) for share in (0.4, 0.5)] == [False, True]
    run.step = 5
    evaluator.score(0.5)
    assert (run.curve[0]["step"], run.curve[0]["progress"]) == (5, 0.5)
    assert not evaluator.foreseen(0.5)
    assert run.best.keys() == run.net.state_dict().keys()
