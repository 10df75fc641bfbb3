"""Job events: written in the transaction that changes a job, numbered from 1 within the job."""

from typing import Any, Literal

import msgspec

from sluicegate.domain.ids import JobId

EventKind = Literal[
    "job.queued", "job.running", "job.preview", "job.retrying", "job.canceling",
    "job.succeeded", "job.failed", "job.canceled", "job.expired",
]  # fmt: skip
TERMINAL_EVENTS: frozenset[str] = frozenset({"job.succeeded", "job.failed", "job.canceled", "job.expired"})


class JobEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One durable event. `seq` is the SSE id: a reader that resumes after it sees no gap and no repeat."""

    job: JobId
    seq: int
    kind: EventKind
    at: float
    data: dict[str, Any]
