"""Which job next: start-time fair queueing with one tag for each tenant, affine to loaded models.

`FairQueue` is the rule for one pool, in memory: pure, without clock or I/O. The simulation runs it, and the property
tests hold every storage engine's claim against it.

A tenant is **ready** when it has queued jobs and runs fewer than its cap. Its tag `v` is virtual time: the cost of
what it was served, divided by its weight.

1. A tenant becomes ready:  ``v ← max(v, V)``, V = least v of the tenants that are ready, else the clock's last V.
   The clock takes V then, and at each claim, and never goes back.
2. A worker with loaded models L claims:  ``tenant* = argmin(v + Δ·[the tenant has nothing for L])``.
3. Inside the tenant: its lane (its jobs for one model) unserved for longer than `lane_wait`, the longest first;
   else its lanes for L; else any. In the lanes: highest priority, then oldest id.
4. The job is charged once: ``v += cost/w``.
5. Starvation guard: one claim in `guard_every` may go to the tenant unserved the longest, if for longer than G.
6. At the end ``v += (actual − estimate)/w``. Lost work is refunded as far as v stays at or above V; what cannot be
   refunded stays on the job as paid, so that its next run costs the tenant that much less. The tenant of work that was
   made to give way goes behind V by `Policy.setback`, likewise paid for that job, so that the slot goes to another.

Source: Goyal, Vin, Cheng, "Start-time Fair Queueing", SIGCOMM 1996 (doi 10.1145/248156.248171); for the tags on
tenants: Sheng et al., "Fairness in Serving Large Language Models" (arXiv 2401.00588).
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from sluicegate.domain.fairness import Policy


@dataclass(slots=True)
class QueuedJob:
    """A job as the rule sees it. `cost` in reference seconds; `paid` is the virtual time charged for it so far."""

    id: str
    tenant: str
    model: str
    cost: float
    priority: int = 0
    paid: float = 0.0
    weight: float = 1.0
    """The tenant's weight when the job was charged."""

    @property
    def rank(self) -> tuple[int, str]:
        """Its place in the lane."""
        return (-self.priority, self.id)


@dataclass(slots=True)
class Lane:
    """One tenant's queued jobs for one model. `since`: when it was last served, or became backlogged."""

    since: float
    jobs: dict[str, QueuedJob] = field(default_factory=dict)

    @property
    def head(self) -> QueuedJob:
        """The next job."""
        return min(self.jobs.values(), key=lambda job: job.rank)


@dataclass(slots=True)
class Account:
    """One tenant in one pool."""

    weight: float = 1.0
    max_running: int | None = None
    vtime: float = 0.0
    running: int = 0
    since: float = 0.0
    """When it was last served, or became ready."""
    lanes: dict[str, Lane] = field(default_factory=dict)

    @property
    def ready(self) -> bool:
        """Whether a claim may take its work."""
        return bool(self.lanes) and (self.max_running is None or self.running < self.max_running)


class FairQueue:
    """The rule for one pool. Whoever calls keeps the jobs; times are seconds on any clock that does not go back."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.accounts: dict[str, Account] = {}
        self.vtime = 0.0
        """The clock's last V."""
        self.guard_in = 0
        """Claims until the starvation guard may act again."""

    def submit(self, job: QueuedJob, now: float, *, weight: float = 1.0, max_running: int | None = None) -> None:
        """A new job; the tenant's weight and cap are as they are now."""
        account = self.accounts.setdefault(job.tenant, Account())
        was_ready = account.ready
        account.weight, account.max_running = weight, max_running
        self._push(account, job, now)
        self._rejoin(job.tenant, was_ready, now)

    def claim(self, models: Collection[str], loaded: Collection[str], now: float) -> QueuedJob | None:
        """Take and charge the next job for a worker that serves `models` and has `loaded` ones in memory."""
        tenant = self._starving(models, now)
        out_of_turn = tenant is not None
        if tenant is None:
            tenant = self._foremost(models, loaded)
        if tenant is None:
            return None
        account = self.accounts[tenant]
        job = self._best(account, models, loaded, now)
        self.vtime = max(self.vtime, self.least())
        self.guard_in = self.policy.guard_every - 1 if out_of_turn else max(0, self.guard_in - 1)
        account.lanes[job.model].since = account.since = now
        self._pull(account, job)
        account.running += 1
        charge = max(job.cost / account.weight, job.paid)
        account.vtime += charge - job.paid
        job.paid, job.weight = charge, account.weight
        return job

    def end(self, job: QueuedJob, actual: float, now: float) -> None:
        """A claimed job has ended and cost `actual` reference seconds; 0 when the service is to blame."""
        account = self.accounts[job.tenant]
        was_ready = account.ready
        account.running -= 1
        account.vtime += actual / job.weight - job.paid
        job.paid = actual / job.weight
        self._rejoin(job.tenant, was_ready, now)

    def give_back(self, job: QueuedJob, now: float, *, later: bool = False, preempted: bool = False) -> None:
        """A claimed job was lost, handed back or `preempted`; it waits again at once, or `later`, after `promote`."""
        account = self.accounts[job.tenant]
        was_ready = account.ready
        account.running -= 1
        self._refund(job, preempted=preempted)
        if not later:
            self._push(account, job, now)
        self._rejoin(job.tenant, was_ready, now)

    def promote(self, job: QueuedJob, now: float) -> None:
        """A job's back-off is over."""
        account = self.accounts[job.tenant]
        was_ready = account.ready
        self._push(account, job, now)
        self._rejoin(job.tenant, was_ready, now)

    def drop(self, job: QueuedJob) -> None:
        """A job ends that no worker holds: queued, or waiting for `promote`."""
        self._pull(self.accounts[job.tenant], job)
        self._refund(job)

    def least(self, *, besides: str | None = None) -> float:
        """V: the least tag of the tenants that are ready (`besides` one), else the clock's last."""
        tags = (account.vtime for name, account in self.accounts.items() if account.ready and name != besides)
        return min(tags, default=self.vtime)

    def _starving(self, models: Collection[str], now: float) -> str | None:
        """The tenant to serve out of turn, when it is time for one."""
        if self.guard_in > 0:
            return None
        waiting = min(((self.accounts[name].since, name) for name in self._served(models)), default=None)
        return waiting[1] if waiting is not None and waiting[0] <= now - self.policy.guard else None

    def _foremost(self, models: Collection[str], loaded: Collection[str]) -> str | None:
        """The tenant whose turn it is."""
        keys: list[tuple[float, int, float, str]] = []
        for name in self._served(models):
            account = self.accounts[name]
            cold = not any(model in loaded and model in models for model in account.lanes)
            placed = account.vtime + (self.policy.swap_penalty if cold else 0.0)
            keys.append((placed, int(cold), account.vtime, name))  # the tag itself: a sum may be rounded to a tie
        return min(keys)[3] if keys else None

    def _served(self, models: Collection[str]) -> Iterator[str]:
        """The ready tenants that have something for the models."""
        for name, account in self.accounts.items():
            if account.ready and any(model in models for model in account.lanes):
                yield name

    def _best(self, account: Account, models: Collection[str], loaded: Collection[str], now: float) -> QueuedJob:
        """The tenant's next job for the models."""
        lanes = {model: lane for model, lane in account.lanes.items() if model in models}
        late = [(lane.since, model) for model, lane in lanes.items() if lane.since < now - self.policy.lane_wait]
        if late:
            return lanes[min(late)[1]].head
        hot = [lane for model, lane in lanes.items() if model in loaded]
        return min((lane.head for lane in hot or lanes.values()), key=lambda job: job.rank)

    def _push(self, account: Account, job: QueuedJob, now: float) -> None:
        lane = account.lanes.setdefault(job.model, Lane(since=now))
        lane.jobs[job.id] = job

    def _pull(self, account: Account, job: QueuedJob) -> None:
        lane = account.lanes.get(job.model)
        if lane is not None and lane.jobs.pop(job.id, None) is not None and not lane.jobs:
            del account.lanes[job.model]

    def _refund(self, job: QueuedJob, *, preempted: bool = False) -> None:
        """Give back what the job has paid, as far as the tenant does not come before V for it, or even too near."""
        account = self.accounts[job.tenant]
        least = self.least(besides=job.tenant)
        floor = least + self.policy.setback if preempted else min(account.vtime, least)
        refunded = max(account.vtime - job.paid, floor)
        job.paid -= account.vtime - refunded
        account.vtime = refunded

    def _rejoin(self, tenant: str, was_ready: bool, now: float) -> None:
        """A tenant that was out of the race comes back level with the others: being idle earns nothing."""
        account = self.accounts[tenant]
        if account.ready and not was_ready:
            least = self.least(besides=tenant)
            self.vtime = max(self.vtime, least)  # so V does not fall when all who are ready leave without a claim
            account.vtime = max(account.vtime, least)
            account.since = now
