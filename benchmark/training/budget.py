"""What of a run's budget is spent, and what that decides: when it ends, when it is scored, what a helper may take."""

import math
from dataclasses import dataclass

from benchmark.core.record import Asked
from benchmark.core.timing import Meter


@dataclass(frozen=True)
class Budget:
    """The budget of one run: training steps, passes through its network, or seconds on this machine."""

    asked: Asked

    def spent(self, step: int, meter: Meter) -> float:
        """The share that is used up after so many steps; 1 or more ends the run. Set-up counts under `passes` and
        `time`."""
        asked, recipe = self.asked, self.asked.recipe
        if asked.budget == "steps":
            return step / recipe.steps
        if asked.budget == "passes":
            return meter.passes() / (recipe.steps * recipe.batch_size)
        assert asked.seconds is not None
        return (meter.total() + meter.seconds["setup"]) / asked.seconds

    def due(self, share: float) -> int:
        """How often a run is to have been scored once this share is spent."""
        evaluations = self.asked.recipe.evaluations
        return min(evaluations, math.floor(share * evaluations + 1e-9))

    def helper_steps(self, passes: float) -> int:
        """Training steps of the network that a method may ask for beside its own. passes: of the method, for a step.

        Where the cost is equal for all, the helper may not eat it up: it gets what one of the method's passes gets.
        """
        steps = self.asked.recipe.steps
        return steps if self.asked.budget == "steps" else max(1, int(steps / (passes + 1)))
