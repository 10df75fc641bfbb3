"""Operations of the one who wants the work done: submit and cancel."""

import sqlite3

from sluicegate.domain.generation import IMAGE_FIELDS
from sluicegate.domain.ids import JobId, Tenant
from sluicegate.domain.job import Idempotency, Job, NewJob, Submission
from sluicegate.errors import Conflict, IdempotencyMismatch, UnknownAsset
from sluicegate.storage.sqlite.reading import full_job, job_row, tenants_row
from sluicegate.storage.sqlite.rows import to_json
from sluicegate.storage.sqlite.session import Session
from sluicegate.storage.sqlite.transitions import append_event, move

IDEMPOTENCY_SECONDS = 86_400.0
"""How long an Idempotency-Key is remembered."""


def submit(session: Session, new: NewJob, idempotency: Idempotency | None) -> Submission:
    """Store the job, or find the one that came with the same key."""
    if idempotency is not None:
        earlier = _earlier(session, new.tenant, idempotency)
        if earlier is not None:
            return Submission(full_job(session, job_row(session, earlier)), replayed=True)
    _insert(session, new)
    if idempotency is not None:
        session.change("idempotency_put", tenant=new.tenant, key=idempotency.key, digest=idempotency.digest, job=new.id)
    return Submission(full_job(session, job_row(session, new.id)), replayed=False)


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


def _insert(session: Session, new: NewJob) -> None:
    deadline = session.now + new.deadline_seconds if new.deadline_seconds is not None else None
    try:
        session.change(
            "job_insert",
            id=new.id,
            tenant=new.tenant,
            model=new.model,
            task=new.task,
            input=to_json(new.input),
            priority=new.priority,
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
    append_event(session, new.id, "job.queued", {"status": "queued"})


def cancel(session: Session, tenant: Tenant, job: JobId) -> Job:
    """Withdraw the tenant's job; raises `UnknownJob`."""
    row = tenants_row(session, tenant, job)
    if row["state"] in ("queued", "scheduled"):
        move(session, row, "canceled", "job.canceled", {"attempt": row["attempt"]})
    elif row["state"] == "running":
        move(session, row, "canceling", "job.canceling", {"attempt": row["attempt"], "worker": row["worker"]})
    return full_job(session, job_row(session, job))
