"""The executor: one claim from start to record, whatever the work does."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.gateway import picture
from tests.unit.scheduling.conftest import TENANT, Floor

from sluicegate.backends.backend import PictureRequest, PictureResult, Report
from sluicegate.domain.asset import Picture
from sluicegate.domain.clock import SystemClock
from sluicegate.domain.generation import ModelCard
from sluicegate.domain.ids import JobId, WorkerId, new_job_id
from sluicegate.domain.job import JobError, Lease, NewJob, Progress
from sluicegate.errors import BackendFailed, BackendRefused, Conflict, JobCanceled, LeaseLost, StoreUnavailable
from sluicegate.results.assets import Assets
from sluicegate.scheduling.executor import Executor
from sluicegate.scheduling.reins import Reins, Word
from sluicegate.storage.contracts import JobStore
from sluicegate.storage.files import FileBlobStore
from sluicegate.storage.sqlite.store import SqliteStore
from sluicegate.testing import ManualClock, Script, ScriptedPictures

Play = Callable[[Callable[[Floor], Awaitable[None]]], None]
WORKER = WorkerId("worker_1")


async def make_one(_: PictureRequest, report: Report) -> PictureResult:
    report(Progress(value=0.5))
    return PictureResult(pictures=(Picture(picture(8, 8), "image/png", 8, 8),), degraded=("told",))


def failing(error: Exception) -> Script:
    async def script(_: PictureRequest, __: Report) -> PictureResult:
        raise error

    return script


async def until_told(_: PictureRequest, report: Report) -> PictureResult:
    """Works for ever, reporting."""
    while True:
        report(Progress(value=0.1))
        await asyncio.sleep(0)


class HourAhead(SystemClock):
    """A clock that is an hour fast."""

    def now(self) -> float:
        """An hour later than it is."""
        return super().now() + 3600


@asynccontextmanager
async def an_hour_later(floor: Floor) -> AsyncIterator[SqliteStore]:
    """The floor's store as it is when an hour has passed."""
    store = SqliteStore(floor.folder / "store.db", HourAhead())
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def start(
    floor: Floor, script: Script, *, timeout: float = 0.2, store: JobStore | None = None, **more: Any
) -> tuple[Executor, Reins]:
    """A submitted and claimed job, and the executor for it, which records its end in `store`."""
    backend = ScriptedPictures(script)
    image = await floor.upload()
    new = NewJob(
        id=new_job_id(), tenant=TENANT, model="scripted", task="stylize", input={"image": image, "style": 3}, **more
    )
    await floor.store.submit(new)
    claim = await floor.store.claim(WORKER, ["scripted"], 15)
    assert claim is not None
    models = {"scripted": backend}
    executor = Executor(
        store or floor.store, floor.assets, floor.signals, models, SystemClock(), timeout_seconds=timeout
    )
    return executor, Reins(claim)


async def state(floor: Floor, job: JobId) -> tuple[str, str | None]:
    found = await floor.store.get(TENANT, job)
    return found.state, found.error.code if found.error else None


def test_a_success_is_recorded_with_its_pictures(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        executor, reins = await start(floor, make_one)
        await executor.execute(reins)
        job = await floor.store.get(TENANT, reins.lease.job)
        assert job.state == "succeeded"
        assert job.backend == "scripted"
        assert job.degraded == ("told",)
        asset = await floor.assets.get(TENANT, job.outputs[0].id)
        assert await floor.assets.read(asset) == picture(8, 8)

    on_floor(scenario)


@pytest.mark.parametrize(
    ("error", "attempts", "expected"),
    [
        (BackendRefused("too small"), 3, ("failed", "backend_refused")),
        (BackendFailed("broke"), 3, ("scheduled", None)),
        (BackendFailed("broke"), 1, ("failed", "backend_failed")),
        (MemoryError(), 1, ("failed", "out_of_memory")),
        (RuntimeError("a defect"), 1, ("failed", "internal_error")),
    ],
)
def test_a_failure_is_retried_when_that_may_help(
    on_floor: Play, error: Exception, attempts: int, expected: tuple[str, str | None]
) -> None:
    async def scenario(floor: Floor) -> None:
        executor, reins = await start(floor, failing(error), max_attempts=attempts)
        await executor.execute(reins)
        found, code = await state(floor, reins.lease.job)
        assert found == expected[0]
        if expected[1]:
            assert code == expected[1]

    on_floor(scenario)


def test_the_words_of_an_unexpected_exception_stay_in_the_log(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        executor, reins = await start(floor, failing(RuntimeError("/secret/path")), max_attempts=1)
        await executor.execute(reins)
        job = await floor.store.get(TENANT, reins.lease.job)
        assert job.error is not None
        assert "/secret/path" not in job.error.message

    on_floor(scenario)


@pytest.mark.parametrize(
    ("word", "before", "expected"),
    [
        ("cancel", "cancel", "canceled"),
        ("expire", "nothing", "queued"),
        ("expire", "its deadline passes", "expired"),
        ("drain", "nothing", "queued"),
        ("preempt", "nothing", "queued"),
        ("preempt", "cancel", "canceled"),
        ("silence", "nothing", "queued"),
        ("lost", "nothing", "running"),
        ("timeout", "nothing", "scheduled"),
    ],
)
def test_work_that_is_told_to_stop_ends_as_it_was_told(on_floor: Play, word: Word, before: str, expected: str) -> None:
    async def scenario(floor: Floor) -> None:
        async with an_hour_later(floor) as later:
            store = later if before == "its deadline passes" else floor.store
            executor, reins = await start(floor, until_told, store=store, deadline_seconds=1800.0)
            if before == "cancel":
                await floor.store.cancel(TENANT, reins.lease.job)
            reins.pull(word)
            await executor.execute(reins)
        assert (await state(floor, reins.lease.job))[0] == expected

    on_floor(scenario)


def test_work_past_its_time_is_a_timeout(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        executor, reins = await start(floor, until_told, max_attempts=1)
        await executor.execute(reins)
        assert await state(floor, reins.lease.job) == ("failed", "backend_timeout")

    on_floor(scenario)


class Defective(SqliteStore):
    """Cannot record how an attempt ended, and not because it is away."""

    async def stop(self, *_: object, **__: object) -> bool:
        """Break."""
        raise RuntimeError("a defect of the store")

    async def fail(self, lease: Lease, error: JobError, *, retry_in: float | None, cost: float = 0.0) -> bool:
        """Break in another way."""
        raise Conflict("no such transition")


@pytest.mark.parametrize("end", ["fail", "stop", "time out"])
def test_an_end_that_the_store_cannot_record_leaves_the_job_to_recovery(on_floor: Play, end: str) -> None:
    async def scenario(floor: Floor) -> None:
        script = failing(BackendFailed("broke")) if end == "fail" else until_told
        store = Defective(floor.folder / "store.db", SystemClock())
        await store.open()
        executor, reins = await start(floor, script, store=store)
        if end == "stop":
            reins.pull("cancel")
        assert await executor.execute(reins) == "lost"
        await store.close()
        assert await state(floor, reins.lease.job) == ("running", None)
        assert (await floor.store.release(WORKER)).requeued == 1

    on_floor(scenario)


def test_a_result_under_a_lost_lease_is_discarded(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        executor, reins = await start(floor, make_one)
        await floor.store.release(WORKER)
        again = await floor.store.claim(WorkerId("worker_2"), ["scripted"], 15)
        assert again is not None
        await executor.execute(reins)
        job = await floor.store.get(TENANT, reins.lease.job)
        assert (job.state, job.worker, job.outputs) == ("running", "worker_2", ())

    on_floor(scenario)


def test_a_picture_that_was_deleted_meanwhile_fails_the_job_for_good(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        executor, reins = await start(floor, make_one)
        for digest in await floor.blobs.aged(-1):
            await floor.blobs.discard(digest, older_than_seconds=-1)
        await executor.execute(reins)
        assert await state(floor, reins.lease.job) == ("failed", "asset_not_found")

    on_floor(scenario)


@pytest.mark.parametrize("end", ["before they are taken", "while they are being stored"])
def test_every_preview_of_a_job_is_told_before_its_end(on_floor: Play, end: str) -> None:
    running: list[Reins] = []

    async def show_many(request: PictureRequest, report: Report) -> PictureResult:
        for step in range(1, 21):
            report(Progress(value=step / 21, step=step, steps=21, preview=f"data:,{step}"))
        while end == "while they are being stored" and running[0]._previews:  # noqa: ASYNC110 - taking sets no event
            await asyncio.sleep(0)
        return await make_one(request, report)

    async def scenario(floor: Floor) -> None:
        executor, reins = await start(floor, show_many, timeout=60)
        running.append(reins)
        assert await executor.execute(reins) == "succeeded"
        events = await floor.store.events(reins.lease.job, 0)
        shown = [event.data["step"] for event in events if event.kind == "job.preview"]
        assert shown == list(range(1, 21))
        assert events[-1].kind == "job.succeeded"

    on_floor(scenario)


def test_the_first_word_stands_but_a_lost_lease_overrides_it(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        _, reins = await start(floor, make_one)
        reins.check()
        reins.pull("cancel")
        reins.pull("drain")
        assert reins.word == "cancel"
        with pytest.raises(JobCanceled):
            reins.report(Progress(value=0.1))
        reins.pull("lost")
        with pytest.raises(LeaseLost):
            reins.check()
        assert reins.take_progress() == Progress(value=0.1)
        assert reins.take_progress() is None

    on_floor(scenario)


class Paced:
    """A picture backend whose every run takes so many seconds of the test's clock, the first of them to load."""

    name = "paced"
    kind = "paced"

    def __init__(self, clock: ManualClock, *, load: float, work: float) -> None:
        self._clock = clock
        self._load, self._work = load, work
        self._loaded: tuple[str, ...] = ()
        self.end: Callable[[], None] = lambda: None

    def cards(self) -> Sequence[ModelCard]:
        """One model."""
        return (ModelCard(id="paced", tasks=("stylize",), backend=self.name),)

    def loaded(self) -> Sequence[str]:
        """Its model, after the first run."""
        return self._loaded

    async def run(self, _: PictureRequest, report: Report) -> PictureResult:
        """Load when that is needed, tell the steps, work, and end as the test wishes."""
        load = 0.0 if self._loaded else self._load
        report(Progress(value=0.0))
        self._clock.advance(load)
        self._loaded = ("paced",)
        report(Progress(value=0.0, step=0, steps=1))
        self._clock.advance(self._work)
        self.end()
        report(Progress(value=1.0, step=1, steps=1))
        return PictureResult(pictures=(Picture(picture(8, 8), "image/png", 8, 8),), load_seconds=load)

    async def close(self) -> None:
        """Nothing to free."""


def refuse(_: Reins) -> None:
    raise BackendRefused("too small")


async def charges(
    floor: Floor, end: Callable[[Reins], None], *, canceled: bool = False, store: JobStore | None = None
) -> list[float | None]:
    """What a job on a cold model and one on a warm model are charged: 2 s of loading, 3 s of work."""
    clock = ManualClock()
    backend = Paced(clock, load=2.0, work=3.0)
    executor = Executor(
        store or floor.store, floor.assets, floor.signals, {"paced": backend}, clock, timeout_seconds=60
    )
    charged: list[float | None] = []
    for _ in range(2):
        image = await floor.upload()
        new = NewJob(
            id=new_job_id(),
            tenant=TENANT,
            model="paced",
            task="stylize",
            input={"image": image},
            deadline_seconds=1800.0,
        )
        await floor.store.submit(new)
        claim = await floor.store.claim(WORKER, ["paced"], 15)
        assert claim is not None
        if canceled:
            await floor.store.cancel(TENANT, new.id)
        reins = Reins(claim)
        backend.end = partial(end, reins)
        await executor.execute(reins)
        charged.append((await floor.store.get(TENANT, new.id)).charged)
    return charged


def test_loading_a_model_is_not_charged_and_work_is_whoever_ended_it(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        assert await charges(floor, lambda _: None) == [3.0, 3.0]
        assert await charges(floor, refuse) == [3.0, 3.0]
        assert await charges(floor, lambda reins: reins.pull("cancel"), canceled=True) == [3.0, 3.0]
        async with an_hour_later(floor) as later:
            assert await charges(floor, lambda reins: reins.pull("expire"), store=later) == [3.0, 3.0]

    on_floor(scenario)


def test_what_the_service_is_to_blame_for_is_not_charged(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        executor, reins = await start(floor, failing(BackendFailed("broke")), max_attempts=1)
        await executor.execute(reins)
        assert (await floor.store.get(TENANT, reins.lease.job)).charged == 0.0

    on_floor(scenario)


def test_a_job_that_has_used_up_its_attempts_tells_the_history_of_all(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        executor, reins = await start(floor, failing(BackendFailed("broke")), max_attempts=2)
        await floor.store.hand_back(reins.lease, preempted=True)
        for _ in range(2):
            claim = None
            while claim is None:
                await floor.store.recover()
                claim = await floor.store.claim(WORKER, ["scripted"], 15)
            await executor.execute(Reins(claim))
        job = await floor.store.get(TENANT, reins.lease.job)
        assert job.error is not None
        assert (job.state, job.error.code) == ("failed", "backend_failed")
        told = job.error.details["attempts"]
        assert [attempt["outcome"] for attempt in told] == ["preempted", "retried", "failed"]
        assert [attempt["number"] for attempt in told] == [1, 1, 2]
        assert all(attempt["ended_at"] for attempt in told)
        assert told[-1]["error"]["message"] == "broke"

    on_floor(scenario)


def test_a_refusal_at_the_first_attempt_is_told_without_a_history(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        executor, reins = await start(floor, failing(BackendRefused("too small")))
        await executor.execute(reins)
        job = await floor.store.get(TENANT, reins.lease.job)
        assert job.error is not None
        assert job.error.details == {}

    on_floor(scenario)


class Watched(FileBlobStore):
    """Says when it could not be read."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, SystemClock())
        self.refused = asyncio.Event()

    async def read(self, sha256: str) -> bytes:
        """As ever."""
        try:
            return await super().read(sha256)
        except StoreUnavailable:
            self.refused.set()
            raise


def test_a_store_that_is_away_while_the_input_is_read_costs_the_job_no_attempt(on_floor: Play) -> None:
    async def scenario(floor: Floor) -> None:
        _, reins = await start(floor, make_one)
        blobs = Watched(floor.folder / "assets")
        assets = Assets(floor.store, blobs, SystemClock(), max_pixels=1_000_000)
        models = {"scripted": ScriptedPictures(make_one)}
        executor = Executor(floor.store, assets, floor.signals, models, SystemClock(), timeout_seconds=60)
        place = floor.folder / "assets"
        moved = place.rename(floor.folder / "moved")
        place.write_text("in the way")
        executing = asyncio.create_task(executor.execute(reins))
        await blobs.refused.wait()
        place.unlink()
        moved.rename(place)
        assert await executing == "succeeded"
        job = await floor.store.get(TENANT, reins.lease.job)
        assert (job.attempt, job.fence) == (1, 1)

    on_floor(scenario)
