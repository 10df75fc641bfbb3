"""Why a job waits: one sentence with the figures behind it, and what would change it.

    waits = Waits(await store.queue(), await store.workers(seen_within=WORKER_SEEN_SECONDS), policy)
    waits.of_job(job)            # the job of a caller
    waits.of_next(standing)      # the next job of a tenant

Pure: it reads one look at the queue. Building it costs O(N log N) for N tenants, an answer O(log N).
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime

from sluicegate.domain.fairness import Policy
from sluicegate.domain.ids import Tenant, WorkerId
from sluicegate.domain.job import Job, JobError
from sluicegate.storage.contracts import QueueView, RunningJob, TenantStanding, WorkerInfo

WORKER_SEEN_SECONDS = 15.0
"""A worker that was silent for longer does not count as live."""
COUNTED_AHEAD = 1_000
"""So many of a tenant's own jobs are counted at most; see `Job.jobs_ahead`."""
LEAST_PROGRESS = 0.02
"""Below this a job's progress says too little about its speed."""

_Key = tuple[float, bool, Tenant]
"""A tenant's place in a worker's order: tag with the swap penalty, whether that is in it, and the name."""


def remaining_seconds(running: RunningJob, at: float) -> float:
    """How long a running job is expected to go on: by its own speed so far, else by its estimated cost."""
    elapsed = max(0.0, at - running.claimed_at)
    if running.progress >= LEAST_PROGRESS:
        return elapsed * max(0.0, 1.0 - running.progress) / running.progress
    return max(0.0, running.cost - elapsed)


class Crew:
    """The live workers that serve one model in one pool, and who stands in line for them."""

    def __init__(self, view: QueueView, workers: Sequence[WorkerInfo], pool: str, policy: Policy) -> None:
        held: dict[WorkerId, RunningJob] = {running.worker: running for running in view.running}
        self.workers = workers
        self.busy = [held[worker.id] for worker in workers if worker.id in held]
        self.next_free = min((remaining_seconds(running, view.at) for running in self.busy), default=0.0)
        self._models = {model for worker in workers for model in worker.models}
        self._loaded = {model for worker in workers for model in worker.loaded} & self._models
        self._swap_penalty = policy.swap_penalty
        self._lanes: dict[Tenant, set[str]] = defaultdict(set)
        for lane in view.lanes:
            if lane.pool == pool and lane.model in self._models:
                self._lanes[lane.tenant].add(lane.model)
        in_line = [it for it in view.tenants if it.pool == pool and it.tenant in self._lanes and not at_its_cap(it)]
        self._order = sorted(self.key(it) for it in in_line)
        self.least = min((it.vtime for it in in_line), default=0.0)

    @property
    def all_busy(self) -> bool:
        """Whether nobody is free."""
        return len(self.busy) == len(self.workers)

    def key(self, standing: TenantStanding) -> _Key:
        """The tenant's place by rule 2 of the fair order, with what any of these workers has loaded."""
        cold = not self._lanes.get(standing.tenant, set()) & self._loaded
        return (standing.vtime + (self._swap_penalty if cold else 0.0), cold, standing.tenant)

    def before(self, standing: TenantStanding) -> int:
        """How many tenants come before this one."""
        return bisect_left(self._order, self.key(standing))


def at_its_cap(standing: TenantStanding) -> bool:
    """Whether the tenant runs as many jobs as it may."""
    return standing.max_running is not None and standing.running >= standing.max_running


class Waits:
    """Explains waits, from one look at the queue and the workers that were alive then."""

    def __init__(self, view: QueueView, workers: Sequence[WorkerInfo], policy: Policy) -> None:
        self.view = view
        self.workers = tuple(workers)
        self._policy = policy
        self._standings = {(it.pool, it.tenant): it for it in view.tenants}
        self._running: dict[tuple[str, Tenant], list[RunningJob]] = defaultdict(list)
        for running in view.running:
            self._running[running.pool, running.tenant].append(running)
        self._models: dict[tuple[str, Tenant], list[str]] = defaultdict(list)
        for lane in view.lanes:
            self._models[lane.pool, lane.tenant].append(lane.model)
        self._crews: dict[tuple[str, frozenset[WorkerId]], Crew] = {}

    def of_job(self, job: Job, *, last_error: JobError | None = None) -> str | None:
        """Why this job waits; None when it does not (it runs, or has ended).

        `last_error` is that of the attempt before, for a job that waits for its next one.
        """
        if job.state == "scheduled":
            return self._back_off(job, last_error)
        if job.state != "queued":
            return None
        standing = self._standings.get((job.pool, job.tenant))
        reason = self._reason(job.pool, [job.model], standing)
        if not job.jobs_ahead:
            return reason
        ahead = f"{COUNTED_AHEAD} or more" if job.jobs_ahead >= COUNTED_AHEAD else str(job.jobs_ahead)
        are = "is" if job.jobs_ahead == 1 else "are"
        return f"{ahead} of the tenant's own jobs {are} ahead of it, by priority, then age; {reason}"

    def of_next(self, standing: TenantStanding) -> str | None:
        """Why the tenant's next job waits; None when it has none waiting."""
        models = self._models.get((standing.pool, standing.tenant))
        if models:
            return self._reason(standing.pool, models, standing)
        return f"{standing.delayed} of its jobs wait for their next attempt" if standing.delayed else None

    def _back_off(self, job: Job, last_error: JobError | None) -> str:
        when = "its next attempt"
        if job.due_at is not None:
            left = max(0.0, job.due_at - self.view.at)
            when = f"attempt {job.attempt + 1} of {job.max_attempts} until {_clock_time(job.due_at)} ({_seconds(left)})"
        if last_error is None:
            return f"waits for {when}, because attempt {job.attempt} failed"
        return f"waits for {when}, because attempt {job.attempt} failed: {last_error.message} ({last_error.code})"

    def _reason(self, pool: str, models: Sequence[str], standing: TenantStanding | None) -> str:
        """Why a job for one of the models waits, whichever is first."""
        crew = self._crew(pool, models)
        if not crew.workers:
            return self._nobody(pool, models)
        if standing is not None and at_its_cap(standing):
            return self._capped(standing)
        if not crew.all_busy:
            return (
                f"{_count(len(crew.workers) - len(crew.busy), 'worker is', 'workers are')} free and will take it soon"
            )
        before = crew.before(standing) if standing is not None else 0
        everyone = "the only worker is busy" if len(crew.workers) == 1 else f"all {len(crew.workers)} workers are busy"
        busy = f"{everyone}, the next is expected to be free {_within(crew.next_free)}"
        if standing is None or before == 0:
            return f"the tenant is first in line; {busy}"
        lead = _seconds(standing.vtime - crew.least, "virtual s")
        _, cold, _ = crew.key(standing)
        swap = f" and needs a model that no worker has loaded (which counts {self._policy.swap_penalty:g})"
        because = f"the tenant is {lead} ahead of the one that has had the least{swap if cold else ''}"
        told = f"{_count(before, 'tenant comes', 'tenants come')} before this one, because {because}; {busy}"
        unserved = self.view.at - standing.since
        if unserved < self._policy.guard:
            return told
        return f"{told}; unserved for {_seconds(unserved)}, it may soon be served out of turn"

    def _nobody(self, pool: str, models: Sequence[str]) -> str:
        others = [worker for worker in self.workers if pool in worker.pools]
        if not others:
            return f'no live worker serves the pool "{pool}"; start one: sluicegate work --pool {pool}'
        names = " or ".join(f'"{model}"' for model in sorted(models)[:3]) + (" …" if len(models) > 3 else "")
        nobody = "the live worker" if len(others) == 1 else f"none of the {len(others)} live workers"
        serves = "does not serve" if len(others) == 1 else "serves"
        return f'{nobody} of the pool "{pool}" {serves} {names}; start one whose backends have it'

    def _capped(self, standing: TenantStanding) -> str:
        running = self._running.get((standing.pool, standing.tenant), [])
        ends = min((remaining_seconds(job, self.view.at) for job in running), default=None)
        expected = "" if ends is None else f", expected {_within(ends)}"
        return (
            f'the tenant runs {standing.running} of the {standing.max_running} jobs that its tier "{standing.tier}" '
            f"lets it run at once; its next starts when one of them ends{expected}"
        )

    def _crew(self, pool: str, models: Sequence[str]) -> Crew:
        able = [it for it in self.workers if pool in it.pools and any(model in it.models for model in models)]
        key = (pool, frozenset(worker.id for worker in able))
        if key not in self._crews:
            self._crews[key] = Crew(self.view, able, pool, self._policy)
        return self._crews[key]


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _seconds(seconds: float, unit: str = "s") -> str:
    return f"{seconds:.1f} {unit}" if seconds < 10 else f"{seconds:.0f} {unit}"


def _within(seconds: float) -> str:
    return "at any moment" if seconds < 0.05 else f"in {_seconds(seconds)}"


def _clock_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
