"""Operations of a worker: claim, prolong, report, and end an attempt one way or another.

Every write names the fence of the claim; a worker whose fence is no longer the job's writes nothing.
"""

import sqlite3
from collections.abc import Sequence
from typing import Literal

import msgspec

from sluicegate.domain.ids import WorkerId
from sluicegate.domain.job import Claim, JobError, Lease, Output, Preview, Progress, Verdict
from sluicegate.storage.contracts import Success
from sluicegate.storage.sqlite.reading import full_job, is_late, job_row, verdict
from sluicegate.storage.sqlite.registers import add_asset
from sluicegate.storage.sqlite.rows import to_json
from sluicegate.storage.sqlite.session import Session
from sluicegate.storage.sqlite.transitions import append_event, end_attempt, move

CLAIM_BUDGET = 100
"""Most late jobs that one claim's transaction expires."""


class Search(msgspec.Struct, frozen=True):
    """What a claim found, and whether jobs may be left that it did not come to look at."""

    claim: Claim | None
    unfinished: bool = False


def claim(session: Session, worker: WorkerId, models: Sequence[str], lease_seconds: float) -> Search:
    """Hand over the best head of the models' lanes, expiring the late jobs before it."""
    for _ in range(CLAIM_BUDGET):
        heads = [head for model in models if (head := session.first("queue_head", model=model)) is not None]
        if not heads:
            return Search(None)
        row = job_row(session, min(heads, key=lambda head: (-head["priority"], head["id"]))["id"])
        if not is_late(session, row):
            return Search(_hand_over(session, row, worker, session.now + lease_seconds))
        expire_waiting(session, row)
    return Search(None, unfinished=True)


def _hand_over(session: Session, row: sqlite3.Row, worker: WorkerId, lease_until: float) -> Claim:
    job, number, fence = row["id"], row["attempt"] + 1, row["fence"] + 1
    move(
        session,
        row,
        "running",
        "job.running",
        {"attempt": number, "worker": worker},
        attempt=number,
        fence=fence,
        worker=worker,
        lease_until=lease_until,
        started_at=session.now if row["started_at"] is None else row["started_at"],
    )
    session.change("attempt_begin", job=job, fence=fence, number=number, worker=worker)
    return Claim(full_job(session, job_row(session, job)), Lease(job, fence))


def expire_waiting(session: Session, row: sqlite3.Row) -> None:
    """End a job that waited past its deadline."""
    error = _late(row)
    move(session, row, "expired", "job.expired", {"attempt": row["attempt"], "error": error}, error=to_json(error))


def expire_held(session: Session, row: sqlite3.Row, outcome: str) -> None:
    """End a job that ran past its deadline."""
    error = _late(row)
    end_attempt(session, row, outcome, error)
    move(session, row, "expired", "job.expired", {"attempt": row["attempt"], "error": error}, error=to_json(error))


def _late(row: sqlite3.Row) -> JobError:
    limit = "its deadline"
    if row["deadline_at"] is not None:
        limit = f"its deadline of {row['deadline_at'] - row['created_at']:g} s"
    return JobError(code="deadline_exceeded", message=f"the job did not end within {limit}; allow it more time")


def heartbeat(session: Session, worker: WorkerId, leases: Sequence[Lease], lease_seconds: float) -> Sequence[Verdict]:
    """Prolong what is current, also for work that must stop: its worker needs the time to do so."""
    session.change("worker_beat", id=worker)
    until = session.now + lease_seconds
    return [
        verdict(
            session,
            lease,
            session.first("lease_prolong", id=lease.job, fence=lease.fence, worker=worker, lease_until=until),
        )
        for lease in leases
    ]


def held(session: Session, lease: Lease) -> sqlite3.Row | None:
    """The job, when the lease is current."""
    return session.first("job_held", id=lease.job, fence=lease.fence)


def report(session: Session, lease: Lease, progress: Progress) -> None:
    """Record the latest progress."""
    if held(session, lease) is not None:
        session.change("progress_put", job=lease.job, report=to_json(progress))


def preview(session: Session, lease: Lease, preview: Preview) -> bool:
    """Add a preview to the job's events."""
    if held(session, lease) is None:
        return False
    append_event(session, lease.job, "job.preview", msgspec.to_builtins(preview))
    return True


def succeed(session: Session, lease: Lease, success: Success) -> bool:
    """Record assets, outputs, attempt and event, and end the job."""
    row = held(session, lease)
    if row is None:
        return False
    for asset in success.outputs:
        add_asset(session, asset)
    outputs = [
        Output(
            id=asset.id,
            content_type=asset.content_type,
            size_bytes=asset.size_bytes,
            width=asset.width,
            height=asset.height,
            sha256=asset.sha256,
        )
        for asset in success.outputs
    ]
    outcome = {
        "backend": success.backend,
        "execution_seconds": success.execution_seconds,
        "outputs": to_json(outputs),
        "degraded": to_json(success.degraded),
        "details": to_json(success.details),
    }
    data = {
        "attempt": row["attempt"],
        "worker": row["worker"],
        "outputs": outputs,
        "backend": success.backend,
        "execution_seconds": success.execution_seconds,
        "degraded": success.degraded,
        "details": success.details,
    }
    end_attempt(session, row, "succeeded")
    move(session, row, "succeeded", "job.succeeded", data, **outcome)
    return True


def fail(session: Session, lease: Lease, error: JobError, retry_in: float | None) -> bool:
    """Record a failed attempt; what follows depends on whether another may be made."""
    row = held(session, lease)
    if row is None:
        return False
    said = {"attempt": row["attempt"], "worker": row["worker"], "error": error}
    if row["state"] == "canceling":
        withdraw(session, row, error)
    elif retry_in is not None and row["attempt"] < row["max_attempts"]:
        due = session.now + retry_in
        end_attempt(session, row, "retried", error)
        move(session, row, "scheduled", "job.retrying", {**said, "reason": "failed", "retry_at": due}, due_at=due)
    else:
        end_attempt(session, row, "failed", error)
        move(session, row, "failed", "job.failed", said, error=to_json(error))
    return True


def withdraw(session: Session, row: sqlite3.Row, error: JobError | None = None) -> None:
    """End a job whose caller withdrew it while a worker held it."""
    end_attempt(session, row, "canceled", error)
    move(session, row, "canceled", "job.canceled", {"attempt": row["attempt"], "worker": row["worker"]})


def stop(session: Session, lease: Lease, word: Literal["cancel", "expire"]) -> bool:
    """End work that was stopped on the store's word. A withdrawal that came after the deadline wins."""
    row = held(session, lease)
    if row is None:
        return False
    if word == "cancel" or row["state"] == "canceling":
        withdraw(session, row)
    else:
        expire_held(session, row, "expired")
    return True


def hand_back(session: Session, lease: Lease) -> bool:
    """Return the job to the queue as if the attempt had not been; a withdrawn job ends instead."""
    row = held(session, lease)
    if row is None:
        return False
    if row["state"] == "canceling":
        withdraw(session, row)
        return True
    number = row["attempt"] - 1
    end_attempt(session, row, "handed_back")
    data = {"attempt": number, "worker": row["worker"], "reason": "handed_back"}
    move(session, row, "queued", "job.queued", data, attempt=number)
    return True
