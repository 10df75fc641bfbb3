"""Random queues that run to their end by the rule itself, for holding forecasts against what happened."""

import heapq
from dataclasses import dataclass, field
from random import Random

from sluicegate.domain.fairness import Policy
from sluicegate.domain.ids import JobId, Tenant, WorkerId
from sluicegate.domain.job import Lease
from sluicegate.scheduling.fairness import FairQueue, QueuedJob
from sluicegate.storage.contracts import LaneStanding, QueueView, RunningJob, TenantStanding, WorkerInfo

POOL, MODEL = "p", "m"


@dataclass
class Race:
    """Tenants with jobs of 0.5 to 10 s and the workers that run them, nothing arriving after `begin`."""

    random: Random
    tenants: int
    workers: int
    capped: bool = False
    now: float = 1_000.0
    started: dict[str, float] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    running: dict[int, QueuedJob] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.queue = FairQueue(Policy())
        names = [f"t{number:03}" for number in range(self.tenants)]
        self.weights = {name: self.random.choice([1.0, 4.0, 16.0]) for name in names}
        self.caps = {name: self.random.choice([None, None, 1, 2]) if self.capped else None for name in names}
        self._ends: list[tuple[float, int]] = []
        self._jobs = 0

    def begin(self) -> None:
        """Some jobs wait, some have run."""
        for name in self.weights:
            whale = 100 if self.random.random() < 0.05 else 0
            for _ in range(int(self.random.expovariate(1 / 5)) + whale):
                self.submit(name)
        self._fill()
        for _ in range(self.random.randint(0, 60)):
            if self._ends:
                self._end_one()
                if self.random.random() < 0.5:
                    self.submit(self.random.choice(list(self.weights)))
                self._fill()

    def submit(self, tenant: str) -> None:
        """One more job."""
        job = QueuedJob(f"j{self._jobs:06}", tenant, MODEL, self.random.uniform(0.5, 10))
        self._jobs += 1
        self.queue.submit(job, self.now, weight=self.weights[tenant], max_running=self.caps[tenant])

    def finish(self) -> None:
        """Run everything to its end."""
        while self._ends:
            self._end_one()
            self._fill()

    def waiting(self, tenant: str) -> list[QueuedJob]:
        """The tenant's waiting jobs, in its order."""
        account = self.queue.accounts.get(tenant)
        jobs = [] if account is None else [job for lane in account.lanes.values() for job in lane.jobs.values()]
        return sorted(jobs, key=lambda job: job.rank)

    def view(self) -> QueueView:
        """The queue now, as a store tells it."""
        present = [name for name in self.weights if name in self.queue.accounts]
        standings = tuple(self._standing(name) for name in present if self._is_there(name))
        return QueueView(
            at=self.now,
            clocks={POOL: self.queue.vtime},
            tenants=standings,
            lanes=tuple(LaneStanding(POOL, it.tenant, MODEL, it.queued) for it in standings if it.queued),
            running=tuple(self._held(worker, job) for worker, job in sorted(self.running.items())),
        )

    def crew(self) -> list[WorkerInfo]:
        """The workers, all alive."""
        return [worker_info(f"w{number}") for number in range(self.workers)]

    def _is_there(self, name: str) -> bool:
        return bool(self.queue.accounts[name].lanes) or self.queue.accounts[name].running > 0

    def _standing(self, name: str) -> TenantStanding:
        account, jobs = self.queue.accounts[name], self.waiting(name)
        return standing(
            name,
            weight=self.weights[name],
            max_running=self.caps[name],
            vtime=account.vtime,
            queued=len(jobs),
            queued_cost=sum(job.cost for job in jobs),
            running=account.running,
        )

    def _held(self, worker: int, job: QueuedJob) -> RunningJob:
        return held(job.id, f"w{worker}", tenant=job.tenant, cost=job.cost, claimed_at=self.started[job.id])

    def _fill(self) -> None:
        for worker in range(self.workers):
            if worker in self.running:
                continue
            job = self.queue.claim([MODEL], [MODEL], self.now)
            if job is None:
                return
            self.running[worker] = job
            self.started[job.id] = self.now
            self.order.append(job.id)
            heapq.heappush(self._ends, (self.now + job.cost, worker))

    def _end_one(self) -> None:
        self.now, worker = heapq.heappop(self._ends)
        job = self.running.pop(worker)
        self.queue.end(job, job.cost, self.now)


def worker_info(name: str, *, models: tuple[str, ...] = (MODEL,), pools: tuple[str, ...] = (POOL,)) -> WorkerInfo:
    """A live worker."""
    return WorkerInfo(
        id=WorkerId(name), host="h", pid=1, started_at=0, seen_at=0, models=models, loaded=models, pools=pools
    )


def standing(
    tenant: str,
    *,
    weight: float = 1.0,
    max_running: int | None = None,
    vtime: float = 0.0,
    queued: int = 0,
    queued_cost: float = 0.0,
    running: int = 0,
) -> TenantStanding:
    """A tenant in the pool."""
    return TenantStanding(
        pool=POOL,
        tenant=Tenant(tenant),
        tier="basic",
        weight=weight,
        max_running=max_running,
        vtime=vtime,
        queued=queued,
        queued_cost=queued_cost,
        delayed=0,
        running=running,
        since=0.0,
        oldest_at=None,
    )


def held(job: str, worker: str, *, tenant: str, cost: float, claimed_at: float, progress: float = 0.0) -> RunningJob:
    """A job that a worker runs."""
    return RunningJob(
        lease=Lease(JobId(job), 1),
        pool=POOL,
        tenant=Tenant(tenant),
        tier="basic",
        model=MODEL,
        state="running",
        worker=WorkerId(worker),
        cost=cost,
        claimed_at=claimed_at,
        progress=progress,
        preemptible=False,
        preemptions=0,
        preempting=False,
    )
