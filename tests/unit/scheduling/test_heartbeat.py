"""The heartbeat's thread: it renews, obeys, notices withdrawal without a hint, and lets go of what hangs."""

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Awaitable, Callable

from tests.unit.scheduling.conftest import TENANT, Floor

from sluicegate.domain.clock import SystemClock
from sluicegate.domain.ids import new_job_id, new_worker_id
from sluicegate.domain.job import NewJob
from sluicegate.scheduling.heartbeat import Heartbeat
from sluicegate.scheduling.reins import Reins
from sluicegate.settings import WorkerSettings
from sluicegate.storage.contracts import WorkerInfo
from sluicegate.storage.sqlite.store import SqliteStore

Play = Callable[[Callable[[Floor], Awaitable[None]]], None]
SETTINGS = WorkerSettings(lease_seconds=1, heartbeat_seconds=0.05)
LONG = 3_600.0


class Patient:
    """A claimed job and the thread that keeps its lease."""

    def __init__(self, floor: Floor, settings: WorkerSettings = SETTINGS) -> None:
        self.floor = floor
        self.clock = SystemClock()
        self.worker = new_worker_id()
        self.hung = threading.Event()
        self.opened = threading.Semaphore(0)
        self.heartbeat = Heartbeat(
            worker=self.worker,
            open_store=self.open_store,
            describe=self.describe,
            settings=settings,
            clock=self.clock,
            on_hang=self.hung.set,
        )

    def open_store(self) -> SqliteStore:
        """One more store on the floor's file."""
        self.opened.release()
        return SqliteStore(self.floor.folder / "store.db", self.clock, busy_timeout=0.02)

    def describe(self) -> WorkerInfo:
        """The worker."""
        return WorkerInfo(
            id=self.worker, host="h", pid=1, started_at=0.0, seen_at=0.0, models=("x2",), loaded=(), pools=("default",)
        )

    async def claim(self) -> Reins:
        """A job of its own."""
        new = NewJob(id=new_job_id(), tenant=TENANT, model="x2", task="upscale", input={})
        await self.floor.store.submit(new)
        claim = await self.floor.store.claim(self.worker, ["x2"], SETTINGS.lease_seconds)
        assert claim is not None
        return Reins(claim)

    async def seen_at(self) -> float:
        """When the store last heard of the worker; 0 for never."""
        found = await self.floor.store.workers(seen_within=60)
        return max((info.seen_at for info in found if info.id == self.worker), default=0.0)

    async def beaten(self) -> None:
        """Return after one more beat."""
        before = await self.seen_at()
        while True:
            if await self.seen_at() != before:
                return
            await asyncio.sleep(0.005)


async def word_of(reins: Reins) -> str:
    """The word that the work is told, as soon as there is one."""
    while True:
        if reins.word is not None:
            return reins.word
        await asyncio.sleep(0.005)


def test_a_withdrawal_is_noticed_without_any_hint(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        rare_beats = WorkerSettings(lease_seconds=7_200, heartbeat_seconds=3_600)
        patient = Patient(floor, rare_beats)
        reins = await patient.claim()
        now = patient.clock.monotonic()
        patient.heartbeat.hold(reins, since=now, until=now + LONG)
        patient.heartbeat.start()
        await patient.beaten()
        await floor.store.cancel(TENANT, reins.lease.job)
        assert await word_of(reins) == "cancel"
        await patient.heartbeat.stop()

    on_floor(scenario)


def test_a_job_that_neither_ends_nor_stops_loses_its_lease_although_the_thread_beats_on(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        patient = Patient(floor)
        reins = await patient.claim()
        now = patient.clock.monotonic()
        patient.heartbeat.hold(reins, since=now, until=now)
        patient.heartbeat.start()
        await asyncio.to_thread(patient.hung.wait)
        while (await floor.store.recover()).requeued == 0:
            await patient.beaten()
        assert (await floor.store.get(TENANT, reins.lease.job)).state == "queued"
        await patient.heartbeat.stop()

    on_floor(scenario)


def test_a_result_that_waits_to_be_recorded_keeps_its_lease_beyond_the_jobs_time(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        patient = Patient(floor)
        reins = await patient.claim()
        reins.end()
        now = patient.clock.monotonic()
        patient.heartbeat.hold(reins, since=now, until=now - 1)
        patient.heartbeat.start()
        while patient.clock.monotonic() < now + 2 * SETTINGS.lease_seconds:
            await patient.beaten()
            assert (await floor.store.recover()).total == 0
        assert not patient.hung.is_set()
        await patient.heartbeat.stop()

    on_floor(scenario)


def test_a_job_of_somebody_else_is_given_up(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        patient = Patient(floor)
        reins = await patient.claim()
        await floor.store.release(patient.worker)
        now = patient.clock.monotonic()
        patient.heartbeat.hold(reins, since=now, until=now + LONG)
        patient.heartbeat.start()
        assert await word_of(reins) == "lost"
        await patient.heartbeat.stop()

    on_floor(scenario)


def test_beats_begin_as_soon_as_the_store_can_be_opened_and_end_with_stop(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        patient = Patient(floor)
        with contextlib.closing(sqlite3.connect(floor.folder / "store.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            patient.heartbeat.start()
            for _ in range(3):
                await asyncio.to_thread(patient.opened.acquire)
            assert await patient.seen_at() == 0.0
            other.execute("ROLLBACK")
        await patient.beaten()
        await patient.heartbeat.stop()
        await floor.store.dismiss(patient.worker)
        assert await patient.seen_at() == 0.0
        assert "sluicegate-heartbeat" not in {thread.name for thread in threading.enumerate()}

    on_floor(scenario)
