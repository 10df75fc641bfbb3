"""The caretaker: after an outage leases are prolonged before any is taken back; long batch work is told to give way."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from sluicegate.domain.clock import SystemClock
from sluicegate.domain.fairness import Tier
from sluicegate.domain.ids import Tenant, WorkerId, new_job_id
from sluicegate.domain.job import Claim, Lease, NewJob
from sluicegate.errors import StoreUnavailable
from sluicegate.results.sweep import Sweep
from sluicegate.scheduling.caretaker import Caretaker
from sluicegate.storage.contracts import WorkerInfo
from sluicegate.storage.files import FileBlobStore
from sluicegate.storage.sqlite.signals import SocketSignals
from sluicegate.storage.sqlite.store import SqliteStore
from sluicegate.testing import ManualClock

WHALE, PRO = Tenant("a-whale"), Tenant("pro")
FREE = Tier(preemptible=True)
WORKERS = (WorkerId("worker_1"), WorkerId("worker_2"))
LEASE_SECONDS = 15.0


class Ward:
    """A store under a clock that the test owns, and its caretaker."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "store.db"
        self.clock = ManualClock()
        self.store = SqliteStore(self.path, self.clock, busy_timeout=0.02)
        blobs = FileBlobStore(folder / "assets", SystemClock())
        signals = SocketSignals(self.path)
        self.caretaker = Caretaker(self.store, signals, Sweep(self.store, blobs), self.clock, lease_seconds=15.0)

    async def submit(self, tenant: Tenant, model: str, cost: float, tier: Tier) -> None:
        """A job without pictures."""
        new = NewJob(id=new_job_id(), tenant=tenant, tier=tier, cost=cost, model=model, task="upscale", input={})
        await self.store.submit(new)

    async def claim(self, worker: WorkerId, *, loaded: str = "big") -> Claim | None:
        """What the worker, which serves both models, gets next."""
        await self.enlist(worker, loaded)
        return await self.store.claim(worker, ["big", "small"], LEASE_SECONDS, loaded=[loaded])

    async def enlist(self, worker: WorkerId, loaded: str = "big") -> None:
        """The worker reports itself."""
        info = WorkerInfo(
            id=worker, host="h", pid=1, started_at=0.0, seen_at=0.0, models=("big", "small"), loaded=(loaded,)
        )
        await self.store.enlist(info)

    async def pass_time(self, seconds: float, *leases: Lease) -> None:
        """Time passes while the workers keep their leases."""
        for _ in range(round(seconds)):
            self.clock.advance(1.0)
            for worker in WORKERS:
                await self.enlist(worker)
                await self.store.heartbeat(worker, leases, LEASE_SECONDS)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Another program holds the database's write lock."""
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")


@pytest.fixture
def in_ward(tmp_path: Path) -> Callable[[Callable[[Ward], Awaitable[None]]], None]:
    """Runs a scenario."""

    def play(scenario: Callable[[Ward], Awaitable[None]]) -> None:
        async def whole() -> None:
            ward = Ward(tmp_path)
            await ward.store.open()
            try:
                await scenario(ward)
            finally:
                await ward.store.close()

        asyncio.run(whole())

    return play


Play = Callable[[Callable[[Ward], Awaitable[None]]], None]


def test_workers_keep_their_leases_over_an_outage_that_outlasts_them(in_ward: Play) -> None:
    async def scenario(ward: Ward) -> None:
        await ward.submit(WHALE, "big", 300.0, FREE)
        claim = await ward.claim(WORKERS[0])
        assert claim is not None
        assert await ward.caretaker.recover() == 0
        with ward.locked():
            ward.clock.advance(100.0)
            with pytest.raises(StoreUnavailable):
                await ward.caretaker.recover()
        assert await ward.caretaker.recover() == 0
        (verdict,) = await ward.store.heartbeat(WORKERS[0], [claim.lease], LEASE_SECONDS)
        assert verdict.word == "keep"

    in_ward(scenario)


def test_a_worker_that_fell_silent_before_the_outage_loses_its_job_after_it(in_ward: Play) -> None:
    async def scenario(ward: Ward) -> None:
        await ward.submit(WHALE, "big", 300.0, FREE)
        assert await ward.claim(WORKERS[0]) is not None
        with ward.locked():
            ward.clock.advance(100.0)
            with pytest.raises(StoreUnavailable):
                await ward.caretaker.recover()
        assert await ward.caretaker.recover() == 0
        ward.clock.advance(LEASE_SECONDS + 0.1)
        assert await ward.caretaker.recover() == 1

    in_ward(scenario)


def test_a_slot_that_a_whale_gives_way_goes_to_the_tenant_that_waited_and_back_only_after_it(in_ward: Play) -> None:
    async def scenario(ward: Ward) -> None:
        for _ in range(6):
            await ward.submit(WHALE, "big", 300.0, FREE)
        held = [await ward.claim(worker) for worker in WORKERS]
        assert all(held)
        leases = [claim.lease for claim in held if claim is not None]
        await ward.pass_time(5)
        await ward.submit(PRO, "small", 3.0, Tier(name="pro", weight=16.0))
        assert await ward.caretaker.preempt() == 0
        await ward.pass_time(25, *leases)
        assert await ward.caretaker.preempt() == 1
        assert await ward.caretaker.preempt() == 0
        words = {verdict.lease: verdict.word for verdict in await ward.store.look(leases)}
        (told,) = [lease for lease, word in words.items() if word == "preempt"]
        worker = WORKERS[leases.index(told)]
        assert await ward.store.hand_back(told, preempted=True)
        claim = await ward.claim(worker)
        assert claim is not None
        assert claim.job.tenant == PRO
        assert (await ward.store.get(WHALE, told.job)).preemptions == 1
        again = await ward.claim(worker, loaded="small")
        assert again is not None
        assert again.job.id == told.job

    in_ward(scenario)
