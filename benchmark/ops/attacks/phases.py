"""What GUD and ME-ADA share: the settings of phases in which pixel-space ascent lets a training pool grow."""

from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from benchmark.core.errors import UsageError
from benchmark.core.settings import frozen
from benchmark.core.work import Work
from benchmark.ops.attacks.pixel import PixelAttack


def _named(clip: object) -> object:
    """True and False are what `clip` was before it had names."""
    return {True: "step", False: "never"}[clip] if isinstance(clip, bool) else clip


Clip: TypeAlias = Annotated[Literal["never", "end", "step"], BeforeValidator(_named)]


@frozen()
class PixelPhases:
    """Settings of the phases; the defaults are GUD's."""

    gamma: NonNegativeFloat = 1.0
    """Weight of the mean squared feature distance; a mean over the features (1,024 in the digits network), so its
    strength depends on their number."""
    eta: PositiveFloat = 1.0
    """Step size of the ascent in units of 1, before `batch_mean`."""
    adv_steps: PositiveInt = 15
    """T_adv: ascent steps per image and phase."""
    phases: NonNegativeInt = 6
    """k: how often the pool grows; 0 is ERM."""
    interval: PositiveInt = 100
    """T_min: training steps between phases."""
    batch: PositiveInt = 32
    """B: images of one attack batch. The last N0 mod B positions are never attacked, as released."""
    skip_last: bool = True
    """As released: where B divides N0, the last full batch is not attacked either. False: it is."""
    batch_mean: Literal["reference", "per_image"] = "reference"
    """reference: the objective is a batch mean, so an image moves by eta/B times the gradient of its own objective.
    per_image: by eta times that gradient, whatever the batch."""
    clip: Clip = "never"
    """When adversarial images are cut to [0,1]: never, as GUD is released; once at the end of the ascent, as ME-ADA is;
    or after every step. True and False mean step and never."""
    entropy: NonNegativeFloat = 0.0
    """Weight of the entropy of the prediction, which ME-ADA adds to the objective and calls eta; 0 is GUD."""

    @property
    def ascent(self) -> PixelAttack:
        b = self.batch if self.batch_mean == "reference" else 1
        by_step, at_end = self.clip == "step", self.clip == "end"
        return PixelAttack(self.adv_steps, self.eta, self.gamma, 0.0, b, by_step, self.entropy, at_end)

    def attacked(self, source: int) -> int:
        """How many positions of the pool a phase attacks, for a source of so many images: whole batches."""
        return max(source - self.skip_last, 0) // self.batch * self.batch

    def due(self, step: int) -> bool:
        """Whether a phase comes before this step: before T_min - 1, 2 T_min - 1, ..., k T_min - 1."""
        phase, rest = divmod(step + 1, self.interval)
        return not rest and phase <= self.phases

    def work(self, steps: int, images: int) -> Work:
        phases = min(self.phases, steps // self.interval)
        return Work(1, attacked=phases * self.attacked(images) * self.ascent.passes)

    def check(self, name: str, source: int) -> None:
        """Raises UsageError where a source of so many images has no batch to attack."""
        if self.phases and not self.attacked(source):
            less = ", less the last (skip_last)" if source >= self.batch else ""
            raise UsageError(
                f"{name} attacks full batches of {self.batch}{less}, and the source has {source} images: "
                f"lower {name}.batch"
            )
