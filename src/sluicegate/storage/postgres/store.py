"""`Store` on a PostgreSQL database."""

from collections.abc import Mapping, Sequence
from typing import Literal, TypeVar, get_args

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
    JobState,
    Lease,
    NewJob,
    Preview,
    Progress,
    Recovery,
    Submission,
    Verdict,
    shown_status,
)
from sluicegate.errors import IdempotencyMismatch, StoreUnavailable, UnknownAsset, UnknownJob
from sluicegate.storage.contracts import JobQuery, LaneStanding, QueueCount, QueueView, Success, Usage, WorkerInfo
from sluicegate.storage.postgres import operations
from sluicegate.storage.postgres.connection import CONNECT_SECONDS, Database
from sluicegate.storage.postgres.lane import Lane
from sluicegate.storage.postgres.migrate import migrate
from sluicegate.storage.postgres.readers import Readers
from sluicegate.storage.postgres.statements import load_functions, load_migrations
from sluicegate.storage.rows import asset_of, attempt_of, event_of, job_of, running_of, standing_of, worker_of
from sluicegate.storage.searches import carry_through, in_batches

Part = TypeVar("Part")

_AFTER_EVERY_ID = "~"


class PostgresStore:
    """Jobs, workers and assets in the schema `sluicegate` of a PostgreSQL database, for every process on any machine.

    Durability: a method that writes returns only after the server has committed with `synchronous_commit` on, so
    what a caller was told (a 202, a recorded result) survives the death of every process and of the server.
    When a write raises `StoreUnavailable`, mostly nothing was written; but when the connection broke in the middle of
    the commit, whether it was written is unknown. Repeat it: a submission with its idempotency key (or its job id,
    which cannot be taken twice), all else with its lease, does nothing the second time.

    `url`: ``postgresql://user@host/database``; the password comes from it, from PGPASSWORD or from a pgpass file.
    `clock` None: the server's clock, the same for all processes. `patience`: seconds to wait for locks of others;
    a second more and the server gives the statement up. `connect_seconds`: for a new connection.
    The store belongs to the event loop in which it is opened.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Clock | None = None,
        policy: Policy | None = None,
        patience: float = 4.0,
        connect_seconds: float = CONNECT_SECONDS,
    ) -> None:
        self._database = Database(url, patience, connect_seconds)
        self._clock = clock
        self._policy = policy or Policy()
        self._scheduler: Lane | None = None
        self._beside: Lane | None = None
        self._readers: Readers | None = None

    async def open(self) -> None:
        """Create or migrate the schema; connections are made as they are needed.

        Raises `InvalidSettings` when the schema is of a newer version or holds something else, `StoreUnavailable`
        when the server cannot be reached.
        """
        await migrate(self._database, load_migrations(), load_functions())
        self._scheduler = Lane(self._database, scheduling=True, now=self._now)
        self._beside = Lane(self._database, scheduling=False, now=self._now)
        self._readers = Readers(self._database)

    async def close(self) -> None:
        """Commit what was asked before and disconnect."""
        for part in (self._scheduler, self._beside, self._readers):
            if part is not None:
                await part.close()

    async def ping(self) -> None:
        """Return when the database can be read and written to, and the scheduler's lock be had."""
        await self._read.first("schema_version")
        await self._schedule.run(operations.ping())

    async def submit(self, new: NewJob, idempotency: Idempotency | None = None) -> Submission:
        """Store a job, or replay the one of the same key.

        Raises `IdempotencyMismatch`, `QueueFull`, `UnknownAsset`; `Conflict` for a used id.
        """
        return await self._schedule.run(operations.submit(new, idempotency))

    async def replay(self, tenant: Tenant, idempotency: Idempotency) -> Job | None:
        """The job of the same key, or None. Raises `IdempotencyMismatch`."""
        known = await self._read.first("idempotency_find", tenant, idempotency.key, self._now())
        if known is None:
            return None
        if known["digest"] != idempotency.digest:
            raise IdempotencyMismatch(
                f'Idempotency-Key "{idempotency.key}" came with another body for job "{known["job"]}"; use a new key'
            )
        return await self.get(tenant, known["job"])

    async def get(self, tenant: Tenant, job: JobId) -> Job:
        """The tenant's job; raises `UnknownJob`."""
        row = await self._read.first("job_by_id", job, tenant)
        if row is None:
            raise UnknownJob(f'there is no job "{job}"; check the id')
        return job_of(row, row["jobs_ahead"])

    async def list(self, tenant: Tenant, query: JobQuery) -> Sequence[Job]:
        """The tenant's jobs, newest first."""
        every: tuple[JobState, ...] = get_args(JobState)
        states = [state for state in every if query.status in (None, shown_status(state))]
        page = (tenant, query.cursor or _AFTER_EVERY_ID, states, query.limit)
        if query.model is None:
            rows = await self._read.all("list_state", *page)
        else:
            rows = await self._read.all("list_model_state", *page, query.model)
        return [job_of(row, row["jobs_ahead"]) for row in rows]

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
        wanted = operations.claim(worker, models, lease_seconds, pools=pools, loaded=loaded, policy=self._policy)
        while True:
            found = await carry_through(self._schedule.run(wanted), self.hand_back)
            if not found.unfinished:
                return found.claim

    async def heartbeat(self, worker: WorkerId, leases: Sequence[Lease], lease_seconds: float) -> Sequence[Verdict]:
        """Prolong what is current; say what each holder must do."""
        return await self._aside.run(operations.heartbeat(worker, leases, lease_seconds))

    async def look(self, leases: Sequence[Lease]) -> Sequence[Verdict]:
        """Say what each holder must do."""
        jobs, fences = [lease.job for lease in leases], [lease.fence for lease in leases]
        rows = await self._read.all("lease_look", jobs, fences, self._now())
        return [Verdict(lease, row["word"]) for lease, row in zip(leases, rows, strict=True)]

    async def report(self, lease: Lease, progress: Progress) -> None:
        """Record the latest progress."""
        await self._aside.run(operations.report(lease, progress))

    async def preview(self, lease: Lease, preview: Preview) -> bool:
        """Add a preview to the job's events, when the lease is current."""
        return await self._aside.run(operations.preview(lease, preview))

    async def succeed(self, lease: Lease, success: Success) -> bool:
        """End the job with its outputs; False when the lease is stale."""
        return await self._schedule.run(operations.succeed(lease, success))

    async def fail(self, lease: Lease, error: JobError, *, retry_in: float | None, cost: float = 0.0) -> bool:
        """Record a failed attempt; False when the lease is stale."""
        return await self._schedule.run(operations.fail(lease, error, retry_in, cost))

    async def stop(self, lease: Lease, word: Literal["cancel", "expire"], *, cost: float = 0.0) -> bool:
        """End work that was stopped as told; `Conflict` when nobody withdrew it. False when the lease is stale."""
        return await self._schedule.run(operations.stop(lease, word, cost))

    async def hand_back(self, lease: Lease, *, preempted: bool = False) -> bool:
        """Return the job to the queue; False when the lease is stale."""
        return await self._schedule.run(operations.hand_back(lease, self._policy, preempted=preempted))

    async def preempt(self, lease: Lease) -> bool:
        """Have the holder told to give way; False when it must not."""
        return await self._schedule.run(operations.preempt(lease))

    async def cancel(self, tenant: Tenant, job: JobId) -> Job:
        """Withdraw the tenant's job; raises `UnknownJob`."""
        return await self._schedule.run(operations.cancel(tenant, job))

    async def recover(self) -> Recovery:
        """One caretaker's round, in transactions of bounded length."""
        return await in_batches(lambda: self._schedule.run(operations.recover()), operations.BATCH)

    async def release(self, worker: WorkerId) -> Recovery:
        """Take back a dead worker's jobs and forget the worker."""
        return await in_batches(lambda: self._schedule.run(operations.release(worker)), operations.BATCH)

    async def prolong(self, seconds: float) -> int:
        """Let no lease end sooner than so many seconds from now; how many were prolonged."""
        return await self._schedule.run(operations.prolong(seconds))

    async def events(self, job: JobId, after: int) -> Sequence[JobEvent]:
        """The job's events after a sequence number."""
        return [event_of(row) for row in await self._read.all("events_after", job, after)]

    async def attempts(self, job: JobId) -> Sequence[Attempt]:
        """The job's attempts, first to last."""
        return [attempt_of(row) for row in await self._read.all("attempts", job)]

    async def counts(self) -> Sequence[QueueCount]:
        """Jobs that have not ended, by pool, tier, model and state."""
        return [QueueCount(*row) for row in await self._read.all("queue_counts")]

    async def queue(self) -> QueueView:
        """The queue as it stands."""
        (moment,), clocks, tenants, lanes, running = await self._read.together(
            ("moment", self._now()), ("queue_clocks",), ("queue_tenants",), ("queue_lanes",), ("queue_running",)
        )
        return QueueView(
            at=moment["at"],
            clocks={row["pool"]: row["vtime"] for row in clocks},
            tenants=tuple(standing_of(row) for row in tenants),
            lanes=tuple(LaneStanding(*row) for row in lanes),
            running=tuple(running_of(row) for row in running),
        )

    async def calibrations(self) -> Mapping[tuple[str, str], float]:
        """How much dearer than estimated each model's jobs have been of late."""
        return {(row["model"], row["task"]): row["kappa"] for row in await self._read.all("calibrations")}

    async def usage(self, tenant: Tenant, *, since: float = 0.0) -> Usage:
        """What the tenant's jobs that ended since came to."""
        row = await self._read.first("ledger_usage", tenant, since)
        return Usage(row["jobs"], row["cost"]) if row is not None else Usage(0, 0.0)

    async def oldest_snapshot(self) -> int | None:
        """How many transactions ago the oldest open one began: while it stands, dead rows since then pile up."""
        row = await self._read.first("oldest_snapshot")
        return row["transactions"] if row is not None else None

    async def enlist(self, worker: WorkerInfo) -> None:
        """Add or refresh a worker."""
        await self._aside.run(operations.enlist(worker))

    async def dismiss(self, worker: WorkerId) -> None:
        """Forget a worker."""
        await self._aside.run(operations.dismiss(worker))

    async def workers(self, *, seen_within: float) -> Sequence[WorkerInfo]:
        """The workers heard of late."""
        return [worker_of(row) for row in await self._read.all("workers_seen", seen_within, self._now())]

    async def add_asset(self, asset: Asset) -> None:
        """Record an asset; raises `Conflict` when its id is taken."""
        await self._aside.run(operations.add_asset(asset))

    async def asset(self, tenant: Tenant, asset: AssetId) -> Asset:
        """The tenant's asset; raises `UnknownAsset`."""
        row = await self._read.first("asset_of_tenant", asset, tenant)
        if row is None:
            raise UnknownAsset(f'there is no asset "{asset}"; check the id')
        return asset_of(row)

    async def delete_asset(self, tenant: Tenant, asset: AssetId) -> None:
        """Forget the tenant's asset; raises `UnknownAsset` or `Conflict`."""
        await self._schedule.run(operations.delete_asset(tenant, asset))

    async def referenced(self, sha256: Sequence[str]) -> frozenset[str]:
        """Those of the digests that some asset refers to."""
        return frozenset(row["sha256"] for row in await self._read.all("asset_of_blob", list(sha256)))

    def _now(self) -> float | None:
        return self._clock.now() if self._clock is not None else None

    @property
    def _schedule(self) -> Lane:
        """What changes the queue, under the scheduler's lock."""
        return self._opened(self._scheduler)

    @property
    def _aside(self) -> Lane:
        """What changes no standing and never waits for the scheduler's lock: heartbeats above all."""
        return self._opened(self._beside)

    @property
    def _read(self) -> Readers:
        return self._opened(self._readers)

    def _opened(self, part: Part | None) -> Part:
        if part is None:
            raise StoreUnavailable(f"the store {self._database.name} is not open; open it first")
        return part
