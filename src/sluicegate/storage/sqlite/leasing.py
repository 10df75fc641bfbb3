"""Operations of a worker: claim, prolong, report, and end an attempt one way or another.

Every write names the fence of the claim; a worker whose fence is no longer the job's writes nothing.
"""

import sqlite3
from collections.abc import Sequence
from typing import Literal

import msgspec

from sluicegate.domain.fairness import MOST_PREEMPTIONS, calibrated
from sluicegate.domain.ids import JobId, WorkerId
from sluicegate.domain.job import Claim, JobError, Lease, Output, Preview, Progress, Verdict
from sluicegate.errors import Conflict
from sluicegate.storage.contracts import Success
from sluicegate.storage.rows import to_json
from sluicegate.storage.searches import Search
from sluicegate.storage.sqlite.fair_queue import charge, choose, holder_of, keep, tick
from sluicegate.storage.sqlite.reading import full_job, is_late, job_row, verdict
from sluicegate.storage.sqlite.registers import add_asset
from sluicegate.storage.sqlite.session import Session
from sluicegate.storage.sqlite.transitions import append_event, end_attempt, end_held, end_waiting, move, return_held

CLAIM_BUDGET = 100
"""Most late jobs that one claim's transaction expires."""


def claim(
    session: Session,
    worker: WorkerId,
    models: Sequence[str],
    lease_seconds: float,
    *,
    pools: Sequence[str],
    loaded: Sequence[str],
) -> Search:
    """Hand over the job whose turn it is in the first of the pools that has one, expiring the late ones before it."""
    budget = CLAIM_BUDGET
    for pool in pools:
        while (choice := choose(session, pool, models, loaded)) is not None:
            row = job_row(session, JobId(choice.job))
            if not is_late(session, row):
                tick(session, pool, choice)
                return Search(_hand_over(session, row, worker, session.now + lease_seconds))
            expire_waiting(session, row)
            budget -= 1
            if budget == 0:
                return Search(None, unfinished=True)
    return Search(None)


def _hand_over(session: Session, row: sqlite3.Row, worker: WorkerId, lease_until: float) -> Claim:
    job, number, fence = row["id"], row["attempt"] + 1, row["fence"] + 1
    standing = holder_of(session, row)
    charged = charge(session, standing, row)
    moved = move(
        session,
        row,
        "running",
        "job.running",
        {"attempt": number, "worker": worker},
        attempt=number,
        fence=fence,
        worker=worker,
        lease_until=lease_until,
        claimed_at=session.now,
        started_at=session.now if row["started_at"] is None else row["started_at"],
        **charged,
    )
    keep(session, standing)
    session.change("attempt_begin", job=job, fence=fence, number=number, worker=worker)
    return Claim(full_job(session, moved), Lease(job, fence))


def expire_waiting(session: Session, row: sqlite3.Row) -> None:
    """End a job that waited past its deadline."""
    error = _late(row)
    said = {"attempt": row["attempt"], "error": error}
    end_waiting(session, row, "expired", "job.expired", said, error=to_json(error))


def expire_held(session: Session, row: sqlite3.Row, outcome: str, *, cost: float = 0.0) -> None:
    """End a job that ran past its deadline."""
    error = _late(row)
    end_attempt(session, row, outcome, error)
    said = {"attempt": row["attempt"], "error": error}
    end_held(session, row, "expired", "job.expired", said, cost=cost, error=to_json(error))


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
    cost = success.execution_seconds if success.cost is None else success.cost
    end_attempt(session, row, "succeeded")
    end_held(session, row, "succeeded", "job.succeeded", data, cost=cost, **outcome)
    _calibrate(session, row, cost)
    return True


def _calibrate(session: Session, row: sqlite3.Row, cost: float) -> None:
    """Let the next estimates for the model know what this job did cost."""
    which = {"model": row["model"], "task": row["task"]}
    known = session.first("calibration_get", **which)
    kappa = calibrated(known["kappa"] if known is not None else 1.0, row["base_cost"], cost)
    session.change("calibration_put", **which, kappa=kappa)


def fail(session: Session, lease: Lease, error: JobError, retry_in: float | None, cost: float) -> bool:
    """Record a failed attempt; what follows depends on whether another may be made."""
    row = held(session, lease)
    if row is None:
        return False
    said = {"attempt": row["attempt"], "worker": row["worker"], "error": error}
    if row["state"] == "canceling":
        withdraw(session, row, error, cost=cost)
    elif retry_in is not None and row["attempt"] < row["max_attempts"]:
        due = session.now + retry_in
        end_attempt(session, row, "retried", error)
        said = {**said, "reason": "failed", "retry_at": due}
        return_held(session, row, "scheduled", "job.retrying", said, due_at=due)
    else:
        end_attempt(session, row, "failed", error)
        end_held(session, row, "failed", "job.failed", said, cost=cost, error=to_json(error))
    return True


def withdraw(session: Session, row: sqlite3.Row, error: JobError | None = None, *, cost: float = 0.0) -> None:
    """End a job whose caller withdrew it while a worker held it."""
    end_attempt(session, row, "canceled", error)
    said = {"attempt": row["attempt"], "worker": row["worker"]}
    end_held(session, row, "canceled", "job.canceled", said, cost=cost)


def stop(session: Session, lease: Lease, word: Literal["cancel", "expire"], cost: float) -> bool:
    """End work that was stopped on the store's word. A withdrawal that came after the deadline wins.

    Raises `Conflict` when the store would not say so: the job was not withdrawn, or its deadline has not passed.
    """
    row = held(session, lease)
    if row is None:
        return False
    if word == "cancel" or row["state"] == "canceling":
        withdraw(session, row, cost=cost)
    elif is_late(session, row):
        expire_held(session, row, "expired", cost=cost)
    else:
        raise Conflict(f'job "{lease.job}" is {row["state"]}, and its deadline has not passed; look at it again')
    return True


def hand_back(session: Session, lease: Lease, *, preempted: bool) -> bool:
    """Return the job to the queue as if the attempt had not been; a withdrawn job ends instead."""
    row = held(session, lease)
    if row is None:
        return False
    if row["state"] == "canceling":
        withdraw(session, row)
        return True
    number, reason = row["attempt"] - 1, "preempted" if preempted else "handed_back"
    end_attempt(session, row, reason)
    said = {"attempt": number, "worker": row["worker"], "reason": reason}
    preemptions = row["preemptions"] + int(preempted)
    return_held(
        session, row, "queued", "job.queued", said, preempted=preempted, attempt=number, preemptions=preemptions
    )
    return True


def preempt(session: Session, lease: Lease) -> bool:
    """Have the holder told to give way, where that is allowed."""
    return session.change("job_preempt", id=lease.job, fence=lease.fence, most=MOST_PREEMPTIONS) > 0
