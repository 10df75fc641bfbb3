"""How long one claim takes when much waits: 1 000, 100 000 and 1 000 000 queued jobs, and 10 000 tenants.

One caller claims, one job after the other, from a store of each depth in turn, so that a noisy moment hurts all
depths alike. After each kind of claim the jobs are handed back. Submissions, recorded ends and looks at a job follow.
"""

import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol

import msgspec
from bench.contenders import LEASE_SECONDS, payload
from bench.engines import Server, postgresql, sqlite
from bench.filling import MODELS, Depth, Run, SqliteRun, faults, fill
from bench.stopwatch import Spread, spread, stopped

from sluicegate.domain.fairness import Policy
from sluicegate.domain.ids import Tenant, WorkerId, new_job_id
from sluicegate.domain.job import Claim, NewJob
from sluicegate.storage.contracts import Store, Success

WORKER = WorkerId("worker-0")
WARM_UP = 20


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of claim."""

    name: str
    models: tuple[str, ...] = MODELS
    loaded: tuple[str, ...] = ()
    policy: Policy = Policy()

    def lasts(self, depth: Depth) -> int:
        """After how many claims the jobs are handed back, so that they do not run out."""
        return depth.jobs * len(self.models) // len(MODELS) * 4 // 5


KINDS = (
    Kind(name="2 of 20 models loaded", loaded=MODELS[:2]),
    Kind(name="no model loaded"),
    Kind(name="1 model served", models=MODELS[:1], loaded=MODELS[:1]),
    Kind(name="guard and late lanes due", policy=Policy(guard=0.0, guard_every=1, lane_wait=0.0), loaded=MODELS[:2]),
)


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """How long one operation took at one depth."""

    engine: str
    depth: Depth
    operation: str
    took: Spread


class Place(Protocol):
    """A filled store."""

    depth: Depth

    def open(self, policy: Policy) -> AbstractAsyncContextManager[Store]:
        """The store with a policy."""
        ...

    async def faults(self) -> dict[str, int]:
        """What is wrong in it."""
        ...


async def depth_on(
    server: Server | None, depths: Sequence[Depth], samples: int, *, advance: Callable[[str], None]
) -> Sequence[Timing]:
    """Time every kind of claim at every depth: on the server, or on SQLite when there is none."""
    engine = "SQLite" if server is None else "PostgreSQL"
    async with AsyncExitStack() as stack:
        places: list[Place] = []
        for depth in depths:
            advance(f"{engine}: filling {depth.jobs:,} jobs")
            filled = _sqlite_place(depth) if server is None else _postgresql_place(server, depth)
            places.append(await stack.enter_async_context(filled))
        timings: list[Timing] = []
        for kind in KINDS:
            advance(f"{engine}: {kind.name}")
            timings += await _claims(engine, places, kind, samples)
        advance(f"{engine}: other operations")
        timings += await _others(engine, places, samples)
        advance(f"{engine}: checking every counter")
        for place in places:
            wrong = await place.faults()
            assert not wrong, f"{engine} with {place.depth.jobs} jobs: {wrong}"
    return timings


async def _claims(engine: str, places: Sequence[Place], kind: Kind, samples: int) -> Sequence[Timing]:
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(place.open(kind.policy)) for place in places]
        taken: list[list[float]] = [[] for _ in stores]
        for number in range(WARM_UP + samples):
            for place, store, times in zip(places, stores, taken, strict=True):
                took = await stopped(_claim(store, kind))
                if number >= WARM_UP:
                    times.append(took)
                if (number + 1) % kind.lasts(place.depth) == 0:
                    await _hand_back(store)
        for store in stores:
            await _hand_back(store)
    return [
        Timing(engine=engine, depth=place.depth, operation=f"claim, {kind.name}", took=spread(times))
        for place, times in zip(places, taken, strict=True)
    ]


async def _claim(store: Store, kind: Kind) -> None:
    claim = await store.claim(WORKER, kind.models, LEASE_SECONDS, loaded=kind.loaded)
    assert claim is not None, "the store has run empty"


async def _hand_back(store: Store) -> None:
    for running in (await store.queue()).running:
        assert await store.hand_back(running.lease), "the lease was stale"


async def _others(engine: str, places: Sequence[Place], samples: int) -> Sequence[Timing]:
    names = ("submit", "get", "succeed")
    taken: list[dict[str, list[float]]] = [{name: [] for name in names} for _ in places]
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(place.open(Policy())) for place in places]
        for number in range(samples):
            for store, times in zip(stores, taken, strict=True):
                for name, took in zip(names, await _round(store, number), strict=True):
                    times[name].append(took)
    return [
        Timing(engine=engine, depth=place.depth, operation=name, took=spread(times[name]))
        for place, times in zip(places, taken, strict=True)
        for name in names
    ]


async def _round(store: Store, number: int) -> tuple[float, float, float]:
    """Milliseconds to submit a job, to look at it, and to record the success of another."""
    tenant = Tenant(f"tenant-{number * 37 % 250}")
    new = NewJob(id=new_job_id(), tenant=tenant, model=MODELS[number % 20], task="text-to-image", input=payload())
    submitted = await stopped(store.submit(new))
    looked = await stopped(store.get(tenant, new.id))
    claim = await store.claim(WORKER, MODELS, LEASE_SECONDS, loaded=MODELS[:2])
    assert isinstance(claim, Claim)
    success = Success(outputs=(), backend="bench", execution_seconds=1.0, cost=1.0)
    return submitted, looked, await stopped(store.succeed(claim.lease, success))


class _SqlitePlace:
    def __init__(self, path: Path, depth: Depth) -> None:
        self.depth = depth
        self._path = path

    @asynccontextmanager
    async def open(self, policy: Policy) -> AsyncIterator[Store]:
        async with sqlite(self._path, policy) as opened:
            yield opened.store

    async def faults(self) -> dict[str, int]:
        run = SqliteRun(self._path)
        try:
            return await faults(run)
        finally:
            run.close()


@asynccontextmanager
async def _sqlite_place(depth: Depth) -> AsyncIterator[Place]:
    with tempfile.TemporaryDirectory(prefix="sluicegate-bench-") as folder:
        path = Path(folder) / "store.db"
        async with sqlite(path):
            pass  # migrated
        run = SqliteRun(path)
        await fill(run, depth, dialect="sqlite")
        run.close()
        yield _SqlitePlace(path, depth)


class _PostgresqlPlace:
    def __init__(self, url: str, depth: Depth, run: Run) -> None:
        self.depth = depth
        self._url = url
        self._run = run

    @asynccontextmanager
    async def open(self, policy: Policy) -> AsyncIterator[Store]:
        async with postgresql(self._url, policy) as opened:
            yield opened.store

    async def faults(self) -> dict[str, int]:
        return await faults(self._run)


@asynccontextmanager
async def _postgresql_place(server: Server, depth: Depth) -> AsyncIterator[Place]:
    async with server.database() as url:
        async with postgresql(url):
            pass  # migrated
        async with server.run(url) as run:
            await fill(run, depth, dialect="postgresql")
            await run("VACUUM (ANALYZE)")  # as autovacuum would have done by the time that a queue is so deep
            await run("CHECKPOINT")
            yield _PostgresqlPlace(url, depth, run)
