"""A fair queue that proves itself at every step: the invariants of the rule, with the bounds that were derived for it.

`AuditedQueue` does what `FairQueue` does and keeps books of its own beside it: who waits, who runs, what was paid.
After each step it raises `Broken` when one of these does not hold. Notation: v the tag, w the weight, c a cost,
Δ the swap penalty, G the guard, V the least tag of the ready tenants (the clock's last V when there is none).

**Charge once.** A step moves only the tag of the tenant it is about, and v = lifts + Σ actual/w of the ended jobs
+ Σ paid of the others. A claim pays max(c/w, what the job had paid); an ended job has paid actual/w; a job that is
withdrawn or waits again gets back what it paid, as far as v stays at or above V; the tenant of one that was made to
give way is put at V + setback at least, and the job has paid for that too. So v less what is not settled yet
(u = v − Σ paid) never falls: whatever is lost, preempted, retried, withdrawn or overestimated, all work that was
done is charged, and none of it twice.

**Idle earns nothing.** A tenant that becomes ready (idle before, or at its cap) has a tag of at least V, and is not
lifted above it.

**Work conservation.** A claim returns nothing only when no ready tenant has a job for the worker's models.

**Tag spread.** While every worker serves every model: v_f − v_m ≤ slack_f for all ready f and m, where slack_f is set
when the tag is. Proof: f, claimed in turn at T, had v_f + Δ·[cold] ≤ v_m + Δ for each ready m, and the clock became
at least V(T). Without settlement no ready tag falls below the clock, and tenants that join later are level with one
that is ready, or with the clock. Hence slack_f = Δ + c/w_f. A tenant that was lifted has none: it is at V, and so is
the clock. Out of turn the charge comes on top of the slack there was. With settlement v_m may fall below V(T) by what
was paid and not settled at T: u_m never falls, a tenant that joins is level with one that is ready, and so each
tenant lowers V by its own unsettled payments at most once. Hence slack_f = Δ + c/w_f + Σ paid(T), over all jobs that
have not ended, and more by actual/w − paid when f's own job ends dearer than estimated. Where f's job gave way,
slack_f = setback + Σ paid likewise.

**Service lag.** Over any time in which f and m are both ready, service_f/w_f − service_m/w_m ≤ slack_f + slack_m,
which is 2Δ + c_f/w_f + c_m/w_m. Proof: meanwhile tags move by service alone, so the difference is the spread at the
end less the spread at the start. As it holds from any moment on, a past as an idle tenant, many small jobs in place
of a large one, or cancelling and submitting again buy nothing. (Without settlement; work given back begins a new
count.)

**Tenant gap.** While every worker serves every model, a tenant that is unserved for G is served within
`guard_every` × N more claims, N being the tenants unserved for at least as long. Proof: at most `guard_every` − 1
claims pass between two out of turn, these go to the longest unserved, and who is served or joins goes to the end.
With C workers, each claiming again after s at the latest: gap ≤ G + ⌈guard_every·N/C⌉·s.
"""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from math import inf

from sluicegate.domain.fairness import Policy
from sluicegate.scheduling.fairness import FairQueue, QueuedJob

TOLERANCE = 1e-6


class Broken(AssertionError):
    """An invariant does not hold; the message says which, and the figures."""


@dataclass
class Book:
    """What the auditor knows of a tenant."""

    weight: float = 1.0
    cap: int | None = None
    tag: float = 0.0
    lanes: dict[str, dict[str, QueuedJob]] = field(default_factory=lambda: defaultdict(dict))
    running: int = 0
    since: float = 0.0
    slack: float = 0.0
    service: float = 0.0
    """Σ cost/weight of the claimed jobs."""
    is_ready: bool = False

    @property
    def should_be_ready(self) -> bool:
        """Ready by definition, from the books alone."""
        return any(self.lanes.values()) and (self.cap is None or self.running < self.cap)


def demand(holds: bool, what: str, **figures: object) -> None:
    """Raise `Broken` unless it holds."""
    if not holds:
        raise Broken(f"{what}: " + ", ".join(f"{name}={value}" for name, value in figures.items()))


class AuditedQueue(FairQueue):
    """The rule and its auditor. `settles`: whether jobs may end dearer or cheaper than estimated, or weights change."""

    def __init__(self, policy: Policy, *, settles: bool) -> None:
        super().__init__(policy)
        self.settles = settles
        self.books: dict[str, Book] = defaultdict(Book)
        self.lane_since: dict[tuple[str, str], float] = {}
        self.unsettled: dict[str, float] = {}
        """What each job that has not ended has paid."""
        self.is_whole = True
        """Whether every claim so far could have taken every ready tenant's work."""
        self.claims_since_out_of_turn = policy.guard_every
        self.starving: dict[str, tuple[int, int]] = {}
        """For each tenant unserved beyond G: N when it came to that, and the claims since."""
        self.most_lag: dict[tuple[str, str], float] = {}
        """For each pair (f, m) that is ready: least (service_f − service_m + slack_m) since both are."""
        self.longest_gap = 0.0
        self.most_starving = 0
        self.steps = 0

    def submit(self, job: QueuedJob, now: float, *, weight: float = 1.0, max_running: int | None = None) -> None:
        book = self.books[job.tenant]
        book.weight, book.cap = weight, max_running
        super().submit(job, now, weight=weight, max_running=max_running)
        self._wait(job, now)
        self._compare(job.tenant, moved=0.0, now=now)

    def claim(self, models: Collection[str], loaded: Collection[str], now: float) -> QueuedJob | None:
        served = self._served_by(models)
        ready = {name for name, book in self.books.items() if book.is_ready}
        self.is_whole = self.is_whole and ready == served
        level, clock = self._level(None), self.vtime
        job = super().claim(models, loaded, now)
        if job is None:
            demand(not served, "work conservation: nothing was claimed", ready=sorted(served))
            return None
        demand(job.tenant in served, "a tenant that is not ready was served", tenant=job.tenant)
        demand(abs(self.vtime - max(clock, level)) <= TOLERANCE, "the clock is not the last least tag", at=self.vtime)
        book = self.books[job.tenant]
        in_turn = self._check_tenant(job.tenant, served, models, loaded, now)
        self._check_lane(job, models, loaded, now)
        paid, owed = self.unsettled.get(job.id, 0.0), self._owed()
        due = max(job.cost / book.weight, paid)
        demand(abs(job.paid - due) <= TOLERANCE, "the charge is not cost/weight", paid=job.paid, due=due)
        demand(job.weight == book.weight, "the charge's weight is not the tenant's", weight=job.weight)
        charge = job.paid - paid
        if paid > 0.0:
            self._forget_lag(job.tenant)
        book.slack = min(book.slack, self.policy.swap_penalty + owed if in_turn else inf) + charge
        self.unsettled[job.id] = job.paid
        book.service += job.cost / book.weight
        self._leave_lane(job)
        self._count_claim(job.tenant, now)
        book.running += 1
        book.since = self.lane_since[job.tenant, job.model] = now
        self._compare(job.tenant, moved=charge, now=now)
        return job

    def end(self, job: QueuedJob, actual: float, now: float) -> None:
        paid, used = self.unsettled.pop(job.id), actual / job.weight
        self.books[job.tenant].running -= 1
        self.books[job.tenant].slack += max(0.0, used - paid)
        demand(
            self.settles or abs(used - paid) <= TOLERANCE, "the job's cost is not its estimate", paid=paid, used=used
        )
        super().end(job, actual, now)
        demand(job.paid == used, "an ended job has not paid its actual cost", paid=job.paid, used=used)
        self._compare(job.tenant, moved=used - paid, now=now)

    def give_back(self, job: QueuedJob, now: float, *, later: bool = False, preempted: bool = False) -> None:
        demand(self.settles or not preempted, "work that gave way may be paid above its estimate", job=job.id)
        book, setback = self.books[job.tenant], self.policy.setback if preempted else 0.0
        level = self._level(job.tenant) + setback
        paid = self.unsettled.pop(job.id)
        book.running -= 1
        super().give_back(job, now, later=later, preempted=preempted)
        if not later:
            self._wait(job, now)
        self.unsettled[job.id] = job.paid
        self._check_refund(job, paid, level, preempted=preempted)
        if job.paid > paid:
            book.slack = min(book.slack + job.paid - paid, setback + self._owed())
        self._forget_lag(job.tenant)
        book.service -= job.cost / job.weight
        self._compare(job.tenant, moved=job.paid - paid, now=now)

    def promote(self, job: QueuedJob, now: float) -> None:
        super().promote(job, now)
        self._wait(job, now)
        self._compare(job.tenant, moved=0.0, now=now)

    def drop(self, job: QueuedJob) -> None:
        level, paid = self._level(job.tenant), self.unsettled.pop(job.id, 0.0)
        self._leave_lane(job)
        super().drop(job)
        self._check_refund(job, paid, level)
        if paid > 0.0:
            self._forget_lag(job.tenant)
        self._compare(job.tenant, moved=job.paid - paid, now=inf)

    def _wait(self, job: QueuedJob, now: float) -> None:
        lane = self.books[job.tenant].lanes[job.model]
        if not lane:
            self.lane_since[job.tenant, job.model] = now
        lane[job.id] = job

    def _leave_lane(self, job: QueuedJob) -> None:
        self.books[job.tenant].lanes[job.model].pop(job.id, None)

    def _level(self, tenant: str | None) -> float:
        """V, besides one tenant."""
        tags = [book.tag for name, book in self.books.items() if book.is_ready and name != tenant]
        return min(tags, default=self.vtime)

    def _served_by(self, models: Collection[str]) -> set[str]:
        return {
            name
            for name, book in self.books.items()
            if book.is_ready and any(jobs and model in models for model, jobs in book.lanes.items())
        }

    def _check_tenant(
        self, chosen: str, served: set[str], models: Collection[str], loaded: Collection[str], now: float
    ) -> bool:
        """Whether the tenant was served in its turn. `Broken` when it was not, and may not have been."""
        hot = set(models) & set(loaded)
        warm = {name for name in served if any(self.books[name].lanes.get(model) for model in hot)}
        keys = {
            name: (
                self.books[name].tag + (0.0 if name in warm else self.policy.swap_penalty),
                name not in warm,
                self.books[name].tag,
                name,
            )
            for name in served
        }
        oldest = min((self.books[name].since, name) for name in served)
        starves = oldest[0] <= now - self.policy.guard
        may_jump = self.claims_since_out_of_turn >= self.policy.guard_every
        if starves and may_jump:
            demand(chosen == oldest[1], "the guard did not serve the tenant unserved the longest", chosen=chosen)
            self.claims_since_out_of_turn = 1
        else:
            demand(keys[chosen] == min(keys.values()), "out of turn", chosen=keys[chosen], first=min(keys.values()))
            self.claims_since_out_of_turn += 1
        return keys[chosen][0] <= min(keys.values())[0] + TOLERANCE

    def _check_lane(self, job: QueuedJob, models: Collection[str], loaded: Collection[str], now: float) -> None:
        book = self.books[job.tenant]
        lanes = {model: jobs for model, jobs in book.lanes.items() if jobs and model in models}
        late = sorted(
            (since, model)
            for model in lanes
            if (since := self.lane_since[job.tenant, model]) < now - self.policy.lane_wait
        )
        hot = {model for model in lanes if model in loaded}
        chosen = {late[0][1]} if late else hot or set(lanes)
        best = min((-one.priority, one.id) for model in chosen for one in lanes[model].values())
        demand((-job.priority, job.id) == best, "not the next job of its tenant", claimed=job.id, next=best[1])

    def _check_refund(self, job: QueuedJob, paid: float, level: float, *, preempted: bool = False) -> None:
        """The tenant got back what the job had paid, as far as it stays at `level`; who gave way is put there."""
        refunded = paid - job.paid
        now = self.books[job.tenant].tag - refunded
        demand(refunded <= paid + TOLERANCE, "more was given back than paid", refunded=refunded, paid=paid)
        demand(preempted or refunded >= -TOLERANCE, "lost work was charged again", refunded=refunded)
        demand(not preempted or now >= level - TOLERANCE, "who gave way may take the slot back", tag=now, level=level)
        demand(refunded <= TOLERANCE or now >= level - TOLERANCE, "a refund led below V", tag=now, level=level)
        demand(job.paid <= TOLERANCE or now <= level + TOLERANCE, "a refund was kept back", kept=job.paid, tag=now)

    def _owed(self) -> float:
        """How far settlement may lower V from here on."""
        return sum(self.unsettled.values()) if self.settles else 0.0

    def _count_claim(self, chosen: str, now: float) -> None:
        """The gap of each starving tenant, in claims."""
        self.longest_gap = max(self.longest_gap, now - self.books[chosen].since)
        late = {
            n: book.since for n, book in self.books.items() if book.is_ready and book.since <= now - self.policy.guard
        }
        self.most_starving = max(self.most_starving, len(late))
        for name, since in late.items():
            ahead = sum((other, who) <= (since, name) for who, other in late.items())
            most, claims = self.starving.get(name, (ahead, 0))
            self.starving[name] = (most, claims + 1)
            if self.is_whole:
                bound = self.policy.guard_every * most
                demand(claims + 1 <= bound, "tenant gap", tenant=name, claims=claims + 1, bound=bound)
        self.starving.pop(chosen, None)

    def _forget_lag(self, tenant: str) -> None:
        for pair in [pair for pair in self.most_lag if tenant in pair]:
            del self.most_lag[pair]

    def _compare(self, tenant: str, *, moved: float, now: float) -> None:
        """After a step about `tenant` whose tag should have `moved` by so much: queue and books agree, bounds hold."""
        self.steps += 1
        book, account = self.books[tenant], self.accounts[tenant]
        joined = book.should_be_ready and not book.is_ready
        level, expected = self._level(tenant), book.tag + moved
        if joined:
            self._check_join(tenant, expected, level)
            book.since = now
        else:
            demand(abs(account.vtime - expected) <= TOLERANCE, "charge once", tag=account.vtime, expected=expected)
        book.tag, book.is_ready = account.vtime, book.should_be_ready
        if not book.is_ready:
            self.starving.pop(tenant, None)
        if joined or not book.is_ready:
            self._forget_lag(tenant)
        self._check_counters(tenant)
        if self.is_whole:
            self._check_spread(tenant)

    def _check_join(self, tenant: str, expected: float, level: float) -> None:
        book, tag = self.books[tenant], self.accounts[tenant].vtime
        demand(tag >= level - TOLERANCE, "an idle tenant came back behind the others", tag=tag, level=level)
        demand(abs(tag - max(expected, level)) <= TOLERANCE, "a tenant was lifted too far", tag=tag, level=level)
        if expected < level - TOLERANCE:
            book.slack = self._owed()

    def _check_counters(self, tenant: str) -> None:
        book, account = self.books[tenant], self.accounts[tenant]
        lanes = {model: len(jobs) for model, jobs in book.lanes.items() if jobs}
        demand({m: len(lane.jobs) for m, lane in account.lanes.items()} == lanes, "lanes", truth=lanes)
        demand(account.running == book.running, "running", counter=account.running, truth=book.running)
        demand(account.ready == book.is_ready, "ready", tenant=tenant, truth=book.is_ready)
        for name, other in self.books.items():
            demand(self.accounts[name].vtime == other.tag, "another tenant's tag moved", tenant=name)

    def _check_spread(self, tenant: str) -> None:
        ready = {name: book for name, book in self.books.items() if book.is_ready}
        least = min((book.tag for book in ready.values()), default=inf)
        for name, book in ready.items():
            spread = book.tag - least
            demand(spread <= book.slack + TOLERANCE, "tag spread", tenant=name, spread=spread, bound=book.slack)
        if not self.settles and tenant in ready:
            for other in ready.keys() - {tenant}:
                self._check_lag(tenant, other)
                self._check_lag(other, tenant)

    def _check_lag(self, ahead: str, behind: str) -> None:
        """`ahead` has had at most so much more service than `behind` since any moment while both were ready."""
        f, m = self.books[ahead], self.books[behind]
        lead = f.service - m.service
        most = min(self.most_lag.get((ahead, behind), inf), lead + m.slack)
        demand(lead - f.slack <= most + TOLERANCE, "service lag", ahead=ahead, behind=behind, lead=lead, most=most)
        self.most_lag[ahead, behind] = most
