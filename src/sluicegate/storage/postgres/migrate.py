"""Bring a database to this program's schema and functions."""

from collections.abc import Sequence
from typing import TypeAlias

import asyncpg

from sluicegate.errors import Fault, InvalidSettings
from sluicegate.storage.postgres.connection import SCHEMA, Database, is_fault, sqlstate
from sluicegate.storage.postgres.statements import Functions, Migration

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_LOCK = "SELECT pg_advisory_xact_lock(1936946537, 0)"
_DROP_FUNCTIONS = f"""
DO $$
DECLARE
    one record;
BEGIN
    FOR one IN SELECT oid::regprocedure AS signature FROM pg_proc WHERE pronamespace = '{SCHEMA}'::regnamespace LOOP
        EXECUTE 'DROP FUNCTION ' || one.signature || ' CASCADE';
    END LOOP;
END $$;
"""  # noqa: S608 -- the schema's name is a constant


async def migrate(database: Database, migrations: Sequence[Migration], functions: Functions) -> None:
    """Create the schema or apply the migrations that it lacks, and renew its functions when they differ.

    All in one transaction; processes take turns. A database that is up to date is only read.
    Raises `InvalidSettings` when the schema is of a newer version or somebody else's, and `StoreUnavailable` when
    the server cannot be reached, refuses, or the lock is held for longer than the database's patience.
    """
    try:
        connection = await database.connect()
        try:
            if await _stands(connection, database, migrations, functions):
                return
            async with connection.transaction():
                await connection.execute(_LOCK)
                # a migration may rewrite whole tables
                await connection.execute("SET LOCAL statement_timeout = 0")
                await _apply(connection, database, migrations, functions)
        finally:
            await connection.close(timeout=1.0)
    except Exception as error:
        if is_fault(error) or sqlstate(error):
            raise database.unavailable(error) from error
        raise


async def _stands(
    connection: Connection, database: Database, migrations: Sequence[Migration], functions: Functions
) -> bool:
    """Whether nothing is left to do."""
    version = await _version(connection, database)
    if version != migrations[-1].number:
        return False
    digest: str | None = await connection.fetchval("SELECT value FROM meta WHERE key = 'functions'")
    return digest == functions.digest


async def _apply(
    connection: Connection, database: Database, migrations: Sequence[Migration], functions: Functions
) -> None:
    version, newest = await _version(connection, database), migrations[-1].number
    if version > newest:
        reason = f"the database is of version {version}, this program knows up to {newest}"
        raise _refusal(database, reason, mend="install a newer Sluicegate, or name another database")
    if version == 0:
        await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        await connection.execute('CREATE TABLE meta (key text COLLATE "C" PRIMARY KEY, value text NOT NULL)')
    # functions may stand in the way of a change to the tables that they speak of
    await connection.execute(_DROP_FUNCTIONS)
    for migration in migrations:
        if migration.number > version:
            await connection.execute(migration.text)
    await connection.execute(functions.script)
    for key, value in (("schema_version", str(newest)), ("functions", functions.digest)):
        await connection.execute(
            "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            key,
            value,
        )


async def _version(connection: Connection, database: Database) -> int:
    found = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1", SCHEMA)
    tables = {row["tablename"] for row in found}
    if not tables:
        return 0
    version = None
    if {"meta", "job"} <= tables:
        version = await connection.fetchval("SELECT value FROM meta WHERE key = 'schema_version'")
    if version is None:
        raise _refusal(database, f'the schema "{SCHEMA}" holds something else')
    return int(version)


def _refusal(database: Database, reason: str, *, mend: str = "name another database") -> InvalidSettings:
    return InvalidSettings([Fault("storage.url", reason, mend)], source=database.shown)
