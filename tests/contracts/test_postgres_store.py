"""What is PostgreSQL's own: servers that go away, connections that are cut, one call for many operations."""

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from tests.postgres import PostgresServer

from sluicegate.domain.fairness import Tier
from sluicegate.domain.ids import JobId, Tenant, WorkerId, new_job_id
from sluicegate.domain.job import Idempotency, Lease, NewJob, Preview, Progress, Verdict
from sluicegate.errors import Conflict, IdempotencyMismatch, InvalidInput, QueueFull, StoreUnavailable, UnknownJob
from sluicegate.storage.contracts import JobQuery, Success
from sluicegate.storage.postgres.signals import PostgresSignals, pauses
from sluicegate.storage.postgres.store import PostgresStore

ANNA = Tenant("anna")
ONE = WorkerId("worker_one")
DONE = Success(outputs=(), backend="local", execution_seconds=1.0)
LONG = 60.0
"""Seconds that no test reaches."""


def new_job(**changes: Any) -> NewJob:
    return NewJob(**{"id": new_job_id(), "tenant": ANNA, "model": "m", "task": "upscale", "input": {}, **changes})


@pytest.fixture
def url(postgres: PostgresServer, postgres_database: str) -> str:
    return postgres.url(postgres_database)


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(url, **options)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def until(call: Callable[[], Awaitable[object]]) -> None:
    """Call until the store answers."""
    async with asyncio.timeout(LONG):
        while True:
            with contextlib.suppress(StoreUnavailable):
                await call()
                return
            await asyncio.sleep(0.01)


async def rows(url: str, query: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    try:
        return list(await connection.fetch(query))
    finally:
        await connection.close()


@pytest.mark.parametrize("mode", ["fast", "immediate", "kill"])
def test_a_server_that_stops_is_unavailable_and_found_again(postgres: PostgresServer, url: str, mode: Any) -> None:
    async def scenario() -> None:
        async with opened(url) as store:
            job = (await store.submit(new_job())).job
            claim = await store.claim(ONE, ["m"], 600.0)
            assert claim is not None
            await asyncio.to_thread(postgres.stop, mode)
            refused = new_job()
            calls = [
                store.submit(refused), store.get(ANNA, job.id), store.heartbeat(ONE, [claim.lease], 600.0),
                store.succeed(claim.lease, DONE), store.look([claim.lease]), store.recover(), store.queue(),
                store.ping(),
            ]  # fmt: skip
            answers = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(answer) for answer in answers] == [StoreUnavailable] * len(calls)
            assert all("postgres@" not in str(answer) for answer in answers)
            await asyncio.to_thread(postgres.start)
            await until(store.ping)
            assert [known.id for known in await store.list(ANNA, JobQuery())] == [job.id]
            assert await store.succeed(claim.lease, DONE)
            assert not await store.succeed(claim.lease, DONE)
            assert (await store.get(ANNA, job.id)).attempt == 1
            assert (await store.submit(refused)).job.state == "queued"

    try:
        asyncio.run(scenario())
    finally:
        postgres.start()


def test_cut_connections_are_made_again_and_reads_do_not_notice(
    postgres: PostgresServer, postgres_database: str, url: str
) -> None:
    async def scenario() -> None:
        async with opened(url) as store:
            job = (await store.submit(new_job())).job
            for _ in range(5):
                assert await store.get(ANNA, job.id) == job
                assert await asyncio.to_thread(postgres.terminate, postgres_database) >= 2
                assert await store.get(ANNA, job.id) == job
                await until(store.ping)

    asyncio.run(scenario())


def test_a_write_that_was_cut_off_can_be_repeated_with_its_key(
    postgres: PostgresServer, postgres_database: str, url: str
) -> None:
    """Whether such a write was committed is unknown; repeating it is safe either way."""

    async def submit(store: PostgresStore, key: str, new: NewJob) -> JobId:
        while True:
            with contextlib.suppress(StoreUnavailable):
                return (await store.submit(new, Idempotency(key, "body"))).job.id

    async def scenario() -> None:
        async with opened(url) as store:
            jobs = [new_job() for _ in range(300)]
            calls = [asyncio.ensure_future(submit(store, f"k{at}", job)) for at, job in enumerate(jobs)]
            cuts = 0
            while not all(call.done() for call in calls) and cuts < 10:
                cuts += await asyncio.to_thread(postgres.terminate, postgres_database)
            assert cuts > 0
            assert await asyncio.gather(*calls) == [job.id for job in jobs]
            assert len(await store.list(ANNA, JobQuery(limit=999))) == len(jobs)
            assert [count.jobs for count in await store.counts()] == [len(jobs)]

    asyncio.run(scenario())


def test_a_batch_answers_each_operation_for_itself(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as store:
            taken = new_job()
            await store.submit(taken, Idempotency("k", "body"))
            small = Tier(name="small", queued_jobs=1)
            calls: list[Awaitable[object]] = [
                store.submit(new_job(tenant=Tenant("bert"))),
                store.submit(taken),
                store.submit(new_job(), Idempotency("k", "another")),
                store.cancel(ANNA, new_job_id()),
                store.submit(new_job(tenant=Tenant("carl"), tier=small)),
                store.submit(new_job(tenant=Tenant("carl"), tier=small)),
                store.submit(new_job(max_attempts=0)),
                store.succeed(Lease(taken.id, 7), DONE),
                store.submit(new_job(tenant=Tenant("dora"))),
            ]
            answers = await asyncio.gather(*calls, return_exceptions=True)
            refused = {at: type(answer) for at, answer in enumerate(answers) if isinstance(answer, Exception)}
            assert refused == {1: Conflict, 2: IdempotencyMismatch, 3: UnknownJob, 5: QueueFull, 6: Conflict}
            assert taken.id in str(answers[1])
            assert answers[7] is False
            queued = {standing.tenant: standing.queued for standing in (await store.queue()).tenants}
            assert queued == {"anna": 1, "bert": 1, "carl": 1, "dora": 1}

    asyncio.run(scenario())


def test_two_stores_in_parallel_never_claim_the_same_job(url: str) -> None:
    async def drain(store: PostgresStore, worker: str) -> list[JobId]:
        claimed = []
        while (claim := await store.claim(WorkerId(worker), ["m"], 600.0)) is not None:
            claimed.append(claim.job.id)
        return claimed

    async def scenario() -> None:
        async with opened(url) as one, opened(url) as two:
            jobs = [new_job() for _ in range(200)]
            await asyncio.gather(*(store.submit(job) for job, store in zip(jobs, [one, two] * 100, strict=True)))
            drains = [drain(store, f"w{at}{n}") for at, store in enumerate((one, two)) for n in range(3)]
            claimed = [job for part in await asyncio.gather(*drains) for job in part]
            assert sorted(claimed) == sorted(job.id for job in jobs)

    asyncio.run(scenario())


def test_heartbeats_do_not_wait_for_the_scheduler(postgres: PostgresServer, postgres_database: str, url: str) -> None:
    async def scenario() -> None:
        async with opened(url, patience=LONG) as store:
            await store.submit(new_job())
            claim = await store.claim(ONE, ["m"], 600.0)
            assert claim is not None
            with postgres.scheduler_held(postgres_database):
                write = asyncio.ensure_future(store.submit(new_job()))
                assert list(await store.heartbeat(ONE, [claim.lease], 600.0)) == [Verdict(claim.lease, "keep")]
                await store.report(claim.lease, Progress(value=0.5))
                assert await store.preview(claim.lease, Preview(index=0, step=1, steps=2, image="data:,"))
                assert not write.done()
            assert (await write).job.state == "queued"

    asyncio.run(scenario())


def test_heartbeats_and_endings_of_the_same_jobs_never_stand_in_each_others_way(
    postgres: PostgresServer, postgres_database: str, url: str
) -> None:
    deadlocks = f"SELECT deadlocks FROM pg_stat_database WHERE datname = '{postgres_database}'"

    async def beat(store: PostgresStore, leases: list[Lease]) -> None:
        for verdict in await store.heartbeat(ONE, leases, 600.0):
            assert verdict.word in ("keep", "lost")

    async def scenario() -> None:
        async with opened(url) as one, opened(url) as two, opened(url) as three:
            for _ in range(10):
                await asyncio.gather(*(one.submit(new_job()) for _ in range(40)))
                claims = [await one.claim(ONE, ["m"], 600.0) for _ in range(40)]
                leases = [claim.lease for claim in claims if claim is not None]
                beats = [beat(store, part) for store in (two, three) for part in (leases, leases[::-1])]
                endings = [one.succeed(lease, DONE) for lease in leases[::-1]]
                _, *ended = await asyncio.gather(asyncio.gather(*beats), *endings)
                assert ended == [True] * 40

    before = postgres.sql(deadlocks)
    asyncio.run(scenario())
    assert postgres.sql(deadlocks) == before


def test_previews_beside_the_scheduler_leave_no_gap_in_the_events(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as one, opened(url) as two:
            job = (await one.submit(new_job(deadline_seconds=1.0))).job
            claim = await one.claim(ONE, ["m"], 600.0)
            assert claim is not None
            while (await one.look([claim.lease]))[0].word != "expire":  # noqa: ASYNC110 - the server's clock tells nobody
                await asyncio.sleep(0.01)
            shown = [Preview(index=at, step=at, steps=50, image="data:,") for at in range(50)]
            calls = [store.preview(claim.lease, preview) for store in (one, two) for preview in shown]
            told = await asyncio.gather(*calls, one.cancel(ANNA, job.id), two.stop(claim.lease, "expire"))
            assert sum(answer is True for answer in told) >= 1
            events = await one.events(job.id, 0)
            assert [event.seq for event in events] == list(range(1, len(events) + 1))
            assert events[-1].kind in ("job.canceled", "job.expired")

    asyncio.run(scenario())


def test_documents_survive_whatever_they_hold(url: str) -> None:
    documents: list[dict[str, Any]] = [
        {"prompt": 'a\0b \\u0000 \\ " 🍎 \u2028 \x7f'},
        {"n": [10**40, -(10**30), 0.1, 1e300, True, None], "": {"é": []}},
        {"image": "A" * 1_000_000},
    ]

    async def scenario() -> None:
        async with opened(url) as store:
            for document in documents:
                job = (await store.submit(new_job(input=document, metadata=document))).job
                assert (job.input, job.metadata) == (document, document)
                assert await store.get(ANNA, job.id) == job
                claim = await store.claim(ONE, ["m"], 600.0)
                assert claim is not None
                assert claim.job.input == document
                made = Success(outputs=(), backend="b", execution_seconds=1.0, details=document)
                assert await store.succeed(claim.lease, made)
                assert (await store.get(ANNA, job.id)).details == document
                assert (await store.events(job.id, 2))[0].data["details"] == document

    asyncio.run(scenario())


def test_what_cannot_be_a_name_is_refused_or_not_found(url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as store:
            good = store.submit(new_job())
            answers = await asyncio.gather(
                good, store.submit(new_job(model="a\0b")), store.submit(new_job(), Idempotency("\0", "d")),
                store.cancel(ANNA, JobId("\0")), store.get(ANNA, JobId("\0")), store.list(ANNA, JobQuery(model="\0")),
                return_exceptions=True,
            )  # fmt: skip
            kinds = [type(answer) for answer in answers[1:5]]
            assert kinds == [InvalidInput, InvalidInput, UnknownJob, UnknownJob]
            assert answers[5] == []

    asyncio.run(scenario())


@pytest.mark.parametrize("name", ["", " ", "NULL", "a,b", "{}", 'a"b', "a\\b", "\\", '\\"', "é🍎\n", "'$1'"])
def test_a_model_is_claimed_by_its_name_whatever_it_is(url: str, name: str) -> None:
    async def scenario() -> None:
        async with opened(url) as store:
            await store.submit(new_job(model="another"))
            job = (await store.submit(new_job(model=name, pool=name))).job
            assert await store.claim(ONE, ["x"], 600.0, pools=[name]) is None
            claim = await store.claim(ONE, ["x", name, "y"], 600.0, pools=["z", name], loaded=[name, "x"])
            assert claim is not None
            assert claim.job.id == job.id

    asyncio.run(scenario())


def test_a_server_that_accepts_and_never_answers_does_not_hang_anybody(tmp_path: Path) -> None:
    async def scenario() -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            store = PostgresStore(f"postgresql://u:secret@127.0.0.1:{silent.getsockname()[1]}/db", connect_seconds=0.2)
            with pytest.raises(StoreUnavailable) as caught:
                await store.open()
            assert "secret" not in str(caught.value)

    asyncio.run(scenario())


def test_a_cut_listening_connection_is_made_again_and_its_waiters_are_woken(
    postgres: PostgresServer, postgres_database: str, url: str
) -> None:
    async def scenario() -> None:
        here, there = PostgresSignals(url), PostgresSignals(url)
        await here.open()
        await there.open()
        for _ in range(3):
            seen = here.version("jobs")
            cut = "application_name = 'sluicegate signals'"
            assert await asyncio.to_thread(postgres.terminate, postgres_database, where=cut) == 2
            await asyncio.wait_for(here.wait("jobs", seen, LONG), LONG)
            # it listens again: what the others say is heard, sooner or later after they too are back
            async with asyncio.timeout(LONG):
                seen = here.version("events")
                while here.version("events") == seen:
                    there.notify("events")
                    await here.wait("events", seen, 0.05)
        await here.close()
        await there.close()

    asyncio.run(scenario())


def test_signals_open_without_a_server_and_listen_when_it_comes(
    postgres: PostgresServer, postgres_database: str, url: str
) -> None:
    async def scenario() -> None:
        here = PostgresSignals(url)
        await here.open()
        seen = here.version("jobs")
        here.notify("jobs")
        await asyncio.wait_for(here.wait("jobs", seen, LONG), LONG)
        seen = here.version("jobs")
        await asyncio.to_thread(postgres.start)
        await asyncio.wait_for(here.wait("jobs", seen, LONG), LONG)
        await here.close()

    postgres.stop()
    try:
        asyncio.run(scenario())
    finally:
        postgres.start()


class Driver:
    """The real driver, which now and then loses its head, as it does when the server dies in the middle of a call."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.failures: list[Exception] = []
        """What the next calls raise instead."""
        for name in ("fetch", "fetchval", "execute", "add_listener"):
            patch.setattr(asyncpg.Connection, name, self._failing(getattr(asyncpg.Connection, name)))

    def _failing(self, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def call(*arguments: Any, **options: Any) -> Any:
            if self.failures:
                raise self.failures.pop()
            return await method(*arguments, **options)

        return call


BEWILDERED: Sequence[Exception] = (
    asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress"),
    asyncpg.InterfaceError("the underlying connection is closed"),
    asyncpg.exceptions.ProtocolViolationError("unexpected message"),
    AttributeError("'NoneType' object has no attribute 'decode'"),
    BufferError("nothing left to read"),
    ConnectionResetError(104, "reset"),
)


@pytest.mark.parametrize("failure", BEWILDERED, ids=lambda failure: type(failure).__name__)
def test_whatever_the_driver_raises_is_told_as_unavailable_on_a_connection_that_is_given_up(
    url: str, failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver(monkeypatch)

    async def scenario() -> None:
        async with opened(url) as store:
            job = (await store.submit(new_job())).job
            calls: list[Callable[[], Awaitable[object]]] = [
                lambda: store.submit(new_job()), lambda: store.heartbeat(ONE, [], 1.0), lambda: store.get(ANNA, job.id),
                store.queue,
            ]  # fmt: skip
            for call in calls:
                await call()
                pids = {row["pid"] for row in await rows(url, "SELECT pid FROM pg_stat_activity")}
                driver.failures = [failure] * 2  # a read is repeated once by itself
                with pytest.raises(StoreUnavailable):
                    await asyncio.wait_for(call(), LONG)
                driver.failures = []
                await asyncio.wait_for(call(), LONG)
                assert {row["pid"] for row in await rows(url, "SELECT pid FROM pg_stat_activity")} - pids

    asyncio.run(scenario())


@pytest.mark.parametrize("failure", BEWILDERED, ids=lambda failure: type(failure).__name__)
def test_whatever_the_driver_raises_signals_listen_again(
    url: str, failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver(monkeypatch)

    async def scenario() -> None:
        here, there = PostgresSignals(url), PostgresSignals(url)
        await here.open()
        await there.open()
        # in a send; then in the attempts to listen again
        driver.failures = [failure] * 3
        seen = there.version("jobs")
        there.notify("jobs")
        # once by its own hint, once when it listens again
        async with asyncio.timeout(LONG):
            while there.version("jobs") < seen + 2:
                await there.wait("jobs", there.version("jobs"), LONG)
        assert driver.failures == []
        seen = here.version("events")
        there.notify("events")
        await asyncio.wait_for(here.wait("events", seen, LONG), LONG)
        await here.close()
        await there.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("mode", ["fast", "immediate", "kill"])
def test_hints_sent_while_the_server_goes_down_and_up_are_heard_again(
    postgres: PostgresServer, url: str, mode: Any
) -> None:
    async def scenario() -> None:
        here, there = PostgresSignals(url), PostgresSignals(url)
        await here.open()
        await there.open()
        down = asyncio.Event()

        async def chatter() -> None:
            while not down.is_set():
                there.notify("events")
                await asyncio.sleep(0)

        for _ in range(2):
            down.clear()
            talk = asyncio.ensure_future(chatter())
            await asyncio.to_thread(postgres.stop, mode)
            down.set()
            await talk
            await asyncio.to_thread(postgres.start)
            async with asyncio.timeout(LONG):
                # heard from the other, not said by itself
                seen = here.version("jobs")
                while here.version("jobs") < seen + 2:
                    there.notify("jobs")
                    await here.wait("jobs", here.version("jobs"), 0.05)
        await here.close()
        await there.close()

    try:
        asyncio.run(scenario())
    finally:
        postgres.start()


def test_a_listener_waits_a_second_at_most_between_attempts() -> None:
    assert list(itertools.islice(pauses(), 6)) == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_a_silent_listening_connection_is_pinged(url: str) -> None:
    asked = "SELECT query FROM pg_stat_activity WHERE application_name = 'sluicegate signals'"

    async def pinged() -> None:
        if [row["query"] for row in await rows(url, asked)] != ["SELECT 1"]:
            raise StoreUnavailable("not yet")

    async def scenario() -> None:
        here = PostgresSignals(url, ping_seconds=0.05)
        await here.open()
        await until(pinged)
        await here.close()

    asyncio.run(scenario())


def test_the_oldest_open_transaction_is_told(postgres: PostgresServer, postgres_database: str, url: str) -> None:
    async def scenario() -> None:
        async with opened(url) as store:
            connection = await asyncpg.connect(url)
            async with connection.transaction(isolation="repeatable_read"):
                await connection.fetch("SELECT 1")
                for _ in range(3):
                    await store.submit(new_job())
                assert (await store.oldest_snapshot() or 0) >= 3
            await connection.close()

    asyncio.run(scenario())
