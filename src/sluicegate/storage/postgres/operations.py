"""What goes to the server's `perform` function for each writing operation, and what comes back.

Documents (input, outputs, details, error, ...) travel as JSON inside strings: as such they may hold U+0000.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Literal, TypeVar

import msgspec

from sluicegate.domain.asset import Asset
from sluicegate.domain.fairness import (
    CALIBRATION_BOUNDS,
    CALIBRATION_RATE,
    LEAST_COST,
    MOST_PREEMPTIONS,
    Policy,
)
from sluicegate.domain.generation import IMAGE_FIELDS
from sluicegate.domain.ids import JobId, Tenant, WorkerId
from sluicegate.domain.job import (
    Claim,
    Idempotency,
    Job,
    JobError,
    Lease,
    NewJob,
    Output,
    Preview,
    Progress,
    Recovery,
    Submission,
    Verdict,
)
from sluicegate.errors import InvalidInput, UnknownJob
from sluicegate.storage.contracts import Success, WorkerInfo
from sluicegate.storage.postgres.answers import JobRow, Shown
from sluicegate.storage.rows import job_of, to_json
from sluicegate.storage.searches import Search

Result = TypeVar("Result")

BATCH = 200
"""Most jobs of each kind that one call of the caretaker changes: others wait for the lock meanwhile."""
_LARGEST_DOCUMENT = 200_000_000
"""Bytes; jsonb takes less than 2**28 for one string."""
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
"""U+0000 in a string of the message itself, not in a document inside a string: PostgreSQL has no such text."""


class Operation(msgspec.Struct, Generic[Result], frozen=True):
    """One operation: its message, what its answer means, whether it must have a transaction of its own, and the jobs
    of which it changes the row while a worker may hold them."""

    message: bytes
    decode: Callable[[msgspec.Raw], Result]
    alone: bool = False
    held: Sequence[JobId] = ()


_SHOWN = msgspec.json.Decoder(Shown)
_YES_OR_NO = msgspec.json.Decoder(bool)
_COUNT = msgspec.json.Decoder(int)
_WORDS = msgspec.json.Decoder(list[str])
_ENCODER = msgspec.json.Encoder()


def _operation(
    op: str,
    decode: Callable[[msgspec.Raw], Result],
    /,
    *,
    alone: bool = False,
    held: Sequence[JobId] = (),
    **fields: Any,
) -> Operation[Result]:
    message = _ENCODER.encode({"op": op, **fields})
    if b"\\u0000" in message and _NUL.search(message):
        raise InvalidInput("a name holds the character U+0000, which the database cannot store; leave it out")
    if len(message) > _LARGEST_DOCUMENT:
        raise InvalidInput(f"{len(message)} bytes are more than the database stores at once; send less")
    return Operation(message, decode, alone, held)


def _nothing(_: msgspec.Raw) -> None:
    return None


def submit(new: NewJob, idempotency: Idempotency | None) -> Operation[Submission]:
    """Store a job, or replay the one of the same key."""
    tier = new.tier
    fields: dict[str, Any] = {
        "job": new.id,
        "tenant": new.tenant,
        "tier": tier.name,
        "weight": tier.weight,
        "max_running": tier.concurrent_jobs,
        "queued_jobs": tier.queued_jobs,
        "queued_cost": tier.queued_cost,
        "pool": new.pool,
        "cost": new.cost,
        "base_cost": new.cost if new.base_cost is None else new.base_cost,
        "preemptible": tier.preemptible or new.priority < 0,
        "model": new.model,
        "task": new.task,
        "input": to_json(new.input),
        "priority": new.priority,
        "deadline_seconds": new.deadline_seconds,
        "max_attempts": new.max_attempts,
        "metadata": to_json(new.metadata),
    }
    if idempotency is not None:
        fields |= {"key": idempotency.key, "digest": idempotency.digest}
    named = [(field, new.input.get(field)) for field in IMAGE_FIELDS]
    assets = [(field, value) for field, value in named if isinstance(value, str) and value.startswith("asset_")]
    if assets:
        fields["assets"] = assets

    def decode(result: msgspec.Raw) -> Submission:
        told = _SHOWN.decode(result)
        if told.job is not None:
            return Submission(told.whole(), replayed=True)
        return Submission(_queued(fields, told), replayed=False)

    return _operation("submit", decode, **fields)


def _queued(fields: Mapping[str, Any], stored: Shown) -> Job:
    """The job that was just stored, without sending its input back and forth."""
    said = ("tenant", "tier", "pool", "cost", "model", "task", "input", "priority", "max_attempts", "metadata")
    empty = ("started_at", "completed_at", "due_at", "worker", "backend", "execution_seconds", "error", "charged")
    columns: dict[str, Any] = {**{name: fields[name] for name in said}, **dict.fromkeys(empty)}
    row = JobRow(
        id=fields["job"],
        state="queued",
        created_at=stored.created_at,
        deadline_at=stored.deadline_at,
        attempt=0,
        fence=0,
        preemptions=0,
        outputs="[]",
        degraded="[]",
        details="{}",
        **columns,
    )
    return job_of(row, stored.jobs_ahead)


def claim(
    worker: WorkerId,
    models: Sequence[str],
    lease_seconds: float,
    *,
    pools: Sequence[str],
    loaded: Sequence[str],
    policy: Policy,
) -> Operation[Search]:
    """Hand the next runnable job to the worker."""

    def decode(result: msgspec.Raw) -> Search:
        found = _SHOWN.decode(result)
        if found.job is None:
            return Search(None, found.unfinished)
        job = found.whole()
        return Search(Claim(job, Lease(job.id, job.fence)))

    return _operation(
        "claim",
        decode,
        worker=worker,
        models=_array(models),
        loaded=_array(loaded),
        pools=_array(pools),
        lease_seconds=lease_seconds,
        swap_penalty=policy.swap_penalty,
        lane_wait=policy.lane_wait,
        guard=policy.guard,
        guard_every=policy.guard_every,
    )


def heartbeat(worker: WorkerId, leases: Sequence[Lease], lease_seconds: float) -> Operation[Sequence[Verdict]]:
    """Prolong what is current."""
    beats = [(lease.job, lease.fence) for lease in leases]
    return _operation(
        "heartbeat",
        lambda result: [Verdict(lease, word) for lease, word in zip(leases, _WORDS.decode(result), strict=True)],  # type: ignore[arg-type]
        held=[lease.job for lease in leases],
        worker=worker,
        beats=beats,
        lease_seconds=lease_seconds,
    )


def report(lease: Lease, progress: Progress) -> Operation[None]:
    """Record the latest progress."""
    return _operation(
        "report", _nothing, job=lease.job, fence=lease.fence, value=progress.value, report=to_json(progress)
    )


def preview(lease: Lease, shown: Preview) -> Operation[bool]:
    """Add a preview to the job's events."""
    return _operation("preview", _YES_OR_NO.decode, **_held(lease), preview=to_json(shown))


def succeed(lease: Lease, success: Success) -> Operation[bool]:
    """End the job with its outputs."""
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
    return _operation(
        "succeed",
        _YES_OR_NO.decode,
        **_held(lease),
        assets=success.outputs,
        outputs=to_json(outputs),
        backend=success.backend,
        execution_seconds=success.execution_seconds,
        cost=success.execution_seconds if success.cost is None else success.cost,
        degraded=to_json(success.degraded),
        details=to_json(success.details),
        calibration=(CALIBRATION_RATE, LEAST_COST, *CALIBRATION_BOUNDS),
    )


def fail(lease: Lease, error: JobError, retry_in: float | None, cost: float) -> Operation[bool]:
    """Record a failed attempt."""
    return _operation("fail", _YES_OR_NO.decode, **_held(lease), error=to_json(error), retry_in=retry_in, cost=cost)


def stop(lease: Lease, word: Literal["cancel", "expire"], cost: float) -> Operation[bool]:
    """End work that was stopped as told."""
    return _operation("stop", _YES_OR_NO.decode, **_held(lease), word=word, cost=cost)


def hand_back(lease: Lease, policy: Policy, *, preempted: bool) -> Operation[bool]:
    """Return the job to the queue."""
    return _operation("hand_back", _YES_OR_NO.decode, **_held(lease), preempted=preempted, setback=policy.setback)


def preempt(lease: Lease) -> Operation[bool]:
    """Have the holder told to give way."""
    return _operation("preempt", _YES_OR_NO.decode, **_held(lease), most=MOST_PREEMPTIONS)


def cancel(tenant: Tenant, job: JobId) -> Operation[Job]:
    """Withdraw the tenant's job; raises `UnknownJob` when it cannot be the name of one."""
    if "\0" in job:
        raise UnknownJob(f'there is no job "{job}"; check the id')
    return _operation("cancel", lambda result: _SHOWN.decode(result).whole(), held=(job,), tenant=tenant, job=job)


def recover() -> Operation[Recovery]:
    """One batch of a caretaker's round."""
    return _operation("recover", _recovery, alone=True, batch=BATCH)


def release(worker: WorkerId) -> Operation[Recovery]:
    """Take back one batch of a dead worker's jobs."""
    return _operation("release", _recovery, alone=True, worker=worker, batch=BATCH)


def _recovery(result: msgspec.Raw) -> Recovery:
    fates = _WORDS.decode(result)
    return Recovery(**{fate: fates.count(fate) for fate in Recovery.__struct_fields__})


def prolong(seconds: float) -> Operation[int]:
    """Add to every lease."""
    return _operation("prolong", _COUNT.decode, alone=True, seconds=seconds)


def enlist(worker: WorkerInfo) -> Operation[None]:
    """Add or refresh a worker."""
    return _operation(
        "enlist",
        _nothing,
        worker=worker.id,
        host=worker.host,
        pid=worker.pid,
        started_at=worker.started_at,
        models=to_json(worker.models),
        loaded=to_json(worker.loaded),
        pools=to_json(worker.pools),
    )


def dismiss(worker: WorkerId) -> Operation[None]:
    """Forget a worker."""
    return _operation("dismiss", _nothing, worker=worker)


def add_asset(asset: Asset) -> Operation[None]:
    """Record an asset."""
    return _operation("add_asset", _nothing, **msgspec.structs.asdict(asset))


def delete_asset(tenant: Tenant, asset: str) -> Operation[None]:
    """Forget the tenant's asset."""
    return _operation("delete_asset", _nothing, tenant=tenant, asset=asset)


def ping() -> Operation[None]:
    """Write something small: shows that the scheduler's lock can be had and the disk written to."""
    return _operation("ping", _nothing)


def _array(names: Sequence[str]) -> str:
    """How PostgreSQL writes an array of text: cast, it is read several times faster than one of JSON."""
    return "{" + ",".join('"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"' for name in names) + "}"


def _held(lease: Lease) -> dict[str, Any]:
    return {"held": (lease.job,), "job": lease.job, "fence": lease.fence}
