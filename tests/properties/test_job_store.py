"""The job store against a small model of it: whatever workers, callers and the clock do, in any order.

After each step the states, attempts, outcomes, progress and queue positions of all jobs are those of the model;
events are numbered without a gap and end with exactly one terminal event; counts are the truth.
"""

import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sluicegate.domain.event import TERMINAL_EVENTS, JobEvent
from sluicegate.domain.ids import JobId, Tenant, WorkerId, new_job_id
from sluicegate.domain.job import (
    HELD,
    TERMINAL,
    TRANSITIONS,
    Attempt,
    Idempotency,
    Job,
    JobError,
    JobState,
    Lease,
    NewJob,
    Progress,
    Recovery,
    Verdict,
)
from sluicegate.errors import Conflict, IdempotencyMismatch
from sluicegate.storage.contracts import QueueCount, Success
from sluicegate.storage.sqlite.store import SqliteStore
from sluicegate.testing import ManualClock

Result = TypeVar("Result")
TENANT = Tenant("anna")
MODELS = ("a", "b")
WORKERS = (WorkerId("worker_one"), WorkerId("worker_two"))
LEASE = 15.0
PRIORITIES = st.integers(0, 2)
ATTEMPTS = st.integers(1, 3)
DEADLINES = st.sampled_from([None, None, 10.0, 40.0])
OOPS = JobError(code="backend_failed", message="it broke")
DONE = Success(outputs=(), backend="local", execution_seconds=1.0)


@dataclass
class Model:
    """One job as it should be."""

    id: JobId
    model: str
    priority: int
    max_attempts: int
    deadline: float | None
    state: JobState = "queued"
    states: list[JobState] = field(default_factory=lambda: ["queued"])
    attempt: int = 0
    fence: int = 0
    worker: WorkerId | None = None
    lease_until: float = 0.0
    due: float = 0.0
    progress: float | None = None
    outcomes: list[str | None] = field(default_factory=list)

    def move(self, to: JobState, outcome: str | None = None) -> None:
        assert to in TRANSITIONS[self.state]
        if self.state in HELD and to not in HELD:
            self.outcomes[-1] = outcome
            self.progress = None
        if to in ("queued", "scheduled"):
            self.worker = None
        self.state = to
        self.states.append(to)

    def is_late(self, now: float) -> bool:
        return self.deadline is not None and self.deadline <= now

    def lose(self, now: float, loss: str) -> str:
        """The worker is gone; what the caretaker counts."""
        if self.state == "canceling":
            self.move("canceled", "canceled")
            return "canceled"
        if self.is_late(now):
            self.move("expired", loss)
            return "expired"
        again = self.attempt < self.max_attempts
        self.move("queued" if again else "failed", loss)
        return "requeued" if again else "failed"


class JobStoreMachine(RuleBasedStateMachine):
    """Random histories of one store."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(prefix="sluicegate-test-"))
        self.clock = ManualClock()
        self.store = SqliteStore(self.folder / "store.db", self.clock)
        self.jobs: dict[JobId, Model] = {}
        self.leases: list[tuple[WorkerId, Lease]] = []
        self.keys: dict[str, tuple[str, JobId]] = {}

    def run(self, call: Coroutine[Any, Any, Result]) -> Result:
        return self.loop.run_until_complete(call)

    @initialize(
        specs=st.lists(st.tuples(st.sampled_from(MODELS), PRIORITIES, ATTEMPTS, DEADLINES), min_size=3, max_size=6)
    )
    def open(self, specs: list[tuple[str, int, int, float | None]]) -> None:
        self.run(self.store.open())
        for model, priority, max_attempts, deadline in specs:
            self.submit_one(model, priority, max_attempts, deadline, None)

    def teardown(self) -> None:
        self.run(self.store.close())
        self.run(self.loop.shutdown_default_executor())
        self.loop.close()
        shutil.rmtree(self.folder)

    @rule(
        model=st.sampled_from(MODELS),
        priority=PRIORITIES,
        max_attempts=ATTEMPTS,
        deadline=DEADLINES,
        idempotency=st.none() | st.builds(Idempotency, st.sampled_from(["k1", "k2"]), st.sampled_from(["x", "y"])),
    )
    def submit(
        self, model: str, priority: int, max_attempts: int, deadline: float | None, idempotency: Idempotency | None
    ) -> None:
        self.submit_one(model, priority, max_attempts, deadline, idempotency)

    def submit_one(
        self, model: str, priority: int, max_attempts: int, deadline: float | None, idempotency: Idempotency | None
    ) -> None:
        new = NewJob(
            id=new_job_id(),
            tenant=TENANT,
            model=model,
            task="upscale",
            input={},
            priority=priority,
            max_attempts=max_attempts,
            deadline_seconds=deadline,
        )
        call = self.store.submit(new, idempotency)
        earlier = self.keys.get(idempotency.key) if idempotency else None
        if earlier is not None and idempotency is not None and earlier[0] != idempotency.digest:
            try:
                self.run(call)
            except IdempotencyMismatch:
                return
            raise AssertionError("another body was taken under a used key")
        submission = self.run(call)
        assert submission.replayed == (earlier is not None)
        assert submission.job.id == (earlier[1] if earlier else new.id)
        if earlier is None:
            due = None if deadline is None else self.clock.now() + deadline
            self.jobs[new.id] = Model(new.id, model, priority, max_attempts, due)
            if idempotency is not None:
                self.keys[idempotency.key] = (idempotency.digest, new.id)

    def line(self, *models: str) -> list[Model]:
        """The queued jobs of the models, first to last."""
        waiting = [job for job in self.jobs.values() if job.state == "queued" and job.model in models]
        return sorted(waiting, key=lambda job: (-job.priority, job.id))

    @rule(
        worker=st.sampled_from(WORKERS),
        models=st.sampled_from([("a", "b"), ("b", "a", "c"), ("a",), ("b",)]),
        times=st.integers(1, 3),
    )
    def claim(self, worker: WorkerId, models: tuple[str, ...], times: int) -> None:
        for _ in range(times):
            self.claim_one(worker, models)

    def claim_one(self, worker: WorkerId, models: tuple[str, ...]) -> None:
        claim = self.run(self.store.claim(worker, models, LEASE))
        now = self.clock.now()
        expected = None
        for job in self.line(*models):
            if not job.is_late(now):
                expected = job
                break
            job.move("expired")
        assert (claim.job.id if claim else None) == (expected.id if expected else None)
        if claim and expected:
            expected.move("running")
            expected.attempt += 1
            expected.fence += 1
            expected.worker, expected.lease_until = worker, now + LEASE
            expected.outcomes.append(None)
            assert claim.lease == Lease(expected.id, expected.fence)
            self.leases.append((worker, claim.lease))

    def holder(self, lease: Lease) -> Model | None:
        job = self.jobs[lease.job]
        return job if job.fence == lease.fence and job.state in HELD else None

    def pick(self, data: st.DataObject) -> tuple[WorkerId, Lease]:
        """A lease that was once given: mostly one that is current, else any."""
        current = [given for given in self.leases if self.holder(given[1]) is not None]
        wants_current = data.draw(st.sampled_from([True, True, True, False]))
        return data.draw(st.sampled_from(current if current and wants_current else self.leases))

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), beat=st.booleans())
    def heartbeat(self, data: st.DataObject, beat: bool) -> None:
        worker, lease = self.pick(data)
        job = self.holder(lease)
        call = self.store.heartbeat(worker, [lease], LEASE) if beat else self.store.look([lease])
        (verdict,) = self.run(call)
        if job is None:
            assert verdict == Verdict(lease, "lost")
            return
        if beat:
            job.lease_until = self.clock.now() + LEASE
        late = "expire" if job.is_late(self.clock.now()) else "keep"
        assert verdict.word == ("cancel" if job.state == "canceling" else late)

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), value=st.floats(0, 1))
    def report(self, data: st.DataObject, value: float) -> None:
        lease = self.pick(data)[1]
        self.run(self.store.report(lease, Progress(value=value)))
        if (job := self.holder(lease)) is not None:
            job.progress = value

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def succeed(self, data: st.DataObject) -> None:
        lease = self.pick(data)[1]
        job = self.holder(lease)
        assert self.run(self.store.succeed(lease, DONE)) == (job is not None)
        if job is not None:
            job.move("succeeded", "succeeded")

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), retry_in=st.sampled_from([None, 0.0, 5.0, 20.0]))
    def fail(self, data: st.DataObject, retry_in: float | None) -> None:
        lease = self.pick(data)[1]
        job = self.holder(lease)
        assert self.run(self.store.fail(lease, OOPS, retry_in=retry_in)) == (job is not None)
        if job is None:
            return
        if job.state == "canceling":
            job.move("canceled", "canceled")
        elif retry_in is not None and job.attempt < job.max_attempts:
            job.move("scheduled", "retried")
            job.due = self.clock.now() + retry_in
        else:
            job.move("failed", "failed")

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), word=st.sampled_from(["cancel", "expire"]))
    def stop(self, data: st.DataObject, word: Any) -> None:
        lease = self.pick(data)[1]
        job = self.holder(lease)
        try:
            assert self.run(self.store.stop(lease, word)) == (job is not None)
        except Conflict:
            assert job is not None
            assert (job.state, word) == ("running", "cancel")
            return
        if job is not None:
            to: JobState = "canceled" if job.state == "canceling" else "expired"
            job.move(to, to)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def hand_back(self, data: st.DataObject) -> None:
        lease = self.pick(data)[1]
        job = self.holder(lease)
        assert self.run(self.store.hand_back(lease)) == (job is not None)
        if job is not None and job.state == "canceling":
            job.move("canceled", "canceled")
        elif job is not None:
            job.move("queued", "handed_back")
            job.attempt -= 1

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job = self.jobs[data.draw(st.sampled_from(list(self.jobs)))]
        told = self.run(self.store.cancel(TENANT, job.id))
        if job.state in ("queued", "scheduled"):
            job.move("canceled")
        elif job.state == "running":
            job.move("canceling")
        assert told.state == job.state

    @rule()
    def recover(self) -> None:
        now, fates = self.clock.now(), Counter[str]()
        for job in self.jobs.values():
            if job.state in HELD and job.lease_until <= now:
                fates[job.lose(now, "lease_expired")] += 1
        for job in self.jobs.values():
            if job.state in ("queued", "scheduled") and job.is_late(now):
                job.move("expired")
                fates["expired"] += 1
            elif job.state == "scheduled" and job.due <= now:
                job.move("queued")
                fates["promoted"] += 1
        assert self.run(self.store.recover()) == Recovery(**fates)

    @rule(worker=st.sampled_from(WORKERS))
    def release(self, worker: WorkerId) -> None:
        fates = Counter[str]()
        for job in self.jobs.values():
            if job.state in HELD and job.worker == worker:
                fates[job.lose(self.clock.now(), "worker_died")] += 1
        assert self.run(self.store.release(worker)) == Recovery(**fates)

    @rule(seconds=st.sampled_from([1.0, 5.0, 15.0, 50.0]))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def the_store_is_as_the_model_says(self) -> None:
        position = {job.id: at for model in MODELS for at, job in enumerate(self.line(model), 1)}
        for model, job, attempts, events in self.run(self.look()):
            assert (job.state, job.attempt, job.fence) == (model.state, model.attempt, model.fence)
            assert job.worker == model.worker
            assert job.queue_position == position.get(model.id)
            assert (job.progress.value if job.progress else None) == model.progress
            assert (job.completed_at is not None) == (job.state in TERMINAL)
            assert (job.error is not None) == (job.state in ("failed", "expired"))
            check_attempts(model, attempts)
            check_events(model, events)

    async def look(self) -> list[tuple[Model, Job, Sequence[Attempt], Sequence[JobEvent]]]:
        """All that the store says of each job, asked at once."""

        async def ask(model: Model) -> tuple[Model, Job, Sequence[Attempt], Sequence[JobEvent]]:
            calls = (self.store.get(TENANT, model.id), self.store.attempts(model.id), self.store.events(model.id, 0))
            return (model, *await asyncio.gather(*calls))

        return await asyncio.gather(*map(ask, self.jobs.values()))

    @invariant()
    def counts_are_the_truth(self) -> None:
        live = Counter((job.model, job.state) for job in self.jobs.values() if job.state not in TERMINAL)
        expected = [QueueCount(model, state, jobs) for (model, state), jobs in sorted(live.items())]
        assert list(self.run(self.store.counts())) == expected


def check_attempts(model: Model, attempts: Sequence[Attempt]) -> None:
    """Every attempt has its record; at most one succeeded, and one is open exactly while a worker holds the job."""
    assert [attempt.outcome for attempt in attempts] == model.outcomes
    assert model.outcomes.count("succeeded") == (model.state == "succeeded")
    assert [attempt.ended_at is None for attempt in attempts] == [outcome is None for outcome in model.outcomes]
    assert model.outcomes.count(None) == (model.state in HELD)


def check_events(model: Model, events: Sequence[JobEvent]) -> None:
    """Every change has its event, numbered without a gap; a terminal one comes once, at the end."""
    assert [event.seq for event in events] == list(range(1, len(model.states) + 1))
    assert [event.kind in TERMINAL_EVENTS for event in events] == [state in TERMINAL for state in model.states]
    assert [event.data["status"] for event in events] == [
        "queued" if state == "scheduled" else state for state in model.states
    ]


TestJobStore = JobStoreMachine.TestCase
TestJobStore.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
