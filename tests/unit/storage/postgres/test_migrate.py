"""The database's versions and its functions."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.postgres import PostgresServer

from sluicegate.domain.ids import JobId, Tenant, WorkerId
from sluicegate.domain.job import Lease
from sluicegate.errors import InvalidSettings, StoreUnavailable
from sluicegate.storage.contracts import Success, Usage
from sluicegate.storage.postgres.connection import Database
from sluicegate.storage.postgres.migrate import migrate
from sluicegate.storage.postgres.statements import Functions, Migration, load_functions, load_migrations
from sluicegate.storage.postgres.store import PostgresStore
from sluicegate.testing import ManualClock

DONE = Success(outputs=(), backend="local", execution_seconds=1.0)
NO_FUNCTIONS = Functions("SELECT 1;", "none")
SCHEMA = """
SELECT string_agg(item, ',' ORDER BY item) FROM (
    SELECT relkind::text || relname::text AS item FROM pg_class WHERE relnamespace = 'sluicegate'::regnamespace
    UNION ALL
    SELECT 'f' || proname::text || prosrc FROM pg_proc WHERE pronamespace = 'sluicegate'::regnamespace
) AS items
"""


@pytest.fixture
def database(postgres: PostgresServer) -> str:
    """The name of an empty database. It goes with the server."""
    return postgres.create(template="template0")


def migrated(
    server: PostgresServer,
    database: str,
    migrations: Sequence[Migration] | None = None,
    functions: Functions | None = None,
) -> None:
    asyncio.run(migrate(Database(server.url(database)), migrations or load_migrations(), functions or load_functions()))


def test_migrating_twice_changes_nothing(postgres: PostgresServer, database: str) -> None:
    migrated(postgres, database)
    before = postgres.sql(SCHEMA, database)
    assert "rjob," in before
    written = "SELECT xmin FROM sluicegate.meta ORDER BY key"
    rows = postgres.sql(written, database)
    migrated(postgres, database)
    assert postgres.sql(SCHEMA, database) == before
    assert postgres.sql(written, database) == rows


def test_programs_that_start_at_once_agree_on_one_schema(postgres: PostgresServer, database: str) -> None:
    async def scenario() -> None:
        stores = [PostgresStore(postgres.url(database)) for _ in range(6)]
        await asyncio.gather(*(store.open() for store in stores))
        await asyncio.gather(*(store.ping() for store in stores))
        for store in stores:
            await store.close()

    asyncio.run(scenario())


def test_the_numbers_and_names_are_those_of_the_other_engine() -> None:
    from sluicegate.storage.sqlite.statements import load_migrations as of_sqlite

    assert [(step.number, step.name) for step in load_migrations()] == [(s.number, s.name) for s in of_sqlite()]


def test_a_function_that_differs_is_renewed_without_a_migration(postgres: PostgresServer, database: str) -> None:
    migrated(postgres, database)
    script = "CREATE FUNCTION perform() RETURNS integer LANGUAGE sql AS $$ SELECT 7 $$;"
    migrated(postgres, database, functions=Functions(script, "other"))
    assert postgres.sql("SELECT sluicegate.perform()", database) == "7"
    assert "fclaim" not in postgres.sql(SCHEMA, database)
    migrated(postgres, database)
    assert "fclaim" in postgres.sql(SCHEMA, database)


def test_a_store_that_is_open_goes_on_when_another_renews_the_functions(
    postgres: PostgresServer, database: str
) -> None:
    async def scenario() -> None:
        store = PostgresStore(postgres.url(database))
        await store.open()
        await store.ping()
        await migrate(Database(postgres.url(database)), load_migrations(), NO_FUNCTIONS)
        await migrate(Database(postgres.url(database)), load_migrations(), load_functions())
        await store.ping()
        assert (await store.recover()).total == 0
        await store.close()

    asyncio.run(scenario())


def test_a_later_migration_is_applied_and_rows_stay(postgres: PostgresServer, database: str) -> None:
    migrated(postgres, database)
    postgres.sql("INSERT INTO sluicegate.calibration VALUES ('m', 't', 1.5, 3)", database)
    migrations = load_migrations()
    added = Migration(migrations[-1].number + 1, "later", "ALTER TABLE calibration ADD COLUMN note text;")
    migrated(postgres, database, [*migrations, added])
    assert postgres.sql("SELECT model, kappa, note FROM sluicegate.calibration", database) == "m|1.5|"


def insert_job(server: PostgresServer, database: str, name: str, state: str, model: str, **columns: object) -> None:
    """A job as the schema's second version had it."""
    values: dict[str, object] = {
        "id": f"job_{name}",
        "tenant": "anna",
        "state": state,
        "model": model,
        "task": "upscale",
        "input": "{}",
        "priority": 0,
        "created_at": 5.0,
        "max_attempts": 3,
        **columns,
    }
    literals = ", ".join(f"'{value}'" for value in values.values())
    server.sql(f"INSERT INTO sluicegate.job ({', '.join(values)}) VALUES ({literals})", database)


def test_the_fair_queue_takes_over_what_the_version_before_it_left(postgres: PostgresServer, database: str) -> None:
    migrated(postgres, database, load_migrations()[:2], NO_FUNCTIONS)
    insert_job(postgres, database, "1", "queued", "a")
    insert_job(postgres, database, "2", "queued", "b", priority=1)
    insert_job(postgres, database, "3", "queued", "a", tenant="bert", created_at=6.0)
    insert_job(postgres, database, "4", "scheduled", "a", due_at=9.0)
    held = {"started_at": 7.0, "worker": "w", "lease_until": 20.0, "attempt": 1, "fence": 1}
    insert_job(postgres, database, "5", "running", "a", **held)
    insert_job(postgres, database, "6", "succeeded", "a", completed_at=8.0, execution_seconds=2.5)
    insert_job(postgres, database, "7", "canceled", "a", completed_at=8.5)
    attempt = "INSERT INTO sluicegate.attempt (job, fence, number, worker, started_at) VALUES ('job_5', 1, 1, 'w', 7.0)"
    postgres.sql(attempt, database)

    async def scenario() -> None:
        store = PostgresStore(postgres.url(database), clock=ManualClock(10.0))
        await store.open()
        anna, bert = (await store.queue()).tenants
        assert (anna.tenant, anna.queued, anna.delayed, anna.running, anna.oldest_at) == ("anna", 2, 1, 1, 5.0)
        assert (bert.tenant, bert.queued, bert.delayed, bert.running, bert.oldest_at) == ("bert", 1, 0, 0, 6.0)
        assert await store.usage(Tenant("anna")) == Usage(2, 2.5)
        worker = WorkerId("w")
        assert await store.succeed(Lease(JobId("job_5"), 1), DONE)
        assert (await store.recover()).promoted == 1
        claims = [await store.claim(worker, ["a", "b"], 15.0) for _ in range(5)]
        assert [claim.job.id if claim else None for claim in claims] == ["job_3", "job_2", "job_1", "job_4", None]
        for claim in claims:
            assert claim is None or await store.succeed(claim.lease, DONE)
        assert await store.usage(Tenant("anna")) == Usage(6, 6.5)
        assert (await store.queue()).tenants == ()
        await store.close()

    asyncio.run(scenario())


def test_a_migration_that_fails_leaves_the_database_as_it_was(postgres: PostgresServer, database: str) -> None:
    migrated(postgres, database)
    before = postgres.sql(SCHEMA, database)
    broken = Migration(99, "broken", "CREATE TABLE extra (id text); CREATE TABLE job (id text);")
    with pytest.raises(StoreUnavailable, match="already exists"):
        migrated(postgres, database, [*load_migrations(), broken])
    assert postgres.sql(SCHEMA, database) == before


def test_a_newer_database_is_refused(postgres: PostgresServer, database: str) -> None:
    migrated(postgres, database, [*load_migrations(), Migration(99, "future", "CREATE TABLE future (id text);")])
    before = postgres.sql(SCHEMA, database)
    with pytest.raises(InvalidSettings, match="version 99, this program knows up to"):
        migrated(postgres, database)
    assert postgres.sql(SCHEMA, database) == before


def test_another_programs_schema_is_refused_and_left_alone(postgres: PostgresServer, database: str) -> None:
    postgres.sql("CREATE SCHEMA sluicegate; CREATE TABLE sluicegate.song (title text)", database)
    before = postgres.sql(SCHEMA, database)
    with pytest.raises(InvalidSettings, match="something else"):
        migrated(postgres, database)
    assert postgres.sql(SCHEMA, database) == before


def test_other_schemas_of_the_database_do_not_matter(postgres: PostgresServer, database: str) -> None:
    postgres.sql("CREATE TABLE job (title text); CREATE FUNCTION claim() RETURNS int LANGUAGE sql RETURN 1", database)
    migrated(postgres, database)
    assert postgres.sql("SELECT claim(), count(*) FROM public.job", database) == "1|0"


@pytest.mark.parametrize(
    ("address", "mend"),
    [
        ("postgresql://postgres@/no_such_database?host={folder}", "create the database"),
        ("postgresql://nobody:secret@/postgres?host={folder}", "check the user"),
        ("postgresql://u:secret@/postgres?host={folder}/nowhere", "see whether the server runs"),
    ],
)
def test_a_server_that_refuses_is_unavailable_with_the_mend(postgres: PostgresServer, address: str, mend: str) -> None:
    database = Database(address.format(folder=postgres.folder))
    with pytest.raises(StoreUnavailable, match=mend) as caught:
        asyncio.run(migrate(database, load_migrations(), load_functions()))
    assert "secret" not in str(caught.value)
    assert Path(database.shown.rpartition("/")[0]).is_absolute()


def test_a_user_who_may_not_make_the_schema_is_told_so(postgres: PostgresServer, database: str) -> None:
    postgres.sql(f"CREATE ROLE guest_{database} LOGIN")
    url = postgres.url(database).replace("postgres@", f"guest_{database}@")
    with pytest.raises(StoreUnavailable, match="GRANT CREATE ON DATABASE"):
        asyncio.run(migrate(Database(url), load_migrations(), load_functions()))
    postgres.sql(f"DROP ROLE guest_{database}")
