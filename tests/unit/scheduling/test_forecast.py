"""Forecasts, held against what happened under the rule itself."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from statistics import fmean, median
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.scheduling.conftest import CALLER, TENANT, Floor
from tests.unit.scheduling.races import MODEL, POOL, Race, held, standing, worker_info

from sluicegate.domain.ids import Tenant, WorkerId
from sluicegate.domain.job import JobError
from sluicegate.scheduling.forecast import Applicant, Forecast, Outlook
from sluicegate.scheduling.intake import JobRequest
from sluicegate.storage.contracts import LaneStanding, QueueView, RunningJob, TenantStanding, WorkerInfo

Play = Callable[[Callable[[Floor], Awaitable[None]]], None]


def request(**fields: Any) -> JobRequest:
    return msgspec.convert(fields, JobRequest)


def look(
    *standings: TenantStanding, running: tuple[RunningJob, ...] = (), crew: list[WorkerInfo] | None = None
) -> Forecast:
    lanes = tuple(LaneStanding(POOL, it.tenant, MODEL, it.queued) for it in standings if it.queued)
    view = QueueView(at=1_000.0, clocks={POOL: 7.0}, tenants=standings, lanes=lanes, running=running)
    return Forecast(view, [worker_info("w0")] if crew is None else crew)


def applicant(tenant: str = "me", *, weight: float = 1.0, cap: int | None = None, cost: float = 5.0) -> Applicant:
    return Applicant(pool=POOL, tenant=Tenant(tenant), weight=weight, max_running=cap, model=MODEL, cost=cost)


def test_on_an_idle_system_a_job_starts_at_once() -> None:
    assert look().of_new(applicant()) == Outlook(queue_position=1, starts_in=0.0, eta_seconds=5.0)


def test_without_a_live_worker_there_is_a_place_but_no_time() -> None:
    waiting = standing("you", vtime=7.0, queued=3, queued_cost=6.0)
    assert look(waiting, crew=[]).of_new(applicant("zoe")) == Outlook(queue_position=2)
    elsewhere = [worker_info("w0", pools=("other",)), worker_info("w1", models=("other",))]
    assert look(crew=elsewhere).of_new(applicant()).eta_seconds is None


def test_work_that_the_jobs_workers_do_not_serve_is_not_ahead_of_it() -> None:
    others = standing("you", vtime=0.0, queued=50, queued_cost=500.0)
    view = QueueView(
        at=1_000.0, clocks={POOL: 0.0}, tenants=(others,), lanes=(LaneStanding(POOL, others.tenant, "other", 50),),
        running=(),
    )  # fmt: skip
    crew = [worker_info("w0"), worker_info("w1", models=("other",))]
    assert Forecast(view, crew).of_new(applicant("zoe")).queue_position == 1


def test_work_of_another_pool_is_not_ahead_of_it() -> None:
    elsewhere = msgspec.structs.replace(standing("you", vtime=0.0, queued=50, queued_cost=500.0), pool="other")
    lanes = (LaneStanding("other", elsewhere.tenant, MODEL, 50),)
    view = QueueView(at=1_000.0, clocks={POOL: 7.0}, tenants=(elsewhere,), lanes=lanes, running=())
    assert Forecast(view, [worker_info("w0")]).of_new(applicant("zoe")).queue_position == 1


def test_a_tenant_that_comes_in_begins_level_with_the_others_however_little_it_has_had() -> None:
    rival = standing("you", vtime=100.0, queued=10, queued_cost=20.0)
    idle = standing("zoe", vtime=3.0, running=1)
    assert look(rival, idle).of_new(applicant("zoe")).queue_position == 2
    assert look(rival).of_new(applicant("zoe")).queue_position == 2
    behind = standing("zoe", vtime=3.0, queued=1, queued_cost=5.0)
    assert look(rival, behind).of_new(applicant("zoe"), own_ahead=0).queue_position == 1


def test_while_a_worker_is_free_a_job_starts_at_once_whatever_the_others_do() -> None:
    mine = standing("me", vtime=9.0, queued=2, queued_cost=20.0)
    crew = [worker_info(f"w{number}") for number in range(3)]
    starts = [look(mine, crew=crew).of_new(applicant(), own_ahead=ahead).starts_in for ahead in range(3)]
    assert starts == [0.0, 0.0, 0.0]
    three = standing("me", vtime=9.0, queued=3, queued_cost=30.0)
    assert look(three, crew=crew).of_new(applicant(), own_ahead=3).starts_in == 10.0


def test_a_job_waits_for_what_remains_of_the_running_ones() -> None:
    running = (
        held("a", "w0", tenant="you", cost=10.0, claimed_at=996.0),
        held("b", "w1", tenant="you", cost=99.0, claimed_at=996.0, progress=0.5),
    )
    crew = [worker_info("w0"), worker_info("w1")]
    assert look(running=running, crew=crew).of_new(applicant()).starts_in == 4.0
    assert look(running=running[:1], crew=crew).of_new(applicant()).starts_in == 0.0
    assert look(running=running, crew=crew).of_new(applicant(), age=3.0).starts_in == 1.0


def test_a_tenant_that_is_behind_goes_first_and_one_that_is_ahead_waits_its_share() -> None:
    rival = standing("you", vtime=100.0, weight=1.0, queued=100, queued_cost=200.0)
    behind = look(rival, standing("me", vtime=50.0, queued=1, queued_cost=5.0))
    assert behind.of_new(applicant(), own_ahead=0).queue_position == 1
    ahead = look(rival, standing("me", vtime=120.0, queued=1, queued_cost=5.0))
    assert ahead.of_new(applicant(), own_ahead=0).queue_position == pytest.approx(11, abs=1)
    heavy = standing("you", vtime=100.0, weight=4.0, queued=100, queued_cost=200.0)
    ahead = look(heavy, standing("me", vtime=120.0, queued=1, queued_cost=5.0))
    assert ahead.of_new(applicant(), own_ahead=0).queue_position == pytest.approx(41, abs=1)


def test_a_cap_lets_a_job_wait_for_the_tenants_own_jobs() -> None:
    running = (held("a", "w0", tenant="me", cost=30.0, claimed_at=1_000.0),)
    mine = standing("me", max_running=1, vtime=9.0, queued=2, queued_cost=20.0, running=1)
    crew = [worker_info(f"w{number}") for number in range(4)]
    free = look(mine, running=running, crew=crew)
    assert free.of_new(applicant(cap=1), own_ahead=2).starts_in == 50.0
    assert free.of_new(applicant(cap=None), own_ahead=2).starts_in < 10.0  # type: ignore[operator]


RIVALS = st.lists(
    st.tuples(st.floats(0, 100), st.sampled_from([0.5, 1.0, 4.0, 16.0]), st.integers(1, 50), st.floats(0.1, 50)),
    max_size=12,
)


@given(rivals=RIVALS, tag=st.floats(0, 200))
def test_the_sorted_sums_are_the_sums_over_the_tenants(
    rivals: list[tuple[float, float, int, float]], tag: float
) -> None:
    standings = [
        standing(f"t{number}", vtime=vtime, weight=weight, queued=jobs, queued_cost=jobs * mean)
        for number, (vtime, weight, jobs, mean) in enumerate(rivals)
    ]
    place = look(*standings, standing("me", vtime=tag, queued=1, queued_cost=1.0)).of_new(applicant(), own_ahead=0)
    ahead = sum(
        min(jobs, max(1.0, (tag - vtime) * weight / mean + 0.5)) for vtime, weight, jobs, mean in rivals if vtime < tag
    )
    level = sum(vtime == tag for vtime, _, _, _ in rivals)
    assert place.queue_position is not None
    assert place.queue_position == pytest.approx(1 + ahead, abs=0.51 + level)


@pytest.mark.parametrize(
    ("capped", "middle", "tenth"), [(False, 0.05, 0.2), (True, 0.08, 0.35)], ids=["free", "capped"]
)
def test_starts_are_forecast_within_a_few_hundredths(capped: bool, middle: float, tenth: float) -> None:
    """Of jobs that start over 20 s later; `tenth` is what one in ten errors exceeds."""
    errors: list[float] = []
    places: list[int] = []
    for seed in range(60):
        random = Random(seed)
        race = Race(random, random.randint(1, 40), random.choice([1, 2, 4, 8]), capped)
        race.begin()
        began, before = race.now, len(race.order)
        forecast = Forecast(race.view(), race.crew())
        expected = {
            job.id: forecast.of_new(
                applicant(name, weight=race.weights[name], cap=race.caps[name], cost=job.cost), own_ahead=number
            )
            for name in race.weights
            for number, job in enumerate(race.waiting(name))
        }
        race.finish()
        for place, job_id in enumerate(race.order[before:], 1):
            told, waited = expected[job_id], race.started[job_id] - began
            assert told.starts_in is not None
            assert told.queue_position is not None
            places.append(told.queue_position - place)
            if waited > 20:
                errors.append(told.starts_in / waited - 1)
    spread = sorted(abs(error) for error in errors)
    assert len(spread) > 1_000
    assert median(spread) < middle
    assert spread[len(spread) * 9 // 10] < tenth
    assert abs(fmean(errors)) < middle
    assert median(abs(place) for place in places) <= 4


def test_a_page_of_ended_jobs_does_not_look_at_the_queue(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        image = await floor.upload()
        job = (await floor.intake.submit(CALLER, request(model="painter", input={"image": image}))).job
        ended = await floor.store.cancel(TENANT, job.id)
        assert await floor.outlooks.of_jobs([ended]) == {}
        await floor.store.close()
        assert await floor.outlooks.of_jobs([ended] * 100) == {}

    on_floor(scenario)


def test_jobs_are_told_their_place_and_the_workers_make_it_a_time(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        order = request(model="drawer", input={"prompt": "p", "steps": 10})
        first, second = [(await floor.intake.submit(CALLER, order)).job for _ in range(2)]
        told = await floor.outlooks.of_jobs([first, second])
        assert [told[job.id].queue_position for job in (first, second)] == [1, 2]
        assert told[first.id].eta_seconds is None
        await floor.store.enlist(worker_info("w0", models=("drawer",), pools=("default",)))
        claim = await floor.store.claim(WorkerId("w0"), ["drawer"], 15)
        assert claim is not None
        jobs = [await floor.store.get(TENANT, job.id) for job in (first, second)]
        latest = await floor.outlooks.latest(newest=True)
        assert latest is not None
        running, waiting = (latest[0].of_job(job) for job in jobs)
        assert running.starts_in == 0.0
        assert running.queue_position is None
        assert running.eta_seconds == pytest.approx(6.0, abs=0.5)
        assert waiting.queue_position == 1
        assert waiting.starts_in == running.eta_seconds
        assert waiting.eta_seconds == pytest.approx(12.0, abs=0.5)

    on_floor(scenario)


def test_a_job_between_two_attempts_starts_no_sooner_than_its_next_one_is_due(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        job = (await floor.intake.submit(CALLER, request(model="drawer", input={"prompt": "p", "steps": 10}))).job
        await floor.store.enlist(worker_info("w0", models=("drawer",), pools=("default",)))
        claim = await floor.store.claim(WorkerId("w0"), ["drawer"], 15)
        assert claim is not None
        await floor.store.fail(claim.lease, JobError(code="backend_failed", message="words"), retry_in=30.0)
        told = (await floor.outlooks.of_jobs([await floor.store.get(TENANT, job.id)]))[job.id]
        assert told.queue_position == 1
        assert told.starts_in == pytest.approx(30.0, abs=5)
        assert told.eta_seconds == pytest.approx(36.0, abs=5)

    on_floor(scenario)


def test_while_the_store_is_away_the_last_look_is_used(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        order = request(model="drawer", input={"prompt": "p"})
        job = (await floor.intake.submit(CALLER, order)).job
        seen = await floor.outlooks.of_jobs([job])
        await floor.store.close()
        await floor.outlooks.latest(newest=True)
        assert await floor.outlooks.of_jobs([job]) == seen
        assert await asyncio.gather(*(floor.outlooks.of_jobs([job]) for _ in range(5))) == [seen] * 5

    on_floor(scenario)
