"""What every store does when several processes share it, when one is killed, and when it cannot be written to."""

import asyncio
import random
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager

import pytest

from sluicegate.domain.ids import JobId, Tenant, WorkerId, new_job_id
from sluicegate.domain.job import Idempotency, NewJob
from sluicegate.errors import StoreUnavailable
from sluicegate.storage.contracts import JobQuery, Store

Play = Callable[[Callable[[Store], Awaitable[None]]], None]
Connect = Callable[..., AbstractAsyncContextManager[Store]]
Spawn = Callable[[str], "subprocess.Popen[str]"]
LockOut = Callable[[], AbstractContextManager[None]]
ANNA = Tenant("anna")
NEW_JOB = 'NewJob(id=new_job_id(), tenant=Tenant("anna"), model="m", task="upscale", input={})'


def new_job() -> NewJob:
    return NewJob(id=new_job_id(), tenant=ANNA, model="m", task="upscale", input={})


def test_what_one_connection_writes_another_reads(connect: Connect) -> None:
    async def scenario() -> None:
        async with connect() as one, connect() as two:
            job = (await one.submit(new_job())).job
            assert await two.get(ANNA, job.id) == job
            claims = await asyncio.gather(*(store.claim(WorkerId("w"), ["m"], 15.0) for store in (one, two)))
            assert sum(claim is not None for claim in claims) == 1
        async with connect() as later:
            assert (await later.get(ANNA, job.id)).state == "running"

    asyncio.run(scenario())


def test_processes_that_start_at_once_agree_on_one_schema(spawn: Spawn) -> None:
    children = [spawn(f"await store.submit({NEW_JOB})\nprint(len(await store.counts()))") for _ in range(4)]
    assert [child.communicate()[0] for child in children] == ["1\n"] * 4


def test_processes_never_claim_the_same_job(connect: Connect, spawn: Spawn) -> None:
    async def submit_all() -> set[str]:
        async with connect() as store:
            jobs = [new_job() for _ in range(200)]
            await asyncio.gather(*(store.submit(job) for job in jobs))
            return {job.id for job in jobs}

    submitted = asyncio.run(submit_all())
    body = """first = await store.claim(new_worker_id(), ["m"], 600.0)
print(first.job.id, flush=True)
sys.stdin.readline()
async def drain():
    worker = new_worker_id()
    while (claim := await store.claim(worker, ["m"], 600.0)) is not None:
        print(claim.job.id)
await asyncio.gather(drain(), drain())"""
    children = [spawn(body), spawn(body)]
    claims: list[str] = []
    for child in children:
        assert child.stdout is not None
        claims.append(child.stdout.readline().strip())
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        claims += child.communicate()[0].split()
    assert sorted(claims) == sorted(submitted)


def test_racing_duplicates_from_several_processes_make_one_job_for_each_key(connect: Connect, spawn: Spawn) -> None:
    body = f"""answers = await asyncio.gather(
    *(store.submit({NEW_JOB}, Idempotency(f"key {{n % 10}}", "body")) for n in range(30)))
print(*(answer.job.id for answer in answers))"""
    children = [spawn(body) for _ in range(3)]
    told = [child.communicate()[0].split() for child in children]
    assert [len(ids) for ids in told] == [30] * 3
    assert len({id_ for ids in told for id_ in ids}) == 10

    async def check() -> None:
        async with connect() as store:
            assert len(await store.list(ANNA, JobQuery(limit=99))) == 10

    asyncio.run(check())


def test_every_job_that_was_acknowledged_survives_the_death_of_its_process(connect: Connect, spawn: Spawn) -> None:
    body = f"""async def submit():
    while True:
        print((await store.submit({NEW_JOB})).job.id, flush=True)
await asyncio.gather(*(submit() for _ in range(4)))"""
    lengths = random.Random(7)
    acknowledged: set[str] = set()
    for _ in range(4):
        child = spawn(body)
        assert child.stdout is not None
        for _ in range(lengths.randint(1, 150)):
            acknowledged.add(child.stdout.readline().strip())
        child.kill()
        acknowledged |= {line for line in child.communicate()[0].split("\n")[:-1] if line}

    async def check() -> None:
        async with connect() as store:
            jobs = {job.id for job in await store.list(ANNA, JobQuery(limit=100_000))}
            assert acknowledged <= jobs
            for job in jobs:
                assert [event.kind for event in await store.events(JobId(job), 0)] == ["job.queued"]
            assert sum(count.jobs for count in await store.counts()) == len(jobs)

    asyncio.run(check())


def test_a_locked_store_says_so_and_heals(connect: Connect, lock_out: LockOut) -> None:
    async def scenario(store: Store) -> None:
        before = (await store.submit(new_job())).job
        refused = new_job()
        with lock_out():
            calls = [store.submit(refused), store.cancel(ANNA, before.id), store.recover(), store.ping()]
            answers = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(answer) for answer in answers] == [StoreUnavailable] * 4
            assert all(isinstance(answer, StoreUnavailable) and answer.retry_after for answer in answers)
            assert await store.get(ANNA, before.id) == before
        await store.ping()
        assert [job.id for job in await store.list(ANNA, JobQuery())] == [before.id]
        await store.submit(refused)
        assert (await store.claim(WorkerId("w"), ["m"], 15.0)) is not None

    async def impatient() -> None:
        async with connect(patience=0.3) as store:
            await scenario(store)

    asyncio.run(impatient())


def test_reads_do_not_wait_for_a_write(play: Play, lock_out: LockOut) -> None:
    async def scenario(store: Store) -> None:
        job = (await store.submit(new_job(), Idempotency("k", "d"))).job
        with lock_out():
            write = asyncio.ensure_future(store.submit(new_job()))
            assert await store.get(ANNA, job.id) == job
            assert not write.done()
        assert (await write).job.state == "queued"

    play(scenario)


def test_a_store_that_is_not_open_is_unavailable(connect: Connect) -> None:
    async def scenario() -> None:
        async with connect() as store:
            await store.ping()
        for call in (store.ping(), store.submit(new_job()), store.list(ANNA, JobQuery())):
            with pytest.raises(StoreUnavailable):
                await call
        await store.close()
        await store.open()
        await store.ping()
        await store.close()

    asyncio.run(scenario())


def test_closing_carries_out_what_was_begun(connect: Connect) -> None:
    async def scenario() -> None:
        async with connect() as store:
            calls = [asyncio.ensure_future(store.submit(new_job())) for _ in range(50)]
            await asyncio.sleep(0)
        jobs = [(await call).job.id for call in calls]
        async with connect() as again:
            assert [job.id for job in await again.list(ANNA, JobQuery(limit=99))] == jobs[::-1]

    asyncio.run(scenario())
