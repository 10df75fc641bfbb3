"""The job store against a small model of it: whatever workers, callers and the clock do, in any order.

Each claim gives out the very job that the rule (`FairQueue`) says. After each step the states, attempts, outcomes and
progress of all jobs are those of the model, and tags, counters and lanes those of the rule; events are numbered without
a gap and end with exactly one terminal event; the ledger has each ended job once.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from itertools import count, product
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.postgres import PostgresServer

from sluicegate.domain.event import TERMINAL_EVENTS, JobEvent
from sluicegate.domain.fairness import MOST_PREEMPTIONS, Policy, Tier, calibrated
from sluicegate.domain.ids import JobId, Tenant, WorkerId, new_job_id
from sluicegate.domain.job import (
    HELD,
    TERMINAL,
    TRANSITIONS,
    Attempt,
    Idempotency,
    Job,
    JobError,
    JobState,
    Lease,
    NewJob,
    Progress,
    Recovery,
    Verdict,
)
from sluicegate.errors import Conflict, IdempotencyMismatch, QueueFull
from sluicegate.scheduling.fairness import FairQueue, QueuedJob
from sluicegate.storage.contracts import Store, Success
from sluicegate.storage.postgres.store import PostgresStore
from sluicegate.storage.sqlite.store import SqliteStore
from sluicegate.testing import ManualClock

Result = TypeVar("Result")
TIERS = (
    Tier(name="free", weight=1.0, preemptible=True, queued_jobs=6, queued_cost=150.0),
    Tier(name="basic", weight=4.0, concurrent_jobs=1),
    Tier(name="pro", weight=16.0, concurrent_jobs=2),
)
TENANTS = (Tenant("anna"), Tenant("bert"), Tenant("cleo"), Tenant("dora"))
POOLS = ("cpu", "gpu")
MODELS = ("a", "b", "c")
WORKERS = (WorkerId("worker_one"), WorkerId("worker_two"))
LEASE = 15.0
MOST_COST = 60.0
OOPS = JobError(code="backend_failed", message="it broke")
SPECS = st.fixed_dictionaries(
    {
        "tenant": st.sampled_from(TENANTS),
        "tier": st.sampled_from(TIERS),
        "pool": st.sampled_from(["gpu", "gpu", "cpu"]),
        "model": st.sampled_from(MODELS),
        "priority": st.sampled_from([0, 0, 0, 1, -1]),
        "max_attempts": st.integers(1, 3),
        "deadline_seconds": st.sampled_from([None, None, None, 10.0, 40.0]),
        "cost": st.sampled_from([0.1, 1.0, 7.5, 20.0, MOST_COST]),
    }
)
COSTS = st.sampled_from([0.0, 0.1, 3.0, 20.0, MOST_COST])


@dataclass
class Model:
    """One job as it should be."""

    id: JobId
    tenant: Tenant
    pool: str
    model: str
    priority: int
    max_attempts: int
    deadline: float | None
    queued: QueuedJob
    preemptible: bool
    state: JobState = "queued"
    states: list[JobState] = field(default_factory=lambda: ["queued"])
    attempt: int = 0
    fence: int = 0
    worker: WorkerId | None = None
    lease_until: float = 0.0
    due: float = 0.0
    progress: float | None = None
    outcomes: list[str | None] = field(default_factory=list)
    preempting: bool = False
    preemptions: int = 0
    charged: float | None = None

    def move(self, to: JobState, outcome: str | None = None) -> None:
        assert to in TRANSITIONS[self.state]
        if self.state in HELD and to not in HELD:
            self.outcomes[-1] = outcome
            self.progress = None
            self.preempting = False
        if to in ("queued", "scheduled"):
            self.worker = None
        self.state = to
        self.states.append(to)

    def is_late(self, now: float) -> bool:
        return self.deadline is not None and self.deadline <= now


class JobStoreMachine(RuleBasedStateMachine):
    """Random histories of one store, beside a model of its jobs and the rule of the fair queue in memory.

    `make_store` gives an empty store of the engine under test, which is not open yet.
    """

    def __init__(self, make_store: Callable[[ManualClock, Policy], Store]) -> None:
        super().__init__()
        self.make_store = make_store
        self.loop: asyncio.AbstractEventLoop | None = None
        self.clock = ManualClock()
        self.jobs: dict[JobId, Model] = {}
        self.leases: list[tuple[WorkerId, Lease]] = []
        self.keys: dict[tuple[Tenant, str], tuple[str, JobId]] = {}
        self.queues: dict[str, FairQueue] = {}
        self.kappas: dict[tuple[str, str], float] = {}

    def run(self, call: Coroutine[Any, Any, Result]) -> Result:
        assert self.loop is not None
        return self.loop.run_until_complete(call)

    @initialize(penalty=st.sampled_from([0.0, 5.0, 20.0]), specs=st.lists(SPECS, min_size=3, max_size=6))
    def open(self, penalty: float, specs: list[dict[str, Any]]) -> None:
        policy = Policy(swap_penalty=penalty, max_cost=MOST_COST)
        self.queues = {pool: FairQueue(policy) for pool in POOLS}
        self.loop = asyncio.new_event_loop()
        self.store = self.make_store(self.clock, policy)
        self.run(self.store.open())
        for spec in specs:
            self.submit_one(spec, None)

    def teardown(self) -> None:
        if self.loop is not None:
            try:
                self.run(self.store.close())
                self.run(self.loop.shutdown_default_executor())
            finally:
                self.loop.close()

    @rule(
        spec=SPECS,
        idempotency=st.none() | st.builds(Idempotency, st.sampled_from(["k1", "k2"]), st.sampled_from(["x", "y"])),
    )
    def submit(self, spec: dict[str, Any], idempotency: Idempotency | None) -> None:
        self.submit_one(spec, idempotency)

    def submit_one(self, spec: dict[str, Any], idempotency: Idempotency | None) -> None:
        new = NewJob(id=new_job_id(), task="upscale", input={}, base_cost=spec["cost"] * 2, **spec)
        call = self.store.submit(new, idempotency)
        earlier = self.keys.get((new.tenant, idempotency.key)) if idempotency else None
        if earlier is not None and idempotency is not None and earlier[0] != idempotency.digest:
            self.refused(call, IdempotencyMismatch)
            return
        if earlier is None and self.is_full(new):
            self.refused(call, QueueFull)
            return
        submission = self.run(call)
        assert submission.replayed == (earlier is not None)
        assert submission.job.id == (earlier[1] if earlier else new.id)
        if earlier is None:
            self.add(new)
            if idempotency is not None:
                self.keys[new.tenant, idempotency.key] = (idempotency.digest, new.id)

    def refused(self, call: Coroutine[Any, Any, object], error: type[Exception]) -> None:
        try:
            self.run(call)
        except error:
            return
        raise AssertionError(f"{error.__name__} was to be raised")

    def is_full(self, new: NewJob) -> bool:
        mine = [job for job in self.jobs.values() if (job.tenant, job.pool) == (new.tenant, new.pool)]
        queued = [job.queued.cost for job in mine if job.state == "queued"]
        waiting = sum(job.state in ("queued", "scheduled") for job in mine)
        bound, work = new.tier.queued_jobs, new.tier.queued_cost
        return (bound is not None and waiting >= bound) or (
            work is not None and bool(queued) and sum(queued) + new.cost > work
        )

    def add(self, new: NewJob) -> None:
        due = None if new.deadline_seconds is None else self.clock.now() + new.deadline_seconds
        queued = QueuedJob(new.id, new.tenant, new.model, new.cost, new.priority)
        self.jobs[new.id] = Model(
            id=new.id,
            tenant=new.tenant,
            pool=new.pool,
            model=new.model,
            priority=new.priority,
            max_attempts=new.max_attempts,
            deadline=due,
            queued=queued,
            preemptible=new.tier.preemptible or new.priority < 0,
        )
        tier = new.tier
        queue = self.queues[new.pool]
        queue.submit(queued, self.clock.now(), weight=tier.weight, max_running=tier.concurrent_jobs)

    def line(self, tenant: Tenant, pool: str) -> list[Model]:
        """The tenant's queued jobs in a pool, first to last."""
        mine = [job for job in self.jobs.values() if job.tenant == tenant and job.pool == pool]
        return sorted((job for job in mine if job.state == "queued"), key=lambda job: job.queued.rank)

    def drop(self, job: Model, to: JobState) -> None:
        self.queues[job.pool].drop(job.queued)
        job.move(to)
        job.charged = 0.0

    def end(self, job: Model, to: JobState, outcome: str, cost: float) -> None:
        self.queues[job.pool].end(job.queued, cost, self.clock.now())
        job.move(to, outcome)
        job.charged = cost

    def give_back(self, job: Model, to: JobState, outcome: str) -> None:
        now, preempted = self.clock.now(), outcome == "preempted"
        self.queues[job.pool].give_back(job.queued, now, later=to == "scheduled", preempted=preempted)
        job.move(to, outcome)

    def lose(self, job: Model, loss: str) -> str:
        """The worker is gone; what the caretaker counts."""
        if job.state == "canceling":
            self.end(job, "canceled", "canceled", 0.0)
            return "canceled"
        if job.is_late(self.clock.now()):
            self.end(job, "expired", loss, 0.0)
            return "expired"
        if job.attempt < job.max_attempts:
            self.give_back(job, "queued", loss)
            return "requeued"
        self.end(job, "failed", loss, 0.0)
        return "failed"

    @rule(
        worker=st.sampled_from(WORKERS),
        models=st.sampled_from([("a", "b", "c"), ("b", "a", "x"), ("a",), ("c", "b")]),
        loaded=st.sampled_from([(), ("a",), ("b",), ("c", "a"), ("x",)]),
        pools=st.sampled_from([("gpu",), ("gpu", "cpu"), ("cpu", "gpu"), ("none", "cpu")]),
        times=st.integers(1, 4),
    )
    def claim(
        self,
        worker: WorkerId,
        models: tuple[str, ...],
        loaded: tuple[str, ...],
        pools: tuple[str, ...],
        times: int,
    ) -> None:
        for _ in range(times):
            claim = self.run(self.store.claim(worker, models, LEASE, pools=pools, loaded=loaded))
            expected = self.next_job(pools, models, loaded)
            assert (claim.job.id if claim else None) == (expected.id if expected else None)
            if claim and expected:
                expected.move("running")
                expected.attempt += 1
                expected.fence += 1
                expected.worker, expected.lease_until = worker, self.clock.now() + LEASE
                expected.outcomes.append(None)
                assert claim.lease == Lease(expected.id, expected.fence)
                self.leases.append((worker, claim.lease))

    def next_job(self, pools: tuple[str, ...], models: tuple[str, ...], loaded: tuple[str, ...]) -> Model | None:
        """The job that the rule gives out; late ones before it expire."""
        now = self.clock.now()
        for pool in pools:
            queue = self.queues.get(pool)
            while queue is not None and (first := deepcopy(queue).claim(models, loaded, now)) is not None:
                job = self.jobs[JobId(first.id)]
                if not job.is_late(now):
                    queue.claim(models, loaded, now)
                    return job
                self.drop(job, "expired")
        return None

    def holder(self, lease: Lease) -> Model | None:
        job = self.jobs[lease.job]
        return job if job.fence == lease.fence and job.state in HELD else None

    def pick(self, data: st.DataObject) -> tuple[WorkerId, Lease]:
        """A lease that was once given: mostly one that is current, or one whose job another holds now, else any."""
        current = [given for given in self.leases if self.holder(given[1]) is not None]
        superseded = [
            given for given in self.leases if self.holder(given[1]) is None and self.jobs[given[1].job].state in HELD
        ]
        wanted = data.draw(st.sampled_from([current, current, superseded, self.leases]))
        return data.draw(st.sampled_from(wanted or self.leases))

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), beat=st.booleans())
    def heartbeat(self, data: st.DataObject, beat: bool) -> None:
        worker, lease = self.pick(data)
        job = self.holder(lease)
        call = self.store.heartbeat(worker, [lease], LEASE) if beat else self.store.look([lease])
        (verdict,) = self.run(call)
        if job is None:
            assert verdict == Verdict(lease, "lost")
            return
        if beat:
            job.lease_until = self.clock.now() + LEASE
        late = "expire" if job.is_late(self.clock.now()) else "preempt" if job.preempting else "keep"
        assert verdict.word == ("cancel" if job.state == "canceling" else late)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), value=st.floats(0, 1))
    def report(self, data: st.DataObject, value: float) -> None:
        lease = self.pick(data)[1]
        self.run(self.store.report(lease, Progress(value=value)))
        if (job := self.holder(lease)) is not None:
            job.progress = value

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), cost=COSTS)
    def succeed(self, data: st.DataObject, cost: float) -> None:
        lease = self.pick(data)[1]
        job = self.holder(lease)
        done = Success(outputs=(), backend="local", execution_seconds=cost + 1.0, cost=cost)
        assert self.run(self.store.succeed(lease, done)) == (job is not None)
        if job is not None:
            self.end(job, "succeeded", "succeeded", cost)
            which = (job.model, "upscale")
            self.kappas[which] = calibrated(self.kappas.get(which, 1.0), job.queued.cost * 2, cost)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), retry_in=st.sampled_from([None, 0.0, 5.0, 20.0]), cost=COSTS)
    def fail(self, data: st.DataObject, retry_in: float | None, cost: float) -> None:
        lease = self.pick(data)[1]
        job = self.holder(lease)
        assert self.run(self.store.fail(lease, OOPS, retry_in=retry_in, cost=cost)) == (job is not None)
        if job is None:
            return
        if job.state == "canceling":
            self.end(job, "canceled", "canceled", cost)
        elif retry_in is not None and job.attempt < job.max_attempts:
            self.give_back(job, "scheduled", "retried")
            job.due = self.clock.now() + retry_in
        else:
            self.end(job, "failed", "failed", cost)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), word=st.sampled_from(["cancel", "expire"]), cost=COSTS)
    def stop(self, data: st.DataObject, word: Any, cost: float) -> None:
        lease = self.pick(data)[1]
        job = self.holder(lease)
        try:
            assert self.run(self.store.stop(lease, word, cost=cost)) == (job is not None)
        except Conflict:
            assert job is not None
            assert job.state == "running"
            assert word == "cancel" or not job.is_late(self.clock.now())
            return
        if job is not None:
            assert job.state == "canceling" or (word == "expire" and job.is_late(self.clock.now()))
            to: JobState = "canceled" if job.state == "canceling" else "expired"
            self.end(job, to, to, cost)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), preempted=st.booleans())
    def hand_back(self, data: st.DataObject, preempted: bool) -> None:
        lease = self.pick(data)[1]
        job = self.holder(lease)
        assert self.run(self.store.hand_back(lease, preempted=preempted)) == (job is not None)
        if job is not None and job.state == "canceling":
            self.end(job, "canceled", "canceled", 0.0)
        elif job is not None:
            self.give_back(job, "queued", "preempted" if preempted else "handed_back")
            job.attempt -= 1
            job.preemptions += preempted

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def preempt(self, data: st.DataObject) -> None:
        lease = self.pick(data)[1]
        job = self.holder(lease)
        may = job is not None and job.state == "running" and job.preemptible and not job.preempting
        may = may and job is not None and job.preemptions < MOST_PREEMPTIONS
        assert self.run(self.store.preempt(lease)) == may
        if may and job is not None:
            job.preempting = True

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job = self.jobs[data.draw(st.sampled_from(list(self.jobs)))]
        told = self.run(self.store.cancel(job.tenant, job.id))
        if job.state in ("queued", "scheduled"):
            self.drop(job, "canceled")
        elif job.state == "running":
            job.move("canceling")
        assert told.state == job.state

    @rule()
    def recover(self) -> None:
        now, fates = self.clock.now(), Counter[str]()
        jobs = self.jobs.values()
        silent = [job for job in jobs if job.state in HELD and job.lease_until <= now]
        for job in sorted(silent, key=lambda job: (job.lease_until, job.id)):
            fates[self.lose(job, "lease_expired")] += 1
        late = [job for job in jobs if job.state in ("queued", "scheduled") and job.is_late(now)]
        for job in sorted(late, key=lambda job: (job.deadline or 0.0, job.id)):
            self.drop(job, "expired")
            fates["expired"] += 1
        due = [job for job in jobs if job.state == "scheduled" and job.due <= now]
        for job in sorted(due, key=lambda job: (job.due, job.id)):
            job.move("queued")
            self.queues[job.pool].promote(job.queued, now)
            fates["promoted"] += 1
        assert self.run(self.store.recover()) == Recovery(**fates)

    @rule(worker=st.sampled_from(WORKERS))
    def release(self, worker: WorkerId) -> None:
        fates = Counter[str]()
        for job in sorted(self.jobs.values(), key=lambda job: job.id):
            if job.state in HELD and job.worker == worker:
                fates[self.lose(job, "worker_died")] += 1
        assert self.run(self.store.release(worker)) == Recovery(**fates)

    @rule(seconds=st.sampled_from([1.0, 15.0]))
    def prolong(self, seconds: float) -> None:
        until = self.clock.now() + seconds
        ending = [job for job in self.jobs.values() if job.state in HELD and job.lease_until < until]
        assert self.run(self.store.prolong(seconds)) == len(ending)
        for job in ending:
            job.lease_until = until

    @rule(seconds=st.sampled_from([1.0, 5.0, 15.0, 50.0, 130.0, 310.0]))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def the_store_is_as_the_model_says(self) -> None:
        ahead: dict[JobId, int] = {}
        for tenant, pool in product(TENANTS, POOLS):
            ahead |= {job.id: at for at, job in enumerate(self.line(tenant, pool))}
        for model, job, attempts, events in self.run(self.look()):
            assert (job.state, job.attempt, job.fence) == (model.state, model.attempt, model.fence)
            assert job.worker == model.worker
            assert job.jobs_ahead == ahead.get(model.id)
            assert (job.progress.value if job.progress else None) == model.progress
            assert (job.completed_at is not None) == (job.state in TERMINAL)
            assert (job.error is not None) == (job.state in ("failed", "expired"))
            assert (job.charged, job.preemptions) == (model.charged, model.preemptions)
            check_attempts(model, attempts)
            check_events(model, events)

    @invariant()
    def the_queue_is_as_the_rule_says(self) -> None:
        view = self.run(self.store.queue())
        told = {(standing.pool, standing.tenant): standing for standing in view.tenants}
        for pool, queue in self.queues.items():
            assert view.clocks.get(pool, 0.0) == pytest.approx(queue.vtime)
            for name, account in queue.accounts.items():
                mine = [job for job in self.jobs.values() if (job.pool, job.tenant) == (pool, name)]
                states = Counter(job.state for job in mine if job.state not in TERMINAL)
                standing = told.pop((pool, Tenant(name)), None)
                assert (standing is None) == (not states)
                if standing is None:
                    continue
                assert standing.vtime == pytest.approx(account.vtime)
                assert (standing.weight, standing.max_running) == (account.weight, account.max_running)
                assert standing.since == account.since or not account.ready
                assert standing.running == account.running == states["running"] + states["canceling"]
                assert (standing.queued, standing.delayed) == (states["queued"], states["scheduled"])
                cost = sum(job.queued.cost for job in mine if job.state == "queued")
                assert standing.queued_cost == pytest.approx(cost)
        assert not told
        lanes = Counter((job.pool, job.tenant, job.model) for job in self.jobs.values() if job.state == "queued")
        assert {(lane.pool, lane.tenant, lane.model): lane.queued for lane in view.lanes} == lanes

    @invariant()
    def every_ended_job_is_in_the_ledger_once(self) -> None:
        for tenant in TENANTS:
            costs = [job.charged for job in self.jobs.values() if job.tenant == tenant and job.charged is not None]
            usage = self.run(self.store.usage(tenant))
            assert usage.jobs == len(costs)
            assert usage.cost == pytest.approx(sum(costs))

    @invariant()
    def estimates_learn(self) -> None:
        assert self.run(self.store.calibrations()) == pytest.approx(self.kappas)

    async def look(self) -> list[tuple[Model, Job, Sequence[Attempt], Sequence[JobEvent]]]:
        """All that the store says of each job, asked at once."""

        async def ask(model: Model) -> tuple[Model, Job, Sequence[Attempt], Sequence[JobEvent]]:
            calls = (
                self.store.get(model.tenant, model.id),
                self.store.attempts(model.id),
                self.store.events(model.id, 0),
            )
            return (model, *await asyncio.gather(*calls))

        return await asyncio.gather(*map(ask, self.jobs.values()))

    @invariant()
    def counts_are_the_truth(self) -> None:
        live = Counter((job.pool, job.model, job.state) for job in self.jobs.values() if job.state not in TERMINAL)
        told = self.run(self.store.counts())
        totals: Counter[tuple[str, str, str]] = Counter()
        for row in told:
            totals[row.pool, row.model, row.state] += row.jobs
        assert totals == live
        assert list(told) == sorted(told, key=lambda row: (row.pool, row.tier, row.model, row.state))


def check_attempts(model: Model, attempts: Sequence[Attempt]) -> None:
    """Every attempt has its record; at most one succeeded, and one is open exactly while a worker holds the job."""
    assert [attempt.outcome for attempt in attempts] == model.outcomes
    assert model.outcomes.count("succeeded") == (model.state == "succeeded")
    assert [attempt.ended_at is None for attempt in attempts] == [outcome is None for outcome in model.outcomes]
    assert model.outcomes.count(None) == (model.state in HELD)


def check_events(model: Model, events: Sequence[JobEvent]) -> None:
    """Every change has its event, numbered without a gap; a terminal one comes once, at the end."""
    assert [event.seq for event in events] == list(range(1, len(model.states) + 1))
    assert [event.kind in TERMINAL_EVENTS for event in events] == [state in TERMINAL for state in model.states]
    assert [event.data["status"] for event in events] == [
        "queued" if state == "scheduled" else state for state in model.states
    ]


EXAMPLES = settings().max_examples
"""100; with ``--hypothesis-profile=long`` 2000."""


def check_histories(make_store: Callable[[ManualClock, Policy], Store], examples: int) -> None:
    """Run so many random histories against stores of one engine."""
    machine: Any = partial(JobStoreMachine, make_store)
    histories = settings(
        max_examples=examples,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    run_state_machine_as_test(machine, settings=histories)


def test_every_history_of_the_sqlite_store_is_that_of_the_model(tmp_path: Path) -> None:
    numbers = count()

    def make_store(clock: ManualClock, policy: Policy) -> Store:
        return SqliteStore(tmp_path / f"{next(numbers)}.db", clock, policy=policy)

    check_histories(make_store, EXAMPLES)


def test_every_history_of_the_postgres_store_is_that_of_the_model(
    postgres: PostgresServer, postgres_database: str
) -> None:
    def make_store(clock: ManualClock, policy: Policy) -> Store:
        postgres.empty(postgres_database)
        return PostgresStore(postgres.url(postgres_database), clock=clock, policy=policy)

    check_histories(make_store, EXAMPLES if EXAMPLES > 100 else EXAMPLES // 4)
