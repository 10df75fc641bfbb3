"""`Store` on one SQLite file."""

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from sluicegate.domain.asset import Asset
from sluicegate.domain.clock import Clock
from sluicegate.domain.event import JobEvent
from sluicegate.domain.fairness import DEFAULT_POOL, Policy
from sluicegate.domain.ids import AssetId, JobId, Tenant, WorkerId
from sluicegate.domain.job import (
    Attempt,
    Claim,
    Idempotency,
    Job,
    JobError,
    Lease,
    NewJob,
    Preview,
    Progress,
    Recovery,
    Submission,
    Verdict,
)
from sluicegate.errors import StoreUnavailable
from sluicegate.storage.contracts import JobQuery, QueueCount, QueueView, Success, Usage, WorkerInfo
from sluicegate.storage.searches import carry_through, in_batches
from sluicegate.storage.sqlite import caretaking, leasing, reading, registers, submission
from sluicegate.storage.sqlite.connection import connect
from sluicegate.storage.sqlite.database_thread import DatabaseThread, Operation, Result
from sluicegate.storage.sqlite.migrate import migrate
from sluicegate.storage.sqlite.statements import load_migrations, load_queries
from sluicegate.storage.sqlite.turnstile import Turnstile


class SqliteStore:
    """Jobs, workers and assets in the file at `path`, shared by every process that opens it.

    Durability: a method that writes returns only after COMMIT has flushed the write-ahead log to the disk
    (WAL, synchronous=FULL), so what a caller was told (a 202, a recorded result) survives `kill -9` of any process
    and a power failure, as far as the disk keeps what it has acknowledged. The file must be on a local disk.
    When a write raises `StoreUnavailable`, it was not carried out; after an I/O error in the flush itself, whether
    it was is unknown: repeat it (with its idempotency key, or its lease).

    Writes share one thread and transactions; reads have a thread of their own and never wait for writes.
    `busy_timeout` seconds bound the wait for another process's write lock. Each transaction reads the time once.
    """

    def __init__(self, path: Path, clock: Clock, *, busy_timeout: float = 5.0, policy: Policy | None = None) -> None:
        self._path = path.absolute()
        self._clock = clock
        self._policy = policy or Policy()
        self._busy_timeout = busy_timeout
        self._writer: DatabaseThread | None = None
        self._reader: DatabaseThread | None = None

    async def open(self) -> None:
        """Create or migrate the file and start the threads.

        Raises `InvalidSettings` when the file is of a newer version or holds something else, `StoreUnavailable`
        when it cannot be opened.
        """
        await asyncio.to_thread(migrate, self._path, load_migrations(), timeout=self._busy_timeout)
        self._writer = self._start("writer", self._connect, Turnstile(self._path, self._busy_timeout).begin)
        self._reader = self._start("reader", self._connect_reader, _begin_reading)

    async def close(self) -> None:
        """Commit what was asked before and disconnect."""
        for thread in (self._writer, self._reader):
            if thread is not None:
                await thread.close()

    async def ping(self) -> None:
        """Return when the file can be read and written: a full disk reads well enough."""
        await self._read(lambda session: session.first("schema_version"))
        await self._write(lambda session: session.change("ping"))

    async def submit(self, new: NewJob, idempotency: Idempotency | None = None) -> Submission:
        """Store a job, or replay the one of the same key. Raises `IdempotencyMismatch`; `Conflict` for a used id."""
        return await self._write(lambda session: submission.submit(session, new, idempotency))

    async def replay(self, tenant: Tenant, idempotency: Idempotency) -> Job | None:
        """The job of the same key, or None. Raises `IdempotencyMismatch`."""
        return await self._read(lambda session: submission.replay(session, tenant, idempotency))

    async def get(self, tenant: Tenant, job: JobId) -> Job:
        """The tenant's job; raises `UnknownJob`."""
        return await self._read(lambda session: reading.get(session, tenant, job))

    async def list(self, tenant: Tenant, query: JobQuery) -> Sequence[Job]:
        """The tenant's jobs, newest first."""
        return await self._read(lambda session: reading.list_jobs(session, tenant, query))

    async def claim(
        self,
        worker: WorkerId,
        models: Sequence[str],
        lease_seconds: float,
        *,
        pools: Sequence[str] = (DEFAULT_POOL,),
        loaded: Sequence[str] = (),
    ) -> Claim | None:
        """Hand the next runnable job to the worker. A claim whose caller is cancelled meanwhile is handed back."""
        while True:
            search = self._write(
                lambda session: leasing.claim(session, worker, models, lease_seconds, pools=pools, loaded=loaded)
            )
            found = await carry_through(search, self.hand_back)
            if not found.unfinished:
                return found.claim

    async def heartbeat(self, worker: WorkerId, leases: Sequence[Lease], lease_seconds: float) -> Sequence[Verdict]:
        """Prolong what is current; say what each holder must do."""
        return await self._write(lambda session: leasing.heartbeat(session, worker, leases, lease_seconds))

    async def look(self, leases: Sequence[Lease]) -> Sequence[Verdict]:
        """Say what each holder must do."""
        return await self._read(lambda session: reading.look(session, leases))

    async def report(self, lease: Lease, progress: Progress) -> None:
        """Record the latest progress."""
        await self._write(lambda session: leasing.report(session, lease, progress))

    async def preview(self, lease: Lease, preview: Preview) -> bool:
        """Add a preview to the job's events, when the lease is current."""
        return await self._write(lambda session: leasing.preview(session, lease, preview))

    async def succeed(self, lease: Lease, success: Success) -> bool:
        """End the job with its outputs; False when the lease is stale."""
        return await self._write(lambda session: leasing.succeed(session, lease, success))

    async def fail(self, lease: Lease, error: JobError, *, retry_in: float | None, cost: float = 0.0) -> bool:
        """Record a failed attempt; False when the lease is stale."""
        return await self._write(lambda session: leasing.fail(session, lease, error, retry_in, cost))

    async def stop(self, lease: Lease, word: Literal["cancel", "expire"], *, cost: float = 0.0) -> bool:
        """End work that was stopped as told; `Conflict` when nobody withdrew it. False when the lease is stale."""
        return await self._write(lambda session: leasing.stop(session, lease, word, cost))

    async def hand_back(self, lease: Lease, *, preempted: bool = False) -> bool:
        """Return the job to the queue; False when the lease is stale."""
        return await self._write(lambda session: leasing.hand_back(session, lease, preempted=preempted))

    async def preempt(self, lease: Lease) -> bool:
        """Have the holder told to give way; False when it must not."""
        return await self._write(lambda session: leasing.preempt(session, lease))

    async def cancel(self, tenant: Tenant, job: JobId) -> Job:
        """Withdraw the tenant's job; raises `UnknownJob`."""
        return await self._write(lambda session: submission.cancel(session, tenant, job))

    async def recover(self) -> Recovery:
        """One caretaker's round, in transactions of bounded length."""
        return await in_batches(lambda: self._write(caretaking.recover), caretaking.BATCH)

    async def release(self, worker: WorkerId) -> Recovery:
        """Take back a dead worker's jobs and forget the worker."""
        return await in_batches(
            lambda: self._write(lambda session: caretaking.release(session, worker)), caretaking.BATCH
        )

    async def prolong(self, seconds: float) -> int:
        """Let no lease end sooner than so many seconds from now; how many were prolonged."""
        return await self._write(lambda session: session.change("leases_prolong", until=session.now + seconds))

    async def events(self, job: JobId, after: int) -> Sequence[JobEvent]:
        """The job's events after a sequence number."""
        return await self._read(lambda session: reading.events(session, job, after))

    async def attempts(self, job: JobId) -> Sequence[Attempt]:
        """The job's attempts, first to last."""
        return await self._read(lambda session: reading.attempts(session, job))

    async def counts(self) -> Sequence[QueueCount]:
        """Jobs that have not ended, by pool, tier, model and state."""
        return await self._read(reading.counts)

    async def queue(self) -> QueueView:
        """The queue as it stands."""
        return await self._read(reading.queue)

    async def calibrations(self) -> Mapping[tuple[str, str], float]:
        """How much dearer than estimated each model's jobs have been of late."""
        return await self._read(reading.calibrations)

    async def usage(self, tenant: Tenant, *, since: float = 0.0) -> Usage:
        """What the tenant's jobs that ended since came to."""
        return await self._read(lambda session: reading.usage(session, tenant, since))

    async def oldest_snapshot(self) -> int | None:
        """None: SQLite's log is copied back as soon as readers are through."""
        return None

    async def enlist(self, worker: WorkerInfo) -> None:
        """Add or refresh a worker."""
        await self._write(lambda session: registers.enlist(session, worker))

    async def dismiss(self, worker: WorkerId) -> None:
        """Forget a worker."""
        await self._write(lambda session: session.change("worker_delete", id=worker))

    async def workers(self, *, seen_within: float) -> Sequence[WorkerInfo]:
        """The workers heard of late."""
        return await self._read(lambda session: registers.workers(session, seen_within))

    async def add_asset(self, asset: Asset) -> None:
        """Record an asset; raises `Conflict` when its id is taken."""
        await self._write(lambda session: registers.add_asset(session, asset))

    async def asset(self, tenant: Tenant, asset: AssetId) -> Asset:
        """The tenant's asset; raises `UnknownAsset`."""
        return await self._read(lambda session: registers.find_asset(session, tenant, asset))

    async def delete_asset(self, tenant: Tenant, asset: AssetId) -> None:
        """Forget the tenant's asset; raises `UnknownAsset` or `Conflict`."""
        await self._write(lambda session: registers.delete_asset(session, tenant, asset))

    async def referenced(self, sha256: Sequence[str]) -> frozenset[str]:
        """Those of the digests that some asset refers to."""
        return await self._read(lambda session: registers.referenced(session, sha256))

    async def _write(self, operation: Operation[Result]) -> Result:
        return await self._opened(self._writer).run(operation)

    async def _read(self, operation: Operation[Result]) -> Result:
        return await self._opened(self._reader).run(operation)

    def _opened(self, thread: DatabaseThread | None) -> DatabaseThread:
        if thread is None:
            raise StoreUnavailable(f"the store {self._path.name} is not open; open it first")
        return thread

    def _start(
        self, name: str, connect_: Callable[[], sqlite3.Connection], begin: Callable[[sqlite3.Connection], None]
    ) -> DatabaseThread:
        thread = DatabaseThread(
            self._path,
            name=name,
            connect=connect_,
            begin=begin,
            queries=load_queries(),
            clock=self._clock,
            policy=self._policy,
        )
        thread.start()
        return thread

    def _connect(self) -> sqlite3.Connection:
        connection = connect(self._path, busy_timeout=self._busy_timeout)
        connection.execute("PRAGMA busy_timeout = 0")  # from here on the turnstile waits
        return connection

    def _connect_reader(self) -> sqlite3.Connection:
        connection = connect(self._path, busy_timeout=self._busy_timeout)
        connection.execute("PRAGMA query_only = ON")
        return connection


def _begin_reading(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN")
