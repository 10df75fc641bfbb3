"""The named queries and functions: each is used, says what it is for, and finds its rows by an index."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

import asyncpg
import pytest
from tests.postgres import PostgresServer

from sluicegate.domain.ids import JobId, Tenant, WorkerId, new_job_id
from sluicegate.domain.job import Claim, Idempotency, JobError, NewJob, Preview, Progress
from sluicegate.storage.contracts import JobQuery, Success
from sluicegate.storage.postgres.statements import load_functions, load_queries
from sluicegate.storage.postgres.store import PostgresStore

PACKAGE = files("sluicegate.storage.postgres")
NAMES = sorted(load_queries())
WORKER = WorkerId("w")
MODELS = tuple(f"m{at}" for at in range(5))
FILL = """
SET search_path = sluicegate;
INSERT INTO pool VALUES ('default') ON CONFLICT DO NOTHING;
INSERT INTO job (id, tenant, state, model, task, input, priority, created_at, max_attempts)
SELECT 'job_' || lpad(n::text, 6, '0'), 't' || n % 100, 'queued', 'm' || (n / 100) % 5, 'upscale', '{}', 0, n, 3
FROM generate_series(1, 3000) AS n;
INSERT INTO tenant (pool, tenant, tier, weight, vtime, since, queued, queued_cost)
SELECT 'default', tenant, 'free', 1, length(tenant), 0, count(*), count(*) FROM job GROUP BY tenant;
INSERT INTO lane SELECT pool, tenant, model, count(*), 0, 1, length(tenant), 0 FROM job GROUP BY pool, tenant, model;
"""
EXPLAIN = """
ALTER DATABASE {0} SET session_preload_libraries = 'auto_explain';
ALTER DATABASE {0} SET auto_explain.log_min_duration = 0;
ALTER DATABASE {0} SET auto_explain.log_nested_statements = on;
ALTER DATABASE {0} SET auto_explain.log_format = 'json';
ALTER DATABASE {0} SET auto_explain.log_level = 'notice';
"""
SMALL = {"worker", "pool", "meta", "calibration"}
"""Tables of a few rows."""


@pytest.mark.parametrize("name", NAMES)
def test_a_query_says_what_it_is_for(name: str) -> None:
    first, *rest = (PACKAGE / "sql" / f"{name}.sql").read_text("utf-8").splitlines()
    assert re.fullmatch(r"-- [A-Z].*\.", first)
    assert rest


def test_every_query_is_used() -> None:
    source = "".join(entry.read_text("utf-8") for entry in PACKAGE.iterdir() if entry.name.endswith(".py"))
    assert [name for name in NAMES if f'"{name}"' not in source] == []


def test_every_function_says_what_it_is_for_and_is_used() -> None:
    script = load_functions().script + "".join(load_queries().values())
    named = re.findall(r"^(.*)\nCREATE FUNCTION (\w+)", script, re.MULTILINE)
    assert len(named) == script.count("CREATE FUNCTION")
    assert [name for line, name in named if not line.startswith("--")] == []
    source = script + (PACKAGE / "lane.py").read_text("utf-8")
    assert [name for _, name in named if len(re.findall(rf"\b{name}\(", source)) < 2] == []


def test_every_name_and_id_is_compared_by_code_point(postgres: PostgresServer, postgres_database: str) -> None:
    found = postgres.sql(
        "SELECT relname, attname FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid "
        "JOIN pg_index ON indrelid = pg_class.oid AND attnum = ANY (indkey) "
        "WHERE relnamespace = 'sluicegate'::regnamespace AND relkind = 'r' AND attcollation <> 0 "
        "AND attcollation <> 'pg_catalog.\"C\"'::regcollation",
        postgres_database,
    )
    assert found == ""


def scans(plan: dict[str, Any]) -> Iterator[str]:
    """What a plan reads: an index by its name, or a whole table as ``all of TABLE``."""
    if "Index Name" in plan:
        yield plan["Index Name"]
    elif "Relation Name" in plan and plan["Node Type"] != "ModifyTable":
        yield f"all of {plan['Relation Name']}"
    for part in plan.get("Plans", ()):
        yield from scans(part)


@asynccontextmanager
async def watched(url: str, plans: dict[str, set[str]]) -> AsyncIterator[PostgresStore]:
    """A store whose statements, with those inside the functions, are collected with what they read."""

    def note(_: object, message: asyncpg.PostgresLogMessage) -> None:
        head, found, text = str(message.message).partition("plan:")
        if found and head.startswith("duration"):
            told = json.loads(text)
            statement = " ".join(told["Query Text"].split())
            plans.setdefault(statement, set()).update(scans(told["Plan"]))

    connect = asyncpg.connect

    async def connect_and_listen(*arguments: Any, **options: Any) -> Any:
        connection = await connect(*arguments, **options)
        connection.add_log_listener(note)
        return connection

    store = PostgresStore(url)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncpg, "connect", connect_and_listen)
        await store.open()
        try:
            yield store
        finally:
            await store.close()


async def do_everything(store: PostgresStore) -> None:
    """Every operation once or more, on a filled queue."""
    anna = Tenant("t1")
    found = [await store.claim(WORKER, MODELS, 600.0, loaded=MODELS[:2]) for _ in range(8)]
    held: list[Claim] = [claim for claim in found if claim is not None]
    assert len(held) == 8
    late = NewJob(id=new_job_id(), tenant=anna, model="m1", task="upscale", input={}, deadline_seconds=0.0)
    for _ in range(2):
        await store.submit(late, Idempotency("k", "d"))
    leases = [claim.lease for claim in held]
    await store.heartbeat(WORKER, leases, 600.0)
    await store.look(leases)
    await store.report(leases[0], Progress(value=0.1))
    await store.preview(leases[0], Preview(index=0, step=1, steps=2, image="x"))
    await store.preempt(leases[0])
    assert await store.succeed(leases[0], Success(outputs=(), backend="b", execution_seconds=2.0))
    oops = JobError(code="a", message="b")
    assert await store.fail(leases[1], oops, retry_in=0.0)
    assert await store.fail(leases[2], oops, retry_in=None)
    assert await store.hand_back(leases[3])
    assert (await store.cancel(held[4].job.tenant, held[4].job.id)).state == "canceling"
    assert await store.stop(leases[4], "cancel")
    assert (await store.cancel(Tenant("t0"), JobId("job_003000"))).state == "canceled"
    await store.prolong(1.0)
    await store.heartbeat(WORKER, [claim.lease for claim in held], -1_000.0)
    recovered = await store.recover()
    assert (recovered.requeued, recovered.expired, recovered.promoted) == (3, 1, 1)
    await store.claim(WORKER, MODELS, 600.0)
    await store.release(WORKER)
    await store.list(anna, JobQuery())
    await store.list(anna, JobQuery(model="m1", status="queued"))
    await store.get(anna, late.id)
    await store.events(late.id, 0)
    await store.attempts(late.id)
    await store.counts()
    await store.queue()
    await store.calibrations()
    await store.usage(anna)
    await store.replay(anna, Idempotency("k", "d"))
    await store.referenced(["ab"])
    await store.workers(seen_within=1.0)


@pytest.mark.parametrize("statistics", ["never made", "of empty tables", "up to date"])
def test_whatever_the_statistics_are_the_queue_is_walked_by_its_indexes(
    postgres: PostgresServer, statistics: str
) -> None:
    database = postgres.create()
    if statistics == "of empty tables":
        postgres.sql("VACUUM ANALYZE", database)
    postgres.sql(FILL, database)
    if statistics == "up to date":
        postgres.sql("VACUUM ANALYZE", database)
    postgres.sql(EXPLAIN.format(database))
    plans: dict[str, set[str]] = {}

    async def scenario() -> None:
        async with watched(postgres.url(database) + "&client_min_messages=notice", plans) as store:
            await do_everything(store)

    asyncio.run(scenario())

    def read_by(start: str) -> set[str]:
        (found,) = [reads for statement, reads in plans.items() if start in statement]
        return found

    whole = {read for reads in plans.values() for read in reads if read.startswith("all of ")}
    assert whole <= {f"all of {table}" for table in SMALL}
    assert read_by("AS named (model)) AS served") == {"lane_order"}
    assert read_by("FROM unnest(models) AS served (model)") == {"lane_guard"}
    assert read_by("lane.queued FROM lane CROSS JOIN LATERAL") == {"lane_pkey", "job_queue"}
    assert read_by(") AS last WHERE lane.pool") == {"lane_pkey", "job_queue"}
    assert read_by("SELECT lane.vtime FROM lane") == {"lane_clock"}
    assert read_by("UPDATE job SET lease_until = moment") == {"job_pkey"}
    assert read_by("SELECT * FROM job WHERE job.id = operation->>'job' AND job.fence") == {"job_pkey"}
    assert read_by("AND job.lease_until <= moment") == {"job_lease"}
    assert read_by("job.worker = operation->>'worker' ORDER BY") <= {"job_lease", "job_worker"}
    assert read_by("ORDER BY job.due_at") == {"job_due"}
    assert read_by("ORDER BY job.deadline_at") == {"job_deadline"}
    for statement, reads in plans.items():
        if "lane" in statement and ("LIMIT 256" in statement or "LIMIT 1000" in statement):
            assert reads == {"lane_pkey", "job_queue"}
    postgres.drop(database)
