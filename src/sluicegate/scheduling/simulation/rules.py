"""The orders that ours is compared with, behind the one face that `FairQueue` has."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Protocol, assert_never

from sluicegate.scheduling.fairness import FairQueue, QueuedJob
from sluicegate.scheduling.simulation.scenario import Variant


class Rule(Protocol):
    """Which job next, for one pool. The calls are those of `FairQueue`."""

    def submit(self, job: QueuedJob, now: float, *, weight: float = 1.0, max_running: int | None = None) -> None:
        """A new job."""
        ...

    def claim(self, models: Collection[str], loaded: Collection[str], now: float) -> QueuedJob | None:
        """The next job for a worker."""
        ...

    def end(self, job: QueuedJob, actual: float, now: float) -> None:
        """A claimed job has ended."""
        ...

    def give_back(self, job: QueuedJob, now: float, *, later: bool = False) -> None:
        """A claimed job was lost; it waits again."""
        ...

    def promote(self, job: QueuedJob, now: float) -> None:
        """A job's back-off is over."""
        ...

    def drop(self, job: QueuedJob) -> None:
        """A job that waits is withdrawn."""
        ...


Key = tuple[float, str]
"""What comes first; the job's id breaks ties."""
Order = Callable[[QueuedJob, float, bool], Key]
"""A job's key by the job, its tenant's weight, and whether its model is loaded."""


def by_age(job: QueuedJob, weight: float, is_loaded: bool) -> Key:
    """First come, first served."""
    return (0.0, job.id)


def by_tier(job: QueuedJob, weight: float, is_loaded: bool) -> Key:
    """The heaviest tier that has anything, always; inside it by age."""
    return (-weight, job.id)


def by_model(job: QueuedJob, weight: float, is_loaded: bool) -> Key:
    """What needs no change of model, always; then by age."""
    return (0.0 if is_loaded else 1.0, job.id)


def new_rule(variant: Variant) -> Rule:
    """The rule that a variant names."""
    match variant.rule:
        case "fifo":
            return SortedQueue(by_age)
        case "tiers":
            return SortedQueue(by_tier)
        case "greedy":
            return SortedQueue(by_model)
        case "ours":
            return FairQueue(variant.policy)
        case _:
            assert_never(variant.rule)


@dataclass(slots=True)
class _Tenant:
    weight: float = 1.0
    max_running: int | None = None
    running: int = 0
    lanes: dict[str, list[tuple[str, QueuedJob]]] = field(default_factory=dict)
    """Waiting jobs by model, as heaps by id."""


class SortedQueue:
    """Any order by a key of the job alone: no memory of what a tenant has had. Tenants' caps are kept."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._tenants: dict[str, _Tenant] = {}
        self._dropped: set[str] = set()

    def submit(self, job: QueuedJob, now: float, *, weight: float = 1.0, max_running: int | None = None) -> None:
        """A new job; the tenant's weight and cap are as they are now."""
        tenant = self._tenants.setdefault(job.tenant, _Tenant())
        tenant.weight, tenant.max_running = weight, max_running
        self._push(job)

    def claim(self, models: Collection[str], loaded: Collection[str], now: float) -> QueuedJob | None:
        """The job with the least key among those that the worker serves and whose tenant is below its cap."""
        best: tuple[Key, list[tuple[str, QueuedJob]]] | None = None
        for tenant in self._tenants.values():
            if tenant.max_running is not None and tenant.running >= tenant.max_running:
                continue
            for model, lane in tenant.lanes.items():
                self._clear(lane)
                if lane and model in models:
                    key = self._order(lane[0][1], tenant.weight, model in loaded)
                    if best is None or key < best[0]:
                        best = (key, lane)
        if best is None:
            return None
        job = heappop(best[1])[1]
        self._tenants[job.tenant].running += 1
        return job

    def end(self, job: QueuedJob, actual: float, now: float) -> None:
        """A claimed job has ended."""
        self._tenants[job.tenant].running -= 1

    def give_back(self, job: QueuedJob, now: float, *, later: bool = False) -> None:
        """A claimed job was lost; it waits again at its old place, at once or after `promote`."""
        self._tenants[job.tenant].running -= 1
        if not later:
            self._push(job)

    def promote(self, job: QueuedJob, now: float) -> None:
        """A job's back-off is over."""
        self._push(job)

    def drop(self, job: QueuedJob) -> None:
        """A job that waits is withdrawn."""
        self._dropped.add(job.id)

    def _push(self, job: QueuedJob) -> None:
        heappush(self._tenants[job.tenant].lanes.setdefault(job.model, []), (job.id, job))

    def _clear(self, lane: list[tuple[str, QueuedJob]]) -> None:
        while lane and lane[0][0] in self._dropped:
            self._dropped.discard(heappop(lane)[0])
