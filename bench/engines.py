"""Our two storage engines, opened for measurement, and the PostgreSQL server that comes as a wheel."""

import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.postgres import PostgresServer, running_postgres

from sluicegate.domain.clock import SystemClock
from sluicegate.domain.fairness import Policy
from sluicegate.storage.contracts import Signals, Store
from sluicegate.storage.postgres.connection import SCHEMA
from sluicegate.storage.sqlite.signals import SocketSignals
from sluicegate.storage.sqlite.store import SqliteStore

SETTINGS = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "wal_sync_method", "shared_buffers")


class Opened(NamedTuple):
    """An engine that is ready, and its hints."""

    engine: str
    store: Store
    signals: Signals
    another: Callable[[], Store]
    """Makes one more store on the same database, not open yet."""


@asynccontextmanager
async def sqlite(path: Path, policy: Policy | None = None) -> AsyncIterator[Opened]:
    """The engine on one file."""

    def another() -> Store:
        return SqliteStore(path, SystemClock(), policy=policy)

    store = another()
    signals = SocketSignals(path)
    await store.open()
    await signals.open()
    try:
        yield Opened("SQLite", store, signals, another)
    finally:
        await signals.close()
        await store.close()


class Server:
    """A PostgreSQL server of our own, as durable as it comes."""

    def __init__(self, running: PostgresServer) -> None:
        self._running = running
        self._url = running.url()
        self._numbers = itertools.count(1)

    def cpu_seconds(self) -> float:
        """Processor time that the server and all its processes have used."""
        head = int((self._running.folder / "data" / "postmaster.pid").read_text("ascii").split()[0])
        ticks = 0
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                # after the name in brackets: state, parent, …; user, system, and both of children that have ended
                fields = path.read_text("utf-8").rpartition(")")[2].split()
            except OSError:
                continue
            if int(path.parent.name) == head:
                ticks += sum(int(field) for field in fields[11:15])
            elif int(fields[1]) == head:
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    async def settings(self) -> dict[str, str]:
        """What bears on durability and speed, as the server says it."""
        import asyncpg

        connection = await asyncpg.connect(self._url)
        try:
            return {name: str(await connection.fetchval(f"SHOW {name}")) for name in SETTINGS}
        finally:
            await connection.close()

    @asynccontextmanager
    async def database(self) -> AsyncIterator[str]:
        """The address of a new, empty database, dropped at the end. Earlier writes are flushed first."""
        import asyncpg

        name = f"bench_{next(self._numbers)}"
        connection = await asyncpg.connect(self._url)
        try:
            await connection.execute(f"CREATE DATABASE {name}")
            await connection.execute("CHECKPOINT")
            yield self._running.url(name)
            await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        finally:
            await connection.close()

    @asynccontextmanager
    async def run(self, url: str) -> AsyncIterator[Callable[[str], Awaitable[int]]]:
        """Runs statements on a database; each gives the first number of its first row, or 0."""
        import asyncpg

        connection = await asyncpg.connect(url, server_settings={"search_path": SCHEMA})

        async def run(statement: str) -> int:
            return int(await connection.fetchval(statement) or 0)

        try:
            yield run
        finally:
            await connection.close()


@contextmanager
def server() -> Iterator[Server]:
    """Start the server that the tests use too, in a temporary folder; stopped and removed at the end."""
    with running_postgres() as running:
        yield Server(running)


@asynccontextmanager
async def postgresql(url: str, policy: Policy | None = None) -> AsyncIterator[Opened]:
    """The engine on the empty database at `url`."""
    from sluicegate.storage.postgres.signals import PostgresSignals
    from sluicegate.storage.postgres.store import PostgresStore

    def another() -> Store:
        return PostgresStore(url, policy=policy)

    store = another()
    signals = PostgresSignals(url)
    await store.open()
    await signals.open()
    try:
        yield Opened("PostgreSQL", store, signals, another)
    finally:
        await signals.close()
        await store.close()
