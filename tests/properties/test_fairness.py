"""The fair queue's rule under anything that callers, workers and the clock may do, with an auditor at every step.

What must hold, and why it does, stands at the head of tests/auditor.py. Three machines, because the bounds differ:
`Exact` has every job cost its estimate and every worker serve every model, and has the narrow bounds;
`Settled` has jobs that give way or end dearer or cheaper, and weights that change; `Divided` has workers that serve
some of the models only.
Below them: what a tenant might try in order to gain, each told as a bargain that does not pay.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from tests.auditor import TOLERANCE, AuditedQueue

from sluicegate.domain.fairness import Policy
from sluicegate.scheduling.fairness import QueuedJob

MODELS = ("a", "b", "c")
WEIGHTS = {"anna": 1.0, "ben": 1.0, "carl": 4.0, "dora": 16.0}
TENANTS = st.sampled_from(sorted(WEIGHTS))
COSTS = st.floats(1.0, 60.0)
LOADED = st.lists(st.sampled_from(MODELS), max_size=2, unique=True)
CAPS = st.sampled_from([None, None, None, 1, 2])
POLICIES = st.builds(
    Policy,
    swap_penalty=st.sampled_from([0.0, 5.0, 20.0]),
    lane_wait=st.sampled_from([10.0, inf]),
    guard=st.sampled_from([5.0, 30.0, inf]),
    guard_every=st.sampled_from([2, 4]),
)


class FairQueueMachine(RuleBasedStateMachine):
    """Random histories of one pool."""

    settles = False

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.made = 0
        self.queued: dict[str, QueuedJob] = {}
        self.running: dict[str, QueuedJob] = {}
        self.later: dict[str, QueuedJob] = {}

    @initialize(policy=POLICIES)
    def open(self, policy: Policy) -> None:
        self.queue = AuditedQueue(policy, settles=self.settles)

    @rule(
        tenant=TENANTS,
        model=st.sampled_from(MODELS),
        cost=COSTS,
        priority=st.integers(0, 1),
        cap=CAPS,
        copies=st.integers(1, 3),
    )
    def submit(self, *, tenant: str, model: str, cost: float, priority: int, cap: int | None, copies: int) -> None:
        for _ in range(copies):
            self.made += 1
            job = QueuedJob(f"{self.made:04}", tenant, model, cost, priority)
            self.queue.submit(job, self.now, weight=self.weight(tenant), max_running=cap)
            self.queued[job.id] = job

    def weight(self, tenant: str) -> float:
        return WEIGHTS[tenant]

    @rule(loaded=LOADED, times=st.integers(1, 3))
    def claim(self, loaded: list[str], times: int) -> None:
        for _ in range(times):
            self.take(MODELS, loaded)

    def take(self, models: tuple[str, ...], loaded: list[str]) -> None:
        job = self.queue.claim(models, loaded, self.now)
        if job is not None:
            self.running[job.id] = self.queued.pop(job.id)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        job = self.pick(data, self.running)
        self.queue.end(job, self.actual(data, job), self.now)

    def actual(self, data: st.DataObject, job: QueuedJob) -> float:
        return job.cost

    @precondition(lambda self: self.running)
    @rule(data=st.data(), later=st.booleans())
    def give_back(self, data: st.DataObject, later: bool) -> None:
        job = self.pick(data, self.running)
        (self.later if later else self.queued)[job.id] = job
        self.queue.give_back(job, self.now, later=later)

    @precondition(lambda self: self.running and self.settles)
    @rule(data=st.data())
    def preempt(self, data: st.DataObject) -> None:
        job = self.pick(data, self.running)
        self.queued[job.id] = job
        self.queue.give_back(job, self.now, preempted=True)

    @precondition(lambda self: self.later)
    @rule(data=st.data())
    def promote(self, data: st.DataObject) -> None:
        job = self.pick(data, self.later)
        self.queued[job.id] = job
        self.queue.promote(job, self.now)

    @precondition(lambda self: self.queued or self.later)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        self.queue.drop(self.pick(data, self.queued if self.queued else self.later))

    @rule(seconds=st.floats(0.0, 40.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    def pick(self, data: st.DataObject, jobs: dict[str, QueuedJob]) -> QueuedJob:
        return jobs.pop(data.draw(st.sampled_from(sorted(jobs))))


class ExactMachine(FairQueueMachine):
    """Every job costs what was estimated."""


class SettledMachine(FairQueueMachine):
    """Jobs give way, end dearer or cheaper than estimated, some at the service's expense; tenants change their tier."""

    settles = True
    factor = 1.0

    @rule(factor=st.sampled_from([0.25, 1.0, 4.0]))
    def change_tiers(self, factor: float) -> None:
        self.factor = factor

    def weight(self, tenant: str) -> float:
        return WEIGHTS[tenant] * self.factor

    def actual(self, data: st.DataObject, job: QueuedJob) -> float:
        return job.cost * data.draw(st.sampled_from([0.0, 0.3, 1.0, 2.5]))


class DividedMachine(SettledMachine):
    """Workers that serve some of the models: what holds of any worker must hold here too."""

    @rule(models=st.sampled_from([("a",), ("b", "c"), ("a", "c")]), loaded=LOADED)
    def claim_some(self, models: tuple[str, ...], loaded: list[str]) -> None:
        self.take(models, loaded)


LONG = settings(
    max_examples=100,
    stateful_step_count=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
TestExact = ExactMachine.TestCase
TestExact.settings = LONG
TestSettled = SettledMachine.TestCase
TestSettled.settings = LONG
TestDivided = DividedMachine.TestCase
TestDivided.settings = LONG


@dataclass(frozen=True)
class Customer:
    """A tenant that always has jobs of one kind waiting."""

    name: str
    weight: float
    cost: float
    model: str = "a"


@dataclass
class Pool:
    """One audited pool whose worker does one job after another, each in exactly its cost."""

    queue: AuditedQueue
    now: float = 0.0
    made: int = 0
    loaded: str = ""

    def submit(self, customer: Customer, copies: int = 1) -> list[QueuedJob]:
        """The new jobs."""
        first, self.made = self.made, self.made + copies
        jobs = [QueuedJob(f"{first + n:06}", customer.name, customer.model, customer.cost) for n in range(copies)]
        for job in jobs:
            self.queue.submit(job, self.now, weight=customer.weight)
        return jobs

    def serve(self, seconds: float, *customers: Customer) -> Iterator[QueuedJob]:
        """The jobs that are done until so much time has passed; the customers never run out of work."""
        until = self.now + seconds
        while self.now < until:
            for customer in customers:
                if sum(map(len, self.queue.books[customer.name].lanes.values())) < 2:
                    self.submit(customer, 2)
            job = self.queue.claim(MODELS, (self.loaded,), self.now)
            if job is None:
                return
            self.loaded = job.model
            self.now += job.cost
            self.queue.end(job, job.cost, self.now)
            yield job

    def work(self, seconds: float, *customers: Customer) -> dict[str, float]:
        """Seconds of service by tenant, until so much time has passed."""
        done = dict.fromkeys((customer.name for customer in customers), 0.0)
        for job in self.serve(seconds, *customers):
            done[job.tenant] = done.get(job.tenant, 0.0) + job.cost
        return done


def new_pool(swap_penalty: float = 20.0) -> Pool:
    return Pool(AuditedQueue(Policy(swap_penalty=swap_penalty, lane_wait=inf, guard=inf), settles=False))


MANY = settings(max_examples=60, deadline=None, derandomize=True)


@MANY
@given(idle=st.floats(0.0, 500.0), weight=st.sampled_from([1.0, 4.0, 16.0]), cost=COSTS, rival=COSTS)
def test_being_idle_earns_nothing(idle: float, weight: float, cost: float, rival: float) -> None:
    """From her return on anna has no more than her share, however long she was away."""
    pool, anna, ben = new_pool(), Customer("anna", weight, cost), Customer("ben", 1.0, rival)
    pool.submit(anna, 2)
    pool.work(idle, ben)
    done = pool.work(500.0, anna, ben)
    assert done["anna"] / weight - done["ben"] <= 2 * 20.0 + cost / weight + rival + TOLERANCE


@MANY
@given(parts=st.integers(1, 10), cost=st.floats(10.0, 60.0), rival=st.floats(10.0, 60.0))
def test_splitting_a_job_earns_nothing(parts: int, cost: float, rival: float) -> None:
    """In any time that both wait, anna's lead over ben stays within a bound that splitting only narrows."""
    anna, ben = Customer("anna", 4.0, cost / parts), Customer("ben", 4.0, rival)
    lead = least = 0.0
    for job in new_pool(swap_penalty=0.0).serve(500.0, anna, ben):
        lead += job.cost if job.tenant == "anna" else -job.cost
        least = min(least, lead)
        assert lead - least <= cost / parts + rival + TOLERANCE


@MANY
@given(data=st.data(), cost=COSTS)
def test_cancelling_and_submitting_again_earns_nothing(data: st.DataObject, cost: float) -> None:
    """Neither an earlier tag nor an earlier place in the guard's line, however often it is done."""
    pool, anna, ben = new_pool(), Customer("anna", 1.0, cost), Customer("ben", 1.0, 7.0)
    pool.submit(ben, 2)
    jobs = pool.submit(anna, data.draw(st.integers(1, 5)))
    for _ in range(data.draw(st.integers(1, 5))):
        pool.work(data.draw(st.floats(0.0, 60.0)), ben)
        jobs = [job for job in jobs if job.paid == 0.0]
        account = pool.queue.accounts["anna"]
        tag, since = account.vtime, account.since
        for job in jobs:
            pool.queue.drop(job)
        jobs = pool.submit(anna, len(jobs) + 1)
        assert account.vtime >= tag
        assert account.since >= since


@MANY
@given(
    costs=st.lists(st.floats(5.0, 60.0), min_size=4, max_size=4),
    weights=st.lists(st.sampled_from([1.0, 2.0, 4.0, 16.0]), min_size=4, max_size=4),
    swap_penalty=st.sampled_from([0.0, 20.0]),
)
def test_in_the_long_run_shares_follow_the_weights(
    costs: list[float], weights: list[float], swap_penalty: float
) -> None:
    """Whatever jobs cost, and with affinity: after any time of backlog normalised services differ by a constant."""
    names, models = ("anna", "ben", "carl", "dora"), ("a", "b", "a", "c")
    customers = [Customer(*each) for each in zip(names, weights, costs, models, strict=True)]
    done = new_pool(swap_penalty).work(1_500.0, *customers)
    normal = [done[customer.name] / customer.weight for customer in customers]
    dearest = max(customer.cost / customer.weight for customer in customers)
    assert max(normal) - min(normal) <= 2 * swap_penalty + 2 * dearest + TOLERANCE


@MANY
@given(losses=st.integers(0, 6), cost=COSTS, ahead=st.booleans())
def test_lost_work_is_charged_once(losses: int, cost: float, ahead: bool) -> None:
    """Given back, tried again and ended: anna has paid for the job once, wherever the others stand meanwhile."""
    pool = new_pool(swap_penalty=0.0)
    (job,) = pool.submit(Customer("anna", 2.0, cost))
    queue = pool.queue
    for _ in range(losses):
        assert queue.claim(MODELS, (), pool.now) is job
        if ahead:
            (other,) = pool.submit(Customer("ben", 16.0, 1.0))
            assert queue.claim(MODELS, (), pool.now) is other
            queue.end(other, 1.0, pool.now)
        queue.give_back(job, pool.now)
    assert queue.claim(MODELS, (), pool.now) is job
    queue.end(job, cost, pool.now)
    account = queue.accounts["anna"]
    assert cost / 2.0 - TOLERANCE <= account.vtime <= cost / 2.0 + queue.vtime + TOLERANCE


@MANY
@given(cap=st.integers(1, 3), waiting=st.integers(4, 8), turns=st.integers(1, 40))
def test_a_tenant_at_its_cap_is_not_served_and_earns_nothing_by_it(cap: int, waiting: int, turns: int) -> None:
    queue = new_pool().queue
    for number in range(waiting):
        queue.submit(QueuedJob(f"a{number}", "anna", "a", 10.0), 0.0, max_running=cap)
    held = [queue.claim(MODELS, ("a",), 0.0) for _ in range(cap)]
    assert [job.tenant for job in held if job] == ["anna"] * cap
    assert queue.claim(MODELS, ("a",), 0.0) is None
    for number in range(turns):
        other = QueuedJob(f"b{number:02}", "ben", "a", 10.0)
        queue.submit(other, 0.0)
        assert queue.claim(MODELS, ("a",), 0.0) is other
        queue.end(other, 10.0, 0.0)
    queue.submit(QueuedJob("b99", "ben", "a", 10.0), 0.0)
    assert held[0] is not None
    queue.end(held[0], 10.0, 0.0)
    assert queue.accounts["anna"].vtime >= queue.accounts["ben"].vtime
