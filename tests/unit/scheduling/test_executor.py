"""The executor: one claim from start to record, whatever the work does."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.gateway import picture
from tests.unit.scheduling.conftest import TENANT, Floor

from sluicegate.backends.backend import PictureRequest, PictureResult, Report
from sluicegate.domain.asset import Picture
from sluicegate.domain.clock import SystemClock
from sluicegate.domain.ids import JobId, WorkerId, new_job_id
from sluicegate.domain.job import NewJob, Progress
from sluicegate.errors import BackendFailed, BackendRefused, JobCanceled, LeaseLost
from sluicegate.scheduling.executor import Executor, Reins, Word
from sluicegate.testing import Script, ScriptedPictures

Play = Callable[[Callable[[Floor], Awaitable[None]]], None]
WORKER = WorkerId("worker_1")


async def make_one(_: PictureRequest, report: Report) -> PictureResult:
    report(Progress(value=0.5))
    return PictureResult(pictures=(Picture(picture(8, 8), "image/png", 8, 8),), degraded=("told",))


def failing(error: Exception) -> Script:
    async def script(_: PictureRequest, __: Report) -> PictureResult:
        raise error

    return script


async def until_told(_: PictureRequest, report: Report) -> PictureResult:
    """Works for ever, reporting."""
    while True:
        report(Progress(value=0.1))
        await asyncio.sleep(0)


async def start(floor: Floor, script: Script, *, timeout: float = 0.2, **more: Any) -> tuple[Executor, Reins]:
    """A submitted and claimed job, and the executor for it."""
    backend = ScriptedPictures(script)
    image = await floor.upload()
    new = NewJob(
        id=new_job_id(), tenant=TENANT, model="scripted", task="stylize", input={"image": image, "style": 3}, **more
    )
    await floor.store.submit(new)
    claim = await floor.store.claim(WORKER, ["scripted"], 15)
    assert claim is not None
    executor = Executor(
        floor.store, floor.assets, floor.signals, {"scripted": backend}, SystemClock(), timeout_seconds=timeout
    )
    return executor, Reins(claim)


async def state(floor: Floor, job: JobId) -> tuple[str, str | None]:
    found = await floor.store.get(TENANT, job)
    return found.state, found.error.code if found.error else None


def test_a_success_is_recorded_with_its_pictures(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        executor, reins = await start(floor, make_one)
        await executor.execute(reins)
        job = await floor.store.get(TENANT, reins.lease.job)
        assert job.state == "succeeded"
        assert job.backend == "scripted"
        assert job.degraded == ("told",)
        asset = await floor.assets.get(TENANT, job.outputs[0].id)
        assert await floor.assets.read(asset) == picture(8, 8)

    on_floor(scenario)


@pytest.mark.parametrize(
    ("error", "attempts", "expected"),
    [
        (BackendRefused("too small"), 3, ("failed", "backend_refused")),
        (BackendFailed("broke"), 3, ("scheduled", None)),
        (BackendFailed("broke"), 1, ("failed", "backend_failed")),
        (MemoryError(), 1, ("failed", "out_of_memory")),
        (RuntimeError("a defect"), 1, ("failed", "internal_error")),
    ],
)
def test_a_failure_is_retried_when_that_may_help(
    on_floor: Play, error: Exception, attempts: int, expected: tuple[str, str | None]
) -> None:
    async def scenario(floor: Floor) -> None:
        executor, reins = await start(floor, failing(error), max_attempts=attempts)
        await executor.execute(reins)
        found, code = await state(floor, reins.lease.job)
        assert found == expected[0]
        if expected[1]:
            assert code == expected[1]

    on_floor(scenario)


def test_the_words_of_an_unexpected_exception_stay_in_the_log(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        executor, reins = await start(floor, failing(RuntimeError("/secret/path")), max_attempts=1)
        await executor.execute(reins)
        job = await floor.store.get(TENANT, reins.lease.job)
        assert job.error is not None
        assert "/secret/path" not in job.error.message

    on_floor(scenario)


@pytest.mark.parametrize(
    ("word", "before", "expected"),
    [
        ("cancel", "cancel", "canceled"),
        ("expire", "nothing", "expired"),
        ("drain", "nothing", "queued"),
        ("timeout", "nothing", "scheduled"),
    ],
)
def test_work_that_is_told_to_stop_ends_as_it_was_told(on_floor: Play, word: Word, before: str, expected: str) -> None:
    async def scenario(floor: Floor) -> None:
        executor, reins = await start(floor, until_told)
        if before == "cancel":
            await floor.store.cancel(TENANT, reins.lease.job)
        reins.pull(word)
        await executor.execute(reins)
        assert (await state(floor, reins.lease.job))[0] == expected

    on_floor(scenario)


def test_work_past_its_time_is_a_timeout_and_past_its_deadline_expires(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        executor, reins = await start(floor, until_told, max_attempts=1)
        await executor.execute(reins)
        assert await state(floor, reins.lease.job) == ("failed", "backend_timeout")
        executor, reins = await start(floor, until_told, deadline_seconds=0.1)
        await executor.execute(reins)
        assert (await state(floor, reins.lease.job))[0] == "expired"

    on_floor(scenario)


def test_a_result_under_a_lost_lease_is_discarded(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        executor, reins = await start(floor, make_one)
        await floor.store.release(WORKER)
        again = await floor.store.claim(WorkerId("worker_2"), ["scripted"], 15)
        assert again is not None
        await executor.execute(reins)
        job = await floor.store.get(TENANT, reins.lease.job)
        assert (job.state, job.worker, job.outputs) == ("running", "worker_2", ())

    on_floor(scenario)


def test_a_picture_that_was_deleted_meanwhile_fails_the_job_for_good(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        executor, reins = await start(floor, make_one)
        for digest in await floor.blobs.aged(-1):
            await floor.blobs.discard(digest, older_than_seconds=-1)
        await executor.execute(reins)
        assert await state(floor, reins.lease.job) == ("failed", "asset_not_found")

    on_floor(scenario)


@pytest.mark.parametrize("end", ["before they are taken", "while they are being stored"])
def test_every_preview_of_a_job_is_told_before_its_end(on_floor: Play, end: str) -> None:
    running: list[Reins] = []

    async def show_many(request: PictureRequest, report: Report) -> PictureResult:
        for step in range(1, 21):
            report(Progress(value=step / 21, step=step, steps=21, preview=f"data:,{step}"))
        while end == "while they are being stored" and running[0]._previews:  # noqa: ASYNC110 - taking sets no event
            await asyncio.sleep(0)
        return await make_one(request, report)

    async def scenario(floor: Floor) -> None:
        executor, reins = await start(floor, show_many, timeout=60)
        running.append(reins)
        assert await executor.execute(reins) == "succeeded"
        events = await floor.store.events(reins.lease.job, 0)
        shown = [event.data["step"] for event in events if event.kind == "job.preview"]
        assert shown == list(range(1, 21))
        assert events[-1].kind == "job.succeeded"

    on_floor(scenario)


def test_the_first_word_stands_but_a_lost_lease_overrides_it(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        _, reins = await start(floor, make_one)
        reins.check()
        reins.pull("cancel")
        reins.pull("drain")
        assert reins.word == "cancel"
        with pytest.raises(JobCanceled):
            reins.report(Progress(value=0.1))
        reins.pull("lost")
        with pytest.raises(LeaseLost):
            reins.check()
        assert reins.take_progress() == Progress(value=0.1)
        assert reins.take_progress() is None

    on_floor(scenario)
