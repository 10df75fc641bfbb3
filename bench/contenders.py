"""What is measured: every queue behind the same three calls, and Sluicegate's own two engines."""

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from bench.engines import Opened, postgresql, sqlite

from sluicegate.domain.ids import Tenant, WorkerId, new_job_id
from sluicegate.domain.job import Claim, NewJob
from sluicegate.storage.contracts import Signals, Store, Success

MODELS = tuple(f"model-{number}" for number in range(5))
TENANTS = tuple(Tenant(f"tenant-{number}") for number in range(50))
LEASE_SECONDS = 600.0
"""Longer than any measurement: nothing renews leases here."""
_PROMPT = (
    "a lighthouse on a cliff at dusk, long exposure, the beam crossing low clouds, painted in oil on a rough canvas"
)


def payload() -> dict[str, Any]:
    """What a job carries, the same for all: about 230 bytes of JSON."""
    return {"prompt": _PROMPT, "width": 512, "height": 512, "steps": 20, "seed": 7, "format": "png", "n": 1}


class Contender(Protocol):
    """A queue that is open. Callers are counted from 0."""

    name: str

    async def enqueue(self, caller: int) -> int:
        """Store jobs durably; how many."""
        ...

    async def take(self, caller: int) -> Sequence[Any]:
        """Take the next jobs; empty when none waits."""
        ...

    async def finish(self, caller: int, jobs: Sequence[Any]) -> None:
        """Record that the jobs succeeded."""
        ...


class Sluicegate:
    """Our queue: each submission also hints at work, as the gateway does.

    One store for all callers is one process, whose callers share transactions. A store for each caller is as many
    processes, which only compete.
    """

    def __init__(self, name: str, stores: Sequence[Store], signals: Signals) -> None:
        self.name = name
        self._stores = stores
        self._signals = signals
        self._turns = itertools.count()

    async def enqueue(self, caller: int) -> int:
        """Submit one job of the next tenant."""
        turn = next(self._turns)
        job = NewJob(
            id=new_job_id(),
            tenant=TENANTS[turn % len(TENANTS)],
            model=MODELS[turn // len(TENANTS) % len(MODELS)],
            task="text-to-image",
            input=payload(),
        )
        await self._store(caller).submit(job)
        self._signals.notify("jobs", "events")
        return 1

    async def take(self, caller: int) -> Sequence[Claim]:
        """Claim the next job, by the fair rule, with one model loaded."""
        worker = WorkerId(f"worker-{caller}")
        loaded = MODELS[caller % len(MODELS)]
        claim = await self._store(caller).claim(worker, MODELS, LEASE_SECONDS, loaded=(loaded,))
        return [] if claim is None else [claim]

    async def finish(self, caller: int, jobs: Sequence[Claim]) -> None:
        """Record success: result, charge, attempt and event."""
        for claim in jobs:
            done = Success(outputs=(), backend="bench", execution_seconds=1.0, cost=1.0)
            assert await self._store(caller).succeed(claim.lease, done), "the lease was stale"

    def _store(self, caller: int) -> Store:
        return self._stores[caller % len(self._stores)]


@asynccontextmanager
async def on_sqlite(folder: Path, *, stores: int = 1) -> AsyncIterator[Contender]:
    """Sluicegate on a new SQLite file."""
    async with sqlite(folder / "store.db") as opened, _others(opened, stores - 1) as others:
        yield Sluicegate(_name("SQLite", stores), [opened.store, *others], opened.signals)


@asynccontextmanager
async def on_postgresql(url: str, *, stores: int = 1) -> AsyncIterator[Contender]:
    """Sluicegate on the empty database at `url`."""
    async with postgresql(url) as opened, _others(opened, stores - 1) as others:
        yield Sluicegate(_name("PostgreSQL", stores), [opened.store, *others], opened.signals)


@asynccontextmanager
async def _others(opened: Opened, count: int) -> AsyncIterator[Sequence[Store]]:
    """More stores on the same database."""
    async with AsyncExitStack() as stack:
        stores = [opened.another() for _ in range(count)]
        for store in stores:
            await store.open()
            stack.push_async_callback(store.close)
        yield stores


def _name(engine: str, stores: int) -> str:
    return f"sluicegate, {engine}" + (", a store a caller" if stores > 1 else "")
