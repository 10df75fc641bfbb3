"""``/v1/jobs``: submit, look, list, cancel, follow."""

import re
from collections.abc import AsyncGenerator, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from sluicegate.domain.event import JobEvent
from sluicegate.domain.ids import JobId
from sluicegate.domain.job import TERMINAL, Job, JobStatus, Progress
from sluicegate.doors.endpoint import Answer, Call, Endpoint, json_response
from sluicegate.doors.jobs.rendering import JobPage, JobView, view_event, view_job
from sluicegate.doors.streams import HEARTBEAT, SSE_HEADERS, StreamAnswer, sse, with_heartbeats
from sluicegate.errors import InvalidRequest
from sluicegate.notifications.feed import JobFeed
from sluicegate.scheduling.forecast import NOTHING, Outlooks
from sluicegate.scheduling.intake import Intake, JobRequest
from sluicegate.scheduling.reasons import Reasons
from sluicegate.storage.contracts import JobQuery, JobStore, Signals

MAX_WAIT_SECONDS = 60.0
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d+(?:\.\d+)?)\"?(?=$|[,;\s])", re.IGNORECASE)


class ListQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which jobs to list. `cursor` is the `next_cursor` of the page before."""

    status: JobStatus | None = None
    model: Annotated[str, Meta(max_length=200)] | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    cursor: Annotated[str, Meta(pattern=r"^job_[0-9a-z]{26}$", extra={"hint": "next_cursor of a page"})] | None = None


class JobsDoor:
    """Serves jobs."""

    def __init__(
        self,
        intake: Intake,
        jobs: JobStore,
        feed: JobFeed,
        signals: Signals,
        *,
        outlooks: Outlooks,
        reasons: Reasons,
    ) -> None:
        self._intake = intake
        self._jobs = jobs
        self._feed = feed
        self._signals = signals
        self._outlooks = outlooks
        self._reasons = reasons

    def endpoints(self) -> list[Endpoint]:
        """The routes of this door."""
        return [
            Endpoint(
                method="POST",
                path="/v1/jobs",
                handler=self.submit,
                dialect="native",
                tag="Jobs",
                summary="Submit a job",
                description="The job is durable when the answer is 202. `Idempotency-Key` makes repeats safe for "
                "24 hours; `Prefer: wait=N` (at most 60) holds the call until the job has ended or N seconds passed.",
                body=JobRequest,
                answers={200: JobView, 202: JobView},
            ),
            Endpoint(
                method="GET",
                path="/v1/jobs",
                handler=self.list,
                dialect="native",
                tag="Jobs",
                summary="List jobs, newest first",
                query=ListQuery,
                answers={200: JobPage},
            ),
            Endpoint(
                method="GET",
                path="/v1/jobs/{job}",
                handler=self.show,
                dialect="native",
                tag="Jobs",
                summary="One job",
                answers={200: JobView},
            ),
            Endpoint(
                method="GET",
                path="/v1/jobs/{job}/events",
                handler=self.follow,
                dialect="native",
                tag="Jobs",
                summary="Follow a job as server-sent events",
                description="Every change of state is an event with a durable `id`; `Last-Event-ID` resumes after it. "
                "`job.progress` events between them carry no id. The stream ends with the job.",
                answers={200: "text/event-stream"},
            ),
            Endpoint(
                method="POST",
                path="/v1/jobs/{job}/cancel",
                handler=self.cancel,
                dialect="native",
                tag="Jobs",
                summary="Withdraw a job",
                answers={200: JobView},
            ),
            Endpoint(
                method="DELETE",
                path="/v1/jobs/{job}",
                handler=self.cancel,
                dialect="native",
                tag="Jobs",
                summary="Withdraw a job",
                answers={200: JobView},
            ),
        ]

    async def submit(self, call: Call) -> Answer:
        """Take a job in; wait for it when the caller prefers."""
        wait = _preferred_wait(call)
        request, _ = await call.decode(JobRequest)
        tenant = call.principal.tenant
        submission = await self._intake.submit(call.principal, request, call.idempotency_key())
        job = submission.job
        headers = {"location": f"{call.base_url}/v1/jobs/{job.id}"}
        if submission.replayed:
            headers["idempotency-replayed"] = "true"
        if wait is not None:
            headers["preference-applied"] = f"wait={wait:g}"
            job = await self._feed.until_ended(tenant, job.id, wait)
        status = 200 if wait is not None and job.state in TERMINAL else 202
        return json_response(await self._view(job, call), status, headers)

    async def list(self, call: Call) -> Answer:
        """One page of the caller's jobs."""
        query = call.query(ListQuery)
        cursor = JobId(query.cursor) if query.cursor else None
        wanted = JobQuery(status=query.status, model=query.model, limit=query.limit + 1, cursor=cursor)
        jobs = list(await self._jobs.list(call.principal.tenant, wanted))
        page = jobs[: query.limit]
        more = page[-1].id if len(jobs) > query.limit else None
        return json_response(JobPage([*await self._views(page, call)], more))

    async def show(self, call: Call) -> Answer:
        """One job."""
        job = await self._jobs.get(call.principal.tenant, JobId(call.path("job")))
        return json_response(await self._view(job, call))

    async def cancel(self, call: Call) -> Answer:
        """Withdraw a job: at once when it waits, within a second when it runs; an ended job is unchanged."""
        job = await self._jobs.cancel(call.principal.tenant, JobId(call.path("job")))
        self._signals.notify("jobs", "events")
        return json_response(await self._view(job, call))

    async def follow(self, call: Call) -> Answer:
        """Stream a job's events. An unknown job is told before the stream begins."""
        tenant, job = call.principal.tenant, JobId(call.path("job"))
        after = _last_event_id(call)
        await self._jobs.get(tenant, job)
        return StreamAnswer(self._events(call, job, after), headers=SSE_HEADERS)

    async def _view(self, job: Job, call: Call) -> JobView:
        (view,) = await self._views([job], call)
        return view

    async def _views(self, jobs: Sequence[Job], call: Call) -> Sequence[JobView]:
        expected = await self._outlooks.of_jobs(jobs)
        reasons = await self._reasons.of_jobs(jobs)
        return [view_job(job, call.base_url, expected.get(job.id, NOTHING), reasons.get(job.id)) for job in jobs]

    async def _events(self, call: Call, job: JobId, after: int) -> AsyncGenerator[bytes, None]:
        async for item in with_heartbeats(self._feed.follow(call.principal.tenant, job, after)):
            match item:
                case None:
                    yield HEARTBEAT
                case JobEvent():
                    yield sse(view_event(item, call.base_url), event=item.kind, event_id=item.seq)
                case Progress():
                    yield sse({"job": job, **msgspec.to_builtins(item)}, event="job.progress")


def _preferred_wait(call: Call) -> float | None:
    """Seconds of ``Prefer: wait=N`` (RFC 7240), at most 60; None when not asked for."""
    found = _WAIT.search(call.headers.get("prefer", ""))
    return min(float(found.group(1)), MAX_WAIT_SECONDS) if found else None


def _last_event_id(call: Call) -> int:
    text = call.headers.get("last-event-id") or call.request.query_params.get("last_event_id") or "0"
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise InvalidRequest(f'Last-Event-ID "{text[:40]}" is not the id of an event of this stream; send a number')
    return int(text)
