"""What a run does, counted: passes of its set-up, steps, phases, scoring and closing. estimate.py prices them."""

from dataclasses import dataclass

from benchmark import registry
from benchmark.core.record import Asked
from benchmark.core.work import Work
from benchmark.runs.shared import Facts
from benchmark.training.budget import Budget
from benchmark.training.evaluate import VIEWS

GRID = 32
"""Frequencies of a sensitivity map along an axis, at most."""


@dataclass(frozen=True)
class Parts:
    """Seconds, or counts, of the parts of a run."""

    setup: float
    steps: float
    phases: float
    scoring: float
    closing: float
    """The sensitivity map, the floor and the picture of views, which come after the training."""

    @property
    def training(self) -> float:
        """What a record calls its seconds."""
        return self.setup + self.steps + self.phases + self.scoring

    @property
    def total(self) -> float:
        return self.training + self.closing


def counts(asked: Asked, facts: Facts, steps: int | None = None) -> Parts:
    """What a run does. setup, steps, phases: in passes of an image; scoring and closing: in forward passes of one.

    steps: those that were done, where a budget in passes or seconds decided it.
    """
    recipe, work = asked.recipe, work_of(asked, facts, steps)
    method = registry.make("method", asked.method, asked.settings)
    per_image = work.per_image or method.passes
    waves = frequencies(facts)
    views = 1 + VIEWS if recipe.selection == "source-val-views" else 1
    helper = work.helpers * Budget(asked).helper_steps(method.passes) * recipe.batch_size
    return Parts(
        setup=helper + waves * min(work.mapped, facts.val) / 3 + work.encoded,
        steps=per_image * (steps * recipe.batch_size if steps else images_of_steps(asked, work, per_image)),
        phases=work.attacked + work.encoded_later / 3,
        scoring=min(recipe.evaluations, steps or recipe.steps) * (views * facts.val + facts.test),
        closing=waves * min(recipe.sensitivity_images, facts.val),
    )


def frequencies(facts: Facts) -> int:
    """Frequencies of a sensitivity map of square images."""
    return min(facts.height, GRID) ** 2 // 2 + 2


def images_of_steps(asked: Asked, work: Work, per_image: float) -> float:
    """Source images of all steps; of the budget in passes, what the phases leave."""
    whole_budget = asked.recipe.steps * asked.recipe.batch_size
    return whole_budget if asked.budget == "steps" else max(0.0, whole_budget - work.attacked) / per_image


def as_erm(asked: Asked) -> Asked:
    """The run of ERM that this one is held against."""
    return asked.model_copy(update={"method": "erm", "settings": {}, "variant": ""})


def work_of(asked: Asked, facts: Facts, steps: int | None = None) -> Work:
    """The method's own counts, at the steps that its budget allows; none where a plugin cannot say."""
    method, length = registry.make("method", asked.method, asked.settings), steps or asked.recipe.steps
    try:
        if asked.budget == "passes" and steps is None:
            length = max(1, round(length / method.passes))
        work = method.work(length, facts.images)
        return work if isinstance(work, Work) else Work()
    except Exception:  # noqa: BLE001 - a plugin's: an estimate stops nothing
        return Work()
