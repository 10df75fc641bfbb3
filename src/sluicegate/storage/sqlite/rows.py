"""Rows of the database as the words of the domain."""

import sqlite3
from typing import Any

import msgspec

from sluicegate.domain.asset import Asset
from sluicegate.domain.event import JobEvent
from sluicegate.domain.job import Attempt, Job, JobError, Output, Progress
from sluicegate.storage.contracts import WorkerInfo

_OUTPUTS = msgspec.json.Decoder(tuple[Output, ...])
_WORDS = msgspec.json.Decoder(tuple[str, ...])
_OBJECT = msgspec.json.Decoder(dict[str, Any])
_ERROR = msgspec.json.Decoder(JobError)
_PROGRESS = msgspec.json.Decoder(Progress)
_JOB_COLUMNS = (
    "id", "tenant", "state", "model", "task", "priority", "created_at", "started_at", "completed_at", "deadline_at",
    "attempt", "max_attempts", "fence", "worker", "backend", "execution_seconds",
)  # fmt: skip


def to_json(value: object) -> str:
    """How lists and objects are stored."""
    return msgspec.json.encode(value).decode()


def job_of(row: sqlite3.Row, queue_position: int | None) -> Job:
    """A row of `job_by_id`."""
    return Job(
        **{name: row[name] for name in _JOB_COLUMNS},
        input=_OBJECT.decode(row["input"]),
        outputs=_OUTPUTS.decode(row["outputs"]),
        error=_error_of(row["error"]),
        degraded=_WORDS.decode(row["degraded"]),
        details=_OBJECT.decode(row["details"]),
        metadata=_OBJECT.decode(row["metadata"]),
        progress=_PROGRESS.decode(row["report"]) if row["report"] is not None else None,
        queue_position=queue_position,
    )


def attempt_of(row: sqlite3.Row) -> Attempt:
    """A row of `attempts`."""
    return Attempt(
        number=row["number"],
        worker=row["worker"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        outcome=row["outcome"],
        error=_error_of(row["error"]),
    )


def event_of(row: sqlite3.Row) -> JobEvent:
    """A row of `events_after`."""
    return JobEvent(job=row["job"], seq=row["seq"], kind=row["kind"], at=row["at"], data=_OBJECT.decode(row["data"]))


def asset_of(row: sqlite3.Row) -> Asset:
    """A row of `asset_of_tenant`."""
    return Asset(**dict(row))


def worker_of(row: sqlite3.Row) -> WorkerInfo:
    """A row of `workers_seen`."""
    columns = dict(row)
    return WorkerInfo(
        **{**columns, "models": _WORDS.decode(columns["models"]), "loaded": _WORDS.decode(columns["loaded"])}
    )


def _error_of(text: str | None) -> JobError | None:
    return _ERROR.decode(text) if text is not None else None
