"""Rows of the database as the words of the domain."""

from typing import Any, Protocol

import msgspec

from sluicegate.domain.asset import Asset
from sluicegate.domain.event import JobEvent
from sluicegate.domain.job import Attempt, Job, JobError, Lease, Output, Progress
from sluicegate.storage.contracts import RunningJob, TenantStanding, WorkerInfo

_OUTPUTS = msgspec.json.Decoder(tuple[Output, ...])
_WORDS = msgspec.json.Decoder(tuple[str, ...])
_OBJECT = msgspec.json.Decoder(dict[str, Any])
_ERROR = msgspec.json.Decoder(JobError)
_PROGRESS = msgspec.json.Decoder(Progress)
_JOB_COLUMNS = (
    "id", "tenant", "state", "model", "task", "pool", "tier", "priority", "cost", "charged", "preemptions",
    "created_at", "started_at", "completed_at", "deadline_at", "due_at", "attempt", "max_attempts", "fence", "worker",
    "backend", "execution_seconds",
)  # fmt: skip


class Row(Protocol):
    """A row of any engine: its columns by name."""

    def __getitem__(self, name: str, /) -> Any:
        """The column's value."""
        ...


def to_json(value: object) -> str:
    """How lists and objects are stored."""
    return msgspec.json.encode(value).decode()


def job_of(row: Row, jobs_ahead: int | None) -> Job:
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
        jobs_ahead=jobs_ahead,
    )


def attempt_of(row: Row) -> Attempt:
    """A row of `attempts`."""
    return Attempt(
        number=row["number"],
        worker=row["worker"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        outcome=row["outcome"],
        error=_error_of(row["error"]),
    )


def event_of(row: Row) -> JobEvent:
    """A row of `events_after`."""
    return JobEvent(job=row["job"], seq=row["seq"], kind=row["kind"], at=row["at"], data=_OBJECT.decode(row["data"]))


def asset_of(row: Row) -> Asset:
    """A row of `asset_of_tenant`."""
    return Asset(**{name: row[name] for name in Asset.__struct_fields__})


def worker_of(row: Row) -> WorkerInfo:
    """A row of `workers_seen`."""
    columns = {name: row[name] for name in WorkerInfo.__struct_fields__}
    lists = {name: _WORDS.decode(columns[name]) for name in ("models", "loaded", "pools")}
    return WorkerInfo(**{**columns, **lists})


def standing_of(row: Row) -> TenantStanding:
    """A row of `queue_tenants`."""
    return TenantStanding(**{name: row[name] for name in TenantStanding.__struct_fields__})


def running_of(row: Row) -> RunningJob:
    """A row of `queue_running`."""
    report = _PROGRESS.decode(row["report"]) if row["report"] is not None else None
    named = ("pool", "tenant", "tier", "model", "state", "worker", "cost", "claimed_at", "preemptions")
    return RunningJob(
        lease=Lease(row["id"], row["fence"]),
        progress=report.value if report is not None else 0.0,
        preemptible=bool(row["preemptible"]),
        preempting=bool(row["preempting"]),
        **{name: row[name] for name in named},
    )


def _error_of(text: str | None) -> JobError | None:
    return _ERROR.decode(text) if text is not None else None
