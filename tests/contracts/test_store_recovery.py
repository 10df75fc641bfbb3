"""What every store does when attempts fail, workers fall silent and deadlines pass."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sluicegate.domain.ids import JobId, Tenant, WorkerId, new_job_id
from sluicegate.domain.job import TERMINAL, Claim, Job, JobError, Lease, NewJob, Progress, Recovery, Verdict
from sluicegate.errors import Conflict
from sluicegate.storage.contracts import Store, Success
from sluicegate.testing import ManualClock

Play = Callable[[Callable[[Store], Awaitable[None]]], None]
ANNA = Tenant("anna")
ONE, TWO = WorkerId("worker_one"), WorkerId("worker_two")
OOPS = JobError(code="backend_failed", message="it broke", details={"line": 3})
DONE = Success(outputs=(), backend="local", execution_seconds=1.0)
LEASE = 15.0


async def submitted(store: Store, **changes: Any) -> JobId:
    fields: dict[str, Any] = {"tenant": ANNA, "model": "m", "task": "upscale", "input": {}, **changes}
    return (await store.submit(NewJob(id=new_job_id(), **fields))).job.id


async def claimed(store: Store, worker: WorkerId = ONE) -> Claim:
    claim = await store.claim(worker, ["m"], LEASE)
    assert claim is not None
    return claim


async def started(store: Store, **changes: Any) -> Lease:
    await submitted(store, **changes)
    return (await claimed(store)).lease


async def outcomes(store: Store, job: JobId) -> list[tuple[int, str | None]]:
    return [(attempt.number, attempt.outcome) for attempt in await store.attempts(job)]


async def told(store: Store, job: JobId) -> list[tuple[str, str | None]]:
    events = await store.events(job, 0)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    return [(event.kind.removeprefix("job."), event.data.get("reason")) for event in events]


async def job_of(store: Store, job: JobId) -> Job:
    return await store.get(ANNA, job)


def test_a_failed_attempt_is_tried_again_after_its_back_off(play: Play, clock: ManualClock) -> None:
    async def scenario(store: Store) -> None:
        lease = await started(store, max_attempts=2)
        await store.report(lease, Progress(value=0.4))
        assert await store.fail(lease, OOPS, retry_in=10.0)
        job = await job_of(store, lease.job)
        assert (job.state, job.attempt, job.worker, job.error) == ("scheduled", 1, None, None)
        assert (job.progress, job.jobs_ahead) == (None, None)
        retrying = (await store.events(lease.job, 2))[0]
        assert (retrying.kind, retrying.data["status"]) == ("job.retrying", "queued")
        assert retrying.data["error"] == {"code": "backend_failed", "message": "it broke", "details": {"line": 3}}
        assert retrying.data["retry_at"] == clock.now() + 10
        clock.advance(9.0)
        assert await store.recover() == Recovery()
        assert await store.claim(TWO, ["m"], LEASE) is None
        clock.advance(1.0)
        assert await store.recover() == Recovery(promoted=1)
        again = await claimed(store, TWO)
        assert (again.lease, again.job.attempt) == (Lease(lease.job, 2), 2)
        assert await store.fail(again.lease, OOPS, retry_in=10.0)
        job = await job_of(store, lease.job)
        assert (job.state, job.error, job.completed_at) == ("failed", OOPS, clock.now())
        assert await outcomes(store, lease.job) == [(1, "retried"), (2, "failed")]
        assert [attempt.error for attempt in await store.attempts(lease.job)] == [OOPS, OOPS]
        assert await told(store, lease.job) == [
            ("queued", None),
            ("running", None),
            ("retrying", "failed"),
            ("queued", "retry_due"),
            ("running", None),
            ("failed", None),
        ]

    play(scenario)


def test_a_failure_that_cannot_be_mended_ends_the_job(play: Play) -> None:
    async def scenario(store: Store) -> None:
        lease = await started(store)
        assert await store.fail(lease, OOPS, retry_in=None)
        assert (await job_of(store, lease.job)).error == OOPS
        assert await outcomes(store, lease.job) == [(1, "failed")]

    play(scenario)


def test_a_handed_back_attempt_does_not_count(play: Play) -> None:
    async def scenario(store: Store) -> None:
        lease = await started(store, max_attempts=1)
        first = lease
        for round_ in range(3):
            assert await store.hand_back(lease)
            job = await job_of(store, lease.job)
            assert (job.state, job.attempt, job.worker, job.jobs_ahead) == ("queued", 0, None, 0)
            claim = await claimed(store, TWO)
            assert (claim.job.attempt, claim.lease.fence) == (1, round_ + 2)
            lease = claim.lease
        assert await store.succeed(lease, DONE)
        assert await outcomes(store, lease.job) == [(1, "handed_back")] * 3 + [(1, "succeeded")]
        assert (await told(store, lease.job))[2] == ("queued", "handed_back")
        assert not await store.hand_back(first)

    play(scenario)


def test_a_silent_workers_job_returns_to_the_queue_when_its_lease_ends(play: Play, clock: ManualClock) -> None:
    async def scenario(store: Store) -> None:
        lease = await started(store)
        clock.advance(14.9)
        assert await store.recover() == Recovery()
        clock.advance(0.1)
        assert await store.recover() == Recovery(requeued=1)
        assert await store.recover() == Recovery()
        again = await claimed(store, TWO)
        assert again.lease == Lease(lease.job, 2)
        assert not await store.succeed(lease, DONE)
        assert await store.succeed(again.lease, DONE)
        assert await outcomes(store, lease.job) == [(1, "lease_expired"), (2, "succeeded")]
        assert (await told(store, lease.job))[2] == ("retrying", "lease_expired")

    play(scenario)


def test_a_heartbeat_prolongs_the_lease(play: Play, clock: ManualClock) -> None:
    async def scenario(store: Store) -> None:
        lease = await started(store)
        for _ in range(5):
            clock.advance(10.0)
            assert list(await store.look([lease])) == [Verdict(lease, "keep")]
            assert list(await store.heartbeat(ONE, [lease], LEASE)) == [Verdict(lease, "keep")]
            assert await store.recover() == Recovery()
        clock.advance(LEASE)
        assert await store.recover() == Recovery(requeued=1)
        again = (await claimed(store)).lease
        verdicts = [Verdict(lease, "lost"), Verdict(again, "keep")]
        assert list(await store.heartbeat(ONE, [lease, again], LEASE)) == verdicts
        assert list(await store.look([lease, again])) == verdicts

    play(scenario)


def test_a_lease_is_prolonged_by_its_holder_alone(play: Play, clock: ManualClock) -> None:
    async def scenario(store: Store) -> None:
        lease = await started(store)
        clock.advance(10.0)
        assert list(await store.heartbeat(TWO, [lease], LEASE)) == [Verdict(lease, "lost")]
        clock.advance(5.0)
        assert await store.recover() == Recovery(requeued=1)

    play(scenario)


def test_a_job_whose_attempts_are_used_up_fails_with_its_whole_history(play: Play, clock: ManualClock) -> None:
    async def scenario(store: Store) -> None:
        lease = await started(store, max_attempts=3)
        await store.fail(lease, OOPS, retry_in=0.0)
        assert await store.recover() == Recovery(promoted=1)
        await claimed(store)
        assert await store.release(ONE) == Recovery(requeued=1)
        await claimed(store, TWO)
        clock.advance(LEASE)
        assert await store.recover() == Recovery(failed=1)
        error = (await job_of(store, lease.job)).error
        assert error is not None
        assert error.code == "attempts_exhausted"
        history = [(said["number"], said["worker"], said["outcome"]) for said in error.details["attempts"]]
        assert history == [(1, ONE, "retried"), (2, ONE, "worker_died"), (3, TWO, "lease_expired")]
        assert error.details["attempts"][0]["error"]["message"] == "it broke"
        assert error.details["attempts"][2]["ended_at"] == clock.now()
        assert (await store.events(lease.job, 0))[-1].data["error"]["code"] == "attempts_exhausted"

    play(scenario)


def test_a_dead_workers_jobs_return_at_once_and_others_stay(play: Play) -> None:
    async def scenario(store: Store) -> None:
        leases = [await started(store, max_attempts=attempts) for attempts in (3, 1, 3)]
        other = await started(store)
        await store.hand_back(other)
        other = (await claimed(store, TWO)).lease
        await store.cancel(ANNA, leases[2].job)
        assert await store.release(ONE) == Recovery(requeued=1, failed=1, canceled=1)
        assert await store.release(ONE) == Recovery()
        states = [(await job_of(store, lease.job)).state for lease in [*leases, other]]
        assert states == ["queued", "failed", "canceled", "running"]
        assert await outcomes(store, leases[0].job) == [(1, "worker_died")]
        assert (await told(store, leases[0].job))[-1] == ("retrying", "worker_died")

    play(scenario)


def test_a_withdrawn_job_of_a_silent_worker_ends_as_canceled(play: Play, clock: ManualClock) -> None:
    async def scenario(store: Store) -> None:
        lease = await started(store)
        await store.cancel(ANNA, lease.job)
        clock.advance(LEASE)
        assert await store.recover() == Recovery(canceled=1)
        assert await outcomes(store, lease.job) == [(1, "canceled")]

    play(scenario)


def test_a_waiting_job_past_its_deadline_expires(play: Play, clock: ManualClock) -> None:
    async def scenario(store: Store) -> None:
        retried = await started(store, deadline_seconds=30.0)
        await store.fail(retried, OOPS, retry_in=20.0)
        queued = await submitted(store, deadline_seconds=30.0)
        clock.advance(29.0)
        assert await store.recover() == Recovery(promoted=1)
        await store.fail((await claimed(store)).lease, OOPS, retry_in=1.0)
        clock.advance(1.0)
        assert await store.recover() == Recovery(expired=2)
        for job in [await job_of(store, retried.job), await job_of(store, queued)]:
            assert (job.state, job.completed_at) == ("expired", clock.now())
            assert job.error is not None
            assert job.error.code == "deadline_exceeded"

    play(scenario)


def test_a_claim_expires_late_jobs_instead_of_running_them(play: Play, clock: ManualClock) -> None:
    async def scenario(store: Store) -> None:
        late = [await submitted(store, deadline_seconds=5.0, priority=1) for _ in range(250)]
        good = await submitted(store, deadline_seconds=6.0)
        clock.advance(5.0)
        assert (await claimed(store)).job.id == good
        assert {(await job_of(store, job)).state for job in late} == {"expired"}
        assert await told(store, late[0]) == [("queued", None), ("expired", None)]
        assert await outcomes(store, late[0]) == []

    play(scenario)


def test_a_running_job_past_its_deadline_is_told_to_stop(play: Play, clock: ManualClock) -> None:
    async def scenario(store: Store) -> None:
        lease = await started(store, deadline_seconds=20.0)
        clock.advance(10.0)
        assert list(await store.heartbeat(ONE, [lease], LEASE)) == [Verdict(lease, "keep")]
        clock.advance(10.0)
        assert list(await store.look([lease])) == [Verdict(lease, "expire")]
        assert list(await store.heartbeat(ONE, [lease], LEASE)) == [Verdict(lease, "expire")]
        assert await store.recover() == Recovery()
        assert await store.stop(lease, "expire")
        assert (await job_of(store, lease.job)).state == "expired"
        assert await outcomes(store, lease.job) == [(1, "expired")]

    play(scenario)


@pytest.mark.parametrize("deadline", [1800.0, None])
def test_work_that_is_in_time_cannot_be_stopped_as_expired(
    play: Play, clock: ManualClock, deadline: float | None
) -> None:
    async def scenario(store: Store) -> None:
        lease = await started(store, deadline_seconds=deadline)
        clock.advance(1799.0)
        await store.heartbeat(ONE, [lease], LEASE)
        before = await job_of(store, lease.job), await told(store, lease.job)
        with pytest.raises(Conflict, match=f"{lease.job}.*its deadline has not passed"):
            await store.stop(lease, "expire", cost=1.0)
        assert (await job_of(store, lease.job), await told(store, lease.job)) == before
        assert await outcomes(store, lease.job) == [(1, None)]
        clock.advance(1.0)
        if deadline is None:
            assert await store.hand_back(lease)
        else:
            assert await store.stop(lease, "expire", cost=1.0)
            assert (await job_of(store, lease.job)).charged == 1.0

    play(scenario)


def test_a_silent_workers_job_past_its_deadline_expires(play: Play, clock: ManualClock) -> None:
    async def scenario(store: Store) -> None:
        lease = await started(store, deadline_seconds=10.0)
        clock.advance(LEASE)
        assert await store.recover() == Recovery(expired=1)
        assert await outcomes(store, lease.job) == [(1, "lease_expired")]

    play(scenario)


def test_work_that_ends_just_past_its_deadline_still_succeeds(play: Play, clock: ManualClock) -> None:
    async def scenario(store: Store) -> None:
        lease = await started(store, deadline_seconds=10.0)
        clock.advance(11.0)
        assert await store.succeed(lease, DONE)
        assert (await job_of(store, lease.job)).state == "succeeded"

    play(scenario)


def test_one_round_recovers_any_number_of_jobs(play: Play, clock: ManualClock) -> None:
    async def scenario(store: Store) -> None:
        for _ in range(450):
            await submitted(store)
        for _ in range(450):
            await claimed(store)
        clock.advance(LEASE)
        assert await store.recover() == Recovery(requeued=450)
        for _ in range(450):
            await claimed(store)
        assert await store.release(ONE) == Recovery(requeued=450)

    play(scenario)


async def _end(store: Store, clock: ManualClock, lease: Lease, how: str) -> None:
    """End the attempt so; the job has a deadline of 10 s."""
    if how == "canceled":
        await store.cancel(ANNA, lease.job)
        await store.stop(lease, "cancel")
    elif how == "expired":
        clock.advance(10.0)
        await store.stop(lease, "expire")
    elif how == "succeeded":
        await store.succeed(lease, DONE)
    elif how == "failed":
        await store.fail(lease, OOPS, retry_in=None)
    elif how == "scheduled":
        await store.fail(lease, OOPS, retry_in=60.0)
    else:
        await store.hand_back(lease)
        if how == "running":
            await claimed(store, TWO)
        if how == "canceling":
            await claimed(store, TWO)
            await store.cancel(ANNA, lease.job)


@pytest.mark.parametrize("state", ["queued", "scheduled", "running", "canceling", *sorted(TERMINAL)])
def test_a_stale_lease_writes_nothing_whatever_the_job_has_become(play: Play, clock: ManualClock, state: str) -> None:
    async def scenario(store: Store) -> None:
        lease = await started(store, deadline_seconds=10.0)
        await _end(store, clock, lease, state)
        before = await job_of(store, lease.job), await store.events(lease.job, 0), await store.attempts(lease.job)
        assert before[0].state == state
        await store.report(lease, Progress(value=0.9))
        assert not await store.succeed(lease, DONE)
        assert not await store.fail(lease, OOPS, retry_in=1.0)
        assert not await store.fail(lease, OOPS, retry_in=None)
        assert not await store.stop(lease, "cancel")
        assert not await store.stop(lease, "expire")
        assert not await store.hand_back(lease)
        lost = [Verdict(lease, "lost")]
        assert list(await store.heartbeat(ONE, [lease], LEASE)) == lost
        assert list(await store.look([lease])) == lost
        after = await job_of(store, lease.job), await store.events(lease.job, 0), await store.attempts(lease.job)
        assert after == before

    play(scenario)


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_an_ended_job_stays_as_it_is(play: Play, clock: ManualClock, state: str) -> None:
    async def scenario(store: Store) -> None:
        lease = await started(store, deadline_seconds=10.0)
        await _end(store, clock, lease, state)
        job, events = await job_of(store, lease.job), await store.events(lease.job, 0)
        clock.advance(100.0)
        assert await store.recover() == Recovery()
        assert await store.release(ONE) == Recovery()
        assert await store.claim(TWO, ["m"], LEASE) is None
        assert await store.cancel(ANNA, lease.job) == job
        assert await store.events(lease.job, 0) == events

    play(scenario)
