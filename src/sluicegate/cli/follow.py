"""Following one job to its end: events as they come, resumed when the connection breaks, polling in between."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field

from sluicegate.cli.client import Client, Json, Unreachable
from sluicegate.cli.events import ServerEvent
from sluicegate.cli.terminal import Failure

ENDED = frozenset({"succeeded", "failed", "canceled", "expired"})
LOOK_SECONDS = 1.0
"""How often a waiting job's place in the queue is looked up: no event tells of it."""
FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 5.0
MOST_FAILURES = 10
"""Looks in a row without an answer (about 35 s) before following is given up."""


@dataclass(slots=True)
class Follower:
    """Follows one job. `pause` is how it waits between attempts."""

    client: Client
    job: Json
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    _last_id: str = field(default="", init=False)
    _news: bool = field(default=False, init=False)

    async def snapshots(self) -> AsyncGenerator[Json, None]:
        """The job now, and again at each change, until it has ended. Raises `Failure` when the gateway stays away."""
        yield self.job
        failures = 0
        while not self._ended:
            self._news = False
            try:
                async for job in self._listen():
                    yield job
                if not self._ended:
                    self.job = await self.client.job(self.job["id"])
                    yield self.job
                failures = 1 if not self._news else 0
            except Unreachable as error:
                failures = failures + 1 if not self._news else 1
                if failures >= MOST_FAILURES:
                    raise self._given_up(error) from error
            if not self._ended:
                await self.pause(min(FIRST_PAUSE_SECONDS * 2.0**failures, LONGEST_PAUSE_SECONDS))

    @property
    def _ended(self) -> bool:
        return self.job["status"] in ENDED

    async def _listen(self) -> AsyncGenerator[Json, None]:
        """The job at each event of one connection."""
        events = self.client.events(self.job["id"], self._last_id)
        try:
            async for event in _with_looks(events, LOOK_SECONDS):
                if event is not None:
                    self._last_id, self._news = event.last_id, True
                    if self._took_progress(event):
                        yield self.job
                        continue
                elif self.job["status"] != "queued":
                    continue
                self.job = await self.client.job(self.job["id"])
                yield self.job
                if self._ended:
                    return
        finally:
            await events.aclose()

    def _took_progress(self, event: ServerEvent) -> bool:
        """Whether the event is mere progress of a running job: then no look at the job is needed."""
        if event.name != "job.progress":
            return False
        try:
            progress = json.loads(event.data)
        except ValueError:
            return False
        if not isinstance(progress, dict) or self.job["status"] != "running":
            return False
        self.job = {**self.job, "progress": {name: value for name, value in progress.items() if name != "job"}}
        return True

    def _given_up(self, error: Unreachable) -> Failure:
        job_id = self.job["id"]
        return Failure(f"{error.message}\n  the job is kept: sluicegate jobs watch {job_id}")


async def _with_looks(
    events: AsyncGenerator[ServerEvent, None], seconds: float
) -> AsyncGenerator[ServerEvent | None, None]:
    """The events as they come, and None whenever `seconds` pass without one."""
    pending: asyncio.Future[ServerEvent | None] | None = None
    try:
        while True:
            pending = pending or asyncio.ensure_future(anext(events, None))
            done, _ = await asyncio.wait({pending}, timeout=seconds)
            if not done:
                yield None
                continue
            event, pending = pending.result(), None
            if event is None:
                return
            yield event
    finally:
        if pending is not None:
            pending.cancel()
            await asyncio.wait({pending})
