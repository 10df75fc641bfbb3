"""Shedding: a job that cannot end by its deadline is refused at the door, before it costs anybody anything."""

from typing import Final

from sluicegate.errors import StoreUnavailable, TooLate
from sluicegate.scheduling.forecast import Applicant, Outlook, Outlooks
from sluicegate.storage.contracts import JobQuery, JobStore

LONGEST_RETRY_SECONDS: Final = 3_600.0
BENEFIT_OF_DOUBT: Final = 0.8
"""Share of a predicted wait that is held against a deadline: where the forecast is unsure, the job is taken."""
_SAMPLE: Final = 50
"""So many of the tenant's youngest waiting jobs tell how many of all would go first."""


class Shedding:
    """Refuses what is too late, and says when to come back. While the store is away it refuses nothing."""

    def __init__(self, outlooks: Outlooks, jobs: JobStore) -> None:
        self._outlooks = outlooks
        self._jobs = jobs

    async def check(self, new: Applicant, *, priority: int, deadline_seconds: float | None) -> None:
        """Raises `TooLate` for a job that could not end within `deadline_seconds` of now for all that is ahead of it.

        A job that would start at once is never refused, nor one that no live worker serves yet.
        """
        if deadline_seconds is None:
            return
        expected = await self._expected(new, own_ahead=None)
        if expected is not None and _is_late(expected, new.cost, deadline_seconds):
            # Before refusing look closer: the queue may be shorter now, and not all of the tenant's jobs go before.
            own_ahead = await self._own_ahead(new, priority)
            expected = None if own_ahead is None else await self._expected(new, own_ahead=own_ahead)
        if expected is None or expected.starts_in is None or not _is_late(expected, new.cost, deadline_seconds):
            return
        surplus = expected.starts_in - _room(new.cost, deadline_seconds)
        raise TooLate(
            f"the job would start in about {expected.starts_in:.0f} s, behind {(expected.queue_position or 1) - 1} "
            f"others, and take {new.cost:.3g} s: too late for its deadline in {deadline_seconds:g} s; "
            "come back later, or give it more time",
            retry_after=min(max(surplus, 1.0), LONGEST_RETRY_SECONDS),
            details={"expected_start_seconds": expected.starts_in},
        )

    async def until_one_starts(self, new: Applicant, *, otherwise: float | None) -> float | None:
        """Seconds until the next of the tenant's waiting jobs is expected to start, which makes room for another."""
        expected = await self._expected(new, own_ahead=0)
        if expected is None or expected.starts_in is None:
            return otherwise
        return min(max(expected.starts_in, 1.0), LONGEST_RETRY_SECONDS)

    async def _expected(self, new: Applicant, *, own_ahead: int | None) -> Outlook | None:
        latest = await self._outlooks.latest()
        if latest is None:
            return None
        forecast, age = latest
        return forecast.of_new(new, own_ahead=own_ahead, age=age)

    async def _own_ahead(self, new: Applicant, priority: int) -> int | None:
        """How many of the tenant's own waiting jobs would go before a new one of this priority, from a sample.
        None: the store does not answer."""
        latest = await self._outlooks.latest(newest=True)
        waiting = 0 if latest is None else latest[0].waiting(new.pool, new.tenant)
        try:
            sample = await self._jobs.list(new.tenant, JobQuery(status="queued", limit=_SAMPLE))
        except StoreUnavailable:
            return None
        here = [job for job in sample if job.pool == new.pool]
        if not here:
            return 0
        first = sum(job.priority >= priority for job in here)
        return first if waiting <= len(here) else round(waiting * first / len(here))


def _is_late(expected: Outlook, cost: float, deadline_seconds: float) -> bool:
    """Whether the wait takes the job past its deadline."""
    return expected.starts_in is not None and expected.starts_in * BENEFIT_OF_DOUBT > _room(cost, deadline_seconds)


def _room(cost: float, deadline_seconds: float) -> float:
    """How long the job may wait. One that seems longer than its deadline by itself may wait until then: it is not the
    queue that makes it late, and its cost is an estimate."""
    return deadline_seconds - cost if cost < deadline_seconds else deadline_seconds
