"""Shedding at the door: what could not end in time is refused before anything is stored, and nothing else."""

import base64
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from tests.gateway import picture
from tests.unit.scheduling.conftest import CALLER, TENANT, Floor
from tests.unit.scheduling.races import worker_info

from sluicegate.domain.fairness import Tier
from sluicegate.domain.ids import Tenant, WorkerId
from sluicegate.domain.job import Submission
from sluicegate.domain.principal import Principal
from sluicegate.errors import InvalidInput, QueueFull, StoreUnavailable, TooLate
from sluicegate.scheduling.intake import JobRequest

Play = Callable[[Callable[[Floor], Awaitable[None]]], None]
WORKER = WorkerId("w0")
DRAWER = ("drawer", "painter")


async def draw(floor: Floor, *, caller: Principal = CALLER, key: str | None = None, **more: Any) -> Submission:
    """One job of 6 reference seconds, unless `input` says otherwise."""
    fields = {"model": "drawer", "input": {"prompt": "p", "seed": 1}, **more}
    return await floor.intake.submit(caller, msgspec.convert(fields, JobRequest), key)


async def open_for_work(floor: Floor) -> None:
    await floor.store.enlist(worker_info(WORKER, models=DRAWER, pools=("default",)))


async def occupy(floor: Floor, jobs: int) -> None:
    """One job runs and `jobs` wait behind it, 6 reference seconds each."""
    await open_for_work(floor)
    for _ in range(jobs + 1):
        await draw(floor)
    assert await floor.store.claim(WORKER, DRAWER, 15) is not None


def test_a_job_that_could_not_end_in_time_is_refused_with_the_time_to_come_back(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        await occupy(floor, 4)
        before = await floor.store.counts()
        with pytest.raises(TooLate, match="behind 4 others") as caught:
            await draw(floor, deadline_seconds=20)
        assert caught.value.retry_after == pytest.approx(30 - 14, abs=1)
        assert await floor.store.counts() == before
        assert (await draw(floor, deadline_seconds=60)).job.state == "queued"

    on_floor(scenario)


def test_a_job_that_might_just_be_in_time_is_taken(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        await occupy(floor, 2)
        with pytest.raises(TooLate):
            await draw(floor, deadline_seconds=19)
        assert (await draw(floor, deadline_seconds=21)).job.state == "queued", "it would start in 18 s and take 6"

    on_floor(scenario)


async def kept(floor: Floor) -> frozenset[str]:
    """Pictures that some asset of the store names."""
    return await floor.store.referenced(list(await floor.blobs.aged(-1)))


def test_no_picture_of_a_refused_job_is_kept(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        await occupy(floor, 9)
        image = base64.b64encode(picture(20, 20)).decode()
        with pytest.raises(TooLate):
            await draw(floor, model="painter", input={"image": image}, deadline_seconds=10)
        assert not [path for path in (floor.folder / "assets").rglob("*") if path.is_file() and path.name != ".lock"]
        full = Principal(Tenant("full"), Tier(name="small", queued_jobs=1))
        await draw(floor, caller=full)
        with pytest.raises(QueueFull):
            await draw(floor, caller=full, model="painter", input={"image": image})
        assert not await kept(floor)

    on_floor(scenario)


def test_on_an_idle_system_nothing_is_refused_however_short_the_deadline(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        await open_for_work(floor)
        assert (await draw(floor, deadline_seconds=0.01)).job.state == "queued"

    on_floor(scenario)


def test_work_that_has_ended_this_moment_is_held_against_nobody(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        await open_for_work(floor)
        job = (await draw(floor)).job
        assert await floor.store.claim(WORKER, DRAWER, 15) is not None
        assert (await floor.outlooks.of_jobs([job]))[job.id].starts_in is not None
        await floor.store.release(WORKER)
        await floor.store.cancel(TENANT, job.id)
        assert (await draw(floor, deadline_seconds=1)).job.state == "queued"

    on_floor(scenario)


def test_a_job_that_no_live_worker_serves_yet_is_taken(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        for _ in range(5):
            await draw(floor)
        assert (await draw(floor, deadline_seconds=1)).job.state == "queued"

    on_floor(scenario)


def test_a_repeat_of_a_stored_job_is_never_refused(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        first = await draw(floor, key="k", deadline_seconds=20)
        await occupy(floor, 9)
        again = await draw(floor, key="k", deadline_seconds=20)
        assert again.replayed
        assert again.job.id == first.job.id

    on_floor(scenario)


def test_a_tenants_less_urgent_jobs_do_not_keep_out_an_urgent_one(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        await open_for_work(floor)
        for _ in range(20):
            await draw(floor, priority=-1)
        assert await floor.store.claim(WORKER, DRAWER, 15) is not None
        with pytest.raises(TooLate):
            await draw(floor, deadline_seconds=30, priority=-1)
        assert (await draw(floor, deadline_seconds=30)).job.state == "queued"

    on_floor(scenario)


def test_another_tenant_that_has_had_less_is_not_kept_out_by_a_long_queue(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        await occupy(floor, 20)
        other = Principal(Tenant("other"), CALLER.tier)
        assert (await draw(floor, caller=other, deadline_seconds=30)).job.state == "queued"
        with pytest.raises(TooLate):
            await draw(floor, deadline_seconds=30)

    on_floor(scenario)


def test_while_the_store_is_away_that_is_what_is_told(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        await occupy(floor, 9)
        with pytest.raises(TooLate):
            await draw(floor, deadline_seconds=10)
        await floor.store.close()
        with pytest.raises(StoreUnavailable):
            await draw(floor, deadline_seconds=10)

    on_floor(scenario)


def test_a_full_queue_says_when_one_of_the_tenants_jobs_is_expected_to_start(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        caller = Principal(Tenant("small"), Tier(name="small", weight=1.0, queued_jobs=2))
        await occupy(floor, 0)
        for _ in range(2):
            await draw(floor, caller=caller)
        with pytest.raises(QueueFull, match="small") as caught:
            await draw(floor, caller=caller)
        assert caught.value.retry_after == pytest.approx(6, abs=1)

    on_floor(scenario)


def test_a_full_queue_without_workers_still_says_to_come_back(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        caller = Principal(Tenant("small"), Tier(name="small", queued_cost=7.0))
        await draw(floor, caller=caller)
        with pytest.raises(QueueFull) as caught:
            await draw(floor, caller=caller)
        assert (caught.value.retry_after or 0) >= 1

    on_floor(scenario)


def test_a_job_dearer_than_the_tier_grants_is_refused_with_both_numbers(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        caller = Principal(TENANT, Tier(name="small", max_cost=10.0))
        assert (await draw(floor, caller=caller)).job.cost == 6.0
        with pytest.raises(InvalidInput) as caught:
            await draw(floor, caller=caller, input={"prompt": "p", "n": 3})
        assert "16 reference seconds on drawer; tier small grants 10" in caught.value.message

    on_floor(scenario)


def test_a_job_carries_its_cost_its_tier_and_its_models_pool(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        drawn = (await draw(floor, input={"prompt": "p", "n": 2, "steps": 4})).job
        assert (drawn.cost, drawn.tier, drawn.pool) == (5.0, "basic", "default")
        enlarged = (await draw(floor, model="x2", input={"image": await floor.upload()})).job
        assert enlarged.pool == "large"
        assert enlarged.cost == pytest.approx(0.12, abs=0.02)

    on_floor(scenario)
