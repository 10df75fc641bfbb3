"""What every store does with jobs that go well or are withdrawn. See test_store_*.py for the rest."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sluicegate.domain.asset import Asset
from sluicegate.domain.event import TERMINAL_EVENTS
from sluicegate.domain.fairness import Tier
from sluicegate.domain.ids import JobId, Tenant, WorkerId, new_asset_id, new_job_id
from sluicegate.domain.job import Claim, Idempotency, JobError, Lease, NewJob, Preview, Progress, Verdict
from sluicegate.errors import Conflict, IdempotencyMismatch, UnknownAsset, UnknownJob
from sluicegate.storage.contracts import JobQuery, QueueCount, Store, Success
from sluicegate.testing import ManualClock

Play = Callable[[Callable[[Store], Awaitable[None]]], None]
ANNA, BERT = Tenant("anna"), Tenant("bert")
ONE, TWO = WorkerId("worker_one"), WorkerId("worker_two")
OOPS = JobError(code="backend_failed", message="it broke", details={"line": 3})


def new_job(**changes: Any) -> NewJob:
    fields: dict[str, Any] = {
        "id": new_job_id(),
        "tenant": ANNA,
        "model": "sprout",
        "task": "text-to-image",
        "input": {"prompt": "a red apple 🍎"},
    }
    return NewJob(**{**fields, **changes})


def picture(tenant: Tenant = ANNA, digest: str = "ab" * 32) -> Asset:
    return Asset(
        id=new_asset_id(),
        tenant=tenant,
        content_type="image/png",
        size_bytes=10,
        width=4,
        height=5,
        sha256=digest,
        created_at=1.5,
    )


def success(*outputs: Asset) -> Success:
    return Success(outputs=outputs, backend="local", execution_seconds=1.25, degraded=("prompt unused",))


async def claimed(store: Store, worker: WorkerId = ONE, model: str = "sprout") -> Claim:
    claim = await store.claim(worker, [model], 15.0)
    assert claim is not None
    return claim


async def kinds(store: Store, job: JobId) -> list[str]:
    events = await store.events(job, 0)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert sum(event.kind in TERMINAL_EVENTS for event in events) <= 1
    return [event.kind for event in events]


def test_a_submitted_job_is_queued_with_all_that_was_said(play: Play, clock: ManualClock) -> None:
    async def scenario(store: Store) -> None:
        new = new_job(priority=3, deadline_seconds=60.0, max_attempts=2, metadata={"order": [1, {"é": None}]})
        submission = await store.submit(new)
        job = submission.job
        assert not submission.replayed
        assert (job.id, job.tenant, job.state, job.jobs_ahead) == (new.id, ANNA, "queued", 0)
        assert (job.input, job.metadata, job.priority) == (new.input, new.metadata, 3)
        assert (job.created_at, job.deadline_at) == (clock.now(), clock.now() + 60)
        assert (job.attempt, job.max_attempts, job.fence) == (0, 2, 0)
        assert (job.started_at, job.worker, job.error, job.outputs, job.progress) == (None, None, None, (), None)
        assert await store.get(ANNA, new.id) == job
        assert await kinds(store, new.id) == ["job.queued"]

    play(scenario)


def test_another_tenants_job_is_unknown(play: Play) -> None:
    async def scenario(store: Store) -> None:
        new = new_job()
        await store.submit(new)
        with pytest.raises(UnknownJob):
            await store.get(BERT, new.id)
        with pytest.raises(UnknownJob):
            await store.cancel(BERT, new.id)
        with pytest.raises(UnknownJob):
            await store.get(ANNA, new_job_id())
        assert (await store.get(ANNA, new.id)).state == "queued"

    play(scenario)


def test_a_job_id_is_used_once(play: Play) -> None:
    async def scenario(store: Store) -> None:
        new = new_job()
        await store.submit(new)
        with pytest.raises(Conflict, match=new.id):
            await store.submit(new)
        assert await kinds(store, new.id) == ["job.queued"]

    play(scenario)


def test_the_same_key_and_body_replay_the_first_job(play: Play, clock: ManualClock) -> None:
    async def scenario(store: Store) -> None:
        first = await store.submit(new_job(), Idempotency("k", "body"))
        await claimed(store)
        again = await store.submit(new_job(), Idempotency("k", "body"))
        assert again.replayed
        assert (again.job.id, again.job.state) == (first.job.id, "running")
        with pytest.raises(IdempotencyMismatch, match="k"):
            await store.submit(new_job(), Idempotency("k", "other body"))
        other = await store.submit(new_job(tenant=BERT), Idempotency("k", "other body"))
        assert not other.replayed
        assert len(await store.list(ANNA, JobQuery())) == 1

    play(scenario)


def test_previews_are_events_of_a_job_that_is_held_and_details_stay_with_it(play: Play) -> None:
    async def scenario(store: Store) -> None:
        await store.submit(new_job())
        claim = await claimed(store)
        shown = Preview(index=0, step=4, steps=20, image="data:image/webp;base64,AAAA")
        assert await store.preview(claim.lease, shown)
        assert not await store.preview(Lease(claim.job.id, claim.lease.fence + 1), shown)
        details = {"unknown_words": ["zorgle"], "recipe": {"seeds": [7]}}
        assert await store.succeed(
            claim.lease, Success(outputs=(), backend="b", execution_seconds=1.0, details=details)
        )
        assert not await store.preview(claim.lease, shown)
        events = await store.events(claim.job.id, 0)
        assert [event.kind for event in events] == ["job.queued", "job.running", "job.preview", "job.succeeded"]
        assert events[2].data["image"] == shown.image
        assert (await store.get(ANNA, claim.job.id)).details == details

    play(scenario)


def test_a_replay_can_be_asked_for_before_anything_is_made(play: Play) -> None:
    async def scenario(store: Store) -> None:
        key = Idempotency("k", "digest")
        assert await store.replay(ANNA, key) is None
        job = (await store.submit(new_job(), key)).job
        assert await store.replay(ANNA, key) == job
        assert await store.replay(BERT, key) is None
        with pytest.raises(IdempotencyMismatch):
            await store.replay(ANNA, Idempotency("k", "another"))

    play(scenario)


def test_a_job_for_a_picture_that_its_tenant_does_not_have_is_not_stored(play: Play) -> None:
    async def scenario(store: Store) -> None:
        theirs = picture(BERT)
        await store.add_asset(theirs)
        for asset in (theirs.id, new_asset_id()):
            with pytest.raises(UnknownAsset):
                await store.submit(new_job(input={"image": asset}))
        assert not await store.list(ANNA, JobQuery())

    play(scenario)


@pytest.mark.parametrize("caretaker", [False, True])
def test_a_key_is_forgotten_after_24_hours(play: Play, clock: ManualClock, caretaker: bool) -> None:
    async def scenario(store: Store) -> None:
        first = await store.submit(new_job(), Idempotency("k", "body"))
        clock.advance(86_399.0)
        assert (await store.submit(new_job(), Idempotency("k", "body"))).job.id == first.job.id
        clock.advance(1.0)
        if caretaker:
            await store.recover()
        second = await store.submit(new_job(), Idempotency("k", "other body"))
        assert not second.replayed
        assert (await store.submit(new_job(), Idempotency("k", "other body"))).job.id == second.job.id

    play(scenario)


def test_racing_duplicates_make_one_job(play: Play) -> None:
    async def scenario(store: Store) -> None:
        answers = await asyncio.gather(*(store.submit(new_job(), Idempotency("k", "body")) for _ in range(20)))
        assert len({answer.job.id for answer in answers}) == 1
        assert sum(not answer.replayed for answer in answers) == 1
        assert len(await store.list(ANNA, JobQuery())) == 1

    play(scenario)


def test_a_job_that_cannot_be_stored_does_not_disturb_those_of_the_same_moment(play: Play) -> None:
    async def scenario(store: Store) -> None:
        taken = new_job()
        await store.submit(taken)
        jobs = [new_job() for _ in range(30)]
        answers = await asyncio.gather(
            *(store.submit(job) for job in [*jobs[:15], taken, *jobs[15:]]), return_exceptions=True
        )
        assert [type(answer) for answer in answers if isinstance(answer, Exception)] == [Conflict]
        assert {job.id for job in await store.list(ANNA, JobQuery(limit=99))} == {taken.id, *(job.id for job in jobs)}
        assert [await kinds(store, job.id) for job in jobs] == [["job.queued"]] * 30

    play(scenario)


def test_a_caller_that_is_cancelled_disturbs_nobody(play: Play) -> None:
    async def scenario(store: Store) -> None:
        jobs = [new_job() for _ in range(40)]
        calls = [asyncio.ensure_future(store.submit(job)) for job in jobs]
        await asyncio.sleep(0)
        for call in calls[::2]:
            call.cancel()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert all(not isinstance(answer, BaseException) for answer in answers[1::2])
        for job in jobs[1::2]:
            assert await kinds(store, job.id) == ["job.queued"]

    play(scenario)


def test_a_claim_whose_caller_is_cancelled_leaves_the_job_in_the_queue(play: Play) -> None:
    async def scenario(store: Store) -> None:
        new = new_job()
        await store.submit(new)
        call = asyncio.ensure_future(store.claim(ONE, ["sprout"], 15.0))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        job = await store.get(ANNA, new.id)
        assert (job.state, job.attempt, job.worker) == ("queued", 0, None)

    play(scenario)


def test_claims_follow_priority_then_age_over_all_models_asked_for(play: Play) -> None:
    async def scenario(store: Store) -> None:
        rows = [("a", 0), ("b", 5), ("a", 5), ("c", 9), ("b", 7), ("a", -1), ("b", 0), ("b", 5)]
        jobs = [new_job(model=model, priority=priority) for model, priority in rows]
        for job in jobs:
            await store.submit(job)
        order = [await store.claim(ONE, ["a", "b", "none"], 15.0) for _ in range(8)]
        expected = [jobs[at].id for at in (4, 1, 2, 7, 0, 6, 5)]
        assert [claim and claim.job.id for claim in order] == [*expected, None]
        assert (await claimed(store, model="c")).job.id == jobs[3].id
        assert await store.claim(ONE, [], 15.0) is None

    play(scenario)


def test_a_claim_starts_an_attempt_under_a_new_fence(play: Play, clock: ManualClock) -> None:
    async def scenario(store: Store) -> None:
        await store.submit(new_job())
        clock.advance(2.0)
        claim = await claimed(store)
        job = claim.job
        assert (job.state, job.attempt, job.fence, job.worker) == ("running", 1, 1, ONE)
        assert (job.started_at, job.jobs_ahead, claim.lease) == (clock.now(), None, Lease(job.id, 1))
        assert job == await store.get(ANNA, job.id)
        (attempt,) = await store.attempts(job.id)
        assert (attempt.number, attempt.worker, attempt.started_at) == (1, ONE, clock.now())
        assert (attempt.ended_at, attempt.outcome) == (None, None)
        queued, running = await store.events(job.id, 0)
        assert (running.kind, running.at) == ("job.running", clock.now())
        assert running.data == {"status": "running", "attempt": 1, "worker": ONE}
        assert await store.events(job.id, 1) == [running]
        assert queued.data == {"status": "queued"}

    play(scenario)


def test_jobs_ahead_are_the_tenants_own_that_go_first(play: Play) -> None:
    async def scenario(store: Store) -> None:
        await store.submit(new_job(tenant=BERT, priority=9))
        await store.submit(new_job(pool="other", priority=9))
        jobs = [new_job(priority=p, model=m) for p, m in ((0, "a"), (1, "b"), (0, "b"), (2, "a"), (0, "a"))]
        told = [(await store.submit(job)).job.jobs_ahead for job in jobs]
        assert told == [0, 0, 2, 0, 4]
        assert [(await store.get(ANNA, job.id)).jobs_ahead for job in jobs] == [2, 1, 3, 0, 4]
        await store.claim(ONE, ["a", "b"], 15.0)
        assert [(await store.get(ANNA, job.id)).jobs_ahead for job in jobs] == [1, 0, 2, None, 3]

    play(scenario)


def test_jobs_ahead_are_counted_up_to_a_thousand(play: Play) -> None:
    async def scenario(store: Store) -> None:
        jobs = [new_job(tier=Tier(queued_jobs=None)) for _ in range(1_300)]
        await asyncio.gather(*(store.submit(job) for job in jobs))
        for at in (0, 1, 299, 343, 344, 345, 999, 1_000, 1_001, 1_299):
            assert (await store.get(ANNA, jobs[at].id)).jobs_ahead == min(at, 1_000)

    play(scenario)


def test_success_records_everything_once(play: Play, clock: ManualClock) -> None:
    async def scenario(store: Store) -> None:
        await store.submit(new_job())
        claim = await claimed(store)
        await store.report(claim.lease, Progress(value=0.5))
        clock.advance(3.0)
        asset = picture()
        assert await store.succeed(claim.lease, success(asset))
        assert not await store.succeed(claim.lease, success(picture()))
        job = await store.get(ANNA, claim.job.id)
        assert (job.state, job.completed_at, job.backend, job.execution_seconds) == (
            "succeeded",
            clock.now(),
            "local",
            1.25,
        )
        assert (job.degraded, job.progress, job.error, job.worker) == (("prompt unused",), None, None, ONE)
        (output,) = job.outputs
        assert (output.id, output.sha256, output.width, output.height) == (asset.id, asset.sha256, 4, 5)
        assert await store.asset(ANNA, asset.id) == asset
        assert [attempt.outcome for attempt in await store.attempts(job.id)] == ["succeeded"]
        assert await kinds(store, job.id) == ["job.queued", "job.running", "job.succeeded"]
        event = (await store.events(job.id, 2))[0]
        assert event.data["status"] == "succeeded"
        assert [said["id"] for said in event.data["outputs"]] == [asset.id]

    play(scenario)


def test_a_success_whose_asset_cannot_be_stored_changes_nothing(play: Play) -> None:
    async def scenario(store: Store) -> None:
        await store.submit(new_job())
        claim = await claimed(store)
        taken, fresh = picture(), picture()
        await store.add_asset(taken)
        with pytest.raises(Conflict, match=taken.id):
            await store.succeed(claim.lease, success(fresh, taken))
        assert (await store.get(ANNA, claim.job.id)).state == "running"
        assert await kinds(store, claim.job.id) == ["job.queued", "job.running"]
        assert await store.succeed(claim.lease, success(fresh))

    play(scenario)


def test_progress_is_the_latest_report_of_the_running_attempt(play: Play) -> None:
    async def scenario(store: Store) -> None:
        await store.submit(new_job())
        claim = await claimed(store)
        for step in (1, 2):
            await store.report(claim.lease, Progress(value=step / 4, step=step, steps=4, message="denoising"))
        job = await store.get(ANNA, claim.job.id)
        assert job.progress == Progress(value=0.5, step=2, steps=4, message="denoising")
        assert await store.hand_back(claim.lease)
        assert (await claimed(store)).job.progress is None
        await store.report(claim.lease, Progress(value=0.9))
        assert (await store.get(ANNA, job.id)).progress is None

    play(scenario)


def test_a_waiting_job_is_canceled_at_once(play: Play, clock: ManualClock) -> None:
    async def scenario(store: Store) -> None:
        new = new_job()
        await store.submit(new)
        clock.advance(1.0)
        job = await store.cancel(ANNA, new.id)
        assert (job.state, job.completed_at, job.jobs_ahead) == ("canceled", clock.now(), None)
        assert await store.cancel(ANNA, new.id) == job
        assert await store.claim(ONE, ["sprout"], 15.0) is None
        assert await kinds(store, new.id) == ["job.queued", "job.canceled"]

    play(scenario)


def test_a_job_in_back_off_is_canceled_at_once(play: Play, clock: ManualClock) -> None:
    async def scenario(store: Store) -> None:
        await store.submit(new_job())
        claim = await claimed(store)
        await store.fail(claim.lease, OOPS, retry_in=5.0)
        assert (await store.cancel(ANNA, claim.job.id)).state == "canceled"
        clock.advance(10.0)
        assert (await store.recover()).total == 0

    play(scenario)


Ending = Callable[[Store, Lease], Awaitable[bool]]
ENDINGS_OF_CANCELING: dict[str, tuple[Ending, str]] = {
    "stop cancel": (lambda store, lease: store.stop(lease, "cancel"), "canceled"),
    "stop expire": (lambda store, lease: store.stop(lease, "expire"), "canceled"),
    "fail": (lambda store, lease: store.fail(lease, OOPS, retry_in=1.0), "canceled"),
    "fail for good": (lambda store, lease: store.fail(lease, OOPS, retry_in=None), "canceled"),
    "hand back": (lambda store, lease: store.hand_back(lease), "canceled"),
    "succeed": (lambda store, lease: store.succeed(lease, success()), "succeeded"),
}


@pytest.mark.parametrize("ending", ENDINGS_OF_CANCELING)
def test_a_running_job_is_canceled_through_its_worker(play: Play, ending: str) -> None:
    end, state = ENDINGS_OF_CANCELING[ending]

    async def scenario(store: Store) -> None:
        await store.submit(new_job())
        claim = await claimed(store)
        assert (await store.cancel(ANNA, claim.job.id)).state == "canceling"
        assert (await store.cancel(ANNA, claim.job.id)).state == "canceling"
        told = [Verdict(claim.lease, "cancel")]
        assert list(await store.look([claim.lease])) == told
        assert list(await store.heartbeat(ONE, [claim.lease], 15.0)) == told
        assert await end(store, claim.lease)
        assert (await store.cancel(ANNA, claim.job.id)).state == state
        assert [attempt.outcome for attempt in await store.attempts(claim.job.id)] == [state]
        assert await kinds(store, claim.job.id) == ["job.queued", "job.running", "job.canceling", f"job.{state}"]

    play(scenario)


def test_work_that_nobody_withdrew_cannot_be_stopped_as_canceled(play: Play) -> None:
    async def scenario(store: Store) -> None:
        await store.submit(new_job())
        claim = await claimed(store)
        with pytest.raises(Conflict, match="running"):
            await store.stop(claim.lease, "cancel")
        assert await kinds(store, claim.job.id) == ["job.queued", "job.running"]
        assert [attempt.outcome for attempt in await store.attempts(claim.job.id)] == [None]

    play(scenario)


def test_counts_tell_the_jobs_that_have_not_ended(play: Play, clock: ManualClock) -> None:
    async def scenario(store: Store) -> None:
        for model, priority in (("a", 0), ("a", 1), ("a", 1), ("a", 2), ("b", 0), ("b", 0)):
            await store.submit(new_job(model=model, priority=priority))
        first, second, third = [await claimed(store, model="a") for _ in range(3)]
        await store.fail(first.lease, OOPS, retry_in=60.0)
        await store.cancel(ANNA, second.job.id)
        await store.succeed(third.lease, success())
        assert list(await store.counts()) == [
            QueueCount("default", "free", "a", "canceling", 1),
            QueueCount("default", "free", "a", "queued", 1),
            QueueCount("default", "free", "a", "scheduled", 1),
            QueueCount("default", "free", "b", "queued", 2),
        ]

    play(scenario)
