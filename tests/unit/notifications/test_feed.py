"""Following jobs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sluicegate.domain.clock import SystemClock
from sluicegate.domain.event import JobEvent
from sluicegate.domain.ids import JobId, Tenant, WorkerId, new_job_id
from sluicegate.domain.job import JobError, Lease, NewJob, Progress
from sluicegate.errors import UnknownJob
from sluicegate.notifications.feed import JobFeed
from sluicegate.storage.sqlite.signals import SocketSignals
from sluicegate.storage.sqlite.store import SqliteStore

TENANT = Tenant("acme")
WORKER = WorkerId("worker_1")


@asynccontextmanager
async def feeding(folder: Path) -> AsyncIterator[tuple[SqliteStore, JobFeed]]:
    store = SqliteStore(folder / "store.db", SystemClock())
    signals = SocketSignals(folder / "store.db")
    await store.open()
    await signals.open()
    try:
        yield store, JobFeed(store, signals, SystemClock(), poll_seconds=0.01)
    finally:
        await signals.close()
        await store.close()


async def submit(store: SqliteStore) -> JobId:
    return (await store.submit(NewJob(id=new_job_id(), tenant=TENANT, model="m", task="t", input={}))).job.id


def test_a_follower_sees_every_event_once_and_progress_between(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with feeding(tmp_path) as (store, feed):
            job = await submit(store)
            seen: list[str] = []
            lease = Lease(job, 1)
            async for item in feed.follow(TENANT, job):
                seen.append(item.kind if isinstance(item, JobEvent) else f"{item.value}")
                if seen[-1] == "job.queued":
                    claim = await store.claim(WORKER, ["m"], 15)
                    assert claim is not None
                    assert claim.lease == lease
                elif seen[-1] == "job.running":
                    await store.report(lease, Progress(value=0.25))
                elif seen[-1] == "0.25":
                    await store.fail(lease, JobError(code="c", message="m"), retry_in=None)
            assert seen == ["job.queued", "job.running", "0.25", "job.failed"]

    asyncio.run(scenario())


def test_resuming_anywhere_gives_exactly_the_rest(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with feeding(tmp_path) as (store, feed):
            job = await submit(store)
            await store.cancel(TENANT, job)
            for after in range(3):
                rest = [item.seq async for item in feed.follow(TENANT, job, after) if isinstance(item, JobEvent)]
                assert rest == list(range(after + 1, 3))
            assert [item async for item in feed.follow(TENANT, job, 99)] == []

    asyncio.run(scenario())


def test_an_unknown_job_is_told_and_so_is_another_tenants(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with feeding(tmp_path) as (store, feed):
            job = await submit(store)
            with pytest.raises(UnknownJob):
                await anext(feed.follow(Tenant("other"), job))
            with pytest.raises(UnknownJob):
                await feed.until_ended(TENANT, JobId("job_x"), 1)

    asyncio.run(scenario())


def test_waiting_ends_with_the_job_or_with_the_time(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with feeding(tmp_path) as (store, feed):
            job = await submit(store)
            assert (await feed.until_ended(TENANT, job, 0)).state == "queued"
            assert (await feed.until_ended(TENANT, job, 0.05)).state == "queued"
            waiting = asyncio.create_task(feed.until_ended(TENANT, job, 60))
            await store.cancel(TENANT, job)
            assert (await waiting).state == "canceled"

    asyncio.run(scenario())


def test_closing_releases_every_follower(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with feeding(tmp_path) as (store, feed):
            job = await submit(store)
            follower = feed.follow(TENANT, job)
            await anext(follower)
            waiting = asyncio.create_task(feed.until_ended(TENANT, job, 60))
            await asyncio.sleep(0)
            feed.close()
            with pytest.raises(StopAsyncIteration):
                await anext(follower)
            assert (await waiting).state == "queued"

    asyncio.run(scenario())
