"""Why callers' jobs wait, read from a real store."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sluicegate.domain.fairness import Policy
from sluicegate.domain.ids import Tenant, WorkerId, new_job_id
from sluicegate.domain.job import Job, JobError, NewJob
from sluicegate.scheduling.forecast import Outlooks
from sluicegate.scheduling.reasons import Reasons
from sluicegate.storage.sqlite.store import SqliteStore
from sluicegate.testing import ManualClock

ANNA, WORKER = Tenant("anna"), WorkerId("w")
NOBODY = 'no live worker serves the pool "default"; start one: sluicegate work --pool default'
Scene = Callable[[SqliteStore, ManualClock, Reasons], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Scene], None]:
    """Runs a scene on a fresh store."""

    async def whole(scene: Scene) -> None:
        clock = ManualClock()
        store = SqliteStore(tmp_path / "store.db", clock)
        await store.open()
        try:
            await scene(store, clock, Reasons(store, Outlooks(store, clock), Policy()))
        finally:
            await store.close()

    return lambda scene: asyncio.run(whole(scene))


async def submit(store: SqliteStore) -> Job:
    new = NewJob(id=new_job_id(), tenant=ANNA, model="m", task="upscale", input={})
    return (await store.submit(new)).job


def test_each_waiting_job_of_a_page_has_its_reason(play: Callable[[Scene], None]) -> None:
    async def scene(store: SqliteStore, clock: ManualClock, reasons: Reasons) -> None:
        first, second = await submit(store), await submit(store)
        told = await reasons.of_jobs([await store.get(ANNA, job.id) for job in (first, second)])
        own = "1 of the tenant's own jobs is ahead of it, by priority, then age"
        assert told == {first.id: NOBODY, second.id: f"{own}; {NOBODY}"}

    play(scene)


def test_a_job_between_attempts_tells_the_error_of_the_last_one(play: Callable[[Scene], None]) -> None:
    async def scene(store: SqliteStore, clock: ManualClock, reasons: Reasons) -> None:
        job = await submit(store)
        claim = await store.claim(WORKER, ["m"], 15.0)
        assert claim is not None
        error = JobError(code="backend_failed", message="it broke")
        assert await store.fail(claim.lease, error, retry_in=4.0)
        told = await reasons.of_jobs([await store.get(ANNA, job.id)])
        assert told[job.id].startswith("waits for attempt 2 of 3 until ")
        assert told[job.id].endswith("(4.0 s), because attempt 1 failed: it broke (backend_failed)")

    play(scene)


def test_jobs_that_do_not_wait_have_no_reason(play: Callable[[Scene], None]) -> None:
    async def scene(store: SqliteStore, clock: ManualClock, reasons: Reasons) -> None:
        claimed, withdrawn = await submit(store), await submit(store)
        await store.claim(WORKER, ["m"], 15.0)
        await store.cancel(ANNA, withdrawn.id)
        assert await reasons.of_jobs([await store.get(ANNA, job.id) for job in (claimed, withdrawn)]) == {}

    play(scene)


def test_while_the_store_is_away_there_is_no_reason_and_no_error(play: Callable[[Scene], None]) -> None:
    async def scene(store: SqliteStore, clock: ManualClock, reasons: Reasons) -> None:
        job = await submit(store)
        await store.close()
        assert await reasons.of_jobs([job]) == {}

    play(scene)
