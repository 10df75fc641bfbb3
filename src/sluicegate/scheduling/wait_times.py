"""How long jobs waited for their first claim, told once for each job.

The claim happens in another process, perhaps on another machine. Every stored job was stored by exactly one gateway,
so that gateway looks for its start: no job is counted twice, however many gateways share the store. The times are the
store's own (`created_at`, `started_at`), so it does not matter when the look happens; it is lazy on purpose.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from sluicegate.domain.ids import JobId, Tenant
from sluicegate.domain.job import TERMINAL, Job
from sluicegate.errors import StoreUnavailable, UnknownJob
from sluicegate.observability.logs import Log
from sluicegate.storage.contracts import JobStore

MOST_AWAITED = 100_000
"""Jobs awaited at once; those that come while so many wait are not told."""
LOOK_SECONDS = 1.0
LOOKS = 100
"""Jobs looked at in a round, the one seen longest ago first."""


class WaitTimes:
    """Tells `observe(tier, seconds)` for each job of this gateway that a worker has begun."""

    def __init__(self, jobs: JobStore, observe: Callable[[str, float], None], *, most: int = MOST_AWAITED) -> None:
        self._jobs = jobs
        self._observe = observe
        self._most = most
        self._awaited: deque[tuple[Tenant, JobId]] = deque()
        self._log = Log("sluicegate.scheduling.wait_times")

    @property
    def awaited(self) -> int:
        """How many jobs are looked after."""
        return len(self._awaited)

    def expect(self, job: Job) -> None:
        """This gateway has just stored the job."""
        if len(self._awaited) < self._most:
            self._awaited.append((job.tenant, job.id))

    async def run(self) -> None:
        """Look for ever, a round a second."""
        while True:
            try:
                await self.look()
            except Exception:  # a defect in one round must not end all rounds
                self._log.error("a look for started jobs failed", trace=True)
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """One round: tell of those that have begun, and forget them and those that ended without."""
        for _ in range(min(LOOKS, len(self._awaited))):
            tenant, name = self._awaited.popleft()
            try:
                job = await self._jobs.get(tenant, name)
            except UnknownJob:
                continue
            except StoreUnavailable:
                self._awaited.append((tenant, name))
                return
            if job.started_at is not None:
                self._observe(job.tier, max(0.0, job.started_at - job.created_at))
            elif job.state not in TERMINAL:
                self._awaited.append((tenant, name))
