"""What every store knows of jobs in lists, of assets and of workers."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from sluicegate.domain.asset import Asset
from sluicegate.domain.ids import JobId, Tenant, WorkerId, new_asset_id, new_job_id, new_worker_id
from sluicegate.domain.job import JobError, NewJob
from sluicegate.errors import Conflict, UnknownAsset
from sluicegate.storage.contracts import JobQuery, Store, Success, WorkerInfo
from sluicegate.testing import ManualClock

Play = Callable[[Callable[[Store], Awaitable[None]]], None]
ANNA, BERT = Tenant("anna"), Tenant("bert")
ONE = WorkerId("worker_one")
DONE = Success(outputs=(), backend="local", execution_seconds=1.0)
OOPS = JobError(code="x", message="y")


async def submitted(store: Store, **changes: Any) -> JobId:
    fields: dict[str, Any] = {"tenant": ANNA, "model": "m", "task": "stylize", "input": {}, **changes}
    return (await store.submit(NewJob(id=new_job_id(), **fields))).job.id


async def listed(store: Store, tenant: Tenant = ANNA, **query: Any) -> list[JobId]:
    return [job.id for job in await store.list(tenant, JobQuery(**query))]


def picture(tenant: Tenant = ANNA, digest: str = "ab" * 32) -> Asset:
    size = {"size_bytes": 10, "width": 4, "height": 5}
    return Asset(id=new_asset_id(), tenant=tenant, content_type="image/webp", sha256=digest, created_at=1.5, **size)


def test_a_tenants_jobs_are_listed_newest_first(play: Play) -> None:
    async def scenario(store: Store) -> None:
        jobs = [await submitted(store) for _ in range(25)]
        theirs = await submitted(store, tenant=BERT)
        assert await listed(store) == jobs[:4:-1]
        assert await listed(store, limit=3) == jobs[:-4:-1]
        assert await listed(store, BERT) == [theirs]
        assert (await store.list(ANNA, JobQuery(limit=1)))[0] == await store.get(ANNA, jobs[-1])

    play(scenario)


def test_pages_are_stable_while_jobs_arrive(play: Play) -> None:
    async def scenario(store: Store) -> None:
        jobs = [await submitted(store) for _ in range(10)]
        seen: list[JobId] = []
        cursor: JobId | None = None
        while page := await listed(store, limit=3, cursor=cursor):
            seen += page
            cursor = page[-1]
            await submitted(store)
        assert seen == jobs[::-1]

    play(scenario)


def test_lists_narrow_to_a_status_and_a_model(play: Play) -> None:
    async def scenario(store: Store) -> None:
        jobs = [await submitted(store, model=model) for model in "aababa"]
        claims = [await store.claim(ONE, ["a"], 15.0) for _ in range(3)]
        leases = [claim.lease for claim in claims if claim is not None]
        await store.fail(leases[0], OOPS, retry_in=60.0)
        await store.succeed(leases[1], DONE)
        assert await listed(store, status="queued") == [jobs[at] for at in (5, 4, 2, 0)]
        assert await listed(store, status="queued", model="a") == [jobs[at] for at in (5, 0)]
        assert await listed(store, status="queued", model="a", limit=1, cursor=jobs[5]) == [jobs[0]]
        assert await listed(store, status="running") == [jobs[3]]
        assert await listed(store, status="succeeded", model="b") == []
        assert await listed(store, model="a") == [jobs[at] for at in (5, 3, 1, 0)]
        assert await listed(store, model="a", limit=2, cursor=jobs[5]) == [jobs[at] for at in (3, 1)]
        assert await listed(store, model="zzz") == []

    play(scenario)


def test_an_asset_belongs_to_its_tenant(play: Play) -> None:
    async def scenario(store: Store) -> None:
        asset = picture()
        await store.add_asset(asset)
        assert await store.asset(ANNA, asset.id) == asset
        with pytest.raises(UnknownAsset):
            await store.asset(BERT, asset.id)
        with pytest.raises(UnknownAsset):
            await store.delete_asset(BERT, asset.id)
        with pytest.raises(Conflict):
            await store.add_asset(asset)
        await store.delete_asset(ANNA, asset.id)
        for call in (store.asset(ANNA, asset.id), store.delete_asset(ANNA, asset.id)):
            with pytest.raises(UnknownAsset):
                await call

    play(scenario)


def test_a_blob_is_referenced_while_one_asset_has_it(play: Play) -> None:
    async def scenario(store: Store) -> None:
        shared, alone = "aa" * 32, "bb" * 32
        one, two, three = picture(digest=shared), picture(BERT, digest=shared), picture(digest=alone)
        for asset in (one, two, three):
            await store.add_asset(asset)
        asked = [shared, alone, "cc" * 32]
        assert await store.referenced(asked) == {shared, alone}
        await store.delete_asset(ANNA, one.id)
        await store.delete_asset(ANNA, three.id)
        assert await store.referenced(asked) == {shared}
        assert await store.referenced([]) == frozenset()

    play(scenario)


@pytest.mark.parametrize("field", ["image", "style_image"])
@pytest.mark.parametrize("ending", ["succeed", "fail", "cancel", "expire"])
def test_an_asset_stays_while_a_job_that_has_not_ended_needs_it(
    play: Play, clock: ManualClock, field: str, ending: str
) -> None:
    async def scenario(store: Store) -> None:
        asset = picture()
        await store.add_asset(asset)
        await submitted(store, input={field: asset.id}, deadline_seconds=100.0)

        async def refused() -> None:
            with pytest.raises(Conflict, match=asset.id):
                await store.delete_asset(ANNA, asset.id)

        await refused()
        claim = await store.claim(ONE, ["m"], 15.0)
        assert claim is not None
        await refused()
        if ending == "succeed":
            await store.succeed(claim.lease, DONE)
        elif ending == "cancel":
            await store.cancel(ANNA, claim.job.id)
            await refused()
            await store.stop(claim.lease, "cancel")
        else:
            await store.fail(claim.lease, OOPS, retry_in=None if ending == "fail" else 500.0)
        if ending == "expire":
            await refused()
            clock.advance(100.0)
            assert (await store.recover()).expired == 1
        await store.delete_asset(ANNA, asset.id)

    play(scenario)


def test_a_job_keeps_no_hold_on_another_tenants_asset(play: Play) -> None:
    async def scenario(store: Store) -> None:
        asset = picture()
        await store.add_asset(asset)
        with pytest.raises(UnknownAsset):
            await submitted(store, tenant=BERT, input={"image": asset.id})
        await submitted(store, input={"prompt": asset.id})
        await store.delete_asset(ANNA, asset.id)

    play(scenario)


def test_workers_are_known_while_they_report(play: Play, clock: ManualClock) -> None:
    async def scenario(store: Store) -> None:
        one, two = new_worker_id(), new_worker_id()

        def info(worker: WorkerId, *loaded: str) -> WorkerInfo:
            return WorkerInfo(
                id=worker,
                host="box",
                pid=7,
                started_at=5.0,
                seen_at=0.0,
                models=("a", "b"),
                loaded=loaded,
                pools=("gpu", "default"),
            )

        async def seen(within: float) -> dict[WorkerId, tuple[str, ...]]:
            return {worker.id: worker.loaded for worker in await store.workers(seen_within=within)}

        await asyncio.gather(store.enlist(info(one)), store.enlist(info(two)))
        (first, _) = await store.workers(seen_within=0.0)
        assert first == msgspec.structs.replace(info(one), seen_at=clock.now())
        clock.advance(10.0)
        await store.enlist(info(one, "b"))
        assert await seen(9.0) == {one: ("b",)}
        assert await seen(10.0) == {one: ("b",), two: ()}
        clock.advance(10.0)
        await store.heartbeat(two, [], 15.0)
        assert await seen(9.0) == {two: ()}
        await store.dismiss(two)
        assert await seen(60.0) == {one: ("b",)}
        await store.release(one)
        assert await seen(60.0) == {}

    play(scenario)


def test_workers_that_vanished_long_ago_are_forgotten(play: Play, clock: ManualClock) -> None:
    async def scenario(store: Store) -> None:
        await store.enlist(WorkerInfo(id=ONE, host="box", pid=7, started_at=5.0, seen_at=0.0, models=(), loaded=()))
        clock.advance(100_000.0)
        assert len(await store.workers(seen_within=200_000.0)) == 1
        await store.recover()
        assert await store.workers(seen_within=200_000.0) == []

    play(scenario)
