"""Waits are told once for each job that a worker began, from the store's own times."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sluicegate.domain.fairness import Tier
from sluicegate.domain.ids import Tenant, WorkerId, new_job_id
from sluicegate.domain.job import Job, NewJob
from sluicegate.scheduling.wait_times import LOOKS, WaitTimes
from sluicegate.storage.sqlite.store import SqliteStore
from sluicegate.testing import ManualClock

ANNA, WORKER = Tenant("anna"), WorkerId("w")
Scene = Callable[[SqliteStore, ManualClock, WaitTimes, list[tuple[str, float]]], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Scene], None]:
    """Runs a scene on a fresh store, with what was told so far."""

    async def whole(scene: Scene) -> None:
        clock = ManualClock()
        store = SqliteStore(tmp_path / "store.db", clock)
        told: list[tuple[str, float]] = []
        await store.open()
        try:
            await scene(store, clock, WaitTimes(store, lambda *seen: told.append(seen)), told)
        finally:
            await store.close()

    return lambda scene: asyncio.run(whole(scene))


async def submit(store: SqliteStore, tier: str = "free") -> Job:
    new = NewJob(id=new_job_id(), tenant=ANNA, tier=Tier(name=tier), model="m", task="upscale", input={})
    return (await store.submit(new)).job


def test_a_wait_lasts_from_submission_to_the_first_claim_and_is_told_once(play: Callable[[Scene], None]) -> None:
    async def scene(store: SqliteStore, clock: ManualClock, waits: WaitTimes, told: list[tuple[str, float]]) -> None:
        waits.expect(await submit(store, "pro"))
        await waits.look()
        assert told == []
        clock.advance(12)
        claim = await store.claim(WORKER, ["m"], 15.0)
        assert claim is not None
        clock.advance(3)
        await store.hand_back(claim.lease)
        clock.advance(4)
        await store.claim(WORKER, ["m"], 15.0)
        await waits.look()
        await waits.look()
        assert told == [("pro", 12.0)]
        assert waits.awaited == 0

    play(scene)


def test_a_job_withdrawn_before_any_claim_is_forgotten(play: Callable[[Scene], None]) -> None:
    async def scene(store: SqliteStore, clock: ManualClock, waits: WaitTimes, told: list[tuple[str, float]]) -> None:
        job = await submit(store)
        waits.expect(job)
        await store.cancel(ANNA, job.id)
        await waits.look()
        assert (told, waits.awaited) == ([], 0)

    play(scene)


def test_two_gateways_on_one_store_tell_each_job_once(play: Callable[[Scene], None]) -> None:
    async def scene(store: SqliteStore, clock: ManualClock, waits: WaitTimes, told: list[tuple[str, float]]) -> None:
        other = WaitTimes(store, lambda *seen: told.append(seen))
        waits.expect(await submit(store))
        other.expect(await submit(store))
        clock.advance(1)
        for _ in range(2):
            await store.claim(WORKER, ["m"], 15.0)
        for watcher in (waits, other, waits):
            await watcher.look()
        assert told == [("free", 1.0), ("free", 1.0)]

    play(scene)


def test_a_round_looks_at_a_bounded_number_of_jobs_and_the_next_goes_on_behind_them(
    play: Callable[[Scene], None],
) -> None:
    async def scene(store: SqliteStore, clock: ManualClock, waits: WaitTimes, told: list[tuple[str, float]]) -> None:
        jobs = [await submit(store) for _ in range(LOOKS + 1)]
        for job in jobs:
            waits.expect(job)
        for job in jobs[:-1]:
            await store.cancel(ANNA, job.id)
        await store.claim(WORKER, ["m"], 15.0)
        await waits.look()
        assert (told, waits.awaited) == ([], 1)
        await waits.look()
        assert told == [("free", 0.0)]

    play(scene)


def test_while_the_store_is_away_nothing_is_forgotten(play: Callable[[Scene], None]) -> None:
    async def scene(store: SqliteStore, clock: ManualClock, waits: WaitTimes, told: list[tuple[str, float]]) -> None:
        waits.expect(await submit(store))
        waits.expect(await submit(store))
        await store.close()
        await waits.look()
        assert waits.awaited == 2
        await store.open()
        await store.claim(WORKER, ["m"], 15.0)
        await waits.look()
        assert (len(told), waits.awaited) == (1, 1)

    play(scene)


def test_beyond_the_bound_jobs_are_not_awaited(play: Callable[[Scene], None]) -> None:
    async def scene(store: SqliteStore, clock: ManualClock, waits: WaitTimes, told: list[tuple[str, float]]) -> None:
        small = WaitTimes(store, lambda *seen: None, most=2)
        for _ in range(3):
            small.expect(await submit(store))
        assert small.awaited == 2

    play(scene)
