"""Preemption: which running work gives way, so that a tenant does not wait for the end of somebody's long batch.

The fair order decides who gets the next free slot; it cannot make one. When every slot is taken by long work, a tenant
that comes waits for the first of them to end, whatever its weight. `victims` names work that gives way to it:

1. The tenant is ready, runs nothing in the pool, and was neither served nor came within `preempt_wait`.
2. No slot that could serve it is expected within `preempt_wait`: no idle worker, none whose job ends or gives way soon.
3. The victim is preemptible, under `preempt_progress` done, was made to give way fewer than `MOST_PREEMPTIONS` times,
   and its tenant is not behind the waiting one in the fair order, nor may the starvation guard hand it the slot back.
4. The waiting tenant is behind in service: since it waits, the victim's tenant was served more than
   ``2·c/w + Δ·[the victim's worker has none of its models loaded]`` virtual seconds; c is the mean cost of the jobs
   that it has queued, w its weight. Tags would not tell: a tenant that comes is placed level with the others.
5. When the victim's worker is free, the rule's own choice is the waiting tenant.

At most one victim for each waiting tenant and round; the victim is of the greatest tag, then of the least progress.

It ends: a tenant whose job gave way goes behind the foremost one by more than Δ (`fair_tag_after`), so the slot goes
to another; each job gives way at most twice, each time before it was half done, so all its work that is in vain is
less than its cost. Reasons: docs/decisions/0013-preemption.md.
"""

from collections import defaultdict
from collections.abc import Sequence

from sluicegate.domain.fairness import LEAST_COST, MOST_PREEMPTIONS, Policy
from sluicegate.domain.ids import Tenant, WorkerId
from sluicegate.scheduling.waiting import LEAST_PROGRESS, at_its_cap, remaining_seconds
from sluicegate.storage.contracts import QueueView, RunningJob, TenantStanding, WorkerInfo


def victims(view: QueueView, workers: Sequence[WorkerInfo], policy: Policy) -> list[RunningJob]:
    """The running jobs that shall give way now, given the queue and the live workers."""
    chosen: list[RunningJob] = []
    for pool in sorted({job.pool for job in view.running if job.preemptible}):
        chosen += _Pool(view, workers, pool, policy).victims()
    return chosen


def share_done(job: RunningJob, at: float) -> float:
    """How far a job is, from 0 to 1: as it reports, or by time and estimated cost while it reports nothing."""
    if job.progress >= LEAST_PROGRESS:
        return job.progress
    return min(1.0, max(0.0, at - job.claimed_at) / max(job.cost, LEAST_COST))


def fair_tag_after(vtime: float, paid: float, least: float, policy: Policy) -> float:
    """A tenant's tag after one of its jobs gave way: refunded, but no further than just behind the foremost tenant
    (tag `least`), a change of model included."""
    return max(vtime - paid, least + policy.setback)


class _Pool:
    """One pool at one moment."""

    def __init__(self, view: QueueView, workers: Sequence[WorkerInfo], pool: str, policy: Policy) -> None:
        self._at = view.at
        self._policy = policy
        self._pool = pool
        self._workers = {worker.id: worker for worker in workers if pool in worker.pools}
        self._holding: dict[WorkerId, RunningJob] = {job.worker: job for job in view.running}
        self._running = [job for job in view.running if job.pool == pool]
        self._standings = {it.tenant: it for it in view.tenants if it.pool == pool}
        self._lanes: defaultdict[tuple[str, Tenant], set[str]] = defaultdict(set)
        for lane in view.lanes:
            self._lanes[lane.pool, lane.tenant].add(lane.model)
        ready = [it for it in view.tenants if it.queued and not at_its_cap(it)]
        self._ready = sorted((it for it in ready if it.pool == pool), key=lambda it: (it.vtime, it.tenant))
        self._wanted: defaultdict[str, set[str]] = defaultdict(set)
        for standing in ready:
            self._wanted[standing.pool] |= self._lanes[standing.pool, standing.tenant]
        free_soon = (it for it in self._workers.values() if self._free_soon(self._holding.get(it.id)))
        self._served_soon = {model for worker in free_soon for model in worker.models}

    def victims(self) -> list[RunningJob]:
        """One for each tenant that waits for too long, where there is one."""
        waiting = {it.tenant for it in self._ready if self._waits(it) and not self._slot_expected(it)}
        chosen: list[RunningJob] = []
        for job in self._candidates() if waiting else ():
            served = self._next_for(self._workers[job.worker], besides=job.tenant)
            if served is not None and served.tenant in waiting and self._justified(served, job):
                waiting.discard(served.tenant)
                self._ready.remove(served)
                chosen.append(job)
            if not waiting:
                break
        return chosen

    def _waits(self, standing: TenantStanding) -> bool:
        return standing.running == 0 and self._at - standing.since > self._policy.preempt_wait

    def _slot_expected(self, standing: TenantStanding) -> bool:
        return not self._served_soon.isdisjoint(self._lanes[self._pool, standing.tenant])

    def _free_soon(self, job: RunningJob | None) -> bool:
        if job is None or job.preempting or job.state != "running":
            return True
        if job.progress < LEAST_PROGRESS and self._at - job.claimed_at > job.cost:
            return False  # it overruns its estimate and reports nothing: nobody knows
        return remaining_seconds(job, self._at) <= self._policy.preempt_wait

    def _candidates(self) -> list[RunningJob]:
        """What may give way, first what should be the first to."""
        may = [job for job in self._running if self._may_give_way(job)]
        return sorted(
            may, key=lambda job: (-self._standings[job.tenant].vtime, share_done(job, self._at), job.lease.job)
        )

    def _may_give_way(self, job: RunningJob) -> bool:
        holder, worker = self._standings.get(job.tenant), self._workers.get(job.worker)
        return (
            job.state == "running"
            and job.preemptible
            and not job.preempting
            and job.preemptions < MOST_PREEMPTIONS
            and share_done(job, self._at) < self._policy.preempt_progress
            and holder is not None
            and holder.since > self._at - self._policy.guard + self._policy.preempt_wait
            and worker is not None
            and not self._wanted_elsewhere(worker)
        )

    def _wanted_elsewhere(self, worker: WorkerInfo) -> bool:
        """Whether the worker, once free, would first serve another pool."""
        earlier = worker.pools[: worker.pools.index(self._pool)]
        return any(not self._wanted[pool].isdisjoint(worker.models) for pool in earlier)

    def _next_for(self, worker: WorkerInfo, *, besides: Tenant) -> TenantStanding | None:
        """Whom the fair order would serve next on this worker, one tenant left out."""
        loaded = frozenset(worker.loaded).intersection(worker.models)
        best: tuple[float, bool, float, Tenant] | None = None
        found: TenantStanding | None = None
        for standing in (it for it in self._ready if it.tenant != besides):
            if best is not None and standing.vtime > best[0]:
                break
            models = self._lanes[self._pool, standing.tenant].intersection(worker.models)
            if not models:
                continue
            cold = not models & loaded
            key = (standing.vtime + self._policy.swap_penalty * cold, cold, standing.vtime, standing.tenant)
            if best is None or key < best:
                best, found = key, standing
        return found

    def _justified(self, waiting: TenantStanding, job: RunningJob) -> bool:
        """Whether the waiting tenant is so far behind the job's that this work should give way to it."""
        holder, worker = self._standings[job.tenant], self._workers[job.worker]
        models = self._lanes[self._pool, waiting.tenant]
        penalty = 0.0 if models.intersection(worker.loaded) else self._policy.swap_penalty
        least = next(it.vtime for it in self._ready if it.tenant != job.tenant)
        afterwards = fair_tag_after(holder.vtime, job.cost / holder.weight, least, self._policy)
        mean = waiting.queued_cost / waiting.queued
        return (
            holder.vtime >= waiting.vtime
            and waiting.vtime + penalty < afterwards
            and self._served(holder, waiting.since) > 2 * mean / waiting.weight + penalty
        )

    def _served(self, standing: TenantStanding, since: float) -> float:
        """Virtual seconds of service that the tenant's running jobs had from then on."""
        own = (job for job in self._running if job.tenant == standing.tenant)
        return sum(max(0.0, self._at - max(job.claimed_at, since)) for job in own) / standing.weight
