"""The server's answers to operations, as its JSON has them."""

from collections.abc import Mapping
from typing import Any

import msgspec

from sluicegate.domain.job import Job
from sluicegate.errors import (
    Conflict,
    IdempotencyMismatch,
    QueueFull,
    SluicegateError,
    UnknownAsset,
    UnknownJob,
)
from sluicegate.storage.contracts import QUEUE_FULL_SECONDS
from sluicegate.storage.rows import job_of

_REFUSALS: Mapping[str, type[SluicegateError]] = {
    "SG001": UnknownJob,
    "SG002": UnknownAsset,
    "SG003": IdempotencyMismatch,
    "SG004": Conflict,
}
_QUEUE_FULL = "SG005"


class Refusal(msgspec.Struct, frozen=True):
    """Why an operation was refused: the SQLSTATE, ours or the server's, and what the server says."""

    state: str
    message: str
    detail: str = ""

    def error(self) -> SluicegateError:
        """The error that the caller gets."""
        if self.state == _QUEUE_FULL:
            return QueueFull(self.message, retry_after=QUEUE_FULL_SECONDS)
        kind = _REFUSALS.get(self.state)
        if kind is None and self.state.startswith("23"):
            return Conflict(f"not stored: {self.message}. {self.detail} Use a new id, and max_attempts >= 1")
        return kind(self.message) if kind else SluicegateError(f"the database refused ({self.state}): {self.message}")


class Answer(msgspec.Struct, frozen=True):
    """The server's answer to one operation."""

    result: msgspec.Raw = msgspec.Raw()
    error: Refusal | None = None


class JobRow(msgspec.Struct, frozen=True):
    """A row of the table `job` as the server's JSON has it; documents are JSON in strings."""

    id: str
    tenant: str
    state: str
    model: str
    task: str
    pool: str
    tier: str
    input: str
    priority: int
    cost: float
    charged: float | None
    preemptions: int
    created_at: float
    started_at: float | None
    completed_at: float | None
    deadline_at: float | None
    due_at: float | None
    attempt: int
    max_attempts: int
    fence: int
    worker: str | None
    backend: str | None
    execution_seconds: float | None
    outputs: str
    error: str | None
    degraded: str
    details: str
    metadata: str
    report: str | None = None

    def __getitem__(self, name: str) -> Any:
        """The column's value."""
        return getattr(self, name)


class Shown(msgspec.Struct, frozen=True):
    """A job as the server shows it. `job` None: a claim found none, or a new job was stored, of which the caller
    knows all but the times and the place."""

    job: JobRow | None = None
    report: str | None = None
    jobs_ahead: int | None = None
    created_at: float = 0.0
    deadline_at: float | None = None
    unfinished: bool = False

    def whole(self) -> Job:
        """The job that is shown."""
        assert self.job is not None, "the server shows the job"
        row = self.job if self.report is None else msgspec.structs.replace(self.job, report=self.report)
        return job_of(row, self.jobs_ahead)


ANSWERS = msgspec.json.Decoder(list[Answer])
