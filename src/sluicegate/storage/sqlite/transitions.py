"""The one way in which a stored job changes state: with its event, and only as the state machine allows."""

import sqlite3
from collections.abc import Mapping
from typing import Any

from sluicegate.domain.event import EventKind
from sluicegate.domain.ids import JobId
from sluicegate.domain.job import HELD, TERMINAL, TRANSITIONS, JobError, JobState, shown_status
from sluicegate.errors import Conflict
from sluicegate.storage.sqlite.rows import to_json
from sluicegate.storage.sqlite.session import Session

_CARRIED = (
    "attempt", "fence", "worker", "lease_until", "due_at", "started_at", "completed_at", "backend",
    "execution_seconds", "outputs", "error", "degraded", "details",
)  # fmt: skip


def move(
    session: Session, job: sqlite3.Row, to: JobState, kind: EventKind, data: Mapping[str, Any], **columns: Any
) -> None:
    """Put the job in state `to`, change `columns` with it and write the event.

    Raises `Conflict` when the state machine has no such transition. The attempt is the caller's: see `end_attempt`.
    """
    start: JobState = job["state"]
    if to not in TRANSITIONS[start]:
        raise Conflict(f'job "{job["id"]}" is {start}, from where it cannot become {to}; look at it again')
    values = {name: job[name] for name in _CARRIED}
    if to not in HELD:
        values["lease_until"] = None
    if to in ("queued", "scheduled"):
        values["worker"] = None
    if start == "scheduled":
        values["due_at"] = None
    if to in TERMINAL:
        values["completed_at"] = session.now
    session.change("job_move", id=job["id"], state=to, **{**values, **columns})
    if to in TERMINAL:
        session.change("asset_unpin", job=job["id"])
    append_event(session, job["id"], kind, {"status": shown_status(to), **data})


def append_event(session: Session, job: JobId, kind: EventKind, data: Mapping[str, Any]) -> None:
    """Write the job's next event."""
    session.change("event_append", job=job, kind=kind, data=to_json(data))


def end_attempt(session: Session, job: sqlite3.Row, outcome: str, error: JobError | None = None) -> None:
    """Close the record of the attempt that holds the job, and forget its progress."""
    text = to_json(error) if error is not None else None
    session.change("attempt_end", job=job["id"], fence=job["fence"], outcome=outcome, error=text)
    session.change("progress_clear", job=job["id"])
