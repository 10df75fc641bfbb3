"""The executor: one claimed job from start to record.

    resolve the input  ▶  run the model  ▶  store the pictures  ▶  record the end, under the lease's fence

Running work is told to stop through `Reins`: the worker sets a word, and the next progress report raises.
"""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

import msgspec

from sluicegate.backends.backend import PictureBackend, PictureRequest, PictureResult
from sluicegate.domain.clock import Clock
from sluicegate.domain.generation import IMAGE_FIELDS, TASK_INPUTS, Task
from sluicegate.domain.ids import AssetId
from sluicegate.domain.job import Claim, Job, JobError, Lease, Preview, Progress
from sluicegate.errors import (
    BackendError,
    BackendRefused,
    BackendTimeout,
    InvalidRequest,
    JobCanceled,
    LeaseLost,
    SluicegateError,
    StoreUnavailable,
    UnknownAsset,
)
from sluicegate.observability.logs import Log
from sluicegate.results.assets import Assets
from sluicegate.scheduling.retries import backoff_seconds
from sluicegate.storage.contracts import JobStore, Signals, Success

Word = Literal["cancel", "expire", "lost", "drain", "timeout"]
Outcome = Literal["succeeded", "failed", "timed out", "withdrawn", "handed back", "lost"]
PREVIEW_SECONDS = 0.05
"""How soon a preview is passed on."""
PROGRESS_SECONDS = 0.5
"""Progress is written at most this often; the last report of a run is its result."""


class Reins:
    """Holds one running job: its lease, the word to stop it with, and its latest progress. Thread-safe."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self._lock = threading.Lock()
        self._word: Word | None = None
        self._latest: Progress | None = None
        self._previews: list[Preview] = []
        self._shown = 0

    @property
    def lease(self) -> Lease:
        """The lease under which the job runs."""
        return self.claim.lease

    @property
    def word(self) -> Word | None:
        """Why the work must stop, or None."""
        return self._word

    def pull(self, word: Word) -> None:
        """Tell the work to stop; the first word stands, but a lost lease overrides every other."""
        with self._lock:
            if self._word is None or word == "lost":
                self._word = word

    def report(self, progress: Progress) -> None:
        """Called by the work at every step, from any thread. Raises `JobCanceled` or `LeaseLost`."""
        with self._lock:
            if progress.preview is not None:
                step, steps = progress.step or 0, progress.steps or 0
                self._previews.append(Preview(index=self._shown, step=step, steps=steps, image=progress.preview))
                self._shown += 1
                progress = msgspec.structs.replace(progress, preview=None)
            self._latest = progress
        self.check()

    def take_previews(self) -> list[Preview]:
        """The previews that were not taken yet, in order."""
        with self._lock:
            taken, self._previews = self._previews, []
            return taken

    def check(self) -> None:
        """Raise when the work must stop."""
        match self._word:
            case None:
                return
            case "lost":
                raise LeaseLost(f"job {self.lease.job} is no longer this worker's")
            case word:
                raise JobCanceled(f"job {self.lease.job} was told to stop ({word})")

    def take_progress(self) -> Progress | None:
        """The latest report that was not taken yet."""
        with self._lock:
            latest, self._latest = self._latest, None
            return latest


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
        reporter = asyncio.create_task(self._report_progress(reins))
        try:
            result = await self._run(job, reins)
            await self._tell_previews(reins)
            seconds = self._clock.monotonic() - started
            ended = await self._persist(reins, lambda: self._succeed(reins.lease, job, result, seconds))
            outcome: Outcome = "succeeded" if ended else "lost"
        except (JobCanceled, LeaseLost):
            outcome = await self._stop(reins)
        except Exception as error:  # whatever model code raises is this attempt's outcome
            outcome = await self._fail(reins, error)
        finally:
            reporter.cancel()
        self._signals.notify("events")
        seconds = self._clock.monotonic() - started
        self._log.info("job ended", job=job.id, model=job.model, outcome=outcome, seconds=round(seconds, 3))
        return outcome

    async def _run(self, job: Job, reins: Reins) -> PictureResult:
        """Resolve the input and make the pictures, within the time that is left."""
        request = await self._resolve(job)
        reins.check()
        backend = self._backends[job.model]
        left = self._timeout_seconds
        word: Word = "timeout"
        if job.deadline_at is not None and job.deadline_at - self._clock.now() < left:
            left, word = max(0.0, job.deadline_at - self._clock.now()), "expire"
        run = asyncio.ensure_future(backend.run(request, reins.report))
        done, _ = await asyncio.wait({run}, timeout=left)
        if not done:
            reins.pull(word)
            await asyncio.wait({run})
        return run.result()

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

    async def _succeed(self, lease: Lease, job: Job, result: PictureResult, seconds: float) -> bool:
        """Store the pictures' bytes, then record their assets with the job's end.

        After a store that was away both are done again: the sweep may have taken bytes that had waited for long.
        """
        outputs = [await self._assets.prepare(job.tenant, picture) for picture in result.pictures]
        success = Success(
            outputs=tuple(outputs),
            backend=self._backends[job.model].name,
            execution_seconds=seconds,
            degraded=result.degraded,
            details=result.details,
        )
        return await self._jobs.succeed(lease, success)

    async def _stop(self, reins: Reins) -> Outcome:
        lease = reins.lease
        match reins.word:
            case "cancel" | "expire" as word:
                await self._persist(reins, lambda: self._jobs.stop(lease, word))
                return "withdrawn"
            case "drain":
                await self._persist(reins, lambda: self._jobs.hand_back(lease))
                self._signals.notify("jobs")
                return "handed back"
            case "timeout":
                seconds = f"{self._timeout_seconds:g}"
                message = f"no result within {seconds} s (setting worker.job_timeout_seconds)"
                await self._fail(reins, BackendTimeout(message))
                return "timed out"
            case "lost" | None:
                return "lost"

    async def _fail(self, reins: Reins, error: Exception) -> Outcome:
        record, retryable = _describe(error)
        if record.code == "internal_error":
            self._log.error("model work raised", trace=True, job=reins.lease.job)
        retry_in = backoff_seconds(reins.claim.job.attempt) if retryable else None
        await self._persist(reins, lambda: self._jobs.fail(reins.lease, record, retry_in=retry_in))
        self._log.warning("attempt failed", job=reins.lease.job, code=record.code, reason=record.message)
        return "failed"

    async def _persist(self, reins: Reins, write: Callable[[], Awaitable[bool]]) -> bool:
        """Write the end of an attempt, again and again while the store is away; the fence decides if it counts."""
        attempt = 0
        while True:
            try:
                return await write()
            except StoreUnavailable as error:
                attempt += 1
                self._log.warning("the store is away, the result waits", job=reins.lease.job, reason=error.message)
                await asyncio.sleep(backoff_seconds(attempt, base=0.2, cap=5.0))

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


def _describe(error: Exception) -> tuple[JobError, bool]:
    """What to store of a failure, and whether another attempt may help."""
    match error:
        case BackendRefused() | InvalidRequest() | UnknownAsset():
            return JobError(code=error.code, message=error.message, details=error.details), False
        case BackendError() | StoreUnavailable():
            return JobError(code=error.code, message=error.message, details=error.details), True
        case SluicegateError():
            return JobError(code=error.code, message=error.message, details=error.details), False
        case MemoryError():
            return JobError(code="out_of_memory", message="the model ran out of memory"), True
        case _:
            return JobError(code="internal_error", message=f"the model raised {type(error).__name__}"), True
