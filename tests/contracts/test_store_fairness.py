"""What every store does with jobs of several tenants: turns, charges, caps, bounds, and what `queue` tells of them.

The state machine in tests/properties/test_job_store.py holds the whole rule; here are its cases by name.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sluicegate.domain.fairness import MOST_PREEMPTIONS, Tier
from sluicegate.domain.ids import Tenant, WorkerId, new_job_id
from sluicegate.domain.job import Claim, JobError, Lease, NewJob, Progress, Verdict
from sluicegate.errors import QueueFull
from sluicegate.storage.contracts import LaneStanding, Store, Success, TenantStanding, Usage
from sluicegate.testing import ManualClock

Play = Callable[[Callable[[Store], Awaitable[None]]], None]
ANNA, BERT, CLEO = Tenant("anna"), Tenant("bert"), Tenant("cleo")
ONE = WorkerId("worker_one")
OOPS = JobError(code="backend_failed", message="it broke")


def new_job(tenant: Tenant, **changes: Any) -> NewJob:
    fields: dict[str, Any] = {"model": "a", "task": "upscale", "input": {}, "cost": 10.0}
    return NewJob(id=new_job_id(), tenant=tenant, **{**fields, **changes})


async def submit(store: Store, tenant: Tenant, times: int = 1, **changes: Any) -> None:
    for _ in range(times):
        await store.submit(new_job(tenant, **changes))


async def claim(store: Store, *loaded: str, models: tuple[str, ...] = ("a", "b"), **more: Any) -> Claim:
    found = await store.claim(ONE, models, 15.0, loaded=loaded, **more)
    assert found is not None
    return found


async def order(store: Store, times: int, *loaded: str) -> str:
    """The initials of the tenants that the next claims serve."""
    return "".join([(await claim(store, *loaded)).job.tenant[0] for _ in range(times)])


async def standing(store: Store, tenant: Tenant, pool: str = "default") -> TenantStanding:
    (found,) = [row for row in (await store.queue()).tenants if (row.tenant, row.pool) == (tenant, pool)]
    return found


def success(cost: float) -> Success:
    return Success(outputs=(), backend="local", execution_seconds=cost + 5.0, cost=cost)


def test_tenants_take_turns_however_much_one_has_submitted(play: Play) -> None:
    async def scenario(store: Store) -> None:
        await submit(store, ANNA, 6)
        await submit(store, BERT, 2)
        await submit(store, CLEO, 2)
        assert await order(store, 10) == "abcabcaaaa"

    play(scenario)


def test_turns_follow_the_weights(play: Play) -> None:
    async def scenario(store: Store) -> None:
        await submit(store, ANNA, 20)
        await submit(store, BERT, 20, tier=Tier(name="basic", weight=4.0))
        turns = await order(store, 15)
        assert (turns.count("a"), turns.count("b")) == (3, 12)

    play(scenario)


def test_a_tenant_that_was_idle_comes_back_level(play: Play) -> None:
    async def scenario(store: Store) -> None:
        await submit(store, ANNA, 10)
        assert await order(store, 5) == "aaaaa"
        await submit(store, BERT, 5)
        assert (await standing(store, BERT)).vtime == (await standing(store, ANNA)).vtime == 50.0
        assert await order(store, 4) == "abab"

    play(scenario)


def test_a_loaded_model_is_kept_while_no_tenant_is_far_behind(play: Play) -> None:
    async def scenario(store: Store) -> None:
        await submit(store, ANNA, 8, model="a")
        await submit(store, BERT, 8, model="b")
        assert await order(store, 4, "a") == "aaab"  # Δ is 20: two jobs of 10, and the tie

    play(scenario)


def test_a_tenants_loaded_models_go_first_unless_another_lane_waits_too_long(play: Play, clock: ManualClock) -> None:
    async def scenario(store: Store) -> None:
        await submit(store, ANNA, 1, model="b", priority=5)
        await submit(store, ANNA, 3, model="a")
        clock.advance(1.0)
        assert (await claim(store, "a")).job.model == "a"
        clock.advance(120.0)
        assert (await claim(store, "a")).job.model == "b"
        assert (await claim(store, "a")).job.model == "a"

    play(scenario)


def test_only_what_the_worker_serves_is_handed_out(play: Play) -> None:
    async def scenario(store: Store) -> None:
        await submit(store, ANNA, 1, model="b")
        await submit(store, BERT, 1, model="a", pool="gpu")
        assert await store.claim(ONE, ["a"], 15.0) is None
        assert await store.claim(ONE, ["b"], 15.0, pools=["gpu"]) is None
        assert (await claim(store, pools=["none", "gpu", "default"])).job.tenant == BERT
        assert (await claim(store, pools=["gpu", "default"])).job.tenant == ANNA

    play(scenario)


def test_tags_that_differ_by_a_rounding_error_are_no_tie(play: Play) -> None:
    async def scenario(store: Store) -> None:
        await submit(store, ANNA, 2, cost=0.1 + 1.0 - 1.0)
        await submit(store, BERT, 2, cost=0.1, model="b")
        assert await order(store, 2) == "ab"
        anna, bert = await standing(store, ANNA), await standing(store, BERT)
        assert anna.vtime > bert.vtime, "by less than what a sum with Δ can show"
        assert anna.vtime + 20.0 == bert.vtime + 20.0
        assert await order(store, 2) == "ba"

    play(scenario)


def test_pools_have_clocks_of_their_own(play: Play) -> None:
    async def scenario(store: Store) -> None:
        await submit(store, ANNA, 3)
        await order(store, 3)
        await submit(store, ANNA, 1, pool="gpu")
        assert (await standing(store, ANNA, "gpu")).vtime == 0.0
        assert (await standing(store, ANNA)).vtime == 30.0
        assert (await store.queue()).clocks == {"default": 20.0, "gpu": 0.0}

    play(scenario)


def test_a_starving_tenant_is_served_out_of_turn_at_most_once_in_eight(play: Play, clock: ManualClock) -> None:
    async def scenario(store: Store) -> None:
        await submit(store, BERT, 40, cost=0.1, tier=Tier(name="pro", weight=16.0))
        for name in "vwxyz":
            await submit(store, Tenant(name), 9, cost=500.0, tier=Tier(weight=0.01))
        assert await order(store, 6) == "bvwxyz"
        clock.advance(5.0)
        assert await order(store, 3) == "bbb"
        clock.advance(297.0)
        assert await order(store, 20) == "vbbbbbbbwbbbbbbbxbbb"

    play(scenario)


def test_a_tenant_at_its_cap_waits_and_comes_back_level(play: Play) -> None:
    async def scenario(store: Store) -> None:
        await submit(store, ANNA, 4, tier=Tier(concurrent_jobs=1))
        await submit(store, BERT, 4)
        first = await claim(store)
        assert first.job.tenant == ANNA
        assert await order(store, 3) == "bbb"
        await store.succeed(first.lease, success(10.0))
        assert (await standing(store, ANNA)).vtime == (await standing(store, BERT)).vtime == 30.0
        assert await order(store, 2) == "ab"
        assert await store.claim(ONE, ["a"], 15.0) is None
        await submit(store, ANNA, 1)
        assert await order(store, 1) == "a", "a tier without a cap lifts it at once"

    play(scenario)


@pytest.mark.parametrize(("how", "cost", "vtime"), [("succeeded", 25.0, 25.0), ("failed", 4.0, 4.0)])
def test_the_charge_is_settled_at_the_end(play: Play, how: str, cost: float, vtime: float) -> None:
    async def scenario(store: Store) -> None:
        await submit(store, ANNA, 2)
        held = await claim(store)
        assert (await standing(store, ANNA)).vtime == 10.0
        if how == "succeeded":
            await store.succeed(held.lease, success(cost))
        else:
            await store.fail(held.lease, OOPS, retry_in=None, cost=cost)
        assert (await standing(store, ANNA)).vtime == vtime
        job = await store.get(ANNA, held.job.id)
        assert (job.state, job.charged) == (how, cost)
        assert await store.usage(ANNA) == Usage(1, cost)

    play(scenario)


@pytest.mark.parametrize("loss", ["handed back", "worker died", "lease expired", "retried"])
def test_lost_work_is_charged_once(play: Play, clock: ManualClock, loss: str) -> None:
    async def scenario(store: Store) -> None:
        await submit(store, ANNA, 2)
        await submit(store, BERT, 2)
        held = await claim(store)
        if loss == "handed back":
            await store.hand_back(held.lease)
        elif loss == "worker died":
            await store.release(ONE)
        elif loss == "retried":
            await store.fail(held.lease, OOPS, retry_in=1.0)
        else:
            clock.advance(15.0)
            await store.recover()
        assert (await standing(store, ANNA)).vtime == 0.0, "what was not served is refunded"
        clock.advance(1.0)
        await store.recover()
        again = await claim(store)
        assert again.job.id == held.job.id
        assert again.job.created_at == held.job.created_at
        await store.succeed(again.lease, success(10.0))
        assert (await standing(store, ANNA)).vtime == 10.0
        assert await store.usage(ANNA) == Usage(1, 10.0)

    play(scenario)


def test_what_cannot_be_refunded_makes_the_next_run_cheaper(play: Play) -> None:
    async def scenario(store: Store) -> None:
        await submit(store, ANNA, 2)
        await submit(store, BERT, 3)
        held = await claim(store)
        assert await order(store, 1) == "b"
        await store.hand_back(held.lease)
        assert (await standing(store, ANNA)).vtime == 10.0, "nobody falls behind the others by a refund"
        again = await claim(store)
        assert again.job.id == held.job.id
        assert (await standing(store, ANNA)).vtime == 10.0, "it is paid for"

    play(scenario)


def test_what_ends_without_having_run_costs_nothing(play: Play, clock: ManualClock) -> None:
    async def scenario(store: Store) -> None:
        waiting, late, scheduled = new_job(ANNA), new_job(ANNA, deadline_seconds=5.0), new_job(ANNA, priority=9)
        for job in (waiting, late, scheduled):
            await store.submit(job)
        await store.fail((await claim(store)).lease, OOPS, retry_in=60.0)
        clock.advance(6.0)
        await store.cancel(ANNA, waiting.id)
        await store.cancel(ANNA, scheduled.id)
        await store.recover()
        ended = [await store.get(ANNA, job.id) for job in (waiting, late, scheduled)]
        assert [(job.state, job.charged) for job in ended] == [("canceled", 0.0), ("expired", 0.0), ("canceled", 0.0)]
        assert await store.usage(ANNA) == Usage(3, 0.0)
        assert (await store.queue()).tenants == ()

    play(scenario)


def test_withdrawn_work_is_charged_for_what_was_done(play: Play) -> None:
    async def scenario(store: Store) -> None:
        await submit(store, ANNA, 2)
        held = await claim(store)
        await store.cancel(ANNA, held.job.id)
        assert await store.usage(ANNA) == Usage(0, 0.0)
        assert await store.stop(held.lease, "cancel", cost=2.5)
        assert not await store.stop(held.lease, "cancel", cost=2.5)
        assert await store.usage(ANNA) == Usage(1, 2.5)
        assert (await standing(store, ANNA)).vtime == 2.5

    play(scenario)


def test_a_tenant_may_have_so_many_jobs_waiting_and_no_more(play: Play) -> None:
    async def scenario(store: Store) -> None:
        tier = Tier(name="small", queued_jobs=2)
        await submit(store, ANNA, 2, tier=tier)
        refused = new_job(ANNA, tier=tier)
        with pytest.raises(QueueFull, match='tier "small" grants 2') as told:
            await store.submit(refused)
        assert told.value.retry_after
        await submit(store, BERT, 1, tier=tier)
        await submit(store, ANNA, 1, tier=tier, pool="gpu")
        await claim(store)
        assert (await store.submit(refused)).job.id == refused.id, "nothing of the refused one was kept"

    play(scenario)


def test_a_job_in_back_off_counts_as_waiting(play: Play) -> None:
    async def scenario(store: Store) -> None:
        tier = Tier(name="small", queued_jobs=1)
        await submit(store, ANNA, 1, tier=tier)
        await store.fail((await claim(store)).lease, OOPS, retry_in=60.0)
        with pytest.raises(QueueFull, match="1 of your jobs wait"):
            await submit(store, ANNA, 1, tier=tier)

    play(scenario)


def test_tenants_without_work_are_forgotten_after_a_day(play: Play, clock: ManualClock) -> None:
    async def scenario(store: Store) -> None:
        await submit(store, ANNA, 2)
        await store.succeed((await claim(store)).lease, success(10.0))
        await store.succeed((await claim(store)).lease, success(10.0))
        clock.advance(90_000.0)
        await store.recover()
        await submit(store, ANNA, 1)
        assert (await standing(store, ANNA)).vtime == 10.0, "level with the clock, not where it was"

    play(scenario)


def test_a_tenant_may_have_so_much_work_waiting_and_no_more(play: Play) -> None:
    async def scenario(store: Store) -> None:
        tier = Tier(name="small", queued_cost=25.0)
        await submit(store, BERT, 1, tier=tier, cost=100.0)
        await submit(store, ANNA, 2, tier=tier)
        with pytest.raises(QueueFull, match="30 s of your work would wait"):
            await submit(store, ANNA, 1, tier=tier)
        await submit(store, ANNA, 1, tier=tier, cost=5.0)

    play(scenario)


def test_racing_submissions_do_not_pass_the_bound(play: Play) -> None:
    async def scenario(store: Store) -> None:
        jobs = [new_job(ANNA, tier=Tier(queued_jobs=5)) for _ in range(12)]
        told = await asyncio.gather(*(store.submit(job) for job in jobs), return_exceptions=True)
        assert sum(isinstance(answer, QueueFull) for answer in told) == 7
        assert (await standing(store, ANNA)).queued == 5

    play(scenario)


def test_running_work_can_be_made_to_give_way_twice(play: Play) -> None:
    async def scenario(store: Store) -> None:
        await submit(store, ANNA, 1, tier=Tier(preemptible=True))
        for round_ in range(MOST_PREEMPTIONS):
            held = await claim(store)
            assert (await store.look([held.lease])) == [Verdict(held.lease, "keep")]
            assert await store.preempt(held.lease)
            assert not await store.preempt(held.lease), "it is told already"
            assert (await store.heartbeat(ONE, [held.lease], 15.0)) == [Verdict(held.lease, "preempt")]
            assert await store.hand_back(held.lease, preempted=True)
            job = await store.get(ANNA, held.job.id)
            assert (job.state, job.attempt, job.preemptions) == ("queued", 0, round_ + 1)
        held = await claim(store)
        assert not await store.preempt(held.lease)
        outcomes = [attempt.outcome for attempt in await store.attempts(held.job.id)]
        assert outcomes == ["preempted", "preempted", None]

    play(scenario)


def test_whose_work_gave_way_goes_behind_and_has_paid_for_it(play: Play) -> None:
    async def scenario(store: Store) -> None:
        await submit(store, ANNA, 2, tier=Tier(preemptible=True), cost=50.0)
        held = await claim(store)
        await submit(store, BERT, 3)
        assert (await standing(store, ANNA)).vtime == (await standing(store, BERT)).vtime == 50.0
        await store.preempt(held.lease)
        await store.hand_back(held.lease, preempted=True)
        assert (await standing(store, ANNA)).vtime == pytest.approx(70.1), "Δ of 20 and the least cost behind"
        assert await order(store, 3, "a") == "bbb"
        again = await claim(store)
        assert again.job.id == held.job.id
        assert (await standing(store, ANNA)).vtime == pytest.approx(70.1), "50 of it were paid, and 20.1 on top"
        await store.succeed(again.lease, success(50.0))
        assert (await standing(store, ANNA)).vtime == pytest.approx(50.0), "in the end it paid what the job did cost"

    play(scenario)


def test_only_preemptible_work_that_runs_gives_way(play: Play) -> None:
    async def scenario(store: Store) -> None:
        await submit(store, ANNA, 1)
        held = await claim(store)
        assert not await store.preempt(held.lease)
        await submit(store, BERT, 1, priority=-1)
        batch = await claim(store)
        assert not await store.preempt(Lease(batch.job.id, 9))
        await store.cancel(BERT, batch.job.id)
        assert not await store.preempt(batch.lease)

    play(scenario)


def test_the_queue_tells_every_tenants_standing(play: Play, clock: ManualClock) -> None:
    async def scenario(store: Store) -> None:
        pro = Tier(name="pro", weight=16.0, concurrent_jobs=3, preemptible=True)
        began = clock.now()
        await submit(store, BERT, 1, model="b")
        clock.advance(3.0)
        await submit(store, ANNA, 2, tier=pro)
        held = await claim(store)
        await store.report(held.lease, Progress(value=0.25))
        view = await store.queue()
        assert view.at == clock.now()
        anna, bert = view.tenants
        assert (anna.tenant, anna.tier, anna.weight, anna.max_running) == (ANNA, "pro", 16.0, 3)
        assert (anna.queued, anna.queued_cost, anna.running, anna.vtime) == (1, 10.0, 1, 10.0 / 16)
        assert (bert.queued, bert.running, bert.delayed, bert.oldest_at, bert.since) == (1, 0, 0, began, began)
        assert view.lanes == (LaneStanding("default", ANNA, "a", 1), LaneStanding("default", BERT, "b", 1))
        (running,) = view.running
        assert (running.lease, running.tenant, running.tier, running.model) == (held.lease, ANNA, "pro", "a")
        assert (running.cost, running.claimed_at, running.progress) == (10.0, clock.now(), 0.25)
        assert (running.preemptible, running.preempting, running.preemptions, running.worker) == (True, False, 0, ONE)

    play(scenario)


def test_all_leases_can_be_prolonged_after_an_outage(play: Play, clock: ManualClock) -> None:
    async def scenario(store: Store) -> None:
        await submit(store, ANNA, 2)
        held = await claim(store)
        clock.advance(60.0)
        assert [await store.prolong(15.0) for _ in range(3)] == [1, 0, 0], "several gateways saw the same outage"
        assert (await store.recover()).total == 0
        clock.advance(14.0)
        assert await store.succeed(held.lease, success(1.0))

    play(scenario)


def test_usage_counts_from_a_moment_on(play: Play, clock: ManualClock) -> None:
    async def scenario(store: Store) -> None:
        await submit(store, ANNA, 2)
        await store.succeed((await claim(store)).lease, success(4.0))
        clock.advance(10.0)
        await store.succeed((await claim(store)).lease, success(8.0))
        assert await store.usage(ANNA) == Usage(2, 12.0)
        assert await store.usage(ANNA, since=clock.now()) == Usage(1, 8.0)
        assert await store.usage(BERT) == Usage(0, 0.0)

    play(scenario)


def test_estimates_learn_from_what_jobs_did_cost(play: Play) -> None:
    async def scenario(store: Store) -> None:
        await submit(store, ANNA, 2, base_cost=5.0)
        assert await store.calibrations() == {}
        await store.succeed((await claim(store)).lease, success(10.0))
        assert await store.calibrations() == {("a", "upscale"): pytest.approx(1.1)}
        await store.succeed((await claim(store)).lease, success(10_000.0))
        assert await store.calibrations() == {("a", "upscale"): 4.0}, "within bounds"

    play(scenario)
