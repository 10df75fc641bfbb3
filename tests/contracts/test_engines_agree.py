"""The engines against each other: the same random history gives the same jobs, tags, counts and charges, bit by bit."""

import asyncio
import random
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.postgres import PostgresServer

from sluicegate.domain.fairness import Policy, Tier
from sluicegate.domain.ids import Tenant, WorkerId, new_job_id
from sluicegate.domain.job import Idempotency, JobError, Lease, NewJob, Progress
from sluicegate.errors import SluicegateError
from sluicegate.storage.contracts import Store, Success
from sluicegate.storage.postgres.store import PostgresStore
from sluicegate.storage.sqlite.store import SqliteStore
from sluicegate.testing import ManualClock

POLICY = Policy(swap_penalty=3.0, lane_wait=30.0, guard=60.0, guard_every=3, max_cost=20.0)
TIERS = (
    Tier(),
    Tier(name="basic", weight=4.0, concurrent_jobs=2, queued_jobs=6),
    Tier(name="pro", weight=16.0, queued_cost=40.0),
    Tier(name="batch", weight=0.3, preemptible=True),
)
POOLS = ("default", "large")
MODELS = ("a", "b", "c")
WORKERS = tuple(WorkerId(f"w{at}") for at in range(3))
OOPS = JobError(code="backend_failed", message="it broke")


class History:
    """Random calls, each the same on every engine."""

    def __init__(self, seed: int, clock: ManualClock) -> None:
        self._choose = random.Random(seed)
        self._clock = clock
        self._jobs: list[tuple[Tenant, Any]] = []
        self.leases: list[tuple[WorkerId, Lease]] = []

    def next(self) -> Any:
        """A function that makes the call on a store."""
        kinds = ["submit"] * 6 + ["claim"] * 6 + ["end"] * 4 + ["cancel", "recover", "release", "pass_time", "beat"]
        call: Any = getattr(self, f"_{self._choose.choice(kinds)}")()
        return call

    def _submit(self) -> Any:
        choose = self._choose
        at = choose.randrange(5)
        new = NewJob(
            id=new_job_id(),
            tenant=Tenant(f"Tenant{at}" if at % 2 else f"tenant{at}"),
            tier=TIERS[at % len(TIERS)] if choose.random() < 0.9 else choose.choice(TIERS),
            pool=choose.choice(POOLS),
            cost=choose.choice([0.1, 0.3, 1.0, 7.7, 20.0]),
            base_cost=choose.choice([None, 2.0]),
            model=choose.choice(MODELS),
            task="upscale",
            input={},
            priority=choose.choice([-1, 0, 0, 0, 5]),
            deadline_seconds=choose.choice([None, None, None, 20.0]),
            max_attempts=choose.choice([1, 2, 3]),
        )
        self._jobs.append((new.tenant, new.id))
        key = choose.choice([None, None, Idempotency(choose.choice("xyz"), choose.choice("pq"))])
        return lambda store: store.submit(new, key)

    def _claim(self) -> Any:
        choose = self._choose
        worker = choose.choice(WORKERS)
        models = choose.sample(MODELS, choose.randint(1, 3))
        loaded = choose.sample(MODELS, choose.randint(0, 2))
        pools = choose.choice([POOLS, POOLS[:1], POOLS[::-1]])
        return lambda store: store.claim(worker, models, 40.0, pools=pools, loaded=loaded)

    def _end(self) -> Any:
        if not self.leases:
            return self._claim()
        choose = self._choose
        worker, lease = choose.choice(self.leases)
        cost = choose.choice([0.0, 0.7, 12.5])
        seconds = choose.choice([None, 0.0, 5.0])
        preempted = choose.random() < 0.5
        ways: list[Any] = [
            lambda store: store.succeed(lease, Success(outputs=(), backend="b", execution_seconds=3.3)),
            lambda store: store.succeed(lease, Success(outputs=(), backend="b", execution_seconds=3.3, cost=cost)),
            lambda store: store.fail(lease, OOPS, retry_in=seconds, cost=cost),
            lambda store: store.hand_back(lease, preempted=preempted),
            lambda store: store.preempt(lease),
            lambda store: store.stop(lease, choose.choice(["expire"]), cost=cost),
            lambda store: store.report(lease, Progress(value=0.25)),
            lambda store: store.heartbeat(worker, [lease], 40.0),
        ]
        return choose.choice(ways)

    def _cancel(self) -> Any:
        if not self._jobs:
            return self._submit()
        tenant, job = self._choose.choice(self._jobs)
        return lambda store: store.cancel(tenant, job)

    def _beat(self) -> Any:
        worker, leases = self._choose.choice(WORKERS), [lease for _, lease in self.leases[-4:]]
        return lambda store: store.heartbeat(worker, leases, 40.0)

    def _recover(self) -> Any:
        return lambda store: store.recover()

    def _release(self) -> Any:
        worker = self._choose.choice(WORKERS)
        return lambda store: store.release(worker)

    def _pass_time(self) -> Any:
        self._clock.advance(self._choose.choice([0.5, 5.0, 33.0, 70.0]))
        seconds = self._choose.choice([0.0, 4.0])
        return lambda store: store.prolong(seconds)


async def told(call: Awaitable[Any]) -> Any:
    """What a call answers or raises, as plain values."""
    try:
        return msgspec.to_builtins(await call)
    except SluicegateError as error:
        return type(error)


async def compare(stores: list[Store], clock: ManualClock, seed: int, steps: int) -> None:
    history = History(seed, clock)
    for step in range(steps):
        call = history.next()
        answers = [await told(call(store)) for store in stores]
        assert answers[0] == answers[1], f"seed {seed}, step {step}"
        if isinstance(answers[0], dict) and "lease" in answers[0]:
            lease = answers[0]["lease"]
            history.leases.append((answers[0]["job"]["worker"], Lease(lease["job"], lease["fence"])))
        views = [await told(store.queue()) for store in stores]
        assert views[0] == views[1], f"seed {seed}, step {step}"
    tenants = [Tenant(f"{name}{at}") for at in range(5) for name in ("tenant", "Tenant")]
    for tenant in tenants:
        usages = [await told(store.usage(tenant)) for store in stores]
        assert usages[0]["jobs"] == usages[1]["jobs"]
        assert usages[0]["cost"] == pytest.approx(usages[1]["cost"])
    assert await told(stores[0].counts()) == await told(stores[1].counts())
    assert await stores[0].calibrations() == await stores[1].calibrations()
    for _, lease in history.leases:
        assert await told(stores[0].events(lease.job, 0)) == await told(stores[1].events(lease.job, 0))
        assert await told(stores[0].attempts(lease.job)) == await told(stores[1].attempts(lease.job))


@pytest.mark.parametrize("seed", range(6))
def test_the_same_history_gives_the_same_queue(
    seed: int, tmp_path: Path, postgres: PostgresServer, postgres_database: str
) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        stores: list[Store] = [
            SqliteStore(tmp_path / "store.db", clock, policy=POLICY),
            PostgresStore(postgres.url(postgres_database), clock=clock, policy=POLICY),
        ]
        for store in stores:
            await store.open()
        try:
            await compare(stores, clock, seed, 250)
        finally:
            for store in stores:
                await store.close()

    asyncio.run(scenario())
