"""The heartbeat's thread: it renews, obeys, notices withdrawal without a hint, and lets go of what hangs."""

import asyncio
import contextlib
import math
import selectors
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from tests.unit.scheduling.conftest import TENANT, Floor

from sluicegate.domain.clock import Clock, SystemClock
from sluicegate.domain.ids import WorkerId, new_job_id, new_worker_id
from sluicegate.domain.job import Lease, NewJob, Verdict
from sluicegate.errors import StoreUnavailable
from sluicegate.scheduling.heartbeat import Heartbeat
from sluicegate.scheduling.reins import Reins, Word
from sluicegate.settings import WorkerSettings
from sluicegate.storage.contracts import WorkerInfo
from sluicegate.storage.sqlite.store import SqliteStore
from sluicegate.testing import ManualClock

Play = Callable[[Callable[[Floor], Awaitable[None]]], None]
SETTINGS = WorkerSettings(lease_seconds=1, heartbeat_seconds=0.05)
LONG = 3_600.0


class Patient:
    """A claimed job and the thread that keeps its lease."""

    def __init__(self, floor: Floor, settings: WorkerSettings = SETTINGS, clock: Clock | None = None) -> None:
        self.floor = floor
        self.clock: Clock = clock or SystemClock()
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
        return SqliteStore(self.floor.folder / "store.db", SystemClock(), busy_timeout=0.02)

    def describe(self) -> WorkerInfo:
        """The worker."""
        return WorkerInfo(
            id=self.worker, host="h", pid=1, started_at=0.0, seen_at=0.0, models=("x2",), loaded=(), pools=("default",)
        )

    async def claim(self, deadline: float | None = None) -> Reins:
        """A job of its own."""
        new = NewJob(id=new_job_id(), tenant=TENANT, model="x2", task="upscale", input={}, deadline_seconds=deadline)
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


def test_work_past_its_deadline_has_not_much_time_to_stop_in(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        clock = ManualClock()
        patient = Patient(floor, clock=clock)
        reins = await patient.claim(deadline=0.5)
        patient.heartbeat.hold(reins, since=0.0, until=LONG, grace=15.0)
        patient.heartbeat.start()
        assert await word_of(reins) == "expire"
        await patient.beaten()
        assert not patient.hung.is_set()
        clock.advance(15.1)
        await asyncio.to_thread(patient.hung.wait)
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


class Leaping(selectors.DefaultSelector):
    """The time of an event loop that waits for nothing but its timers: it leaps to the next one."""

    at = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready now; when nothing is, the time to wait has passed."""
        ready = super().select(0)
        if not ready and timeout is not None:
            self.at += max(0.0, timeout)
        return ready


class LeapingLoop(asyncio.SelectorEventLoop):
    """An event loop in leaping time."""

    def __init__(self) -> None:
        self.leaping = Leaping()
        super().__init__(self.leaping)

    def time(self) -> float:
        """Seconds since its start."""
        return self.leaping.at


class LoopClock(SystemClock):
    """The running loop's time."""

    def monotonic(self) -> float:
        """Seconds since the loop's start."""
        return asyncio.get_running_loop().time()


class Flaky(SqliteStore):
    """In the time of the event loop it is away from one moment to another; no real store can be, in leaping time."""

    def __init__(self, folder: Path, away_from: float, away_until: float) -> None:
        super().__init__(folder / "flaky.db", SystemClock())
        self._away = (away_from, away_until)

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def enlist(self, worker: WorkerInfo) -> None:
        """Whoever calls is known."""
        self._check()

    async def heartbeat(self, worker: WorkerId, leases: Sequence[Lease], lease_seconds: float) -> Sequence[Verdict]:
        """Every lease is prolonged."""
        return await self.look(leases)

    async def look(self, leases: Sequence[Lease]) -> Sequence[Verdict]:
        """Every lease is current."""
        self._check()
        return [Verdict(lease, "keep") for lease in leases]

    def _check(self) -> None:
        if self._away[0] <= asyncio.get_running_loop().time() < self._away[1]:
            raise StoreUnavailable("away, as the test wishes")


def after_an_outage(folder: Path, reins: Reins, *, begins: float, seconds: float) -> Word | None:
    """What work is told that is held from 0 on, with the shipped settings, up to 20 s after an outage."""
    info = WorkerInfo(
        id=new_worker_id(), host="h", pid=1, started_at=0.0, seen_at=0.0, models=(), loaded=(), pools=("default",)
    )
    heartbeat = Heartbeat(
        worker=info.id,
        open_store=lambda: Flaky(folder, begins, begins + seconds),
        describe=lambda: info,
        settings=WorkerSettings(),
        clock=LoopClock(),
    )
    heartbeat.hold(reins, since=0.0, until=math.inf)

    async def served() -> None:
        serving = asyncio.create_task(heartbeat._serve())
        await asyncio.sleep(begins + seconds + 20.0)
        serving.cancel()

    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        runner.run(served())
    return reins.word


def claimed(folder: Path) -> Reins:
    """A job of a real store."""

    async def claim() -> Reins:
        store = SqliteStore(folder / "store.db", SystemClock())
        await store.open()
        try:
            await store.submit(NewJob(id=new_job_id(), tenant=TENANT, model="x2", task="upscale", input={}))
            found = await store.claim(new_worker_id(), ["x2"], 15.0)
        finally:
            await store.close()
        assert found is not None
        return Reins(found)

    return asyncio.run(claim())


def test_an_outage_of_five_seconds_throws_no_work_away_whenever_it_begins(tmp_path: Path) -> None:
    reins = claimed(tmp_path)
    for tenth in range(60):
        begins = 10.0 + tenth / 10
        assert after_an_outage(tmp_path, reins, begins=begins, seconds=5.0) is None, begins


@pytest.mark.parametrize("first_word", ["cancel", None])
def test_work_is_given_up_once_whatever_it_was_told_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, first_word: Word | None
) -> None:
    reins = claimed(tmp_path)
    if first_word is not None:
        reins.pull(first_word)
    assert after_an_outage(tmp_path, reins, begins=0.0, seconds=14.9) == (first_word or "silence")
    assert sum("giving the job up" in record.message for record in caplog.records) == 1
