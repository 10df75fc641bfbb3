"""The queue as operators see it, made from one look at the store."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec

from sluicegate.domain.ids import JobId, Tenant, WorkerId
from sluicegate.doors.timestamps import timestamp
from sluicegate.scheduling.waiting import Waits, remaining_seconds
from sluicegate.storage.contracts import RunningJob, TenantStanding, Usage

Row = TypeVar("Row", TenantStanding, RunningJob)


class ModelCapacity(msgspec.Struct, frozen=True):
    """How many live workers of the pool serve a model, and how many of them have it in memory."""

    workers: int
    loaded: int


class Capacity(msgspec.Struct, frozen=True, kw_only=True):
    """Who works in a pool: live workers, how many hold a job now, and their models."""

    workers: int
    busy: int
    models: dict[str, ModelCapacity]


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over tenants. Costs are reference seconds; `longest_wait_seconds` is None when nothing is queued."""

    tenants: int
    queued: int
    queued_cost: float
    delayed: int
    running: int
    longest_wait_seconds: float | None


class Shares(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant's part of its pool, 0 to 1, and what the ledger says of the last hour.

    `due`: its weight over the weights of all tenants that have work queued or running in the pool now.
    `running`: the estimated cost of its running jobs over that of all running jobs of the pool; None: nothing runs.
    `last_hour_jobs` and `last_hour_cost` (reference seconds) count its jobs that ended, in all pools.
    """

    due: float
    running: float | None
    last_hour_jobs: int
    last_hour_cost: float


class TenantView(msgspec.Struct, frozen=True, kw_only=True):
    """One tenant in one pool.

    `ahead` is `virtual_time` less the pool's: below 0 it has had less than the pool's clock says, above 0 more.
    `cap` is how many of its jobs may run at once; `lanes` counts its queued jobs by model; `why` says what its
    next job waits for, None when nothing waits. Costs are reference seconds.
    """

    tenant: Tenant
    tier: str
    weight: float
    queued: int
    queued_cost: float
    delayed: int
    running: int
    cap: int | None
    virtual_time: float
    ahead: float
    share: Shares
    unserved_since: str
    unserved_seconds: float
    longest_wait_seconds: float | None
    lanes: dict[str, int]
    why: str | None


class RunningView(msgspec.Struct, frozen=True, kw_only=True):
    """A job that a worker holds. `expected_remaining_seconds` follows its progress, else its estimated cost."""

    job: JobId
    tenant: Tenant
    tier: str
    model: str
    state: str
    worker: WorkerId
    progress: float
    cost: float
    claimed_at: str
    running_seconds: float
    expected_remaining_seconds: float
    preemptions: int
    preempting: bool


class PoolView(msgspec.Struct, frozen=True, kw_only=True):
    """One pool: its clock, its workers, its tenants (longest waits first) and its running jobs (longest first).

    `totals` counts every tenant of the pool, `rest` those that are not listed; None when all are.
    """

    pool: str
    virtual_time: float
    capacity: Capacity
    totals: Totals
    tenants: list[TenantView]
    rest: Totals | None
    running_jobs: list[RunningView]


class QueueReport(msgspec.Struct, frozen=True):
    """The queue at one moment."""

    at: str
    pools: list[PoolView]


class QueueFilter(msgspec.Struct, frozen=True, kw_only=True):
    """What to list: at most `limit` tenants and running jobs in each pool; totals are of everyone all the same."""

    tenant: str | None = None
    pool: str | None = None
    limit: int = 50


class QueueReporter:
    """Makes the report of one look at the queue."""

    def __init__(self, waits: Waits, wanted: QueueFilter) -> None:
        self._waits = waits
        self._view = waits.view
        self._wanted = wanted
        self._tenants = _by_pool(self._view.tenants)
        self._running = _by_pool(self._view.running)
        self._lanes: dict[tuple[str, Tenant], dict[str, int]] = {}
        for lane in self._view.lanes:
            self._lanes.setdefault((lane.pool, lane.tenant), {})[lane.model] = lane.queued

    def pools(self) -> list[str]:
        """The pools asked for that have a clock, tenants or workers."""
        named = {*self._view.clocks, *self._tenants, *(pool for it in self._waits.workers for pool in it.pools)}
        return sorted(pool for pool in named if self._wanted.pool in (None, pool))

    def listed(self, pool: str) -> list[TenantStanding]:
        """The pool's tenants that the report lists, longest waits first."""
        standings = [it for it in self._tenants.get(pool, []) if self._wanted.tenant in (None, it.tenant)]
        return sorted(standings, key=_urgency)[: self._wanted.limit]

    def report(self, usage: Mapping[Tenant, Usage]) -> QueueReport:
        """The whole report; `usage` is of the tenants that `listed` gives."""
        return QueueReport(timestamp(self._view.at), [self._pool(pool, usage) for pool in self.pools()])

    def _pool(self, pool: str, usage: Mapping[Tenant, Usage]) -> PoolView:
        standings, running = self._tenants.get(pool, []), self._running.get(pool, [])
        listed = self.listed(pool)
        shown = {it.tenant for it in listed}
        hidden = [it for it in standings if it.tenant not in shown]
        weights = sum(it.weight for it in standings if it.queued or it.running)
        cost = sum(job.cost for job in running)
        return PoolView(
            pool=pool,
            virtual_time=self._view.clocks.get(pool, 0.0),
            capacity=self._capacity(pool),
            totals=self._totals(standings),
            tenants=[self._tenant(it, weights, cost, usage.get(it.tenant, Usage(0, 0.0))) for it in listed],
            rest=self._totals(hidden) if hidden else None,
            running_jobs=self._running_jobs(running),
        )

    def _tenant(self, it: TenantStanding, weights: float, running_cost: float, used: Usage) -> TenantView:
        own_cost = sum(job.cost for job in self._running.get(it.pool, []) if job.tenant == it.tenant)
        return TenantView(
            tenant=it.tenant,
            tier=it.tier,
            weight=it.weight,
            queued=it.queued,
            queued_cost=round(it.queued_cost, 3),
            delayed=it.delayed,
            running=it.running,
            cap=it.max_running,
            virtual_time=it.vtime,
            ahead=it.vtime - self._view.clocks.get(it.pool, 0.0),
            share=Shares(
                due=it.weight / weights if it.queued or it.running else 0.0,
                running=own_cost / running_cost if running_cost > 0 else None,
                last_hour_jobs=used.jobs,
                last_hour_cost=round(used.cost, 3),
            ),
            unserved_since=timestamp(it.since),
            unserved_seconds=round(max(0.0, self._view.at - it.since), 3),
            longest_wait_seconds=self._longest_wait([it]),
            lanes=self._lanes.get((it.pool, it.tenant), {}),
            why=self._waits.of_next(it),
        )

    def _running_jobs(self, running: Sequence[RunningJob]) -> list[RunningView]:
        wanted = [job for job in running if self._wanted.tenant in (None, job.tenant)]
        wanted.sort(key=lambda job: (job.claimed_at, job.lease.job))
        return [
            RunningView(
                job=job.lease.job,
                tenant=job.tenant,
                tier=job.tier,
                model=job.model,
                state=job.state,
                worker=job.worker,
                progress=job.progress,
                cost=round(job.cost, 3),
                claimed_at=timestamp(job.claimed_at),
                running_seconds=round(max(0.0, self._view.at - job.claimed_at), 3),
                expected_remaining_seconds=round(remaining_seconds(job, self._view.at), 3),
                preemptions=job.preemptions,
                preempting=job.preempting,
            )
            for job in wanted[: self._wanted.limit]
        ]

    def _capacity(self, pool: str) -> Capacity:
        workers = [it for it in self._waits.workers if pool in it.pools]
        holding = {job.worker for job in self._view.running}
        models = sorted({model for it in workers for model in it.models})
        return Capacity(
            workers=len(workers),
            busy=sum(it.id in holding for it in workers),
            models={
                model: ModelCapacity(
                    sum(model in it.models for it in workers),
                    sum(model in it.models and model in it.loaded for it in workers),
                )
                for model in models
            },
        )

    def _totals(self, standings: Sequence[TenantStanding]) -> Totals:
        return Totals(
            tenants=len(standings),
            queued=sum(it.queued for it in standings),
            queued_cost=round(sum(it.queued_cost for it in standings), 3),
            delayed=sum(it.delayed for it in standings),
            running=sum(it.running for it in standings),
            longest_wait_seconds=self._longest_wait(standings),
        )

    def _longest_wait(self, standings: Iterable[TenantStanding]) -> float | None:
        oldest = min((it.oldest_at for it in standings if it.oldest_at is not None), default=None)
        return None if oldest is None else round(max(0.0, self._view.at - oldest), 3)


def _urgency(standing: TenantStanding) -> tuple[float, int, str]:
    """The longest wait first; then, without queued jobs, who runs the most."""
    oldest = float("inf") if standing.oldest_at is None else standing.oldest_at
    return (oldest, -standing.running, standing.tenant)


def _by_pool(rows: Iterable[Row]) -> dict[str, list[Row]]:
    pools: dict[str, list[Row]] = {}
    for row in rows:
        pools.setdefault(row.pool, []).append(row)
    return pools
