"""Operations of the one who wants the work done: submit and cancel."""

import sqlite3

from sluicegate.domain.generation import IMAGE_FIELDS
from sluicegate.domain.ids import JobId, Tenant
from sluicegate.domain.job import Idempotency, Job, NewJob, Submission
from sluicegate.errors import Conflict, IdempotencyMismatch, QueueFull, UnknownAsset
from sluicegate.storage.contracts import QUEUE_FULL_SECONDS
from sluicegate.storage.rows import to_json
from sluicegate.storage.sqlite import fair_queue
from sluicegate.storage.sqlite.reading import full_job, job_row, jobs_ahead, tenants_row
from sluicegate.storage.sqlite.session import Session
from sluicegate.storage.sqlite.transitions import end_waiting, move

IDEMPOTENCY_SECONDS = 86_400.0
"""How long an Idempotency-Key is remembered."""


def submit(session: Session, new: NewJob, idempotency: Idempotency | None) -> Submission:
    """Store the job, or find the one that came with the same key."""
    if idempotency is not None:
        earlier = _earlier(session, new.tenant, idempotency)
        if earlier is not None:
            return Submission(full_job(session, job_row(session, earlier)), replayed=True)
    standing = fair_queue.joined(session, new.pool, new.tenant, new.tier)
    _check_bounds(standing, new)
    deadline_at = _insert(session, new)
    fair_queue.push(session, standing, new.model, new.cost)
    fair_queue.keep(session, standing)
    if idempotency is not None:
        session.change("idempotency_put", tenant=new.tenant, key=idempotency.key, digest=idempotency.digest, job=new.id)
    place = {"pool": new.pool, "tenant": new.tenant, "priority": new.priority, "id": new.id}
    ahead = jobs_ahead(session, place, queued=standing.queued)
    return Submission(_as_stored(new, session.now, deadline_at, ahead), replayed=False)


def _as_stored(new: NewJob, now: float, deadline_at: float | None, ahead: int) -> Job:
    """What reading the new job back would give."""
    return Job(
        id=new.id,
        tenant=new.tenant,
        state="queued",
        model=new.model,
        task=new.task,
        pool=new.pool,
        tier=new.tier.name,
        input=new.input,
        priority=new.priority,
        cost=new.cost,
        charged=None,
        preemptions=0,
        created_at=now,
        started_at=None,
        completed_at=None,
        deadline_at=deadline_at,
        due_at=None,
        attempt=0,
        max_attempts=new.max_attempts,
        fence=0,
        worker=None,
        backend=None,
        execution_seconds=None,
        outputs=(),
        error=None,
        degraded=(),
        details={},
        metadata=new.metadata,
        progress=None,
        jobs_ahead=ahead,
    )


def _check_bounds(standing: fair_queue.Standing, new: NewJob) -> None:
    """Refuse a job beyond what the tenant's tier grants to wait."""
    waiting, work = standing.queued + standing.delayed, standing.queued_cost + new.cost
    tier, most, most_cost = new.tier.name, new.tier.queued_jobs, new.tier.queued_cost
    if most is not None and waiting >= most:
        message = f'{waiting} of your jobs wait in pool "{new.pool}", and tier "{tier}" grants {most}'
        raise QueueFull(f"{message}; wait for some to end, or cancel some", retry_after=QUEUE_FULL_SECONDS)
    if most_cost is not None and standing.queued > 0 and work > most_cost:
        message = f'{work:.0f} s of your work would wait in pool "{new.pool}", and tier "{tier}" grants {most_cost:g} s'
        raise QueueFull(f"{message}; wait for some to end, or cancel some", retry_after=QUEUE_FULL_SECONDS)


def replay(session: Session, tenant: Tenant, idempotency: Idempotency) -> Job | None:
    """The job that came with the same key, if any."""
    earlier = _earlier(session, tenant, idempotency)
    return full_job(session, job_row(session, earlier)) if earlier is not None else None


def _earlier(session: Session, tenant: Tenant, idempotency: Idempotency) -> JobId | None:
    found = session.first("idempotency_find", tenant=tenant, key=idempotency.key)
    if found is None or found["created_at"] <= session.now - IDEMPOTENCY_SECONDS:
        return None
    if found["digest"] != idempotency.digest:
        raise IdempotencyMismatch(
            f'Idempotency-Key "{idempotency.key}" came with another body for job "{found["job"]}"; use a new key'
        )
    return JobId(found["job"])


def _insert(session: Session, new: NewJob) -> float | None:
    """Write the job, its assets and its first event; when its deadline is."""
    deadline = session.now + new.deadline_seconds if new.deadline_seconds is not None else None
    try:
        session.change(
            "job_insert",
            id=new.id,
            tenant=new.tenant,
            model=new.model,
            task=new.task,
            input=to_json(new.input),
            pool=new.pool,
            tier=new.tier.name,
            priority=new.priority,
            cost=new.cost,
            base_cost=new.cost if new.base_cost is None else new.base_cost,
            preemptible=int(new.tier.preemptible or new.priority < 0),
            deadline_at=deadline,
            max_attempts=new.max_attempts,
            metadata=to_json(new.metadata),
        )
    except sqlite3.IntegrityError as error:
        raise Conflict(f'job "{new.id}" cannot be stored: {error}; use a new id and max_attempts >= 1') from error
    for field in IMAGE_FIELDS:
        value = new.input.get(field)
        if not (isinstance(value, str) and value.startswith("asset_")):
            continue
        if session.first("asset_of_tenant", id=value, tenant=new.tenant) is None:
            raise UnknownAsset(f'{field}: no asset "{value}"; upload it first')
        session.change("asset_pin", asset=value, job=new.id, tenant=new.tenant)
    session.change("event_first", job=new.id, kind="job.queued", data='{"status":"queued"}')
    return deadline


def cancel(session: Session, tenant: Tenant, job: JobId) -> Job:
    """Withdraw the tenant's job; raises `UnknownJob`."""
    row = tenants_row(session, tenant, job)
    if row["state"] in ("queued", "scheduled"):
        end_waiting(session, row, "canceled", "job.canceled", {"attempt": row["attempt"]})
    elif row["state"] == "running":
        move(session, row, "canceling", "job.canceling", {"attempt": row["attempt"], "worker": row["worker"]})
    return full_job(session, job_row(session, job))
