"""The executor: one claimed job from start to record.

    resolve the input  ▶  run the model  ▶  store the pictures  ▶  record the end, under the lease's fence

Running work is told to stop through `Reins`: the worker sets a word, and the next progress report raises. Whether a
deadline has passed is the store's to say, by its own time; only the job timeout is measured here.

What is charged: the seconds that the model worked, without those in which it was loaded; also when the caller is to
blame for a failure, has withdrawn the job or let its deadline pass. Nothing when the service is to blame.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

import msgspec

from sluicegate.backends.backend import PictureBackend, PictureRequest, PictureResult
from sluicegate.domain.clock import Clock
from sluicegate.domain.generation import IMAGE_FIELDS, TASK_INPUTS, Task
from sluicegate.domain.ids import AssetId
from sluicegate.domain.job import Job, JobError, Lease
from sluicegate.errors import (
    BackendError,
    BackendRefused,
    BackendTimeout,
    Conflict,
    InvalidRequest,
    JobCanceled,
    LeaseLost,
    SluicegateError,
    StoreUnavailable,
    UnknownAsset,
)
from sluicegate.observability.logs import Log
from sluicegate.results.assets import Assets
from sluicegate.scheduling.reins import Meter, Reins
from sluicegate.scheduling.retries import backoff_seconds
from sluicegate.storage.contracts import JobStore, Signals, Success

Outcome = Literal["succeeded", "failed", "timed out", "withdrawn", "handed back", "lost"]
PREVIEW_SECONDS = 0.05
"""How soon a preview is passed on."""
PROGRESS_SECONDS = 0.5
"""Progress is written at most this often; the last report of a run is its result."""
PATIENCE_SECONDS = 30.0
"""How long a job whose input cannot be read waits for the store before the attempt has failed."""


class Executor:
    """Runs claims on picture backends and records how they ended."""

    def __init__(
        self,
        jobs: JobStore,
        assets: Assets,
        signals: Signals,
        backends: Mapping[str, PictureBackend],
        clock: Clock,
        *,
        timeout_seconds: float,
    ) -> None:
        self._jobs = jobs
        self._assets = assets
        self._signals = signals
        self._backends = backends
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._telling = asyncio.Lock()
        self._log = Log("sluicegate.scheduling.executor")

    async def execute(self, reins: Reins) -> Outcome:
        """Take one claim to its end and say how it went. Never raises for what the work did."""
        job = reins.claim.job
        self._log.info("job started", job=job.id, model=job.model, task=job.task, attempt=job.attempt)
        started = self._clock.monotonic()
        meter = Meter(self._clock)
        reporter = asyncio.create_task(self._report_progress(reins))
        try:
            outcome = await self._attempt(job, reins, meter)
        except Exception:  # it must not end the worker; the lease expires, and the job is recovered
            self._log.error("the end of an attempt could not be recorded", trace=True, job=job.id)
            outcome = "lost"
        finally:
            reporter.cancel()
        self._signals.notify("events")
        seconds = self._clock.monotonic() - started
        self._log.info("job ended", job=job.id, model=job.model, outcome=outcome, seconds=round(seconds, 3))
        return outcome

    async def _attempt(self, job: Job, reins: Reins, meter: Meter) -> Outcome:
        """Do the work and record its end. Raises what the store refuses to record."""
        try:
            result = await self._run(job, reins, meter)
            await self._tell_previews(reins)
            ended = await self._persist(reins, lambda: self._succeed(reins.lease, job, result, meter))
            return "succeeded" if ended else "lost"
        except (JobCanceled, LeaseLost):
            return await self._stop(reins, meter)
        except Exception as error:  # whatever model code raises is this attempt's outcome
            return await self._fail(reins, error, meter)

    async def _run(self, job: Job, reins: Reins, meter: Meter) -> PictureResult:
        """Resolve the input and make the pictures, within the time that a job may take."""
        try:
            request = await self._resolve_patiently(job, reins)
            reins.check()
            return await self._make(request, job, reins, meter)
        finally:
            meter.stop()
            reins.end()

    async def _make(self, request: PictureRequest, job: Job, reins: Reins, meter: Meter) -> PictureResult:
        backend = self._backends[job.model]
        meter.start(loading=job.model not in backend.loaded())
        run = asyncio.ensure_future(backend.run(request, meter.attached_to(reins.report)))
        done, _ = await asyncio.wait({run}, timeout=self._timeout_seconds)
        if not done:
            reins.pull("timeout")
            await asyncio.wait({run})
        return run.result()

    async def _resolve_patiently(self, job: Job, reins: Reins) -> PictureRequest:
        """A store that is away for a moment costs the job no attempt."""
        attempt, until = 0, self._clock.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return await self._resolve(job)
            except StoreUnavailable:
                if self._clock.monotonic() >= until:
                    raise
            reins.check()
            attempt += 1
            await asyncio.sleep(backoff_seconds(attempt, base=0.1, cap=1.0))

    async def _resolve(self, job: Job) -> PictureRequest:
        task: Task = msgspec.convert(job.task, Task)
        task_input = msgspec.convert(job.input, TASK_INPUTS[task])
        images: dict[str, bytes] = {}
        for field in IMAGE_FIELDS:
            reference = getattr(task_input, field, None)
            if reference is not None:
                asset = await self._assets.get(job.tenant, AssetId(reference))
                images[field] = await self._assets.read(asset)
        return PictureRequest(model=job.model, task=task, input=task_input, images=images)

    async def _succeed(self, lease: Lease, job: Job, result: PictureResult, meter: Meter) -> bool:
        """Store the pictures' bytes, then record their assets with the job's end.

        After a store that was away both are done again: the sweep may have taken bytes that had waited for long.
        """
        outputs = [await self._assets.prepare(job.tenant, picture) for picture in result.pictures]
        success = Success(
            outputs=tuple(outputs),
            backend=self._backends[job.model].name,
            execution_seconds=meter.seconds,
            cost=max(0.0, meter.seconds - result.load_seconds),
            degraded=result.degraded,
            details=result.details,
        )
        return await self._jobs.succeed(lease, success)

    async def _stop(self, reins: Reins, meter: Meter) -> Outcome:
        match reins.word:
            case "cancel" | "expire" as word:
                try:
                    await self._persist(reins, lambda: self._jobs.stop(reins.lease, word, cost=meter.worked))
                except Conflict as error:  # the store's time was set back: the job goes on elsewhere
                    self._log.warning("the store takes its word back", job=reins.lease.job, reason=error.message)
                    return await self._hand_back(reins)
                return "withdrawn"
            case "drain" | "preempt" | "silence" as reason:
                return await self._hand_back(reins, preempted=reason == "preempt")
            case "timeout":
                seconds = f"{self._timeout_seconds:g}"
                message = f"no result within {seconds} s (setting worker.job_timeout_seconds)"
                await self._fail(reins, BackendTimeout(message), meter)
                return "timed out"
            case "lost" | None:
                return "lost"

    async def _hand_back(self, reins: Reins, *, preempted: bool = False) -> Outcome:
        back = await self._persist(reins, lambda: self._jobs.hand_back(reins.lease, preempted=preempted))
        self._signals.notify("jobs")
        return "handed back" if back else "lost"

    async def _fail(self, reins: Reins, error: Exception, meter: Meter) -> Outcome:
        failure = _describe(error)
        record = failure.record
        if record.code == "internal_error":
            self._log.error("model work raised", trace=True, job=reins.lease.job)
        retry_in = backoff_seconds(reins.claim.job.attempt) if failure.retryable else None
        cost = meter.worked if failure.callers_own else 0.0
        await self._persist(reins, lambda: self._record_failure(reins.claim.job, reins.lease, record, retry_in, cost))
        self._log.warning("attempt failed", job=reins.lease.job, code=record.code, reason=record.message)
        return "failed"

    async def _record_failure(
        self, job: Job, lease: Lease, record: JobError, retry_in: float | None, cost: float
    ) -> bool:
        """Record a failed attempt; at the last of several, with the history of all."""
        if retry_in is None or job.attempt >= job.max_attempts:
            now = self._clock.now()
            history = [
                msgspec.structs.replace(attempt, ended_at=now, outcome="failed", error=record)
                if attempt.outcome is None
                else attempt
                for attempt in await self._jobs.attempts(job.id)
            ]
            if retry_in is not None or len(history) > 1:
                told = {**record.details, "attempts": msgspec.to_builtins(history)}
                record = msgspec.structs.replace(record, details=told)
        return await self._jobs.fail(lease, record, retry_in=retry_in, cost=cost)

    async def _persist(self, reins: Reins, write: Callable[[], Awaitable[bool]]) -> bool:
        """Write the end of an attempt, again and again while the store is away; the fence decides if it counts."""
        attempt = 0
        while True:
            try:
                return await write()
            except StoreUnavailable as error:
                attempt += 1
                self._log.warning("the store is away, the result waits", job=reins.lease.job, reason=error.message)
                await asyncio.sleep(backoff_seconds(attempt, base=0.2, cap=2.0))

    async def _tell_previews(self, reins: Reins) -> None:
        """Store the previews that have come; like progress, they are worth no job."""
        async with self._telling:  # the end of a job waits for those on their way
            previews = reins.take_previews()
            with contextlib.suppress(StoreUnavailable):
                for preview in previews:
                    await self._jobs.preview(reins.lease, preview)
        if previews:
            self._signals.notify("events")

    async def _report_progress(self, reins: Reins) -> None:
        reported = -PROGRESS_SECONDS
        while True:
            await asyncio.sleep(PREVIEW_SECONDS)
            await self._tell_previews(reins)
            if self._clock.monotonic() - reported < PROGRESS_SECONDS:
                continue
            reported = self._clock.monotonic()
            progress = reins.take_progress()
            if progress is not None:
                try:
                    await self._jobs.report(reins.lease, progress)
                    self._signals.notify("events")
                except Exception as error:  # progress is worth no job
                    self._log.debug("progress not stored", job=reins.lease.job, reason=str(error))


class Failure(msgspec.Struct, frozen=True):
    """What to store of a failure, whether another attempt may help, and whether the caller is to blame."""

    record: JobError
    retryable: bool
    callers_own: bool = False


def _describe(error: Exception) -> Failure:
    match error:
        case BackendRefused() | InvalidRequest() | UnknownAsset():
            record = JobError(code=error.code, message=error.message, details=error.details)
            return Failure(record, retryable=False, callers_own=True)
        case BackendError() | StoreUnavailable():
            return Failure(JobError(code=error.code, message=error.message, details=error.details), retryable=True)
        case SluicegateError():
            return Failure(JobError(code=error.code, message=error.message, details=error.details), retryable=False)
        case MemoryError():
            return Failure(JobError(code="out_of_memory", message="the model ran out of memory"), retryable=True)
        case _:
            message = f"the model raised {type(error).__name__}"
            return Failure(JobError(code="internal_error", message=message), retryable=True)
