"""The worker: claims, withdrawal, leases, giving way, drain, a store that is away."""

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

from tests.gateway import picture
from tests.unit.scheduling.conftest import TENANT, Floor

from sluicegate.backends.backend import PictureRequest, PictureResult, Report
from sluicegate.domain.asset import Picture
from sluicegate.domain.clock import Clock, SystemClock
from sluicegate.domain.fairness import Tier
from sluicegate.domain.ids import new_job_id, new_worker_id
from sluicegate.domain.job import Job, JobState, Lease, NewJob, Progress
from sluicegate.errors import LeaseLost
from sluicegate.results.assets import Assets
from sluicegate.results.sweep import Sweep
from sluicegate.scheduling.caretaker import Caretaker
from sluicegate.scheduling.executor import Executor
from sluicegate.scheduling.worker import HANG_SECONDS, Worker
from sluicegate.settings import WorkerSettings
from sluicegate.storage.sqlite.store import SqliteStore
from sluicegate.testing import Script, ScriptedPictures

Play = Callable[[Callable[[Floor], Awaitable[None]]], None]
SETTINGS = WorkerSettings(lease_seconds=1, heartbeat_seconds=0.1)


def another(floor: Floor) -> SqliteStore:
    """One more store on the same file, not open; it soon tells that another program holds the lock."""
    return SqliteStore(floor.folder / "store.db", SystemClock(), busy_timeout=0.02)


class Erring(SystemClock):
    """A worker's clock that is an hour fast, and whose machine may have slept."""

    def __init__(self) -> None:
        self.slept = 0.0

    def now(self) -> float:
        """An hour later than the store has it."""
        return super().now() + 3600

    def monotonic(self) -> float:
        """Sleep included."""
        return super().monotonic() + self.slept


def build(
    floor: Floor,
    script: Script,
    *,
    timeout: float = 60,
    store: SqliteStore | None = None,
    clock: Clock | None = None,
    settings: WorkerSettings = SETTINGS,
    on_hang: Callable[[], None] | None = None,
) -> Worker:
    backend = ScriptedPictures(script)
    clock = clock or SystemClock()
    models = {"scripted": backend}
    store = store or floor.store
    assets = Assets(store, floor.blobs, clock, max_pixels=1_000_000)
    executor = Executor(store, assets, floor.signals, models, clock, timeout_seconds=timeout)
    return Worker(
        worker_id=new_worker_id(),
        store=store,
        open_store=lambda: another(floor),
        signals=floor.signals,
        executor=executor,
        backends=[backend],
        settings=settings,
        clock=clock,
        on_hang=on_hang,
    )


async def submit(
    floor: Floor, *, pool: str = "default", preemptible: bool = False, deadline: float | None = None
) -> Job:
    new = NewJob(
        id=new_job_id(),
        tenant=TENANT,
        tier=Tier(preemptible=preemptible),
        pool=pool,
        model="scripted",
        task="stylize",
        input={"image": await floor.upload()},
        deadline_seconds=deadline,
    )
    submission = await floor.store.submit(new)
    floor.signals.notify("jobs")
    return submission.job


async def reached(floor: Floor, job: Job, *states: JobState) -> Job:
    """The job, as soon as it is in one of the states."""
    while True:
        seen = floor.signals.version("events")
        found = await floor.store.get(TENANT, job.id)
        if found.state in states:
            return found
        await floor.signals.wait("events", seen, 0.05)


async def quick(_: PictureRequest, __: Report) -> PictureResult:
    return PictureResult(pictures=(Picture(picture(8, 8), "image/png", 8, 8),))


async def until_told(_: PictureRequest, report: Report) -> PictureResult:
    while True:
        report(Progress(value=0.1))
        await asyncio.sleep(0)


def test_jobs_are_done_one_after_the_other_and_the_worker_signs_on_and_off(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        worker = build(floor, quick)
        running = asyncio.create_task(worker.run())
        jobs = [await submit(floor) for _ in range(3)]
        for job in jobs:
            assert (await reached(floor, job, "succeeded")).attempt == 1
        assert [info.id for info in await floor.store.workers(seen_within=10)] == [worker.id]
        draining = asyncio.create_task(worker.drain(10))
        await running
        draining.cancel()
        assert await floor.store.workers(seen_within=10) == []

    on_floor(scenario)


def test_a_running_job_that_is_withdrawn_stops(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        worker = build(floor, until_told)
        running = asyncio.create_task(worker.run())
        job = await submit(floor)
        await reached(floor, job, "running")
        await floor.store.cancel(TENANT, job.id)
        floor.signals.notify("jobs")
        await reached(floor, job, "canceled")
        draining = asyncio.create_task(worker.drain(0))
        await running
        draining.cancel()

    on_floor(scenario)


def test_a_worker_whose_clock_is_fast_lets_a_job_that_is_in_time_end(on_floor: Play) -> None:
    may_end, hung = asyncio.Event(), threading.Event()

    async def on_cue(request: PictureRequest, report: Report) -> PictureResult:
        while not may_end.is_set():
            report(Progress(value=0.1))
            await asyncio.sleep(0)
        return await quick(request, report)

    async def beaten(floor: Floor, times: int) -> None:
        seen: set[float] = set()
        while len(seen) <= times:
            seen.update(info.seen_at for info in await floor.store.workers(seen_within=60))
            await asyncio.sleep(0.01)

    async def scenario(floor: Floor) -> None:
        clock, patient = Erring(), WorkerSettings(lease_seconds=600, heartbeat_seconds=0.05)
        worker = build(floor, on_cue, clock=clock, settings=patient, on_hang=hung.set)
        running = asyncio.create_task(worker.run())
        job = await submit(floor, deadline=1800.0)
        await reached(floor, job, "running")
        clock.slept = HANG_SECONDS + 1
        await beaten(floor, 2)
        assert not hung.is_set()
        may_end.set()
        assert (await reached(floor, job, "succeeded", "expired", "queued")).state == "succeeded"
        await ended(worker, running)

    on_floor(scenario)


def test_a_running_job_past_its_deadline_expires(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        worker = build(floor, until_told)
        running = asyncio.create_task(worker.run())
        job = await submit(floor, deadline=1.0)
        found = await reached(floor, job, "expired")
        assert found.error is not None
        assert found.error.code == "deadline_exceeded"
        await ended(worker, running)

    on_floor(scenario)


def test_a_long_job_keeps_its_lease(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        worker = build(floor, until_told)
        running = asyncio.create_task(worker.run())
        job = await submit(floor)
        await reached(floor, job, "running")
        caretaker = Caretaker(
            floor.store, floor.signals, Sweep(floor.store, floor.blobs), SystemClock(), lease_seconds=15.0
        )
        clock = SystemClock()
        until = clock.monotonic() + 2 * SETTINGS.lease_seconds
        while clock.monotonic() < until:
            assert await caretaker.recover() == 0
            await asyncio.sleep(0)
        draining = asyncio.create_task(worker.drain(0))
        await running
        draining.cancel()
        assert (await reached(floor, job, "queued")).attempt == 0

    on_floor(scenario)


def test_a_worker_whose_model_hangs_ends_so_that_another_takes_its_place(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        worker = build(floor, until_told, timeout=0.05)
        first, second = await submit(floor), await submit(floor)
        await worker.run()
        assert (await floor.store.get(TENANT, first.id)).state == "scheduled"
        assert (await floor.store.get(TENANT, second.id)).state == "queued"
        assert worker.gave_up

    on_floor(scenario)


@contextlib.contextmanager
def locked(floor: Floor) -> Iterator[None]:
    """Another program holds the database's write lock."""
    with contextlib.closing(sqlite3.connect(floor.folder / "store.db", isolation_level=None)) as other:
        other.execute("PRAGMA busy_timeout = 5000")
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextlib.asynccontextmanager
async def impatient(floor: Floor) -> AsyncIterator[SqliteStore]:
    store = another(floor)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def ended(worker: Worker, running: "asyncio.Task[None]") -> None:
    draining = asyncio.create_task(worker.drain(0))
    await running
    draining.cancel()


def test_a_worker_without_contact_gives_its_job_up_and_hands_it_back_when_the_store_is_there_again(
    on_floor: Play,
) -> None:
    told = asyncio.Event()

    async def watched(request: PictureRequest, report: Report) -> PictureResult:
        try:
            return await until_told(request, report)
        except LeaseLost:
            told.set()
            raise

    async def scenario(floor: Floor) -> None:
        async with impatient(floor) as store:
            worker = build(floor, watched, store=store)
            running = asyncio.create_task(worker.run())
            job = await submit(floor)
            await reached(floor, job, "running")
            with locked(floor):
                await told.wait()
            await ended(worker, running)
            assert (await reached(floor, job, "queued")).attempt == 0

    on_floor(scenario)


def test_a_result_waits_for_a_locked_store_even_while_the_worker_drains(on_floor: Play) -> None:
    worked = asyncio.Event()
    may_end = asyncio.Event()

    async def on_cue(request: PictureRequest, report: Report) -> PictureResult:
        await may_end.wait()
        worked.set()
        return await quick(request, report)

    async def scenario(floor: Floor) -> None:
        async with impatient(floor) as store:
            worker = build(floor, on_cue, store=store)
            running = asyncio.create_task(worker.run())
            job = await submit(floor)
            await reached(floor, job, "running")
            with locked(floor):
                may_end.set()
                await worked.wait()
                draining = asyncio.create_task(worker.drain(0))
                await store.look([])  # the reader answers while writers wait
                assert not running.done()
            await running
            draining.cancel()
            done = await reached(floor, job, "succeeded")
            assert (done.attempt, done.fence) == (1, 1)

    on_floor(scenario)


def test_leases_are_renewed_while_the_event_loop_is_blocked(on_floor: Play) -> None:
    beats_wanted = 12  # more than two leases
    enough = threading.Event()

    async def blocking(request: PictureRequest, report: Report) -> PictureResult:
        assert enough.wait(60)  # no await: nothing else runs in this event loop meanwhile
        return await quick(request, report)

    async def count_beats(folder_of: Floor, worker: Worker) -> None:
        """In a thread and event loop of its own, as another process would see it."""
        async with impatient(folder_of) as store:
            seen: set[float] = set()
            while len(seen) < beats_wanted:
                assert (await store.recover()).total == 0
                if (await store.queue()).running:
                    seen.update(info.seen_at for info in await store.workers(seen_within=60) if info.id == worker.id)
                await asyncio.sleep(0.01)

    def observe(floor: Floor, worker: Worker) -> None:
        try:
            asyncio.run(count_beats(floor, worker))
        finally:
            enough.set()

    async def scenario(floor: Floor) -> None:
        worker = build(floor, blocking)
        job = await submit(floor)
        observer = asyncio.create_task(asyncio.to_thread(observe, floor, worker))
        running = asyncio.create_task(worker.run())
        await observer
        assert (await reached(floor, job, "succeeded")).attempt == 1
        await ended(worker, running)

    on_floor(scenario)


def test_work_that_is_told_to_give_way_goes_back_and_is_done_later(on_floor: Play) -> None:
    runs = 0

    async def first_long_then_quick(request: PictureRequest, report: Report) -> PictureResult:
        nonlocal runs
        runs += 1
        return await (until_told if runs == 1 else quick)(request, report)

    async def scenario(floor: Floor) -> None:
        worker = build(floor, first_long_then_quick)
        running = asyncio.create_task(worker.run())
        job = await submit(floor, preemptible=True)
        held = await reached(floor, job, "running")
        assert await floor.store.preempt(Lease(job.id, held.fence))
        done = await reached(floor, job, "succeeded")
        assert (done.attempt, done.preemptions) == (1, 1)
        outcomes = [attempt.outcome for attempt in await floor.store.attempts(job.id)]
        assert outcomes == ["preempted", "succeeded"]
        await ended(worker, running)

    on_floor(scenario)


def test_a_worker_tells_its_pools_and_claims_from_them_alone(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        worker = build(floor, quick)
        elsewhere = await submit(floor, pool="big")
        running = asyncio.create_task(worker.run())
        here = await submit(floor)
        await reached(floor, here, "succeeded")
        assert (await floor.store.get(TENANT, elsewhere.id)).state == "queued"
        (info,) = await floor.store.workers(seen_within=10)
        assert info.pools == ("default",)
        await ended(worker, running)

    on_floor(scenario)
