"""What every storage engine promises. One behaviour suite (tests/contracts/) runs on each engine.

Durability: when a method that writes returns, its effect survives the death of every process and of the machine.
Atomicity: the state of a job, its attempt, its outputs and its event change together or not at all.
Failure: when the store does not answer, is locked or is full, every method raises `StoreUnavailable`.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from sluicegate.domain.asset import Asset, Blob
from sluicegate.domain.event import JobEvent
from sluicegate.domain.fairness import DEFAULT_POOL
from sluicegate.domain.ids import AssetId, JobId, Tenant, WorkerId
from sluicegate.domain.job import (
    Attempt,
    Claim,
    Idempotency,
    Job,
    JobError,
    JobStatus,
    Lease,
    NewJob,
    Preview,
    Progress,
    Recovery,
    Submission,
    Verdict,
)

QUEUE_FULL_SECONDS = 5.0
"""When a tenant whose queue is full may try again, for whoever has no better guess."""


class JobQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which jobs to list, newest first. `cursor` is the id of the last job already seen."""

    status: JobStatus | None = None
    model: str | None = None
    limit: int = 20
    cursor: JobId | None = None


class WorkerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A worker process as it last reported itself. `loaded` names the models in its memory."""

    id: WorkerId
    host: str
    pid: int
    started_at: float
    seen_at: float
    models: tuple[str, ...]
    loaded: tuple[str, ...]
    pools: tuple[str, ...] = (DEFAULT_POOL,)


class QueueCount(msgspec.Struct, frozen=True):
    """How many jobs are in one state that is not terminal."""

    pool: str
    tier: str
    model: str
    state: str
    jobs: int


class TenantStanding(msgspec.Struct, frozen=True, kw_only=True):
    """One tenant in one pool: what it has there, and its place in the fair order.

    Times are seconds since the epoch, costs reference seconds, `vtime` virtual seconds.
    """

    pool: str
    tenant: Tenant
    tier: str
    weight: float
    max_running: int | None
    vtime: float
    queued: int
    queued_cost: float
    delayed: int
    """Jobs that wait for their next attempt."""
    running: int
    since: float
    """When it was last served, or came into the race."""
    oldest_at: float | None
    """When the oldest of its queued jobs was submitted."""


class LaneStanding(msgspec.Struct, frozen=True):
    """How many jobs of a tenant wait for one model."""

    pool: str
    tenant: Tenant
    model: str
    queued: int


class RunningJob(msgspec.Struct, frozen=True, kw_only=True):
    """A job that a worker holds. `progress` runs from 0 to 1; `claimed_at` is when this attempt began."""

    lease: Lease
    pool: str
    tenant: Tenant
    tier: str
    model: str
    state: str
    worker: WorkerId
    cost: float
    claimed_at: float
    progress: float
    preemptible: bool
    preemptions: int
    preempting: bool


class QueueView(msgspec.Struct, frozen=True, kw_only=True):
    """The whole queue at one moment, `at`. Tenants with nothing queued, delayed or running are left out."""

    at: float
    clocks: dict[str, float]
    """Each pool's virtual time: the last least tag."""
    tenants: tuple[TenantStanding, ...]
    lanes: tuple[LaneStanding, ...]
    running: tuple[RunningJob, ...]


class Usage(msgspec.Struct, frozen=True):
    """What a tenant's ended jobs came to: one row in the ledger each."""

    jobs: int
    cost: float


class Success(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker made: `outputs` are assets whose blobs are already stored."""

    outputs: tuple[Asset, ...]
    backend: str
    execution_seconds: float
    cost: float | None = None
    """What is charged, in reference seconds; None: `execution_seconds`."""
    degraded: tuple[str, ...] = ()
    details: dict[str, Any] = {}
    """What the model says of its work: `unknown_words`, and the `recipe` to make the pictures again."""


class JobStore(Protocol):
    """The durable queue and its record."""

    async def submit(self, new: NewJob, idempotency: Idempotency | None = None) -> Submission:
        """Store a job as queued. The same idempotency key and digest within 24 h replay the first job;
        another digest raises `IdempotencyMismatch`. The assets that its input names are kept for it until it ends;
        one that the tenant does not have raises `UnknownAsset`. When the tenant's tier grants no more waiting jobs
        or work, raises `QueueFull`."""
        ...

    async def replay(self, tenant: Tenant, idempotency: Idempotency) -> Job | None:
        """The job that came with this key within 24 h, if any; raises `IdempotencyMismatch` for another digest."""
        ...

    async def get(self, tenant: Tenant, job: JobId) -> Job:
        """The job; raises `UnknownJob`, also for another tenant's."""
        ...

    async def list(self, tenant: Tenant, query: JobQuery) -> Sequence[Job]:
        """At most `query.limit` jobs of the tenant, newest first."""
        ...

    async def claim(
        self,
        worker: WorkerId,
        models: Sequence[str],
        lease_seconds: float,
        *,
        pools: Sequence[str] = (DEFAULT_POOL,),
        loaded: Sequence[str] = (),
    ) -> Claim | None:
        """Hand the next runnable job for one of `models` to the worker, or None when there is none.

        The pools are asked in order; in each the order is that of `scheduling.fairness.FairQueue`, with `loaded` the
        models in the worker's memory. Jobs past their deadline become expired instead of running.
        """
        ...

    async def heartbeat(self, worker: WorkerId, leases: Sequence[Lease], lease_seconds: float) -> Sequence[Verdict]:
        """Prolong the leases that are still current; say of each what its holder must do."""
        ...

    async def look(self, leases: Sequence[Lease]) -> Sequence[Verdict]:
        """As `heartbeat`, but only reads: a cheap, frequent look for cancellation."""
        ...

    async def report(self, lease: Lease, progress: Progress) -> None:
        """Record the latest progress; ignored when the lease is stale."""
        ...

    async def preview(self, lease: Lease, preview: Preview) -> bool:
        """Add a preview to the job's events as ``job.preview``. False: stale lease, nothing was written."""
        ...

    async def succeed(self, lease: Lease, success: Success) -> bool:
        """End the job with its outputs. False: the lease is stale and nothing was written.

        A job that is being canceled still succeeds when its work had already ended.
        """
        ...

    async def fail(self, lease: Lease, error: JobError, *, retry_in: float | None, cost: float = 0.0) -> bool:
        """Record a failed attempt. With `retry_in` seconds and attempts left the job is scheduled again,
        else it has failed, and `cost` reference seconds are charged (0 when the service is to blame).
        A job that is being canceled becomes canceled. False: stale lease."""
        ...

    async def stop(self, lease: Lease, word: Literal["cancel", "expire"], *, cost: float = 0.0) -> bool:
        """The worker stopped the work as told: the job becomes canceled or expired, and the `cost` of what was done
        is charged. Raises `Conflict` when a running job was not withdrawn, or its deadline has not passed.
        False: stale lease."""
        ...

    async def hand_back(self, lease: Lease, *, preempted: bool = False) -> bool:
        """A stopping worker returns the job to the queue, or one that was told to give way (`preempted`);
        the attempt does not count. False: stale lease."""
        ...

    async def preempt(self, lease: Lease) -> bool:
        """Have the holder told to give way. False when the lease is stale, the job is not preemptible, has given way
        `MOST_PREEMPTIONS` times, or is told so already."""
        ...

    async def cancel(self, tenant: Tenant, job: JobId) -> Job:
        """Withdraw a job: at once when it waits, through its worker when it runs; an ended job is unchanged."""
        ...

    async def recover(self) -> Recovery:
        """One caretaker's round: return jobs whose lease has expired, fail those out of attempts,
        promote due retries, expire waiting jobs past their deadline."""
        ...

    async def prolong(self, seconds: float) -> int:
        """Let no lease end sooner than so many seconds from now, because nobody could renew one while the store was
        away; how many were prolonged. Several gateways may do so after the same outage."""
        ...

    async def release(self, worker: WorkerId) -> Recovery:
        """The worker's process is known to be dead: return its jobs now instead of at the lease's end."""
        ...

    async def events(self, job: JobId, after: int) -> Sequence[JobEvent]:
        """The job's events with seq > `after`, in order."""
        ...

    async def attempts(self, job: JobId) -> Sequence[Attempt]:
        """Every attempt at the job, first to last."""
        ...

    async def counts(self) -> Sequence[QueueCount]:
        """Jobs by pool, tier, model and state (in that order), terminal states excluded."""
        ...

    async def queue(self) -> QueueView:
        """The queue as it stands: by pool then tenant (lanes: then model; running: by job id)."""
        ...

    async def calibrations(self) -> Mapping[tuple[str, str], float]:
        """κ by (model, task): the moving average of actual over uncalibrated estimated cost of succeeded jobs.
        A pair without any is absent and counts as 1."""
        ...

    async def usage(self, tenant: Tenant, *, since: float = 0.0) -> Usage:
        """The tenant's jobs that ended at or after `since` (seconds since the epoch), from the ledger."""
        ...

    async def oldest_snapshot(self) -> int | None:
        """How many transactions ago the oldest open one began, where old ones keep the engine from clearing dead rows;
        None for an engine that has no such worry."""
        ...

    async def ping(self) -> None:
        """Return when the store answers and can be written to; raise `StoreUnavailable` when it does not."""
        ...


class WorkerRegistry(Protocol):
    """Who works."""

    async def enlist(self, worker: WorkerInfo) -> None:
        """Add or refresh a worker; `seen_at` is set by the store."""
        ...

    async def dismiss(self, worker: WorkerId) -> None:
        """Forget a worker that has stopped."""
        ...

    async def workers(self, *, seen_within: float) -> Sequence[WorkerInfo]:
        """Workers that reported within so many seconds."""
        ...


class AssetCatalog(Protocol):
    """Which tenant owns which picture."""

    async def add_asset(self, asset: Asset) -> None:
        """Record an asset whose blob is already stored."""
        ...

    async def asset(self, tenant: Tenant, asset: AssetId) -> Asset:
        """The asset; raises `UnknownAsset`, also for another tenant's."""
        ...

    async def delete_asset(self, tenant: Tenant, asset: AssetId) -> None:
        """Forget an asset; raises `UnknownAsset`, or `Conflict` while a job that has not ended needs it.
        Its bytes go when no other asset shares them and the sweep passes."""
        ...

    async def referenced(self, sha256: Sequence[str]) -> frozenset[str]:
        """Those of the given digests that some asset refers to."""
        ...


class Store(JobStore, WorkerRegistry, AssetCatalog, Protocol):
    """One database that holds everything that must change together."""

    async def open(self) -> None:
        """Connect and migrate."""
        ...

    async def close(self) -> None:
        """Finish what was begun and disconnect."""
        ...


class Staging(Protocol):
    """A blob being written; nothing is visible until `commit`."""

    path: Path
    size_bytes: int

    async def write(self, data: bytes) -> None:
        """Append bytes; they can be read at `path` when this returns."""
        ...

    async def commit(self) -> Blob:
        """Make the bytes durable under their digest; the same bytes twice are stored once."""
        ...


class BlobStore(Protocol):
    """Content-addressed bytes."""

    def stage(self) -> AbstractAsyncContextManager[Staging]:
        """Begin a blob; leaving the block without `commit` leaves nothing behind."""
        ...

    async def put(self, data: bytes) -> Blob:
        """Store bytes atomically and durably."""
        ...

    async def read(self, sha256: str) -> bytes:
        """All bytes of a blob; raises `UnknownAsset` when they are gone."""
        ...

    def stream(self, sha256: str, start: int, length: int) -> AsyncIterator[bytes]:
        """`length` bytes from `start`, in chunks."""
        ...

    async def aged(self, older_than_seconds: float) -> Mapping[str, int]:
        """Digest and size of the blobs not written to for so long: candidates of the sweep."""
        ...

    async def discard(self, sha256: str, *, older_than_seconds: float) -> bool:
        """Delete a blob unless it has been written to meanwhile."""
        ...

    async def tidy(self, *, older_than_seconds: float) -> int:
        """Delete staging files that a killed process left; how many."""
        ...


Topic = Literal["jobs", "events"]
"""jobs: something became runnable or must stop. events: some job changed."""


class Signals(Protocol):
    """Hints between processes on one store that something changed. A hint may be lost: always poll too."""

    async def open(self) -> None:
        """Begin to listen."""
        ...

    async def close(self) -> None:
        """Stop listening."""
        ...

    def notify(self, *topics: Topic) -> None:
        """Wake every process that waits on the topics, this one included."""
        ...

    def version(self, topic: Topic) -> int:
        """A counter that rises with each hint; read it before looking at the store."""
        ...

    async def wait(self, topic: Topic, seen: int, timeout: float) -> None:
        """Return when the counter differs from `seen`, or after `timeout` seconds."""
        ...
