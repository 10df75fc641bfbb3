"""The database's versions."""

import sqlite3
from pathlib import Path

import pytest

from sluicegate.errors import InvalidSettings, StoreUnavailable
from sluicegate.storage.sqlite.migrate import migrate
from sluicegate.storage.sqlite.statements import Migration, load_migrations


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
    connection.execute("INSERT INTO worker VALUES ('w', 'box', 1, 0, 0, '[]', '[]')")
    connection.commit()
    added = Migration(migrations[-1].number + 1, "later", "ALTER TABLE worker ADD COLUMN note TEXT;\n")
    migrate(path, [*migrations, added], timeout=1.0)
    assert connection.execute("SELECT id, note FROM worker").fetchall() == [("w", None)]
    connection.close()


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
