"""Jobs: durable work with a state machine, leases and a history of attempts.

    queued ──claim──▶ running ──▶ succeeded | failed
      ▲                 │  └─cancel─▶ canceling ──▶ canceled (or succeeded: the work had already ended)
      │  back-off over  │
    scheduled ◀─retry───┤
    queued ◀─hand back, lease expired─┘
    queued | scheduled ──cancel──▶ canceled         queued | scheduled | running ──deadline──▶ expired
    running ──preempted──▶ queued                   (the worker is told to give way, and hands the job back)

Model work runs at least once; the result, the attempt's record and the event are stored exactly once,
in the transaction that ends the job, and so is the charge: every ended job has one row in the ledger.
A claim raises the job's fence; only the holder of the current fence may write.
"""

from typing import Any, Literal

import msgspec

from sluicegate.domain.fairness import DEFAULT_POOL, Tier
from sluicegate.domain.ids import AssetId, JobId, Tenant, WorkerId

JobState = Literal["queued", "scheduled", "running", "canceling", "succeeded", "failed", "canceled", "expired"]
JobStatus = Literal["queued", "running", "canceling", "succeeded", "failed", "canceled", "expired"]
"""What callers see: a job that waits for its next attempt (`scheduled`) is shown as `queued`."""

TERMINAL: frozenset[JobState] = frozenset({"succeeded", "failed", "canceled", "expired"})
HELD: frozenset[JobState] = frozenset({"running", "canceling"})
"""States in which a worker holds a lease."""

TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    "queued": frozenset({"running", "canceled", "expired"}),
    "scheduled": frozenset({"queued", "canceled", "expired"}),
    "running": frozenset({"succeeded", "failed", "canceling", "queued", "scheduled", "expired"}),
    "canceling": frozenset({"canceled", "succeeded", "failed"}),
    "succeeded": frozenset(),
    "failed": frozenset(),
    "canceled": frozenset(),
    "expired": frozenset(),
}


def shown_status(state: JobState) -> JobStatus:
    """The status that callers see for a stored state."""
    return "queued" if state == "scheduled" else state


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far running work is: `value` 0–1, and steps where the model has them.

    `preview`, a data URL, is what the picture will be as far as can be told; it goes its own way, as a `Preview`.
    """

    value: float
    step: int | None = None
    steps: int | None = None
    message: str = ""
    preview: str | None = None


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """What a picture in the making will be, as far as can be told: `image` is a data URL. `index` counts from 0."""

    index: int
    step: int
    steps: int
    image: str


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """One result of a job: an asset and what it is."""

    id: AssetId
    type: Literal["image"] = "image"
    content_type: str
    size_bytes: int
    width: int
    height: int
    sha256: str


class JobError(msgspec.Struct, frozen=True, kw_only=True):
    """Why a job or an attempt failed."""

    code: str
    message: str
    details: dict[str, Any] = {}


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One try at a job. `outcome` is None while it runs.

    Outcomes: succeeded, failed, retried, handed_back (a worker stopped), preempted, lease_expired, worker_died,
    canceled, expired.
    """

    number: int
    worker: WorkerId
    started_at: float
    ended_at: float | None = None
    outcome: str | None = None
    error: JobError | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job as stored. Times are seconds since the epoch."""

    id: JobId
    tenant: Tenant
    state: JobState
    model: str
    task: str
    pool: str
    tier: str
    input: dict[str, Any]
    priority: int
    cost: float
    """Estimate, in reference seconds."""
    charged: float | None
    """What the ledger says, in reference seconds; None until the job has ended."""
    preemptions: int
    created_at: float
    started_at: float | None
    completed_at: float | None
    deadline_at: float | None
    attempt: int
    max_attempts: int
    fence: int
    worker: WorkerId | None
    backend: str | None
    execution_seconds: float | None
    outputs: tuple[Output, ...]
    error: JobError | None
    degraded: tuple[str, ...]
    details: dict[str, Any]
    """What the model said of its work; see `Success` in storage/contracts."""
    metadata: dict[str, Any]
    progress: Progress | None
    """The latest report of the running attempt; None before the first."""
    jobs_ahead: int | None
    """Queued jobs of the same tenant and pool that come before it, counted up to 1000; None when not queued."""
    due_at: float | None
    """When a job that waits for its next attempt (`scheduled`) is queued again."""


class NewJob(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored at submission. `deadline_seconds` counts from then.

    `cost` is the estimate in reference seconds, `base_cost` the same before calibration (None: equal to `cost`).
    `tier` is what the tenant is granted now.
    """

    id: JobId
    tenant: Tenant
    tier: Tier = Tier()
    pool: str = DEFAULT_POOL
    cost: float = 1.0
    base_cost: float | None = None
    model: str
    task: str
    input: dict[str, Any]
    priority: int = 0
    deadline_seconds: float | None = None
    max_attempts: int = 3
    metadata: dict[str, Any] = {}


class Idempotency(msgspec.Struct, frozen=True):
    """A caller's Idempotency-Key and the digest of the body it came with."""

    key: str
    digest: str


class Submission(msgspec.Struct, frozen=True):
    """The answer to a submission: the job, and whether an earlier identical one is replayed."""

    job: Job
    replayed: bool


class Lease(msgspec.Struct, frozen=True):
    """A worker's right to write a job's outcome, valid while `fence` is the job's current one."""

    job: JobId
    fence: int


class Claim(msgspec.Struct, frozen=True):
    """A job handed to a worker."""

    job: Job
    lease: Lease


class Verdict(msgspec.Struct, frozen=True):
    """The store's answer to a heartbeat for one lease.

    keep: go on. cancel: the caller withdrew. expire: the deadline passed. preempt: give way and hand the job back.
    lost: another owns the job now.
    """

    lease: Lease
    word: Literal["keep", "cancel", "expire", "preempt", "lost"]


class Recovery(msgspec.Struct, frozen=True, kw_only=True):
    """What one round of the caretaker did."""

    requeued: int = 0
    failed: int = 0
    expired: int = 0
    promoted: int = 0
    canceled: int = 0

    @property
    def total(self) -> int:
        """How many jobs changed state."""
        return self.requeued + self.failed + self.expired + self.promoted + self.canceled
