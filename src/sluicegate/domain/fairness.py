"""The words of the fair queue: what a tenant's tier grants, and the constants of the rule.

The rule itself is in `scheduling/fairness.py`; each storage engine follows it inside its claim.

Cost is counted in reference seconds: the time that the work takes on the reference device.
Virtual time is cost divided by the tenant's weight.
"""

from typing import Final

import msgspec

DEFAULT_POOL: Final = "default"
"""The pool of a backend that names none. Pools are classes of capability; each has a virtual clock of its own."""
LEAST_COST: Final = 0.1
"""No job counts as cheaper, in reference seconds."""
MOST_PREEMPTIONS: Final = 2
"""How often one job may be made to give way."""
CALIBRATION_RATE: Final = 0.1
"""Weight of the newest job in a model's moving average of actual over estimated cost."""
CALIBRATION_BOUNDS: Final = (0.25, 4.0)


class Tier(msgspec.Struct, frozen=True, kw_only=True):
    """What a group of tenants is granted. None means: no bound."""

    name: str = "free"
    weight: float = 1.0
    """Share of a busy pool, relative to other tenants."""
    concurrent_jobs: int | None = None
    """Jobs of one tenant that run at once, in each pool."""
    queued_jobs: int | None = None
    """Jobs of one tenant that wait, in each pool."""
    queued_cost: float | None = None
    """Reference seconds of one tenant's waiting work, in each pool."""
    max_cost: float | None = None
    """Reference seconds that one job may cost."""
    preemptible: bool = False
    """Whether running jobs may be made to give way to tenants that are far behind."""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """The constants of the rule. Times in seconds, costs in reference seconds."""

    swap_penalty: float = 20.0
    """Δ: how far behind (virtual seconds) a tenant must be before a worker changes its model for it.
    About twice what one change costs."""
    max_cost: float = 600.0
    """c_max: no job counts as dearer."""
    lane_wait: float = 120.0
    """A tenant's lane (its jobs for one model) unserved for longer goes before the tenant's other lanes."""
    guard: float = 300.0
    """G: a tenant unserved for longer may be served out of order."""
    guard_every: int = 8
    """At most one claim in so many goes out of order."""
    preempt_wait: float = 10.0
    """How long a tenant that is far behind waits before running work gives way; also how soon an expected free
    slot spares it."""
    preempt_progress: float = 0.5
    """Work that has come so far is not made to give way."""

    @property
    def setback(self) -> float:
        """How far behind the foremost tenant one goes whose job gave way: more than a change of model counts, so that
        the slot goes to another."""
        return self.swap_penalty + LEAST_COST

    def clamp(self, cost: float) -> float:
        """The cost, within [`LEAST_COST`, `max_cost`]."""
        return min(max(cost, LEAST_COST), self.max_cost)


def calibrated(kappa: float, base_cost: float, actual: float) -> float:
    """κ after one more job: the moving average of actual cost over uncalibrated estimate, within its bounds."""
    least, most = CALIBRATION_BOUNDS
    return min(max(kappa + CALIBRATION_RATE * (actual / max(base_cost, LEAST_COST) - kappa), least), most)
