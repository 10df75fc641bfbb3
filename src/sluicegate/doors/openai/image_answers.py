"""Answers that wait for a picture job: whole, or as events with previews, in OpenAI's words.

submitted ▶ wait, or follow ▶ render        when the caller leaves first, nobody will fetch the job: it is withdrawn
"""

import base64
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing, suppress
from typing import Any, Literal

import msgspec
from starlette.types import Receive, Scope, Send

from sluicegate.domain.clock import Clock
from sluicegate.domain.event import JobEvent
from sluicegate.domain.ids import JobId, Tenant
from sluicegate.domain.job import Job, Output
from sluicegate.doors.endpoint import Answer
from sluicegate.doors.problems import openai_error
from sluicegate.doors.streams import (
    HEARTBEAT,
    SSE_HEADERS,
    send_head,
    send_piece,
    sse,
    while_connected,
    with_heartbeats,
)
from sluicegate.errors import (
    BackendFailed,
    BackendRefused,
    BackendTimeout,
    Draining,
    ExchangeCanceled,
    SluicegateError,
)
from sluicegate.notifications.feed import JobFeed
from sluicegate.results.assets import Assets
from sluicegate.storage.contracts import JobStore, Signals

_REFUSALS = frozenset({"backend_refused", "image_rejected", "invalid_input", "invalid_request"})
"""Codes of failed jobs that are the caller's affair."""
_USAGE = msgspec.Raw(
    b'{"input_tokens":0,"output_tokens":0,"total_tokens":0,"input_tokens_details":{"text_tokens":0,"image_tokens":0}}'
)
"""Clients count on the field; pictures cost no tokens here."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A submitted job and how its caller wants to hear of it. `is_kept`: a repeat of the call may come back for it."""

    tenant: Tenant
    job: JobId
    base_url: str
    kind: Literal["image_generation", "image_edit"]
    response_format: Literal["url", "b64_json"]
    size: str | None
    """As asked, such as ``256x256``; None where the model chooses."""
    partial_images: int
    is_kept: bool


class ImageAnswers:
    """Makes the answers. A call waits `wait_seconds` at most; its job goes on after that."""

    def __init__(
        self,
        jobs: JobStore,
        feed: JobFeed,
        signals: Signals,
        assets: Assets,
        clock: Clock,
        *,
        wait_seconds: float,
    ) -> None:
        self._jobs = jobs
        self._feed = feed
        self._signals = signals
        self._assets = assets
        self._clock = clock
        self._wait_seconds = wait_seconds

    def whole(self, wanted: Wanted) -> Answer:
        """One JSON document, once the job has ended."""
        return _Waiting(lambda send: self._send_whole(wanted, send), lambda: self._withdraw(wanted))

    def streamed(self, wanted: Wanted) -> Answer:
        """Server-sent events: previews as they come, then each picture; what goes wrong is an `error` event."""
        return _Waiting(lambda send: self._send_events(wanted, send), lambda: self._withdraw(wanted))

    async def _send_whole(self, wanted: Wanted, send: Send) -> None:
        deadline = self._deadline()
        job = await self._feed.until_ended(wanted.tenant, wanted.job, self._wait_seconds)
        self._require_success(job, deadline)
        body = {
            "created": _created(job),
            "data": [await self._render(wanted, output) for output in job.outputs],
            **_picture_fields(job.outputs[0]),
            "usage": _USAGE,
            "sluicegate": _remarks(job, wanted),
        }
        content = msgspec.json.encode(body)
        await send_head(send, 200, {"content-type": "application/json", "content-length": str(len(content))})
        await send_piece(send, content, more=False)

    async def _send_events(self, wanted: Wanted, send: Send) -> None:
        await send_head(send, 200, SSE_HEADERS)
        try:
            async with aclosing(self._events(wanted)) as events:
                async for event in events:
                    await send_piece(send, event)
        except SluicegateError as error:
            await send_piece(send, sse({"type": "error", **openai_error(error)}, event="error"))
        await send_piece(send, b"", more=False)

    async def _events(self, wanted: Wanted) -> AsyncGenerator[bytes, None]:
        deadline = self._deadline()
        shown = 0
        async with aclosing(with_heartbeats(self._feed.follow(wanted.tenant, wanted.job))) as items:
            async for item in items:
                match item:
                    case None:
                        yield HEARTBEAT
                    case JobEvent(kind="job.preview") if shown < wanted.partial_images:
                        yield _partial(wanted, item, shown)
                        shown += 1
                    case _:
                        pass
                if self._clock.monotonic() >= deadline:
                    break
        job = await self._jobs.get(wanted.tenant, wanted.job)
        self._require_success(job, deadline)
        for output in job.outputs:
            kind = f"{wanted.kind}.completed"
            data = {
                "type": kind,
                "b64_json": await self._read(wanted.tenant, output),
                "created_at": _created(job),
                **_picture_fields(output),
                "usage": _USAGE,
                "sluicegate": _remarks(job, wanted),
            }
            yield sse(data, event=kind)

    async def _render(self, wanted: Wanted, output: Output) -> dict[str, str]:
        if wanted.response_format == "url":
            return {"url": f"{wanted.base_url}/v1/assets/{output.id}"}
        return {"b64_json": await self._read(wanted.tenant, output)}

    async def _read(self, tenant: Tenant, output: Output) -> str:
        """A picture as base64. Raises `UnknownAsset` when it was deleted meanwhile."""
        data = await self._assets.read(await self._assets.get(tenant, output.id))
        return base64.b64encode(data).decode()

    def _deadline(self) -> float:
        return self._clock.monotonic() + self._wait_seconds

    def _require_success(self, job: Job, deadline: float) -> None:
        """Raise the error that the job's end stands for; of a job that goes on, why nobody waits for it any longer."""
        match job.state:
            case "succeeded":
                return
            case "failed":
                raise _failure(job)
            case "canceled":
                raise ExchangeCanceled(f"job {job.id} was canceled")
            case "expired":
                raise BackendTimeout(f"job {job.id} passed its deadline")
            case "queued" | "scheduled" | "running" | "canceling" if self._clock.monotonic() >= deadline:
                seconds = f"{self._wait_seconds:g}"
                raise BackendTimeout(f"no picture within {seconds} s; the job goes on: GET /v1/jobs/{job.id}")
            case _:
                mend = f"its job goes on: GET /v1/jobs/{job.id}"
                raise Draining(f"this gateway is stopping before the picture is done; {mend}", retry_after=2)

    async def _withdraw(self, wanted: Wanted) -> None:
        if wanted.is_kept:
            return
        with suppress(SluicegateError):
            await self._jobs.cancel(wanted.tenant, wanted.job)
            self._signals.notify("jobs", "events")


class _Waiting:
    """Runs `work` while the caller listens; when the caller leaves before its end, `abandon` is called."""

    def __init__(
        self, work: Callable[[Send], Coroutine[Any, Any, None]], abandon: Callable[[], Awaitable[None]]
    ) -> None:
        self._work = work
        self._abandon = abandon
        self._is_over = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer. Raises what `work` raises."""
        await while_connected(receive, self._run(send))
        if not self._is_over:
            await self._abandon()

    async def _run(self, send: Send) -> None:
        await self._work(send)
        self._is_over = True


def _failure(job: Job) -> SluicegateError:
    """The error for a job that has failed."""
    code = job.error.code if job.error else "internal_error"
    words = job.error.message if job.error else "no reason was recorded"
    if code in _REFUSALS:
        return BackendRefused(f"{words} (job {job.id})")
    if code == "backend_timeout":
        return BackendTimeout(f"job {job.id} failed: {words}")
    return BackendFailed(f"job {job.id} failed with {code}: {words}")


def _created(job: Job) -> int:
    return int(job.completed_at or job.created_at)


def _picture_fields(output: Output) -> dict[str, str]:
    """What a picture is. `quality` and `background` are not chosen here, so they are never other than ``auto``."""
    return {
        "output_format": output.content_type.removeprefix("image/"),
        "size": f"{output.width}x{output.height}",
        "background": "auto",
        "quality": "auto",
    }


def _partial(wanted: Wanted, event: JobEvent, index: int) -> bytes:
    """A preview. `output_format` is that of its bytes, which is not always the one that was asked for."""
    head, _, data = str(event.data["image"]).partition(";base64,")
    kind = f"{wanted.kind}.partial_image"
    content = {
        "type": kind,
        "b64_json": data,
        "created_at": int(event.at),
        "size": wanted.size or "auto",
        "quality": "auto",
        "background": "auto",
        "output_format": head.removeprefix("data:image/"),
        "partial_image_index": index,
    }
    return sse(content, event=kind)


def _remarks(job: Job, wanted: Wanted) -> dict[str, Any]:
    """Ours, beside OpenAI's fields: how to look the job up, make it again, and what was done less well than asked."""
    degraded = list(job.degraded)
    made = _picture_fields(job.outputs[0])
    if wanted.size is not None and made["size"] != wanted.size:
        degraded.append(f"the size is {made['size']}, not {wanted.size}: {job.model} has its own")
    return {
        "job": job.id,
        "model": job.model,
        "seed": job.input.get("seed"),
        "unknown_words": list(job.details.get("unknown_words", ())),
        "degraded": degraded,
    }
