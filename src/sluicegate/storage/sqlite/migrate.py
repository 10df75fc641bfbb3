"""Bring a database file to this program's schema."""

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from sluicegate.errors import Fault, InvalidSettings
from sluicegate.storage.sqlite.connection import connect, create_private, is_fault, unavailable
from sluicegate.storage.sqlite.statements import Migration
from sluicegate.storage.sqlite.turnstile import Turnstile


def migrate(path: Path, migrations: Sequence[Migration], *, timeout: float) -> None:
    """Create the file or apply the migrations that it lacks, in one transaction; processes take turns.

    Raises `InvalidSettings` when the file is of a newer version or no Sluicegate database, and
    `StoreUnavailable` when it cannot be opened or is locked for more than `timeout` seconds.
    """
    try:
        create_private(path)
        with Turnstile(path, timeout).turn(time.monotonic() + timeout):
            connection = connect(path, busy_timeout=timeout)
            try:
                _apply(connection, path, migrations)
            finally:
                connection.close()
    except (sqlite3.Error, OSError) as error:
        if getattr(error, "sqlite_errorname", "") == "SQLITE_NOTADB":
            raise _refusal(path, "the file is no SQLite database") from error
        if is_fault(error):
            raise unavailable(path, error) from error
        raise


def _apply(connection: sqlite3.Connection, path: Path, migrations: Sequence[Migration]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        version, newest = _version(connection, path), migrations[-1].number
        if version > newest:
            reason = f"the database is of version {version}, this program knows up to {newest}"
            raise _refusal(path, reason, mend="install a newer Sluicegate, or name another file")
        for migration in migrations:
            if migration.number > version:
                for statement in migration.statements():
                    connection.execute(statement)
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('schema_version', ?)", (str(newest),))
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _version(connection: sqlite3.Connection, path: Path) -> int:
    tables = {row["name"] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if not tables:
        connection.execute("CREATE TABLE meta (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) STRICT")
        return 0
    row = None
    if {"meta", "job"} <= tables:
        row = connection.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()
    if row is None:
        raise _refusal(path, "the SQLite database holds something else")
    return int(row["value"])


def _refusal(path: Path, reason: str, *, mend: str = "name another file") -> InvalidSettings:
    return InvalidSettings([Fault("storage.url", reason, mend)], source=str(path))
