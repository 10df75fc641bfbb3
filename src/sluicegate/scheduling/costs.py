"""What a job will cost, in reference seconds: estimated at submission, never given by the caller.

``c = κ·[fixed + n·(step·steps·strength·order·(2 if guidance > 1)·MP^exponent + pixel·MP)]``, within the bounds of the
policy. The numbers are the model's own (`CostModel`); κ corrects them by what jobs of the same model and task did cost.

The estimate does not fall when n, steps or size rise, and n pictures in one job never cost more than in several.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from sluicegate.domain.clock import Clock
from sluicegate.domain.fairness import CALIBRATION_BOUNDS, Policy
from sluicegate.domain.generation import CostModel, ImageToImage, ModelCard, Task, TaskInput, TextToImage
from sluicegate.scheduling.freshness import Fresh
from sluicegate.storage.contracts import JobStore

MEGAPIXEL: Final = 2**20
REFRESH_SECONDS: Final = 5.0
_GUESS: Final = CostModel()


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """An estimate, in reference seconds."""

    base: float
    """Before calibration."""
    estimate: float
    """After it, as large as it may be: what a tier's `max_cost` is held against."""
    counted: float
    """Within the policy's bounds: what the queue counts."""


def base_cost(card: ModelCard, task: Task, asked: TaskInput, pixels: int | None = None) -> float:
    """The estimate before calibration; `pixels` (width × height) are those of the picture that comes with the job."""
    model = _cost_model(card, task, asked)
    megapixels = _megapixels(card, model, asked, pixels)
    count, evaluations = 1, float(model.order * model.usual_steps)
    if card.steps is not None and isinstance(asked, TextToImage | ImageToImage):
        count = asked.n
        evaluations = float(model.order * (asked.steps or model.usual_steps))
        if model.guidance_doubles and (asked.guidance is None or asked.guidance > 1):
            evaluations *= 2
        if model.strength_shortens and isinstance(asked, ImageToImage):
            evaluations *= card.strength if asked.strength is None else asked.strength
    seen = megapixels if model.most_megapixels is None else min(megapixels, model.most_megapixels)
    each: float = model.step * evaluations * seen**model.exponent + model.pixel * megapixels
    return model.fixed + count * each


def _cost_model(card: ModelCard, task: Task, asked: TaskInput) -> CostModel:
    usual = card.costs.get(task, _GUESS)
    if getattr(asked, "style_image", None) is None:
        return usual
    return card.costs.get(f"{task} with style_image", usual)


def _megapixels(card: ModelCard, model: CostModel, asked: TaskInput, pixels: int | None) -> float:
    """The size of one picture: that of the one that came, unless the model chooses among sizes of its own."""
    if pixels is not None and not card.sizes:
        return pixels / MEGAPIXEL
    if isinstance(asked, TextToImage | ImageToImage) and (asked.width or asked.height):
        width, height = asked.width or asked.height or 0, asked.height or asked.width or 0
        return width * height / MEGAPIXEL
    return model.usual_megapixels


class Costs:
    """Estimates, corrected by what the store has learnt from ended jobs.

    What was learnt is read again every few seconds, beside a submission that does not wait for it. While the store is
    away the last values hold, and 1 where there are none.
    """

    def __init__(self, jobs: JobStore, policy: Policy, clock: Clock) -> None:
        self._policy = policy
        self._learnt = Fresh[Mapping[tuple[str, str], float]](jobs.calibrations, clock, seconds=REFRESH_SECONDS)

    async def estimate(self, card: ModelCard, task: Task, asked: TaskInput, pixels: int | None = None) -> Cost:
        """What the job will cost. Raises nothing: without the store, the model's own numbers do."""
        base = base_cost(card, task, asked, pixels)
        least, most = CALIBRATION_BOUNDS
        learnt = await self._learnt.get()
        kappa = 1.0 if learnt is None else learnt.value.get((card.id, task), 1.0)
        estimate = base * min(max(kappa, least), most)
        return Cost(base=base, estimate=estimate, counted=self._policy.clamp(estimate))
