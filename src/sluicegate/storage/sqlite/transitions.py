"""The one way in which a stored job changes state: with its event, and only as the state machine allows.

`move` changes the job alone. The endings and returns below it also settle with the tenant: see `fair_queue`.
"""

import sqlite3
from collections.abc import Mapping
from typing import Any

from sluicegate.domain.event import EventKind
from sluicegate.domain.ids import JobId
from sluicegate.domain.job import HELD, TERMINAL, TRANSITIONS, JobError, JobState, shown_status
from sluicegate.errors import Conflict
from sluicegate.storage.rows import Row, to_json
from sluicegate.storage.sqlite import fair_queue
from sluicegate.storage.sqlite.session import Session

_CARRIED = (
    "attempt", "fence", "worker", "lease_until", "due_at", "started_at", "completed_at", "backend",
    "execution_seconds", "outputs", "error", "degraded", "details", "paid", "weight", "charged", "claimed_at",
    "preempting", "preemptions",
)  # fmt: skip


def move(
    session: Session, job: sqlite3.Row, to: JobState, kind: EventKind, data: Mapping[str, Any], **columns: Any
) -> Row:
    """Put the job in state `to`, change `columns` with it and write the event; the job as it is then.

    Raises `Conflict` when the state machine has no such transition. The attempt is the caller's: see `end_attempt`.
    """
    start: JobState = job["state"]
    if to not in TRANSITIONS[start]:
        raise Conflict(f'job "{job["id"]}" is {start}, from where it cannot become {to}; look at it again')
    values = {name: job[name] for name in _CARRIED}
    if to not in HELD:
        values["lease_until"] = None
        values["preempting"] = 0
    if to in ("queued", "scheduled"):
        values["worker"] = None
    if start == "scheduled":
        values["due_at"] = None
    if to in TERMINAL:
        values["completed_at"] = session.now
    values = {**values, **columns, "id": job["id"], "state": to}
    session.change("job_move", **values)
    if to in TERMINAL:
        session.change("asset_unpin", job=job["id"])
    append_event(session, job["id"], kind, {"status": shown_status(to), **data})
    return {**dict(job), **values}


def end_held(
    session: Session,
    job: sqlite3.Row,
    to: JobState,
    kind: EventKind,
    data: Mapping[str, Any],
    *,
    cost: float,
    **columns: Any,
) -> None:
    """End a job that a worker held: settle the tag at its `cost` in reference seconds, and write the ledger."""
    standing = fair_queue.holder_of(session, job)
    settled = fair_queue.settle(standing, job, cost)
    move(session, job, to, kind, data, charged=cost, **settled, **columns)
    _enter(session, job, cost)
    fair_queue.keep(session, standing)


def end_waiting(
    session: Session, job: sqlite3.Row, to: JobState, kind: EventKind, data: Mapping[str, Any], **columns: Any
) -> None:
    """End a job that no worker holds. Nothing is charged."""
    standing = fair_queue.holder_of(session, job)
    if job["state"] == "queued":
        fair_queue.pull(session, standing, job)
    else:
        standing.delayed -= 1
    refunded = fair_queue.refund(session, standing, job)
    move(session, job, to, kind, data, charged=0.0, **refunded, **columns)
    _enter(session, job, 0.0)
    fair_queue.keep(session, standing)


def return_held(
    session: Session,
    job: sqlite3.Row,
    to: JobState,
    kind: EventKind,
    data: Mapping[str, Any],
    *,
    preempted: bool = False,
    **columns: Any,
) -> None:
    """Let a job that a worker held wait again, queued or scheduled, and refund its charge."""
    standing = fair_queue.holder_of(session, job)
    standing.running -= 1
    refunded = fair_queue.refund(session, standing, job, preempted=preempted)
    move(session, job, to, kind, data, **refunded, **columns)
    if to == "queued":
        fair_queue.push(session, standing, job["model"], job["cost"])
    else:
        standing.delayed += 1
    fair_queue.keep(session, standing)


def promote(session: Session, job: sqlite3.Row) -> None:
    """Queue a job whose back-off is over."""
    standing = fair_queue.holder_of(session, job)
    standing.delayed -= 1
    move(session, job, "queued", "job.queued", {"attempt": job["attempt"], "reason": "retry_due"})
    fair_queue.push(session, standing, job["model"], job["cost"])
    fair_queue.keep(session, standing)


def _enter(session: Session, job: sqlite3.Row, cost: float) -> None:
    who = {name: job[name] for name in ("tenant", "pool", "tier", "model")}
    session.change("ledger_add", job=job["id"], cost=cost, **who)


def append_event(session: Session, job: JobId, kind: EventKind, data: Mapping[str, Any]) -> None:
    """Write the job's next event."""
    session.change("event_append", job=job, kind=kind, data=to_json(data))


def end_attempt(session: Session, job: sqlite3.Row, outcome: str, error: JobError | None = None) -> None:
    """Close the record of the attempt that holds the job, and forget its progress."""
    text = to_json(error) if error is not None else None
    session.change("attempt_end", job=job["id"], fence=job["fence"], outcome=outcome, error=text)
    session.change("progress_clear", job=job["id"])
