"""Two well-known Python queues on PostgreSQL, used as their own documents say.

`procrastinate` through its `PsycopgConnector` with a pool of connections, its `defer_async`, its
`fetch_job` and its `finish_job_by_id_async`. `pgqueuer` through an asyncpg pool of the same size, its `enqueue`,
`dequeue` and `log_jobs`, with durability "durable" (its default) and the autovacuum settings that its checklist
asks for. The batch forms hand `batch` jobs to one call where the library has such a call: procrastinate to defer;
pgqueuer to enqueue, to dequeue and to record the ends.

They are imported by name at run time: they are no part of what the tests install.
"""

import importlib
import json
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any

from bench.contenders import Contender, payload

Peer = Callable[[str, int, int], AbstractAsyncContextManager[Contender]]
"""Opens a peer: the address of an empty database, connections, jobs in one call."""


class PeersMissing(Exception):
    """A peer is not installed. The message says how to install it."""


def need_peers() -> None:
    """Raise `PeersMissing` when a peer cannot be imported."""
    for name in ("procrastinate", "pgqueuer", "psycopg_pool"):
        _module(name)


class Procrastinate:
    """One database with procrastinate's schema."""

    def __init__(self, app: Any, task: Any, worker: int, *, batch: int) -> None:
        self.name = "procrastinate" if batch == 1 else f"procrastinate, {batch} a call"
        self._app = app
        self._task = task
        self._worker = worker
        self._batch = batch
        self._succeeded = _module("procrastinate.jobs").Status.SUCCEEDED

    async def enqueue(self, caller: int) -> int:
        """Defer."""
        if self._batch == 1:
            await self._task.defer_async(**payload())
        else:
            await self._task.batch_defer_async(*(payload() for _ in range(self._batch)))
        return self._batch

    async def take(self, caller: int) -> Sequence[Any]:
        """Fetch; there is no call that fetches several."""
        job = await self._app.job_manager.fetch_job(queues=None, worker_id=self._worker)
        return [] if job is None else [job]

    async def finish(self, caller: int, jobs: Sequence[Any]) -> None:
        """Record the end of each."""
        for job in jobs:
            await self._app.job_manager.finish_job_by_id_async(job.id, self._succeeded, delete_job=False)


class PgQueuer:
    """One database with pgqueuer's schema."""

    def __init__(self, queries: Any, *, batch: int) -> None:
        self.name = "pgqueuer" if batch == 1 else f"pgqueuer, {batch} a call"
        self._queries = queries
        self._batch = batch
        self._manager = uuid.uuid4()
        unlimited = _module("pgqueuer.queries").EntrypointExecutionParameter(concurrency_limit=0)
        self._entrypoints = {"draw": unlimited}

    async def enqueue(self, caller: int) -> int:
        """Enqueue."""
        if self._batch == 1:
            await self._queries.enqueue("draw", json.dumps(payload()).encode())
        else:
            count = self._batch
            bodies = [json.dumps(payload()).encode() for _ in range(count)]
            await self._queries.enqueue(["draw"] * count, bodies, [0] * count)
        return self._batch

    async def take(self, caller: int) -> Sequence[Any]:
        """Dequeue."""
        jobs: Sequence[Any] = await self._queries.dequeue(
            batch_size=self._batch,
            entrypoints=self._entrypoints,
            queue_manager_id=self._manager,
            global_concurrency_limit=None,
            heartbeat_timeout=timedelta(seconds=30),
        )
        return jobs

    async def finish(self, caller: int, jobs: Sequence[Any]) -> None:
        """Move them to the log."""
        await self._queries.log_jobs([(job, "successful", None) for job in jobs])


@asynccontextmanager
async def procrastinate(url: str, connections: int, batch: int) -> AsyncIterator[Contender]:
    """procrastinate on the empty database at `url`."""
    library = _module("procrastinate")
    connector = library.PsycopgConnector(conninfo=url, min_size=connections, max_size=connections)
    app = library.App(connector=connector)

    @app.task(name="draw", queue="pictures")  # type: ignore[untyped-decorator]
    async def draw(**_: object) -> None:
        raise AssertionError("jobs are fetched here, not run")

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        yield Procrastinate(app, draw, await app.job_manager.register_worker(), batch=batch)


@asynccontextmanager
async def pgqueuer(url: str, connections: int, batch: int) -> AsyncIterator[Contender]:
    """pgqueuer on the empty database at `url`."""
    import asyncpg

    library = _module("pgqueuer.queries")
    async with asyncpg.create_pool(url, min_size=connections, max_size=connections) as pool:
        queries = library.Queries.from_asyncpg_pool(pool)
        await queries.install()
        await queries.optimize_autovacuum()
        yield PgQueuer(queries, batch=batch)


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise PeersMissing(
            f"{error.name} is not installed: make bench installs it, --engine sqlite goes without"
        ) from None
