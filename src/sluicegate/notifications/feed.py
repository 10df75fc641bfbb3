"""Following jobs: durable events in order, the latest progress between them, and waiting for an end.

Hints (`Signals`) make it prompt; polling makes it certain.
"""

import asyncio
from collections.abc import AsyncGenerator

from sluicegate.domain.clock import Clock
from sluicegate.domain.event import TERMINAL_EVENTS, JobEvent
from sluicegate.domain.ids import JobId, Tenant
from sluicegate.domain.job import TERMINAL, Job, Progress
from sluicegate.storage.contracts import JobStore, Signals

POLL_SECONDS = 0.5


class JobFeed:
    """One job's news, for SSE, WebSocket and waiting calls. `close` ends every follower (the process is stopping)."""

    def __init__(self, jobs: JobStore, signals: Signals, clock: Clock, *, poll_seconds: float = POLL_SECONDS) -> None:
        self._jobs = jobs
        self._signals = signals
        self._clock = clock
        self._poll_seconds = poll_seconds
        self._closing = asyncio.Event()

    async def follow(self, tenant: Tenant, job: JobId, after: int = 0) -> AsyncGenerator[JobEvent | Progress, None]:
        """Events with seq > `after`, without gap or repeat, and progress as it changes; ends with the job.

        Raises `UnknownJob`. When everything was already seen it ends at once.
        """
        last: Progress | None = None
        while not self._closing.is_set():
            seen = self._signals.version("events")
            current = await self._jobs.get(tenant, job)
            for event in await self._jobs.events(job, after):
                yield event
                after = event.seq
                if event.kind in TERMINAL_EVENTS:
                    return
            if current.state in TERMINAL:
                if not await self._jobs.events(job, after):
                    return
                continue
            if current.progress is not None and current.progress != last:
                last = current.progress
                yield last
            await self._pause(seen, self._poll_seconds)

    async def until_ended(self, tenant: Tenant, job: JobId, timeout: float) -> Job:
        """The job, once it has ended or after `timeout` seconds, whichever is first."""
        deadline = self._clock.monotonic() + timeout
        while True:
            seen = self._signals.version("events")
            current = await self._jobs.get(tenant, job)
            left = deadline - self._clock.monotonic()
            if current.state in TERMINAL or left <= 0 or self._closing.is_set():
                return current
            await self._pause(seen, min(left, self._poll_seconds))

    def close(self) -> None:
        """Let every follower end soon."""
        self._closing.set()
        self._signals.notify("events")

    async def _pause(self, seen: int, timeout: float) -> None:
        await self._signals.wait("events", seen, timeout)
