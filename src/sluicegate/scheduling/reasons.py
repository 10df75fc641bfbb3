"""Why callers' jobs wait: `Waits`, from the look at the queue that the forecasts are made of."""

from collections.abc import Sequence

from sluicegate.domain.fairness import Policy
from sluicegate.domain.ids import JobId
from sluicegate.domain.job import Job, JobError
from sluicegate.errors import StoreUnavailable
from sluicegate.scheduling.forecast import Forecast, Outlooks
from sluicegate.scheduling.waiting import Waits
from sluicegate.storage.contracts import JobStore


class Reasons:
    """Says why jobs wait, as of the latest look at the queue; however many ask, there is one look a second at most."""

    def __init__(self, jobs: JobStore, outlooks: Outlooks, policy: Policy) -> None:
        self._jobs = jobs
        self._outlooks = outlooks
        self._policy = policy
        self._seen: tuple[Forecast, Waits] | None = None

    async def of_jobs(self, jobs: Sequence[Job]) -> dict[JobId, str]:
        """A sentence for each job that waits; none while the queue cannot be looked at. Raises nothing."""
        waiting = [job for job in jobs if job.state in ("queued", "scheduled")]
        latest = await self._outlooks.latest() if waiting else None
        if latest is None:
            return {}
        waits = self._waits(latest[0])
        told = {job.id: waits.of_job(job, last_error=await self._last_error(job)) for job in waiting}
        return {job: reason for job, reason in told.items() if reason is not None}

    def _waits(self, forecast: Forecast) -> Waits:
        if self._seen is None or self._seen[0] is not forecast:
            self._seen = (forecast, Waits(forecast.view, forecast.workers, self._policy))
        return self._seen[1]

    async def _last_error(self, job: Job) -> JobError | None:
        """The error after which the job waits for another attempt."""
        if job.state != "scheduled":
            return None
        try:
            attempts = await self._jobs.attempts(job.id)
        except StoreUnavailable:
            return None
        return next((attempt.error for attempt in reversed(attempts) if attempt.error is not None), None)
