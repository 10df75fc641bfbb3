"""The database's versions."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from sluicegate.domain.ids import JobId, Tenant, WorkerId
from sluicegate.domain.job import Lease
from sluicegate.errors import InvalidSettings, StoreUnavailable
from sluicegate.storage.contracts import Success, Usage
from sluicegate.storage.sqlite.migrate import migrate
from sluicegate.storage.sqlite.statements import Migration, load_migrations
from sluicegate.storage.sqlite.store import SqliteStore
from sluicegate.testing import ManualClock

DONE = Success(outputs=(), backend="local", execution_seconds=1.0)


def schema(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    try:
        return [row[0] for row in connection.execute("SELECT name FROM sqlite_schema ORDER BY name")]
    finally:
        connection.close()


def test_a_fresh_file_gets_the_whole_schema_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "store.db"
    migrate(path, load_migrations(), timeout=1.0)
    assert {"job", "job_event", "attempt", "progress", "idempotency", "asset", "worker", "meta"} <= set(schema(path))
    assert path.stat().st_mode & 0o777 == 0o600


def test_migrating_twice_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    migrate(path, load_migrations(), timeout=1.0)
    before = schema(path)
    migrate(path, load_migrations(), timeout=1.0)
    assert schema(path) == before


def test_a_later_migration_is_applied_to_an_older_file_that_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    migrations = load_migrations()
    migrate(path, migrations, timeout=1.0)
    connection = sqlite3.connect(path)
    connection.execute("INSERT INTO calibration VALUES ('m', 't', 1.5, 3)")
    connection.commit()
    added = Migration(migrations[-1].number + 1, "later", "ALTER TABLE calibration ADD COLUMN note TEXT;\n")
    migrate(path, [*migrations, added], timeout=1.0)
    assert connection.execute("SELECT model, note FROM calibration").fetchall() == [("m", None)]
    connection.close()


def insert_job(connection: sqlite3.Connection, name: str, state: str, model: str, **columns: object) -> None:
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
    marks = ", ".join(f":{column}" for column in values)
    connection.execute(f"INSERT INTO job ({', '.join(values)}) VALUES ({marks})", values)


def test_the_fair_queue_takes_over_what_the_version_before_it_left(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    migrate(path, load_migrations()[:2], timeout=1.0)
    connection = sqlite3.connect(path)
    insert_job(connection, "1", "queued", "a")
    insert_job(connection, "2", "queued", "b", priority=1)
    insert_job(connection, "3", "queued", "a", tenant="bert", created_at=6.0)
    insert_job(connection, "4", "scheduled", "a", due_at=9.0)
    held = {"started_at": 7.0, "worker": "w", "lease_until": 20.0, "attempt": 1, "fence": 1}
    insert_job(connection, "5", "running", "a", **held)
    insert_job(connection, "6", "succeeded", "a", completed_at=8.0, execution_seconds=2.5)
    insert_job(connection, "7", "canceled", "a", completed_at=8.5)
    connection.execute("INSERT INTO attempt (job, fence, number, worker, started_at) VALUES ('job_5', 1, 1, 'w', 7.0)")
    connection.commit()
    connection.close()

    async def scenario() -> None:
        store = SqliteStore(path, ManualClock(10.0))
        await store.open()
        try:
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
        finally:
            await store.close()

    asyncio.run(scenario())


def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    migrations = load_migrations()
    migrate(path, migrations, timeout=1.0)
    before = schema(path)
    broken = Migration(99, "broken", "CREATE TABLE extra (id TEXT);\nCREATE TABLE job (id TEXT);\n")
    with pytest.raises(StoreUnavailable, match="already exists"):
        migrate(path, [*migrations, broken], timeout=1.0)
    assert schema(path) == before


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    migrations = load_migrations()
    migrate(path, [*migrations, Migration(99, "future", "CREATE TABLE future (id TEXT);\n")], timeout=1.0)
    with pytest.raises(InvalidSettings, match="version 99, this program knows up to"):
        migrate(path, migrations, timeout=1.0)


def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE song (title TEXT)")
    connection.close()
    with pytest.raises(InvalidSettings, match="something else"):
        migrate(path, load_migrations(), timeout=1.0)
    assert schema(path) == ["song"]


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("buy apples\n" * 100)
    with pytest.raises(InvalidSettings, match="no SQLite database"):
        migrate(path, load_migrations(), timeout=1.0)
    assert path.read_text() == "buy apples\n" * 100


def test_a_path_that_cannot_be_opened_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        migrate(tmp_path, load_migrations(), timeout=0.1)


def test_a_process_of_the_version_before_is_refused_after_the_migration(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    migrate(path, load_migrations()[:2], timeout=1.0)
    older = sqlite3.connect(path)
    held = {"started_at": 7.0, "worker": "w", "lease_until": 20.0, "attempt": 1, "fence": 1}
    insert_job(older, "1", "running", "a", **held)
    insert_job(older, "2", "queued", "a")
    older.commit()
    migrate(path, load_migrations(), timeout=1.0)

    with pytest.raises(sqlite3.IntegrityError, match="restart this process"):
        insert_job(older, "3", "queued", "a")
    for name, to in (("1", "succeeded"), ("1", "queued"), ("2", "running"), ("2", "canceled")):
        lease = 20.0 if to == "running" else None
        with pytest.raises(sqlite3.IntegrityError, match="restart this process"):
            older.execute("UPDATE job SET state = ?, lease_until = ? WHERE id = ?", (to, lease, f"job_{name}"))
    older.execute("UPDATE job SET lease_until = 30.0 WHERE id = 'job_1'")
    older.close()
