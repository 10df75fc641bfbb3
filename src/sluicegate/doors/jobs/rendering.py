"""Jobs and assets as callers see them."""

from typing import Any

import msgspec

from sluicegate.domain.asset import Asset
from sluicegate.domain.event import JobEvent
from sluicegate.domain.ids import AssetId, JobId
from sluicegate.domain.job import Job, JobError, JobStatus, Progress, shown_status
from sluicegate.doors.timestamps import timestamp
from sluicegate.scheduling.forecast import NOTHING, Outlook


class OutputView(msgspec.Struct, frozen=True, kw_only=True):
    """One result and where to fetch it."""

    id: AssetId
    type: str
    content_type: str
    size_bytes: int
    width: int
    height: int
    sha256: str
    url: str


class JobMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """How the job went. Times in milliseconds, None while unknown.

    `cost` is in reference seconds: the estimate until the job has ended, then what was charged.
    """

    queue_ms: int | None
    execution_ms: int | None
    attempts: int
    backend: str | None
    cost: float


class JobUrls(msgspec.Struct, frozen=True):
    """Where to look, listen and withdraw."""

    self: str
    events: str
    cancel: str


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    """A job. Times are RFC 3339 in UTC."""

    id: JobId
    status: JobStatus
    model: str
    task: str
    created_at: str
    started_at: str | None
    completed_at: str | None
    queue_position: int | None
    """While it waits: 1 and the number of jobs that are expected to start before it."""
    eta_seconds: float | None
    """Seconds until its result, as far as the queue tells; None when it has ended, or no worker serves its model."""
    waiting_for: str | None
    """Why it waits, in a sentence; None when it does not, or while the queue cannot be looked at."""
    progress: Progress | None
    outputs: list[OutputView]
    error: JobError | None
    metrics: JobMetrics
    degraded: tuple[str, ...]
    unknown_words: tuple[str, ...]
    """Words of the prompt that the model never learnt."""
    recipe: dict[str, Any]
    """With `model`, `task` and `input`, all that is needed to make the outputs again, byte for byte."""
    input: dict[str, Any]
    urls: JobUrls
    metadata: dict[str, Any]


class JobPage(msgspec.Struct, frozen=True):
    """Jobs, newest first; `next_cursor` asks for those after them, None at the end."""

    data: list[JobView]
    next_cursor: str | None


class AssetView(msgspec.Struct, frozen=True, kw_only=True):
    """A stored picture and where to fetch it."""

    id: AssetId
    type: str
    content_type: str
    size_bytes: int
    width: int
    height: int
    sha256: str
    created_at: str
    url: str
    thumbnail_url: str


def view_job(job: Job, base_url: str, outlook: Outlook = NOTHING, waiting_for: str | None = None) -> JobView:
    """The job, what is expected of it and why it waits, for a caller who reached us at `base_url`."""
    here = f"{base_url}/v1/jobs/{job.id}"
    started = job.started_at
    return JobView(
        id=job.id,
        status=shown_status(job.state),
        model=job.model,
        task=job.task,
        created_at=timestamp(job.created_at),
        started_at=timestamp(started) if started is not None else None,
        completed_at=timestamp(job.completed_at) if job.completed_at is not None else None,
        queue_position=outlook.queue_position,
        eta_seconds=outlook.eta_seconds,
        waiting_for=waiting_for,
        progress=job.progress,
        outputs=[
            OutputView(url=f"{base_url}/v1/assets/{output.id}", **msgspec.structs.asdict(output))
            for output in job.outputs
        ],
        error=job.error,
        metrics=JobMetrics(
            queue_ms=round((started - job.created_at) * 1000) if started is not None else None,
            execution_ms=round(job.execution_seconds * 1000) if job.execution_seconds is not None else None,
            attempts=job.attempt,
            backend=job.backend,
            cost=round(job.cost if job.charged is None else job.charged, 3),
        ),
        degraded=job.degraded,
        unknown_words=tuple(job.details.get("unknown_words", ())),
        recipe=job.details.get("recipe", {}),
        input=job.input,
        urls=JobUrls(self=here, events=f"{here}/events", cancel=f"{here}/cancel"),
        metadata=job.metadata,
    )


def view_asset(asset: Asset, base_url: str) -> AssetView:
    """The asset for a caller who reached us at `base_url`."""
    here = f"{base_url}/v1/assets/{asset.id}"
    return AssetView(
        id=asset.id,
        type="image",
        content_type=asset.content_type,
        size_bytes=asset.size_bytes,
        width=asset.width,
        height=asset.height,
        sha256=asset.sha256,
        created_at=timestamp(asset.created_at),
        url=here,
        thumbnail_url=f"{here}/thumbnail",
    )


def view_event(event: JobEvent, base_url: str) -> dict[str, Any]:
    """The data of an event: what changed, and when."""
    data: dict[str, Any] = {"job": event.job, "seq": event.seq, "at": timestamp(event.at), **event.data}
    if "outputs" in data:
        data["outputs"] = [{**output, "url": f"{base_url}/v1/assets/{output['id']}"} for output in data["outputs"]]
    return data
