"""Operations that look at jobs without changing them."""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from sluicegate.domain.event import JobEvent
from sluicegate.domain.ids import JobId, Tenant
from sluicegate.domain.job import Attempt, Job, JobState, Lease, Verdict, shown_status
from sluicegate.errors import UnknownJob
from sluicegate.storage.contracts import JobQuery, LaneStanding, QueueCount, QueueView, Usage
from sluicegate.storage.rows import Row, attempt_of, event_of, job_of, running_of, standing_of
from sluicegate.storage.sqlite.session import Session

_AFTER_EVERY_ID = "~"
MOST_COUNTED = 1000
"""Jobs ahead of another are counted up to here."""
_COUNTED_FROM_BEHIND = 256


def job_row(session: Session, job: JobId) -> sqlite3.Row:
    """The stored job; raises `UnknownJob`."""
    row = session.first("job_by_id", id=job)
    if row is None:
        raise UnknownJob(f'there is no job "{job}"; check the id')
    return row


def tenants_row(session: Session, tenant: Tenant, job: JobId) -> sqlite3.Row:
    """The stored job; raises `UnknownJob`, also for another tenant's."""
    row = job_row(session, job)
    if row["tenant"] != tenant:
        raise UnknownJob(f'there is no job "{job}"; check the id')
    return row


def full_job(session: Session, row: Row) -> Job:
    """The job with its place in the queue."""
    if row["state"] != "queued":
        return job_of(row, None)
    place = {name: row[name] for name in ("pool", "tenant", "priority", "id")}
    queued = session.all("tenant_queued", pool=row["pool"], tenant=row["tenant"])[0]["queued"]
    return job_of(row, jobs_ahead(session, place, queued=queued))


def jobs_ahead(session: Session, place: Mapping[str, Any], *, queued: int) -> int:
    """Queued jobs of the same tenant and pool that come before the one at `place` (pool, tenant, priority, id).

    Whoever has just been submitted stands last: counting from behind spares a long count. `queued` is how many the
    tenant has.
    """
    if queued == 1:
        return 0
    behind = int(session.all("jobs_behind", **place, limit=_COUNTED_FROM_BEHIND)[0]["jobs"])
    if behind < _COUNTED_FROM_BEHIND:
        return min(int(queued) - 1 - behind, MOST_COUNTED)
    return int(session.all("jobs_ahead", **place, limit=MOST_COUNTED)[0]["jobs"])


def get(session: Session, tenant: Tenant, job: JobId) -> Job:
    """The tenant's job; raises `UnknownJob`."""
    return full_job(session, tenants_row(session, tenant, job))


def list_jobs(session: Session, tenant: Tenant, query: JobQuery) -> Sequence[Job]:
    """The tenant's jobs, newest first: the heads of the index ranges that the query names, merged."""
    page = {"tenant": tenant, "cursor": query.cursor or _AFTER_EVERY_ID, "limit": query.limit}
    every: tuple[JobState, ...] = get_args(JobState)
    states = [state for state in every if query.status in (None, shown_status(state))]
    if query.model is not None:
        heads = [session.all("list_model_state", **page, model=query.model, state=state) for state in states]
    else:
        heads = [session.all("list_state", **page, state=state) for state in states]
    ids = sorted((JobId(row["id"]) for head in heads for row in head), reverse=True)
    return [full_job(session, job_row(session, job)) for job in ids[: query.limit]]


def look(session: Session, leases: Sequence[Lease]) -> Sequence[Verdict]:
    """What the holder of each lease must do."""
    return [verdict(session, lease, session.first("lease_look", id=lease.job, fence=lease.fence)) for lease in leases]


def verdict(session: Session, lease: Lease, row: sqlite3.Row | None) -> Verdict:
    """The word for a lease whose job has the state and deadline of `row`; None when the lease is stale."""
    if row is None:
        return Verdict(lease, "lost")
    if row["state"] == "canceling":
        return Verdict(lease, "cancel")
    if is_late(session, row):
        return Verdict(lease, "expire")
    return Verdict(lease, "preempt" if row["preempting"] else "keep")


def is_late(session: Session, row: sqlite3.Row) -> bool:
    """Whether the job's deadline has passed."""
    return row["deadline_at"] is not None and row["deadline_at"] <= session.now


def events(session: Session, job: JobId, after: int) -> Sequence[JobEvent]:
    """The job's events after a sequence number."""
    return [event_of(row) for row in session.all("events_after", job=job, after=after)]


def attempts(session: Session, job: JobId) -> Sequence[Attempt]:
    """The job's attempts, first to last."""
    return [attempt_of(row) for row in session.all("attempts", job=job)]


def counts(session: Session) -> Sequence[QueueCount]:
    """Jobs that have not ended, by pool, tier, model and state."""
    return [QueueCount(*row) for row in session.all("queue_counts")]


def queue(session: Session) -> QueueView:
    """The whole queue."""
    return QueueView(
        at=session.now,
        clocks={row["pool"]: row["vtime"] for row in session.all("queue_clocks")},
        tenants=tuple(standing_of(row) for row in session.all("queue_tenants")),
        lanes=tuple(LaneStanding(*row) for row in session.all("queue_lanes")),
        running=tuple(sorted(map(running_of, session.all("queue_running")), key=lambda job: job.lease.job)),
    )


def calibrations(session: Session) -> Mapping[tuple[str, str], float]:
    """How much dearer than estimated each model's jobs have been."""
    return {(row["model"], row["task"]): row["kappa"] for row in session.all("calibrations")}


def usage(session: Session, tenant: Tenant, since: float) -> Usage:
    """What the tenant's ended jobs came to."""
    return Usage(*session.all("ledger_usage", tenant=tenant, since=since)[0])
