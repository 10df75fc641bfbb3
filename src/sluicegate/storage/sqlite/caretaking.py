"""Operations of the caretaker: give back what silent or dead workers held, and keep the appointed times."""

import sqlite3
from typing import Literal

import msgspec

from sluicegate.domain.ids import WorkerId
from sluicegate.domain.job import JobError, Recovery
from sluicegate.storage.rows import to_json
from sluicegate.storage.sqlite.leasing import expire_held, expire_waiting, withdraw
from sluicegate.storage.sqlite.reading import attempts, is_late
from sluicegate.storage.sqlite.session import Session
from sluicegate.storage.sqlite.submission import IDEMPOTENCY_SECONDS
from sluicegate.storage.sqlite.transitions import end_attempt, end_held, promote, return_held

BATCH = 200
"""Most jobs of each kind in one transaction: others wait for the lock meanwhile."""
MEMORY_SECONDS = 86_400.0
"""How long a silent worker, and a tenant without jobs, is remembered."""

Fate = Literal["requeued", "failed", "expired", "promoted", "canceled"]
Loss = Literal["lease_expired", "worker_died"]


def recover(session: Session) -> Recovery:
    """One batch of a caretaker's round; nothing is left to do when its total is 0."""
    fates: list[Fate] = [
        _take_back(session, row, "lease_expired") for row in session.all("leases_expired", limit=BATCH)
    ]
    for row in session.all("deadlines_passed", limit=BATCH):
        expire_waiting(session, row)
        fates.append("expired")
    for row in session.all("retries_due", limit=BATCH):
        promote(session, row)
        fates.append("promoted")
    session.change("idempotency_prune", before=session.now - IDEMPOTENCY_SECONDS, limit=5 * BATCH)
    session.change("workers_prune", before=session.now - MEMORY_SECONDS)
    session.change("tenants_prune", before=session.now - MEMORY_SECONDS)
    return _tally(fates)


def release(session: Session, worker: WorkerId) -> Recovery:
    """Take back one batch of a dead worker's jobs, and forget the worker."""
    session.change("worker_delete", id=worker)
    rows = session.all("leases_of_worker", worker=worker, limit=BATCH)
    return _tally([_take_back(session, row, "worker_died") for row in rows])


def _take_back(session: Session, row: sqlite3.Row, loss: Loss) -> Fate:
    """Decide about a job whose worker is gone."""
    if row["state"] == "canceling":
        withdraw(session, row)
        return "canceled"
    if is_late(session, row):
        expire_held(session, row, loss)
        return "expired"
    end_attempt(session, row, loss)
    said = {"attempt": row["attempt"], "worker": row["worker"], "reason": loss}
    if row["attempt"] < row["max_attempts"]:
        return_held(session, row, "queued", "job.retrying", said)
        return "requeued"
    error = _exhausted(session, row, loss)
    end_held(session, row, "failed", "job.failed", {**said, "error": error}, cost=0.0, error=to_json(error))
    return "failed"


def _exhausted(session: Session, row: sqlite3.Row, loss: Loss) -> JobError:
    last = {"lease_expired": "the last worker fell silent", "worker_died": "the last worker died"}[loss]
    return JobError(
        code="attempts_exhausted",
        message=f"all {row['max_attempts']} attempts at the job are used up; {last}",
        details={"attempts": msgspec.to_builtins(attempts(session, row["id"]))},
    )


def _tally(fates: list[Fate]) -> Recovery:
    return Recovery(
        requeued=fates.count("requeued"),
        failed=fates.count("failed"),
        expired=fates.count("expired"),
        promoted=fates.count("promoted"),
        canceled=fates.count("canceled"),
    )
