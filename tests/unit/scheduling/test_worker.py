"""The worker's loops: claim, heartbeat, watch, drain."""

import asyncio
from collections.abc import Awaitable, Callable

from tests.gateway import picture
from tests.unit.scheduling.conftest import TENANT, Floor

from sluicegate.backends.backend import PictureRequest, PictureResult, Report
from sluicegate.domain.asset import Picture
from sluicegate.domain.clock import SystemClock
from sluicegate.domain.ids import new_job_id, new_worker_id
from sluicegate.domain.job import Job, JobState, NewJob, Progress
from sluicegate.errors import LeaseLost
from sluicegate.results.sweep import Sweep
from sluicegate.scheduling.caretaker import Caretaker
from sluicegate.scheduling.executor import Executor
from sluicegate.scheduling.worker import Worker
from sluicegate.settings import WorkerSettings
from sluicegate.testing import Script, ScriptedPictures

Play = Callable[[Callable[[Floor], Awaitable[None]]], None]
SETTINGS = WorkerSettings(lease_seconds=1, heartbeat_seconds=0.1)


def build(floor: Floor, script: Script, *, timeout: float = 60) -> Worker:
    backend = ScriptedPictures(script)
    clock = SystemClock()
    models = {"scripted": backend}
    executor = Executor(floor.store, floor.assets, floor.signals, models, clock, timeout_seconds=timeout)
    return Worker(
        worker_id=new_worker_id(),
        store=floor.store,
        signals=floor.signals,
        executor=executor,
        backends=[backend],
        settings=SETTINGS,
        clock=clock,
    )


async def submit(floor: Floor) -> Job:
    image = await floor.upload()
    new = NewJob(id=new_job_id(), tenant=TENANT, model="scripted", task="stylize", input={"image": image})
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


def test_a_long_job_keeps_its_lease(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        worker = build(floor, until_told)
        running = asyncio.create_task(worker.run())
        job = await submit(floor)
        await reached(floor, job, "running")
        caretaker = Caretaker(floor.store, floor.signals, Sweep(floor.store, floor.blobs), SystemClock())
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


def test_a_worker_without_contact_gives_its_job_up_before_the_lease_ends(on_floor: Play) -> None:
    told = asyncio.Event()

    async def watched(request: PictureRequest, report: Report) -> PictureResult:
        try:
            return await until_told(request, report)
        except LeaseLost:
            told.set()
            raise

    async def scenario(floor: Floor) -> None:
        worker = build(floor, watched)
        running = asyncio.create_task(worker.run())
        job = await submit(floor)
        await reached(floor, job, "running")
        await floor.store.close()
        await told.wait()
        draining = asyncio.create_task(worker.drain(0))
        await running
        draining.cancel()

    on_floor(scenario)
