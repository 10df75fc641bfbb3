"""Engines under test. Every contract test runs on each; a new engine is one more branch here."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from tests.postgres import PostgresServer

from sluicegate.storage.contracts import Store
from sluicegate.storage.postgres.store import PostgresStore
from sluicegate.storage.sqlite.store import SqliteStore
from sluicegate.testing import ManualClock

Connect = Callable[..., AbstractAsyncContextManager[Store]]
Scenario = Callable[[Store], Awaitable[None]]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def server_database(engine: str, request: pytest.FixtureRequest) -> tuple[PostgresServer, str]:
    """The server and the test's own database on it. The server is started by the first test that needs it."""
    assert engine == "postgres"
    return request.getfixturevalue("postgres"), request.getfixturevalue("postgres_database")


@pytest.fixture
def build(engine: str, tmp_path: Path, clock: ManualClock, request: pytest.FixtureRequest) -> Callable[[float], Store]:
    """Makes a store, not yet open, on the test's own database; it waits so many seconds for a lock."""
    if engine == "sqlite":
        return lambda patience: SqliteStore(tmp_path / "store.db", clock, busy_timeout=patience)
    server, database = request.getfixturevalue("server_database")
    return lambda patience: PostgresStore(server.url(database), clock=clock, patience=patience)


@pytest.fixture
def connect(build: Callable[[float], Store]) -> Connect:
    """Opens one more connection to the test's own database, as one more process would.

    `patience` is how many seconds it waits for a write lock.
    """

    @asynccontextmanager
    async def opened(patience: float = 60.0) -> AsyncIterator[Store]:
        store = build(patience)
        await store.open()
        try:
            yield store
        finally:
            await store.close()

    return opened


@pytest.fixture
def play(connect: Connect) -> Callable[[Scenario], None]:
    """Runs a scenario on a fresh store."""

    async def with_store(scenario: Scenario) -> None:
        async with connect() as store:
            await scenario(store)

    return lambda scenario: asyncio.run(with_store(scenario))


@pytest.fixture
def lock_out(engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[], AbstractContextManager[None]]:
    """Holds the database's write lock from outside for the length of a block."""

    @contextmanager
    def held() -> Iterator[None]:
        other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            other.execute("ROLLBACK")
            other.close()

    if engine == "sqlite":
        return held
    server, database = request.getfixturevalue("server_database")
    return lambda: server.scheduler_held(database)


@pytest.fixture
def spawn(
    engine: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[[str], "subprocess.Popen[str]"]]:
    """Starts a process that runs the body of an async function in which `store` is open; killed at the end."""
    # patient: a disk that is still writing something large may take seconds for one flush
    making = [
        "from sluicegate.storage.sqlite.store import SqliteStore",
        f"store = SqliteStore(Path({str(tmp_path / 'store.db')!r}), SystemClock(), busy_timeout=60.0)",
    ]
    if engine == "postgres":
        server, database = request.getfixturevalue("server_database")
        making = [
            "from sluicegate.storage.postgres.store import PostgresStore",
            f"store = PostgresStore({server.url(database)!r}, patience=60.0)",
        ]
    head = [
        "import asyncio, sys",
        "from pathlib import Path",
        "from sluicegate.domain.clock import SystemClock",
        "from sluicegate.domain.ids import *",
        "from sluicegate.domain.job import *",
        *making,
        "async def main():",
        "    await store.open()",
    ]
    children: list[subprocess.Popen[str]] = []

    def start(body: str) -> "subprocess.Popen[str]":
        lines = [
            *head,
            *(f"    {line}" for line in body.splitlines()),
            "    await store.close()",
            "asyncio.run(main())",
        ]
        child = subprocess.Popen(
            [sys.executable, "-c", "\n".join(lines)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()
